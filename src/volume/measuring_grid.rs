//! Any volume on the measuring network's grid: a box of 160 x 192 x 160 voxels of about 1 mm.
//!
//! The box lies along the input's own axes, turned and flipped to the nearest RAS order, never
//! rotated. Along an axis whose voxels are about 1 mm the input's own voxels are taken as they
//! are, so nothing is blurred and nothing shifts; along others the input is resampled to 1 mm.
//! Every place is counted in mm from the first voxel of the (turned) input, and a resampled axis
//! has a sample exactly there.
//!
//! The same steps as `training/firstread_training/measuring.py`.

use super::affine::{
    Vector, add, apply, column, compose, determinant, from_columns, inverse, scale, unit,
    voxel_sizes,
};
use super::reorient::{Turn, turn_to_ras};
use super::resample::{smooth, taps};
use super::screening_grid::{finite_and_positive, normalise};
use super::{Affine, NotAVolume, Volume, components};

/// Voxels along x (to the right), y (anterior), z (superior).
pub const GRID: [usize; 3] = [160, 192, 160];
/// Spacing of resampled axes, mm.
const STEP_MM: f64 = 1.0;
/// Voxels of this size, mm, are taken as they are.
const OWN_VOXELS_MM: std::ops::RangeInclusive<f64> = 0.85..=1.15;
/// The box's last voxel lies this far above the brain's last plane, mm.
const TOP_MARGIN_MM: f64 = 6.0;
/// Distance of the planes in which the brain is counted, mm: the screening network's voxels.
const PLANE_MM: f64 = 2.0;
/// Brain voxels (2 mm) in a plane that counts.
const PLANE_VOXELS_MIN: usize = 30;
/// Planes looked at on either side of the input's first voxel.
const PLANES_MAX: usize = 512;

/// Where the screening network saw brain.
#[derive(Debug, Clone, Copy)]
pub struct Brain<'a> {
    /// Labels, 0 is background; z fastest.
    pub labels: &'a [u8],
    /// Voxels along x, y, z.
    pub dims: [usize; 3],
    /// Index to RAS mm, 2 mm isotropic.
    pub affine: Affine,
}

/// One axis of the box, along an axis of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    /// Axis of the input it runs along.
    input: usize,
    /// Against that axis.
    against: bool,
    /// Voxels of the input along it, and their spacing.
    length: usize,
    spacing_mm: f64,
    /// Spacing of the box, the input's own or 1 mm.
    step_mm: f64,
    /// First sample of the box, in steps from the input's first voxel.
    start: i64,
}

/// Where the box lies in the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    axes: [Axis; 3],
    input_dims: [usize; 3],
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

/// What one sample of the box reads along an axis of the input.
#[derive(Clone, Copy)]
struct Reading {
    first: usize,
    second: usize,
    share: f32,
}

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
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "places within a head, far below 2^31 steps"
    )]
    pub fn new(volume: &Volume, brain: &Brain) -> Result<Self, NotAVolume> {
        let turn = turn_to_ras(&volume.affine);
        let (turned, spacings) = turned_affine(volume, turn)?;
        let extents = brain_extent(&turned, spacings, brain)?;
        let axes: [Axis; 3] = std::array::from_fn(|n| {
            let (input, against) = turn[n];
            let spacing_mm = spacings[n];
            let step_mm = if OWN_VOXELS_MM.contains(&spacing_mm) {
                spacing_mm
            } else {
                STEP_MM
            };
            let last = GRID[n] - 1;
            let [low, high] = extents[n];
            let start = if n == 2 {
                rounded((high + TOP_MARGIN_MM) / step_mm) - last.cast_signed() as i64
            } else {
                rounded(f64::midpoint(low, high) / step_mm - last as f64 / 2.0)
            };
            Axis {
                input,
                against,
                length: volume.dims[input],
                spacing_mm,
                step_mm,
                start,
            }
        });
        let mut origin = column(&turned, 3);
        let mut columns = [[0.0; 3]; 3];
        for (n, axis) in axes.iter().enumerate() {
            let along = scale(column(&turned, n), axis.step_mm / axis.spacing_mm);
            columns[n] = along;
            origin = add(origin, scale(along, axis.start as f64));
        }
        Ok(Self {
            axes,
            input_dims: volume.dims,
            affine: from_columns(columns[0], columns[1], columns[2], origin),
        })
    }

    /// Volume of a voxel of the box, mm3: with the true spacings.
    #[must_use]
    pub fn voxel_mm3(&self) -> f64 {
        determinant(&self.affine).abs()
    }

    /// Spacing of the input along x, y, z of the box, mm.
    #[must_use]
    pub fn input_spacing_mm(&self) -> [f64; 3] {
        self.axes.map(|axis| axis.spacing_mm)
    }

    /// First and last sample of the box along each axis that lie inside the input.
    #[must_use]
    pub fn inside(&self) -> [Option<[usize; 2]>; 3] {
        std::array::from_fn(|n| {
            let readings = self.axes[n].readings(GRID[n]);
            let first = readings.iter().position(Option::is_some)?;
            let last = readings.iter().rposition(Option::is_some)?;
            Some([first, last])
        })
    }

    /// Intensities in the box, before they are scaled.
    fn values(&self, volume: &Volume) -> Vec<f32> {
        let data = finite_and_positive(&volume.data);
        let mut filters = [Vec::new(), Vec::new(), Vec::new()];
        for axis in self.axes.iter().filter(|axis| !axis.is_own()) {
            filters[axis.input] = taps(axis.spacing_mm, axis.step_mm);
        }
        let data = smooth(&data, volume.dims, &filters);
        let strides = strides(volume.dims);
        let [xs, ys, zs]: [Vec<Option<Reading>>; 3] =
            std::array::from_fn(|n| self.axes[n].readings(GRID[n]));
        let [sx, sy, sz] = self.axes.map(|axis| strides[axis.input]);
        let mut out = vec![0.0; GRID.iter().product()];
        let rows = xs.iter().flat_map(|x| ys.iter().map(move |y| (x, y)));
        for ((x, y), row) in rows.zip(out.chunks_exact_mut(GRID[2])) {
            let (Some(x), Some(y)) = (x, y) else {
                continue;
            };
            for (value, z) in row.iter_mut().zip(&zs) {
                let Some(z) = z else { continue };
                let at = |i: usize, j: usize, k: usize| data[i * sx + j * sy + k * sz];
                let line =
                    |i: usize, j: usize| blend(at(i, j, z.first), at(i, j, z.second), z.share);
                let plane = |i: usize| blend(line(i, y.first), line(i, y.second), y.share);
                *value = blend(plane(x.first), plane(x.second), x.share);
            }
        }
        out
    }

    /// Labels of the box on the input's grid (first axis fastest): exact copies where the box has
    /// the input's own voxels, else the nearest; 0 outside the box.
    #[must_use]
    pub fn labels_on_input(&self, labels: &[u8]) -> Vec<u8> {
        self.on_input(0, |maps, [x, y, z]| {
            let at = |n: usize, i: usize| maps[n][i].map(Reading::nearest);
            match (at(0, x), at(1, y), at(2, z)) {
                (Some(x), Some(y), Some(z)) => labels[(x * GRID[1] + y) * GRID[2] + z],
                _ => 0,
            }
        })
    }

    /// Values of the box on the input's grid (first axis fastest): exact copies where the box has
    /// the input's own voxels, else interpolated; 0 outside the box.
    #[must_use]
    pub fn values_on_input(&self, values: &[f32]) -> Vec<f32> {
        self.on_input(0.0, |maps, [x, y, z]| {
            let (Some(x), Some(y), Some(z)) = (maps[0][x], maps[1][y], maps[2][z]) else {
                return 0.0;
            };
            let at = |i: usize, j: usize, k: usize| values[(i * GRID[1] + j) * GRID[2] + k];
            let line = |i: usize, j: usize| blend(at(i, j, z.first), at(i, j, z.second), z.share);
            let plane = |i: usize| blend(line(i, y.first), line(i, y.second), y.share);
            blend(plane(x.first), plane(x.second), x.share)
        })
    }

    /// Every voxel of the input, by its indices along the box's axes.
    fn on_input<T: Copy>(
        &self,
        empty: T,
        look: impl Fn(&[Vec<Option<Reading>>; 3], [usize; 3]) -> T,
    ) -> Vec<T> {
        let maps: [Vec<Option<Reading>>; 3] =
            std::array::from_fn(|n| self.axes[n].readings_of_box(GRID[n]));
        let [ni, nj, nk] = self.input_dims;
        let mut out = vec![empty; ni * nj * nk];
        let mut at = 0;
        for k in 0..nk {
            for j in 0..nj {
                for i in 0..ni {
                    let index = [i, j, k];
                    out[at] = look(&maps, self.axes.map(|axis| index[axis.input]));
                    at += 1;
                }
            }
        }
        out
    }
}

impl Reading {
    fn nearest(self) -> usize {
        if self.share < 0.5 {
            self.first
        } else {
            self.second
        }
    }

    /// More than half a step outside is outside; nearer places clamp to the edge.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie inside before it is cast"
    )]
    fn at(place: f64, length: usize) -> Option<Self> {
        let last = length.checked_sub(1)? as f64;
        if !(-0.5..=last + 0.5).contains(&place) {
            return None;
        }
        let place = place.clamp(0.0, last);
        let first = (place.floor() as usize).min(length.saturating_sub(2));
        Some(Self {
            first,
            second: (first + 1).min(length - 1),
            share: (place - first as f64) as f32,
        })
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "indices along an axis are small"
)]
impl Axis {
    /// Whether the box has the input's own voxels along it.
    fn is_own(&self) -> bool {
        self.step_mm == self.spacing_mm
    }

    /// Index along the input's axis of a place counted from its (turned) first voxel.
    fn index(&self, turned: usize) -> usize {
        if self.against {
            self.length - 1 - turned
        } else {
            turned
        }
    }

    /// What each of `count` samples of the box reads.
    fn readings(&self, count: usize) -> Vec<Option<Reading>> {
        let of = |n: usize| {
            let step = self.start + n.cast_signed() as i64;
            let read = if self.is_own() {
                let at = usize::try_from(step).ok().filter(|at| *at < self.length)?;
                Reading {
                    first: at,
                    second: at,
                    share: 0.0,
                }
            } else {
                Reading::at(step as f64 * self.step_mm / self.spacing_mm, self.length)?
            };
            Some(Reading {
                first: self.index(read.first),
                second: self.index(read.second),
                share: read.share,
            })
        };
        (0..count).map(of).collect()
    }

    /// What each voxel of the input reads of the box's `count` samples.
    fn readings_of_box(&self, count: usize) -> Vec<Option<Reading>> {
        let of = |index: usize| {
            let turned = self.index(index);
            if self.is_own() {
                let at = turned.cast_signed() as i64 - self.start;
                let at = usize::try_from(at).ok().filter(|at| *at < count)?;
                return Some(Reading {
                    first: at,
                    second: at,
                    share: 0.0,
                });
            }
            let place = turned as f64 * self.spacing_mm / self.step_mm - self.start as f64;
            Reading::at(place, count).filter(|_| place < count as f64 - 0.5)
        };
        (0..self.length).map(of).collect()
    }
}

fn blend(first: f32, second: f32, share: f32) -> f32 {
    first + (second - first) * share
}

fn strides(dims: [usize; 3]) -> [usize; 3] {
    [1, dims[0], dims[0] * dims[1]]
}

/// Half up.
#[allow(
    clippy::cast_possible_truncation,
    reason = "saturates; a head is far smaller"
)]
fn rounded(value: f64) -> i64 {
    (value + 0.5).floor() as i64
}

/// The affine after the turn, and the spacing along its axes, mm.
#[allow(clippy::cast_precision_loss, reason = "axis lengths are small")]
fn turned_affine(volume: &Volume, turn: Turn) -> Result<(Affine, Vector), NotAVolume> {
    let sizes = voxel_sizes(&volume.affine);
    let mut origin = column(&volume.affine, 3);
    let mut columns = [[0.0; 3]; 3];
    for (n, (axis, against)) in turn.into_iter().enumerate() {
        let along = column(&volume.affine, axis);
        if unit(along).is_none() {
            return Err(NotAVolume::because("the image's axes span no space"));
        }
        columns[n] = if against { scale(along, -1.0) } else { along };
        if against {
            let last = volume.dims[axis].saturating_sub(1) as f64;
            origin = add(origin, scale(along, last));
        }
    }
    let affine = from_columns(columns[0], columns[1], columns[2], origin);
    Ok((affine, turn.map(|(axis, _)| sizes[axis])))
}

/// From where to where planes hold brain along each axis of the turned input, mm from its first
/// voxel. Planes are counted from there, too: an upright screening grid lies on odd mm, so each
/// of its planes falls into the middle of a bin.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "planes are checked to lie within the range"
)]
fn brain_extent(
    turned: &Affine,
    spacings: Vector,
    brain: &Brain,
) -> Result<[[f64; 2]; 3], NotAVolume> {
    let no_brain = || NotAVolume::because("no brain was found");
    let to_input =
        inverse(turned).ok_or_else(|| NotAVolume::because("the image's axes span no space"))?;
    let map = compose(&to_input, &brain.affine);
    let mm = |index: Vector| -> Vector {
        let at = apply(&map, index);
        std::array::from_fn(|n| at[n] * spacings[n])
    };
    let mut counts = vec![[0_usize; 3]; 2 * PLANES_MAX];
    let [_, ny, nz] = brain.dims;
    for at in components::largest(brain.dims, |at| brain.labels[at] != 0) {
        let index = [at / (ny * nz), at / nz % ny, at % nz].map(|i| i as f64);
        for (n, place) in mm(index).into_iter().enumerate() {
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
