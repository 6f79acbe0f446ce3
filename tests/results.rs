//! Results as DICOM objects: valid, read by others, and in a PACS.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

#[path = "results/measured.rs"]
mod measured;
#[path = "results/objects.rs"]
mod objects;
#[path = "results/pacs.rs"]
mod pacs;
#[allow(dead_code, reason = "others use the rest")]
#[path = "common/papers.rs"]
mod papers;
#[path = "results/priors.rs"]
mod priors;
#[path = "results/sending.rs"]
mod sending;
#[path = "results/tls.rs"]
mod tls;
