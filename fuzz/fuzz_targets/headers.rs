//! Hands what libFuzzer makes up to the target `headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::headers::run(data));
