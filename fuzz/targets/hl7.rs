//! libFuzzer on `parsers::hl7`.

#![no_main]

use firstread_fuzz::{begin, parsers};

libfuzzer_sys::fuzz_target!(init: begin("hl7"), |bytes: &[u8]| parsers::hl7(bytes));
