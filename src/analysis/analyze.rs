//! `firstread analyze`: one study from files to files, without a server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Engine, Screened, SeriesOutcome, screen_volume};
use crate::dicom::decode::{DecodeError, DecodeLimits, decode_series};
use crate::dicom::file::read_header;
use crate::norms::structures::INTRACRANIAL;
use crate::norms::{Norms, Sex};
use crate::store::results::ScreeningResult;
use crate::triage::{Evidence, Screening, TriageSettings, rank};
use crate::volume::affine::{apply, compose, inverse};
use crate::volume::choice::{Candidate, choose};
use crate::volume::nifti::{self, Voxels};
use crate::volume::{VOXELS_MAX, Volume};

/// Files that a folder may hold.
const FILES_MAX: usize = 100_000;

/// Why there is no result.
#[derive(Debug)]
pub enum Problem {
    /// The input cannot be used.
    BadInput(String),
    /// It can, and is nothing that can be analysed.
    NotAnalysed(String),
    /// Our own failure.
    Internal(String),
}

/// What is known of the person.
#[derive(Debug, Clone, Copy, Default)]
pub struct Person {
    /// Years.
    pub age_years: Option<f64>,
    /// Sex.
    pub sex: Option<Sex>,
}

/// A volume to analyse, with what it was taken for.
pub struct Input {
    volume: Volume,
    kind: String,
    notes: Vec<String>,
    person: Person,
}

/// Reads a NIfTI file, or chooses and decodes a series of a folder of DICOM files.
///
/// # Errors
/// [`Problem::BadInput`], [`Problem::NotAnalysed`].
pub async fn read(input: &Path, limits: &DecodeLimits) -> Result<Input, Problem> {
    if input.is_dir() {
        return read_dicom(input, limits).await;
    }
    let bytes =
        std::fs::read(input).map_err(|e| Problem::BadInput(format!("{}: {e}", input.display())))?;
    let volume = nifti::read(&bytes, VOXELS_MAX)
        .map_err(|e| Problem::BadInput(format!("{}: {e}", input.display())))?;
    Ok(Input {
        volume,
        kind: "MR".into(),
        notes: Vec::new(),
        person: Person::default(),
    })
}

async fn read_dicom(folder: &Path, limits: &DecodeLimits) -> Result<Input, Problem> {
    let mut series: BTreeMap<String, (Candidate, Vec<PathBuf>)> = BTreeMap::new();
    let mut person = Person::default();
    for path in files_below(folder).map_err(Problem::BadInput)? {
        let header = match read_header(&path) {
            Ok(Some(header)) => header,
            Ok(None) => continue,
            Err(e) => return Err(Problem::BadInput(format!("{}: {e}", path.display()))),
        };
        let patient = &header.patient;
        person.age_years = person.age_years.or_else(|| {
            crate::intake::age_years(
                patient.birth_date.as_deref(),
                header.study.date.as_deref(),
                patient.age.as_deref(),
            )
        });
        person.sex = person.sex.or_else(|| Sex::parse(patient.sex.as_deref()?));
        let (candidate, files) = series.entry(header.series_uid.clone()).or_insert_with(|| {
            let candidate = Candidate {
                series_uid: header.series_uid.clone(),
                sop_class_uid: header.sop_class_uid.clone(),
                tags: header.series.clone(),
                images: 0,
                own_result: header.series_uid.starts_with(crate::intake::OWN_UID_ROOT),
            };
            (candidate, Vec::new())
        });
        candidate.images += header.number_of_frames.max(1) as usize;
        files.push(path);
    }
    if series.is_empty() {
        return Err(Problem::BadInput(format!(
            "{}: no DICOM files",
            folder.display()
        )));
    }
    decode_first(&series, person, limits).await
}

/// Decodes the best series that turns out to be a volume.
async fn decode_first(
    series: &BTreeMap<String, (Candidate, Vec<PathBuf>)>,
    person: Person,
    limits: &DecodeLimits,
) -> Result<Input, Problem> {
    let candidates: Vec<Candidate> = series.values().map(|(c, _)| c.clone()).collect();
    let choice = choose(&candidates);
    let mut reasons = Vec::new();
    for uid in choice.chosen() {
        let files = series
            .get(uid)
            .map(|(_, files)| files.as_slice())
            .unwrap_or_default();
        match decode_series(files, limits).await {
            Ok(decoded) => {
                return Ok(Input {
                    volume: decoded.volume,
                    kind: choice.kind_of(uid).unwrap_or("MR").to_owned(),
                    notes: decoded.report.notes,
                    person,
                });
            }
            Err(DecodeError::NotAVolume(reason) | DecodeError::Failed(reason)) => {
                reasons.push(reason);
            }
        }
    }
    if reasons.is_empty() {
        reasons.push("no usable MR series".into());
    }
    Err(Problem::NotAnalysed(reasons.join("; ")))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.is_dir() {
                folders.push(path);
            } else if found.len() < FILES_MAX {
                found.push(path);
            } else {
                return Err(format!("more than {FILES_MAX} files"));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Runs the network and writes `segmentation.nii.gz`, `volumes.csv` and `report.json`.
///
/// # Errors
/// [`Problem`].
pub fn write(
    engine: &Engine,
    norms: &Norms,
    input: &Input,
    person: Person,
    out: &Path,
) -> Result<(), Problem> {
    let age = person.age_years.or(input.person.age_years);
    let sex = person.sex.or(input.person.sex);
    let outcome = screen_volume(engine, norms, &input.volume, &input.kind, age, sex)
        .map_err(Problem::Internal)?;
    let (screened, result) = match outcome {
        SeriesOutcome::Screened(found) => *found,
        SeriesOutcome::NotAnalysed(reason) => return Err(Problem::NotAnalysed(reason)),
    };
    let internal = |e: String| Problem::Internal(e);
    std::fs::create_dir_all(out).map_err(|e| internal(format!("{}: {e}", out.display())))?;
    let save = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        std::fs::write(&path, bytes).map_err(|e| internal(format!("{}: {e}", path.display())))
    };
    let labels = on_grid(&screened, engine, &input.volume);
    let file = nifti::encode(
        input.volume.dims,
        &input.volume.affine,
        Voxels::U8(&labels),
        true,
    )
    .map_err(|e| internal(e.to_string()))?;
    save("segmentation.nii.gz", &file)?;
    save("volumes.csv", volumes_csv(&result).as_bytes())?;
    let report = report(engine, &result, &input.notes);
    save(
        "report.json",
        serde_json::to_string_pretty(&report)
            .unwrap_or_default()
            .as_bytes(),
    )
}

/// FreeSurfer codes on the input's grid: the label of the nearest voxel of the network's grid.
fn on_grid(screened: &Screened, engine: &Engine, volume: &Volume) -> Vec<u8> {
    let mut out = vec![0_u8; volume.data.len()];
    let Some(to_network) = inverse(&screened.affine) else {
        return out;
    };
    let map = compose(&to_network, &volume.affine);
    let [nx, ny, _] = volume.dims;
    for (at, code) in out.iter_mut().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "voxel indices")]
        let place = [at % nx, at / nx % ny, at / (nx * ny)].map(|i| i as f64);
        let mut index = 0;
        let mut inside = true;
        for (value, n) in apply(&map, place).into_iter().zip(screened.dims) {
            let nearest = value.round();
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to lie inside the grid"
            )]
            if nearest >= 0.0 && nearest < n as f64 {
                index = index * n + nearest as usize;
            } else {
                inside = false;
            }
        }
        if inside {
            let label = screened.labels.get(index).copied().unwrap_or(0);
            let known = engine
                .card
                .codes
                .get(usize::from(label))
                .copied()
                .unwrap_or(0);
            *code = u8::try_from(known).unwrap_or(0);
        }
    }
    out
}

fn volumes_csv(result: &ScreeningResult) -> String {
    let whole = result.volumes.iter().find(|v| v.structure == INTRACRANIAL);
    let intracranial = whole.map_or(f64::NAN, |v| v.volume_mm3);
    let mut csv = "structure,label,volume_mm3,percent_icv,z,percentile\n".to_owned();
    let or_empty = |value: Option<f64>| value.map(|v| format!("{v:.3}")).unwrap_or_default();
    for v in &result.volumes {
        let _ = writeln!(
            csv,
            "{},{},{:.1},{:.4},{},{}",
            quoted(&v.structure),
            v.label.map(|l| l.to_string()).unwrap_or_default(),
            v.volume_mm3,
            100.0 * v.volume_mm3 / intracranial,
            or_empty(v.z),
            or_empty(v.percentile)
        );
    }
    csv
}

/// A text with a comma in it, as CSV has it (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn report(engine: &Engine, result: &ScreeningResult, notes: &[String]) -> serde_json::Value {
    let evidence = Evidence {
        screening: result
            .p_calibrated
            .zip(result.prevalence_train)
            .map(|(p, prevalence)| Screening {
                p_calibrated: p,
                prevalence_train: prevalence,
            }),
        findings: result.findings.clone(),
        ..Evidence::default()
    };
    let ranking = rank(&evidence, &TriageSettings::default());
    json!({
        "notice": crate::RESEARCH_USE,
        "software": concat!("firstread ", env!("CARGO_PKG_VERSION")),
        "model": engine.card.label(),
        "provider": engine.provider,
        "stage": "screening at 2 mm; full volumetry is not part of this version",
        "screening": result,
        "p_abnormal": ranking.p_abnormal,
        "band": ranking.band,
        "head_start_minutes": ranking.head_start_ms / 60_000,
        "reasons": ranking.reasons,
        "notes": notes,
    })
}
