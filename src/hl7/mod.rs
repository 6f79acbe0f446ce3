//! The hospital's information systems: orders, patients and reports come in as HL7 v2, results go out.
//!
//! `message` is HL7 itself and knows nothing of studies.

pub mod message;
