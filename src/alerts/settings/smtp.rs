//! Settings of the mail server.

use std::path::PathBuf;

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

use super::{Secret, within};

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
    /// The password, wherever it stands.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_password(&self) -> Result<String, String> {
        self.password
            .read("smtp.password_file", &self.password_file)
    }

    /// Checks every value that is needed when mail is `needed`.
    ///
    /// # Errors
    /// Names the setting that is wrong and what it may be.
    pub fn check(&self, needed: bool) -> Result<(), String> {
        within("smtp.timeout_seconds", self.timeout_seconds, 1, 120)?;
        if self.host.is_empty() {
            return if needed {
                Err("smtp.host is empty, but alerts.destinations has one by mail or pager".into())
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
