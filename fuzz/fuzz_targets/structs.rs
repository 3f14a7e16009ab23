//! Hands what libFuzzer makes up to the target `structs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::structs::run(data));
