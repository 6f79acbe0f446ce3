//! Settings of who is on call.

use chrono::{NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::destinations::check_name;
use super::hours;
use crate::alerts::policy::hours::{Hours, Weekdays, first_moment, parse_time};
use crate::alerts::policy::oncall::{Override, Rotation, Schedule};

/// People, rotations and overrides of one schedule.
const ENTRIES_MAX: usize = 1000;
/// Longest turn, in days.
const TURN_DAYS_MAX: u32 = 366;

/// Who is on call, under a name that steps can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// What steps call it.
    pub name: String,
    /// The first that applies decides.
    pub rotations: Vec<RotationSettings>,
    /// Who stands in when; before all rotations.
    #[serde(default)]
    pub overrides: Vec<OverrideSettings>,
    /// Names of destinations for when nobody is on call.
    pub otherwise: Vec<String>,
}

/// People who take turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationSettings {
    /// Names of destinations, in the order of their turns.
    pub people: Vec<String>,
    /// `2026-11-02`: the day on which the first turn begins.
    pub from: String,
    /// `08:00`: when duty is handed over, in the site's time.
    pub handover: String,
    /// Days in a turn: 1, or 7 for a week.
    #[serde(default = "one")]
    pub days: u32,
    /// `17:00-08:00`: only then. Empty for all day.
    #[serde(default)]
    pub hours: String,
    /// `mon-fri`: only on these days. Empty for every day.
    #[serde(default)]
    pub weekdays: String,
}

/// Someone who stands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideSettings {
    /// Name of a destination.
    pub who: String,
    /// `2026-12-24 08:00`, in the site's time.
    pub from: String,
    /// `2026-12-26 08:00`
    pub until: String,
}

fn one() -> u32 {
    1
}

fn date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").ok()
}

fn date_time(text: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text.trim(), "%Y-%m-%d %H:%M").ok()
}

impl ScheduleSettings {
    /// Names of destinations that it may stand for.
    pub(super) fn people(&self) -> impl Iterator<Item = &String> {
        let turns = self.rotations.iter().flat_map(|r| &r.people);
        let stand_ins = self.overrides.iter().map(|o| &o.who);
        turns.chain(stand_ins).chain(&self.otherwise)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_name("alerts.schedules", &self.name)?;
        let wrong = |what: String| Err(format!("alerts.schedules {:?} {what}", self.name));
        if self.otherwise.is_empty() {
            return wrong("has no otherwise: name who is told when nobody is on call".into());
        }
        if self.people().count() > ENTRIES_MAX {
            return wrong(format!("has more than {ENTRIES_MAX} entries"));
        }
        for rotation in &self.rotations {
            if rotation.people.is_empty() {
                return wrong("has a rotation without people".into());
            }
            if date(&rotation.from).is_none() {
                return wrong(format!(
                    "has from = {:?}, must be like 2026-11-02",
                    rotation.from
                ));
            }
            if parse_time(&rotation.handover).is_none() {
                return wrong(format!(
                    "has handover = {:?}, must be like 08:00",
                    rotation.handover
                ));
            }
            if !(1..=TURN_DAYS_MAX).contains(&rotation.days) {
                return wrong(format!(
                    "has days = {}, must be between 1 and {TURN_DAYS_MAX}",
                    rotation.days
                ));
            }
            let key = format!("alerts.schedules {:?}", self.name);
            hours(&format!("{key} hours"), &rotation.hours)?;
            super::weekdays(&format!("{key} weekdays"), &rotation.weekdays)?;
        }
        for stand_in in &self.overrides {
            let (from, until) = (date_time(&stand_in.from), date_time(&stand_in.until));
            if !matches!((from, until), (Some(from), Some(until)) if from < until) {
                return wrong(format!(
                    "has an override from {:?} until {:?}, must be like 2026-12-24 08:00, the earlier first",
                    stand_in.from, stand_in.until
                ));
            }
        }
        Ok(())
    }

    /// The same for the policy; what [`ScheduleSettings::check`] would refuse is left out.
    pub(super) fn schedule(&self, zone: Tz) -> Schedule {
        let moment = |text: &str| {
            let at = date_time(text)?;
            Some(first_moment(at.date(), at.time(), zone))
        };
        let rotation = |r: &RotationSettings| {
            Some(Rotation {
                people: r.people.clone(),
                from: date(&r.from)?,
                handover: parse_time(&r.handover)?,
                days: r.days,
                hours: Hours::parse(&r.hours),
                weekdays: Weekdays::parse(&r.weekdays),
            })
        };
        let stand_in = |o: &OverrideSettings| {
            Some(Override {
                who: o.who.clone(),
                from_ms: moment(&o.from)?,
                until_ms: moment(&o.until)?,
            })
        };
        Schedule {
            name: self.name.clone(),
            rotations: self.rotations.iter().filter_map(rotation).collect(),
            overrides: self.overrides.iter().filter_map(stand_in).collect(),
            otherwise: self.otherwise.clone(),
        }
    }
}
