//! Distances between surfaces, by an exact Euclidean distance transform
//! (Felzenszwalb and Huttenlocher, Theory of Computing 2012).

use serde::Serialize;

use super::Labels;
use crate::volume::affine::voxel_sizes;

/// Distances between two surfaces, both ways together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SurfaceDistance {
    /// Mean, mm.
    pub mean_mm: f64,
    /// 95th percentile, mm.
    pub p95_mm: f64,
}

/// A part of a label map: one structure with a margin of one voxel.
struct Cut {
    dims: [usize; 3],
    inside: Vec<bool>,
}

/// Distances between the surfaces of a code in two label maps on one grid; `None` where either has none.
/// A voxel is of the surface when one of its six neighbours is not of the structure.
#[must_use]
pub fn surface_distance(truth: &Labels, prediction: &Labels, code: u8) -> Option<SurfaceDistance> {
    let (low, high) = bounds(truth, prediction, code)?;
    let sizes = voxel_sizes(&truth.affine);
    let a = surface(&cut(truth, code, low, high));
    let b = surface(&cut(prediction, code, low, high));
    if !a.inside.contains(&true) || !b.inside.contains(&true) {
        return None;
    }
    let mut distances = Vec::new();
    for (from, to) in [(&a, &b), (&b, &a)] {
        let squared = transform(to, sizes);
        let on_surface = squared.iter().zip(&from.inside).filter(|(_, s)| **s);
        distances.extend(on_surface.map(|(d, _)| d.sqrt()));
    }
    distances.sort_by(f64::total_cmp);
    let mean_mm = super::mean(distances.iter().copied())?;
    let p95_mm = distances[(distances.len() * 95 / 100).min(distances.len() - 1)];
    Some(SurfaceDistance { mean_mm, p95_mm })
}

/// The box of a code in both maps: first voxel, and one behind the last.
fn bounds(a: &Labels, b: &Labels, code: u8) -> Option<([usize; 3], [usize; 3])> {
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    let [ni, nj, _] = a.dims;
    for (at, (x, y)) in a.codes.iter().zip(&b.codes).enumerate() {
        if *x == code || *y == code {
            let place = [at % ni, at / ni % nj, at / (ni * nj)];
            for axis in 0..3 {
                low[axis] = low[axis].min(place[axis]);
                high[axis] = high[axis].max(place[axis] + 1);
            }
        }
    }
    (high[0] > 0).then_some((low, high))
}

fn cut(labels: &Labels, code: u8, low: [usize; 3], high: [usize; 3]) -> Cut {
    let dims = [0, 1, 2].map(|axis| high[axis] - low[axis] + 2);
    let mut inside = vec![false; dims.iter().product()];
    for k in low[2]..high[2] {
        for j in low[1]..high[1] {
            for i in low[0]..high[0] {
                let place = [i - low[0] + 1, j - low[1] + 1, k - low[2] + 1];
                inside[place[0] + dims[0] * (place[1] + dims[1] * place[2])] =
                    labels.codes[labels.at(i, j, k)] == code;
            }
        }
    }
    Cut { dims, inside }
}

fn surface(cut: &Cut) -> Cut {
    let [ni, nj, _] = cut.dims;
    let steps = [1, ni, ni * nj];
    let on_surface = |at: usize| {
        // The margin keeps every neighbour of a voxel of the structure inside the box.
        cut.inside[at]
            && (steps.iter()).any(|step| !cut.inside[at - step] || !cut.inside[at + step])
    };
    Cut {
        dims: cut.dims,
        inside: (0..cut.inside.len()).map(on_surface).collect(),
    }
}

/// Squared distance in mm of each voxel to the nearest voxel of the cut.
fn transform(to: &Cut, sizes: [f64; 3]) -> Vec<f64> {
    let mut squared: Vec<f64> = to
        .inside
        .iter()
        .map(|inside| if *inside { 0.0 } else { f64::INFINITY })
        .collect();
    let mut step = 1;
    for axis in 0..3 {
        let length = to.dims[axis];
        let mut line = vec![0.0; length];
        for start in 0..squared.len() / length {
            let first = start % step + start / step * step * length;
            for (n, value) in line.iter_mut().enumerate() {
                *value = squared[first + n * step];
            }
            for (n, value) in along(&line, sizes[axis]).into_iter().enumerate() {
                squared[first + n * step] = value;
            }
        }
        step *= length;
    }
    squared
}

/// Lower envelope of the parabolas that stand on the values of one line.
#[expect(clippy::cast_precision_loss, reason = "voxel numbers are small")]
fn along(values: &[f64], size: f64) -> Vec<f64> {
    let position = |n: usize| n as f64 * size;
    // (which parabola, from where on it is the lowest)
    let mut hull: Vec<(usize, f64)> = Vec::with_capacity(values.len());
    for (n, value) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
        let x = position(n);
        let mut from = f64::NEG_INFINITY;
        while let Some((other, start)) = hull.last().copied() {
            let y = position(other);
            from = ((value + x * x) - (values[other] + y * y)) / (2.0 * (x - y));
            if from > start {
                break;
            }
            hull.pop();
            from = f64::NEG_INFINITY;
        }
        hull.push((n, from));
    }
    if hull.is_empty() {
        return values.to_vec();
    }
    let mut current = 0;
    (0..values.len())
        .map(|n| {
            let x = position(n);
            while hull.get(current + 1).is_some_and(|(_, from)| *from <= x) {
                current += 1;
            }
            let (lowest, _) = hull[current];
            let distance = x - position(lowest);
            distance * distance + values[lowest]
        })
        .collect()
}
