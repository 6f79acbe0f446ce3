//! libFuzzer on `parsers::nifti`.

#![no_main]

use firstread_fuzz::{begin, parsers};

libfuzzer_sys::fuzz_target!(init: begin("nifti"), |bytes: &[u8]| parsers::nifti(bytes));
