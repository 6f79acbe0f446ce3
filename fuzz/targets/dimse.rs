//! libFuzzer on `parsers::dimse`.

#![no_main]

use firstread_fuzz::{begin, parsers};

libfuzzer_sys::fuzz_target!(init: begin("dimse"), |bytes: &[u8]| parsers::dimse(bytes));
