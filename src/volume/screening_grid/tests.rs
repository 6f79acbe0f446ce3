//! The same numbers as the training package.

use super::*;
use crate::volume::{VOXELS_MAX, nifti};
use serde_json::Value;

const HEAD: &[u8] = include_bytes!("../../../tests/samples/golden_head.nii.gz");
const EXPECTED: &str = include_str!("../../../tests/samples/golden_screening.json");

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

#[test]
fn equals_the_training_package() {
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    let grid = prepare(&nifti::read(HEAD, VOXELS_MAX).unwrap());
    for (axis, want) in numbers(&expected["origin_mm"]).into_iter().enumerate() {
        assert!(
            (grid.affine[axis][3] - want).abs() < 1e-3,
            "{:?}",
            grid.affine
        );
    }
    let values = numbers(&expected["image"]);
    for (probe, want) in expected["probes"].as_array().unwrap().iter().zip(values) {
        let p: Vec<usize> = probe
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap() as usize)
            .collect();
        let got = f64::from(grid.data[p[2] + GRID[2] * (p[1] + GRID[1] * p[0])]);
        assert!((got - want).abs() < 1e-4, "{p:?}: {got} is not {want}");
    }
    let mean = grid.data.iter().map(|v| f64::from(*v)).sum::<f64>() / grid.data.len() as f64;
    assert!(
        (mean - expected["mean"].as_f64().unwrap()).abs() < 1e-5,
        "{mean}"
    );
    // Points exactly half a voxel outside may fall on either side by rounding.
    let zeros = grid.data.iter().filter(|v| **v == 0.0).count() as f64;
    assert!((zeros - expected["zeros"].as_f64().unwrap()).abs() < 1e-4 * grid.data.len() as f64);
}

#[test]
fn no_picture_gives_zeros() {
    let empty = Volume {
        dims: [10, 10, 10],
        affine: super::super::affine::IDENTITY,
        data: vec![f32::NAN; 1000],
    };
    let grid = prepare(&empty);
    assert_eq!(grid.dims, GRID);
    assert!(grid.data.iter().all(|v| *v == 0.0));
    let nothing = Volume {
        dims: [0; 3],
        affine: [[0.0; 4]; 3],
        data: Vec::new(),
    };
    assert!(prepare(&nothing).data.iter().all(|v| *v == 0.0));
}

#[test]
fn ranks_do_not_interpolate() {
    assert_eq!(ranked(vec![4.0, 1.0, 3.0, 2.0], 0.5), Some(2.0));
    assert_eq!(ranked(Vec::new(), 0.5), None);
    assert_eq!(ranked_place(&[0, 3, 0, 1], 0.98), Some(1));
    assert_eq!(ranked_place(&[0, 3, 0, 1], 1.0), Some(3));
    assert_eq!(ranked_place(&[0, 0], 0.5), None);
}
