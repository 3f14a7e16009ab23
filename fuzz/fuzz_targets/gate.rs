//! Hands what libFuzzer makes up to the target `gate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::gate::run(data));
