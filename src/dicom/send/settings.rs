//! Where results go.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::ClientConfig;

use crate::dicom::objects::Kind;
use crate::dicom::receive::check_ae;
use crate::tls::Toward;

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
    /// How TLS is spoken to it.
    #[serde(flatten)]
    pub by_tls: Toward,
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
    /// With what is asked of every destination, the rest at its default.
    #[must_use]
    pub fn new(name: &str, ae_title: &str, host: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            ae_title: ae_title.to_owned(),
            host: host.to_owned(),
            port,
            objects: all_kinds(),
            commitment: false,
            by_tls: Toward::default(),
            connect_timeout_seconds: connect_timeout_seconds(),
            answer_timeout_seconds: answer_timeout_seconds(),
        }
    }

    /// How TLS is spoken to it, and the name that its certificate must have; `None` where TLS is not. The files are
    /// read anew for each association, so that a renewed certificate needs no restart.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn connector(&self) -> Result<Option<(Arc<ClientConfig>, String)>, String> {
        let key = format!("dicom destination {:?} ", self.name);
        self.by_tls.connector(&key, &self.host)
    }

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
        if let Some(name) = self.by_tls.unused() {
            return Err(format!("{} is for tls = true", key(name)));
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
        let tls = if self.by_tls.tls { " by TLS" } else { "" };
        format!("{} at {}:{}{tls}", self.ae_title, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Toml};

    use super::*;

    #[test]
    fn fields_of_tls_stand_beside_the_others_and_unknown_ones_are_named() {
        let read = |more: &str| -> Result<DestinationSettings, String> {
            let file = format!("name = 'a'\nae_title = 'A'\nhost = 'h'\nport = 104\n{more}");
            let read = Figment::from(Toml::string(&file)).extract();
            read.map_err(|e: figment::Error| e.to_string())
        };
        let made = read("tls = true\nca_file = '/x/ca.pem'\nobjects = ['sr']").unwrap();
        assert!(made.by_tls.tls);
        assert_eq!(made.by_tls.ca_file.to_str(), Some("/x/ca.pem"));
        assert_eq!(made.objects, [Kind::Sr]);
        assert_eq!(read("").unwrap().by_tls, Toward::default());
        for bad in ["tls_nam = 'x'", "tls = 'perhaps'"] {
            let error = read(bad).unwrap_err();
            assert!(error.contains("tls"), "{error}");
        }
    }
}
