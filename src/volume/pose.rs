//! How the head lies: the rotation that brings it upright, from where screening found structures.
//!
//! The same steps as `training/firstread_training/measuring.py`, step 1. The middles of structures
//! are matched with those of an atlas by an affine of least squares; the nearest rotation of its
//! linear part, by polar decomposition (Higham, SIAM J Sci Stat Comput 7:1160-1174, 1986), is kept.

use super::Affine;
use super::affine::{
    Vector, add, apply, column, compose, determinant, dot, from_columns, inverse, scale, subtract,
};
use super::measuring_grid::Brain;

/// Voxels (2 mm) of a structure that has a middle.
const STRUCTURE_VOXELS_MIN: usize = 25;
/// Structures that must be found.
const STRUCTURES_MIN: usize = 12;
/// A head that fits the atlas worse than this says nothing, mm root mean square.
const RMS_MM_MAX: f64 = 10.0;
/// A head that lies further from RAS than this is more likely mislabelled.
const DEGREES_MAX: f64 = 45.0;
/// Newton's steps to the nearest rotation; it converges in six or so.
const POLAR_ROUNDS: usize = 30;

/// Middles of structures by FreeSurfer code, upright mm: `measuring.upright_middles()`.
pub(super) const MIDDLES: [(i64, Vector); 29] = [
    (2, [-29.12, -4.66, 21.21]),
    (3, [-33.52, -4.22, 18.54]),
    (4, [-15.26, -0.82, 18.44]),
    (7, [-18.75, -25.4, -35.99]),
    (8, [-24.68, -32.49, -41.77]),
    (10, [-12.59, -2.52, 10.94]),
    (11, [-15.65, 19.53, 22.87]),
    (12, [-27.54, 14.15, 11.29]),
    (13, [-21.66, 10.44, 9.07]),
    (14, [0.0, 5.41, 5.55]),
    (15, [0.0, -18.57, -31.24]),
    (16, [0.0, -7.25, -25.88]),
    (17, [-27.31, -2.9, -8.08]),
    (18, [-25.24, 12.21, -6.81]),
    (26, [-10.35, 23.57, 8.88]),
    (28, [-11.76, 1.74, -1.72]),
    (41, [29.12, -4.66, 21.21]),
    (42, [33.52, -4.22, 18.54]),
    (43, [15.26, -0.82, 18.44]),
    (46, [18.75, -25.4, -35.99]),
    (47, [24.68, -32.49, -41.77]),
    (49, [12.59, -2.52, 10.94]),
    (50, [15.65, 19.53, 22.87]),
    (51, [27.54, 14.15, 11.29]),
    (52, [21.66, 10.44, 9.07]),
    (53, [27.31, -2.9, -8.08]),
    (54, [25.24, 12.21, -6.81]),
    (58, [10.35, 23.57, 8.88]),
    (60, [11.76, 1.74, -1.72]),
];

/// RAS mm to upright mm, or `None` where the labels do not say how the head lies.
pub(super) fn upright(brain: &Brain) -> Option<Affine> {
    fit(&found(brain))
}

/// A structure: where it lies, where it lies upright, what it counts.
pub(super) type Match = (Vector, Vector, f64);

#[allow(clippy::cast_precision_loss, reason = "counts of voxels")]
fn found(brain: &Brain) -> Vec<Match> {
    let mut sums = vec![([0_usize; 3], 0_usize); 256];
    let [_, ny, nz] = brain.dims;
    for (at, label) in brain.labels.iter().enumerate() {
        if *label == 0 {
            continue;
        }
        let (sum, count) = &mut sums[usize::from(*label)];
        for (s, i) in sum.iter_mut().zip([at / (ny * nz), at / nz % ny, at % nz]) {
            *s += i;
        }
        *count += 1;
    }
    let of = |(code, place): &(i64, Vector)| -> Option<Match> {
        let label = brain.codes.iter().position(|c| c == code)?;
        let (sum, count) = sums.get(label)?;
        (*count >= STRUCTURE_VOXELS_MIN).then(|| {
            let n = *count as f64;
            let middle = apply(&brain.affine, sum.map(|s| s as f64 / n));
            (middle, *place, n / (n + STRUCTURE_VOXELS_MIN as f64))
        })
    };
    MIDDLES.iter().filter_map(of).collect()
}

/// The rotation and shift that bring the first places of matches upright.
pub(super) fn fit(matches: &[Match]) -> Option<Affine> {
    if matches.len() < STRUCTURES_MIN {
        return None;
    }
    let whole: f64 = matches.iter().map(|m| m.2).sum();
    let middle = |which: fn(&Match) -> Vector| {
        let part = |m: &Match| scale(which(m), m.2 / whole);
        matches.iter().map(part).fold([0.0; 3], add)
    };
    let (here, there) = (middle(|m| m.0), middle(|m| m.1));
    // Sums of products: of the found places with themselves, and with those of the atlas.
    let (mut spread, mut both) = ([[0.0; 3]; 3], [[0.0; 3]; 3]);
    for (from, to, weight) in matches {
        let (x, y) = (subtract(*from, here), subtract(*to, there));
        add_product(&mut spread, weight / whole, x, x);
        add_product(&mut both, weight / whole, y, x);
    }
    let spread = from_rows(spread);
    if determinant(&spread).abs() < 1e-6 {
        return None;
    }
    let linear = compose(&from_rows(both), &inverse(&spread)?);
    let left: f64 = (matches.iter())
        .map(|(from, to, weight)| {
            let off = subtract(apply(&linear, subtract(*from, here)), subtract(*to, there));
            weight / whole * dot(off, off)
        })
        .sum();
    // Not a number is no fit either.
    if left.is_nan() || left.sqrt() > RMS_MM_MAX || determinant(&linear) <= 1e-3 {
        return None;
    }
    let mut turn = linear;
    for _ in 0..POLAR_ROUNDS {
        turn = halfway(&turn, &transposed(&inverse(&turn)?));
    }
    let trace = turn[0][0] + turn[1][1] + turn[2][2];
    if trace < 1.0 + 2.0 * DEGREES_MAX.to_radians().cos() {
        return None;
    }
    let shift = subtract(there, apply(&turn, here));
    Some(from_columns(
        column(&turn, 0),
        column(&turn, 1),
        column(&turn, 2),
        shift,
    ))
}

/// Adds the products of all components of two vectors, first one's by row.
fn add_product(sum: &mut [[f64; 3]; 3], weight: f64, rows: Vector, columns: Vector) {
    for (row, a) in sum.iter_mut().zip(rows) {
        for (cell, b) in row.iter_mut().zip(columns) {
            *cell += weight * a * b;
        }
    }
}

fn from_rows(rows: [[f64; 3]; 3]) -> Affine {
    rows.map(|[a, b, c]| [a, b, c, 0.0])
}

fn transposed(m: &Affine) -> Affine {
    from_columns(
        [m[0][0], m[0][1], m[0][2]],
        [m[1][0], m[1][1], m[1][2]],
        [m[2][0], m[2][1], m[2][2]],
        [0.0; 3],
    )
}

fn halfway(a: &Affine, b: &Affine) -> Affine {
    std::array::from_fn(|row| std::array::from_fn(|at| f64::midpoint(a[row][at], b[row][at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The atlas's own places, turned and moved as a head that lies so.
    fn lying(turn: &Affine) -> Vec<Match> {
        let back = inverse(turn).unwrap();
        let of = |(_, place): &(i64, Vector)| (apply(&back, *place), *place, 0.8);
        MIDDLES.iter().map(of).collect()
    }

    fn turned(degrees: f64, axis: usize, shift: Vector) -> Affine {
        let (s, c) = degrees.to_radians().sin_cos();
        let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut rows = [[0.0; 3]; 3];
        rows[axis][axis] = 1.0;
        (rows[a][a], rows[a][b], rows[b][a], rows[b][b]) = (c, -s, s, c);
        let mut out = from_rows(rows);
        for (row, mm) in out.iter_mut().zip(shift) {
            row[3] = mm;
        }
        out
    }

    #[track_caller]
    fn check(turn: &Affine, found: Option<Affine>) {
        let found = found.expect("a pose");
        for (got, want) in found.iter().flatten().zip(turn.iter().flatten()) {
            assert!((got - want).abs() < 1e-9, "{found:?} {turn:?}");
        }
    }

    #[test]
    fn a_turned_head_is_brought_back() {
        for axis in 0..3 {
            for degrees in [-40.0, -9.0, 0.0, 6.0, 40.0] {
                let turn = turned(degrees, axis, [3.0, -20.0, 11.0]);
                check(&turn, fit(&lying(&turn)));
            }
        }
    }

    #[test]
    fn size_turns_nothing() {
        let turn = turned(12.0, 0, [0.0; 3]);
        let mut matches = lying(&turn);
        for (from, _, _) in &mut matches {
            *from = scale(*from, 0.8);
        }
        let mut found = fit(&matches).unwrap();
        for row in &mut found {
            // The middle of the structures stays where it is, not that of the head.
            assert!(row[3].abs() < 0.1);
            row[3] = 0.0;
        }
        check(&turn, Some(found));
    }

    #[test]
    fn what_does_not_fit_says_nothing() {
        let upside_down = turned(180.0, 1, [0.0; 3]);
        assert!(fit(&lying(&upside_down)).is_none());
        let right = lying(&turned(0.0, 0, [0.0; 3]));
        assert!(fit(&right[..STRUCTURES_MIN - 1]).is_none());
        let mut mirrored = right.clone();
        for (from, _, _) in &mut mirrored {
            from[0] = -from[0];
        }
        assert!(fit(&mirrored).is_none(), "sides swapped");
        let mut scattered = right.clone();
        for (n, (from, _, _)) in scattered.iter_mut().enumerate() {
            from[n % 3] += if n % 2 == 0 { 40.0 } else { -40.0 };
        }
        assert!(fit(&scattered).is_none());
        let mut flat = right;
        for (from, _, _) in &mut flat {
            from[2] = 0.0;
        }
        assert!(fit(&flat).is_none());
    }
}
