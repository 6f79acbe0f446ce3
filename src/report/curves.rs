//! Curves of the norm over age, for a head of this size, with this patient on them. Pure.

use super::names::{self, CURVES};
use super::{Language, Reporter};
use crate::analysis::volumes;
use crate::followup::{FollowUp, days_between};
use crate::norms::{Correction, Sex};
use crate::report::facts::{Facts, Measured, Stage};

/// Ages that a curve spans, years: those of the norm table.
pub const AGES: [f64; 2] = [20.0, 90.0];
/// Ages with a tick.
pub const AGE_TICKS: [f64; 4] = [20.0, 40.0, 60.0, 80.0];
/// Steps of a curve.
const STEPS: u32 = 35;
/// z of the 1st, 5th, 50th, 95th and 99th percentile.
const LINES: [f64; 5] = [-2.326_348, -1.644_854, 0.0, 1.644_854, 2.326_348];
/// A z that is worked out again may differ from the one in the table by so much.
const SAME_Z: f64 = 0.01;
/// Ticks on the axis of volumes, at most.
const TICKS_MAX: f64 = 4.0;

/// One structure's curve. Places are shares of the width (from the left) and the height (from the top).
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Name of the structure.
    pub title: String,
    /// The 1st, 5th, 50th, 95th and 99th percentile.
    pub lines: [Vec<[f64; 2]>; 5],
    /// This patient.
    pub patient: [f64; 2],
    /// The same at earlier scans, oldest first; ends before `patient`.
    pub earlier: Vec<[f64; 2]>,
    /// Volumes with a tick: place from the top, label in ml.
    pub volume_ticks: Vec<(f64, String)>,
    /// Ages with a tick: place from the left, label in years.
    pub age_ticks: Vec<(f64, String)>,
    /// Said to those who cannot see it.
    pub description: String,
}

/// The curves of what was measured; none where nothing was compared with the norms at hand.
#[must_use]
pub fn curves(
    facts: &Facts,
    measured: &Measured,
    reporter: &Reporter,
    language: Language,
) -> Vec<Curve> {
    let (Some(age), Some(sex), Some(tiv)) = (
        measured.age_years,
        measured.sex.as_deref().and_then(Sex::parse),
        measured.intracranial_mm3(),
    ) else {
        return Vec::new();
    };
    let person = Person { age, sex, tiv };
    let earlier = Earlier {
        follow_up: facts.follow_up.as_ref(),
        today: facts.study.date.as_deref().unwrap_or_default(),
    };
    let drawn = CURVES
        .iter()
        .filter_map(|structure| curve(structure, measured, reporter, language, (person, earlier)));
    drawn.collect()
}

#[derive(Clone, Copy)]
struct Person {
    age: f64,
    sex: Sex,
    tiv: f64,
}

/// Scans before this one.
#[derive(Clone, Copy)]
struct Earlier<'a> {
    follow_up: Option<&'a FollowUp>,
    /// Date of the present one, `YYYYMMDD`.
    today: &'a str,
}

impl Earlier<'_> {
    /// Age and ml of a structure at earlier scans, oldest first, those on the curve. Ages are reckoned
    /// back from the present one: birthdays would move them against each other.
    fn points(self, structure: &str, age_now: f64) -> Vec<(f64, f64)> {
        const DAYS_PER_YEAR: f64 = 365.25;
        let scans = self.follow_up.iter().flat_map(|f| &f.earlier);
        let points = scans.filter_map(|scan| {
            let days = days_between(&scan.date, self.today)?;
            let age = age_now - days as f64 / DAYS_PER_YEAR;
            let (_, mm3) = scan.volumes.iter().find(|(name, _)| name == structure)?;
            Some((age, mm3 / 1000.0))
        });
        points
            .filter(|(age, ml)| (AGES[0]..=AGES[1]).contains(age) && ml.is_finite())
            .collect()
    }
}

fn curve(
    structure: &str,
    measured: &Measured,
    reporter: &Reporter,
    language: Language,
    (person, earlier): (Person, Earlier<'_>),
) -> Option<Curve> {
    let volume = measured.volume(structure).filter(|v| v.z.is_some())?;
    let (correction, tiv) = correction(structure, measured, reporter, person)?;
    let at = |age: f64, z: f64| {
        reporter
            .norms
            .volume_at(structure, age, person.sex, tiv, correction, z)
            .map(|mm3| mm3 / 1000.0)
    };
    let ages: Vec<f64> = (0..=STEPS)
        .map(|step| AGES[0] + (AGES[1] - AGES[0]) * f64::from(step) / f64::from(STEPS))
        .collect();
    let mut lines: [Vec<f64>; 5] = Default::default();
    for (line, z) in lines.iter_mut().zip(LINES) {
        *line = ages.iter().map(|age| at(*age, z)).collect::<Option<_>>()?;
    }
    let here = volume.volume_mm3 / 1000.0;
    let before = earlier.points(structure, person.age);
    let drawn = lines.iter().flatten().copied().chain([here]);
    let all = || drawn.clone().chain(before.iter().map(|(_, ml)| *ml));
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let axis = Axis::around(low, high);
    let across = |age: f64| ((age - AGES[0]) / (AGES[1] - AGES[0])).clamp(0.0, 1.0);
    let placed = |line: &Vec<f64>| -> Vec<[f64; 2]> {
        let places = ages.iter().zip(line);
        places
            .map(|(age, ml)| [across(*age), axis.down(*ml)])
            .collect()
    };
    let title = names::row(structure)?.name(language).to_owned();
    let word = language.say("percentile", "Perzentile");
    let percentile = language.number(volume.percentile.unwrap_or_default(), 0);
    let ml = language.number(here, 1);
    let mut description = format!("{title}: {ml} ml, {word} {percentile}");
    for (age, ml) in &before {
        let (age, ml) = (language.number(*age, 1), language.number(*ml, 1));
        description += &language.say(
            format!("; {ml} ml at {age} years"),
            format!("; {ml} ml mit {age} Jahren"),
        );
    }
    Some(Curve {
        title,
        lines: std::array::from_fn(|i| placed(&lines[i])),
        patient: [across(person.age), axis.down(here)],
        earlier: before
            .iter()
            .map(|(age, ml)| [across(*age), axis.down(*ml)])
            .collect(),
        volume_ticks: axis.ticks(language),
        age_ticks: AGE_TICKS
            .iter()
            .map(|age| (across(*age), format!("{age:.0}")))
            .collect(),
        description,
    })
}

/// The correction that a result was compared with, and the head size as the norms count it.
/// `None` where the result is of another network than the one whose offsets are at hand, or these
/// were measured again since: what is drawn must say what the table's z says.
fn correction(
    structure: &str,
    measured: &Measured,
    reporter: &Reporter,
    person: Person,
) -> Option<(Correction, f64)> {
    let known = match measured.stage {
        Stage::Screening => &reporter.screening,
        Stage::Volumetry => &reporter.measuring,
    };
    let (label, offsets) = known.as_ref()?;
    if *label != measured.model {
        return None;
    }
    let scanner = measured.calibration.as_ref().map(|(_, scanner)| scanner);
    let (correction, tiv) = volumes::correction(structure, offsets, scanner, person.tiv)?;
    let volume = measured.volume(structure)?;
    let again = reporter.norms.compare(
        structure,
        Some(person.age),
        Some(person.sex),
        volume.volume_mm3,
        tiv,
        correction,
    );
    let same = (again.ok()?.z - volume.z?).abs() < SAME_Z;
    same.then_some((correction, tiv))
}

/// The axis of volumes, in ml, from a round number to a round number.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn around(low: f64, high: f64) -> Self {
        let raw = ((high - low) / TICKS_MAX).max(1e-3);
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|n| n * power)
            .find(|step| *step >= raw)
            .unwrap_or(10.0 * power);
        let low = (low / step).floor() * step;
        let high = (high / step).ceil() * step;
        Self {
            low,
            high: high.max(low + step),
            step,
        }
    }

    /// Share of the height from the top.
    fn down(&self, ml: f64) -> f64 {
        ((self.high - ml) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self, language: Language) -> Vec<(f64, String)> {
        let decimals = if self.step < 0.1 {
            2
        } else {
            usize::from(self.step < 1.0)
        };
        let mut ticks = Vec::new();
        let mut ml = self.low;
        while ml <= self.high + self.step / 2.0 {
            ticks.push((self.down(ml), language.number(ml, decimals)));
            ml += self.step;
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_in_round_numbers() {
        let axis = Axis::around(3.1, 9.2);
        assert_eq!((axis.low, axis.high, axis.step), (2.0, 10.0, 2.0));
        let labels: Vec<String> = axis.ticks(Language::De).into_iter().map(|t| t.1).collect();
        assert_eq!(labels, ["2", "4", "6", "8", "10"]);
        assert_eq!((axis.down(10.0), axis.down(2.0)), (0.0, 1.0));
        // a flat line has an axis too
        assert!(Axis::around(5.0, 5.0).down(5.0).is_finite());
    }
}
