//! Hands what libFuzzer makes up to the target `rules`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::rules::run(data));
