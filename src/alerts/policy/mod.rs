//! When an alert is raised, and whom it reaches after how long. Pure: the moment is given.

pub mod hours;
pub mod oncall;

use chrono_tz::Tz;

use crate::clock::UnixMillis;
use crate::triage::Band;
use hours::{Hours, Weekdays};
use oncall::Schedule;

/// Opening a study puts its next step off by so long: someone is looking.
pub const OPENED_PAUSE_MS: i64 = 5 * 60_000;

/// A step of the escalation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// After the alert was raised.
    pub after_ms: i64,
    /// Names of destinations and of schedules.
    pub to: Vec<String>,
}

/// Which studies are alerted when, and whom that reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What an alert keeps, to go on by the same rule. Empty for the general one.
    pub name: String,
    /// Bands that alert.
    pub bands: Vec<Band>,
    /// Codes of findings, one of which the study must have; none asks for nothing.
    pub findings: Vec<String>,
    /// Institution names (0008,0080), one of which the study must have; none asks for nothing.
    pub sites: Vec<String>,
    /// When bands below critical alert; `None` for always.
    pub hours: Option<Hours>,
    /// On which days the rule holds; `None` for every day. A night belongs to the day it began on.
    pub weekdays: Option<Weekdays>,
    /// Whom an alert reaches, in order of time.
    pub steps: Vec<Step>,
}

/// A destination that is not disturbed at some hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// The destination.
    pub destination: String,
    /// When bands below critical go elsewhere.
    pub hours: Hours,
    /// Where they go then: another channel, never nowhere.
    pub instead: String,
}

/// What a site wants to be alerted of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The first rule that fits decides.
    pub rules: Vec<Rule>,
    /// Names that stand for whoever is on call.
    pub schedules: Vec<Schedule>,
    /// Who is not disturbed when.
    pub quiet: Vec<Quiet>,
    /// The site's time zone.
    pub zone: Tz,
    /// When a claim without anything done ends: who was alerted before is alerted again then.
    pub claim_idle_ms: i64,
}

/// What a rule may ask about a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Highest band reached before.
    pub before: Band,
    /// Highest band reached now.
    pub reached: Band,
    /// Codes of its findings.
    pub findings: &'a [&'a str],
    /// (0008,0080)
    pub institution: Option<&'a str>,
}

impl Rule {
    fn fits(&self, facts: Facts<'_>, now_ms: UnixMillis, zone: Tz) -> bool {
        let critical = facts.reached == Band::Critical;
        let in_hours = self.hours.is_none_or(|h| h.contains(now_ms, zone));
        let day = self.hours.map_or_else(
            || hours::local(now_ms, zone).date_naive(),
            |h| h.began_on(now_ms, zone),
        );
        let on_day = self.weekdays.is_none_or(|days| days.contains(day));
        let found = |code: &String| facts.findings.contains(&code.as_str());
        let site = |name: &String| {
            facts
                .institution
                .is_some_and(|i| i.trim().eq_ignore_ascii_case(name.trim()))
        };
        self.bands.contains(&facts.reached)
            && (critical || in_hours && on_day)
            && (self.findings.is_empty() || self.findings.iter().any(found))
            && (self.sites.is_empty() || self.sites.iter().any(site))
    }

    /// Steps that are due now, after `done` were, and the moment of the one after them.
    #[must_use]
    pub fn due(
        &self,
        began_ms: UnixMillis,
        done: usize,
        now_ms: UnixMillis,
    ) -> (&[Step], Option<UnixMillis>) {
        let left = self.steps.get(done..).unwrap_or_default();
        let due = left
            .iter()
            .take_while(|step| began_ms + step.after_ms <= now_ms)
            .count();
        let next = left.get(due).map(|step| began_ms + step.after_ms);
        (&left[..due], next)
    }
}

impl Policy {
    /// Nothing alerts.
    #[must_use]
    pub fn off() -> Self {
        Self {
            rules: Vec::new(),
            schedules: Vec::new(),
            quiet: Vec::new(),
            zone: Tz::UTC,
            claim_idle_ms: 0,
        }
    }

    /// The rule by which a study whose highest band rises is alerted; `None` where it is not.
    /// Critical is alerted at any hour.
    #[must_use]
    pub fn raises(&self, facts: Facts<'_>, now_ms: UnixMillis) -> Option<&Rule> {
        let rises = facts.reached > facts.before;
        let fits = |rule: &&Rule| rule.fits(facts, now_ms, self.zone);
        self.rules.iter().find(fits).filter(|_| rises)
    }

    /// The rule of an alert that was raised before: by its name, and where the settings do not
    /// have it any more the general one.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        let named = self.rules.iter().find(|rule| rule.name == name);
        named.or_else(|| self.rules.last())
    }

    /// The destinations that a step reaches now: schedules stand for whoever is on call, and below
    /// critical quiet hours change the channel: those of the settings, and `made` on the page.
    #[must_use]
    pub fn reaches(
        &self,
        step: &Step,
        band: Band,
        now_ms: UnixMillis,
        made: &[Quiet],
    ) -> Vec<String> {
        let mut reached: Vec<String> = Vec::new();
        for name in &step.to {
            let schedule = self.schedules.iter().find(|s| s.name == *name);
            let people = schedule.map_or_else(
                || vec![name.clone()],
                |schedule| schedule.on_call(now_ms, self.zone),
            );
            for person in people {
                let person = self.channel_of(person, band, now_ms, made);
                if !reached.contains(&person) {
                    reached.push(person);
                }
            }
        }
        reached
    }

    fn channel_of(
        &self,
        destination: String,
        band: Band,
        now_ms: UnixMillis,
        made: &[Quiet],
    ) -> String {
        let rests = |q: &&Quiet| {
            q.destination == destination
                && band != Band::Critical
                && q.hours.contains(now_ms, self.zone)
        };
        let quiet = self.quiet.iter().chain(made).find(rests);
        quiet.map_or(destination, |q| q.instead.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(rfc3339: &str) -> i64 {
        chrono::DateTime::parse_from_rfc3339(rfc3339)
            .unwrap()
            .timestamp_millis()
    }

    fn step(after_ms: i64, to: &str) -> Step {
        Step {
            after_ms,
            to: vec![to.into()],
        }
    }

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.into(),
            bands: vec![Band::Urgent, Band::Critical],
            findings: Vec::new(),
            sites: Vec::new(),
            hours: None,
            weekdays: None,
            steps: vec![step(0, "room"), step(10, "pager")],
        }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy {
            rules,
            zone: chrono_tz::Europe::Berlin,
            ..Policy::off()
        }
    }

    fn rises(before: Band, reached: Band) -> Facts<'static> {
        Facts {
            before,
            reached,
            findings: &[],
            institution: None,
        }
    }

    #[test]
    fn only_a_rise_to_an_alerted_band_alerts() {
        use Band::{Critical, Elevated, Pending, Routine, Urgent};
        let general = policy(vec![rule("")]);
        let check = |before, reached, expected: bool| {
            let found = general.raises(rises(before, reached), 0).is_some();
            assert_eq!(found, expected, "{before:?} to {reached:?}");
        };
        check(Pending, Urgent, true);
        check(Routine, Critical, true);
        check(Urgent, Critical, true);
        check(Urgent, Urgent, false);
        check(Critical, Urgent, false);
        check(Pending, Elevated, false);
        check(Pending, Routine, false);
        assert_eq!(Policy::off().raises(rises(Pending, Critical), 0), None);
    }

    #[test]
    fn hours_go_by_the_clock_on_the_wall() {
        let night = policy(vec![Rule {
            hours: Hours::parse("18:00-07:00"),
            ..rule("")
        }]);
        let check = |at: &str, expected: bool| {
            let raised = |band| night.raises(rises(Band::Pending, band), ms(at)).is_some();
            assert_eq!(raised(Band::Urgent), expected, "{at}");
            assert!(raised(Band::Critical), "{at}");
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
    fn the_first_rule_that_fits_decides() {
        let shift = Rule {
            findings: vec!["midline_shift".into()],
            ..rule("shift")
        };
        let north = Rule {
            sites: vec!["North Clinic".into()],
            bands: vec![Band::Urgent],
            hours: Hours::parse("18:00-07:00"),
            weekdays: Weekdays::parse("fri"),
            ..rule("north")
        };
        let policy = policy(vec![shift, north, rule("")]);
        let check = |findings: &[&str], institution, reached, at: &str, expected: &str| {
            let facts = Facts {
                findings,
                institution,
                ..rises(Band::Pending, reached)
            };
            let found = policy.raises(facts, ms(at)).map(|r| r.name.as_str());
            assert_eq!(found, Some(expected), "{findings:?} {institution:?} {at}");
        };
        let (noon, friday_night) = ("2026-11-27T11:00:00Z", "2026-11-28T01:00:00Z");
        check(&["x", "midline_shift"], None, Band::Urgent, noon, "shift");
        check(&["x"], None, Band::Urgent, noon, "");
        check(
            &[],
            Some("NORTH clinic "),
            Band::Urgent,
            friday_night,
            "north",
        );
        check(&[], Some("NORTH clinic "), Band::Urgent, noon, "");
        check(&[], Some("NORTH clinic"), Band::Critical, friday_night, "");
        check(&[], Some("South"), Band::Urgent, friday_night, "");
        assert_eq!(policy.rule("north").map(|r| r.name.as_str()), Some("north"));
        assert_eq!(policy.rule("gone").map(|r| r.name.as_str()), Some(""));
    }

    #[test]
    fn quiet_hours_change_the_channel_and_never_drop_critical() {
        let policy = Policy {
            schedules: vec![Schedule {
                name: "neuro".into(),
                rotations: Vec::new(),
                overrides: Vec::new(),
                otherwise: vec!["anna-pager".into(), "room".into()],
            }],
            quiet: vec![Quiet {
                destination: "anna-pager".into(),
                hours: Hours::parse("22:00-06:00").unwrap(),
                instead: "anna-mail".into(),
            }],
            ..policy(vec![rule("")])
        };
        let check = |to: &[&str], band, at: &str, expected: &[&str]| {
            let step = Step {
                after_ms: 0,
                to: to.iter().map(|&t| t.to_owned()).collect(),
            };
            assert_eq!(policy.reaches(&step, band, ms(at), &[]), expected, "{at}");
        };
        let (noon, night) = ("2026-11-27T11:00:00Z", "2026-11-27T23:00:00Z");
        check(&["neuro"], Band::Urgent, noon, &["anna-pager", "room"]);
        check(&["neuro"], Band::Urgent, night, &["anna-mail", "room"]);
        check(&["neuro"], Band::Critical, night, &["anna-pager", "room"]);
        check(
            &["room", "neuro"],
            Band::Urgent,
            night,
            &["room", "anna-mail"],
        );
    }

    #[test]
    fn steps_come_in_order_each_once() {
        let rule = rule("");
        let check = |done: usize, now_ms: i64, names: &[&str], next: Option<i64>| {
            let (due, at) = rule.due(100, done, now_ms);
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
