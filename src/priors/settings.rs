//! Who is asked for earlier studies.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dicom::send::DestinationSettings;
use crate::tls::Toward;

/// The PACS that has earlier studies, and how many of them are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriorSettings {
    /// `priors.host`: host name or address of the PACS; empty asks nobody.
    pub host: String,
    /// `priors.port`
    pub port: u16,
    /// `priors.ae_title`: the AE title that we call.
    pub ae_title: String,
    /// `priors.tls`, `priors.tls_name`, `priors.ca_file`, `priors.certificate_file`, `priors.key_file`
    #[serde(flatten)]
    pub by_tls: Toward,
    /// `priors.studies_max`: earlier studies that are fetched for a study, the newest ones.
    pub studies_max: usize,
    /// `priors.years_max`: older ones are not wanted.
    pub years_max: u32,
    /// `priors.images_max`: a study of more images is not fetched.
    pub images_max: u64,
    /// `priors.connect_timeout_seconds`: from connection to association.
    pub connect_timeout_seconds: u64,
    /// `priors.answer_timeout_seconds`: for a whole answer to a query.
    pub answer_timeout_seconds: u64,
    /// `priors.move_timeout_seconds`: for one study to come.
    pub move_timeout_seconds: u64,
    /// `priors.attempts_max`: after so many failures it is given up, with the reason.
    pub attempts_max: i64,
}

impl Default for PriorSettings {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 104,
            ae_title: "PACS".into(),
            by_tls: Toward::default(),
            studies_max: 3,
            years_max: 10,
            images_max: 3000,
            connect_timeout_seconds: 10,
            answer_timeout_seconds: 60,
            move_timeout_seconds: 900,
            attempts_max: 12,
        }
    }
}

impl PriorSettings {
    /// Whether anybody is asked.
    #[must_use]
    pub fn on(&self) -> bool {
        !self.host.is_empty()
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        if !self.on() {
            return Ok(());
        }
        self.peer()
            .check()
            .map_err(|e| format!("priors: {}", e.replace("destinations.", "priors.")))?;
        let studies_max = u64::try_from(self.studies_max).unwrap_or(u64::MAX);
        let attempts_max = u64::try_from(self.attempts_max).unwrap_or(0);
        for (key, value, most) in [
            ("studies_max", studies_max, 20),
            ("years_max", u64::from(self.years_max), 100),
            ("images_max", self.images_max, 100_000),
            ("move_timeout_seconds", self.move_timeout_seconds, 7200),
            ("attempts_max", attempts_max, 100),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("priors.{key} must be between 1 and {most}"));
            }
        }
        Ok(())
    }

    /// The PACS, as associations are asked for.
    #[must_use]
    pub fn peer(&self) -> DestinationSettings {
        DestinationSettings {
            by_tls: self.by_tls.clone(),
            connect_timeout_seconds: self.connect_timeout_seconds,
            answer_timeout_seconds: self.answer_timeout_seconds,
            ..DestinationSettings::new("priors", &self.ae_title, &self.host, self.port)
        }
    }

    /// How long one study may take to come.
    #[must_use]
    pub fn move_timeout(&self) -> Duration {
        Duration::from_secs(self.move_timeout_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_is_checked() {
        let mut settings = PriorSettings {
            studies_max: 0,
            ..PriorSettings::default()
        };
        assert_eq!(settings.check(), Ok(()));
        settings.host = "pacs.hospital.example".into();
        assert_eq!(
            settings.check(),
            Err("priors.studies_max must be between 1 and 20".into())
        );
        settings.studies_max = 2;
        settings.ae_title = " ".into();
        assert!(settings.check().unwrap_err().contains("priors.ae_title"));
    }
}
