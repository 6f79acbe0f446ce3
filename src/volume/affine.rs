//! Small linear algebra on 3-vectors and on the upper three rows of 4x4 matrices.

use super::Affine;

/// Three components, mm or voxels as the function says.
pub type Vector = [f64; 3];

/// Voxel sizes of 1 mm, origin in the centre of voxel (0, 0, 0).
pub const IDENTITY: Affine = [
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
];

/// Scalar product.
#[must_use]
pub fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Vector product, right-handed.
#[must_use]
pub fn cross(a: Vector, b: Vector) -> Vector {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

/// `a - b`.
#[must_use]
pub fn subtract(a: Vector, b: Vector) -> Vector {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// `a + b`.
#[must_use]
pub fn add(a: Vector, b: Vector) -> Vector {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// `a * factor`.
#[must_use]
pub fn scale(a: Vector, factor: f64) -> Vector {
    [a[0] * factor, a[1] * factor, a[2] * factor]
}

/// Euclidean length.
#[must_use]
pub fn length(a: Vector) -> f64 {
    dot(a, a).sqrt()
}

/// The vector of length 1 in the same direction, or `None` for one too short or not finite.
#[must_use]
pub fn unit(a: Vector) -> Option<Vector> {
    let length = length(a);
    (length.is_finite() && length > 1e-9).then(|| scale(a, 1.0 / length))
}

/// An affine from where one step along i, j and k leads (mm) and the centre of voxel (0, 0, 0).
#[must_use]
pub fn from_columns(i: Vector, j: Vector, k: Vector, origin: Vector) -> Affine {
    std::array::from_fn(|row| [i[row], j[row], k[row], origin[row]])
}

/// Column `axis` (0 to 2: a step along i, j, k; 3: the origin), mm.
#[must_use]
pub fn column(affine: &Affine, axis: usize) -> Vector {
    [affine[0][axis], affine[1][axis], affine[2][axis]]
}

/// Voxel index to mm (or whatever the matrix maps to).
#[must_use]
pub fn apply(affine: &Affine, point: Vector) -> Vector {
    std::array::from_fn(|row| {
        let r = &affine[row];
        r[0] * point[0] + r[1] * point[1] + r[2] * point[2] + r[3]
    })
}

/// First `inner`, then `outer`.
#[must_use]
pub fn compose(outer: &Affine, inner: &Affine) -> Affine {
    let step = |axis| subtract(apply(outer, column(inner, axis)), column(outer, 3));
    from_columns(step(0), step(1), step(2), apply(outer, column(inner, 3)))
}

/// Determinant of the 3x3 part: the volume of a voxel in mm3, negative for a left-handed grid.
#[must_use]
pub fn determinant(affine: &Affine) -> f64 {
    dot(
        column(affine, 0),
        cross(column(affine, 1), column(affine, 2)),
    )
}

/// The inverse mapping, or `None` where the matrix is singular or not finite.
#[must_use]
pub fn inverse(affine: &Affine) -> Option<Affine> {
    let determinant = determinant(affine);
    let all_finite = affine.iter().flatten().all(|v| v.is_finite());
    if !all_finite || determinant.abs() < 1e-12 {
        return None;
    }
    let (i, j, k) = (column(affine, 0), column(affine, 1), column(affine, 2));
    let rows = [cross(j, k), cross(k, i), cross(i, j)].map(|row| scale(row, 1.0 / determinant));
    let origin = column(affine, 3);
    Some(std::array::from_fn(|r| {
        [rows[r][0], rows[r][1], rows[r][2], -dot(rows[r], origin)]
    }))
}

/// Distance between neighbouring voxel centres along i, j, k, mm.
#[must_use]
pub fn voxel_sizes(affine: &Affine) -> Vector {
    std::array::from_fn(|axis| length(column(affine, axis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_undoes() {
        let affine = [
            [0.0, -2.0, 0.1, 5.0],
            [1.5, 0.0, 0.0, -7.0],
            [0.0, 0.2, 3.0, 11.0],
        ];
        let round = compose(&inverse(&affine).unwrap(), &affine);
        for (row, want) in round.iter().zip(IDENTITY) {
            for (a, b) in row.iter().zip(want) {
                assert!((a - b).abs() < 1e-12, "{round:?}");
            }
        }
    }

    #[test]
    fn singular_has_no_inverse() {
        assert!(inverse(&[[0.0; 4]; 3]).is_none());
        let mut nan = IDENTITY;
        nan[1][1] = f64::NAN;
        assert!(inverse(&nan).is_none());
    }
}
