//! The box holds the upright head however it lay and however it was stored, and labels come back.

use super::*;
use crate::volume::affine::IDENTITY;
use crate::volume::reorient::{Turn, turned};

/// RAS mm to upright mm of a head that lies turned by these degrees about x, then y.
fn lying(degrees: [f64; 2], shift: Vector) -> Affine {
    let [(sa, ca), (sb, cb)] = degrees.map(|d| d.to_radians().sin_cos());
    let about_x = from_columns([1.0, 0.0, 0.0], [0.0, ca, sa], [0.0, -sa, ca], [0.0; 3]);
    let about_y = from_columns([cb, 0.0, -sb], [0.0, 1.0, 0.0], [sb, 0.0, cb], shift);
    compose(&about_y, &about_x)
}

/// Voxels of the given size (mm) about the middle of a head that lies so; brightness is a smooth
/// function of the upright place.
fn head(upright: &Affine, sizes: Vector, dims: [usize; 3]) -> Volume {
    let middle = apply(&inverse(upright).unwrap(), [0.0, -5.0, 5.0]);
    let first = std::array::from_fn(|n| middle[n] - sizes[n] * (dims[n] - 1) as f64 / 2.0);
    let affine = from_columns(
        [sizes[0], 0.0, 0.0],
        [0.0, sizes[1], 0.0],
        [0.0, 0.0, sizes[2]],
        first,
    );
    let map = compose(upright, &affine);
    let mut data = Vec::new();
    for k in 0..dims[2] {
        for j in 0..dims[1] {
            data.extend((0..dims[0]).map(|i| {
                let place = apply(&map, [i as f64, j as f64, k as f64]);
                brightness(place)
            }));
        }
    }
    Volume { dims, affine, data }
}

fn brightness([x, y, z]: Vector) -> f32 {
    (3000.0 + 2.0 * x + 3.0 * y + 5.0 * z + 40.0 * (x / 9.0).sin() * (z / 11.0).cos()) as f32
}

/// What screening says of a head that lies so: a ball at each structure of the atlas, within an
/// upright block of brain.
struct Seen {
    labels: Vec<u8>,
    codes: Vec<i64>,
    dims: [usize; 3],
    affine: Affine,
}

impl Seen {
    /// `block`: two corners, upright mm.
    fn new(upright: &Affine, block: [Vector; 2]) -> Self {
        let dims = [96, 112, 96];
        let middle = apply(&inverse(upright).unwrap(), [0.0, -4.0, 0.0]);
        let mut affine = IDENTITY.map(|row| row.map(|v| v * 2.0));
        for ((row, at), n) in affine.iter_mut().zip(middle).zip(dims) {
            row[3] = at - n as f64 + 1.0;
        }
        let mut codes = vec![0];
        codes.extend(pose::MIDDLES.iter().map(|(code, _)| *code));
        codes.push(24);
        let map = compose(upright, &affine);
        let place = |index: [usize; 3]| apply(&map, index.map(|i| i as f64));
        let flat = |[x, y, z]: [usize; 3]| (x * dims[1] + y) * dims[2] + z;
        let (mut labels, mut nearest) = (Vec::new(), vec![36.0; dims.iter().product()]);
        for x in 0..dims[0] {
            for y in 0..dims[1] {
                labels.extend((0..dims[2]).map(|z| {
                    let at = place([x, y, z]);
                    let inside = (0..3).all(|n| at[n] >= block[0][n] && at[n] <= block[1][n]);
                    if inside { codes.len() as u8 - 1 } else { 0 }
                }));
            }
        }
        // Each ball of 6 mm lies within 7 voxels cubed; where two meet, the nearer middle counts.
        let back = inverse(&map).unwrap();
        for (n, (_, middle)) in pose::MIDDLES.iter().enumerate() {
            let low = apply(&back, *middle).map(|i| i.round() as usize - 3);
            for step in 0..343 {
                let index = [low[0] + step / 49, low[1] + step / 7 % 7, low[2] + step % 7];
                let (at, i) = (place(index), flat(index));
                let far: f64 = (0..3).map(|a| (at[a] - middle[a]).powi(2)).sum();
                if far < nearest[i] {
                    (nearest[i], labels[i]) = (far, n as u8 + 1);
                }
            }
        }
        Self {
            labels,
            codes,
            dims,
            affine,
        }
    }

    fn brain(&self) -> Brain<'_> {
        Brain {
            labels: &self.labels,
            codes: &self.codes,
            dims: self.dims,
            affine: self.affine,
        }
    }
}

const BLOCK: [Vector; 2] = [[-60.0, -80.0, -50.0], [60.0, 70.0, 70.0]];

fn at([x, y, z]: [usize; 3]) -> usize {
    flat([x, y, z])
}

/// The upright place of a voxel of the box.
fn upright_of(placement: &Placement, upright: &Affine, index: [usize; 3]) -> Vector {
    apply(upright, apply(&placement.affine, index.map(|i| i as f64)))
}

#[test]
fn the_head_is_upright_in_the_box_however_it_lay() {
    for (degrees, sizes, dims) in [
        ([0.0, 0.0], [1.0; 3], [190, 220, 190]),
        ([18.0, -7.0], [1.0; 3], [200, 240, 220]),
        ([-12.0, 9.0], [1.2, 0.9, 1.1], [170, 270, 200]),
    ] {
        let upright = lying(degrees, [3.0, -20.0, 14.0]);
        let seen = Seen::new(&upright, BLOCK);
        let volume = head(&upright, sizes, dims);
        let placement = Placement::new(&volume, &seen.brain()).unwrap();
        assert!((placement.voxel_mm3() - 1.0).abs() < 1e-9);
        let values = placement.values(&volume);
        for n in 0..2000_usize {
            let index: [usize; 3] = std::array::from_fn(|axis| {
                20 + (n * [7919, 104_729, 1_299_709][axis]) % (GRID[axis] - 40)
            });
            let place = upright_of(&placement, &upright, index);
            for axis in 0..3 {
                let wanted = START_MM[axis] + index[axis] as f64;
                // Balls of 2 mm voxels have middles a fraction of a millimetre off.
                assert!((place[axis] - wanted).abs() < 0.7, "{degrees:?} {place:?}");
            }
            let got = values[at(index)];
            assert!(
                (got - brightness(place)).abs() < 0.1,
                "{degrees:?} {index:?}"
            );
        }
    }
}

#[test]
fn labels_and_sides_come_back_where_they_belong() {
    let upright = lying([18.0, -7.0], [3.0, -20.0, 14.0]);
    let seen = Seen::new(&upright, BLOCK);
    for (sizes, dims) in [
        ([1.0; 3], [200, 240, 220]),
        ([0.9, 0.9, 5.0], [220, 260, 44]),
    ] {
        let volume = head(&upright, sizes, dims);
        let placement = Placement::new(&volume, &seen.brain()).unwrap();
        let octant = |place: Vector| {
            let bits = place.map(|v| usize::from(v > 0.0));
            1 + (bits[0] * 4 + bits[1] * 2 + bits[2]) as u8
        };
        let labels: Vec<u8> = (0..GRID.iter().product())
            .map(|n| {
                let index = [n / (GRID[1] * GRID[2]), n / GRID[2] % GRID[1], n % GRID[2]];
                octant(upright_of(&placement, &upright, index))
            })
            .collect();
        let back = placement.labels_on_input(&labels);
        let map = compose(&upright, &volume.affine);
        let [ni, nj, _] = volume.dims;
        let mut inside = 0;
        for (n, label) in back.iter().enumerate() {
            let index = [n % ni, n / ni % nj, n / (ni * nj)].map(|i| i as f64);
            let place = apply(&map, index);
            let in_box = apply(&placement.to_box, index);
            let there = (0..3).all(|n| in_box[n] >= -0.5 && in_box[n] <= GRID[n] as f64 - 0.5);
            assert_eq!(*label != 0, there, "{in_box:?}");
            if there && place.iter().all(|v| v.abs() > 0.51) {
                assert_eq!(*label, octant(place), "{place:?}");
                inside += 1;
            }
        }
        assert!(inside > 600_000);
    }
}

#[test]
fn values_come_back_between_the_boxs() {
    let upright = lying([-10.0, 5.0], [0.0; 3]);
    let seen = Seen::new(&upright, BLOCK);
    let volume = head(&upright, [1.0; 3], [120, 140, 120]);
    let placement = Placement::new(&volume, &seen.brain()).unwrap();
    let back = placement.values_on_input(&placement.values(&volume));
    let [ni, nj, _] = volume.dims;
    for n in 0..1000_usize {
        let index: [usize; 3] = std::array::from_fn(|axis| {
            15 + (n * [7919, 104_729, 1_299_709][axis]) % (volume.dims[axis] - 30)
        });
        let n = index[0] + ni * (index[1] + nj * index[2]);
        assert!((back[n] - volume.data[n]).abs() < 1.5, "{index:?}");
    }
}

#[test]
fn the_order_of_storage_changes_nothing() {
    let upright = lying([9.0, 6.0], [3.0, -20.0, 14.0]);
    let volume = head(&upright, [1.5, 1.3, 1.4], [130, 160, 120]);
    let (seen, labels) = (Seen::new(&upright, BLOCK), numbered());
    let expected = prepare(&volume, &seen.brain()).unwrap();
    let on_input = expected.placement.labels_on_input(&labels);
    for turn in [
        [(2, true), (0, false), (1, true)],
        [(1, false), (0, true), (2, false)],
    ] as [Turn; 2]
    {
        let other = turned(volume.clone(), turn);
        let grid = prepare(&other, &seen.brain()).unwrap();
        assert_eq!(grid.placement.affine, expected.placement.affine);
        let worst = grid
            .data
            .iter()
            .zip(&expected.data)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-4, "{turn:?}: {worst}");
        let back = grid.placement.labels_on_input(&labels);
        let as_volume = Volume {
            data: on_input.iter().map(|c| f32::from(*c)).collect(),
            ..volume.clone()
        };
        let want = turned(as_volume, turn).data;
        let same = back
            .iter()
            .zip(&want)
            .filter(|(a, b)| f32::from(**a) == **b);
        // Places that lie half-way between labels may fall to either.
        assert!(same.count() > want.len() - 20, "{turn:?}");
    }
}

fn numbered() -> Vec<u8> {
    (0..GRID.iter().product::<usize>())
        .map(|n| (n % 251) as u8)
        .collect()
}

#[test]
fn brain_is_never_cut_off_where_the_box_can_hold_it() {
    let upright = lying([0.0; 2], [0.0; 3]);
    let volume = head(&upright, [2.0; 3], [95, 110, 95]);
    let start = |block: [Vector; 2]| -> Vector {
        let seen = Seen::new(&upright, block);
        let placement = Placement::new(&volume, &seen.brain()).unwrap();
        upright_of(&placement, &upright, [0; 3])
    };
    let near = |got: f64, want: f64| assert!((got - want).abs() < 0.7, "{got} {want}");
    let usual = start(BLOCK);
    (0..3).for_each(|n| near(usual[n], START_MM[n]));
    // Planes of 2 mm up to 92 mm: the last voxel, 159 mm on, lies 2 mm beyond.
    near(start([BLOCK[0], [60.0, 70.0, 91.1]])[2], 92.0 + 2.0 - 159.0);
    near(start([[-60.0, -90.0, -90.0], BLOCK[1]])[2], START_MM[2]);
    near(start([[-60.0, -101.1, -50.0], BLOCK[1]])[1], -102.0 - 2.0);
}

#[test]
fn without_a_pose_the_box_lies_about_the_brain() {
    let upright = IDENTITY;
    let volume = head(&upright, [2.0; 3], [95, 110, 95]);
    let seen = Seen::new(&upright, BLOCK);
    let labels: Vec<u8> = seen.labels.iter().map(|l| u8::from(*l != 0)).collect();
    let brain = Brain {
        labels: &labels,
        ..seen.brain()
    };
    let placement = Placement::new(&volume, &brain).unwrap();
    let first = apply(&placement.affine, [0.0; 3]);
    let last = apply(&placement.affine, GRID.map(|n| (n - 1) as f64));
    assert!(f64::midpoint(first[0], last[0]).abs() <= 1.0, "{first:?}");
    assert!((f64::midpoint(first[1], last[1]) + 5.0).abs() <= 1.0);
    assert!((last[2] - 76.0).abs() <= 1.1, "{last:?}");
    assert_eq!(placement.affine[0][0], 1.0);
}

#[test]
fn areas_are_told_where_the_picture_ends() {
    let upright = lying([5.0, 0.0], [0.0; 3]);
    let seen = Seen::new(&upright, BLOCK);
    // Stored back to front and top to bottom, 60 mm high.
    let volume = turned(
        head(&upright, [1.0, 1.0, 2.0], [100, 110, 30]),
        [(0, false), (1, true), (2, true)],
    );
    let placement = Placement::new(&volume, &seen.brain()).unwrap();
    let areas = placement.areas_at_ends(|n| n / (GRID[1] * GRID[2]) >= 80);
    // Half of each plane above and below, and the whole of the right one.
    let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.05, "{areas:?}");
    near(areas[2][0], 50.0 * 110.0);
    near(areas[2][1], 50.0 * 110.0);
    near(areas[1][0], 50.0 * 60.0);
    assert!(areas[0][1] >= 110.0 * 60.0, "{areas:?}");
    assert!(areas[0][0] < 1.0, "{areas:?}");
    let none = placement.areas_at_ends(|_| false);
    assert_eq!(none, [[0.0; 2]; 3]);
}

#[test]
fn a_picture_without_a_brain_is_refused() {
    let volume = head(&IDENTITY, [2.0; 3], [90, 108, 90]);
    let seen = Seen::new(&IDENTITY, BLOCK);
    let labels = vec![0; seen.labels.len()];
    let empty = Brain {
        labels: &labels,
        ..seen.brain()
    };
    let error = Placement::new(&volume, &empty).unwrap_err();
    assert!(error.0.contains("no brain"), "{error}");
    let flat = Volume {
        affine: [[0.0; 4]; 3],
        ..volume
    };
    assert!(Placement::new(&flat, &seen.brain()).is_err());
}

/// `tests/samples/golden_measuring.json`: what `training/firstread_training/measuring.py` gives for
/// an oblique head, and for the same at half its size, with labels that lie turned in it.
#[test]
fn equals_the_training_package() {
    use crate::volume::{VOXELS_MAX, nifti};
    const HEAD: &[u8] = include_bytes!("../../../tests/samples/golden_head.nii.gz");
    const EXPECTED: &str = include_str!("../../../tests/samples/golden_measuring.json");
    let expected: serde_json::Value = serde_json::from_str(EXPECTED).unwrap();
    let list = |value: &serde_json::Value| value.as_array().unwrap().clone();
    let float = |value: &serde_json::Value| value.as_f64().unwrap();
    let point = |value: &serde_json::Value| -> [usize; 3] {
        std::array::from_fn(|n| value[n].as_u64().unwrap() as usize)
    };
    let matrix = |value: &serde_json::Value| -> Affine {
        std::array::from_fn(|row| std::array::from_fn(|at| float(&value[row][at])))
    };
    for (wanted, (code, place)) in list(&expected["middles"]).iter().zip(pose::MIDDLES) {
        assert_eq!(wanted[0].as_i64().unwrap(), code);
        for (n, mm) in place.into_iter().enumerate() {
            assert!((float(&wanted[1][n]) - mm).abs() < 1e-9, "{code}");
        }
    }
    for case in list(&expected["cases"]) {
        let mut volume = nifti::read(HEAD, VOXELS_MAX).unwrap();
        let factor = float(&case["scale"]);
        volume.affine = volume.affine.map(|row| row.map(|v| v * factor));
        let seen = Seen::new(&matrix(&case["upright"]), BLOCK);
        let grid = prepare(&volume, &seen.brain()).unwrap();
        let affine = matrix(&case["affine"]);
        for (got, want) in grid
            .placement
            .affine
            .iter()
            .flatten()
            .zip(affine.iter().flatten())
        {
            assert!((got - want).abs() < 1e-4, "{factor}: {got} {want}");
        }
        for (probe, want) in list(&case["probes"]).iter().zip(list(&case["image"])) {
            let got = f64::from(grid.data[at(point(probe))]);
            assert!((got - float(&want)).abs() < 1e-3, "{probe}: {got} {want}");
        }
        let mean = grid.data.iter().map(|v| f64::from(*v)).sum::<f64>() / grid.data.len() as f64;
        assert!((mean - float(&case["mean"])).abs() < 1e-5, "{mean}");
        let steps = |at: usize| {
            let [_, ny, nz] = GRID;
            at / (ny * nz) / 7 + at / nz % ny / 5 + at % nz / 3
        };
        let numbered: Vec<u8> = (0..grid.data.len()).map(|at| steps(at) as u8).collect();
        let back = grid.placement.labels_on_input(&numbered);
        let sum = back.iter().map(|l| f64::from(*l)).sum::<f64>();
        assert!(
            (sum / float(&case["label_sum"]) - 1.0).abs() < 1e-5,
            "{sum}"
        );
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
