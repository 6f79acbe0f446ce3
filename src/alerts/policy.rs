//! When an alert is raised, and whom it reaches after how long. Pure: the moment is given.

use chrono::{DateTime, Timelike, Utc};
use chrono_tz::Tz;

use crate::clock::UnixMillis;
use crate::triage::Band;

/// A step of the escalation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// After the alert was raised.
    pub after_ms: i64,
    /// Names of destinations.
    pub to: Vec<String>,
}

/// A part of the day, in the site's own time; it may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from_minute: u32,
    until_minute: u32,
}

impl Hours {
    /// Reads `18:00-07:00`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, until) = text.split_once('-')?;
        let hours = Self {
            from_minute: minute(from)?,
            until_minute: minute(until)?,
        };
        (hours.from_minute != hours.until_minute).then_some(hours)
    }

    /// Whether the clock on the wall shows a time within. Wall time, so that a change to or from
    /// daylight saving moves nothing: the shift begins when people come.
    fn contains(self, now_ms: UnixMillis, zone: Tz) -> bool {
        let now = DateTime::<Utc>::from_timestamp_millis(now_ms)
            .unwrap_or_default()
            .with_timezone(&zone);
        let minute = now.hour() * 60 + now.minute();
        if self.from_minute < self.until_minute {
            (self.from_minute..self.until_minute).contains(&minute)
        } else {
            minute >= self.from_minute || minute < self.until_minute
        }
    }
}

/// What a site wants to be alerted of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Bands that alert; none turns alerts off.
    pub bands: Vec<Band>,
    /// When bands below critical alert; `None` for always.
    pub hours: Option<Hours>,
    /// The site's time zone.
    pub zone: Tz,
    /// Whom an alert reaches, in order of time.
    pub steps: Vec<Step>,
}

impl Policy {
    /// Nothing alerts.
    #[must_use]
    pub fn off() -> Self {
        Self {
            bands: Vec::new(),
            hours: None,
            zone: Tz::UTC,
            steps: Vec::new(),
        }
    }

    /// Whether a study whose highest band rises from `before` to `reached` is alerted.
    /// Critical is alerted at any hour.
    #[must_use]
    pub fn raises(&self, before: Band, reached: Band, now_ms: UnixMillis) -> bool {
        let in_hours = || self.hours.is_none_or(|h| h.contains(now_ms, self.zone));
        reached > before
            && self.bands.contains(&reached)
            && (reached == Band::Critical || in_hours())
    }

    /// Steps that are due now, after `done` were, and the moment of the one after them.
    #[must_use]
    pub fn due(
        &self,
        raised_ms: UnixMillis,
        done: usize,
        now_ms: UnixMillis,
    ) -> (&[Step], Option<UnixMillis>) {
        let left = self.steps.get(done..).unwrap_or_default();
        let due = left
            .iter()
            .take_while(|step| raised_ms + step.after_ms <= now_ms)
            .count();
        let next = left.get(due).map(|step| raised_ms + step.after_ms);
        (&left[..due], next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(rfc3339: &str) -> i64 {
        DateTime::parse_from_rfc3339(rfc3339)
            .unwrap()
            .timestamp_millis()
    }

    fn policy() -> Policy {
        Policy {
            bands: vec![Band::Urgent, Band::Critical],
            hours: None,
            zone: chrono_tz::Europe::Berlin,
            steps: vec![
                Step {
                    after_ms: 0,
                    to: vec!["room".into()],
                },
                Step {
                    after_ms: 10,
                    to: vec!["pager".into()],
                },
            ],
        }
    }

    #[test]
    fn only_a_rise_to_an_alerted_band_alerts() {
        use Band::{Critical, Elevated, Pending, Routine, Urgent};
        let check = |before, reached, expected: bool| {
            let found = policy().raises(before, reached, 0);
            assert_eq!(found, expected, "{before:?} to {reached:?}");
        };
        check(Pending, Urgent, true);
        check(Routine, Critical, true);
        check(Urgent, Critical, true);
        check(Urgent, Urgent, false);
        check(Critical, Urgent, false);
        check(Pending, Elevated, false);
        check(Pending, Routine, false);
        assert!(!Policy::off().raises(Pending, Critical, 0));
    }

    #[test]
    fn hours_go_by_the_clock_on_the_wall() {
        let night = Policy {
            hours: Hours::parse("18:00-07:00"),
            ..policy()
        };
        let check = |at: &str, expected: bool| {
            let found = night.raises(Band::Pending, Band::Urgent, ms(at));
            assert_eq!(found, expected, "{at}");
            assert!(night.raises(Band::Pending, Band::Critical, ms(at)), "{at}");
        };
        // Berlin is UTC+1 in winter and UTC+2 in summer; clocks changed on 2026-10-25 at 01:00Z.
        check("2026-10-24T16:00:00Z", true);
        check("2026-10-24T15:59:00Z", false);
        check("2026-10-25T05:59:00Z", true);
        check("2026-10-25T06:00:00Z", false);
        check("2026-10-25T16:30:00Z", false);
        check("2026-10-25T17:00:00Z", true);
    }

    #[test]
    fn hours_are_read_or_refused() {
        let check =
            |text: &str, good: bool| assert_eq!(Hours::parse(text).is_some(), good, "{text}");
        check("18:00-07:00", true);
        check("08:30 - 17:00", true);
        for bad in [
            "",
            "18-7",
            "24:00-07:00",
            "18:60-07:00",
            "07:00-07:00",
            "x:y-1:2",
        ] {
            check(bad, false);
        }
    }

    #[test]
    fn steps_come_in_order_each_once() {
        let policy = policy();
        let check = |done: usize, now_ms: i64, names: &[&str], next: Option<i64>| {
            let (due, at) = policy.due(100, done, now_ms);
            let found: Vec<&str> = due.iter().flat_map(|s| &s.to).map(String::as_str).collect();
            assert_eq!((found.as_slice(), at), (names, next));
        };
        check(0, 100, &["room"], Some(110));
        check(1, 105, &[], Some(110));
        check(1, 110, &["pager"], None);
        check(0, 500, &["room", "pager"], None);
        check(2, 500, &[], None);
        check(9, 500, &[], None);
    }
}
