//! What a threshold would have cost: alerts a day, counted from the scores of past studies. Pure.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use chrono_tz::Tz;

use super::policy::hours::{Hours, local};
use crate::clock::UnixMillis;
use crate::triage::{TriageSettings, logistic, logit};

/// Thresholds that are compared, in minutes of screening and findings together.
const STEP_MINUTES: u32 = 10;
/// The lowest of them.
const LOWEST_MINUTES: u32 = 100;

/// A study that was screened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// When screening was done.
    pub screened_ms: UnixMillis,
    /// Minutes by screening and findings, under the present settings.
    pub minutes: f64,
    /// It has a finding marked critical: it alerts whatever the threshold.
    pub critical: bool,
}

/// What one threshold would have sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// Minutes from which a study alerts.
    pub from_minutes: u32,
    /// The probability that earns so many minutes by itself; `None` where none does.
    pub p_alone: Option<f64>,
    /// Studies that would have alerted.
    pub alerts: usize,
    /// The same a day, on average.
    pub a_day: f64,
    /// On the busiest day.
    pub busiest_day: usize,
    /// Of all, those in the night.
    pub at_night: usize,
}

/// Costs of all thresholds, and what they were counted from.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Screened studies.
    pub studies: usize,
    /// Days from the first to the last, both included.
    pub days: usize,
    /// Ascending thresholds.
    pub costs: Vec<Cost>,
}

/// Counts for each threshold, by days of the site.
#[must_use]
pub fn budget(past: &[Past], settings: &TriageSettings, night: Hours, zone: Tz) -> Budget {
    let day = |p: &Past| local(p.screened_ms, zone).date_naive();
    let days = past.iter().map(day).min().zip(past.iter().map(day).max());
    let days = days.map_or(0, |(first, last)| (last - first).num_days() + 1);
    let days = usize::try_from(days).unwrap_or(0);
    let highest = settings.ai_cap_minutes + settings.findings_cap_minutes;
    let thresholds = (LOWEST_MINUTES..)
        .step_by(STEP_MINUTES as usize)
        .take_while(|t| f64::from(*t) <= highest);
    let cost = |from_minutes: u32| {
        let alerts = |p: &&Past| p.critical || p.minutes >= f64::from(from_minutes);
        let found: Vec<&Past> = past.iter().filter(alerts).collect();
        let mut by_day: BTreeMap<NaiveDate, usize> = BTreeMap::new();
        for p in &found {
            *by_day.entry(day(p)).or_default() += 1;
        }
        let in_night = |p: &&&Past| night.contains(p.screened_ms, zone);
        Cost {
            from_minutes,
            p_alone: p_alone(f64::from(from_minutes), settings),
            alerts: found.len(),
            a_day: found.len() as f64 / days.max(1) as f64,
            busiest_day: by_day.values().max().copied().unwrap_or(0),
            at_night: found.iter().filter(in_night).count(),
        }
    };
    Budget {
        studies: past.len(),
        days,
        costs: thresholds.map(cost).collect(),
    }
}

/// The probability at which screening alone gives so many minutes.
fn p_alone(minutes: f64, settings: &TriageSettings) -> Option<f64> {
    let p = logistic(logit(settings.p_floor) + minutes / settings.k_minutes_per_logit);
    (minutes <= settings.ai_cap_minutes && p <= 1.0 - settings.p_floor).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    /// 2026-11-23T12:00:00Z
    const NOON_MS: i64 = 1_795_435_200_000;

    fn past(day: i64, hour: i64, minutes: f64, critical: bool) -> Past {
        Past {
            screened_ms: NOON_MS + day * DAY_MS + hour * 3_600_000,
            minutes,
            critical,
        }
    }

    #[test]
    fn alerts_are_counted_by_day_and_night() {
        let studies = [
            past(0, 0, 175.0, false),
            past(0, 1, 120.0, false),
            past(0, 9, 210.0, false),
            past(1, 0, 20.0, true),
            past(3, 0, 90.0, false),
        ];
        let settings = TriageSettings::default();
        let night = Hours::NIGHT;
        let found = budget(&studies, &settings, night, chrono_tz::UTC);
        assert_eq!((found.studies, found.days), (5, 4));
        let check = |from: u32, alerts: usize, busiest_day: usize, at_night: usize| {
            let cost = found.costs.iter().find(|c| c.from_minutes == from).unwrap();
            assert_eq!(
                (cost.alerts, cost.busiest_day, cost.at_night),
                (alerts, busiest_day, at_night),
                "from {from} min"
            );
            assert!((cost.a_day - alerts as f64 / 4.0).abs() < 1e-9);
        };
        check(100, 4, 3, 1);
        check(130, 3, 2, 1);
        check(170, 3, 2, 1);
        check(180, 2, 1, 1);
        check(240, 1, 1, 0);
        assert!(found.costs.iter().all(|c| c.from_minutes <= 240));
        // In a zone 9 h ahead, the study at 21:00Z is of the next day, at 06:00.
        let tokyo = budget(&studies, &settings, night, chrono_tz::Asia::Tokyo);
        assert_eq!(tokyo.costs[0].busiest_day, 2);
    }

    #[test]
    fn a_threshold_is_also_said_as_a_probability() {
        let settings = TriageSettings::default();
        let check = |minutes: f64, expected: Option<f64>| {
            let found = p_alone(minutes, &settings);
            let same = match (found, expected) {
                (Some(a), Some(b)) => (a - b).abs() < 0.001,
                (a, b) => a == b,
            };
            assert!(same, "{minutes}: {found:?}, not {expected:?}");
        };
        // logit 0.003 is -5.8061; 170 min are 5.6667 logits more.
        check(170.0, Some(0.465));
        check(0.0, Some(0.003));
        check(190.0, None);
    }

    #[test]
    fn without_studies_there_is_no_cost() {
        let night = Hours::NIGHT;
        let none = budget(&[], &TriageSettings::default(), night, chrono_tz::UTC);
        assert_eq!((none.studies, none.days), (0, 0));
        assert!(
            none.costs
                .iter()
                .all(|c| c.alerts == 0 && c.busiest_day == 0)
        );
    }
}
