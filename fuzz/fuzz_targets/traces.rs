//! Hands what libFuzzer makes up to the target `traces`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::traces::run(data));
