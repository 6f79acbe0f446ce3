//! Pixels out of DICOM files, in a child process.
//!
//! A bad object can make a decoder panic, overflow its stack or ask for gigabytes,
//! and only a process boundary stops all three. So the parent ([`decode_series`]) starts the same
//! binary as `firstread decode-series` ([`child::run`]), one child a series, capped in memory,
//! CPU and wall time, and reads a [`Volume`](crate::volume::Volume) from its standard output.
//! Whatever happens to the child, the parent gets a reason in words.

pub mod child;
mod confine;
mod frames;
mod object;
mod parent;
mod pixels;
mod protocol;

pub(super) use frames::geometries;
pub use parent::{decode_series, decode_series_with};
pub use protocol::{DecodeLimits, DecodeReport, Decoded};

/// The hidden subcommand of the binary that [`decode_series`] starts.
pub const SUBCOMMAND: &str = "decode-series";

/// Why a series gave no volume. Both reasons are in words for the list, without patient data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Every object could be read, but together they are no volume that can be analysed.
    #[error("{0}")]
    NotAVolume(String),
    /// An object could not be read or decoded, or the decoder ran out of memory or time.
    #[error("{0}")]
    Failed(String),
}
