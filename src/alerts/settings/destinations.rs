//! Settings of one who is told: the channel, the address, what the channel needs.

use std::path::PathBuf;

use lettre::Address;
use serde::{Deserialize, Serialize};

use super::{NAME_CHARS_MAX, Secret, hours};
use crate::alerts::policy::Quiet;
use crate::alerts::policy::hours::Hours;
use crate::alerts::template::Template;
use crate::outbox::http::{Endpoint, is_this_machine};

/// Longest pager number, in characters.
const PAGER_ID_CHARS_MAX: usize = 40;
/// Longest template, in characters.
const TEMPLATE_CHARS_MAX: usize = 8000;

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// Mail with text and HTML.
    Mail,
    /// Mail of one short line, for a gateway to pagers or text messages.
    Pager,
    /// A paging server that speaks SNPP (RFC 1861).
    Snpp,
    /// An HTTP POST.
    Webhook,
}

impl ChannelKind {
    /// As the settings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Pager => "pager",
            Self::Snpp => "snpp",
            Self::Webhook => "webhook",
        }
    }

    /// Whether it needs the mail server.
    #[must_use]
    pub fn is_mail(self) -> bool {
        matches!(self, Self::Mail | Self::Pager)
    }
}

/// What a webhook's receiver understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Our own JSON, signed with the secret.
    #[default]
    Json,
    /// `PagerDuty` Events API v2; the secret is the routing key.
    Pagerduty,
    /// ntfy, published as JSON; the secret is an access token, where the topic needs one.
    Ntfy,
    /// What `template` says, signed with the secret.
    Template,
}

/// One who is told. One address each, so that a refused one never takes another with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationSettings {
    /// What it is called on pages and in steps.
    pub name: String,
    /// mail, pager, snpp or webhook.
    pub channel: ChannelKind,
    /// Mail address, pager number or URL.
    pub to: String,
    /// webhook: json, pagerduty, ntfy or template.
    #[serde(default)]
    pub preset: Preset,
    /// webhook: body with `{{headline}}`, `{{text}}`, `{{link}}` and others in it.
    #[serde(default)]
    pub template: String,
    /// webhook: key of the signature, routing key or token. snpp: password of `user`.
    #[serde(default)]
    pub secret: Secret,
    /// A file that holds the secret alone.
    #[serde(default)]
    pub secret_file: PathBuf,
    /// webhook: PEM of the authority that signed its certificate, beside those the system trusts.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// snpp: host:port of the paging server.
    #[serde(default)]
    pub server: String,
    /// snpp: login, where the server wants one.
    #[serde(default)]
    pub user: String,
    /// snpp: 1 for a page, 2 with a caller's name and a subject, 3 to take answers from the pager.
    #[serde(default = "one")]
    pub level: u8,
    /// `22:00-06:00`: bands below critical go to `quiet_instead` then. Empty for never.
    #[serde(default)]
    pub quiet_hours: String,
    /// Name of another destination.
    #[serde(default)]
    pub quiet_instead: String,
}

fn one() -> u8 {
    1
}

impl DestinationSettings {
    /// With what every channel needs, the rest at its default.
    #[must_use]
    pub fn new(name: &str, channel: ChannelKind, to: &str) -> Self {
        Self {
            name: name.to_owned(),
            channel,
            to: to.to_owned(),
            preset: Preset::default(),
            template: String::new(),
            secret: Secret::default(),
            secret_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            server: String::new(),
            user: String::new(),
            level: one(),
            quiet_hours: String::new(),
            quiet_instead: String::new(),
        }
    }

    /// The secret, wherever it stands.
    ///
    /// # Errors
    /// Names the destination when the file cannot be read.
    pub fn read_secret(&self) -> Result<String, String> {
        let key = format!("alerts.destinations {:?} secret_file", self.name);
        self.secret.read(&key, &self.secret_file)
    }

    /// When below critical another is told in its place; `None` for never.
    #[must_use]
    pub fn quiet(&self) -> Option<Quiet> {
        Some(Quiet {
            destination: self.name.clone(),
            hours: Hours::parse(&self.quiet_hours)?,
            instead: self.quiet_instead.clone(),
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_name("alerts.destinations", &self.name)?;
        self.check_fields()
    }

    /// Checks all but the name.
    ///
    /// # Errors
    /// Names what is wrong and what it may be.
    pub fn check_fields(&self) -> Result<(), String> {
        let wrong = |what: String| Err(format!("alerts.destinations {:?} {what}", self.name));
        if !self.secret.0.is_empty() && !self.secret_file.as_os_str().is_empty() {
            return wrong("has secret and secret_file: use one".into());
        }
        let of_channel = match self.channel {
            ChannelKind::Mail | ChannelKind::Pager => self.check_mail(),
            ChannelKind::Snpp => self.check_snpp(),
            ChannelKind::Webhook => self.check_webhook(),
        };
        if let Err(what) = of_channel.and_then(|()| self.check_unused()) {
            return wrong(what);
        }
        hours(
            &format!("alerts.destinations {:?} quiet_hours", self.name),
            &self.quiet_hours,
        )?;
        if self.quiet_hours.is_empty() == self.quiet_instead.is_empty() {
            Ok(())
        } else {
            wrong("needs quiet_instead with quiet_hours, and the other way round".into())
        }
    }

    fn check_mail(&self) -> Result<(), String> {
        let address = self.to.parse::<Address>();
        let why = address.map_err(|e| e.to_string());
        why.map(|_| ())
            .map_err(|why| format!("has to = {:?}, must be one mail address: {why}", self.to))
    }

    fn check_snpp(&self) -> Result<(), String> {
        let good = |c: char| c.is_ascii_graphic();
        if self.to.is_empty() || self.to.len() > PAGER_ID_CHARS_MAX || !self.to.chars().all(good) {
            return Err(format!(
                "has to = {:?}, must be a pager number of at most {PAGER_ID_CHARS_MAX} characters",
                self.to
            ));
        }
        let server = self.server.rsplit_once(':');
        if !server.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            return Err(format!(
                "has server = {:?}, must be host:port of the paging server (usually port 444)",
                self.server
            ));
        }
        if !(1..=3).contains(&self.level) {
            return Err(format!("has level = {}, must be 1, 2 or 3", self.level));
        }
        if !self.user.chars().all(good) {
            return Err("has a user with spaces or other signs in it".into());
        }
        Ok(())
    }

    fn check_webhook(&self) -> Result<(), String> {
        let endpoint = Endpoint::parse(&self.to)
            .map_err(|why| format!("has to = {:?}, must be a URL: {why}", self.to))?;
        if !endpoint.is_tls() && !is_this_machine(endpoint.host()) {
            return Err("has to without TLS, which is only for this machine: use https://".into());
        }
        let has_secret = !self.secret.0.is_empty() || !self.secret_file.as_os_str().is_empty();
        match self.preset {
            Preset::Pagerduty if !has_secret => {
                Err("needs secret or secret_file: the routing key of the service".into())
            }
            Preset::Ntfy if endpoint.topic().is_none() => Err(format!(
                "has to = {:?}, must end in the topic, like https://ntfy.hospital.example/mri",
                self.to
            )),
            Preset::Template if self.template.chars().count() > TEMPLATE_CHARS_MAX => Err(format!(
                "has a template of more than {TEMPLATE_CHARS_MAX} characters"
            )),
            Preset::Template => Template::parse(&self.template)
                .map(|_| ())
                .map_err(|why| format!("has a template that {why}")),
            _ if !self.template.is_empty() => {
                Err("has a template: set preset = \"template\"".into())
            }
            _ => Ok(()),
        }
    }

    /// A setting that its channel does not know is a mistake, not a wish.
    fn check_unused(&self) -> Result<(), String> {
        let webhook = self.channel == ChannelKind::Webhook;
        let snpp = self.channel == ChannelKind::Snpp;
        let secret = !self.secret.0.is_empty() || !self.secret_file.as_os_str().is_empty();
        let unused = [
            ("preset", !webhook && self.preset != Preset::default()),
            ("template", !webhook && !self.template.is_empty()),
            ("ca_file", !webhook && !self.ca_file.as_os_str().is_empty()),
            ("secret", !webhook && !snpp && secret),
            ("server", !snpp && !self.server.is_empty()),
            ("user", !snpp && !self.user.is_empty()),
            ("level", !snpp && self.level != one()),
        ];
        let found = unused.iter().find(|(_, wrong)| *wrong);
        found.map_or(Ok(()), |(key, _)| {
            Err(format!(
                "has {key}, which {} does not use",
                self.channel.as_str()
            ))
        })
    }
}

/// A name that fits into addresses and on pages.
pub(super) fn check_name(key: &str, name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(good) {
        return Err(format!(
            "{key} has the name {name:?}, must be 1 to {NAME_CHARS_MAX} letters, digits, - _ ."
        ));
    }
    Ok(())
}
