//! Hands what libFuzzer makes up to the target `postgres`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::postgres::run(data));
