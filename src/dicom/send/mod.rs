//! Our objects to a PACS: C-STORE, C-ECHO and storage commitment as a service class user (PS3.4 B, A, J).
//!
//! Each call is an association of its own, negotiated for the one object it carries. "Stored" is what
//! the peer's status says of that very instance, and nothing else. Every wait and size is bounded.

pub(in crate::dicom) mod associate;
mod commit;
pub(in crate::dicom) mod message;
mod settings;
mod store;

pub use commit::{CommitOutcome, commit};
pub use settings::DestinationSettings;
pub use store::{StoreOutcome, echo, store};

/// A status of the peer that is no success (PS3.7 C), shown without its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("status 0x{status:04X}")]
pub struct Answered {
    /// (0000,0900)
    pub status: u16,
    /// (0000,0902), made safe: the peer's own words, which may name a patient.
    pub comment: String,
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
    #[error("the association broke off: the {0} was refused: {1}")]
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
