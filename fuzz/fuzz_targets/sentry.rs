//! Hands what libFuzzer makes up to the target `sentry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::sentry::run(data));
