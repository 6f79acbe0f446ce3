//! Slices to one volume: order by position along the normal, regular spacing, an affine in RAS+ mm.
//!
//! The grid is the one dcm2niix gives, so that what we write lies on what other tools write:
//! i along the rows, j against the columns (the picture's bottom row first), k along
//! row direction x column direction; a 3D acquisition is then turned to the nearest RAS+ order.
//!
//! A sheared stack (gantry tilt) is refused:
//! MR scanners tilt by gradients, never by the gantry, so a shear says that this is no MR volume.

use super::affine::{Vector, add, dot, from_columns, length, scale, subtract};
use super::separate::one_stack;
use super::slice::Slice;
use super::{NotAVolume, Volume, reorient};
use serde::{Deserialize, Serialize};

/// A gap may differ from the median gap by this part of it ...
const SPACING_TOLERANCE: f64 = 0.05;
/// ... or by this much, whichever is more, mm (positions are often written with two decimals).
const SPACING_TOLERANCE_MM: f64 = 0.05;
/// A slice may lie this far off the straight line through all first pixels,
/// as a part of the spacing; mm below it are always allowed.
const STRAIGHTNESS_TOLERANCE: f64 = 0.1;
/// The stack's direction may be this far off the slices' normal, degrees.
const SHEAR_MAX_DEG: f64 = 1.0;

/// How big a volume may be, and how it is laid out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssembleOptions {
    /// Most voxels a volume may have.
    pub voxels_max: usize,
    /// (0018,0023) is `3D`: turn to the nearest RAS+ order, as dcm2niix does.
    pub acquired_in_3d: bool,
}

impl Default for AssembleOptions {
    fn default() -> Self {
        Self {
            voxels_max: super::VOXELS_MAX,
            acquired_in_3d: false,
        }
    }
}

/// A volume, and what was done to get it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembled {
    /// The image.
    pub volume: Volume,
    /// How many slices it is made of.
    pub slices: usize,
    /// In words: "2 echoes: the first, of 2.9 ms, is used". Empty where there was nothing to say.
    pub notes: Vec<String>,
}

/// Puts a series' slices together, in whatever order they come.
///
/// # Errors
/// [`NotAVolume`] in words a technologist understands: slices missing, at one place, in
/// several directions, of several sizes, sheared, too many.
pub fn assemble(slices: Vec<Slice>, options: &AssembleOptions) -> Result<Assembled, NotAVolume> {
    let (mut slices, notes) = one_stack(slices)?;
    let normal = slices[0].geometry.normal();
    slices.sort_by(|a, b| {
        let height = |s: &Slice| s.geometry.height(normal);
        height(a).total_cmp(&height(b))
    });
    if slices.len() < 2 {
        return Err(NotAVolume::because("there is only one slice"));
    }
    let step = step_between(&slices, normal)?;
    let affine = affine_of(&slices, step);
    let count = slices.len();
    let volume = Volume {
        dims: [slices[0].geometry.columns, slices[0].geometry.rows, count],
        affine,
        data: stack(slices, options.voxels_max)?,
    };
    let volume = if options.acquired_in_3d {
        reorient::to_ras(volume)
    } else {
        volume
    };
    Ok(Assembled {
        volume,
        slices: count,
        notes,
    })
}

/// From one slice's first pixel to the next one's, LPS mm, after checking that all are alike.
fn step_between(slices: &[Slice], normal: Vector) -> Result<Vector, NotAVolume> {
    let heights: Vec<f64> = slices.iter().map(|s| s.geometry.height(normal)).collect();
    let spacing = regular_spacing(&heights)?;
    let (first, last) = (&slices[0].geometry, &slices[slices.len() - 1].geometry);
    #[allow(clippy::cast_precision_loss, reason = "slice counts are small")]
    let steps = (slices.len() - 1) as f64;
    let step = scale(subtract(last.position, first.position), 1.0 / steps);
    let tilt_deg = (dot(step, normal) / length(step))
        .clamp(-1.0, 1.0)
        .acos()
        .to_degrees();
    if tilt_deg > SHEAR_MAX_DEG {
        return Err(NotAVolume::because(format!(
            "the stack of slices is slanted by {tilt_deg:.1} degrees (gantry tilt)"
        )));
    }
    let tolerance_mm = (spacing * STRAIGHTNESS_TOLERANCE).max(STRAIGHTNESS_TOLERANCE);
    let mut expected = first.position;
    for slice in slices {
        if length(subtract(slice.geometry.position, expected)) > tolerance_mm {
            return Err(NotAVolume::because(
                "the slices do not lie one above the other on a straight line",
            ));
        }
        expected = add(expected, step);
    }
    Ok(step)
}

/// The median gap between neighbours, mm.
fn regular_spacing(heights: &[f64]) -> Result<f64, NotAVolume> {
    let gaps: Vec<f64> = heights.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    // The lower median: of two gaps the smaller is the spacing, the larger has a hole.
    let median = sorted[(sorted.len() - 1) / 2];
    let tolerance = (median * SPACING_TOLERANCE).max(SPACING_TOLERANCE_MM);
    let Some(odd) = gaps.iter().position(|gap| (gap - median).abs() > tolerance) else {
        return Ok(median);
    };
    let (gap, count) = (gaps[odd], heights.len());
    let (one, two) = (odd + 1, odd + 2);
    Err(NotAVolume(if gap > 1.5 * median {
        format!(
            "missing slice: gap of {gap:.1} mm between slices {one} and {two} of {count}, \
             where the others are {median:.1} mm apart"
        )
    } else {
        format!(
            "uneven slices: {gap:.2} mm between slices {one} and {two} of {count}, \
             where the others are {median:.2} mm apart"
        )
    }))
}

/// Voxel (i, j, k) to RAS+ mm, with j counted from the picture's bottom row.
fn affine_of(slices: &[Slice], step: Vector) -> super::Affine {
    let geometry = &slices[0].geometry;
    let [between_rows, between_columns] = geometry.pixel_spacing;
    let down = scale(geometry.along_column, between_rows);
    #[allow(clippy::cast_precision_loss, reason = "at most 65,535 rows")]
    let to_bottom = scale(down, (geometry.rows - 1) as f64);
    let ras = |v: Vector| [-v[0], -v[1], v[2]];
    from_columns(
        ras(scale(geometry.along_row, between_columns)),
        ras(scale(down, -1.0)),
        ras(step),
        ras(add(geometry.position, to_bottom)),
    )
}

/// All pixels in NIfTI order, each slice bottom row first.
fn stack(slices: Vec<Slice>, voxels_max: usize) -> Result<Vec<f32>, NotAVolume> {
    let (rows, columns) = (slices[0].geometry.rows, slices[0].geometry.columns);
    let voxels = rows
        .checked_mul(columns)
        .and_then(|n| n.checked_mul(slices.len()))
        .filter(|n| *n <= voxels_max)
        .ok_or_else(|| {
            NotAVolume(format!(
                "the volume would be larger than the limit of {voxels_max} voxels"
            ))
        })?;
    let mut data = Vec::with_capacity(voxels);
    for slice in slices {
        if slice.pixels.len() != rows * columns {
            return Err(NotAVolume::because(
                "an image has fewer pixels than it says",
            ));
        }
        for row in slice.pixels.chunks_exact(columns).rev() {
            data.extend_from_slice(row);
        }
    }
    Ok(data)
}

#[cfg(test)]
#[allow(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "small whole numbers, exact in f32"
)]
mod tests;
