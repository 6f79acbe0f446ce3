//! Results as DICOM objects: Measurement Report (TID 1500), Segmentation, Encapsulated PDF and
//! Secondary Capture, into the study that was measured, as series of their own.
//!
//! Patient and study are those of the source, decoded by its character set and written in UTF-8
//! (`ISO_IR 192`). UIDs follow from the result: the same result makes the same objects again, byte for
//! byte, so that a repeated delivery is no second report.

pub mod codes;
mod encapsulated;
mod measurements;
mod secondary;
mod segmentation;
mod set;
mod source;
mod tree;

use sha2::{Digest, Sha256};

pub use encapsulated::pdf;
pub use measurements::{Measure, Said, measurement_report};
pub use secondary::{KeyImage, key_images};
pub use segmentation::{Labels, Of, Segments, segmentation};
pub use source::{Source, SourceImage};

use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_object::meta::FileMetaTableBuilder;

use self::set::Set;

/// What an object is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Segmentation.
    Seg,
    /// Measurement Report: after the segmentation that it refers to.
    Sr,
    /// Encapsulated PDF.
    Pdf,
    /// Secondary Capture.
    Sc,
}

impl Kind {
    /// All, in the order they are sent.
    pub const ALL: [Self; 4] = [Self::Seg, Self::Sr, Self::Pdf, Self::Sc];

    /// As settings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seg => "seg",
            Self::Sr => "sr",
            Self::Pdf => "pdf",
            Self::Sc => "sc",
        }
    }

    /// Its SOP class.
    #[must_use]
    pub fn sop_class_uid(self) -> &'static str {
        match self {
            Self::Seg => uids::SEGMENTATION_STORAGE,
            Self::Sr => uids::COMPREHENSIVE_SR_STORAGE,
            Self::Pdf => uids::ENCAPSULATED_PDF_STORAGE,
            Self::Sc => uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        }
    }

    /// (0008,0060); PDF viewers look for `DOC` (PS3.3 C.24.1).
    #[must_use]
    pub fn modality(self) -> &'static str {
        match self {
            Self::Seg => "SEG",
            Self::Sr => "SR",
            Self::Pdf => "DOC",
            Self::Sc => "OT",
        }
    }

    /// The series that its objects are in.
    fn series(self) -> Series {
        let (number, description) = match self {
            Self::Seg => ("9901", "firstread segmentation (research use)"),
            Self::Sr => ("9902", "firstread measurements (research use)"),
            Self::Pdf => ("9903", "firstread report (research use)"),
            Self::Sc => ("9904", "firstread key images (research use)"),
        };
        Series {
            kind: self,
            key: self.as_str(),
            number,
            description,
        }
    }
}

/// A series of our objects within the study.
#[derive(Debug, Clone, Copy)]
struct Series {
    kind: Kind,
    /// What its UIDs follow from.
    key: &'static str,
    /// (0020,0011): behind what scanners use.
    number: &'static str,
    /// (0008,103E)
    description: &'static str,
}

/// Who made it and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// Root of our UIDs.
    pub uid_root: &'static str,
    /// What tells this result from any other of the study: network, input, versions, language.
    pub result: String,
    /// (0018,1020): program, networks, norms.
    pub software_versions: Vec<String>,
    /// Name and version of the network that measured.
    pub algorithm: (String, String),
    /// (0018,1000): which installation, its AE title.
    pub device: String,
    /// `YYYYMMDD`, when the result was made.
    pub date: String,
    /// `HHMMSS`
    pub time: String,
}

impl Maker {
    /// A UID of our own that follows from the result and `what` it is for.
    #[must_use]
    pub fn uid(&self, study_uid: &str, what: &str) -> String {
        derived_uid(self.uid_root, &[study_uid, &self.result, what])
    }
}

/// A UID below a root of at most 45 characters that follows from some texts.
#[must_use]
pub fn derived_uid(root: &str, parts: &[&str]) -> String {
    /// With 19 digits behind our root a UID has its 64 characters (PS3.5 9.1).
    const NUMBERS: u64 = 10_000_000_000_000_000_000;
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    let bytes = digest.finalize();
    let head = bytes.iter().take(8);
    let number = head.fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    format!("{root}{}", (number % NUMBERS).max(1))
}

/// A finished object.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// (0020,000E)
    pub series_uid: String,
    /// A DICOM file (PS3.10), explicit VR little endian.
    pub file: Vec<u8>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({:?} {})", self.kind, self.sop_instance_uid)
    }
}

/// Why an object could not be made, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotMake(pub String);

impl CannotMake {
    fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Patient, study, series, equipment and SOP common modules of an object.
fn begin(source: &Source, maker: &Maker, series: Series, number: u32) -> Set {
    let kind = series.kind;
    let study_uid = &source.header.study_uid;
    let mut set = Set::default();
    set.text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192");
    set.text(tags::INSTANCE_CREATION_DATE, &maker.date);
    set.text(tags::INSTANCE_CREATION_TIME, &maker.time);
    set.text(tags::SOP_CLASS_UID, kind.sop_class_uid());
    let instance = maker.uid(study_uid, &format!("{} {number}", series.key));
    set.text(tags::SOP_INSTANCE_UID, &instance);
    source.patient_and_study(&mut set);
    set.text(tags::MODALITY, kind.modality());
    set.text(tags::SERIES_INSTANCE_UID, &maker.uid(study_uid, series.key));
    set.text(tags::SERIES_NUMBER, series.number);
    set.text(tags::SERIES_DESCRIPTION, series.description);
    set.text(tags::SERIES_DATE, &maker.date);
    set.text(tags::SERIES_TIME, &maker.time);
    set.text(tags::INSTANCE_NUMBER, &number.to_string());
    set.text(tags::CONTENT_DATE, &maker.date);
    set.text(tags::CONTENT_TIME, &maker.time);
    set.text(tags::MANUFACTURER, "firstread");
    set.text(tags::MANUFACTURER_MODEL_NAME, "firstread");
    set.text(tags::DEVICE_SERIAL_NUMBER, &maker.device);
    let versions: Vec<&str> = maker.software_versions.iter().map(String::as_str).collect();
    set.texts(tags::SOFTWARE_VERSIONS, &versions);
    set
}

/// The data set as a file.
fn finish(kind: Kind, set: Set) -> Result<Object, CannotMake> {
    let object: InMemDicomObject = set.into_object();
    let text = |tag| {
        let value = object.get(tag).and_then(|e| e.to_str().ok());
        value.map(std::borrow::Cow::into_owned).unwrap_or_default()
    };
    let (sop_instance_uid, series_uid) = (
        text(tags::SOP_INSTANCE_UID),
        text(tags::SERIES_INSTANCE_UID),
    );
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(super::IMPLEMENTATION_CLASS_UID)
        .implementation_version_name(super::IMPLEMENTATION_VERSION_NAME);
    let says = |e: &dyn std::fmt::Display| CannotMake(format!("could not write an object: {e}"));
    let file_object = object.with_meta(meta).map_err(|e| says(&e))?;
    let mut file = Vec::new();
    file_object.write_all(&mut file).map_err(|e| says(&e))?;
    Ok(Object {
        kind,
        sop_instance_uid,
        series_uid,
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::is_uid;

    #[test]
    fn derived_uids_are_uids_and_follow_from_all_parts() {
        let root = crate::intake::OWN_UID_ROOT;
        let mut all = std::collections::BTreeSet::new();
        for n in 0..2000 {
            let uid = derived_uid(root, &["1.2.3", "result", &n.to_string()]);
            assert!(is_uid(&uid), "{uid}");
            assert!(all.insert(uid));
        }
        assert_eq!(
            derived_uid(root, &["a", "bc"]),
            derived_uid(root, &["a", "bc"])
        );
        assert_ne!(
            derived_uid(root, &["a", "bc"]),
            derived_uid(root, &["ab", "c"])
        );
    }
}
