//! Hands what libFuzzer makes up to the target `logs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::logs::run(data));
