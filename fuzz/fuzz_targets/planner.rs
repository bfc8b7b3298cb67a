//! See `mnc_fuzz::targets::planner`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mnc_fuzz::targets::planner(data));
