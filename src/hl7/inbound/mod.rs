//! What a message asks for: from segments and fields to orders, patients and reports.
//!
//! `docs/conformance-hl7.md` lists what is read where; a test compares it with [`KINDS`].

mod groups;
mod orders;
mod patients;
mod reports;
#[cfg(test)]
mod tests;

pub use groups::FieldName;

use super::message::{Fault, FaultCode, Header, Message, Place};
use super::settings::Hl7Settings;
use crate::worklist::ris::Deed;

/// Messages that are taken, with what they do.
pub const KINDS: [(&str, &str); 9] = [
    ("ORM^O01", "order"),
    ("OMI^O23", "order"),
    ("OMG^O19", "order"),
    ("ADT^A01", "patient"),
    ("ADT^A04", "patient"),
    ("ADT^A08", "patient"),
    ("ADT^A31", "patient"),
    ("ADT^A40", "merge"),
    ("ORU^R01", "report"),
];

/// Reads a message. What could not be understood and changes nothing else is a warning beside the deed.
///
/// # Errors
/// What is wrong, and in which segment and field.
pub fn read(message: &Message, settings: &Hl7Settings) -> Result<(Deed, Vec<Fault>), Fault> {
    let header = message.header();
    let kind = header.kind();
    let does = KINDS.iter().find(|(known, _)| *known == kind);
    match does.map(|(_, does)| *does) {
        Some("order") => orders::read(message, settings),
        Some("report") => reports::read(message, settings).map(|deed| (deed, vec![])),
        Some("merge") => patients::merges(message, settings),
        Some(_) => patients::update(message, settings),
        // a feed of a patient's ways through the house has many events that concern us not
        None if header.message_code == "ADT" => Ok((Deed::Nothing, vec![])),
        None => Err(Fault::new(
            Place::field("MSH", 9),
            FaultCode::UnsupportedMessageType,
            "this message type is not taken",
        )),
    }
}

/// What every message must say before anything else of it counts.
///
/// # Errors
/// Names the field of MSH.
pub fn check_header(header: &Header) -> Result<(), Fault> {
    let wrong = |field, code, text: &str| Err(Fault::new(Place::field("MSH", field), code, text));
    if header.message_code.is_empty() {
        return wrong(9, FaultCode::RequiredFieldMissing, "message type is empty");
    }
    if header.control_id.is_empty() {
        return wrong(10, FaultCode::RequiredFieldMissing, "control id is empty");
    }
    if header.control_id.chars().count() > CONTROL_ID_CHARS_MAX {
        return wrong(10, FaultCode::DataType, "control id is too long");
    }
    if !header.version.is_empty() && !header.version.starts_with("2.") {
        return wrong(12, FaultCode::UnsupportedVersion, "version is not 2.x");
    }
    Ok(())
}

/// Longest MSH-10: 20 in 2.5.1, 199 in 2.7.
const CONTROL_ID_CHARS_MAX: usize = 199;
