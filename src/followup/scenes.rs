//! Constructed heads for the tests of this folder.

use super::LabelMap;
use super::lesions::nearest;
use super::register::Registration;
use crate::volume::Affine;
use crate::volume::affine::{Vector, apply, inverse};

/// Side of the cube, voxels of 1 mm; its middle is the origin.
const SIDE: usize = 64;

/// A head, and its lesions.
#[derive(Clone)]
pub struct Scene {
    pub map: LabelMap,
    pub lesions: LabelMap,
    structures: Vec<(u8, Vector, i32)>,
    spots: Vec<(Vector, i32)>,
}

/// A turn about the z axis, radian, then a shift, mm.
pub fn moved(angle: f64, shift: Vector) -> Affine {
    let (s, c) = angle.sin_cos();
    [
        [c, -s, 0.0, shift[0]],
        [s, c, 0.0, shift[1]],
        [0.0, 0.0, 1.0, shift[2]],
    ]
}

/// No movement.
pub fn still() -> Registration {
    Registration {
        to_prior: moved(0.0, [0.0; 3]),
        rms_mm: 0.0,
        landmarks: 20,
    }
}

/// All landmarks at places of their own, and lesions (middle in mm, half a side in voxels).
pub fn scene(lesions: &[(Vector, i32)]) -> Scene {
    let half = SIDE as f64 / 2.0;
    let mut affine = crate::volume::affine::IDENTITY;
    for row in &mut affine {
        row[3] = -half;
    }
    let map = LabelMap {
        dims: [SIDE; 3],
        affine,
        codes: vec![0; SIDE * SIDE * SIDE],
    };
    let mut scene = Scene {
        lesions: map.clone(),
        map,
        structures: Vec::new(),
        spots: Vec::new(),
    };
    let codes = [
        7, 46, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 14, 15, 16, 17, 53, 18, 54, 26, 58, 28, 60,
    ];
    for (n, code) in codes.into_iter().enumerate() {
        let place = |times: usize| (n * times % 23) as f64 * 1.9 - 21.0;
        scene.put(code, [place(5), place(7), place(11)], 2);
    }
    for (middle, half) in lesions {
        scene.spot(*middle, *half);
    }
    scene
}

impl Scene {
    /// Puts a structure where it is only once.
    pub fn put(&mut self, code: u8, middle: Vector, half: i32) {
        self.map.codes.iter_mut().for_each(|c| {
            if *c == code {
                *c = 0;
            }
        });
        self.structures.retain(|(c, ..)| *c != code);
        self.structures.push((code, middle, half));
        fill(&mut self.map, code, middle, half);
    }

    fn spot(&mut self, middle: Vector, half: i32) {
        self.spots.push((middle, half));
        fill(&mut self.lesions, 1, middle, half);
    }

    /// The same head in the other position.
    pub fn seen_after(&self, movement: &Affine) -> Self {
        let mut other = self.clone();
        let back = inverse(movement).expect("a movement can be undone");
        for (map, old) in [
            (&mut other.map, &self.map),
            (&mut other.lesions, &self.lesions),
        ] {
            let to_index = inverse(&old.affine).expect("a grid has an inverse");
            for at in 0..map.codes.len() {
                let place = apply(&map.affine, float(at));
                let index = apply(&to_index, apply(&back, place));
                let [x, y, z] = nearest(index, old.dims).unwrap_or([0; 3]);
                map.codes[at] = old.codes[(z * SIDE + y) * SIDE + x];
            }
        }
        other
    }
}

fn float(at: usize) -> Vector {
    [at % SIDE, at / SIDE % SIDE, at / (SIDE * SIDE)].map(|i| i as f64)
}

fn fill(map: &mut LabelMap, code: u8, middle: Vector, half: i32) {
    let sides = -half..=half;
    for x in sides.clone() {
        for y in sides.clone() {
            for z in sides.clone() {
                let step = [x, y, z].map(f64::from);
                let place = std::array::from_fn(|i| middle[i] + step[i] + SIDE as f64 / 2.0);
                if let Some([x, y, z]) = nearest(place, map.dims) {
                    map.codes[(z * SIDE + y) * SIDE + x] = code;
                }
            }
        }
    }
}
