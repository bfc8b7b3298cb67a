//! See `mnc_fuzz::targets::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mnc_fuzz::targets::checkpoint(data));
