//! A patient's present scan against an earlier one: what changed, and whether that is more than two
//! scans of an unchanged person differ by, and more than normal ageing. Pure.

mod lesions;
mod limits;
mod register;
#[cfg(test)]
mod scenes;

pub use lesions::{ChangedLesion, LesionChange};
pub use limits::{Limits, Repeats};
pub use register::{Registration, register, rigid};

use serde::{Deserialize, Serialize};

use crate::analysis::Measurement;
use crate::norms::structures::INTRACRANIAL;
use crate::norms::{AGES_YEARS, Correction, Norms, Sex};
use crate::volume::{Affine, Volume};

/// Scans closer together than this give no change a year, days.
const DAYS_FOR_A_RATE_MIN: i64 = 90;
const DAYS_PER_YEAR: f64 = 365.25;
/// The head does not grow: intracranial volumes that differ by more make the change doubtful, percent.
const INTRACRANIAL_PERCENT_MAX: f64 = 5.0;
/// Not structures of the brain: the head itself, and what is not segmented for its own sake.
const NOT_COMPARED: [&str; 2] = [INTRACRANIAL, "csf"];

/// Codes on a grid, first axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelMap {
    /// Voxels along each axis.
    pub dims: [usize; 3],
    /// Voxel index to RAS mm.
    pub affine: Affine,
    /// One a voxel.
    pub codes: Vec<u8>,
}

/// Why two heads could not be brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    /// Not enough to go by.
    #[error("too few structures are in both scans")]
    TooFewStructures,
    /// Other heads, or badly labelled ones.
    #[error("the structures of the two scans do not fit together")]
    DoNotFit,
}

/// One of the two scans.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// (0020,000D)
    pub study_uid: &'a str,
    /// (0008,0020), `YYYYMMDD`.
    pub date: &'a str,
    /// As calibrations name it.
    pub scanner: &'a str,
    /// What was measured.
    pub measurement: &'a Measurement,
}

/// A patient's present scan against the earlier one it is best compared with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowUp {
    /// The earlier study (0020,000D).
    pub prior_study_uid: String,
    /// Its date, `YYYYMMDD`.
    pub prior_date: String,
    /// Days between them.
    pub days: i64,
    /// Every structure that was measured in both, sums first.
    pub changes: Vec<Change>,
    /// What became of lesions, where both scans have a FLAIR.
    pub lesions: Option<LesionChange>,
    /// Why lesions were not compared.
    pub no_lesions: Option<NoLesions>,
    /// What makes the comparison doubtful.
    pub doubts: Vec<Doubt>,
    /// Pairs of scans behind the limits; 0 where they come from the literature alone.
    pub limit_pairs: u32,
    /// Whether limits of the literature stand in.
    pub default_limits: bool,
    /// All earlier scans that were measured, oldest first.
    pub earlier: Vec<EarlierScan>,
}

/// Why there is no earlier scan to compare with, although there are some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotCompared {
    /// They were measured by another network.
    OtherNetwork,
    /// Birth date or sex differ although the patient's number is the same.
    OtherPerson,
}

/// Why lesions were not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoLesions {
    /// The present study has no FLAIR.
    NoFlair,
    /// The earlier one has none.
    NoFlairBefore,
    /// A label map is not there any more.
    NotKept,
    /// The heads could not be brought together.
    NotRegistered,
}

/// An earlier scan, for curves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EarlierScan {
    /// (0020,000D)
    pub study_uid: String,
    /// `YYYYMMDD`.
    pub date: String,
    /// At that scan.
    pub age_years: Option<f64>,
    /// Name in the norm table, mm3.
    pub volumes: Vec<(String, f64)>,
}

/// One structure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Name in the norm table.
    pub structure: String,
    /// Before, mm3.
    pub prior_mm3: f64,
    /// Now, mm3.
    pub present_mm3: f64,
    /// Between the scans.
    pub percent: f64,
    /// A year; none where the scans are too close together.
    pub percent_per_year: Option<f64>,
    /// Of healthy people of that age and sex, by the norm table.
    pub expected_percent_per_year: Option<f64>,
    /// The same between the scans.
    pub expected_percent: Option<f64>,
    /// Less than this between the scans says nothing.
    pub limit_percent: f64,
    /// Against limit and ageing.
    pub standing: Standing,
}

/// How a change stands against the test-retest limit and normal ageing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Two scans of an unchanged person differ by as much.
    WithinLimit,
    /// More than that, but healthy people change by about as much.
    AsAgeing,
    /// More than that, and more than healthy people change.
    BeyondAgeing,
    /// More than that; nothing is known of healthy people here.
    BeyondLimit,
}

/// What makes a comparison doubtful.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Doubt {
    /// Scanners shift volumes by more than years do.
    OtherScanner,
    /// `T1` against `FLAIR`, or with contrast agent against without.
    OtherContrast,
    /// One of the measurements is doubtful itself.
    DoubtfulMeasurement,
    /// Intracranial volumes differ.
    HeadSize {
        /// By so much.
        percent: f64,
    },
}

/// Whole days from the first to the second, both `YYYYMMDD`.
#[must_use]
pub fn days_between(first: &str, second: &str) -> Option<i64> {
    let date = |text: &str| chrono::NaiveDate::parse_from_str(text.trim(), "%Y%m%d").ok();
    Some((date(second)? - date(first)?).num_days())
}

/// Compares the volumes of two scans. `days` is what lies between them, more than 0.
#[must_use]
pub fn compare_volumes(
    present: Scan,
    prior: Scan,
    days: i64,
    norms: &Norms,
    limits: &Limits,
) -> FollowUp {
    let years = days as f64 / DAYS_PER_YEAR;
    let person = person(present.measurement, years);
    let changes = present.measurement.volumes.iter().filter_map(|now| {
        let before = prior.measurement.volume(&now.structure)?;
        if NOT_COMPARED.contains(&now.structure.as_str()) || now.label == Some(LESION_CODE) {
            return None;
        }
        let expected_ln = person.and_then(|person| person.expects(norms, &now.structure));
        let limit = limits.percent(&now.structure);
        change(
            &now.structure,
            (before.volume_mm3, now.volume_mm3),
            (days, years),
            expected_ln,
            limit,
        )
    });
    FollowUp {
        prior_study_uid: prior.study_uid.to_owned(),
        prior_date: prior.date.to_owned(),
        days,
        changes: changes.collect(),
        doubts: doubts(present, prior),
        limit_pairs: limits.pairs(),
        default_limits: limits.rest_on_default(),
        ..FollowUp::default()
    }
}

/// Code of lesions among the volumes: compared in space, not here.
const LESION_CODE: i64 = 77;

/// Compares the lesions of two scans: label maps in the first place, lesions in the second, of the
/// present scan and of the earlier one.
///
/// # Errors
/// Why they cannot be compared.
pub fn compare_lesions(
    (present, present_lesions): (&LabelMap, &LabelMap),
    (prior, prior_lesions): (&LabelMap, &LabelMap),
    measured: Option<&crate::analysis::Lesions>,
) -> Result<LesionChange, NotRegistered> {
    let registration = register(present, prior)?;
    lesions::compare(present_lesions, prior_lesions, &registration, measured)
        .ok_or(NotRegistered::DoNotFit)
}

/// Who it is, for what healthy people would have changed by.
#[derive(Clone, Copy)]
struct Person {
    sex: Sex,
    age_now: f64,
    age_before: f64,
    intracranial_mm3: f64,
}

fn person(m: &Measurement, years: f64) -> Option<Person> {
    let age_now = m.age_years?;
    let age_before = age_now - years;
    let known = AGES_YEARS.contains(&age_now) && AGES_YEARS.contains(&age_before);
    Some(Person {
        sex: Sex::parse(m.sex.as_deref()?)?,
        age_now,
        age_before,
        intracranial_mm3: m.intracranial_mm3,
    })
    .filter(|_| known)
}

impl Person {
    /// Logarithm of the ratio of the medians at both ages. Of the same head: offsets cancel.
    fn expects(self, norms: &Norms, structure: &str) -> Option<f64> {
        let median = |age| {
            norms.volume_at(
                structure,
                age,
                self.sex,
                self.intracranial_mm3,
                Correction::default(),
                0.0,
            )
        };
        Some((median(self.age_now)? / median(self.age_before)?).ln())
    }
}

/// `None` where a volume is no positive number.
fn change(
    structure: &str,
    (before, now): (f64, f64),
    (days, years): (i64, f64),
    expected_ln: Option<f64>,
    limit_percent: f64,
) -> Option<Change> {
    let there = |mm3: f64| mm3.is_finite() && mm3 > 0.0;
    if !(there(before) && there(now)) {
        return None;
    }
    let ln = (now / before).ln();
    let limit = (limit_percent / 100.0).ln_1p();
    let percent = |ln: f64| 100.0 * ln.exp_m1();
    let rate = days >= DAYS_FOR_A_RATE_MIN;
    let standing = match expected_ln {
        _ if ln.abs() <= limit => Standing::WithinLimit,
        Some(expected) if (ln - expected).abs() <= limit => Standing::AsAgeing,
        Some(_) => Standing::BeyondAgeing,
        None => Standing::BeyondLimit,
    };
    Some(Change {
        structure: structure.to_owned(),
        prior_mm3: before,
        present_mm3: now,
        percent: percent(ln),
        percent_per_year: rate.then(|| percent(ln / years)),
        expected_percent_per_year: expected_ln.filter(|_| rate).map(|e| percent(e / years)),
        expected_percent: expected_ln.map(percent),
        limit_percent,
        standing,
    })
}

fn doubts(present: Scan, prior: Scan) -> Vec<Doubt> {
    let (now, before) = (present.measurement, prior.measurement);
    let mut doubts = Vec::new();
    if present.scanner != prior.scanner {
        doubts.push(Doubt::OtherScanner);
    }
    let agent = |m: &Measurement| m.quality.remarks.iter().any(|r| r.code == "contrast_agent");
    if now.contrast != before.contrast || agent(now) != agent(before) {
        doubts.push(Doubt::OtherContrast);
    }
    if now.quality.doubtful || before.quality.doubtful {
        doubts.push(Doubt::DoubtfulMeasurement);
    }
    let percent = 100.0 * (now.intracranial_mm3 / before.intracranial_mm3 - 1.0);
    if !percent.is_finite() || percent.abs() > INTRACRANIAL_PERCENT_MAX {
        doubts.push(Doubt::HeadSize { percent });
    }
    doubts
}

impl From<Volume> for LabelMap {
    /// Codes are whole numbers from 0 to 255; anything else is background.
    fn from(volume: Volume) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be a code"
        )]
        let code = |v: &f32| {
            if (0.0..=255.0).contains(v) {
                v.round() as u8
            } else {
                0
            }
        };
        Self {
            dims: volume.dims,
            affine: volume.affine,
            codes: volume.data.iter().map(code).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
