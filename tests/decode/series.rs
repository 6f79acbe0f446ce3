//! Compressions, odd geometry, and what the child says of it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use firstread::dicom::decode::{DecodeError, DecodeLimits, decode_series_with};

use super::common::BINARY;
use super::{decode, files};

#[tokio::test]
async fn every_compression_gives_the_same_voxels() {
    let Some(rle) = files("compressed", "compressed_rle") else {
        return;
    };
    let want = decode(&rle).await.unwrap().volume;
    for folder in [
        "compressed_jpeg",
        "compressed_jpegls",
        "compressed_j2k",
        "compressed",
    ] {
        let got = decode(&files("compressed", folder).unwrap())
            .await
            .unwrap()
            .volume;
        assert!(got == want, "{folder}");
    }
}

#[track_caller]
fn refused<T>(outcome: Result<T, DecodeError>, part: &str) {
    match outcome.err() {
        Some(DecodeError::NotAVolume(reason)) => assert!(reason.contains(part), "{reason}"),
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn odd_geometry_is_refused_with_a_reason() {
    let Some(few) = files("odd_geometry", "slicecount") else {
        return;
    };
    for (folder, part) in [
        (
            "sliceincrement/001",
            "missing slice: gap of 10.0 mm between slices 3 and 4 of 4",
        ),
        ("sliceincrement/002", "missing slice: gap of 1.5 mm"),
        ("gantrytilting", "slanted by 14.0 degrees (gantry tilt)"),
        ("notavolume", "all 4 images lie at the same place"),
        ("sliceorientation", "different directions"),
    ] {
        refused(decode(&files("odd_geometry", folder).unwrap()).await, part);
    }
    let limits = DecodeLimits::default();
    let outcome = decode_series_with(Path::new(BINARY), &few, &limits).await;
    refused(outcome, "too few slices: 2");
}

#[tokio::test]
async fn colour_is_refused() {
    if let Some(colour) = files("compressed", "rgb") {
        refused(decode(&colour).await, "colour pictures");
    }
}

#[tokio::test]
async fn two_series_in_one_folder_are_not_mixed_up() {
    let Some(mut both) = files("t1_flair_study", "flair") else {
        return;
    };
    both.truncate(40);
    both.extend(files("decubitus_hfs", "").unwrap());
    refused(decode(&both).await, "different directions");
}

/// Slices that are missing at the end are no hole; in the middle they are.
#[tokio::test]
async fn slices_missing() {
    let Some(files) = files("phantom_brain_tags", "") else {
        return;
    };
    let number = |path: &PathBuf| -> u32 {
        let object = dicom_object::open_file(path).unwrap();
        object
            .element_by_name("InstanceNumber")
            .unwrap()
            .to_int()
            .unwrap()
    };
    let without = |gone: std::ops::Range<u32>| -> Vec<PathBuf> {
        files
            .iter()
            .filter(|f| !gone.contains(&number(f)))
            .cloned()
            .collect()
    };
    let whole = decode(&files).await.unwrap();
    assert!(!whole.report.partial, "{:?}", whole.report);
    let partial = decode(&without(100..131)).await.unwrap();
    assert!(partial.report.partial);
    assert_eq!(partial.report.notes, ["99 of 130 images have arrived"]);
    refused(
        decode(&without(50..51)).await,
        "missing slice: gap of 2.4 mm",
    );
}

/// 208 slices of 224 x 224, process start included.
#[tokio::test]
async fn a_head_takes_seconds() {
    /// Generous: the machine may be busy, and this may be a debug build.
    const LIMIT_S: f64 = 20.0;
    let Some(files) = files("t1_flair_study", "t1_mprage") else {
        return;
    };
    let limits = DecodeLimits::default();
    let began = Instant::now();
    let decoded = decode_series_with(Path::new(BINARY), &files, &limits)
        .await
        .unwrap();
    let decode_s = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let grid = firstread::volume::screening_grid::prepare(&decoded.volume);
    let prepare_s = began.elapsed().as_secs_f64();
    println!(
        "decode {decode_s:.2} s, screening grid {prepare_s:.2} s, report {:?}",
        decoded.report
    );
    assert!(grid.data.iter().any(|v| *v >= 1.0));
    assert!(decode_s < LIMIT_S && prepare_s < LIMIT_S);
}
