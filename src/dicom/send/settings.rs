//! Where results go.

use serde::{Deserialize, Serialize};

use crate::dicom::objects::Kind;
use crate::dicom::receive::check_ae;

/// A PACS, viewer or router that gets our objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationSettings {
    /// As deliveries name it.
    pub name: String,
    /// The AE title that we call.
    pub ae_title: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What it gets.
    #[serde(default = "all_kinds")]
    pub objects: Vec<Kind>,
    /// Ask it to commit to keep them (PS3.4 J); what it does not commit to is sent again.
    #[serde(default)]
    pub commitment: bool,
    /// From connection to association, in seconds.
    #[serde(default = "connect_timeout_seconds")]
    pub connect_timeout_seconds: u64,
    /// Longest wait for an answer, in seconds.
    #[serde(default = "answer_timeout_seconds")]
    pub answer_timeout_seconds: u64,
}

fn all_kinds() -> Vec<Kind> {
    Kind::ALL.to_vec()
}

const fn connect_timeout_seconds() -> u64 {
    10
}

const fn answer_timeout_seconds() -> u64 {
    60
}

impl DestinationSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the key that is out of range, below `dicom.`.
    pub fn check(&self) -> Result<(), String> {
        let key = |key: &str| format!("destinations.{key} of {:?}", self.name);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return Err(format!(
                "{} must be letters, digits, - _ or ., at most 64",
                key("name")
            ));
        }
        self.check_fields()
    }

    /// Checks all but the name.
    ///
    /// # Errors
    /// Names what is out of range and what it may be.
    pub fn check_fields(&self) -> Result<(), String> {
        let key = |key: &str| format!("destinations.{key} of {:?}", self.name);
        check_ae(&key("ae_title"), &self.ae_title)?;
        if self.host.is_empty() || self.host.len() > 253 || self.host.contains(['/', '@', ' ']) {
            return Err(format!("{} must be a host name or an address", key("host")));
        }
        if self.port == 0 {
            return Err(format!("{} must not be 0", key("port")));
        }
        if self.objects.is_empty() {
            return Err(format!("{} must name at least one kind", key("objects")));
        }
        for (name, seconds) in [
            ("connect_timeout_seconds", self.connect_timeout_seconds),
            ("answer_timeout_seconds", self.answer_timeout_seconds),
        ] {
            if !(1..=600).contains(&seconds) {
                return Err(format!(
                    "{} is {seconds}, must be between 1 and 600",
                    key(name)
                ));
            }
        }
        Ok(())
    }

    /// "ORTHANC at 10.0.0.5:4242"
    #[must_use]
    pub fn reached(&self) -> String {
        format!("{} at {}:{}", self.ae_title, self.host, self.port)
    }
}
