//! Any volume on the screening network's grid: where the head is, at 2 mm, intensities 0 to 1.5.
//!
//! A port of `training/firstread_training/preprocess.py`, step by step and number by number;
//! a volume kept with the tests says what both must give (`tests/samples/golden_screening.json`).

use std::borrow::Cow;

use super::affine::{Vector, apply, from_columns, voxel_sizes};
use super::resample::{Order, Sampler, smooth, taps};
use super::{Affine, NotAVolume, Volume};

/// Voxels along x, y, z.
const GRID: [usize; 3] = [96, 112, 96];
/// Spacing of the network's grid, mm.
const SPACING_MM: f64 = 2.0;
/// Spacing of the first look, mm.
const COARSE_MM: f64 = 4.0;
/// The box begins this far above the highest plane of the head, mm.
const TOP_MARGIN_MM: f64 = 6.0;
/// Planes of the coarse look below the top that count for the middle of the head (150 mm).
const HEAD_DEPTH_PLANES: usize = 37;
/// Foreground of the coarse look: above this part of the value at [`COARSE_RANK`].
const COARSE_THRESHOLD: f32 = 0.2;
const COARSE_RANK: f64 = 0.98;
/// Foreground voxels in a plane of the head (6.4 cm2).
const PLANE_VOXELS_MIN: usize = 40;
/// The middle of the head is half-way between these ranks of the foreground's coordinates.
const EDGE_RANKS: [f64; 2] = [0.02, 0.98];
/// Intensities: rank of all positive values, part of it that is foreground, rank of the foreground
/// that becomes 1, and where values are cut off.
const NORM_RANK_ALL: f64 = 0.99;
const NORM_FOREGROUND: f32 = 0.1;
const NORM_RANK_FOREGROUND: f64 = 0.98;
const NORM_CLIP: f32 = 1.5;
/// Fewer positive voxels than this are no picture.
const NORM_VOXELS_MIN: usize = 1000;

/// The network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// 96, 112, 96 along x (right), y (anterior), z (superior).
    pub dims: [usize; 3],
    /// Index to RAS+ mm.
    pub affine: Affine,
    /// 0 to 1.5; z fastest, then y, then x.
    pub data: Vec<f32>,
}

/// Finds the head and brings it onto the network's grid.
///
/// A volume without a picture gives zeros.
#[must_use]
pub fn prepare(volume: &Volume) -> Grid {
    try_prepare(volume).unwrap_or_else(|_| Grid {
        dims: GRID,
        affine: isotropic(SPACING_MM, [0.0; 3]),
        data: vec![0.0; GRID.iter().product()],
    })
}

fn try_prepare(volume: &Volume) -> Result<Grid, NotAVolume> {
    if volume.data.is_empty() {
        return Err(NotAVolume::because("the image has no voxels"));
    }
    let data = finite_and_positive(&volume.data);
    let origin = locate(&data, volume)?;
    let affine = isotropic(SPACING_MM, origin);
    let values = on_grid(&data, volume, GRID, &affine, SPACING_MM)?;
    Ok(Grid {
        dims: GRID,
        affine,
        data: normalise(values),
    })
}

/// Step 1: no infinities, nothing below 0.
pub(super) fn finite_and_positive(data: &[f32]) -> Cow<'_, [f32]> {
    let mut lowest = 0.0_f32;
    let mut all_finite = true;
    for &value in data {
        all_finite &= value.is_finite();
        if value.is_finite() {
            lowest = lowest.min(value);
        }
    }
    if all_finite && lowest >= 0.0 {
        return Cow::Borrowed(data);
    }
    let fixed = data
        .iter()
        .map(|v| if v.is_finite() { *v } else { 0.0 } - lowest)
        .collect();
    Cow::Owned(fixed)
}

fn isotropic(spacing: f64, origin: Vector) -> Affine {
    from_columns(
        [spacing, 0.0, 0.0],
        [0.0, spacing, 0.0],
        [0.0, 0.0, spacing],
        origin,
    )
}

/// Step 4: prefilter and interpolation onto an upright grid, z fastest.
fn on_grid(
    data: &[f32],
    volume: &Volume,
    dims: [usize; 3],
    affine: &Affine,
    spacing_mm: f64,
) -> Result<Vec<f32>, NotAVolume> {
    let sizes = voxel_sizes(&volume.affine);
    let filters = sizes.map(|size| taps(size, spacing_mm));
    let smoothed = smooth(data, volume.dims, &filters);
    let sampler = Sampler::new(&smoothed, volume.dims, &volume.affine)?;
    Ok(sampler.grid(dims, affine, Order::LastAxisFastest, Sampler::linear))
}

/// Steps 2 and 3: RAS mm of the grid's first voxel.
#[allow(clippy::cast_precision_loss, reason = "plane numbers are small")]
fn locate(data: &[f32], volume: &Volume) -> Result<Vector, NotAVolume> {
    let (low, dims) = coarse_box(volume)?;
    let coarse = on_grid(data, volume, dims, &isotropic(COARSE_MM, low), COARSE_MM)?;
    let last = dims.map(|n| (n - 1) as f64);
    let mut centre: Vector = std::array::from_fn(|axis| low[axis] + COARSE_MM * last[axis] / 2.0);
    let mut top = low[2] + COARSE_MM * last[2];
    if let Some(limit) = ranked(positive(&coarse), COARSE_RANK).map(|v| v * COARSE_THRESHOLD) {
        let foreground =
            |x: usize, y: usize, z: usize| coarse[z + dims[2] * (y + dims[1] * x)] > limit;
        let plane = top_plane(dims, &foreground);
        top = low[2] + COARSE_MM * plane as f64;
        let lowest = plane.saturating_sub(HEAD_DEPTH_PLANES);
        let [across, along] = profiles(dims, lowest..=plane, &foreground);
        for (axis, profile) in [across, along].iter().enumerate() {
            if let [Some(a), Some(b)] = EDGE_RANKS.map(|q| ranked_place(profile, q)) {
                centre[axis] = low[axis] + COARSE_MM * 0.5 * (a + b) as f64;
            }
        }
    }
    let half: Vector = GRID.map(|n| SPACING_MM * (n - 1) as f64 / 2.0);
    centre[2] = top + TOP_MARGIN_MM - SPACING_MM * GRID[2] as f64 / 2.0;
    Ok(std::array::from_fn(|axis| centre[axis] - half[axis]))
}

/// The lower corner (mm) and the size (voxels) of the coarse look.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the size is bounded before it is cast"
)]
fn coarse_box(volume: &Volume) -> Result<(Vector, [usize; 3]), NotAVolume> {
    /// No scanner's field of view is longer, mm; keeps the coarse look small.
    const SIDE_MAX_MM: f64 = 1500.0;
    let mut low = [f64::INFINITY; 3];
    let mut high = [f64::NEG_INFINITY; 3];
    for corner in 0..8_usize {
        let index = std::array::from_fn(|axis| {
            ((corner >> axis & 1) * (volume.dims[axis].max(1) - 1)) as f64
        });
        for (axis, mm) in apply(&volume.affine, index).into_iter().enumerate() {
            low[axis] = low[axis].min(mm);
            high[axis] = high[axis].max(mm);
        }
    }
    let sides: Vector = std::array::from_fn(|axis| high[axis] - low[axis]);
    if !sides.iter().all(|side| (0.0..=SIDE_MAX_MM).contains(side)) {
        return Err(NotAVolume::because("the field of view cannot be right"));
    }
    Ok((
        low,
        sides.map(|side| (side / COARSE_MM).floor() as usize + 1),
    ))
}

/// The highest plane with enough foreground that has another such plane below it.
fn top_plane(dims: [usize; 3], foreground: &impl Fn(usize, usize, usize) -> bool) -> usize {
    let full: Vec<bool> = (0..dims[2])
        .map(|z| {
            let count = (0..dims[0])
                .flat_map(|x| (0..dims[1]).map(move |y| (x, y)))
                .filter(|&(x, y)| foreground(x, y, z))
                .count();
            count >= PLANE_VOXELS_MIN
        })
        .collect();
    (0..dims[2])
        .rev()
        .find(|&z| full[z] && (z == 0 || full[z - 1]))
        .unwrap_or(dims[2] - 1)
}

/// How many foreground voxels have each x, and each y, in the given planes.
fn profiles(
    dims: [usize; 3],
    planes: std::ops::RangeInclusive<usize>,
    foreground: &impl Fn(usize, usize, usize) -> bool,
) -> [Vec<usize>; 2] {
    let (mut across, mut along) = (vec![0; dims[0]], vec![0; dims[1]]);
    for (x, of_x) in across.iter_mut().enumerate() {
        for (y, of_y) in along.iter_mut().enumerate() {
            let count = planes.clone().filter(|&z| foreground(x, y, z)).count();
            *of_x += count;
            *of_y += count;
        }
    }
    [across, along]
}

/// Rank `floor(q * (count - 1))`: a percentile without interpolation.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are far below 2^53"
)]
fn rank(count: usize, q: f64) -> Option<usize> {
    Some((q * count.checked_sub(1)? as f64).floor() as usize)
}

/// The value at a rank; the order of `values` is lost.
fn ranked(mut values: Vec<f32>, q: f64) -> Option<f32> {
    let rank = rank(values.len(), q)?;
    let (_, value, _) = values.select_nth_unstable_by(rank, f32::total_cmp);
    Some(*value)
}

/// The coordinate at a rank, from how often each coordinate occurs.
fn ranked_place(profile: &[usize], q: f64) -> Option<usize> {
    let rank = rank(profile.iter().sum(), q)?;
    let mut seen = 0;
    profile.iter().position(|count| {
        seen += count;
        seen > rank
    })
}

fn positive(values: &[f32]) -> Vec<f32> {
    values.iter().copied().filter(|v| *v > 0.0).collect()
}

/// Step 5: the foreground's bright end becomes 1.
pub(super) fn normalise(mut values: Vec<f32>) -> Vec<f32> {
    let mut bright = positive(&values);
    let count = bright.len();
    let limit = ranked(bright.clone(), NORM_RANK_ALL).map(|v| v * NORM_FOREGROUND);
    bright.retain(|v| limit.is_some_and(|limit| *v > limit));
    match ranked(bright, NORM_RANK_FOREGROUND) {
        Some(one) if count >= NORM_VOXELS_MIN => {
            for value in &mut values {
                *value = (value.max(0.0) / one).min(NORM_CLIP);
            }
        }
        _ => values.fill(0.0),
    }
    values
}

#[cfg(test)]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "counts of voxels"
)]
mod tests;
