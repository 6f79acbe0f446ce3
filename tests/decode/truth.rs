//! The same grid and the same voxels as dcm2niix.

use std::path::{Path, PathBuf};
use std::process::Command;

use firstread::volume::{VOXELS_MAX, Volume, nifti};

use super::{decode, files};

/// Farthest that an element of two affines may differ, mm.
const AFFINE_TOLERANCE_MM: f64 = 1e-3;

/// dcm2niix of the virtual environment that `scripts/setup` makes.
fn dcm2niix() -> Option<PathBuf> {
    let python = std::env::var_os("FIRSTREAD_TEST_PYTHON");
    let program = python.and_then(|p| Some(Path::new(&p).parent()?.join("dcm2niix")));
    let program = program.filter(|p| p.exists());
    if program.is_none() {
        eprintln!("skipped: no dcm2niix beside FIRSTREAD_TEST_PYTHON");
    }
    program
}

fn truth(dcm2niix: &Path, files: &[PathBuf]) -> Volume {
    let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (n, file) in files.iter().enumerate() {
        std::os::unix::fs::symlink(file, input.path().join(format!("{n}.dcm"))).unwrap();
    }
    let done = Command::new(dcm2niix)
        .args(["-z", "n", "-b", "n", "-f", "truth", "-o"])
        .arg(output.path())
        .arg(input.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let bytes = std::fs::read(output.path().join("truth.nii")).unwrap();
    nifti::read(&bytes, VOXELS_MAX).unwrap()
}

async fn same_as_dcm2niix(data_set: &str, folder: &str) {
    let (Some(files), Some(dcm2niix)) = (files(data_set, folder), dcm2niix()) else {
        return;
    };
    let ours = decode(&files).await.unwrap().volume;
    let theirs = truth(&dcm2niix, &files);
    assert_eq!(ours.dims, theirs.dims);
    let pairs = ours
        .affine
        .iter()
        .flatten()
        .zip(theirs.affine.iter().flatten());
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!(
        "{data_set}/{folder}: {:?}, affines differ by {worst:.2e} mm",
        ours.dims
    );
    assert!(
        worst < AFFINE_TOLERANCE_MM,
        "{:?} {:?}",
        ours.affine,
        theirs.affine
    );
    assert!(ours.data == theirs.data, "voxels differ");
}

#[tokio::test]
async fn t1_mprage() {
    same_as_dcm2niix("t1_flair_study", "t1_mprage").await;
}

#[tokio::test]
async fn flair() {
    same_as_dcm2niix("t1_flair_study", "flair").await;
}

#[tokio::test]
async fn enhanced_t1() {
    same_as_dcm2niix("enhanced_t1", "").await;
}

#[tokio::test]
async fn decubitus_hfs() {
    same_as_dcm2niix("decubitus_hfs", "").await;
}

#[tokio::test]
async fn phantom() {
    same_as_dcm2niix("phantom_brain_tags", "").await;
}

#[tokio::test]
async fn localizer() {
    same_as_dcm2niix("localizer", "").await;
}

#[tokio::test]
async fn plain_and_compressed() {
    for folder in [
        "anatomical/001",
        "anatomical/001_implicit",
        "compressed_rle",
        "compressed_jpeg",
        "compressed_jpegls",
        "compressed_j2k",
    ] {
        same_as_dcm2niix("compressed", folder).await;
    }
}

/// Slopes differ from slice to slice; stated in the header as decimal text.
#[tokio::test]
async fn rescaled_slices() {
    let rescaled = files("compressed", "anatomical/002_non_isotropic");
    let (Some(rescaled), Some(dcm2niix)) = (rescaled, dcm2niix()) else {
        return;
    };
    let ours = decode(&rescaled).await.unwrap().volume;
    let theirs = truth(&dcm2niix, &rescaled);
    assert_eq!(ours.dims, theirs.dims);
    for (a, b) in ours.data.iter().zip(&theirs.data) {
        assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} {b}");
    }
}
