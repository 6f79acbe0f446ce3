//! Turns a volume's axes without touching an intensity: permutation and flips only.

use super::affine::{add, column, from_columns, scale};
use super::{Affine, Volume};

/// For each new axis: the old axis it runs along, and whether against it.
pub type Turn = [(usize, bool); 3];

/// The permutation and flips that bring the axes nearest to RAS+ (i to the right, j anterior,
/// k superior): of all 48 the one with the greatest sum of direction cosines.
#[must_use]
pub fn turn_to_ras(affine: &Affine) -> Turn {
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let sizes = super::affine::voxel_sizes(affine);
    let cosine = |row: usize, axis: usize| affine[row][axis] / sizes[axis].max(f64::MIN_POSITIVE);
    let fit = |order: &[usize; 3]| -> f64 { (0..3).map(|row| cosine(row, order[row]).abs()).sum() };
    let mut best = ORDERS[0];
    for order in ORDERS {
        // Only a clear win turns the axes: exact diagonals keep their order.
        if fit(&order) > fit(&best) + 1e-9 {
            best = order;
        }
    }
    std::array::from_fn(|row| (best[row], cosine(row, best[row]) < 0.0))
}

/// Nearest RAS+ order; the same voxels at the same places.
#[must_use]
pub fn to_ras(volume: Volume) -> Volume {
    let turn = turn_to_ras(&volume.affine);
    turned(volume, turn)
}

/// Applies `turn`. The affine follows, so every voxel stays where it was in the patient.
#[must_use]
pub fn turned(volume: Volume, turn: Turn) -> Volume {
    if turn == [(0, false), (1, false), (2, false)] {
        return volume;
    }
    let old = volume.dims;
    let dims = turn.map(|(axis, _)| old[axis]);
    let strides = [1, old[0], old[0] * old[1]];
    let mut origin = column(&volume.affine, 3);
    let mut start = 0;
    let mut columns = [[0.0; 3]; 3];
    let mut steps = [0_isize; 3];
    for (new, (axis, against)) in turn.into_iter().enumerate() {
        let along = column(&volume.affine, axis);
        let stride = strides[axis].cast_signed();
        let last = old[axis].saturating_sub(1);
        if against {
            #[allow(clippy::cast_precision_loss, reason = "axis lengths are small")]
            let to_last = scale(along, last as f64);
            origin = add(origin, to_last);
            start += last * strides[axis];
        }
        columns[new] = if against { scale(along, -1.0) } else { along };
        steps[new] = if against { -stride } else { stride };
    }
    Volume {
        dims,
        affine: from_columns(columns[0], columns[1], columns[2], origin),
        data: gathered(&volume.data, dims, start, steps),
    }
}

/// Reads `data` from `start` with the given steps, in blocks so that both sides stay in cache.
fn gathered(data: &[f32], dims: [usize; 3], start: usize, steps: [isize; 3]) -> Vec<f32> {
    /// Voxels to a side of a block: 16 floats are one cache line.
    const BLOCK: usize = 16;
    let mut out = vec![0.0; data.len()];
    let at = |i: usize, j: usize, k: usize| {
        let offset =
            i.cast_signed() * steps[0] + j.cast_signed() * steps[1] + k.cast_signed() * steps[2];
        start.wrapping_add_signed(offset)
    };
    for k0 in (0..dims[2]).step_by(BLOCK) {
        for i0 in (0..dims[0]).step_by(BLOCK) {
            let i1 = (i0 + BLOCK).min(dims[0]);
            for k in k0..(k0 + BLOCK).min(dims[2]) {
                for j in 0..dims[1] {
                    let row = dims[0] * (j + dims[1] * k);
                    for i in i0..i1 {
                        out[row + i] = data[at(i, j, k)];
                    }
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::affine::{IDENTITY, apply};

    fn numbered(dims: [usize; 3], affine: Affine) -> Volume {
        let count = dims.iter().product::<usize>();
        Volume {
            dims,
            affine,
            data: (0..u16::try_from(count).unwrap()).map(f32::from).collect(),
        }
    }

    #[test]
    fn canonical_stays() {
        let volume = numbered([3, 4, 5], IDENTITY);
        assert_eq!(to_ras(volume.clone()), volume);
    }

    #[test]
    fn every_voxel_stays_in_its_place() {
        let affine = [
            [0.1, 0.0, -3.0, 7.0],
            [2.0, 0.1, 0.2, -4.0],
            [0.0, -1.0, 0.1, 9.0],
        ];
        let old = numbered([3, 4, 5], affine);
        let new = to_ras(old.clone());
        assert_eq!(new.dims, [5, 3, 4]);
        for row in 0..3 {
            assert!(new.affine[row][row] > 0.0);
        }
        for k in 0..5_u8 {
            for j in 0..4_u8 {
                for i in 0..3_u8 {
                    let index = |v: &Volume, p: [usize; 3]| {
                        v.data[p[0] + v.dims[0] * (p[1] + v.dims[1] * p[2])]
                    };
                    let value = index(&old, [i, j, k].map(usize::from));
                    let turned = [4 - usize::from(k), usize::from(i), 3 - usize::from(j)];
                    assert!((index(&new, turned) - value).abs() < 1e-6);
                    let a = apply(&old.affine, [i, j, k].map(f64::from));
                    let b = apply(
                        &new.affine,
                        turned.map(|x| f64::from(u8::try_from(x).unwrap())),
                    );
                    for axis in 0..3 {
                        assert!((a[axis] - b[axis]).abs() < 1e-9);
                    }
                }
            }
        }
    }
}
