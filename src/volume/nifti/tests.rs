//! What we write we read; what others break we refuse.

use super::*;
use crate::volume::NotAVolume;
use crate::volume::affine::from_columns;
use proptest::prelude::*;

const AFFINE: crate::volume::Affine = [
    [-1.0, 0.0, 0.25, 10.0],
    [0.0, 2.0, 0.0, -20.0],
    [0.25, 0.0, 4.0, 30.5],
];

fn sample(gzip: bool) -> Vec<u8> {
    let voxels: Vec<f32> = (0..24_u8).map(f32::from).collect();
    encode([2, 3, 4], &AFFINE, Voxels::F32(&voxels), gzip).unwrap()
}

#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let NotAVolume(reason) = read(bytes, 1000).unwrap_err();
    assert!(reason.contains(part), "{reason}");
}

fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = sample(false);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn what_we_write_we_read() {
    for gzip in [false, true] {
        let volume = read(&sample(gzip), 24).unwrap();
        assert_eq!(volume.dims, [2, 3, 4]);
        assert_eq!(volume.affine, AFFINE);
        assert_eq!(volume.data[23], 23.0);
    }
}

#[test]
fn labels_and_whole_numbers() {
    let labels = encode([2, 1, 1], &AFFINE, Voxels::U8(&[77, 255]), true).unwrap();
    assert_eq!(read(&labels, 2).unwrap().data, [77.0, 255.0]);
    let whole = encode([2, 1, 1], &AFFINE, Voxels::I16(&[-5, 300]), false).unwrap();
    assert_eq!(read(&whole, 2).unwrap().data, [-5.0, 300.0]);
    assert!(encode([2, 2, 1], &AFFINE, Voxels::U8(&[1]), false).is_err());
    assert!(encode([0, 9, 9], &AFFINE, Voxels::U8(&[]), false).is_ok());
}

#[test]
fn slope_and_intercept() {
    let mut file = patched(112, &2.0_f32.to_le_bytes());
    file[116..120].copy_from_slice(&(-1.0_f32).to_le_bytes());
    assert_eq!(read(&file, 24).unwrap().data[2], 3.0);
    let none = patched(112, &0.0_f32.to_le_bytes());
    assert_eq!(read(&none, 24).unwrap().data[2], 2.0);
}

#[test]
fn values_that_are_no_numbers_become_0() {
    let file = patched(VOXELS_START, &f32::NAN.to_le_bytes());
    assert_eq!(read(&file, 24).unwrap().data[0], 0.0);
}

#[test]
fn broken_files_are_refused() {
    let whole = sample(false);
    refused(&[], "too short");
    refused(&whole[..400], "ends before its last voxel");
    refused(&sample(true)[..80], "too short");
    refused(&patched(344, b"xxxx"), "no NIfTI");
    refused(&patched(344, b"ni1\0"), "without its voxels");
    refused(&patched(0, &540_i32.to_le_bytes()), "NIfTI-2");
    refused(&patched(40, &9_i16.to_le_bytes()), "no 3 axes");
    refused(&patched(42, &(-1_i16).to_le_bytes()), "without voxels");
    refused(
        &patched(42, &32767_i16.to_le_bytes()),
        "limit of 1000 voxels",
    );
    refused(&patched(70, &128_i16.to_le_bytes()), "type 128");
    refused(&patched(108, &1e8_f32.to_le_bytes()), "vox_offset");
    refused(&patched(108, &f32::NAN.to_le_bytes()), "vox_offset");
    refused(&patched(252, &[0; 4]), "does not say how");
    refused(
        &patched(280, &f32::INFINITY.to_le_bytes()),
        "cannot be right",
    );
    let mut several = patched(40, &4_i16.to_le_bytes());
    several[48..50].copy_from_slice(&7_i16.to_le_bytes());
    refused(&several, "4D");
}

#[test]
fn other_byte_order() {
    let mut file = sample(false);
    let fields = [
        (0..4, 4),
        (40..56, 2),
        (70..74, 2),
        (76..108, 4),
        (108..120, 4),
    ];
    let places = [
        (252..256, 2),
        (256..328, 4),
        (VOXELS_START..VOXELS_START + 96, 4),
    ];
    for (range, size) in fields.into_iter().chain(places) {
        file[range].chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    let volume = read(&file, 24).unwrap();
    assert_eq!((volume.affine, volume.data[23]), (AFFINE, 23.0));
}

proptest! {
    /// The qform we write stands for the same place as the sform, whatever the rotation and side.
    /// The file keeps three of the quaternion's numbers in single precision; near half a turn the
    /// fourth is the root of almost nothing, so the entries of the rotation agree to 1e-3 at worst.
    #[test]
    fn qform_equals_sform(
        axis in prop::array::uniform3(-1.0..1.0_f64),
        other in prop::array::uniform3(-1.0..1.0_f64),
        sizes in prop::array::uniform3(0.3..5.0_f64),
        left_handed: bool,
    ) {
        let Some(x) = unit(axis) else { return Ok(()) };
        let Some(z) = unit(cross(x, other)) else { return Ok(()) };
        let y = cross(z, x);
        let z = if left_handed { scale(z, -1.0) } else { z };
        let affine = from_columns(scale(x, sizes[0]), scale(y, sizes[1]), scale(z, sizes[2]), [1.0, 2.0, 3.0]);
        let mut file = encode([1, 1, 1], &affine, Voxels::U8(&[1]), false).unwrap();
        file[254] = 0;
        let got = read(&file, 1).unwrap().affine;
        for (a, b) in got.iter().flatten().zip(affine.iter().flatten()) {
            let largest = sizes.into_iter().fold(0.0, f64::max);
            prop_assert!((a - b).abs() < 1e-3 * largest, "{got:?} {affine:?}");
        }
    }

    /// No bytes, however broken, panic or allocate beyond the bound.
    #[test]
    fn any_header_is_answered(at in 0..VOXELS_START, byte: u8) {
        let _ = read(&patched(at.min(HEADER_BYTES - 1), &[byte]), 1000);
    }
}
