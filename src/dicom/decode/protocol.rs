//! What parent and child say to each other.
//!
//! Parent to child, on standard input: one JSON [`Request`], then end of file.
//! Child to parent, on standard output: one line of JSON [`Answer`]; after `Volume` the voxels
//! follow as raw little-endian `f32` in NIfTI order.

use crate::volume::content::ContentLimits;
use crate::volume::{Affine, VOXELS_MAX, Volume};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Bounds on decoding one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecodeLimits {
    /// Address space of the child, MiB.
    pub memory_mib: u64,
    /// Wall time from start to the last voxel, seconds.
    pub wall_time_s: u64,
    /// Files in one series.
    pub files_max: usize,
    /// Voxels in the volume; at most twice as many are decoded (echoes, repeats).
    pub voxels_max: usize,
    /// Threads that decode.
    pub threads: usize,
    /// What the volume must at least be to be worth an analysis.
    pub content: ContentLimits,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            wall_time_s: 120,
            files_max: 20_000,
            voxels_max: VOXELS_MAX,
            threads: 2,
            content: ContentLimits::default(),
        }
    }
}

/// A series as a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// On the grid dcm2niix gives.
    pub volume: Volume,
    /// What was used and what was left out.
    pub report: DecodeReport,
}

/// What became of a series' images.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DecodeReport {
    /// Files handed in.
    pub files: usize,
    /// Images (frames) found in them.
    pub images: usize,
    /// Slices the volume is made of.
    pub slices: usize,
    /// The sender stated more images than are here: analyse it, but raise no alert on it.
    pub partial: bool,
    /// In words: echoes chosen, repeats left out, images missing.
    pub notes: Vec<String>,
}

/// Parent to child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub files: Vec<PathBuf>,
    pub limits: DecodeLimits,
}

/// Child to parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The voxels follow.
    Volume {
        dims: [usize; 3],
        affine: Affine,
        report: DecodeReport,
    },
    NotAVolume(String),
    Failed(String),
}
