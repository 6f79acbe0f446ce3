//! Stage two from files and over the wire, with a network whose answer is known for every voxel.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test fails where it stands; grid indices"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{BINARY, TestServer, databases, dicom_files, modified, real_study, sample, study_uid};
use firstread::volume::affine::{IDENTITY, apply};
use firstread::volume::nifti::{self, Voxels};
use firstread::volume::reorient::{Turn, turned};
use firstread::volume::resample::resample;
use firstread::volume::{VOXELS_MAX, Volume};
use serde_json::Value;

/// A head on a 1 mm RAS grid with a bright block of 12 mm cubed 30 mm to the left of its middle.
fn head_with_a_block_on_the_left() -> Volume {
    let bytes = std::fs::read("tests/samples/golden_head.nii.gz").unwrap();
    let head = nifti::read(&bytes, VOXELS_MAX).unwrap();
    let mut affine = IDENTITY;
    for (row, origin) in affine.iter_mut().zip([-90.0, -120.0, -100.0]) {
        row[3] = origin;
    }
    let mut volume = resample(&head, [180, 220, 190], &affine).unwrap();
    let white = 0.5 * volume.data.iter().copied().fold(0.0, f32::max);
    for at in 0..volume.data.len() {
        // Nothing else is as bright as the block.
        volume.data[at] = volume.data[at].min(white);
        if in_block(&volume, at) {
            volume.data[at] = 8.0 * white;
        }
    }
    volume
}

/// Whether a voxel lies within the block: x -36..-24, y -6..6, z 14..26 mm.
fn in_block(volume: &Volume, at: usize) -> bool {
    within(volume, at, 0.0)
}

/// Whether a voxel lies within the block and so many mm around it.
fn within(volume: &Volume, at: usize, mm: f64) -> bool {
    let [nx, ny, _] = volume.dims;
    let index = [at % nx, at / nx % ny, at / (nx * ny)].map(|i| i as f64);
    let place = apply(&volume.affine, index);
    let off = place.into_iter().zip([-30.0, 0.0, 20.0]);
    off.into_iter()
        .all(|(at, middle)| (at - middle).abs() <= 6.0 + mm)
}

fn save(volume: &Volume, path: &Path) {
    let bytes = nifti::encode(
        volume.dims,
        &volume.affine,
        Voxels::F32(&volume.data),
        false,
    );
    std::fs::write(path, bytes.unwrap()).unwrap();
}

struct Analysed {
    segmentation: Vec<f32>,
    lesions: Vec<f32>,
    report: Value,
    files: Vec<Vec<u8>>,
}

/// Runs `firstread analyze` with the picture as T1 and as FLAIR.
fn analyse(volume: &Volume, models: &Path) -> Analysed {
    let folder = tempfile::tempdir().unwrap();
    let (scan, out) = (folder.path().join("scan.nii"), folder.path().join("out"));
    save(volume, &scan);
    let done = Command::new(BINARY)
        .args(["analyze", "--age", "60", "--sex", "F", "--flair"])
        .args([&scan, &scan])
        .arg("--out")
        .arg(&out)
        .env("FIRSTREAD_ANALYSIS__MODELS", models)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let bytes = |name: &str| std::fs::read(out.join(name)).unwrap();
    let labels = |name: &str| {
        let map = nifti::read(&bytes(name), VOXELS_MAX).unwrap();
        assert_eq!(map.dims, volume.dims, "on the grid of the input");
        for (a, b) in map
            .affine
            .iter()
            .flatten()
            .zip(volume.affine.iter().flatten())
        {
            assert!((a - b).abs() < 1e-4);
        }
        map.data
    };
    Analysed {
        segmentation: labels("segmentation.nii.gz"),
        lesions: labels("lesions.nii.gz"),
        report: serde_json::from_slice(&bytes("report.json")).unwrap(),
        files: ["segmentation.nii.gz", "lesions.nii.gz", "volumes.csv"]
            .map(bytes)
            .to_vec(),
    }
}

fn lesion(analysed: &Analysed) -> (String, [f64; 3], f64) {
    let lesions = &analysed.report["measurement"]["lesions"];
    assert_eq!(lesions["count"], 1, "{lesions}");
    let first = &lesions["lesions"][0];
    let centre = [0, 1, 2].map(|n| first["centre_mm"][n].as_f64().unwrap());
    let side = first["side"].as_str().unwrap().to_owned();
    (side, centre, first["volume_mm3"].as_f64().unwrap())
}

#[test]
fn left_is_left_however_the_file_is_stored() {
    let models = common::test_networks();
    let volume = head_with_a_block_on_the_left();
    let mut expected: Option<Vec<f32>> = None;
    let turns: [Turn; 4] = [
        [(0, false), (1, false), (2, false)],
        [(0, true), (1, false), (2, false)],
        [(2, true), (0, true), (1, false)],
        [(1, false), (2, true), (0, false)],
    ];
    for turn in turns {
        let stored = turned(volume.clone(), turn);
        let analysed = analyse(&stored, models.path());
        let (side, centre, mm3) = lesion(&analysed);
        assert_eq!(side, "left", "{turn:?}");
        assert!(centre[0] < -25.0, "{centre:?}");
        // 13 voxels cubed; sampled on the upright box, borders that hold a part of so bright a block count too.
        assert!((12.0_f64.powi(3)..14.0_f64.powi(3)).contains(&mm3), "{mm3}");
        for at in 0..stored.data.len() {
            let lesion = analysed.lesions[at] != 0.0;
            if within(&stored, at, -1.0) {
                assert!(lesion, "{turn:?}");
                assert_eq!(analysed.segmentation[at], 77.0);
            }
            assert!(!lesion || within(&stored, at, 1.5), "{turn:?}");
        }
        // Turned back, the label map is the same one but for borders that rounding decides.
        let map = Volume {
            data: analysed.segmentation,
            ..stored
        };
        let back = turned(map, undone(turn)).data;
        let first = expected.get_or_insert_with(|| back.clone());
        let other = first.iter().zip(&back).filter(|(a, b)| a != b).count();
        let labelled = first.iter().filter(|label| **label != 0.0).count();
        assert!(other * 500 < labelled, "{turn:?}: {other} of {labelled}");
    }
}

#[test]
fn left_is_left_however_the_slices_were_tilted() {
    let models = common::test_networks();
    let volume = head_with_a_block_on_the_left();
    // Oblique slices of the same head: 12 degrees about the patient's front, 2 mm apart.
    let (sin, cos) = 12.0_f64.to_radians().sin_cos();
    let affine = [
        [cos, 0.0, 2.0 * sin, -100.0],
        [0.0, 1.0, 0.0, -120.0],
        [-sin, 0.0, 2.0 * cos, -90.0],
    ];
    let tilted = resample(&volume, [200, 220, 110], &affine).unwrap();
    let analysed = analyse(&tilted, models.path());
    let (side, centre, mm3) = lesion(&analysed);
    assert_eq!(side, "left");
    for (got, want) in centre.into_iter().zip([-30.0, 0.0, 20.0]) {
        assert!((got - want).abs() < 1.0, "{centre:?}");
    }
    // Its borders are those of slices of 2 mm.
    assert!((12.0_f64.powi(3)..15.0_f64.powi(3)).contains(&mm3), "{mm3}");
    let mut marked = 0;
    for at in 0..tilted.data.len() {
        if within(&tilted, at, -2.0) {
            assert_eq!(analysed.segmentation[at], 77.0);
            marked += 1;
        }
        assert!(analysed.lesions[at] == 0.0 || within(&tilted, at, 2.5));
    }
    assert!(marked > 100);
}

/// The turn that takes back another one.
fn undone(turn: Turn) -> Turn {
    std::array::from_fn(|axis| {
        let at = turn.iter().position(|(old, _)| *old == axis).unwrap();
        (at, turn[at].1)
    })
}

#[test]
fn a_mirrored_head_has_its_lesion_on_the_right() {
    let models = common::test_networks();
    let volume = head_with_a_block_on_the_left();
    // The data mirrored, the header kept: as a file with swapped sides is.
    let mirrored = Volume {
        affine: volume.affine,
        ..turned(volume.clone(), [(0, true), (1, false), (2, false)])
    };
    let analysed = analyse(&mirrored, models.path());
    let (side, centre, _) = lesion(&analysed);
    assert_eq!(side, "right");
    assert!(centre[0] > 20.0, "{centre:?}");
    let again = analyse(&mirrored, models.path());
    assert!(
        analysed.files == again.files,
        "the same bytes a second time"
    );
}

#[test]
fn without_a_measuring_network_the_coarse_result_is_written_and_says_so() {
    let models = common::test_networks();
    std::fs::remove_file(models.path().join("volumetry.toml")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let done = Command::new(BINARY)
        .args(["analyze", "tests/samples/golden_head.nii.gz", "--out"])
        .arg(out.path())
        .env("FIRSTREAD_ANALYSIS__MODELS", models.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let report = std::fs::read(out.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["volumetry"], "not_done");
    assert!(
        report["volumetry_reason"]
            .as_str()
            .unwrap()
            .contains("no network")
    );
    assert!(!out.path().join("lesions.nii.gz").exists());
}

#[tokio::test]
async fn a_study_is_measured_after_it_was_screened() {
    let models = common::test_networks();
    for database in databases() {
        let server = TestServer::start_measuring(&database, models.path());
        let files = dicom_files(&sample("one"));
        // Who it is cannot be made out; that is no reason not to measure.
        let folder = tempfile::tempdir().unwrap();
        let odd = ["(0010,0040)=0000", "(0010,1010)=42", "(0010,0030)="];
        let files = modified(&files, folder.path(), &odd);
        let uid = study_uid(&files[0]);
        assert!(server.send(&files).0);
        let item = server.wait_for(&uid, |i| i["volumetry"] == "done").await;
        assert_eq!(item["age_years"], Value::Null, "{item}");
        assert_eq!(item["sex"], Value::Null, "{item}");
        assert_eq!(item["state"], "screened", "{item}");
        assert!(item["analysed_at"].is_string());
        let reason = item["volumetry_reason"].as_str().unwrap();
        assert!(reason.starts_with("doubtful: "), "{reason}");
        server.wait_until_idle().await;
        let study = server.get(&format!("/api/v1/studies/{uid}")).await;
        let measured = &study["measurement"];
        assert!(measured["intracranial_mm3"].as_f64().unwrap() > 1e5);
        assert_eq!(study["volumes"], measured["volumes"]);
        assert_eq!(study["volumes"][0]["structure"], "total intracranial");
        assert_eq!(study["volumes"][0]["percent_icv"], 100.0);
        assert_eq!(measured["no_lesions"], "no FLAIR");
        assert_eq!(measured["provider"], "cpu");
        assert!(measured["memory_peak_mib"].as_u64().unwrap() > 50);
        assert!(measured["timings_ms"]["network"].is_u64());
        let series = measured["series_uid"].as_str().unwrap();
        let pictures = server.data.join("pictures").join(&uid).join(series);
        assert!(pictures.join("measured_axial_overlay.png").is_file());
        let map = server.data.join("measurements").join(&uid);
        let map = std::fs::read(map.join("segmentation.nii.gz")).unwrap();
        assert!(nifti::read(&map, VOXELS_MAX).unwrap().data.contains(&41.0));
    }
}

#[tokio::test]
async fn lesions_come_from_the_flair_of_a_real_study() {
    let Some(folder) = real_study("t1_flair_study") else {
        return;
    };
    let models = common::test_networks();
    let files = dicom_files(&folder);
    let uid = study_uid(&files[0]);
    let server = TestServer::start_measuring(&databases()[0], models.path());
    assert!(server.send(&files).0);
    server.wait_for(&uid, |i| i["volumetry"] == "done").await;
    let study = server.get(&format!("/api/v1/studies/{uid}")).await;
    let measured = &study["measurement"];
    assert_eq!(measured["contrast"], "T1");
    let flair = measured["lesion_series_uid"].as_str().unwrap();
    assert_ne!(flair, measured["series_uid"].as_str().unwrap());
    assert!(
        measured["lesions"]["count"].is_u64(),
        "{}",
        measured["lesions"]
    );
    assert!(measured["timings_ms"]["flair_network"].is_u64());
    let folder = server.data.join("measurements").join(&uid);
    assert!(folder.join("lesions.nii.gz").is_file());
    // The same study from its UID, without the server's help.
    let out = tempfile::tempdir().unwrap();
    let done = Command::new(BINARY)
        .args(["analyze", &uid, "--data"])
        .arg(&server.data)
        .arg("--out")
        .arg(out.path())
        .env("FIRSTREAD_ANALYSIS__MODELS", models.path())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    for name in ["segmentation.nii.gz", "lesions.nii.gz"] {
        let (a, b) = (folder.join(name), out.path().join(name));
        assert!(
            std::fs::read(a).unwrap() == std::fs::read(b).unwrap(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_calibration_is_a_version_that_can_be_revoked() {
    use firstread::norms::ScannerCalibration;
    use firstread::store::Store;
    for database in databases() {
        let folder = tempfile::tempdir().unwrap();
        let url = database.fresh_url();
        let url = (!url.is_empty()).then_some(url.as_str());
        let store = Store::open(url, folder.path()).await.unwrap();
        let none = ScannerCalibration::default();
        let keep = async |scanner: &str| {
            let kept = store.keep_calibration(scanner, "sha", 12, &none, ("physicist", 5));
            kept.await.unwrap()
        };
        let in_force = async |scanner: &str, network: &str| {
            let found = store.calibration_of(scanner, network).await.unwrap();
            found.map(|c| c.version)
        };
        let (first, second) = (keep("A").await, keep("A").await);
        assert_eq!(in_force("A", "sha").await, Some(second));
        assert_eq!(in_force("A", "another network").await, None);
        assert_eq!(in_force("B", "sha").await, None);
        assert!(store.revoke_calibration(second, "anna", 6).await.unwrap());
        assert!(!store.revoke_calibration(second, "anna", 7).await.unwrap());
        assert_eq!(
            in_force("A", "sha").await,
            Some(first),
            "the earlier one is back"
        );
        let all = store.calibrations().await.unwrap();
        assert_eq!(all.len(), 2, "nothing is deleted");
        let revoked = (all[0].revoked_at, all[0].revoked_by.as_deref());
        assert_eq!(revoked, (Some(6), Some("anna")));
    }
}

#[test]
fn a_doubtful_scan_calibrates_nothing() {
    let models = common::test_networks();
    let card = std::fs::read_to_string(models.path().join("volumetry.toml")).unwrap();
    let sha = card.split("sha256 = \"").nth(1).unwrap()[..64].to_owned();
    let offsets = format!(
        "model_sha256 = \"{sha}\"\nscans = 9\n[structures]\n\
         \"total intracranial\" = {{ offset = 0.0, sd = 0.1 }}\n"
    );
    std::fs::write(models.path().join("volumetry.norms.toml"), offsets).unwrap();
    let data = tempfile::tempdir().unwrap();
    let head = data.path().join("7.nii.gz");
    std::fs::copy("tests/samples/golden_head.nii.gz", head).unwrap();
    let index = data.path().join("index.csv");
    std::fs::write(&index, "id,age,sex\n7,50,F\n").unwrap();
    let run = |arguments: &[&str]| {
        let done = Command::new(BINARY)
            .arg("calibrate")
            .args(arguments)
            .arg("--data")
            .arg(data.path())
            .env("FIRSTREAD_ANALYSIS__MODELS", models.path())
            .output()
            .unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let (index, suffix) = (index.to_str().unwrap(), "--suffix=.nii.gz");
    let (code, said) = run(&["add", "--scanner", "S", "--index", index, suffix]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("7: doubtful: "), "{said}");
    assert_eq!(run(&["list"]).0, Some(0));
    assert_eq!(run(&["revoke", "1"]).0, Some(3));
}
