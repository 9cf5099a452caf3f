//! The target `requests` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(kafscale_fuzz::wire::requests(input)));
