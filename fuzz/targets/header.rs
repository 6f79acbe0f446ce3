//! libFuzzer on `parsers::header`.

#![no_main]

use firstread_fuzz::{begin, parsers};

libfuzzer_sys::fuzz_target!(init: begin("header"), |bytes: &[u8]| parsers::header(bytes));
