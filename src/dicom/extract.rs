//! From the values of a walk to an [`ObjectHeader`] (pure).

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::charset::{CharacterSet, Kind};
use super::guard::{self, BadUid};
use super::header::{ObjectHeader, PatientTags, SeriesTags, StudyTags};
use super::walk::{self, Encoding, Tag, Value, Visitor, WalkError};

/// Longest text kept of one value, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Why no header could be had.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are not a sound data set.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// An identifier that everything depends on is not usable.
    #[error("{name} {problem}")]
    Uid {
        /// Which one.
        name: &'static str,
        /// What is wrong with it.
        problem: UidProblem,
    },
    /// The same identifying element twice: nobody can say which is meant.
    #[error("{tag} is there twice")]
    Twice {
        /// The element.
        tag: Tag,
    },
}

/// What is wrong with an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UidProblem {
    /// Not there.
    #[error("is missing")]
    Missing,
    /// There, and unusable.
    #[error("is {0}")]
    Bad(BadUid),
}

/// Walks a data set of `length` bytes and takes the header out of it.
///
/// # Errors
/// When the walk finds the data set unsound, or an identifier is missing, bad or doubled.
pub fn header<R: Read + Seek>(
    source: R,
    length: u64,
    transfer_syntax_uid: &str,
) -> Result<ObjectHeader, HeaderError> {
    let mut found = Found::default();
    walk::walk(
        source,
        length,
        Encoding::of(transfer_syntax_uid),
        &mut found,
    )?;
    if let Some(tag) = found.twice {
        return Err(HeaderError::Twice { tag });
    }
    found.header(transfer_syntax_uid)
}

mod tag {
    use super::Tag;

    pub const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
    pub const IMAGE_TYPE: Tag = Tag(0x0008, 0x0008);
    pub const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
    pub const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
    pub const STUDY_DATE: Tag = Tag(0x0008, 0x0020);
    pub const STUDY_TIME: Tag = Tag(0x0008, 0x0030);
    pub const ACCESSION: Tag = Tag(0x0008, 0x0050);
    pub const ACCESSION_ISSUER: Tag = Tag(0x0008, 0x0051);
    pub const MODALITY: Tag = Tag(0x0008, 0x0060);
    pub const MANUFACTURER: Tag = Tag(0x0008, 0x0070);
    pub const INSTITUTION: Tag = Tag(0x0008, 0x0080);
    pub const REFERRER: Tag = Tag(0x0008, 0x0090);
    pub const CODE_MEANING: Tag = Tag(0x0008, 0x0104);
    pub const STUDY_DESCRIPTION: Tag = Tag(0x0008, 0x1030);
    pub const SERIES_DESCRIPTION: Tag = Tag(0x0008, 0x103E);
    pub const MODEL: Tag = Tag(0x0008, 0x1090);
    pub const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
    pub const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
    pub const PATIENT_ID_ISSUER: Tag = Tag(0x0010, 0x0021);
    pub const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
    pub const SEX: Tag = Tag(0x0010, 0x0040);
    pub const AGE: Tag = Tag(0x0010, 0x1010);
    pub const CONTRAST_AGENT: Tag = Tag(0x0018, 0x0010);
    pub const CONTRAST_AGENT_SEQUENCE: Tag = Tag(0x0018, 0x0012);
    pub const BODY_PART: Tag = Tag(0x0018, 0x0015);
    pub const SCANNING_SEQUENCE: Tag = Tag(0x0018, 0x0020);
    pub const SEQUENCE_VARIANT: Tag = Tag(0x0018, 0x0021);
    pub const ACQUISITION_TYPE: Tag = Tag(0x0018, 0x0023);
    pub const SEQUENCE_NAME: Tag = Tag(0x0018, 0x0024);
    pub const SLICE_THICKNESS: Tag = Tag(0x0018, 0x0050);
    pub const REPETITION_TIME: Tag = Tag(0x0018, 0x0080);
    pub const ECHO_TIME: Tag = Tag(0x0018, 0x0081);
    pub const INVERSION_TIME: Tag = Tag(0x0018, 0x0082);
    pub const FIELD_STRENGTH: Tag = Tag(0x0018, 0x0087);
    pub const SPACING_BETWEEN_SLICES: Tag = Tag(0x0018, 0x0088);
    pub const ECHO_TRAIN_LENGTH: Tag = Tag(0x0018, 0x0091);
    pub const DEVICE_SERIAL: Tag = Tag(0x0018, 0x1000);
    pub const SOFTWARE_VERSIONS: Tag = Tag(0x0018, 0x1020);
    pub const PROTOCOL: Tag = Tag(0x0018, 0x1030);
    pub const FLIP_ANGLE: Tag = Tag(0x0018, 0x1314);
    pub const PULSE_SEQUENCE_NAME: Tag = Tag(0x0018, 0x9005);
    pub const INVERSION_TIMES: Tag = Tag(0x0018, 0x9079);
    pub const EFFECTIVE_ECHO_TIME: Tag = Tag(0x0018, 0x9082);
    pub const B_VALUE: Tag = Tag(0x0018, 0x9087);
    pub const STUDY: Tag = Tag(0x0020, 0x000D);
    pub const SERIES: Tag = Tag(0x0020, 0x000E);
    pub const SERIES_NUMBER: Tag = Tag(0x0020, 0x0011);
    pub const INSTANCE_NUMBER: Tag = Tag(0x0020, 0x0013);
    pub const ORIENTATION: Tag = Tag(0x0020, 0x0037);
    pub const FRAME_OF_REFERENCE: Tag = Tag(0x0020, 0x0052);
    pub const IMAGES_IN_ACQUISITION: Tag = Tag(0x0020, 0x1002);
    pub const FRAMES: Tag = Tag(0x0028, 0x0008);
    pub const ROWS: Tag = Tag(0x0028, 0x0010);
    pub const COLUMNS: Tag = Tag(0x0028, 0x0011);
    pub const PIXEL_SPACING: Tag = Tag(0x0028, 0x0030);
    pub const LOCAL_NAMESPACE: Tag = Tag(0x0040, 0x0031);
    pub const UNIVERSAL_NAMESPACE: Tag = Tag(0x0040, 0x0032);
    pub const REQUEST_SEQUENCE: Tag = Tag(0x0040, 0x0275);
    pub const REQUESTED_PRIORITY: Tag = Tag(0x0040, 0x1003);

    // vendors' b-values, with the private creators of their blocks
    pub const SIEMENS_CREATOR: Tag = Tag(0x0019, 0x0010);
    pub const SIEMENS_B_VALUE: Tag = Tag(0x0019, 0x100C);
    pub const PHILIPS_CREATOR: Tag = Tag(0x2001, 0x0010);
    pub const PHILIPS_B_VALUE: Tag = Tag(0x2001, 0x1003);
    pub const GE_CREATOR: Tag = Tag(0x0043, 0x0010);
    pub const GE_B_VALUE: Tag = Tag(0x0043, 0x1039);
}

/// Elements without which an object cannot be filed, in the order they are complained of.
const IDENTITY: [(Tag, &str); 4] = [
    (tag::SOP_CLASS, "SOP Class UID (0008,0016)"),
    (tag::SOP_INSTANCE, "SOP Instance UID (0008,0018)"),
    (tag::STUDY, "Study Instance UID (0020,000D)"),
    (tag::SERIES, "Series Instance UID (0020,000E)"),
];

/// What is read at the top level.
const TOP_LEVEL: [Tag; 57] = [
    tag::CHARACTER_SET,
    tag::IMAGE_TYPE,
    tag::SOP_CLASS,
    tag::SOP_INSTANCE,
    tag::STUDY_DATE,
    tag::STUDY_TIME,
    tag::ACCESSION,
    tag::MODALITY,
    tag::MANUFACTURER,
    tag::INSTITUTION,
    tag::REFERRER,
    tag::STUDY_DESCRIPTION,
    tag::SERIES_DESCRIPTION,
    tag::MODEL,
    tag::PATIENT_NAME,
    tag::PATIENT_ID,
    tag::PATIENT_ID_ISSUER,
    tag::BIRTH_DATE,
    tag::SEX,
    tag::AGE,
    tag::CONTRAST_AGENT,
    tag::BODY_PART,
    tag::SCANNING_SEQUENCE,
    tag::SEQUENCE_VARIANT,
    tag::ACQUISITION_TYPE,
    tag::SEQUENCE_NAME,
    tag::SLICE_THICKNESS,
    tag::REPETITION_TIME,
    tag::ECHO_TIME,
    tag::INVERSION_TIME,
    tag::FIELD_STRENGTH,
    tag::SPACING_BETWEEN_SLICES,
    tag::ECHO_TRAIN_LENGTH,
    tag::DEVICE_SERIAL,
    tag::SOFTWARE_VERSIONS,
    tag::PROTOCOL,
    tag::FLIP_ANGLE,
    tag::PULSE_SEQUENCE_NAME,
    tag::B_VALUE,
    tag::STUDY,
    tag::SERIES,
    tag::SERIES_NUMBER,
    tag::INSTANCE_NUMBER,
    tag::ORIENTATION,
    tag::FRAME_OF_REFERENCE,
    tag::IMAGES_IN_ACQUISITION,
    tag::FRAMES,
    tag::ROWS,
    tag::COLUMNS,
    tag::PIXEL_SPACING,
    tag::REQUESTED_PRIORITY,
    tag::SIEMENS_CREATOR,
    tag::SIEMENS_B_VALUE,
    tag::PHILIPS_CREATOR,
    tag::PHILIPS_B_VALUE,
    tag::GE_CREATOR,
    tag::GE_B_VALUE,
];

/// What is read in the functional groups of enhanced objects (PS3.3 C.7.6.16, C.8.13.5)...
const IN_FUNCTIONAL_GROUPS: [Tag; 16] = [
    tag::SLICE_THICKNESS,
    tag::SPACING_BETWEEN_SLICES,
    tag::PIXEL_SPACING,
    tag::ORIENTATION,
    tag::REPETITION_TIME,
    tag::FLIP_ANGLE,
    tag::ECHO_TRAIN_LENGTH,
    tag::EFFECTIVE_ECHO_TIME,
    tag::INVERSION_TIMES,
    tag::B_VALUE,
    // these only in legacy converted objects
    tag::ECHO_TIME,
    tag::INVERSION_TIME,
    tag::SCANNING_SEQUENCE,
    tag::SEQUENCE_VARIANT,
    tag::SEQUENCE_NAME,
    tag::ACQUISITION_TYPE,
];

/// ...and in which of them. Other groups, private ones above all, quote whole other objects.
const FUNCTIONAL_GROUPS: [Tag; 8] = [
    Tag(0x0028, 0x9110), // pixel measures
    Tag(0x0020, 0x9116), // plane orientation
    Tag(0x0018, 0x9112), // MR timing
    Tag(0x0018, 0x9114), // MR echo
    Tag(0x0018, 0x9115), // MR modifier
    Tag(0x0018, 0x9117), // MR diffusion
    Tag(0x0020, 0x9170), // unassigned shared converted attributes
    Tag(0x0020, 0x9171), // unassigned per-frame converted attributes
];

const SHARED_GROUPS: Tag = Tag(0x5200, 0x9229);
const PER_FRAME_GROUPS: Tag = Tag(0x5200, 0x9230);

/// A value as sent.
struct Raw {
    vr: Option<[u8; 2]>,
    big_endian: bool,
    bytes: Vec<u8>,
}

/// The wanted values, the first found of each.
#[derive(Default)]
struct Found {
    values: HashMap<Tag, Raw>,
    has_pixel_data: bool,
    twice: Option<Tag>,
}

impl Visitor for Found {
    fn wants(&self, path: &[Tag], tag: Tag) -> bool {
        match *path {
            [] => TOP_LEVEL.contains(&tag),
            [tag::ACCESSION_ISSUER] => {
                matches!(tag, tag::LOCAL_NAMESPACE | tag::UNIVERSAL_NAMESPACE)
            }
            [tag::REQUEST_SEQUENCE] => tag == tag::REQUESTED_PRIORITY,
            [tag::CONTRAST_AGENT_SEQUENCE] => tag == tag::CODE_MEANING,
            [SHARED_GROUPS | PER_FRAME_GROUPS, group] => {
                IN_FUNCTIONAL_GROUPS.contains(&tag)
                    && FUNCTIONAL_GROUPS.contains(&group)
                    && !self.values.contains_key(&tag)
            }
            _ => false,
        }
    }

    fn value(&mut self, path: &[Tag], tag: Tag, value: Value<'_>) {
        if self.values.contains_key(&tag) {
            let identifies = tag == tag::PATIENT_ID || IDENTITY.iter().any(|(id, _)| *id == tag);
            if path.is_empty() && identifies {
                self.twice = Some(tag);
            }
            return;
        }
        let raw = Raw {
            vr: value.vr,
            big_endian: value.big_endian,
            bytes: value.bytes.to_vec(),
        };
        self.values.insert(tag, raw);
    }

    fn pixel_data(&mut self) {
        self.has_pixel_data = true;
    }
}

impl Found {
    fn header(&self, transfer_syntax_uid: &str) -> Result<ObjectHeader, HeaderError> {
        let text = Texts {
            values: &self.values,
            set: self
                .values
                .get(&tag::CHARACTER_SET)
                .map_or_else(CharacterSet::undeclared, |declared| {
                    CharacterSet::declared(&declared.bytes)
                }),
        };
        let [sop_class_uid, sop_instance_uid, study_uid, series_uid] = self.identity()?;
        Ok(ObjectHeader {
            sop_class_uid,
            sop_instance_uid,
            study_uid,
            series_uid,
            transfer_syntax_uid: transfer_syntax_uid.to_owned(),
            patient: patient(&text),
            study: study(&text),
            series: self.series(&text),
            instance_number: self.integer(tag::INSTANCE_NUMBER),
            images_in_acquisition: self.count(tag::IMAGES_IN_ACQUISITION),
            number_of_frames: self.count(tag::FRAMES).unwrap_or(1),
            rows: self.count(tag::ROWS).unwrap_or(0),
            columns: self.count(tag::COLUMNS).unwrap_or(0),
            has_pixel_data: self.has_pixel_data,
        })
    }

    fn identity(&self) -> Result<[String; 4], HeaderError> {
        let mut uids = [const { String::new() }; 4];
        for ((tag, name), uid) in IDENTITY.iter().zip(&mut uids) {
            let raw = self.values.get(tag).map(|raw| raw.bytes.as_slice());
            let checked = match raw.map(guard::uid) {
                None | Some(Err(BadUid::Empty)) => Err(UidProblem::Missing),
                Some(Err(bad)) => Err(UidProblem::Bad(bad)),
                Some(Ok(text)) => Ok(text.to_owned()),
            };
            *uid = checked.map_err(|problem| HeaderError::Uid { name, problem })?;
        }
        Ok(uids)
    }

    fn series(&self, text: &Texts<'_>) -> SeriesTags {
        SeriesTags {
            modality: text.one(tag::MODALITY),
            number: self.integer(tag::SERIES_NUMBER),
            description: text.one(tag::SERIES_DESCRIPTION),
            protocol: text.one(tag::PROTOCOL),
            body_part: text.one(tag::BODY_PART),
            image_type: text.list(tag::IMAGE_TYPE),
            manufacturer: text.one(tag::MANUFACTURER),
            model: text.one(tag::MODEL),
            device_serial: text.one(tag::DEVICE_SERIAL),
            field_strength: self.number(tag::FIELD_STRENGTH),
            scanning_sequence: text.list(tag::SCANNING_SEQUENCE),
            sequence_variant: text.list(tag::SEQUENCE_VARIANT),
            sequence_name: text
                .one(tag::SEQUENCE_NAME)
                .or_else(|| text.one(tag::PULSE_SEQUENCE_NAME)),
            acquisition_type: text.one(tag::ACQUISITION_TYPE),
            repetition_time_ms: self.number(tag::REPETITION_TIME),
            echo_time_ms: self.first_number(&[tag::ECHO_TIME, tag::EFFECTIVE_ECHO_TIME]),
            inversion_time_ms: self.first_number(&[tag::INVERSION_TIME, tag::INVERSION_TIMES]),
            flip_angle_deg: self.number(tag::FLIP_ANGLE),
            echo_train_length: self.integer(tag::ECHO_TRAIN_LENGTH),
            contrast_agent: text
                .one(tag::CONTRAST_AGENT)
                .or_else(|| text.one(tag::CODE_MEANING)),
            slice_thickness_mm: self.number(tag::SLICE_THICKNESS),
            spacing_between_slices_mm: self.number(tag::SPACING_BETWEEN_SLICES),
            pixel_spacing_mm: self.vector(tag::PIXEL_SPACING),
            orientation: self.vector(tag::ORIENTATION),
            b_value: self.b_value(),
            software_versions: text.one(tag::SOFTWARE_VERSIONS),
            frame_of_reference_uid: self
                .values
                .get(&tag::FRAME_OF_REFERENCE)
                .and_then(|raw| guard::uid(&raw.bytes).ok())
                .map(str::to_owned),
        }
    }

    fn b_value(&self) -> Option<f64> {
        let creator = |tag, prefix: &[u8]| {
            self.values
                .get(&tag)
                .is_some_and(|raw| raw.bytes.starts_with(prefix))
        };
        if let Some(b) = self.number(tag::B_VALUE) {
            return Some(b);
        }
        // Siemens writes it in diffusion images only
        if creator(tag::SIEMENS_CREATOR, b"SIEMENS MR HEADER") {
            return self.number(tag::SIEMENS_B_VALUE);
        }
        // Philips writes 0 everywhere
        if creator(tag::PHILIPS_CREATOR, b"Philips Imaging") {
            return self.number(tag::PHILIPS_B_VALUE).filter(|b| *b > 0.0);
        }
        // GE too, and adds a flag of 10^9 to some
        if creator(tag::GE_CREATOR, b"GEMS_PARM_01") {
            let b = self.number(tag::GE_B_VALUE)?;
            return Some(b % 1e5).filter(|b| *b > 0.0);
        }
        None
    }

    fn numbers(&self, tag: Tag) -> Vec<f64> {
        let Some(raw) = self.values.get(&tag) else {
            return Vec::new();
        };
        let vr = match raw.vr {
            None | Some([b'U', b'N']) => implied_vr(tag),
            Some(vr) => vr,
        };
        raw.numbers(vr)
    }

    fn number(&self, tag: Tag) -> Option<f64> {
        self.numbers(tag).first().copied().filter(|n| n.is_finite())
    }

    fn first_number(&self, tags: &[Tag]) -> Option<f64> {
        tags.iter().find_map(|tag| self.number(*tag))
    }

    fn vector<const N: usize>(&self, tag: Tag) -> Option<[f64; N]> {
        let numbers = self.numbers(tag);
        let vector: [f64; N] = numbers.try_into().ok()?;
        vector.iter().all(|n| n.is_finite()).then_some(vector)
    }

    /// A whole number, also one that a sender wrote with a fraction of zero.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be a whole number in range"
    )]
    fn integer(&self, tag: Tag) -> Option<i64> {
        self.number(tag)
            .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
            .map(|n| n as i64)
    }

    fn count(&self, tag: Tag) -> Option<u32> {
        self.integer(tag).and_then(|n| u32::try_from(n).ok())
    }
}

impl Raw {
    fn numbers(&self, vr: [u8; 2]) -> Vec<f64> {
        match &vr {
            b"US" => self.binary(u16::from_le_bytes, f64::from),
            b"SS" => self.binary(i16::from_le_bytes, f64::from),
            b"UL" => self.binary(u32::from_le_bytes, f64::from),
            b"SL" => self.binary(i32::from_le_bytes, f64::from),
            b"FL" => self.binary(f32::from_le_bytes, f64::from),
            b"FD" => self.binary(f64::from_le_bytes, |n| n),
            _ => self
                .bytes
                .split(|byte| *byte == b'\\')
                .map_while(|part| {
                    let part = std::str::from_utf8(part).ok()?;
                    part.trim_matches([' ', '\0']).parse().ok()
                })
                .collect(),
        }
    }

    fn binary<T, const N: usize>(
        &self,
        from_le_bytes: fn([u8; N]) -> T,
        widen: fn(T) -> f64,
    ) -> Vec<f64> {
        let (chunks, _) = self.bytes.as_chunks::<N>();
        let value = |bytes: &[u8; N]| {
            let mut bytes = *bytes;
            if self.big_endian {
                bytes.reverse();
            }
            widen(from_le_bytes(bytes))
        };
        chunks.iter().map(value).collect()
    }
}

/// The VR of a number where none is written.
fn implied_vr(tag: Tag) -> [u8; 2] {
    match tag {
        tag::ROWS | tag::COLUMNS => *b"US",
        tag::INVERSION_TIMES | tag::EFFECTIVE_ECHO_TIME | tag::B_VALUE => *b"FD",
        tag::PHILIPS_B_VALUE => *b"FL",
        _ => *b"DS",
    }
}

/// The texts among the values, with the character set they are in.
struct Texts<'a> {
    values: &'a HashMap<Tag, Raw>,
    set: CharacterSet,
}

impl Texts<'_> {
    fn decoded(&self, tag: Tag, kind: Kind) -> Option<String> {
        let raw = self.values.get(&tag)?;
        Some(self.set.decode(&raw.bytes, kind))
    }

    fn one(&self, tag: Tag) -> Option<String> {
        clean(&self.decoded(tag, Kind::Text)?)
    }

    fn name(&self, tag: Tag) -> Option<String> {
        clean(&self.decoded(tag, Kind::Name)?)
    }

    fn list(&self, tag: Tag) -> Vec<String> {
        self.decoded(tag, Kind::Text)
            .map(|text| text.split('\\').filter_map(clean).collect())
            .unwrap_or_default()
    }
}

/// Without padding and control characters, bounded; `None` if nothing is left.
fn clean(text: &str) -> Option<String> {
    let text: String = text
        .trim_matches(|c: char| c == '\0' || c.is_whitespace())
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    Some(guard::cut(text, TEXT_BYTES_MAX)).filter(|text| !text.is_empty())
}

fn patient(text: &Texts<'_>) -> PatientTags {
    PatientTags {
        id: text.one(tag::PATIENT_ID),
        issuer: text.one(tag::PATIENT_ID_ISSUER),
        name: text.name(tag::PATIENT_NAME),
        birth_date: text.one(tag::BIRTH_DATE),
        sex: text
            .one(tag::SEX)
            .filter(|sex| matches!(sex.as_str(), "F" | "M" | "O")),
        age: text.one(tag::AGE),
    }
}

fn study(text: &Texts<'_>) -> StudyTags {
    StudyTags {
        date: text.one(tag::STUDY_DATE),
        time: text.one(tag::STUDY_TIME),
        accession: text.one(tag::ACCESSION),
        accession_issuer: text
            .one(tag::LOCAL_NAMESPACE)
            .or_else(|| text.one(tag::UNIVERSAL_NAMESPACE)),
        description: text.one(tag::STUDY_DESCRIPTION),
        referrer: text.name(tag::REFERRER),
        institution: text.one(tag::INSTITUTION),
        requested_priority: text.one(tag::REQUESTED_PRIORITY),
    }
}

#[cfg(test)]
mod tests;
