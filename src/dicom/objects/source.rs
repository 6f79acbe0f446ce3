//! The series that was measured, as our objects refer to it: patient, study, where each image lies.

use std::path::Path;

use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;

use super::CannotMake;
use super::set::Set;
use crate::dicom::decode::geometries;
use crate::dicom::file::read_header;
use crate::dicom::guard;
use crate::dicom::header::ObjectHeader;
use crate::volume::parts_of;
use crate::volume::slice::SliceGeometry;

/// Images of one series that are referred to.
const IMAGES_MAX: usize = 20_000;
/// Slices nearer to each other than this are repeats, mm.
const SAME_PLACE_MM: f64 = 0.01;

/// One image, or one frame of one.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceImage {
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// From 1, in an object of several frames.
    pub frame: Option<u32>,
    /// Where it lies.
    pub geometry: SliceGeometry,
}

/// A series of a study.
#[derive(Debug, Clone)]
pub struct Source {
    /// Of its first object: who, which study, which series. Text is UTF-8.
    pub header: ObjectHeader,
    /// (0020,0010)
    study_id: Option<String>,
    /// (0010,1020) and (0010,1030), where they are numbers.
    size_and_weight: [Option<String>; 2],
    /// One stack of images, along its normal.
    pub images: Vec<SourceImage>,
}

impl Source {
    /// Reads the headers of a series' files. Pixels are not read.
    ///
    /// # Errors
    /// Where no file can be read, or none is an image in space.
    pub fn read(files: &[impl AsRef<Path>]) -> Result<Self, CannotMake> {
        let mut source: Option<Self> = None;
        let mut images = Vec::new();
        for file in files.iter().take(IMAGES_MAX) {
            let path = file.as_ref();
            let header = read_header(path).map_err(CannotMake)?;
            let Some(header) = header else { continue };
            let object = OpenFileOptions::new()
                .read_until(tags::PIXEL_DATA)
                .open_file(path)
                .map_err(|_| CannotMake::because("an image of the series cannot be read"))?;
            let places = geometries(&object).unwrap_or_default();
            let several = places.len() > 1;
            for (frame, geometry) in (1..).zip(places) {
                images.push(SourceImage {
                    sop_class_uid: header.sop_class_uid.clone(),
                    sop_instance_uid: header.sop_instance_uid.clone(),
                    frame: several.then_some(frame),
                    geometry,
                });
            }
            let text = |tag| {
                let value = object.get(tag)?.to_str().ok()?;
                let value = value.trim_matches([' ', '\0']).to_owned();
                (!value.is_empty() && value.is_ascii()).then_some(value)
            };
            source.get_or_insert_with(|| Self {
                study_id: text(tags::STUDY_ID).filter(|id| id.len() <= 16),
                size_and_weight: [tags::PATIENT_SIZE, tags::PATIENT_WEIGHT]
                    .map(|tag| text(tag).filter(|t| t.len() <= 16 && t.parse::<f64>().is_ok())),
                header,
                images: Vec::new(),
            });
        }
        let mut source =
            source.ok_or_else(|| CannotMake::because("the series has no object to refer to"))?;
        source.images = one_stack(images);
        Ok(source)
    }

    /// Patient, patient study and general study modules (PS3.3 C.7.1.1, C.7.2.2, C.7.2.1).
    pub(super) fn patient_and_study(&self, set: &mut Set) {
        let (patient, study) = (&self.header.patient, &self.header.study);
        let date = |text: &Option<String>| text.clone().filter(|t| is_date(t));
        set.text_or_empty(tags::PATIENT_NAME, patient.name.as_deref());
        set.text_or_empty(tags::PATIENT_ID, patient.id.as_deref());
        if let Some(issuer) = &patient.issuer {
            set.text(tags::ISSUER_OF_PATIENT_ID, issuer);
        }
        set.text_or_empty(
            tags::PATIENT_BIRTH_DATE,
            date(&patient.birth_date).as_deref(),
        );
        set.text_or_empty(tags::PATIENT_SEX, patient.sex.as_deref());
        if let Some(age) = patient.age.as_deref().filter(|age| is_age(age)) {
            set.text(tags::PATIENT_AGE, age);
        }
        for (tag, value) in [tags::PATIENT_SIZE, tags::PATIENT_WEIGHT]
            .into_iter()
            .zip(&self.size_and_weight)
        {
            if let Some(value) = value {
                set.text(tag, value);
            }
        }
        set.text(tags::STUDY_INSTANCE_UID, &self.header.study_uid);
        set.text_or_empty(tags::STUDY_DATE, date(&study.date).as_deref());
        let time = study.time.clone().filter(|t| is_time(t));
        set.text_or_empty(tags::STUDY_TIME, time.as_deref());
        set.text_or_empty(tags::REFERRING_PHYSICIAN_NAME, study.referrer.as_deref());
        set.text_or_empty(tags::STUDY_ID, self.study_id.as_deref());
        set.text_or_empty(tags::ACCESSION_NUMBER, study.accession.as_deref());
        if let Some(description) = &study.description {
            set.text(tags::STUDY_DESCRIPTION, description);
        }
    }

    /// (0020,0052), where it is a UID: without it nothing can be placed in this patient's space.
    #[must_use]
    pub fn frame_of_reference_uid(&self) -> Option<&str> {
        let uid = self.header.series.frame_of_reference_uid.as_deref()?;
        guard::uid(uid.as_bytes())
            .ok()
            .filter(|known| *known == uid)
    }

    /// Class and instance UID of each object, once.
    pub(super) fn objects(&self) -> Vec<(&str, &str)> {
        let mut objects: Vec<(&str, &str)> = Vec::new();
        for image in &self.images {
            let object = (
                image.sop_class_uid.as_str(),
                image.sop_instance_uid.as_str(),
            );
            if objects.last() != Some(&object) {
                objects.push(object);
            }
        }
        objects
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_time(text: &str) -> bool {
    (2..=14).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// `nnnD`, `nnnW`, `nnnM` or `nnnY` (PS3.5 6.2, AS).
fn is_age(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 4 && bytes[..3].iter().all(u8::is_ascii_digit) && b"DWMY".contains(&bytes[3])
}

/// The images of the part that was analysed, along their normal, one a place.
fn one_stack(images: Vec<SourceImage>) -> Vec<SourceImage> {
    let parts = parts_of(images, |image| &image.geometry);
    let Some(mut stack) = parts.into_iter().next() else {
        return Vec::new();
    };
    let normal = stack[0].geometry.normal();
    stack.sort_by(|a, b| {
        let height = |image: &SourceImage| image.geometry.height(normal);
        height(a).total_cmp(&height(b))
    });
    stack.dedup_by(|b, a| {
        (b.geometry.height(normal) - a.geometry.height(normal)).abs() < SAME_PLACE_MM
    });
    stack
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_the_part_that_was_analysed_not_the_first_images() {
        let axial = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let sagittal = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0];
        let image = |number: u32, position: [f64; 3], orientation| SourceImage {
            sop_class_uid: "1".into(),
            sop_instance_uid: number.to_string(),
            frame: None,
            geometry: SliceGeometry::new([4, 4], position, orientation, [1.0, 1.0]).unwrap(),
        };
        // a scout that came first, then slices from above, one of them twice
        let scout = image(0, [0.0; 3], sagittal);
        let slice = |number, height| image(number, [0.0, 0.0, height], axial);
        let series = vec![
            scout,
            slice(1, 9.0),
            slice(2, 6.0),
            slice(3, 6.0),
            slice(4, 3.0),
        ];
        let stack = one_stack(series);
        let order: Vec<&str> = stack.iter().map(|i| i.sop_instance_uid.as_str()).collect();
        assert_eq!(order, ["4", "2", "1"]);
        assert!(one_stack(Vec::new()).is_empty());
    }
}
