//! Hands what libFuzzer makes up to the target `events`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::events::run(data));
