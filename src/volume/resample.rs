//! A volume's intensities on another grid: Gaussian prefilter, then trilinear interpolation.
//!
//! The steps and constants are those the screening network was trained with
//! (`training/firstread_training/preprocess.py`, step 4), so that both see the same picture.

use std::borrow::Cow;

use super::affine::{Vector, apply, column, compose, dot, inverse, scale, unit, voxel_sizes};
use super::{Affine, NotAVolume, Volume};

/// Width of the prefilter: 0.42 of the target spacing is about a box of that width.
const SIGMA_FACTOR: f64 = 0.42;
/// Where the Gaussian is cut off, in sigmas.
const RADIUS_SIGMAS: f64 = 2.5;

/// The volume on a grid of `dims` voxels that `affine` takes to RAS+ mm; 0 outside the volume.
///
/// Axes along which the target is coarser are smoothed first, so that nothing is skipped over.
/// # Errors
/// [`NotAVolume`] where the volume's affine cannot be inverted.
pub fn resample(volume: &Volume, dims: [usize; 3], affine: &Affine) -> Result<Volume, NotAVolume> {
    let smoothed = smooth(&volume.data, volume.dims, &taps_towards(volume, affine));
    let sampler = Sampler::new(&smoothed, volume.dims, &volume.affine)?;
    let data = sampler.grid(dims, affine, Order::FirstAxisFastest, Sampler::linear);
    Ok(Volume {
        dims,
        affine: *affine,
        data,
    })
}

/// Like [`resample`] without any blending: for label maps.
///
/// # Errors
/// As [`resample`].
pub fn resample_labels(
    volume: &Volume,
    dims: [usize; 3],
    affine: &Affine,
) -> Result<Volume, NotAVolume> {
    let sampler = Sampler::new(&volume.data, volume.dims, &volume.affine)?;
    let data = sampler.grid(dims, affine, Order::FirstAxisFastest, Sampler::nearest);
    Ok(Volume {
        dims,
        affine: *affine,
        data,
    })
}

/// The prefilter's taps for each axis of the volume, for a target grid.
fn taps_towards(volume: &Volume, target: &Affine) -> [Vec<f32>; 3] {
    let sizes = voxel_sizes(&volume.affine);
    std::array::from_fn(|axis| {
        let Some(along) = unit(column(&volume.affine, axis)) else {
            return Vec::new();
        };
        // How far one target voxel reaches along this axis: exact for aligned and for cubic grids.
        let reach: f64 = (0..3)
            .map(|t| dot(along, column(target, t)).powi(2))
            .sum::<f64>()
            .sqrt();
        taps(sizes[axis], reach)
    })
}

/// Gaussian weights for going from voxels of `from_mm` to `to_mm`, before normalising;
/// odd in number, the middle one is the voxel itself; empty where nothing is to be smoothed.
pub(super) fn taps(from_mm: f64, to_mm: f64) -> Vec<f32> {
    /// Voxels this much finer than the target are typing errors.
    const FINENESS_MAX: f64 = 1000.0;
    if from_mm.is_nan() || from_mm * FINENESS_MAX < to_mm {
        return Vec::new();
    }
    // A hair coarser (rounding of a rotated grid) needs no filter.
    if from_mm >= to_mm * (1.0 - 1e-6) {
        return Vec::new();
    }
    let sigma = SIGMA_FACTOR * (to_mm * to_mm - from_mm * from_mm).sqrt() / from_mm;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "spacings are at most 1000 mm; weights are f32 in training too"
    )]
    let weights = |radius: i32| {
        (-radius..=radius)
            .map(|n| (-0.5 * (f64::from(n) / sigma).powi(2)).exp() as f32)
            .collect()
    };
    #[allow(clippy::cast_possible_truncation, reason = "a few voxels")]
    let radius = (RADIUS_SIGMAS * sigma).ceil() as i32;
    weights(radius)
}

/// Smooths along each axis with its taps, normalised over the taps inside the volume.
pub(super) fn smooth<'a>(
    data: &'a [f32],
    dims: [usize; 3],
    taps: &[Vec<f32>; 3],
) -> Cow<'a, [f32]> {
    let mut data = Cow::Borrowed(data);
    for axis in 0..3 {
        if taps[axis].is_empty() || dims[axis] <= 1 || data.is_empty() {
            continue;
        }
        data = Cow::Owned(if axis == 0 {
            smooth_rows(&data, dims[0], &taps[0])
        } else {
            let stride = if axis == 1 {
                dims[0]
            } else {
                dims[0] * dims[1]
            };
            smooth_across(&data, stride, dims[axis], &taps[axis])
        });
    }
    data
}

/// For each tap that lies inside an axis of `length` when it is centred on `at`:
/// where it reads, and its weight.
fn inside(taps: &[f32], at: usize, length: usize) -> impl Iterator<Item = (usize, f32)> {
    let radius = taps.len() / 2;
    taps.iter().enumerate().filter_map(move |(n, &weight)| {
        let from = (at + n).checked_sub(radius)?;
        (from < length).then_some((from, weight))
    })
}

/// 1 / (sum of the taps inside), for each place along an axis.
fn norms(taps: &[f32], length: usize) -> Vec<f32> {
    (0..length)
        .map(|at| {
            1.0 / inside(taps, at, length)
                .map(|(_, weight)| weight)
                .sum::<f32>()
        })
        .collect()
}

/// Along the first axis: each row is copied into a padded line so that the inner loop is plain.
fn smooth_rows(data: &[f32], length: usize, taps: &[f32]) -> Vec<f32> {
    let (norms, radius) = (norms(taps, length), taps.len() / 2);
    let mut out = vec![0.0; data.len()];
    let mut padded = vec![0.0; length + 2 * radius];
    for (row, out) in data.chunks_exact(length).zip(out.chunks_exact_mut(length)) {
        padded[radius..radius + length].copy_from_slice(row);
        for (shift, &weight) in taps.iter().enumerate() {
            add_weighted(out, &padded[shift..shift + length], weight);
        }
        for (value, norm) in out.iter_mut().zip(&norms) {
            *value *= norm;
        }
    }
    out
}

/// Along a later axis of `length` steps of `stride`: whole runs of voxels at a time.
fn smooth_across(data: &[f32], stride: usize, length: usize, taps: &[f32]) -> Vec<f32> {
    /// Voxels of a run that are worked on together, so that they stay in the cache.
    const RUN: usize = 2048;
    let norms = norms(taps, length);
    let mut out = vec![0.0; data.len()];
    let blocks = data
        .chunks_exact(stride * length)
        .zip(out.chunks_exact_mut(stride * length));
    for (block, out) in blocks {
        for start in (0..stride).step_by(RUN) {
            let run = RUN.min(stride - start);
            for (at, norm) in norms.iter().enumerate() {
                let out = &mut out[at * stride + start..][..run];
                for (from, weight) in inside(taps, at, length) {
                    add_weighted(out, &block[from * stride + start..][..run], weight * norm);
                }
            }
        }
    }
    out
}

fn add_weighted(out: &mut [f32], values: &[f32], weight: f32) {
    for (sum, value) in out.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

/// Which index runs fastest in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As NIfTI and [`Volume`] have it.
    FirstAxisFastest,
    /// As the networks have it.
    LastAxisFastest,
}

/// Looks up intensities at any place of the patient.
pub(super) struct Sampler<'a> {
    data: &'a [f32],
    dims: [usize; 3],
    to_voxel: Affine,
}

/// One axis of an interpolation: the two neighbours and the share of the second.
struct Between {
    first: usize,
    second: usize,
    share: f32,
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "indices are checked against axis lengths before they are cast"
)]
impl<'a> Sampler<'a> {
    /// Reads `data` (first axis fastest) of a grid that `affine` takes to RAS+ mm.
    pub fn new(data: &'a [f32], dims: [usize; 3], affine: &Affine) -> Result<Self, NotAVolume> {
        let to_voxel =
            inverse(affine).ok_or_else(|| NotAVolume::because("the image's axes span no space"))?;
        Ok(Self {
            data,
            dims,
            to_voxel,
        })
    }

    /// All points of a grid, `look` at each.
    pub fn grid(
        &self,
        dims: [usize; 3],
        affine: &Affine,
        order: Order,
        look: fn(&Self, Vector) -> f32,
    ) -> Vec<f32> {
        let both = compose(&self.to_voxel, affine);
        let (fast, slow) = match order {
            Order::FirstAxisFastest => (0, 2),
            Order::LastAxisFastest => (2, 0),
        };
        let step = column(&both, fast);
        let mut out = Vec::with_capacity(dims.iter().product());
        for s in 0..dims[slow] {
            for m in 0..dims[1] {
                let mut start = [0.0; 3];
                (start[slow], start[1]) = (s as f64, m as f64);
                let start = apply(&both, start);
                out.extend((0..dims[fast]).map(|f| {
                    let along = scale(step, f as f64);
                    look(self, super::affine::add(start, along))
                }));
            }
        }
        out
    }

    /// More than half a voxel outside is outside; nearer points clamp to the edge.
    fn between(at: f64, length: usize) -> Option<Between> {
        let last = length.checked_sub(1)? as f64;
        if !(-0.5..=last + 0.5).contains(&at) {
            return None;
        }
        let at = at.clamp(0.0, last);
        let first = (at.floor() as usize).min(length.saturating_sub(2));
        Some(Between {
            first,
            second: (first + 1).min(length - 1),
            share: (at - first as f64) as f32,
        })
    }

    /// Trilinear interpolation at a place in voxels; 0 outside.
    pub fn linear(&self, voxel: Vector) -> f32 {
        let axis = |n: usize| Self::between(voxel[n], self.dims[n]);
        let (Some(i), Some(j), Some(k)) = (axis(0), axis(1), axis(2)) else {
            return 0.0;
        };
        let blend = |first: f32, second: f32, share: f32| first + (second - first) * share;
        let row = |j: usize, k: usize| {
            let row = &self.data[self.dims[0] * (j + self.dims[1] * k)..];
            blend(row[i.first], row[i.second], i.share)
        };
        let plane = |k: usize| blend(row(j.first, k), row(j.second, k), j.share);
        blend(plane(k.first), plane(k.second), k.share)
    }

    /// The nearest voxel's value; 0 outside.
    pub fn nearest(&self, voxel: Vector) -> f32 {
        let axis = |n: usize| {
            let at = Self::between(voxel[n], self.dims[n])?;
            Some(if at.share < 0.5 { at.first } else { at.second })
        };
        let (Some(i), Some(j), Some(k)) = (axis(0), axis(1), axis(2)) else {
            return 0.0;
        };
        self.data[i + self.dims[0] * (j + self.dims[1] * k)]
    }
}

#[cfg(test)]
#[allow(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "small whole numbers, exact in f32"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ramp(dims: [usize; 3], affine: Affine) -> Volume {
        let mut data = Vec::new();
        for k in 0..dims[2] {
            for j in 0..dims[1] {
                for i in 0..dims[0] {
                    data.push((i * 2 + j * 3 + k * 5) as f32);
                }
            }
        }
        Volume { dims, affine, data }
    }

    const TWO_MM: Affine = [
        [2.0, 0.0, 0.0, 0.0],
        [0.0, 2.0, 0.0, 0.0],
        [0.0, 0.0, 2.0, 0.0],
    ];

    #[test]
    fn half_a_voxel_beyond_the_edge_is_the_edge() {
        let volume = ramp([2, 2, 2], TWO_MM);
        let at = |x: f64| {
            let mut affine = TWO_MM;
            affine[0][3] = x;
            resample(&volume, [1, 1, 1], &affine).unwrap().data[0]
        };
        assert_eq!(
            [at(-1.1), at(-0.9), at(1.0), at(2.9), at(3.1)],
            [0.0, 0.0, 1.0, 2.0, 0.0]
        );
    }

    #[test]
    fn a_ramp_survives_downsampling_away_from_the_edges() {
        let fine = ramp([40, 30, 30], super::super::affine::IDENTITY);
        let coarse = resample(&fine, [10, 8, 8], &TWO_MM).unwrap();
        let at = |i: usize, j: usize, k: usize| coarse.data[i + 10 * (j + 8 * k)];
        // Index (4, 4, 4) is at 8 mm along each axis: 8 * (2 + 3 + 5).
        assert!((at(4, 4, 4) - 80.0).abs() < 1e-3, "{}", at(4, 4, 4));
        assert!((at(5, 4, 4) - 84.0).abs() < 1e-3);
    }

    #[test]
    fn labels_are_never_blended() {
        let volume = ramp([3, 3, 3], TWO_MM);
        let mut affine = TWO_MM;
        affine[0][3] = 0.9;
        let got = resample_labels(&volume, [2, 1, 1], &affine).unwrap();
        assert_eq!(got.data, [0.0, 2.0]);
    }

    proptest! {
        #[test]
        fn onto_its_own_grid_nothing_changes(
            a in prop::array::uniform3(-1.0..1.0_f64),
            b in prop::array::uniform3(-1.0..1.0_f64),
            sizes in prop::array::uniform3(0.5..6.0_f64),
            dims in prop::array::uniform3(1..7_usize),
        ) {
            use super::super::affine::{cross, from_columns};
            let Some(x) = unit(a) else { return Ok(()) };
            let Some(z) = unit(cross(x, b)) else { return Ok(()) };
            let y = cross(z, x);
            let affine = from_columns(scale(x, sizes[0]), scale(y, sizes[1]), scale(z, sizes[2]), [9.0, -8.0, 7.0]);
            let volume = ramp(dims, affine);
            let same = resample(&volume, dims, &affine).unwrap();
            for (got, want) in same.data.iter().zip(&volume.data) {
                prop_assert!((got - want).abs() < 1e-3, "{got} {want}");
            }
            prop_assert_eq!(resample_labels(&volume, dims, &affine).unwrap().data, volume.data);
        }
    }
}
