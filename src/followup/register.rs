//! Where a place of the present scan lies in the earlier one: a rigid movement of the head.
//!
//! The middles of structures that both label maps hold are paired, and the movement that brings them
//! together best is solved for in closed form (B. K. P. Horn, "Closed-form solution of absolute
//! orientation using unit quaternions", J Opt Soc Am A 4:629-642, 1987). Structures that moved
//! against the others are left out of it.

use std::collections::BTreeMap;

use super::{LabelMap, NotRegistered};
use crate::volume::Affine;
use crate::volume::affine::{Vector, add, apply, length, scale, subtract};

/// Compact structures, by FreeSurfer code: their middles are sharp.
const LANDMARKS: [u8; 23] = [
    7, 46, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 14, 15, 16, 17, 53, 18, 54, 26, 58, 28, 60,
];
/// A structure of fewer voxels is no landmark.
const VOXELS_MIN: usize = 20;
/// Structures that must fit together.
const PAIRS_MIN: usize = 8;
/// A structure that lies further off than so many times the middle distance is left out ...
const OUTLIER_TIMES: f64 = 2.5;
/// ... but not if it is nearer than this, mm.
const OUTLIER_MM_MIN: f64 = 2.0;
/// How often outliers are looked for.
const ROUNDS_MAX: usize = 5;
/// Heads that fit worse are not the same head, or not labelled the same way, mm.
const RMS_MM_MAX: f64 = 3.0;
/// Sweeps of Jacobi's method over a 4 x 4 matrix; it converges in five or six.
const SWEEPS_MAX: usize = 30;

/// From the present scan to the earlier one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Registration {
    /// RAS mm of the present scan to RAS mm of the earlier one.
    pub to_prior: Affine,
    /// How well the landmarks fit, root mean square, mm.
    pub rms_mm: f64,
    /// Landmarks that it rests on.
    pub landmarks: usize,
}

/// Registers the present label map to the earlier one.
///
/// # Errors
/// Where too few structures are in both, or they do not fit together.
pub fn register(present: &LabelMap, prior: &LabelMap) -> Result<Registration, NotRegistered> {
    let (here, there) = (middles(present), middles(prior));
    let all: Vec<(Vector, Vector)> = here
        .iter()
        .filter_map(|(code, from)| Some((*from, *there.get(code)?)))
        .collect();
    let mut kept = all.clone();
    for _ in 0..ROUNDS_MAX {
        if kept.len() < PAIRS_MIN {
            return Err(NotRegistered::TooFewStructures);
        }
        let to_prior = rigid(&kept).ok_or(NotRegistered::TooFewStructures)?;
        let off = |(from, to): &(Vector, Vector)| length(subtract(apply(&to_prior, *from), *to));
        let mut distances: Vec<f64> = all.iter().map(off).collect();
        distances.sort_by(f64::total_cmp);
        let limit = (OUTLIER_TIMES * distances[distances.len() / 2]).max(OUTLIER_MM_MIN);
        let next: Vec<_> = all.iter().filter(|p| off(p) <= limit).copied().collect();
        if next == kept {
            let squares: f64 = kept.iter().map(|pair| off(pair).powi(2)).sum();
            let rms_mm = (squares / kept.len() as f64).sqrt();
            return if rms_mm <= RMS_MM_MAX {
                Ok(Registration {
                    to_prior,
                    rms_mm,
                    landmarks: kept.len(),
                })
            } else {
                Err(NotRegistered::DoNotFit)
            };
        }
        kept = next;
    }
    Err(NotRegistered::DoNotFit)
}

/// Middle of each landmark, RAS mm.
fn middles(map: &LabelMap) -> BTreeMap<u8, Vector> {
    let mut sums: BTreeMap<u8, ([f64; 3], usize)> = BTreeMap::new();
    let [nx, ny, _] = map.dims;
    for (at, code) in map.codes.iter().enumerate() {
        if *code == 0 || !LANDMARKS.contains(code) {
            continue;
        }
        let (sum, count) = sums.entry(*code).or_default();
        let index = [at % nx, at / nx % ny, at / (nx * ny)];
        for (s, i) in sum.iter_mut().zip(index) {
            *s += i as f64;
        }
        *count += 1;
    }
    sums.into_iter()
        .filter(|(_, (_, count))| *count >= VOXELS_MIN)
        .map(|(code, (sum, count))| (code, apply(&map.affine, scale(sum, 1.0 / count as f64))))
        .collect()
}

/// The rigid movement that brings the first points of pairs to the second ones with the least sum of
/// squares. `None` for points that do not say where the head is turned.
#[must_use]
pub fn rigid(pairs: &[(Vector, Vector)]) -> Option<Affine> {
    if pairs.len() < 3 {
        return None;
    }
    let part = 1.0 / pairs.len() as f64;
    let middle = |which: fn(&(Vector, Vector)) -> Vector| {
        scale(pairs.iter().map(which).fold([0.0; 3], add), part)
    };
    let (from_middle, to_middle) = (middle(|p| p.0), middle(|p| p.1));
    let mut s = [[0.0; 3]; 3];
    for (from, to) in pairs {
        let (a, b) = (subtract(*from, from_middle), subtract(*to, to_middle));
        for (row, a) in s.iter_mut().zip(a) {
            for (cell, b) in row.iter_mut().zip(b) {
                *cell += a * b;
            }
        }
    }
    let n = [
        [
            s[0][0] + s[1][1] + s[2][2],
            s[1][2] - s[2][1],
            s[2][0] - s[0][2],
            s[0][1] - s[1][0],
        ],
        [
            s[1][2] - s[2][1],
            s[0][0] - s[1][1] - s[2][2],
            s[0][1] + s[1][0],
            s[2][0] + s[0][2],
        ],
        [
            s[2][0] - s[0][2],
            s[0][1] + s[1][0],
            s[1][1] - s[0][0] - s[2][2],
            s[1][2] + s[2][1],
        ],
        [
            s[0][1] - s[1][0],
            s[2][0] + s[0][2],
            s[1][2] + s[2][1],
            s[2][2] - s[0][0] - s[1][1],
        ],
    ];
    let (values, vectors) = eigen(n)?;
    let mut order = [0, 1, 2, 3];
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    // Points on a line leave the turn about that line open: the two largest are equal.
    let spread = values[order[0]].abs().max(f64::MIN_POSITIVE);
    if (values[order[0]] - values[order[1]]) / spread < 1e-6 {
        return None;
    }
    let [w, x, y, z] = std::array::from_fn(|row| vectors[row][order[0]]);
    let turn = [
        [
            w * w + x * x - y * y - z * z,
            2.0 * (x * y - w * z),
            2.0 * (x * z + w * y),
        ],
        [
            2.0 * (x * y + w * z),
            w * w - x * x + y * y - z * z,
            2.0 * (y * z - w * x),
        ],
        [
            2.0 * (x * z - w * y),
            2.0 * (y * z + w * x),
            w * w - x * x - y * y + z * z,
        ],
    ];
    let affine = turn.map(|r| [r[0], r[1], r[2], 0.0]);
    let shift = subtract(to_middle, apply(&affine, from_middle));
    Some(std::array::from_fn(|r| {
        [affine[r][0], affine[r][1], affine[r][2], shift[r]]
    }))
}

/// Eigenvalues and eigenvectors (as columns) of a symmetric matrix, by Jacobi's method.
fn eigen(mut a: [[f64; 4]; 4]) -> Option<([f64; 4], [[f64; 4]; 4])> {
    if !a.iter().flatten().all(|v| v.is_finite()) {
        return None;
    }
    let mut vectors = [[0.0; 4]; 4];
    for (i, row) in vectors.iter_mut().enumerate() {
        row[i] = 1.0;
    }
    for _ in 0..SWEEPS_MAX {
        for p in 0..4 {
            for q in p + 1..4 {
                if a[p][q].abs() < f64::MIN_POSITIVE {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..4 {
                    (a[k][p], a[k][q]) = (c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]);
                }
                for k in 0..4 {
                    (a[p][k], a[q][k]) = (c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]);
                }
                for row in &mut vectors {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
            }
        }
    }
    Some((std::array::from_fn(|i| a[i][i]), vectors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::followup::scenes::{moved, scene};

    fn close(a: Vector, b: Vector, mm: f64) -> bool {
        length(subtract(a, b)) < mm
    }

    #[test]
    fn a_known_movement_is_found_again() {
        let movement = moved(0.3, [4.0, -7.5, 12.0]);
        let points = [
            [10.0, 0.0, 0.0],
            [0.0, 20.0, 0.0],
            [0.0, 0.0, 30.0],
            [-5.0, 4.0, -9.0],
            [40.0, -40.0, 2.0],
        ];
        let pairs: Vec<_> = points.iter().map(|p| (*p, apply(&movement, *p))).collect();
        let found = rigid(&pairs).unwrap();
        for (from, to) in pairs {
            assert!(close(apply(&found, from), to, 1e-9), "{found:?}");
        }
    }

    #[test]
    fn points_on_a_line_say_nothing() {
        let pairs: Vec<_> = (0..5)
            .map(|i| ([f64::from(i), 0.0, 0.0], [f64::from(i), 0.0, 0.0]))
            .collect();
        assert_eq!(rigid(&pairs), None);
        assert_eq!(rigid(&pairs[..2]), None);
        assert_eq!(rigid(&[([f64::NAN; 3], [0.0; 3]); 4]), None);
    }

    #[test]
    fn heads_are_registered_by_their_structures() {
        let movement = moved(0.15, [3.0, -2.0, 5.0]);
        let (present, prior) = (scene(&[]), scene(&[]).seen_after(&movement));
        let found = register(&present.map, &prior.map).unwrap();
        assert!(found.rms_mm < 1.0, "{found:?}");
        for place in [[0.0, 0.0, 0.0], [20.0, -10.0, 15.0]] {
            let (got, want) = (apply(&found.to_prior, place), apply(&movement, place));
            assert!(close(got, want, 0.7), "{got:?} {want:?}");
        }
    }

    #[test]
    fn one_structure_that_moved_is_left_out() {
        let present = scene(&[]);
        let mut prior = scene(&[]);
        prior.put(17, [25.0, 25.0, 25.0], 4);
        let found = register(&present.map, &prior.map).unwrap();
        assert!(close(apply(&found.to_prior, [5.0; 3]), [5.0; 3], 0.3));
        assert_eq!(found.landmarks, LANDMARKS.len() - 1);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (present, mut empty) = (scene(&[]), scene(&[]));
        empty.map.codes.fill(2);
        assert_eq!(
            register(&present.map, &empty.map),
            Err(NotRegistered::TooFewStructures)
        );
        let mut squeezed = scene(&[]);
        squeezed.map.affine[0][0] *= 0.5;
        assert!(register(&present.map, &squeezed.map).is_err());
    }
}
