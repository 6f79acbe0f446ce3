//! Intensities between voxels by a cubic B-spline: one resampling that blurs little.
//!
//! Unser, Aldroubi & Eden, "B-spline signal processing", IEEE Trans Signal Process 41:821-848,
//! 1993: the voxels are filtered once to the spline's coefficients, so that it passes through them;
//! mirrored at the first and last voxel. Trilinear interpolation of a turned head loses the small
//! structures' borders.

use super::Affine;
use super::affine::{apply, column};

/// The filter's pole, sqrt(3) - 2.
const POLE: f32 = -0.267_949_2;
/// Terms of the causal filter's start: the pole to this power is below f32's precision.
const START_TERMS: usize = 16;

/// A volume as a spline.
pub(super) struct Spline {
    coefficients: Vec<f32>,
    dims: [usize; 3],
}

impl Spline {
    /// Of voxels, first axis fastest; all dims at least 1.
    pub fn new(mut data: Vec<f32>, dims: [usize; 3]) -> Self {
        let mut stride = 1;
        for n in dims {
            if n > 1 && !data.is_empty() {
                filter(&mut data, stride, n);
            }
            stride *= n;
        }
        Self {
            coefficients: data,
            dims,
        }
    }

    /// Values at all points of a grid that `to_voxel` takes to voxels, last axis fastest; 0 more
    /// than half a voxel outside.
    #[allow(clippy::cast_precision_loss, reason = "grid indices")]
    pub fn grid(&self, grid: [usize; 3], to_voxel: &Affine) -> Vec<f32> {
        let mut out = Vec::with_capacity(grid.iter().product());
        let step = column(to_voxel, 2);
        for x in 0..grid[0] {
            for y in 0..grid[1] {
                let start = apply(to_voxel, [x as f64, y as f64, 0.0]);
                for z in 0..grid[2] {
                    let place = std::array::from_fn(|n| start[n] + step[n] * z as f64);
                    out.push(self.at(place));
                }
            }
        }
        out
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "places are checked to lie within half a voxel of the volume"
    )]
    fn at(&self, place: [f64; 3]) -> f32 {
        let mut taps = [([0_usize; 4], [0.0_f32; 4]); 3];
        for ((tap, p), n) in taps.iter_mut().zip(place).zip(self.dims) {
            if !(-0.5..=n as f64 - 0.5).contains(&p) {
                return 0.0;
            }
            let first = p.floor();
            let from = first as isize - 1;
            *tap = (
                std::array::from_fn(|t| mirrored(from + t.cast_signed(), n)),
                weights((p - first) as f32),
            );
        }
        let [(is, wi), (js, wj), (ks, wk)] = taps;
        let [ni, nj, _] = self.dims;
        let mut sum = 0.0;
        for (k, wk) in ks.into_iter().zip(wk) {
            for (j, wj) in js.into_iter().zip(wj) {
                let row = &self.coefficients[ni * (j + nj * k)..][..ni];
                let line = row[is[0]] * wi[0]
                    + row[is[1]] * wi[1]
                    + row[is[2]] * wi[2]
                    + row[is[3]] * wi[3];
                sum += line * wj * wk;
            }
        }
        sum
    }
}

/// What the four coefficients around a place weigh, `t` past the second.
fn weights(t: f32) -> [f32; 4] {
    let u = 1.0 - t;
    [
        u * u * u / 6.0,
        2.0 / 3.0 - t * t * (2.0 - t) / 2.0,
        2.0 / 3.0 - u * u * (2.0 - u) / 2.0,
        t * t * t / 6.0,
    ]
}

/// Index within `n` voxels that are mirrored about the first and the last, without repeating them.
fn mirrored(at: isize, n: usize) -> usize {
    if n < 2 {
        return 0;
    }
    let period = 2 * (n - 1);
    let at = at.rem_euclid(period.cast_signed()).unsigned_abs();
    if at < n { at } else { period - at }
}

/// Voxels to coefficients along an axis of `n` > 1 steps of `stride`, whole runs at a time.
fn filter(data: &mut [f32], stride: usize, n: usize) {
    for block in data.chunks_exact_mut(stride * n) {
        let mut start = vec![0.0; stride];
        let mut power = 1.0;
        for term in 0..START_TERMS {
            let from = mirrored(term.cast_signed(), n) * stride;
            for (sum, value) in start.iter_mut().zip(&block[from..from + stride]) {
                *sum += 6.0 * power * value;
            }
            power *= POLE;
        }
        for value in block.iter_mut() {
            *value *= 6.0;
        }
        block[..stride].copy_from_slice(&start);
        for at in 1..n {
            let (before, here) = block.split_at_mut(at * stride);
            let before = &before[(at - 1) * stride..];
            for (value, before) in here[..stride].iter_mut().zip(before) {
                *value += POLE * before;
            }
        }
        let (before, last) = block.split_at_mut((n - 1) * stride);
        let before = &before[(n - 2) * stride..];
        for (value, before) in last.iter_mut().zip(before) {
            *value = POLE / (POLE * POLE - 1.0) * (*value + POLE * before);
        }
        for at in (0..n - 1).rev() {
            let (here, after) = block.split_at_mut((at + 1) * stride);
            for (value, after) in here[at * stride..].iter_mut().zip(&after[..stride]) {
                *value = POLE * (after - *value);
            }
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small numbers"
)]
mod tests {
    use super::*;
    use crate::volume::affine::{IDENTITY, scale};

    fn noisy(dims: [usize; 3]) -> Vec<f32> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 655.36
        };
        (0..dims.iter().product()).map(|_| next()).collect()
    }

    #[test]
    fn it_passes_through_the_voxels() {
        for dims in [[9, 8, 7], [2, 3, 1], [1, 1, 1], [20, 1, 2]] {
            let data = noisy(dims);
            let got = Spline::new(data.clone(), dims).grid(dims, &IDENTITY);
            for i in 0..dims[0] {
                for j in 0..dims[1] {
                    for k in 0..dims[2] {
                        let want = data[i + dims[0] * (j + dims[1] * k)];
                        let got = got[(i * dims[1] + j) * dims[2] + k];
                        assert!((got - want).abs() < 1e-3, "{dims:?}: {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_smooth_picture_is_met_between_voxels() {
        let dims = [40, 40, 40];
        let wave = |x: f64| ((x / 3.0).sin() * 100.0) as f32;
        let mut data = Vec::new();
        for _ in 0..dims[1] * dims[2] {
            data.extend((0..dims[0]).map(|i| wave(i as f64)));
        }
        let mut half = IDENTITY.map(|row| scale([row[0], row[1], row[2]], 0.5));
        half[0][0] = 0.5;
        let half = half.map(|[a, b, c]| [a, b, c, 5.25]);
        let got = Spline::new(data, dims).grid([50, 2, 2], &half);
        for (x, got) in got.iter().step_by(4).enumerate() {
            let want = wave(5.25 + 0.5 * x as f64);
            assert!((got - want).abs() < 0.1, "{x}: {got} {want}");
        }
    }

    #[test]
    fn nothing_lies_outside() {
        let mut moved = IDENTITY;
        moved[0][3] = -0.6;
        let got = Spline::new(vec![5.0; 8], [2, 2, 2]).grid([3, 1, 1], &moved);
        assert!(got[0] == 0.0 && (got[1] - 5.0).abs() < 1e-4, "{got:?}");
        assert!((got[2] - 5.0).abs() < 1e-4);
    }
}
