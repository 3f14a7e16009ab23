//! Hands what libFuzzer makes up to the target `records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::records::run(data));
