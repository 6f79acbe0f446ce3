//! libFuzzer on `parsers::association`.

#![no_main]

use firstread_fuzz::{begin, parsers};

libfuzzer_sys::fuzz_target!(init: begin("association"), |bytes: &[u8]| parsers::association(bytes));
