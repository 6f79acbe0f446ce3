//! Our objects to a PACS: C-STORE, C-ECHO and storage commitment as a service class user (PS3.4 B, A, J).
//!
//! Each call is an association of its own, negotiated for the one object it carries. "Stored" is what
//! the peer's status says of that very instance, and nothing else. Every wait and size is bounded.

pub(in crate::dicom) mod associate;
mod commit;
pub(in crate::dicom) mod message;
mod settings;
mod store;

use std::fmt;

use associate::Message;

pub use commit::{CommitOutcome, commit};
pub use settings::DestinationSettings;
pub use store::{StoreOutcome, echo, store};

/// Why an answer counts for none.
pub(in crate::dicom) const NOT_ASKED: &str = "the peer answered something that was not asked";

/// (0000,0900), shown as the standard writes it (PS3.7 C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04X}", self.0)
    }
}

/// A status of the peer that is no success, shown without its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("status {status}")]
pub struct Answered {
    /// Which.
    pub status: Status,
    /// (0000,0902), made safe: the peer's own words, which may name a patient.
    pub comment: String,
}

impl Answered {
    /// This status, with what the answer says of it.
    pub(in crate::dicom) fn with(status: u16, answer: &Message) -> Self {
        Self {
            status: Status(status),
            comment: answer.comment.trim().to_owned(),
        }
    }
}

/// Why nothing came of an association: the object may be tried again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection within the limit, or refused.
    #[error("could not reach {0}")]
    Unreachable(String),
    /// The peer turned the association down.
    #[error("the association was rejected: {0}")]
    Rejected(String),
    /// The peer does not take this kind of object, in no transfer syntax of ours.
    #[error("the destination does not take {0}")]
    NotTaken(&'static str),
    /// The peer refused a question.
    #[error("the {0} was refused: {1}")]
    Refused(&'static str, Answered),
    /// The peer was silent for too long, closed, or aborted.
    #[error("the association broke off: {0}")]
    BrokenOff(String),
    /// What is to be sent cannot be read.
    #[error("could not read the object: {0}")]
    Unreadable(String),
}

impl SendError {
    /// Whether it makes no sense to try the same object again.
    #[must_use]
    pub fn for_good(&self) -> bool {
        matches!(self, Self::NotTaken(_))
    }
}
