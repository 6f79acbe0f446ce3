//! Any volume on the measuring network's grid: a box of 160 x 192 x 160 voxels of 1 mm around the
//! upright head.
//!
//! However a head lay and however its picture is stored, the network sees it in one pose: the box
//! is turned by what [`super::pose`] reads from the screening network's labels, and the picture is
//! sampled once. Labels and values come back to the input's own voxels from the box's nearest eight;
//! volumes are never counted there.
//!
//! The same steps as `training/firstread_training/measuring.py`.

use super::affine::{Vector, apply, compose, determinant, from_columns, inverse, voxel_sizes};
use super::pose;
use super::reorient::turn_to_ras;
use super::resample::{smooth, taps};
use super::screening_grid::{finite_and_positive, normalise};
use super::spline::Spline;
use super::{Affine, NotAVolume, Volume, components};

/// Voxels along x (to the right), y (anterior), z (superior).
pub const GRID: [usize; 3] = [160, 192, 160];
/// Spacing of the box, mm.
const STEP_MM: f64 = 1.0;
/// Where the box begins, upright mm, unless that cuts off brain.
const START_MM: Vector = [-79.5, -95.5, -71.0];
/// Room between brain and the box's border, mm.
const MARGIN_MM: f64 = 2.0;
/// Without a pose: the box's last voxel lies this far above the brain's last plane, mm.
const TOP_MARGIN_MM: f64 = 6.0;
/// Distance of the planes in which the brain is counted, mm: the screening network's voxels.
const PLANE_MM: f64 = 2.0;
/// Brain voxels (2 mm) in a plane that counts.
const PLANE_VOXELS_MIN: usize = 30;
/// Planes looked at on either side of the middle.
const PLANES_MAX: usize = 512;

/// Where the screening network saw brain.
#[derive(Debug, Clone, Copy)]
pub struct Brain<'a> {
    /// Labels, 0 is background; z fastest.
    pub labels: &'a [u8],
    /// FreeSurfer code of each label.
    pub codes: &'a [i64],
    /// Voxels along x, y, z.
    pub dims: [usize; 3],
    /// Index to RAS mm, 2 mm isotropic.
    pub affine: Affine,
}

/// Where the box lies in the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    input_dims: [usize; 3],
    input_affine: Affine,
    /// Index of the box to index of the input, and back.
    to_input: Affine,
    to_box: Affine,
    /// Index of the box to RAS mm.
    pub affine: Affine,
}

/// The network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuringGrid {
    /// Where it lies.
    pub placement: Placement,
    /// 0 to 1.5; z fastest, then y, then x.
    pub data: Vec<f32>,
}

/// The eight voxels of the box around a place, x slowest, and what each weighs.
type Corners = [(usize, f64); 8];

/// Brings a volume into the box around its brain.
///
/// # Errors
/// [`NotAVolume`] where the axes span no space or screening saw no brain.
pub fn prepare(volume: &Volume, brain: &Brain) -> Result<MeasuringGrid, NotAVolume> {
    let placement = Placement::new(volume, brain)?;
    let data = normalise(placement.values(volume));
    Ok(MeasuringGrid { placement, data })
}

impl Placement {
    /// Finds the box.
    ///
    /// # Errors
    /// As [`prepare`].
    #[allow(clippy::cast_precision_loss, reason = "lengths of the grid")]
    pub fn new(volume: &Volume, brain: &Brain) -> Result<Self, NotAVolume> {
        let found = pose::upright(brain);
        let upright = found.unwrap_or(super::affine::IDENTITY);
        let extents = brain_extent(&upright, brain)?;
        let start: Vector = std::array::from_fn(|n| {
            let extent = STEP_MM * (GRID[n] - 1) as f64;
            let [low, high] = extents[n];
            let (least, most) = (high + MARGIN_MM - extent, low - MARGIN_MM);
            match (found.is_some(), n) {
                (false, 2) => high + TOP_MARGIN_MM - extent,
                (false, _) => f64::midpoint(low, high) - extent / 2.0,
                // The neck goes on below: only above nothing may be cut off.
                (true, 2) => START_MM[n].max(least),
                (true, _) if least <= most => START_MM[n].clamp(least, most),
                (true, _) => f64::midpoint(least, most),
            }
        });
        let in_upright = from_columns(
            [STEP_MM, 0.0, 0.0],
            [0.0, STEP_MM, 0.0],
            [0.0, 0.0, STEP_MM],
            start,
        );
        let no_space = || NotAVolume::because("the image's axes span no space");
        let affine = compose(&inverse(&upright).ok_or_else(no_space)?, &in_upright);
        let to_voxel = inverse(&volume.affine).ok_or_else(no_space)?;
        let to_input = compose(&to_voxel, &affine);
        let to_box = inverse(&to_input).ok_or_else(no_space)?;
        Ok(Self {
            input_dims: volume.dims,
            input_affine: volume.affine,
            to_input,
            to_box,
            affine,
        })
    }

    /// Volume of a voxel of the box, mm3.
    #[must_use]
    pub fn voxel_mm3(&self) -> f64 {
        determinant(&self.affine).abs()
    }

    /// Voxels of the input along its axes (first axis fastest in memory), and the volume of one.
    #[must_use]
    pub fn input_voxels(&self) -> ([usize; 3], f64) {
        (self.input_dims, determinant(&self.input_affine).abs())
    }

    /// Spacing of the input along its axes, mm.
    #[must_use]
    pub fn input_spacing_mm(&self) -> [f64; 3] {
        voxel_sizes(&self.input_affine)
    }

    /// How much of what `is` picks (indices of the box) lies where the picture ends, mm2: by axis of
    /// the box at its low and its high end. The picture ends at the input's outermost planes and at
    /// the box's own.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of voxels")]
    pub fn areas_at_ends(&self, is: impl Fn(usize) -> bool) -> [[f64; 2]; 3] {
        let of_input = turn_to_ras(&self.to_box);
        let sizes = self.input_spacing_mm();
        std::array::from_fn(|n| {
            let (axis, against) = of_input[n];
            let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
            [false, true].map(|high| {
                let last = self.input_dims[axis].saturating_sub(1);
                let through = if high == against { 0 } else { last };
                let there = plane(self.input_dims, axis, through)
                    .filter_map(|index| self.nearest(index))
                    .filter(|at| is(*at));
                let of_input = there.count() as f64 * sizes[a] * sizes[b];
                let through = if high { GRID[n] - 1 } else { 0 };
                let own = plane(GRID, n, through)
                    .filter(|index| self.in_input(*index) && is(flat(*index)));
                of_input.max(own.count() as f64 * STEP_MM * STEP_MM)
            })
        })
    }

    /// Intensities in the box, before they are scaled.
    fn values(&self, volume: &Volume) -> Vec<f32> {
        let data = finite_and_positive(&volume.data);
        let filters = self.input_spacing_mm().map(|size| taps(size, STEP_MM));
        let data = smooth(&data, volume.dims, &filters).into_owned();
        Spline::new(data, volume.dims).grid(GRID, &self.to_input)
    }

    /// Labels of the box on the input's grid (first axis fastest): the one that weighs most among
    /// the eight voxels around, the first of equals; 0 outside the box.
    #[must_use]
    pub fn labels_on_input(&self, labels: &[u8]) -> Vec<u8> {
        self.on_input(0, |corners| {
            let first = labels[corners[0].0];
            if corners.iter().all(|(at, _)| labels[*at] == first) {
                return first;
            }
            let share = |label: u8| -> f64 {
                let same = corners.iter().filter(|(at, _)| labels[*at] == label);
                same.map(|(_, weight)| weight).sum()
            };
            let (mut best, mut most) = (first, share(first));
            for (at, _) in &corners[1..] {
                let weighs = share(labels[*at]);
                if weighs > most {
                    (best, most) = (labels[*at], weighs);
                }
            }
            best
        })
    }

    /// Values of the box on the input's grid (first axis fastest), interpolated; 0 outside the box.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a weighted mean of f32 values"
    )]
    pub fn values_on_input(&self, values: &[f32]) -> Vec<f32> {
        self.on_input(0.0, |corners| {
            let part = |(at, weight): &(usize, f64)| f64::from(values[*at]) * weight;
            corners.iter().map(part).sum::<f64>() as f32
        })
    }

    /// Every voxel of the input, by the voxels of the box around it.
    #[allow(clippy::cast_precision_loss, reason = "voxel indices")]
    fn on_input<T: Copy>(&self, empty: T, look: impl Fn(&Corners) -> T) -> Vec<T> {
        let [ni, nj, nk] = self.input_dims;
        let mut out = vec![empty; ni * nj * nk];
        let rows = (0..nk).flat_map(|k| (0..nj).map(move |j| (j, k)));
        for ((j, k), row) in rows.zip(out.chunks_exact_mut(ni.max(1))) {
            for (i, value) in row.iter_mut().enumerate() {
                let place = apply(&self.to_box, [i, j, k].map(|index| index as f64));
                if let Some(corners) = corners(place) {
                    *value = look(&corners);
                }
            }
        }
        out
    }

    /// Which voxels of the box give their values to those of the input that `is` picks (first axis fastest).
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "voxel indices")]
    pub fn around_input(&self, is: impl Fn(usize) -> bool) -> Vec<bool> {
        let [ni, nj, nk] = self.input_dims;
        let picked = (0..ni * nj * nk).filter(|at| is(*at));
        let places = picked.filter_map(|at| {
            let index = [at % ni, at / ni % nj, at / (ni * nj)];
            corners(apply(&self.to_box, index.map(|i| i as f64)))
        });
        let mut around = vec![false; GRID.iter().product()];
        for (at, _) in places.flatten().filter(|(_, weight)| *weight > 0.0) {
            around[at] = true;
        }
        around
    }

    /// Whether a voxel of the box lies within the input.
    #[allow(clippy::cast_precision_loss, reason = "voxel indices")]
    fn in_input(&self, index: [usize; 3]) -> bool {
        let place = apply(&self.to_input, index.map(|i| i as f64));
        let mut axes = place.into_iter().zip(self.input_dims);
        axes.all(|(p, n)| (-0.5..=n as f64 - 0.5).contains(&p))
    }

    /// The voxel of the box nearest to a voxel of the input.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie inside the box before it is cast"
    )]
    fn nearest(&self, index: [usize; 3]) -> Option<usize> {
        let place = apply(&self.to_box, index.map(|i| i as f64));
        let mut at = 0;
        for (p, n) in place.into_iter().zip(GRID) {
            let whole = (p + 0.5).floor();
            if !(whole >= 0.0 && whole < n as f64) {
                return None;
            }
            at = at * n + whole as usize;
        }
        Some(at)
    }
}

fn flat([x, y, z]: [usize; 3]) -> usize {
    (x * GRID[1] + y) * GRID[2] + z
}

/// All indices of a plane across an axis.
fn plane(dims: [usize; 3], axis: usize, through: usize) -> impl Iterator<Item = [usize; 3]> {
    let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
    let (na, nb) = (dims[a], dims[b]);
    (0..na).flat_map(move |i| {
        (0..nb).map(move |j| {
            let mut index = [through; 3];
            (index[a], index[b]) = (i, j);
            index
        })
    })
}

/// More than half a voxel outside the box is outside; nearer places clamp to its edge.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie inside before it is cast"
)]
fn corners(place: Vector) -> Option<Corners> {
    let mut axes = [([0_usize; 2], [0.0; 2]); 3];
    for ((axis, p), n) in axes.iter_mut().zip(place).zip(GRID) {
        let last = (n - 1) as f64;
        if !(-0.5..=last + 0.5).contains(&p) {
            return None;
        }
        let p = p.clamp(0.0, last);
        let first = (p.floor() as usize).min(n - 2);
        let share = p - first as f64;
        *axis = ([first, first + 1], [1.0 - share, share]);
    }
    let [x, y, z] = axes;
    Some(std::array::from_fn(|n| {
        let (a, b, c) = (n >> 2, n >> 1 & 1, n & 1);
        (flat([x.0[a], y.0[b], z.0[c]]), x.1[a] * y.1[b] * z.1[c])
    }))
}

/// From where to where planes hold brain along each axis, upright mm.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "planes are checked to lie within the range"
)]
fn brain_extent(upright: &Affine, brain: &Brain) -> Result<[[f64; 2]; 3], NotAVolume> {
    let no_brain = || NotAVolume::because("no brain was found");
    let map = compose(upright, &brain.affine);
    let mut counts = vec![[0_usize; 3]; 2 * PLANES_MAX];
    let [_, ny, nz] = brain.dims;
    for at in components::largest(brain.dims, |at| brain.labels[at] != 0) {
        let index = [at / (ny * nz), at / nz % ny, at % nz].map(|i| i as f64);
        for (n, place) in apply(&map, index).into_iter().enumerate() {
            let plane = (place / PLANE_MM).floor() as i64 + PLANES_MAX.cast_signed() as i64;
            if let Some(count) = usize::try_from(plane).ok().and_then(|p| counts.get_mut(p)) {
                count[n] += 1;
            }
        }
    }
    let mut extents = [[0.0; 2]; 3];
    for (n, extent) in extents.iter_mut().enumerate() {
        let enough = |count: &[usize; 3]| count[n] >= PLANE_VOXELS_MIN;
        let first = counts.iter().position(enough).ok_or_else(no_brain)?;
        let last = counts.iter().rposition(enough).ok_or_else(no_brain)?;
        *extent = [first, last + 1].map(|plane| PLANE_MM * (plane as f64 - PLANES_MAX as f64));
    }
    Ok(extents)
}

#[cfg(test)]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers"
)]
mod tests;
