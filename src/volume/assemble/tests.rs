//! Slices with known places and contents, put together again.

use super::*;
use crate::volume::affine::{apply, cross, unit};
use crate::volume::slice::{SliceGeometry, SliceLabels};
use proptest::prelude::*;

const AXIAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];

/// A 3 x 2 slice at `position` whose pixels count up from `first`.
fn slice(position: [f64; 3], orientation: [f64; 6], first: f32) -> Slice {
    Slice {
        geometry: SliceGeometry::new([3, 2], position, orientation, [2.0, 1.5]).unwrap(),
        labels: SliceLabels::default(),
        pixels: (0..6_u8).map(|n| first + f32::from(n)).collect(),
    }
}

fn axial_at(heights: &[f64]) -> Vec<Slice> {
    heights
        .iter()
        .zip([0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0])
        .map(|(&z, first)| slice([10.0, 20.0, z], AXIAL, first))
        .collect()
}

#[track_caller]
fn refused(slices: Vec<Slice>, part: &str) {
    match assemble(slices, &AssembleOptions::default()) {
        Err(NotAVolume(reason)) => assert!(reason.contains(part), "{reason}"),
        Ok(done) => panic!("assembled with {:?}", done.notes),
    }
}

#[track_caller]
fn assembled(slices: Vec<Slice>) -> Assembled {
    assemble(slices, &AssembleOptions::default()).unwrap()
}

#[test]
fn axial_slices_in_any_order() {
    let mut slices = axial_at(&[5.0, 8.0, 11.0]);
    slices.rotate_left(1);
    let volume = assembled(slices).volume;
    assert_eq!(volume.dims, [2, 3, 3]);
    // LPS to RAS: x and y change sign; j runs from the bottom row (y = 20 + 2 * 2 mm) upwards.
    assert_eq!(
        volume.affine,
        [
            [-1.5, 0.0, 0.0, -10.0],
            [0.0, 2.0, 0.0, -24.0],
            [0.0, 0.0, 3.0, 5.0],
        ]
    );
    assert_eq!(volume.data[..6], [4.0, 5.0, 2.0, 3.0, 0.0, 1.0]);
    assert_eq!(volume.data[6..8], [104.0, 105.0]);
}

#[test]
fn holes_and_odd_steps_are_refused() {
    refused(
        axial_at(&[0.0, 3.0, 9.0, 12.0]),
        "missing slice: gap of 6.0 mm between slices 2 and 3 of 4",
    );
    refused(axial_at(&[0.0, 3.0, 6.9, 9.9]), "uneven slices");
    refused(
        axial_at(&[4.0, 4.0, 4.0]),
        "all 3 images lie at the same place",
    );
    refused(axial_at(&[4.0]), "only one slice");
    refused(Vec::new(), "no images");
}

#[test]
fn a_slanted_stack_is_refused() {
    let slices = (0..5_u8)
        .map(|n| slice([0.0, f64::from(n), f64::from(n) * 4.0], AXIAL, 0.0))
        .collect();
    refused(slices, "slanted by 14.0 degrees");
}

#[test]
fn several_directions_are_refused_and_a_stray_is_left_out() {
    let sagittal = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0];
    let mut mixed = axial_at(&[0.0, 3.0]);
    mixed.push(slice([0.0; 3], sagittal, 0.0));
    refused(mixed, "different directions");

    let mut many: Vec<Slice> = (0..20_u8)
        .map(|n| slice([0.0, 0.0, f64::from(n)], AXIAL, 0.0))
        .collect();
    many.push(slice([0.0; 3], sagittal, 0.0));
    let done = assembled(many);
    assert_eq!(done.volume.dims[2], 20);
    assert!(
        done.notes[0].starts_with("1 of 21 images"),
        "{:?}",
        done.notes
    );
}

#[test]
fn of_two_echoes_the_first_is_used() {
    let mut slices = axial_at(&[0.0, 3.0, 6.0]);
    for mut late in axial_at(&[0.0, 3.0, 6.0]) {
        late.pixels.fill(9.0);
        late.labels.echo_time_ms = Some(80.0);
        slices.push(late);
    }
    for early in &mut slices[..3] {
        early.labels.echo_time_ms = Some(12.0);
    }
    slices.reverse();
    let done = assembled(slices);
    assert_eq!(done.volume.dims, [2, 3, 3]);
    assert!(!done.volume.data.contains(&9.0));
    assert!(done.notes[0].contains("2 echoes"), "{:?}", done.notes);
}

#[test]
fn magnitude_before_phase() {
    let mut slices = axial_at(&[0.0, 3.0]);
    for (slice, image_type) in slices.iter_mut().zip(["ORIGINAL\\PRIMARY\\P\\ND"; 2]) {
        image_type.clone_into(&mut slice.labels.image_type);
        slice.pixels.fill(-1.0);
    }
    for mut magnitude in axial_at(&[0.0, 3.0]) {
        "ORIGINAL\\PRIMARY\\M\\ND".clone_into(&mut magnitude.labels.image_type);
        slices.push(magnitude);
    }
    assert!(!assembled(slices).volume.data.contains(&-1.0));
}

#[test]
fn interleaved_acquisitions_are_one_volume() {
    let mut slices = axial_at(&[0.0, 3.0, 6.0, 9.0]);
    for (slice, acquisition) in slices.iter_mut().zip([1, 2, 1, 2]) {
        slice.labels.acquisition = Some(acquisition);
    }
    assert_eq!(assembled(slices).volume.dims[2], 4);
}

#[test]
fn copies_are_dropped_and_contradictions_refused() {
    let mut slices = axial_at(&[0.0, 3.0, 6.0]);
    slices.push(slices[1].clone());
    let done = assembled(slices.clone());
    assert_eq!(done.volume.dims[2], 3);
    assert!(done.notes[0].contains("1 repeated"), "{:?}", done.notes);
    slices[3].pixels.fill(7.0);
    refused(slices, "nothing in their headers tells them apart");
}

#[test]
fn too_many_voxels_are_refused() {
    let options = AssembleOptions {
        voxels_max: 17,
        acquired_in_3d: false,
    };
    let reason = assemble(axial_at(&[0.0, 3.0, 6.0]), &options).unwrap_err();
    assert!(reason.0.contains("limit of 17 voxels"));
}

prop_compose! {
    /// Any rotation, as row and column direction.
    fn orientations()(a in prop::array::uniform3(-1.0..1.0_f64), b in prop::array::uniform3(-1.0..1.0_f64))
        -> Option<([f64; 3], [f64; 3])> {
        let row = unit(a)?;
        let normal = unit(cross(row, b))?;
        Some((row, cross(normal, row)))
    }
}

proptest! {
    /// Wherever slices lie and in whatever order they come,
    /// every pixel ends at the place its own header gives it.
    #[test]
    fn every_pixel_lands_where_its_header_says(
        directions in orientations().prop_filter_map("parallel", |o| o),
        origin in prop::array::uniform3(-200.0..200.0_f64),
        spacing in 0.4..8.0_f64,
        order in Just((0..8_u8).collect::<Vec<_>>()).prop_shuffle(),
        acquired_in_3d: bool,
    ) {
        let (row, column) = directions;
        let normal = cross(row, column);
        let orientation = [row[0], row[1], row[2], column[0], column[1], column[2]];
        let place = |k: u8| add(origin, scale(normal, spacing * f64::from(k)));
        let slices = order.iter().map(|&k| slice(place(k), orientation, f32::from(k) * 10.0)).collect();
        let options = AssembleOptions { acquired_in_3d, ..AssembleOptions::default() };
        let volume = assemble(slices, &options).unwrap().volume;

        let back = crate::volume::affine::inverse(&volume.affine).unwrap();
        for k in 0..8_u8 {
            for pixel in 0..6_u8 {
                let (r, c) = (pixel / 2, pixel % 2);
                let lps = add(place(k), add(scale(row, 1.5 * f64::from(c)), scale(column, 2.0 * f64::from(r))));
                let voxel = apply(&back, [-lps[0], -lps[1], lps[2]]);
                let index: Vec<usize> = (0..3).map(|axis| {
                    let nearest = (0..volume.dims[axis]).find(|&n| (n as f64 - voxel[axis]).abs() < 1e-6);
                    nearest.expect("a voxel centre")
                }).collect();
                let got = volume.data[index[0] + volume.dims[0] * (index[1] + volume.dims[1] * index[2])];
                prop_assert_eq!(got, f32::from(k) * 10.0 + f32::from(pixel));
            }
        }
    }
}
