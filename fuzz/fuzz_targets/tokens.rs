//! See `mnc_fuzz::targets::tokens`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mnc_fuzz::targets::tokens(data));
