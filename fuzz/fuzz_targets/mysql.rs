//! Hands what libFuzzer makes up to the target `mysql`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::mysql::run(data));
