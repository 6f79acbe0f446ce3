//! Connected regions of voxels: what belongs together, and what is largest. Pure.
//!
//! Grids here have z fastest, then y, then x, as the networks have them.

/// The six neighbours of a voxel that lie inside the grid.
pub fn neighbours(at: usize, dims: [usize; 3]) -> impl Iterator<Item = usize> {
    let [nx, ny, nz] = dims;
    let (x, y, z) = (at / (ny * nz), at / nz % ny, at % nz);
    let steps = [
        (x > 0, -(ny.cast_signed() * nz.cast_signed())),
        (x + 1 < nx, ny.cast_signed() * nz.cast_signed()),
        (y > 0, -nz.cast_signed()),
        (y + 1 < ny, nz.cast_signed()),
        (z > 0, -1),
        (z + 1 < nz, 1),
    ];
    steps
        .into_iter()
        .filter(|(inside, _)| *inside)
        .map(move |(_, step)| at.wrapping_add_signed(step))
}

/// The up to 26 neighbours of a voxel, by faces, edges and corners, that lie inside the grid.
fn all_neighbours(at: usize, dims: [usize; 3]) -> impl Iterator<Item = usize> {
    let [nx, ny, nz] = dims;
    let (x, y, z) = (at / (ny * nz), at / nz % ny, at % nz);
    let around = |i: usize, n: usize| i.saturating_sub(1)..(i + 2).min(n);
    around(x, nx).flat_map(move |i| {
        around(y, ny).flat_map(move |j| around(z, nz).map(move |k| (i * ny + j) * nz + k))
    })
}

/// Voxels of each region of those that `belongs` holds for, connected by faces, in the order of
/// their first voxels.
pub fn regions(dims: [usize; 3], belongs: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    connected(dims, belongs, neighbours)
}

/// As [`regions`], connected by faces, edges or corners.
pub fn touching(dims: [usize; 3], belongs: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    connected(dims, belongs, all_neighbours)
}

fn connected<I: Iterator<Item = usize>>(
    dims: [usize; 3],
    belongs: impl Fn(usize) -> bool,
    around: impl Fn(usize, [usize; 3]) -> I,
) -> Vec<Vec<usize>> {
    let count: usize = dims.iter().product();
    let mut open: Vec<bool> = (0..count).map(belongs).collect();
    let mut regions = Vec::new();
    for start in 0..count {
        if !std::mem::replace(&mut open[start], false) {
            continue;
        }
        let mut region = vec![start];
        let mut next = 0;
        while let Some(&at) = region.get(next) {
            next += 1;
            for neighbour in around(at, dims) {
                if std::mem::replace(&mut open[neighbour], false) {
                    region.push(neighbour);
                }
            }
        }
        regions.push(region);
    }
    regions
}

/// Voxels of the largest connected region; the first one of several as large.
pub fn largest(dims: [usize; 3], belongs: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut best = Vec::new();
    for region in regions(dims, belongs) {
        if region.len() > best.len() {
            best = region;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagonal_voxels_are_apart_and_edges_do_not_wrap() {
        let dims = [2, 2, 2];
        // (0,0,0) and (0,1,1) share an edge only; (0,0,1) and (0,1,0) follow each other in memory.
        assert_eq!(regions(dims, |at| at == 0 || at == 3).len(), 2);
        assert_eq!(regions(dims, |at| at == 1 || at == 2).len(), 2);
        assert_eq!(touching(dims, |at| at == 0 || at == 7).len(), 1);
        assert_eq!(touching([3, 1, 3], |at| at == 2 || at == 3).len(), 2);
        assert_eq!(regions(dims, |at| at < 4), vec![vec![0, 2, 1, 3]]);
        assert_eq!(regions(dims, |_| false), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn the_largest_is_found() {
        assert_eq!(largest([1, 1, 6], |at| at != 1), vec![2, 3, 4, 5]);
        assert!(largest([1, 1, 6], |_| false).is_empty());
    }
}
