//! Speaks DICOM, and knows nothing of triage.
//!
//! Only this folder names DICOM network types. What it hands on is plain:
//! an [`header::ObjectHeader`] and a file on disk ([`receive::ReceivedObject`]).

pub mod charset;
pub mod conformance;
pub mod decode;
pub mod extract;
pub mod file;
pub mod guard;
pub mod header;
pub mod objects;
pub mod query;
pub mod receive;
pub mod send;
pub mod walk;

/// Names this software in file meta information and associations (PS3.7 D.3.3.2).
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.310097451654403365056378627921468891372";
/// The same for people; at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = "FIRSTREAD_0_1";
