//! Settings of alerts and of the mail server, with the unit in every name.

use std::path::PathBuf;

use chrono_tz::Tz;
use lettre::Address;
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

use super::policy::{Hours, Policy, Step};
use crate::outbox::machine::StormLimits;
use crate::triage::Band;

/// Longest name of a destination, in characters.
const NAME_CHARS_MAX: usize = 40;
/// Longest base address, in characters: a pager's line has 160 and must have room for the rest.
const BASE_URL_CHARS_MAX: usize = 80;

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// Mail with text and HTML.
    Mail,
    /// Mail of one short line, for a gateway to pagers or text messages.
    Pager,
}

impl ChannelKind {
    /// As the settings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Pager => "pager",
        }
    }
}

/// One who is told. One address each, so that a refused one never takes another with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationSettings {
    /// What it is called on pages and in steps.
    pub name: String,
    /// mail or pager.
    pub channel: ChannelKind,
    /// Mail address.
    pub to: String,
}

/// A step of the escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// After the alert was raised.
    pub after_minutes: u32,
    /// Names of destinations.
    pub to: Vec<String>,
}

/// What is alerted, when, and whom it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// `alerts.bands`: bands that alert (elevated, urgent, critical); none turns alerts off.
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
    /// `alerts.storm_bundle_seconds`: during a storm one message, with all that waits, in so long.
    pub storm_bundle_seconds: u32,
    /// `alerts.destinations`: who can be told.
    pub destinations: Vec<DestinationSettings>,
    /// `alerts.steps`: who is told when; the next step only while nobody acknowledged.
    pub steps: Vec<StepSettings>,
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
        }
    }
}

impl AlertSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is wrong and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if let Some(band) = self.bands.iter().find(|b| **b < Band::Elevated) {
            return Err(format!(
                "alerts.bands has {:?}, may have elevated, urgent and critical",
                band.as_str()
            ));
        }
        if !self.hours.is_empty() && Hours::parse(&self.hours).is_none() {
            return Err(format!(
                "alerts.hours is {:?}, must be like 18:00-07:00, or empty",
                self.hours
            ));
        }
        within("alerts.link_valid_hours", self.link_valid_hours, 1, 720)?;
        within("alerts.storm_messages", self.storm_messages, 1, 1000)?;
        within("alerts.storm_minutes", self.storm_minutes, 1, 1440)?;
        within(
            "alerts.storm_bundle_seconds",
            self.storm_bundle_seconds,
            1,
            3600,
        )?;
        self.check_destinations()?;
        self.check_steps()?;
        if !self.bands.is_empty() && self.steps.is_empty() {
            return Err(
                "alerts.steps is empty, but alerts.bands is not: nobody would be told".into(),
            );
        }
        self.check_base_url()
    }

    fn check_base_url(&self) -> Result<(), String> {
        let url = &self.base_url;
        let begins = url.starts_with("https://") || url.starts_with("http://");
        let plain =
            url.is_ascii() && !url.contains(|c: char| c.is_whitespace() || "?#\"<>".contains(c));
        match (url.is_empty(), self.destinations.is_empty()) {
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

    fn check_destinations(&self) -> Result<(), String> {
        for (n, destination) in self.destinations.iter().enumerate() {
            let name = &destination.name;
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(good) {
                return Err(format!(
                    "alerts.destinations has the name {name:?}, must be 1 to {NAME_CHARS_MAX} letters, digits, - _ ."
                ));
            }
            if self.destinations[..n].iter().any(|d| d.name == *name) {
                return Err(format!("alerts.destinations has the name {name:?} twice"));
            }
            if let Err(why) = destination.to.parse::<Address>() {
                return Err(format!(
                    "alerts.destinations {name:?} has to = {:?}, must be one mail address: {why}",
                    destination.to
                ));
            }
        }
        Ok(())
    }

    fn check_steps(&self) -> Result<(), String> {
        let known = |name: &String| self.destinations.iter().any(|d| d.name == *name);
        for step in &self.steps {
            if step.to.is_empty() {
                return Err("alerts.steps has a step that reaches nobody: set its to".into());
            }
            if let Some(name) = step.to.iter().find(|name| !known(name)) {
                return Err(format!(
                    "alerts.steps names {name:?}, which is not in alerts.destinations"
                ));
            }
            within("alerts.steps after_minutes", step.after_minutes, 0, 1440)?;
        }
        if self.steps.is_sorted_by_key(|s| s.after_minutes) {
            Ok(())
        } else {
            Err("alerts.steps must be in the order of after_minutes".into())
        }
    }

    /// What is alerted, for a site in this zone. Values that [`AlertSettings::check`] would
    /// refuse count as absent.
    #[must_use]
    pub fn policy(&self, zone: Tz) -> Policy {
        Policy {
            bands: self.bands.clone(),
            hours: Hours::parse(&self.hours),
            zone,
            steps: self
                .steps
                .iter()
                .map(|step| Step {
                    after_ms: i64::from(step.after_minutes) * 60_000,
                    to: step.to.clone(),
                })
                .collect(),
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

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Begins in the clear and must change to TLS (RFC 3207).
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// In the clear; only to this machine.
    None,
}

/// Text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"...\"")
    }
}

/// The mail server that takes our messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpSettings {
    /// `smtp.host`: name as in its certificate.
    pub host: String,
    /// `smtp.port`: 587 with starttls, 465 with tls.
    pub port: u16,
    /// `smtp.security`: starttls, tls or none; none only to this machine.
    pub security: Security,
    /// `smtp.ca_file`: PEM of the authority that signed its certificate, beside those the system trusts.
    pub ca_file: PathBuf,
    /// `smtp.user`: empty for no authentication.
    pub user: String,
    /// `smtp.password`.
    pub password: Secret,
    /// `smtp.password_file`: a file that holds the password alone.
    pub password_file: PathBuf,
    /// `smtp.from`: sender of messages.
    pub from: String,
    /// `smtp.timeout_seconds`: within which the server must be reached; what follows is bounded by
    /// `outbox.attempt_timeout_seconds`.
    pub timeout_seconds: u32,
}

impl Default for SmtpSettings {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            security: Security::Starttls,
            ca_file: PathBuf::new(),
            user: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            from: String::new(),
            timeout_seconds: 10,
        }
    }
}

impl SmtpSettings {
    /// Checks every value that is needed when mail is `needed`.
    ///
    /// # Errors
    /// Names the setting that is wrong and what it may be.
    pub fn check(&self, needed: bool) -> Result<(), String> {
        within("smtp.timeout_seconds", self.timeout_seconds, 1, 120)?;
        if self.host.is_empty() {
            return if needed {
                Err("smtp.host is empty, but alerts.destinations has one by mail".into())
            } else {
                Ok(())
            };
        }
        let here = ["localhost", "127.0.0.1", "::1"].contains(&self.host.as_str());
        if self.security == Security::None && !here {
            return Err(format!(
                "smtp.security is none, which is only for this machine, not for {:?}: use starttls or tls",
                self.host
            ));
        }
        let given = !self.password.0.is_empty();
        let in_file = !self.password_file.as_os_str().is_empty();
        if given && in_file {
            return Err("smtp.password and smtp.password_file are both set: use one".into());
        }
        if self.user.is_empty() == (given || in_file) {
            return Err(
                "smtp.user needs smtp.password or smtp.password_file, and the other way round"
                    .into(),
            );
        }
        match self.from.parse::<Mailbox>() {
            Ok(_) => Ok(()),
            Err(why) => Err(format!(
                "smtp.from is {:?}, must be a mail address: {why}",
                self.from
            )),
        }
    }
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
