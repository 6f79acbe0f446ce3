//! Our objects, judged by dciodvfy and read by highdicom: the whole way from files to objects.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use firstread::dicom::objects::Kind;
use firstread::norms::Norms;
use firstread::report::facts::{Facts, Measured, Patient, RankingFacts, Shown, Stage, Study};
use firstread::report::{ReportSettings, Reporter};
use firstread::results::{Inputs, Made, assemble};
use firstread::triage::Band;
use firstread::worklist::VolumeDetail;

use crate::common::{BINARY, dicom_files, real_study, sample};

const MODEL: &str = "screening 0.1 (abc)";

/// The Python with highdicom, where dciodvfy is there too.
pub fn judge() -> Option<String> {
    let python = std::env::var("FIRSTREAD_TEST_PYTHON").unwrap_or_default();
    let able = !python.is_empty()
        && Command::new("dciodvfy").output().is_ok()
        && Command::new(&python)
            .args(["-c", "import highdicom"])
            .output()
            .is_ok_and(|out| out.status.success());
    if !able {
        eprintln!("skipped: needs FIRSTREAD_TEST_PYTHON with highdicom, and dicom3tools");
    }
    able.then_some(python)
}

fn volumes(csv: &Path) -> Vec<VolumeDetail> {
    let text = std::fs::read_to_string(csv).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows = lines.map(|line| {
        let cells = cells(line);
        let cell = |name: &str| cells[names.iter().position(|n| *n == name).unwrap()].as_str();
        VolumeDetail {
            structure: cell("structure").into(),
            label: cell("label").parse().ok(),
            volume_mm3: cell("volume_mm3").parse().unwrap(),
            percent_icv: cell("percent_icv").parse().ok(),
            z: cell("z").parse().ok(),
            percentile: cell("percentile").parse().ok(),
            healthy_mm3: None,
            no_norm: None,
        }
    });
    rows.collect()
}

/// Cells of a line of CSV; the first may be quoted.
fn cells(line: &str) -> Vec<String> {
    let (first, rest) = match line.strip_prefix('"').and_then(|l| l.split_once("\",")) {
        Some((first, rest)) => (first, rest),
        None => line.split_once(',').unwrap(),
    };
    let rest = rest.split(',').map(str::to_owned);
    std::iter::once(first.to_owned()).chain(rest).collect()
}

fn inputs(files: &[PathBuf], labels: &Path, csv: &Path, pictures: &Path) -> Inputs {
    Inputs {
        facts: Facts {
            patient: Patient::default(),
            study: Study::default(),
            measured: Some(Measured {
                stage: Stage::Screening,
                series_uid: "1.2".into(),
                series: "3 T1".into(),
                contrast: "T1".into(),
                model: MODEL.into(),
                input: "input".into(),
                volumes: volumes(csv),
                age_years: Some(27.4),
                sex: Some("M".into()),
                partial: false,
                remarks: Vec::new(),
                confidence: None,
                asymmetry: Vec::new(),
                indices: Vec::new(),
                norms: "norms_synthseg_v0".into(),
                calibration: None,
                pictures: Shown {
                    screened: ["axial", "coronal", "sagittal"].map(str::to_owned).to_vec(),
                    ..Shown::default()
                },
            }),
            not_measured: None,
            lesions: None,
            lesion_series: None,
            lesion_series_uid: None,
            no_lesions: None,
            follow_up: None,
            not_compared: None,
            volumetry: "done".into(),
            volumetry_reason: None,
            settled: true,
            looked_at: None,
            ranking: RankingFacts {
                band: Band::Routine,
                total_minutes: 0,
                terms: Vec::new(),
                p_abnormal: None,
                settings_version: 1,
            },
            models: vec![MODEL.into()],
            made_ms: 1_795_435_200_000,
        },
        reporter: Arc::new(Reporter {
            settings: ReportSettings::default(),
            norms: Arc::new(Norms::parse(firstread::serve::NORM_TABLE).unwrap()),
            time_zone: chrono_tz::Europe::Berlin,
            screening: None,
            measuring: None,
        }),
        files: files.to_vec(),
        pictures: Some(pictures.to_owned()),
        labels: Some(labels.to_owned()),
        lesions: None,
        device: "FIRSTREAD".into(),
        result: "result".into(),
        kinds: Kind::ALL.to_vec(),
    }
}

/// Small grey pictures of three planes.
fn pictures(folder: &Path) {
    for plane in ["axial", "coronal", "sagittal"] {
        let file = std::fs::File::create(folder.join(format!("{plane}.png"))).unwrap();
        let mut encoder = png::Encoder::new(file, 40, 30);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[90; 1200]).unwrap();
    }
}

fn write(made: &Made, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut captures = 0;
    for object in &made.objects {
        let name = if object.kind == Kind::Sc {
            captures += 1;
            format!("sc{captures}.dcm")
        } else {
            format!("{}.dcm", object.kind.as_str())
        };
        std::fs::write(folder.join(name), &object.file).unwrap();
    }
}

/// What the judge says; `lesions` are the series that they were seen on and their map.
pub fn judged(
    python: &str,
    results: &Path,
    [source, labels, csv]: [&Path; 3],
    lesions: Option<[&Path; 2]>,
) -> serde_json::Value {
    let out = Command::new(python)
        .arg("tests/results/check.py")
        .args([results, source, labels, csv])
        .args(lesions.iter().flatten())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

#[test]
fn objects_are_valid_and_highdicom_reads_what_was_measured_the_right_way_round() {
    let (Some(python), Some(study)) = (judge(), real_study("t1_flair_study")) else {
        return;
    };
    let source = study.join("t1_flair_study/t1_mprage");
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("analyzed");
    let ran = Command::new(BINARY)
        // As the server of these tests does: screening alone.
        .env("FIRSTREAD_ANALYSIS__VOLUMETRY", "false")
        .args(["analyze", "--age", "27.4", "--sex", "M", "--out"])
        .arg(&out)
        .arg(&source)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let (labels, csv) = (out.join("segmentation.nii.gz"), out.join("volumes.csv"));
    pictures(work.path());
    let files = dicom_files(&source);
    let made = assemble(&inputs(&files, &labels, &csv, work.path())).unwrap();
    assert_eq!(made.notes, Vec::<String>::new());
    let kinds: Vec<Kind> = made.objects.iter().map(|o| o.kind).collect();
    assert_eq!(
        kinds,
        [Kind::Seg, Kind::Sr, Kind::Pdf, Kind::Sc, Kind::Sc, Kind::Sc]
    );
    // the same result is the same objects, byte for byte
    let again = assemble(&inputs(&files, &labels, &csv, work.path())).unwrap();
    assert!(made.objects == again.objects);
    let results = work.path().join("results");
    write(&made, &results);
    let said = judged(&python, &results, [&source, &labels, &csv], None);
    assert_eq!(said["seg_wrong"], 0, "{said}");
    assert!(said["seg_labelled"].as_u64().unwrap() > 500_000, "{said}");
    assert!(said["segments"].as_u64().unwrap() > 25, "{said}");
    assert!(said["measurements"].as_u64().unwrap() > 40, "{said}");
    eprintln!("whole: {said}");
}

/// What HL7 said since of merged or corrected patients is in the database and not in the images: every object names the
/// patient that the images name, and no other stands in the report inside.
#[test]
fn objects_name_the_patient_of_the_images_alone() {
    let work = tempfile::tempdir().unwrap();
    let csv = work.path().join("volumes.csv");
    let header = "structure,label,volume_mm3,percent_icv,z,percentile\n";
    std::fs::write(&csv, header).unwrap();
    pictures(work.path());
    let files = dicom_files(&sample("one"));
    let made = |patient: Patient| {
        let mut inputs = inputs(&files, work.path(), &csv, work.path());
        inputs.facts.patient = patient;
        inputs.kinds = vec![Kind::Sr, Kind::Pdf, Kind::Sc];
        let made = assemble(&inputs).unwrap();
        assert!(made.objects.iter().any(|o| o.kind == Kind::Pdf));
        assert!(made.objects.iter().any(|o| o.kind == Kind::Sc));
        made.objects
    };
    let known = made(Patient::default());
    let merged = made(Patient {
        name: "Newname, Given".into(),
        id: "SURVIVING".into(),
        birth_date: Some("19400203".into()),
        sex: Some("F".into()),
        age_years: Some(86),
    });
    assert!(known == merged);
}

#[test]
fn a_series_that_cannot_be_referred_to_is_a_reason() {
    let work = tempfile::tempdir().unwrap();
    let csv = work.path().join("volumes.csv");
    std::fs::write(
        &csv,
        "structure,label,volume_mm3,percent_icv,z,percentile\n",
    )
    .unwrap();
    let nothing = work.path().join("nothing.dcm");
    std::fs::write(&nothing, "not DICOM").unwrap();
    let why = assemble(&inputs(&[nothing], work.path(), &csv, work.path())).unwrap_err();
    assert!(why.contains("no object to refer to"), "{why}");
}
