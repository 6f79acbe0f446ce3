//! What `firstread analyze` is given: a NIfTI file, a folder of DICOM files, or a study's UID.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Person, Problem};
use crate::analysis::measuring::Source;
use crate::analysis::scanner_name;
use crate::dicom::decode::{DecodeError, DecodeLimits, decode_series};
use crate::dicom::file::read_header;
use crate::norms::Sex;
use crate::store::files::is_uid;
use crate::volume::choice::{Candidate, choose};
use crate::volume::nifti;
use crate::volume::{VOXELS_MAX, Volume};

/// Files that a folder may hold.
const FILES_MAX: usize = 100_000;
/// Series tried in turn where the first choice turns out unusable.
const TRIES_MAX: usize = 6;

/// What to analyse.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The T1 and the FLAIR, or what there is; the first is measured.
    pub pictures: Vec<Picture>,
    /// What decoding had to say.
    pub notes: Vec<String>,
    /// What the files say of the person.
    pub person: Person,
    /// The scanner, as calibrations name it.
    pub scanner: Option<String>,
}

/// A volume, with what it was taken for.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The volume.
    pub volume: Volume,
    /// Where it comes from.
    pub source: Source,
}

/// Reads NIfTI files, or chooses and decodes series of a folder of DICOM files. A study UID is
/// looked for in the data folder.
///
/// # Errors
/// [`Problem::BadInput`], [`Problem::NotAnalysed`].
pub async fn read(
    input: &Path,
    flair: Option<&Path>,
    data: Option<&Path>,
    limits: &DecodeLimits,
) -> Result<Input, Problem> {
    let name = input.to_string_lossy();
    if !input.exists() && is_uid(&name) {
        let Some(data) = data else {
            let why = format!("{name}: a study UID needs --data DIR");
            return Err(Problem::BadInput(why));
        };
        let folder = data.join("objects").join(name.as_ref());
        if !folder.is_dir() {
            return Err(Problem::BadInput(format!(
                "study {name} was never received"
            )));
        }
        return read_dicom(&folder, limits).await;
    }
    if input.is_dir() {
        if flair.is_some() {
            let why = "--flair goes with a NIfTI file; a folder's FLAIR is found by itself";
            return Err(Problem::BadInput(why.into()));
        }
        return read_dicom(input, limits).await;
    }
    let mut pictures = vec![read_nifti(input, kind_by_name(input))?];
    if let Some(flair) = flair {
        // A second picture is named: then the first one is what volumes are measured on.
        pictures[0].source.kind = "T1".into();
        pictures.push(read_nifti(flair, "FLAIR")?);
    }
    Ok(Input {
        pictures,
        ..Input::default()
    })
}

/// A NIfTI file says nothing of its contrast, but people name files by it: the words of the name.
/// `MR` where it says nothing clear; then the picture itself tells.
fn kind_by_name(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let words = || name.split(|c: char| !c.is_alphanumeric());
    let flair = words().any(|w| w == "flair");
    let t1 = words().any(|w| ["t1", "t1w", "mprage"].contains(&w));
    match (flair, t1) {
        (true, false) => "FLAIR",
        (false, true) => "T1",
        _ => "MR",
    }
}

fn read_nifti(path: &Path, kind: &str) -> Result<Picture, Problem> {
    let named = |e: &dyn std::fmt::Display| Problem::BadInput(format!("{}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| named(&e))?;
    let volume = nifti::read(&bytes, VOXELS_MAX).map_err(|e| named(&e))?;
    Ok(Picture {
        volume,
        source: Source {
            kind: kind.to_owned(),
            ..Source::default()
        },
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
    decode_chosen(series, person, limits).await
}

/// Decodes the chosen series; one that turns out to be no volume makes way for the next best.
async fn decode_chosen(
    mut series: BTreeMap<String, (Candidate, Vec<PathBuf>)>,
    person: Person,
    limits: &DecodeLimits,
) -> Result<Input, Problem> {
    let mut decoded: BTreeMap<String, Volume> = BTreeMap::new();
    let mut reasons = Vec::new();
    let mut input = Input {
        person,
        ..Input::default()
    };
    for _ in 0..TRIES_MAX {
        let candidates: Vec<Candidate> = series.values().map(|(c, _)| c.clone()).collect();
        let choice = choose(&candidates);
        let next = choice
            .chosen()
            .find(|uid| !decoded.contains_key(*uid))
            .map(str::to_owned);
        let Some(uid) = next else {
            for uid in choice.chosen() {
                let Some(volume) = decoded.remove(uid) else {
                    continue;
                };
                let tags = &series[uid].0.tags;
                input.scanner.get_or_insert_with(|| scanner_name(tags));
                input.pictures.push(Picture {
                    volume,
                    source: Source {
                        series_uid: uid.to_owned(),
                        kind: choice.kind_of(uid).unwrap_or("MR").to_owned(),
                        with_agent: choice.with_agent(uid),
                    },
                });
            }
            break;
        };
        match decode_series(&series[&uid].1, limits).await {
            Ok(found) => {
                input.notes.extend(found.report.notes);
                decoded.insert(uid, found.volume);
            }
            Err(DecodeError::NotAVolume(reason) | DecodeError::Failed(reason)) => {
                reasons.push(reason);
                series.remove(&uid);
            }
        }
    }
    if input.pictures.is_empty() {
        if reasons.is_empty() {
            reasons.push("no usable MR series".into());
        }
        return Err(Problem::NotAnalysed(reasons.join("; ")));
    }
    input.notes.extend(reasons);
    Ok(input)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, kind: &str) {
        assert_eq!(kind_by_name(Path::new(name)), kind);
    }

    #[test]
    fn a_file_is_taken_for_what_it_is_called() {
        check("/data/ms/flair.nii.gz", "FLAIR");
        check("sub-01_FLAIR.nii", "FLAIR");
        check("1003_t1.nii.gz", "T1");
        check("sub-01_T1w.nii.gz", "T1");
        check("t1_flair.nii.gz", "MR");
        check("scan.nii.gz", "MR");
        check("flair/scan.nii.gz", "MR");
    }
}
