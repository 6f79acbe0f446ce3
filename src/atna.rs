//! The audit trail sent on to the site's audit record repository (IHE ITI TF-1 9, Audit Trail and Node Authentication;
//! transaction ITI-20): each entry as a DICOM audit message (`message`, PS3.15 A.5) in syslog over TLS (`syslog`,
//! RFC 5424 and 5425).
//!
//! The trail itself is the queue, and the database says how far it went (`send`): nothing is kept beside it, nothing is
//! lost, and a repository that is away holds up nobody.

mod message;
mod send;
mod syslog;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use message::{Source, is_known};
pub use send::Repository;

use crate::tls::Toward;

/// The site's audit record repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AtnaSettings {
    /// `atna.host`: name or address of the audit record repository; empty is off.
    pub host: String,
    /// `atna.port`
    pub port: u16,
    /// `atna.source_id`: what we are called there (`AuditSourceID`).
    pub source_id: String,
    /// `atna.tls_name`: name in its certificate; empty for `host`.
    pub tls_name: String,
    /// `atna.ca_file`: PEM of the authorities of which one must have signed its certificate; empty for those the system
    /// trusts.
    pub ca_file: PathBuf,
    /// `atna.certificate_file`: PEM of the certificate that it knows us by; repositories usually ask for one.
    pub certificate_file: PathBuf,
    /// `atna.key_file`: PEM of its key.
    pub key_file: PathBuf,
}

impl Default for AtnaSettings {
    fn default() -> Self {
        Self {
            host: String::new(),
            // RFC 5425 4.1
            port: 6514,
            source_id: "firstread".into(),
            tls_name: String::new(),
            ca_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
        }
    }
}

impl AtnaSettings {
    /// Whether the trail is sent on.
    #[must_use]
    pub fn on(&self) -> bool {
        !self.host.is_empty()
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn check(&self) -> Result<(), String> {
        if !self.on() {
            return Ok(());
        }
        if self.host.len() > 253 || self.host.contains(['/', '@', ' ']) {
            return Err("atna.host must be a host name or an address".into());
        }
        if self.port == 0 {
            return Err("atna.port must not be 0".into());
        }
        // it is a word of the syslog header too (RFC 5424 6.2.5)
        let fits = |c: char| c.is_ascii_graphic();
        let id = &self.source_id;
        if id.is_empty() || id.len() > 48 || !id.chars().all(fits) {
            return Err("atna.source_id must be 1 to 48 letters, digits or signs".into());
        }
        Ok(())
    }

    /// How TLS is spoken to it.
    #[must_use]
    pub fn toward(&self) -> Toward {
        Toward {
            tls: true,
            tls_name: self.tls_name.clone(),
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
        }
    }

    /// `arr.hospital.example:6514`
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let on = || AtnaSettings {
            host: "arr.hospital.example".into(),
            ..AtnaSettings::default()
        };
        assert_eq!(AtnaSettings::default().check(), Ok(()), "off");
        assert_eq!(on().check(), Ok(()));
        assert_eq!(on().address(), "arr.hospital.example:6514");
        let check = |change: fn(&mut AtnaSettings), word: &str| {
            let mut bad = on();
            change(&mut bad);
            let said = bad.check().unwrap_err();
            assert!(said.contains(word), "{said}");
        };
        check(|s| s.host = "https://arr".into(), "atna.host");
        check(|s| s.port = 0, "atna.port");
        check(|s| s.source_id.clear(), "atna.source_id");
        check(|s| s.source_id = "two words".into(), "atna.source_id");
    }
}
