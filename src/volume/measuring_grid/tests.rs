//! The box keeps the input's voxels, shifts nothing, and lies the same however the data are stored.

use super::*;
use crate::volume::affine::IDENTITY;
use crate::volume::reorient::turned;

/// A head of upright voxels of the given size (mm): brightness is a smooth function of the place.
fn head(sizes: Vector, dims: [usize; 3]) -> Volume {
    let affine = from_columns(
        [sizes[0], 0.0, 0.0],
        [0.0, sizes[1], 0.0],
        [0.0, 0.0, sizes[2]],
        [-90.0, -120.0, -70.0],
    );
    let mut data = Vec::new();
    for k in 0..dims[2] {
        for j in 0..dims[1] {
            for i in 0..dims[0] {
                let [x, y, z] = apply(&affine, [i as f64, j as f64, k as f64]);
                data.push(brightness(x, y, z));
            }
        }
    }
    Volume { dims, affine, data }
}

fn brightness(x: f64, y: f64, z: f64) -> f32 {
    (1000.0 + 2.0 * x + 3.0 * y + 5.0 * z) as f32
}

/// Brain of the screening grid: an upright block of 2 mm voxels between two corners, mm.
struct Block {
    labels: Vec<u8>,
    dims: [usize; 3],
    affine: Affine,
}

impl Block {
    fn new(low: Vector, high: Vector) -> Self {
        let dims = [96, 112, 96];
        let mut affine = IDENTITY.map(|row| row.map(|v| v * 2.0));
        for (row, at) in affine.iter_mut().zip([-95.0, -125.0, -81.0]) {
            row[3] = at;
        }
        let inside = |at: usize| {
            let index = [
                at / (dims[1] * dims[2]),
                at / dims[2] % dims[1],
                at % dims[2],
            ];
            let mm = apply(&affine, index.map(|i| i as f64));
            (0..3).all(|n| mm[n] >= low[n] && mm[n] <= high[n])
        };
        let labels = (0..dims.iter().product()).map(|at| u8::from(inside(at)));
        Self {
            labels: labels.collect(),
            dims,
            affine,
        }
    }

    fn brain(&self) -> Brain<'_> {
        Brain {
            labels: &self.labels,
            dims: self.dims,
            affine: self.affine,
        }
    }
}

fn block() -> Block {
    Block::new([-61.0, -91.0, -40.0], [61.0, 71.0, 70.0])
}

#[test]
fn the_box_is_centred_and_ends_above_the_brain() {
    let volume = head([1.0; 3], [181, 217, 181]);
    let placement = Placement::new(&volume, &block().brain()).unwrap();
    let first = apply(&placement.affine, [0.0; 3]);
    let last = apply(&placement.affine, GRID.map(|n| (n - 1) as f64));
    // Voxels of the block lie on odd mm: its planes reach from -62 to 62, -92 to 72, -40 to 70.
    assert!(
        (f64::midpoint(first[0], last[0]) - 0.0).abs() <= 0.5,
        "{first:?}"
    );
    assert!(
        (f64::midpoint(first[1], last[1]) + 10.0).abs() <= 0.5,
        "{first:?}"
    );
    assert_eq!(last[2], 76.0);
    assert_eq!(placement.voxel_mm3(), 1.0);
}

#[test]
fn own_voxels_are_copied_and_come_back() {
    // Voxels of 1.1, 0.9 and 1 mm: about 1 mm, so taken as they are, with their true volume.
    let volume = head([1.1, 0.9, 1.0], [164, 241, 181]);
    let placement = Placement::new(&volume, &block().brain()).unwrap();
    assert!((placement.voxel_mm3() - 0.99).abs() < 1e-12);
    let values = placement.values(&volume);
    let lookup = |x: usize, y: usize, z: usize| values[(x * GRID[1] + y) * GRID[2] + z];
    for index in [[0, 0, 20], [30, 100, 90], [159, 191, 159]] {
        let at = apply(&placement.affine, index.map(|i| i as f64));
        let want = brightness(at[0], at[1], at[2]);
        let got = lookup(index[0], index[1], index[2]);
        assert!(got == 0.0 || (got - want).abs() < 1e-2, "{got} {want}");
    }
    let there = placement.values_on_input(&values);
    let same = there
        .iter()
        .zip(&volume.data)
        .filter(|(a, b)| a == b)
        .count();
    let inside = there.iter().filter(|v| **v != 0.0).count();
    assert_eq!(same, inside, "every voxel inside the box is an exact copy");
    assert!(inside > 3_000_000);
}

#[test]
fn a_resampled_axis_does_not_shift() {
    for sizes in [[0.5, 0.5, 0.5], [0.8, 0.8, 5.0], [2.0, 2.0, 2.0]] {
        let dims = [0, 1, 2].map(|n| ([181.0, 217.0, 181.0][n] / sizes[n]) as usize);
        let volume = head(sizes, dims);
        let placement = Placement::new(&volume, &block().brain()).unwrap();
        assert_eq!(placement.voxel_mm3(), 1.0);
        let values = placement.values(&volume);
        let inside = placement.inside().map(Option::unwrap);
        let mut worst = 0.0_f32;
        for n in 0..2000_usize {
            // Away from the edge, where the prefilter would see less of the ramp.
            let index: [usize; 3] = std::array::from_fn(|axis| {
                let [low, high] = inside[axis];
                low + 8 + (n * [7919, 104_729, 1_299_709][axis]) % (high - low - 15)
            });
            let mm = apply(&placement.affine, index.map(|i| i as f64));
            let got = values[(index[0] * GRID[1] + index[1]) * GRID[2] + index[2]];
            worst = worst.max((got - brightness(mm[0], mm[1], mm[2])).abs());
        }
        assert!(worst < 0.02, "{sizes:?}: off by {worst}");
        let back = placement.values_on_input(&values);
        let middle = dims.map(|n| n / 2);
        let at = middle[0] + dims[0] * (middle[1] + dims[1] * middle[2]);
        assert!((back[at] - volume.data[at]).abs() < 0.05, "{sizes:?}");
    }
}

#[test]
fn the_order_of_storage_changes_nothing() {
    let volume = head([1.0, 0.8, 1.05], [181, 271, 172]);
    let (block, labels) = (block(), numbered());
    let expected = prepare(&volume, &block.brain()).unwrap();
    let on_input = expected.placement.labels_on_input(&labels);
    let as_volume = |codes: &[u8], like: &Volume| Volume {
        data: codes.iter().map(|c| f32::from(*c)).collect(),
        ..like.clone()
    };
    for order in [[0, 1, 2], [2, 0, 1], [1, 0, 2]] {
        for flips in 0..8_usize {
            let turn: Turn = std::array::from_fn(|n| (order[n], flips >> n & 1 == 1));
            let other = turned(volume.clone(), turn);
            let grid = prepare(&other, &block.brain()).unwrap();
            // Places are counted from the low end of each turned axis: the box is the same one.
            let apart = grid
                .placement
                .affine
                .iter()
                .flatten()
                .zip(expected.placement.affine.iter().flatten())
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max);
            assert!(apart < 1e-6, "{turn:?}: {apart}");
            let worst = grid
                .data
                .iter()
                .zip(&expected.data)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 1e-4, "{turn:?}: {worst}");
            let back = grid.placement.labels_on_input(&labels);
            let want = turned(as_volume(&on_input, &volume), turn);
            assert!(as_volume(&back, &other).data == want.data, "{turn:?}");
        }
    }
}

fn numbered() -> Vec<u8> {
    (0..GRID.iter().product::<usize>())
        .map(|at| (at % 251) as u8)
        .collect()
}

#[test]
fn labels_go_to_the_nearest_voxel_and_nothing_lies_outside() {
    let volume = head([1.0, 1.0, 5.0], [181, 217, 36]);
    let placement = Placement::new(&volume, &block().brain()).unwrap();
    let labels = vec![7; GRID.iter().product()];
    let back = placement.labels_on_input(&labels);
    let to_box = inverse(&placement.affine).unwrap();
    let [ni, nj, _] = volume.dims;
    for (at, label) in back.iter().enumerate() {
        let index = [at % ni, at / ni % nj, at / (ni * nj)].map(|i| i as f64);
        let place = apply(&to_box, apply(&volume.affine, index));
        let inside = (0..3).all(|n| place[n] > -0.5 && place[n] < GRID[n] as f64 - 0.5);
        assert_eq!(*label != 0, inside, "{place:?}");
    }
}

#[test]
fn a_picture_without_a_brain_is_refused() {
    let volume = head([2.0; 3], [90, 108, 90]);
    let empty = Block::new([1e4; 3], [1e4; 3]);
    let error = Placement::new(&volume, &empty.brain()).unwrap_err();
    assert!(error.0.contains("no brain"), "{error}");
    let flat = Volume {
        affine: [[0.0; 4]; 3],
        ..volume
    };
    assert!(Placement::new(&flat, &block().brain()).is_err());
}

/// `tests/samples/golden_measuring.json`: what `training/firstread_training/measuring.py` gives for
/// an oblique head, whose axes are all resampled, and for the same at half its size, two of whose
/// axes are taken as they are. Brain is where the screening image is above 0.3.
#[test]
fn equals_the_training_package() {
    use crate::volume::{VOXELS_MAX, nifti, screening_grid};
    const HEAD: &[u8] = include_bytes!("../../../tests/samples/golden_head.nii.gz");
    const EXPECTED: &str = include_str!("../../../tests/samples/golden_measuring.json");
    let expected: serde_json::Value = serde_json::from_str(EXPECTED).unwrap();
    let list = |value: &serde_json::Value| value.as_array().unwrap().clone();
    let point = |value: &serde_json::Value| -> [usize; 3] {
        std::array::from_fn(|n| value[n].as_u64().unwrap() as usize)
    };
    for case in list(&expected["cases"]) {
        let mut volume = nifti::read(HEAD, VOXELS_MAX).unwrap();
        let factor = case["scale"].as_f64().unwrap();
        volume.affine = volume.affine.map(|row| row.map(|v| v * factor));
        let screened = screening_grid::prepare(&volume);
        let labels: Vec<u8> = screened.data.iter().map(|v| u8::from(*v > 0.3)).collect();
        let brain = Brain {
            labels: &labels,
            dims: screened.dims,
            affine: screened.affine,
        };
        let grid = prepare(&volume, &brain).unwrap();
        for (n, axis) in grid.placement.axes.iter().enumerate() {
            let step = case["step_mm"][n].as_f64().unwrap();
            assert!((axis.step_mm - step).abs() < 1e-6, "{factor} {axis:?}");
            let start = axis.start as f64 * axis.step_mm;
            let want = case["start_mm"][n].as_f64().unwrap();
            assert!((start - want).abs() < 1e-4, "{factor} {axis:?}: {want}");
        }
        for (probe, want) in list(&case["probes"]).iter().zip(list(&case["image"])) {
            let [x, y, z] = point(probe);
            let got = f64::from(grid.data[(x * GRID[1] + y) * GRID[2] + z]);
            assert!(
                (got - want.as_f64().unwrap()).abs() < 1e-4,
                "{probe}: {got} {want}"
            );
        }
        let mean = grid.data.iter().map(|v| f64::from(*v)).sum::<f64>() / grid.data.len() as f64;
        assert!(
            (mean - case["mean"].as_f64().unwrap()).abs() < 1e-5,
            "{mean}"
        );
        let steps = |at: usize| {
            let [_, ny, nz] = GRID;
            at / (ny * nz) / 7 + at / nz % ny / 5 + at % nz / 3
        };
        let numbered: Vec<u8> = (0..grid.data.len()).map(|at| steps(at) as u8).collect();
        let back = grid.placement.labels_on_input(&numbered);
        let sum: u64 = back.iter().map(|l| u64::from(*l)).sum();
        assert_eq!(sum, case["label_sum"].as_u64().unwrap(), "{factor}");
        let [ni, nj, _] = volume.dims;
        for (probe, want) in list(&case["label_probes"])
            .iter()
            .zip(list(&case["labels"]))
        {
            let [i, j, k] = point(probe);
            let got = u64::from(back[i + ni * (j + nj * k)]);
            assert_eq!(got, want.as_u64().unwrap(), "{probe}");
        }
    }
}
