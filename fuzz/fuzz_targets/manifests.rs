//! Hands what libFuzzer makes up to the target `manifests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::manifests::run(data));
