//! What stage two measured in a study, as it is stored, shown, reported and sent.
//!
//! Plain values: reports and DICOM objects are made from this and from the two label maps
//! beside it (`measurements/STUDY/segmentation.nii.gz` and `lesions.nii.gz` in the data folder).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::triage::Finding;
use crate::worklist::VolumeDetail;

/// Everything measured in one study.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Measurement {
    /// Series that the volumes come from; empty for a NIfTI file.
    pub series_uid: String,
    /// What that series shows: `T1`, `FLAIR`, ...
    pub contrast: String,
    /// Series that the lesions come from.
    pub lesion_series_uid: Option<String>,
    /// Years, where they are known.
    pub age_years: Option<f64>,
    /// F or M, where it is known.
    pub sex: Option<String>,
    /// Intracranial volume: soft volumes of all that is not background, mm3.
    pub intracranial_mm3: f64,
    /// Structures, sums of both sides, further sums, intracranial volume first.
    pub volumes: Vec<VolumeDetail>,
    /// Left against right.
    pub asymmetry: Vec<Asymmetry>,
    /// Brain parenchymal fraction, ventricle ratios, Evans-like index.
    pub indices: Vec<Index>,
    /// Lesions, where there is a FLAIR.
    pub lesions: Option<Lesions>,
    /// Why there are no lesions, where there are none.
    pub no_lesions: Option<String>,
    /// Whether the numbers can be relied on.
    pub quality: Quality,
    /// What earns minutes, in words for readers.
    pub findings: Vec<Finding>,
    /// `NAME VERSION (first digits of the SHA-256)` of the network.
    pub model: String,
    /// `cpu` or `cuda`.
    pub provider: String,
    /// `firstread VERSION`.
    pub software: String,
    /// Norm table, segmenter offsets and scanner calibration, in words.
    pub norms: String,
    /// Version of the scanner calibration, where one was used.
    pub calibration_version: Option<i64>,
    /// A picture's planes of which there are outlines: axial, coronal, sagittal.
    pub pictures: Vec<String>,
    /// Stage times, milliseconds.
    pub timings_ms: BTreeMap<String, u64>,
    /// Most memory that this process ever held, MiB.
    pub memory_peak_mib: Option<u64>,
}

/// One structure's two sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asymmetry {
    /// Name without side: `hippocampus`.
    pub structure: String,
    /// mm3.
    pub left_mm3: f64,
    /// mm3.
    pub right_mm3: f64,
    /// 200 (left - right) / (left + right): positive where the left is larger.
    pub percent: f64,
}

/// A ratio of volumes or widths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Stable code: `brain_parenchymal_fraction`, `ventricles_to_intracranial`,
    /// `evans_like_index`.
    pub code: String,
    /// For the reader.
    pub name: String,
    /// Without unit.
    pub value: f64,
}

/// White-matter lesions of a FLAIR.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Lesions {
    /// How many.
    pub count: usize,
    /// mm3, all together.
    pub volume_mm3: f64,
    /// Of that, on each side, mm3; what lies in the middle is on neither.
    #[serde(default)]
    pub left_mm3: f64,
    /// See `left_mm3`.
    #[serde(default)]
    pub right_mm3: f64,
    /// Percent of intracranial volume.
    pub percent_icv: f64,
    /// Each region, also those without any.
    pub regions: Vec<LesionRegion>,
    /// Each lesion, the largest first; at most [`Lesions::LISTED_MAX`].
    pub lesions: Vec<Lesion>,
}

impl Lesions {
    /// Lesions that are listed one by one.
    pub const LISTED_MAX: usize = 500;
}

/// Lesions of one region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LesionRegion {
    /// Which.
    pub region: Region,
    /// How many.
    pub count: usize,
    /// mm3.
    pub volume_mm3: f64,
}

/// One lesion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lesion {
    /// Where.
    pub region: Region,
    /// `left` or `right`, by the structures around it; `None` in the middle.
    pub side: Option<String>,
    /// mm3.
    pub volume_mm3: f64,
    /// Its middle, RAS mm (x grows to the patient's right).
    pub centre_mm: [f64; 3],
}

/// Where a lesion lies. A lesion that fits several counts for the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// Mostly in cerebellum or brain-stem.
    Infratentorial,
    /// Reaches a lateral ventricle within 2 mm.
    Periventricular,
    /// Touches the cortex.
    Juxtacortical,
    /// Neither.
    Deep,
}

impl Region {
    /// All, in their order.
    pub const ALL: [Self; 4] = [
        Self::Infratentorial,
        Self::Periventricular,
        Self::Juxtacortical,
        Self::Deep,
    ];

    /// For the reader.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Infratentorial => "infratentorial",
            Self::Periventricular => "periventricular",
            Self::Juxtacortical => "juxtacortical",
            Self::Deep => "deep white matter",
        }
    }
}

/// Whether the numbers can be relied on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Some remark makes the numbers doubtful.
    pub doubtful: bool,
    /// What was noticed.
    pub remarks: Vec<Remark>,
    /// Mean probability of the labelled voxels, 0 to 1.
    pub confidence: f64,
}

/// Something that quality control noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remark {
    /// Stable code: `cut_off`, `low_confidence`, `implausible_volume`, `sides_differ`, `sides_swapped`,
    /// `fragmented`, `thick_slices`, `contrast_agent`, `other_contrast`, `not_t1`, ...
    pub code: String,
    /// For the reader, in words.
    pub text: String,
    /// Whether it makes the numbers doubtful, or is only said.
    pub doubtful: bool,
}

impl Measurement {
    /// A structure's volume by its name in the norm table.
    #[must_use]
    pub fn volume(&self, structure: &str) -> Option<&VolumeDetail> {
        self.volumes.iter().find(|v| v.structure == structure)
    }
}
