//! libFuzzer on `parsers::config`.

#![no_main]

use firstread_fuzz::{begin, parsers};

libfuzzer_sys::fuzz_target!(init: begin("config"), |bytes: &[u8]| parsers::config(bytes));
