//! What the rest of the server needs to know of one DICOM object, in plain types.

use serde::{Deserialize, Serialize};

/// The part of an object's header that intake, series choice and the list use.
///
/// All text is decoded to UTF-8 by the object's Specific Character Set (0008,0005),
/// trimmed of DICOM padding, bounded in length; an absent or empty value is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ObjectHeader {
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// (0020,000D)
    pub study_uid: String,
    /// (0020,000E)
    pub series_uid: String,
    /// UID of the transfer syntax the data set is written in.
    pub transfer_syntax_uid: String,
    /// Who was scanned.
    pub patient: PatientTags,
    /// The study the object belongs to.
    pub study: StudyTags,
    /// The series, and how its images were made.
    pub series: SeriesTags,
    /// (0020,0013)
    pub instance_number: Option<i64>,
    /// (0020,1002) Images in Acquisition: how many images the sender says there will be.
    pub images_in_acquisition: Option<u32>,
    /// (0028,0008); 1 where absent.
    pub number_of_frames: u32,
    /// (0028,0010), 0 where absent.
    pub rows: u32,
    /// (0028,0011), 0 where absent.
    pub columns: u32,
    /// Whether (7FE0,0010) is there.
    pub has_pixel_data: bool,
}

/// Patient module. Never logged.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PatientTags {
    /// (0010,0020)
    pub id: Option<String>,
    /// (0010,0021)
    pub issuer: Option<String>,
    /// (0010,0010), component groups joined by `=`, as sent, in UTF-8.
    pub name: Option<String>,
    /// (0010,0030) as sent, `YYYYMMDD`.
    pub birth_date: Option<String>,
    /// (0010,0040), only `F`, `M` or `O`; anything else is `None`.
    pub sex: Option<String>,
    /// (0010,1010) as sent, e.g. `027Y`.
    pub age: Option<String>,
}

impl std::fmt::Debug for PatientTags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PatientTags(hidden)")
    }
}

/// Study module and request attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StudyTags {
    /// (0008,0020) `YYYYMMDD`
    pub date: Option<String>,
    /// (0008,0030)
    pub time: Option<String>,
    /// (0008,0050)
    pub accession: Option<String>,
    /// (0008,0051) > (0040,0031) or (0040,0032)
    pub accession_issuer: Option<String>,
    /// (0008,1030)
    pub description: Option<String>,
    /// (0008,0090)
    pub referrer: Option<String>,
    /// (0008,0080)
    pub institution: Option<String>,
    /// (0040,1003) Requested Procedure Priority, at the top level or in (0040,0275).
    pub requested_priority: Option<String>,
}

/// Series module and the acquisition values that series choice reads.
///
/// For enhanced objects the first value found in the functional groups is taken.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SeriesTags {
    /// (0008,0060)
    pub modality: Option<String>,
    /// (0020,0011)
    pub number: Option<i64>,
    /// (0008,103E)
    pub description: Option<String>,
    /// (0018,1030)
    pub protocol: Option<String>,
    /// (0018,0015)
    pub body_part: Option<String>,
    /// (0008,0008), split at the backslashes
    pub image_type: Vec<String>,
    /// (0008,0070)
    pub manufacturer: Option<String>,
    /// (0008,1090)
    pub model: Option<String>,
    /// (0018,1000)
    pub device_serial: Option<String>,
    /// (0018,0087) tesla
    pub field_strength: Option<f64>,
    /// (0018,0020), split
    pub scanning_sequence: Vec<String>,
    /// (0018,0021), split
    pub sequence_variant: Vec<String>,
    /// (0018,0024)
    pub sequence_name: Option<String>,
    /// (0018,0023)
    pub acquisition_type: Option<String>,
    /// (0018,0080) ms
    pub repetition_time_ms: Option<f64>,
    /// (0018,0081) or (0018,9082), ms
    pub echo_time_ms: Option<f64>,
    /// (0018,0082) or (0018,9079), ms
    pub inversion_time_ms: Option<f64>,
    /// (0018,1314) degrees
    pub flip_angle_deg: Option<f64>,
    /// (0018,0091)
    pub echo_train_length: Option<i64>,
    /// (0018,0010)
    pub contrast_agent: Option<String>,
    /// (0018,0050) mm
    pub slice_thickness_mm: Option<f64>,
    /// (0018,0088) mm
    pub spacing_between_slices_mm: Option<f64>,
    /// (0028,0030) mm: row spacing, column spacing
    pub pixel_spacing_mm: Option<[f64; 2]>,
    /// (0020,0037)
    pub orientation: Option<[f64; 6]>,
    /// (0018,9087) or a vendor's b-value: a diffusion image
    pub b_value: Option<f64>,
    /// (0018,1020)
    pub software_versions: Option<String>,
    /// (0020,0052)
    pub frame_of_reference_uid: Option<String>,
}
