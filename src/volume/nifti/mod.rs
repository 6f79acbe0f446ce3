//! NIfTI-1 files (`.nii`, `.nii.gz`) from and to bytes.
//!
//! Format: <https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h>.
//! What is read comes from users and is bounded: sizes in the header are checked
//! before anything is allocated, and no more is decompressed than they ask for.

mod read;
mod write;

pub use read::read;
pub use write::{Voxels, encode};

use super::affine::{Vector, cross, dot, scale, subtract, unit};

/// Bytes of the header.
const HEADER_BYTES: usize = 348;
/// Where voxels start in a single-file image without extensions.
const VOXELS_START: usize = 352;

/// Element types we read; the numbers are the standard's (`datatype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataType {
    U8 = 2,
    I16 = 4,
    I32 = 8,
    F32 = 16,
    F64 = 64,
    I8 = 256,
    U16 = 512,
    U32 = 768,
    I64 = 1024,
    U64 = 1280,
}

impl DataType {
    const ALL: [Self; 10] = [
        Self::U8,
        Self::I16,
        Self::I32,
        Self::F32,
        Self::F64,
        Self::I8,
        Self::U16,
        Self::U32,
        Self::I64,
        Self::U64,
    ];

    fn of(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as i16 == code)
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::F32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }
}

/// `(b, c, d)` of the unit quaternion and `qfac` nearest to the three columns of a rotation.
fn quaternion(columns: [Vector; 3]) -> Option<([f64; 3], f64)> {
    let x = unit(columns[0])?;
    let y = unit(subtract(columns[1], scale(x, dot(x, columns[1]))))?;
    let z = cross(x, y);
    let qfac = if dot(z, columns[2]) < 0.0 { -1.0 } else { 1.0 };
    // Shepperd's method: divide by the largest component only.
    let trace = x[0] + y[1] + z[2];
    let mut q = if trace > 0.0 {
        [1.0 + trace, y[2] - z[1], z[0] - x[2], x[1] - y[0]]
    } else if x[0] >= y[1] && x[0] >= z[2] {
        let b = 1.0 + x[0] - y[1] - z[2];
        [y[2] - z[1], b, x[1] + y[0], z[0] + x[2]]
    } else if y[1] >= z[2] {
        let c = 1.0 + y[1] - x[0] - z[2];
        [z[0] - x[2], x[1] + y[0], c, y[2] + z[1]]
    } else {
        let d = 1.0 + z[2] - x[0] - y[1];
        [x[1] - y[0], z[0] + x[2], y[2] + z[1], d]
    };
    let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sign = if q[0] < 0.0 { -1.0 } else { 1.0 };
    q = q.map(|v| sign * v / norm);
    Some(([q[1], q[2], q[3]], qfac))
}

/// The three columns of the rotation of a quaternion; the third times `qfac`.
fn rotation([b, c, d]: [f64; 3], qfac: f64) -> [Vector; 3] {
    let sum = b * b + c * c + d * d;
    let a = (1.0 - sum).max(0.0).sqrt();
    // A sum just over 1 is rounding: scale back to length 1.
    let shrink = if sum > 1.0 { 1.0 / sum.sqrt() } else { 1.0 };
    let [b, c, d] = [b * shrink, c * shrink, d * shrink];
    [
        [
            a * a + b * b - c * c - d * d,
            2.0 * (b * c + a * d),
            2.0 * (b * d - a * c),
        ],
        [
            2.0 * (b * c - a * d),
            a * a + c * c - b * b - d * d,
            2.0 * (c * d + a * b),
        ],
        scale(
            [
                2.0 * (b * d + a * c),
                2.0 * (c * d - a * b),
                a * a + d * d - b * b - c * c,
            ],
            qfac,
        ),
    ]
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "small whole numbers, exact in f32")]
mod tests;
