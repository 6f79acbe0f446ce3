//! `firstread analyze`: one study from files to files, without a server.

mod input;

pub use input::{Input, Picture, read};

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::measuring::{self, Look, Measured, Reference};
use super::stage_two::{LESIONS, SEGMENTATION};
use super::standing::merge_findings;
use super::volumetry_findings::groups_known;
use super::{Engine, Measurement, Screened, SeriesOutcome, screen_volume};
use crate::norms::{Norms, Sex, fixed};
use crate::store::measurements::KeptCalibration;
use crate::store::results::ScreeningResult;
use crate::triage::{Evidence, Screening, TriageSettings, Volumetry, rank};
use crate::volume::affine::{apply, compose, inverse};
use crate::volume::nifti::{self, Voxels};
use crate::volume::{Affine, Volume};
use crate::worklist::VolumeDetail;

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

/// What analyses.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// The screening network.
    pub screening: &'a Engine,
    /// The measuring network, or why there is none.
    pub measuring: Result<&'a Engine, &'a str>,
    /// Norm table.
    pub norms: &'a Norms,
    /// The scanner's calibration.
    pub calibration: Option<&'a KeptCalibration>,
}

/// A screened picture.
struct Seen<'a> {
    picture: &'a Picture,
    screened: Screened,
    result: ScreeningResult,
}

/// What is written.
struct Results {
    segmentation: Vec<u8>,
    /// On which grid, and the lesions.
    lesions: Option<([usize; 3], Affine, Vec<u8>)>,
    volumes: Vec<VolumeDetail>,
    measurement: Result<Measurement, String>,
}

/// Runs the networks and writes `segmentation.nii.gz`, `lesions.nii.gz` where there is a FLAIR,
/// `volumes.csv` and `report.json`.
///
/// # Errors
/// [`Problem`].
pub fn write(tools: Tools, input: &Input, person: Person, out: &Path) -> Result<(), Problem> {
    let started = Instant::now();
    let person = Person {
        age_years: person.age_years.or(input.person.age_years),
        sex: person.sex.or(input.person.sex),
    };
    let seen = screen_all(tools, input, person)?;
    let results = match measure(tools, &seen, person).map_err(Problem::Internal)? {
        Ok(measured) => from_measured(measured, &seen),
        Err(why) => from_screening(tools.screening, &seen[0], why),
    };
    let whole = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    save(tools, &seen, &results, input, whole, out).map_err(Problem::Internal)
}

/// Measures without writing anything.
///
/// # Errors
/// [`Problem`].
pub fn measurement(tools: Tools, input: &Input, person: Person) -> Result<Measurement, Problem> {
    let seen = screen_all(tools, input, person)?;
    let measured = measure(tools, &seen, person).map_err(Problem::Internal)?;
    let measured = measured.map_err(Problem::NotAnalysed)?;
    Ok(measured.measurement)
}

fn save(
    tools: Tools,
    seen: &[Seen],
    results: &Results,
    input: &Input,
    whole_ms: u64,
    out: &Path,
) -> Result<(), String> {
    std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let save = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        std::fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))
    };
    let encode = |dims, affine: &Affine, codes: &[u8]| {
        nifti::encode(dims, affine, Voxels::U8(codes), true).map_err(|e| e.to_string())
    };
    let main = &seen[0].picture.volume;
    let file = encode(main.dims, &main.affine, &results.segmentation)?;
    save(SEGMENTATION, &file)?;
    if let Some((dims, affine, lesions)) = &results.lesions {
        save(LESIONS, &encode(*dims, affine, lesions)?)?;
    }
    save("volumes.csv", volumes_csv(&results.volumes).as_bytes())?;
    let mut report = report(tools.screening, seen, results, &input.notes);
    report["scanner"] = json!(input.scanner);
    report["whole_ms"] = json!(whole_ms);
    report["memory_peak_mib"] = json!(measuring::memory_peak_mib());
    let text = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
    save("report.json", text.as_bytes())
}

/// Screens every picture; the first must be a head, another that is none is left out.
fn screen_all<'a>(
    tools: Tools,
    input: &'a Input,
    person: Person,
) -> Result<Vec<Seen<'a>>, Problem> {
    let mut seen = Vec::new();
    for picture in &input.pictures {
        let kind = &picture.source.kind;
        let outcome = screen_volume(
            tools.screening,
            tools.norms,
            &picture.volume,
            kind,
            person.age_years,
            person.sex,
        );
        match outcome.map_err(Problem::Internal)? {
            SeriesOutcome::Screened(found) => {
                let (screened, result) = *found;
                seen.push(Seen {
                    picture,
                    screened,
                    result,
                });
            }
            SeriesOutcome::NotAnalysed(reason) if seen.is_empty() => {
                return Err(Problem::NotAnalysed(reason));
            }
            SeriesOutcome::NotAnalysed(_) => {}
        }
    }
    Ok(seen)
}

/// The inner error says why there is no measurement.
fn measure(
    tools: Tools,
    seen: &[Seen],
    person: Person,
) -> Result<Result<Measured, String>, String> {
    let engine = match tools.measuring {
        Ok(engine) => engine,
        Err(why) => return Ok(Err(why.to_owned())),
    };
    let look = |seen: &Seen| -> Result<Result<Look, String>, String> {
        let Picture { volume, source } = seen.picture;
        measuring::look_screened(engine, volume, &seen.screened, source.clone())
    };
    let main = match look(&seen[0])? {
        Ok(look) => look,
        Err(why) => return Ok(Err(why)),
    };
    let (mut flair, mut no_lesions) = (None, None);
    if let Some(second) = seen.get(1) {
        match look(second)? {
            Ok(look) => flair = Some(look),
            Err(why) => no_lesions = Some(format!("FLAIR: {why}")),
        }
    }
    let reference = Reference {
        norms: tools.norms,
        scanner: tools.calibration.map(|c| (c.version, &c.calibration)),
        age_years: person.age_years,
        sex: person.sex,
    };
    let mut measured = measuring::combine(&main, flair.as_ref(), engine, reference);
    measured.measurement.no_lesions = no_lesions.or(measured.measurement.no_lesions);
    Ok(Ok(measured))
}

fn from_measured(measured: Measured, seen: &[Seen]) -> Results {
    let flair = seen.get(1).unwrap_or(&seen[0]);
    let Volume { dims, affine, .. } = flair.picture.volume;
    Results {
        segmentation: measured.segmentation,
        lesions: measured.lesions.map(|lesions| (dims, affine, lesions)),
        volumes: measured.measurement.volumes.clone(),
        measurement: Ok(measured.measurement),
    }
}

fn from_screening(engine: &Engine, seen: &Seen, why: String) -> Results {
    Results {
        segmentation: on_grid(&seen.screened, engine, &seen.picture.volume),
        lesions: None,
        volumes: seen.result.volumes.clone(),
        measurement: Err(why),
    }
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

fn volumes_csv(volumes: &[VolumeDetail]) -> String {
    let mut csv = "structure,label,volume_mm3,percent_icv,z,percentile\n".to_owned();
    let number =
        |value: Option<f64>, digits: usize| value.map(|v| fixed(v, digits)).unwrap_or_default();
    for v in volumes {
        let _ = writeln!(
            csv,
            "{},{},{:.1},{},{},{}",
            quoted(&v.structure),
            v.label.map(|l| l.to_string()).unwrap_or_default(),
            v.volume_mm3,
            number(v.percent_icv, 4),
            number(v.z, 3),
            number(v.percentile, 3)
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

fn report(
    engine: &Engine,
    seen: &[Seen],
    results: &Results,
    notes: &[String],
) -> serde_json::Value {
    let strongest = seen.iter().max_by(|a, b| {
        let p = |s: &Seen| s.result.p_calibrated.unwrap_or(0.0);
        p(a).total_cmp(&p(b))
    });
    let screening = strongest.and_then(|s| {
        Some(Screening {
            p_calibrated: s.result.p_calibrated?,
            prevalence_train: s.result.prevalence_train?,
        })
    });
    let measurement = results.measurement.as_ref().ok();
    let relied_on = measurement.filter(|m| !m.quality.doubtful);
    let evidence = Evidence {
        screening,
        findings: merge_findings(seen.iter().map(|s| &s.result)),
        volumetry: relied_on.map(|m| Volumetry {
            groups: groups_known(m),
            findings: m.findings.clone(),
        }),
        ..Evidence::default()
    };
    let ranking = rank(&evidence, &TriageSettings::default());
    let screenings: Vec<&ScreeningResult> = seen.iter().map(|s| &s.result).collect();
    json!({
        "notice": crate::RESEARCH_USE,
        "software": concat!("firstread ", env!("CARGO_PKG_VERSION")),
        "model": engine.card.label(),
        "provider": engine.provider,
        "screening": screenings,
        "volumetry": if measurement.is_some() { "done" } else { "not_done" },
        "volumetry_reason": results.measurement.as_ref().err(),
        "measurement": measurement,
        "p_abnormal": ranking.p_abnormal,
        "band": ranking.band,
        "head_start_minutes": ranking.head_start_ms / 60_000,
        "reasons": ranking.reasons,
        "notes": notes,
    })
}
