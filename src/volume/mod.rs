//! Series to volume in patient space. Pure: no IO, no async.

pub mod affine;
pub mod assemble;
pub mod choice;
pub mod components;
pub mod content;
pub mod measuring_grid;
pub mod nifti;
mod pose;
pub mod reorient;
pub mod resample;
pub mod screening_grid;
mod separate;
pub mod slice;
mod spline;

pub use assemble::{AssembleOptions, Assembled, assemble};
pub use separate::parts_of;

use serde::{Deserialize, Serialize};

/// Most voxels a volume may have unless a setting says otherwise: 512 x 512 x 512.
pub const VOXELS_MAX: usize = 512 * 512 * 512;

/// A 3D image in patient space.
///
/// `data` is in Fortran order as NIfTI stores it: index = `i + dims[0] * (j + dims[1] * k)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Voxels along i, j, k.
    pub dims: [usize; 3],
    /// Voxel index (i, j, k, 1) to millimetres, RAS+ (x to the patient's right,
    /// y anterior, z superior): the upper three rows of the NIfTI affine.
    pub affine: Affine,
    /// Intensities after rescale slope and intercept.
    pub data: Vec<f32>,
}

/// Upper three rows of a 4x4 voxel-to-RAS matrix, mm.
pub type Affine = [[f64; 4]; 3];

/// Why a series cannot become a volume, in words for the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{0}")]
pub struct NotAVolume(pub String);

impl NotAVolume {
    /// The reason, in words a technologist understands; no patient data.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
