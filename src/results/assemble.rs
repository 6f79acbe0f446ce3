//! From facts, pictures and labels to objects. Blocking: it reads files.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::analysis::LESION_CODE;
use crate::dicom::header::ObjectHeader;
use crate::dicom::objects::{
    CannotMake, KeyImage, Kind, Labels, Maker, Measure, Object, Of, Said, Segments, Source,
    key_images, measurement_report, pdf, segmentation,
};
use crate::intake::{OWN_UID_ROOT, age_years};
use crate::norms::structures::STRUCTURES;
use crate::report::change::in_a_sentence;
use crate::report::facts::{Measured, Patient, Stage};
use crate::report::key_images::{KeyPicture, key_pictures};
use crate::report::pdf::{Fonts, Planes, read_pictures, render};
use crate::report::{Facts, Language, NORM_TABLE_NAME, Reporter};
use crate::volume::VOXELS_MAX;
use crate::volume::nifti;
use crate::worklist::display_name;

/// What objects are made of.
pub struct Inputs {
    /// What is known.
    pub facts: Facts,
    /// How it is said.
    pub reporter: Arc<Reporter>,
    /// Files of the series that was measured.
    pub files: Vec<PathBuf>,
    /// Folder of its pictures.
    pub pictures: Option<PathBuf>,
    /// Its label map, NIfTI on its own grid; none where only coarse volumes were measured.
    pub labels: Option<PathBuf>,
    /// Files of the series that lesions were seen on, and the map of lesions on its grid.
    pub lesions: Option<(Vec<PathBuf>, PathBuf)>,
    /// Our AE title.
    pub device: String,
    /// What tells this result from others.
    pub result: String,
    /// What is wanted.
    pub kinds: Vec<Kind>,
}

/// What was made, and what was not and why.
#[derive(Debug, Default)]
pub struct Made {
    /// In the order they are sent.
    pub objects: Vec<Object>,
    /// Why a kind is missing.
    pub notes: Vec<String>,
}

/// Makes the objects. One that cannot be made leaves the others.
///
/// # Errors
/// Where none can be made: the series cannot be read, or nothing was measured.
pub fn assemble(inputs: &Inputs) -> Result<Made, String> {
    let measured = inputs
        .facts
        .measured
        .as_ref()
        .ok_or("nothing was measured")?;
    let source = Source::read(&inputs.files).map_err(|e| e.to_string())?;
    let maker = maker(inputs, measured);
    let mut made = Made::default();
    let mut segments = Segments::new();
    let mut segmented = None;
    if let Some(path) = inputs.labels.as_ref().filter(|_| wants(inputs, Kind::Seg)) {
        match segment(&source, &maker, Of::Structures, path) {
            Ok((object, numbers)) => {
                segments = numbers;
                segmented = Some(object.clone());
                made.objects.push(object);
            }
            Err(e) => made.notes.push(format!("segmentation: {e}")),
        }
    }
    let seen_on = inputs
        .lesions
        .as_ref()
        .map(|(files, _)| Source::read(files));
    if let (Some((_, path)), Some(seen_on)) = (&inputs.lesions, &seen_on)
        && wants(inputs, Kind::Seg)
    {
        let flair = seen_on.as_ref().map_err(Clone::clone);
        let made_of = flair.and_then(|flair| segment(flair, &maker, Of::Lesions, path));
        made.take("lesions", made_of.map(|(object, _)| vec![object]));
    }
    if wants(inputs, Kind::Sr) {
        let all = measures(&inputs.facts, measured, &segments);
        let said = Said {
            norms: &measured.norms,
            doubts: &doubts(measured),
        };
        let report = measurement_report(&source, &maker, &all, segmented.as_ref(), said);
        made.take("measurement report", report.map(|object| vec![object]));
    }
    let facts = Facts {
        patient: patient(&source.header),
        ..inputs.facts.clone()
    };
    let content = inputs.reporter.content(&facts, None);
    let planes: Vec<Planes> = match (&content.pictures, &inputs.pictures) {
        (Some(shown), Some(folder)) => read_pictures(folder, shown),
        _ => Vec::new(),
    };
    let fonts = &inputs.reporter.settings.fonts;
    if wants(inputs, Kind::Pdf) {
        let set = Fonts::read(fonts)
            .and_then(|fonts| render(&content, &planes, &fonts, inputs.facts.made_ms))
            .map_err(CannotMake)
            .and_then(|document| {
                let seen_on = seen_on.as_ref().and_then(|read| read.as_ref().ok());
                pdf(&source, seen_on, &maker, &content.title, &document)
            });
        made.take("PDF", set.map(|object| vec![object]));
    }
    if wants(inputs, Kind::Sc) && !planes.is_empty() {
        let drawn = key_pictures(&content, &planes, fonts).map_err(CannotMake);
        let images = drawn.and_then(|pictures| {
            let images: Vec<KeyImage> = pictures.into_iter().map(key_image).collect();
            key_images(&source, &maker, &images)
        });
        made.take("key images", images);
    }
    Ok(made)
}

/// The patient as the images name them, and so every object: the PACS knows the study by them, and applies to ours what
/// it was told since of merged and corrected patients, as it does to the images. A page of ours says what we were told.
fn patient(header: &ObjectHeader) -> Patient {
    let known = &header.patient;
    let (birth, age) = (known.birth_date.as_deref(), known.age.as_deref());
    Patient {
        name: known.name.as_deref().map(display_name).unwrap_or_default(),
        id: known.id.clone().unwrap_or_default(),
        birth_date: known.birth_date.clone(),
        sex: known.sex.clone(),
        age_years: age_years(birth, header.study.date.as_deref(), age).map(Patient::whole_years),
    }
}

impl Made {
    fn take(&mut self, what: &str, made: Result<Vec<Object>, CannotMake>) {
        match made {
            Ok(objects) => self.objects.extend(objects),
            Err(e) => self.notes.push(format!("{what}: {e}")),
        }
    }
}

fn wants(inputs: &Inputs, kind: Kind) -> bool {
    inputs.kinds.contains(&kind)
}

fn maker(inputs: &Inputs, measured: &Measured) -> Maker {
    let made = DateTime::<Utc>::from_timestamp_millis(inputs.facts.made_ms)
        .unwrap_or_default()
        .with_timezone(&inputs.reporter.time_zone);
    let (name, version) = measured
        .model
        .split_once(' ')
        .unwrap_or((measured.model.as_str(), "unknown"));
    let mut software_versions = vec![concat!("firstread ", env!("CARGO_PKG_VERSION")).to_owned()];
    software_versions.extend(inputs.facts.models.iter().cloned());
    software_versions.push(NORM_TABLE_NAME.to_owned());
    Maker {
        uid_root: OWN_UID_ROOT,
        result: inputs.result.clone(),
        software_versions,
        algorithm: (format!("firstread {name}"), version.to_owned()),
        device: inputs.device.clone(),
        date: made.format("%Y%m%d").to_string(),
        time: made.format("%H%M%S").to_string(),
    }
}

fn segment(
    source: &Source,
    maker: &Maker,
    of: Of,
    path: &PathBuf,
) -> Result<(Object, Segments), CannotMake> {
    let says = |e: &dyn std::fmt::Display| CannotMake(format!("could not read the labels: {e}"));
    let bytes = std::fs::read(path).map_err(|e| says(&e))?;
    let volume = nifti::read(&bytes, VOXELS_MAX).map_err(|e| says(&e))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "codes of structures are small whole numbers"
    )]
    let code = |v: &f32| match of {
        Of::Structures => v.round().clamp(0.0, 255.0) as u8,
        // The map says where lesions are, not what they are.
        Of::Lesions => LESION_CODE * u8::from(v.round() > 0.0),
    };
    let codes: Vec<u8> = volume.data.iter().map(code).collect();
    let labels = Labels {
        dims: volume.dims,
        affine: &volume.affine,
        codes: &codes,
    };
    segmentation(source, maker, of, &labels)
}

fn measures(facts: &Facts, measured: &Measured, segments: &Segments) -> Vec<Measure> {
    let segment = |structure: &str| {
        let (code, ..) = STRUCTURES.iter().find(|s| s.1 == structure)?;
        segments.get(&u8::try_from(*code).ok()?).copied()
    };
    measured
        .volumes
        .iter()
        .map(|v| Measure {
            change: change(facts, &v.structure),
            structure: v.structure.clone(),
            volume_mm3: v.volume_mm3,
            z: v.z,
            percentile: v.percentile,
            segment: segment(&v.structure),
        })
        .collect()
}

/// What became of a structure since the earlier study, in English: the language of the report of
/// measurements.
fn change(facts: &Facts, structure: &str) -> Option<String> {
    let follow_up = facts.follow_up.as_ref()?;
    let change = follow_up
        .changes
        .iter()
        .find(|c| c.structure == structure)?;
    let mut text = in_a_sentence(change, &follow_up.prior_date, Language::En);
    if !follow_up.doubts.is_empty() {
        text += "; doubtful";
    }
    Some(text)
}

/// What makes the numbers doubtful, for those who see nothing but them.
fn doubts(measured: &Measured) -> Vec<String> {
    let remarks = measured.remarks.iter().filter(|r| r.doubtful);
    let mut doubts: Vec<String> = remarks.map(|r| r.text.clone()).collect();
    if measured.partial {
        doubts.push("images are missing as far as is known".into());
    }
    if measured.stage == Stage::Screening {
        doubts.push("coarse volumes, measured at 2 mm by screening".into());
    }
    doubts
}

fn key_image(picture: KeyPicture) -> KeyImage {
    let side = |n: usize| u16::try_from(n).unwrap_or(0);
    KeyImage {
        comment: picture.comment,
        columns: side(picture.size[0]),
        rows: side(picture.size[1]),
        rgb: picture.rgb,
        orientation: match picture.plane {
            0 => ["L", "P"],
            1 => ["L", "F"],
            _ => ["P", "F"],
        },
    }
}
