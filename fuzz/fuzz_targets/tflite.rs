//! See `mnc_fuzz::targets::tflite`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mnc_fuzz::targets::tflite(data));
