//! Settings of alerts and of the mail server, with the unit in every name.

mod destinations;
mod schedules;
mod secret;
mod smtp;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

pub use destinations::{ChannelKind, DestinationSettings, Preset};
pub use schedules::{OverrideSettings, RotationSettings, ScheduleSettings};
pub use secret::{Secret, read_file};
pub use smtp::{Security, SmtpSettings};

use super::policy::hours::{Hours, Weekdays};
use super::policy::{Policy, Rule, Step};
use crate::made::PREFIX;
use crate::outbox::machine::StormLimits;
use crate::triage::Band;

/// Longest name of a destination, in characters.
const NAME_CHARS_MAX: usize = 40;
/// Longest base address, in characters: a pager's line has 160 and must have room for the rest.
const BASE_URL_CHARS_MAX: usize = 80;

/// A step of the escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// After the alert was raised.
    pub after_minutes: u32,
    /// Names of destinations and of schedules.
    pub to: Vec<String>,
}

/// A rule for some studies, before the general one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// What pages call it.
    pub name: String,
    /// Bands that alert.
    pub bands: Vec<Band>,
    /// Codes of findings, one of which the study must have. Empty asks for nothing.
    #[serde(default)]
    pub findings: Vec<String>,
    /// Institution names (0008,0080), one of which the study must have. Empty asks for nothing.
    #[serde(default)]
    pub sites: Vec<String>,
    /// `18:00-07:00`: bands below critical only then. Empty for always.
    #[serde(default)]
    pub hours: String,
    /// `mon-fri`: bands below critical only then. Empty for every day.
    #[serde(default)]
    pub weekdays: String,
    /// Who is told when.
    pub steps: Vec<StepSettings>,
}

/// What is alerted, when, and whom it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// `alerts.bands`: bands that alert (elevated, urgent, critical); none turns the general rule off.
    pub bands: Vec<Band>,
    /// `alerts.hours`: `18:00-07:00` in the site's time; bands below critical alert only then.
    /// Empty for always.
    pub hours: String,
    /// `alerts.base_url`: firstread as readers' browsers reach it; links begin with it.
    pub base_url: String,
    /// `alerts.link_valid_hours`: how long a link acknowledges.
    pub link_valid_hours: u32,
    /// `alerts.storm_messages`: so many messages to a destination ...
    pub storm_messages: u32,
    /// `alerts.storm_minutes`: ... in so long are a storm.
    pub storm_minutes: u32,
    /// `alerts.storm_bundle_seconds`: during a storm one message, with all that waits, in so long;
    /// the first ones sooner.
    pub storm_bundle_seconds: u32,
    /// `alerts.destinations`: who can be told.
    pub destinations: Vec<DestinationSettings>,
    /// `alerts.steps`: who is told when; the next step only while nobody acknowledged.
    pub steps: Vec<StepSettings>,
    /// `alerts.rules`: other steps for some studies; the first that fits decides, then the general one.
    pub rules: Vec<RuleSettings>,
    /// `alerts.schedules`: who is on call.
    pub schedules: Vec<ScheduleSettings>,
    /// `alerts.alarm_to`: names of destinations that are told when an alert reached nobody.
    pub alarm_to: Vec<String>,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            bands: Vec::new(),
            hours: String::new(),
            base_url: String::new(),
            link_valid_hours: 72,
            storm_messages: 5,
            storm_minutes: 10,
            storm_bundle_seconds: 120,
            destinations: Vec::new(),
            steps: Vec::new(),
            rules: Vec::new(),
            schedules: Vec::new(),
            alarm_to: Vec::new(),
        }
    }
}

impl AlertSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is wrong and what it may be.
    pub fn check(&self) -> Result<(), String> {
        check_bands("alerts.bands", &self.bands)?;
        hours("alerts.hours", &self.hours)?;
        within("alerts.link_valid_hours", self.link_valid_hours, 1, 720)?;
        within("alerts.storm_messages", self.storm_messages, 1, 1000)?;
        within("alerts.storm_minutes", self.storm_minutes, 1, 1440)?;
        within(
            "alerts.storm_bundle_seconds",
            self.storm_bundle_seconds,
            1,
            3600,
        )?;
        self.check_names()?;
        self.check_steps("alerts.steps", &self.steps)?;
        if !self.bands.is_empty() && self.steps.is_empty() {
            return Err(
                "alerts.steps is empty, but alerts.bands is not: nobody would be told".into(),
            );
        }
        self.check_rules()?;
        if let Some(name) = self.alarm_to.iter().find(|n| !self.is_destination(n)) {
            return Err(format!(
                "alerts.alarm_to names {name:?}, which is not in alerts.destinations"
            ));
        }
        self.check_base_url()
    }

    fn check_base_url(&self) -> Result<(), String> {
        let url = &self.base_url;
        let begins = url.starts_with("https://") || url.starts_with("http://");
        let plain =
            url.is_ascii() && !url.contains(|c: char| c.is_whitespace() || "?#\"<>".contains(c));
        let told = !self.destinations.is_empty() || !self.counts_on().is_empty();
        match (url.is_empty(), !told) {
            (true, true) => Ok(()),
            (true, false) => Err("alerts.base_url is empty, but messages carry links: \
                 set it to the address of firstread in readers' browsers"
                .into()),
            (false, _) if begins && plain && url.len() <= BASE_URL_CHARS_MAX => Ok(()),
            (false, _) => Err(format!(
                "alerts.base_url is {url:?}, must begin with https:// or http://, \
                 with at most {BASE_URL_CHARS_MAX} characters and no query"
            )),
        }
    }

    fn is_destination(&self, name: &str) -> bool {
        // those of the page are known when the database is
        name.starts_with(PREFIX) || self.destinations.iter().any(|d| d.name == name)
    }

    /// Destinations of the page that this counts on.
    #[must_use]
    pub fn counts_on(&self) -> Vec<String> {
        let rules = self.rules.iter().flat_map(|r| &r.steps);
        let steps = self.steps.iter().chain(rules).flat_map(|s| &s.to);
        let people = self.schedules.iter().flat_map(ScheduleSettings::people);
        let quiet = self.destinations.iter().map(|d| &d.quiet_instead);
        let all = steps.chain(people).chain(quiet).chain(&self.alarm_to);
        let mut names: Vec<String> = all
            .filter(|name| name.starts_with(PREFIX))
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn check_names(&self) -> Result<(), String> {
        for (n, destination) in self.destinations.iter().enumerate() {
            destination.check()?;
            let name = &destination.name;
            if self.destinations[..n].iter().any(|d| d.name == *name) {
                return Err(format!("alerts.destinations has the name {name:?} twice"));
            }
            let instead = &destination.quiet_instead;
            if !instead.is_empty() && (!self.is_destination(instead) || instead == name) {
                return Err(format!(
                    "alerts.destinations {name:?} has quiet_instead = {instead:?}, must be another destination"
                ));
            }
        }
        for (n, schedule) in self.schedules.iter().enumerate() {
            schedule.check()?;
            let name = &schedule.name;
            let twice = self.schedules[..n].iter().any(|s| s.name == *name);
            if twice || self.is_destination(name) {
                return Err(format!(
                    "alerts.schedules has the name {name:?}, which is taken"
                ));
            }
            if let Some(person) = schedule.people().find(|p| !self.is_destination(p)) {
                return Err(format!(
                    "alerts.schedules {name:?} names {person:?}, which is not in alerts.destinations"
                ));
            }
        }
        Ok(())
    }

    fn check_steps(&self, key: &str, steps: &[StepSettings]) -> Result<(), String> {
        let known = |name: &String| {
            self.is_destination(name) || self.schedules.iter().any(|s| s.name == *name)
        };
        for step in steps {
            if step.to.is_empty() {
                return Err(format!("{key} has a step that reaches nobody: set its to"));
            }
            if let Some(name) = step.to.iter().find(|name| !known(name)) {
                return Err(format!(
                    "{key} names {name:?}, which is neither in alerts.destinations nor in alerts.schedules"
                ));
            }
            within(&format!("{key} after_minutes"), step.after_minutes, 0, 1440)?;
        }
        if steps.is_sorted_by_key(|s| s.after_minutes) {
            Ok(())
        } else {
            Err(format!("{key} must be in the order of after_minutes"))
        }
    }

    fn check_rules(&self) -> Result<(), String> {
        for (n, rule) in self.rules.iter().enumerate() {
            destinations::check_name("alerts.rules", &rule.name)?;
            let key = format!("alerts.rules {:?}", rule.name);
            if self.rules[..n].iter().any(|r| r.name == rule.name) {
                return Err(format!("alerts.rules has the name {:?} twice", rule.name));
            }
            if rule.bands.is_empty() || rule.steps.is_empty() {
                return Err(format!("{key} needs bands and steps"));
            }
            check_bands(&format!("{key} bands"), &rule.bands)?;
            hours(&format!("{key} hours"), &rule.hours)?;
            weekdays(&format!("{key} weekdays"), &rule.weekdays)?;
            self.check_steps(&format!("{key} steps"), &rule.steps)?;
        }
        Ok(())
    }

    /// What is alerted, for a site in this zone where claims end after so long. Values that
    /// [`AlertSettings::check`] would refuse count as absent.
    #[must_use]
    pub fn policy(&self, zone: Tz, claim_idle_ms: i64) -> Policy {
        let rule = |r: &RuleSettings| Rule {
            name: r.name.clone(),
            bands: r.bands.clone(),
            findings: r.findings.clone(),
            sites: r.sites.clone(),
            hours: Hours::parse(&r.hours),
            weekdays: Weekdays::parse(&r.weekdays),
            steps: steps(&r.steps),
        };
        let general = Rule {
            name: String::new(),
            bands: self.bands.clone(),
            findings: Vec::new(),
            sites: Vec::new(),
            hours: Hours::parse(&self.hours),
            weekdays: None,
            steps: steps(&self.steps),
        };
        Policy {
            rules: self.rules.iter().map(rule).chain([general]).collect(),
            schedules: self.schedules.iter().map(|s| s.schedule(zone)).collect(),
            quiet: self
                .destinations
                .iter()
                .filter_map(DestinationSettings::quiet)
                .collect(),
            zone,
            claim_idle_ms,
        }
    }

    /// When messages are bundled.
    #[must_use]
    pub fn storm(&self) -> StormLimits {
        StormLimits {
            messages: self.storm_messages as usize,
            window_ms: i64::from(self.storm_minutes) * 60_000,
            bundle_ms: i64::from(self.storm_bundle_seconds) * 1000,
        }
    }
}

fn steps(settings: &[StepSettings]) -> Vec<Step> {
    settings
        .iter()
        .map(|step| Step {
            after_ms: i64::from(step.after_minutes) * 60_000,
            to: step.to.clone(),
        })
        .collect()
}

fn check_bands(key: &str, bands: &[Band]) -> Result<(), String> {
    bands
        .iter()
        .find(|b| **b < Band::Elevated)
        .map_or(Ok(()), |band| {
            Err(format!(
                "{key} has {:?}, may have elevated, urgent and critical",
                band.as_str()
            ))
        })
}

fn hours(key: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || Hours::parse(text).is_some() {
        return Ok(());
    }
    Err(format!(
        "{key} is {text:?}, must be like 18:00-07:00, or empty"
    ))
}

fn weekdays(key: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || Weekdays::parse(text).is_some() {
        return Ok(());
    }
    Err(format!(
        "{key} is {text:?}, must be like mon-fri or sat,sun, or empty"
    ))
}

fn within(name: &str, value: u32, low: u32, high: u32) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{name} is {value}, must be between {low} and {high}"
        ))
    }
}
