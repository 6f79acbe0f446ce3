//! C-ECHO and C-STORE service class provider (PS3.4 Annexes A and B), and who is told of storage
//! commitment (PS3.4 J).
//!
//! The way of an object: [`listen`] admits the connection, `negotiate` the association,
//! `link` brings its PDUs, `association` puts the DIMSE messages together, `spool` writes the
//! data set to a temporary file as it comes. Complete, it is walked over and synced; then the
//! [`ObjectSink`] decides, and only then is the sender answered.
//!
//! Invariants: memory per association is bounded (one PDU, one chunk) whatever the peer sends;
//! a temporary file lives exactly as long as its message unless the sink took it; nothing of
//! the patient is logged.

mod association;
pub(super) mod command;
mod commitment;
mod link;
mod listen;
mod negotiate;
mod settings;
mod spool;
mod status;

pub use commitment::{ALL_COMMITTED, CommitmentReport};
pub use listen::{Doors, serve};
pub use negotiate::{STORAGE_CLASSES, TRANSFER_SYNTAXES};
pub(super) use settings::check_ae;
pub use settings::{AllowedCaller, Network, ReceiveSettings};

use std::path::PathBuf;

use async_trait::async_trait;

use super::header::ObjectHeader;

/// One association, unique within the life of the process.
pub type AssociationId = u64;

/// An object whose bytes are complete in a temporary file of the spool, and synced there unless
/// the sink [does that itself](ObjectSink::syncs_objects).
#[derive(Debug)]
pub struct ReceivedObject {
    /// The association it came over.
    pub association: AssociationId,
    /// Calling AE title.
    pub calling_ae: String,
    /// PS3.10 file (preamble, meta, data set); the sink renames or deletes it.
    pub temp_path: PathBuf,
    /// Length of that file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the data set as received (file meta not included), lower-case hex.
    pub digest: String,
    /// What the bounded header walk found.
    pub header: ObjectHeader,
}

/// An object that must not enter the store as it is.
#[derive(Debug)]
pub struct BadObject {
    /// The association it came over.
    pub association: AssociationId,
    /// Calling AE title.
    pub calling_ae: String,
    /// The bytes as far as they came, in a temporary file; the sink moves or deletes it.
    pub temp_path: PathBuf,
    /// Length of that file in bytes.
    pub size_bytes: u64,
    /// Affected SOP Instance UID of the command.
    pub sop_instance_uid: String,
    /// Why it was refused, in words for an administrator, without patient data.
    pub reason: String,
}

/// What became of an object that is now durably ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// First time seen.
    New,
    /// The same object with the same bytes was here already.
    Again,
    /// Kept aside, with the reason: same UID with other bytes, same study under another patient...
    Quarantined(String),
}

/// The sink cannot take the object now. Nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// DIMSE status (PS3.4 table B.2-1), e.g. `0xA700` out of resources.
    pub status: u16,
    /// Error Comment (0000,0902), at most 64 characters.
    pub comment: String,
}

/// Where received objects go. Implemented by `intake`.
#[async_trait]
pub trait ObjectSink: Send + Sync + 'static {
    /// Moves the object into place and records it; returns only when both are durable.
    async fn keep(&self, object: ReceivedObject) -> Result<Kept, Refusal>;

    /// Keeps a refused object's bytes in quarantine with the reason (bounded: may only record it).
    async fn set_aside(&self, object: BadObject);

    /// A PACS reports what it promises to keep. False where we asked for nothing of the kind.
    async fn commitment(&self, _report: CommitmentReport) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// Whether [`ObjectSink::keep`] syncs the bytes itself, after moving the file.
    ///
    /// Then they come to it unsynced, which saves one of the syncs that follow each other: on
    /// ext4 and XFS the sync of a file that was just moved makes its new name durable as well.
    fn syncs_objects(&self) -> bool {
        false
    }

    /// An association that stored something is over (released, aborted or lost).
    async fn association_ended(&self, association: AssociationId);
}
