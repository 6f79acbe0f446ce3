//! What is known of a study when its report is made: numbers and codes, in no language.

use crate::analysis::{Asymmetry, Index, Lesions, Remark};
use crate::clock::UnixMillis;
use crate::followup::{FollowUp, NotCompared};
use crate::norms::ScannerCalibration;
use crate::triage::{Band, Reason};
use crate::worklist::VolumeDetail;

/// Everything a report is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Who.
    pub patient: Patient,
    /// Which study.
    pub study: Study,
    /// The volumes that are reported, where any were measured.
    pub measured: Option<Measured>,
    /// Why there are none.
    pub not_measured: Option<String>,
    /// Lesions, where they were looked for.
    pub lesions: Option<Lesions>,
    /// Number and description of the series that they were seen on.
    pub lesion_series: Option<String>,
    /// (0020,000E) of it.
    pub lesion_series_uid: Option<String>,
    /// Why there are none, where a study was measured.
    pub no_lesions: Option<String>,
    /// Against the patient's earlier study, where there is one.
    pub follow_up: Option<FollowUp>,
    /// Why there is no comparison although there are earlier studies.
    pub not_compared: Option<NotCompared>,
    /// pending, done or `not_done`.
    pub volumetry: String,
    /// Why volumetry was not done.
    pub volumetry_reason: Option<String>,
    /// Whether this is the last word on the study as far as analysis goes.
    pub settled: bool,
    /// "T1, FLAIR; 2 other series not analysed"
    pub looked_at: Option<String>,
    /// What the ranking used.
    pub ranking: RankingFacts,
    /// Networks that gave something to this report.
    pub models: Vec<String>,
    /// When the newest of the results was made: the report's own time, so that the same results
    /// give the same report.
    pub made_ms: UnixMillis,
}

/// Patient module.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Patient {
    /// As a person would write it.
    pub name: String,
    /// (0010,0020)
    pub id: String,
    /// (0010,0030) `YYYYMMDD`
    pub birth_date: Option<String>,
    /// F, M or O.
    pub sex: Option<String>,
    /// Whole years at the study.
    pub age_years: Option<u32>,
}

impl Patient {
    /// An age as whole years.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an age, between 0 and 130"
    )]
    pub fn whole_years(age: f64) -> u32 {
        age.floor().clamp(0.0, 130.0) as u32
    }
}

impl std::fmt::Debug for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Patient(hidden)")
    }
}

/// Study module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Study {
    /// (0020,000D)
    pub uid: String,
    /// (0008,0020) `YYYYMMDD`
    pub date: Option<String>,
    /// (0008,0050)
    pub accession: Option<String>,
    /// (0008,1030)
    pub description: Option<String>,
    /// As a person would write it.
    pub referrer: Option<String>,
    /// (0008,0080)
    pub institution: Option<String>,
}

/// Which network measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Coarse, at 2 mm.
    Screening,
    /// At 1 mm.
    Volumetry,
}

/// Volumes of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// By which network.
    pub stage: Stage,
    /// (0020,000E) of the series measured.
    pub series_uid: String,
    /// Its number and description.
    pub series: String,
    /// `T1`, `FLAIR`, ...
    pub contrast: String,
    /// Network, version, first digits of its sum.
    pub model: String,
    /// What tells its input from any other.
    pub input: String,
    /// Structures, sums and intracranial volume.
    pub volumes: Vec<VolumeDetail>,
    /// Age in years and sex as they were compared with.
    pub age_years: Option<f64>,
    /// F or M.
    pub sex: Option<String>,
    /// Slices are missing as far as is known.
    pub partial: bool,
    /// What quality control noticed; a doubtful remark makes the result doubtful.
    pub remarks: Vec<Remark>,
    /// Mean probability of the labelled voxels, 0 to 1, where it is known.
    pub confidence: Option<f64>,
    /// Left against right.
    pub asymmetry: Vec<Asymmetry>,
    /// Ratios of volumes and of widths.
    pub indices: Vec<Index>,
    /// Norm table, segmenter offsets and scanner calibration, in words.
    pub norms: String,
    /// The scanner's calibration that was used, and its version.
    pub calibration: Option<(i64, ScannerCalibration)>,
    /// Planes of which there are pictures.
    pub pictures: Shown,
}

/// Of what there are pictures: planes of each view.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// Screening's: through a region that differs, or through the middle of the brain.
    pub screened: Vec<String>,
    /// Screening's go through a region that differs, not through the middle.
    pub focused: bool,
    /// With outlines of the measured segmentation.
    pub measured: Vec<String>,
    /// The same through the largest lesion.
    pub lesion: Vec<String>,
}

impl Measured {
    /// The volume of a structure.
    #[must_use]
    pub fn volume(&self, structure: &str) -> Option<&VolumeDetail> {
        self.volumes.iter().find(|v| v.structure == structure)
    }

    /// Whether something makes the numbers doubtful.
    #[must_use]
    pub fn doubtful(&self) -> bool {
        self.partial || self.remarks.iter().any(|r| r.doubtful)
    }

    /// Intracranial volume, mm3.
    #[must_use]
    pub fn intracranial_mm3(&self) -> Option<f64> {
        let whole = self.volume(crate::norms::structures::INTRACRANIAL)?;
        (whole.volume_mm3 > 0.0).then_some(whole.volume_mm3)
    }
}

/// What the ranking used.
#[derive(Debug, Clone, PartialEq)]
pub struct RankingFacts {
    /// How it stands out.
    pub band: Band,
    /// Whole minutes, adding up.
    pub total_minutes: i64,
    /// The terms with their whole minutes.
    pub terms: Vec<(Reason, i64)>,
    /// At the site's prevalence.
    pub p_abnormal: Option<f64>,
    /// Settings version.
    pub settings_version: i64,
}
