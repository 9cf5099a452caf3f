//! The target `entry` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(kafscale_fuzz::metadata::entry(input)));
