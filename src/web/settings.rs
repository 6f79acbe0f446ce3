//! Settings of the web side, with the unit in every name.

use std::path::PathBuf;
use std::sync::Arc;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::dicom::receive::Network;
use crate::store::accounts::{LockLimits, SessionLimits};
use crate::tls::{Live, ServerFiles};
use crate::worklist::WorklistSettings;

/// Settings of pages, API and login.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSettings {
    /// `web.time_zone`: IANA name of the zone in which pages show times; follows `site.time_zone`.
    #[serde(skip)]
    pub time_zone: Tz,
    /// `worklist.*`: follows the settings of the list.
    #[serde(skip)]
    pub worklist: WorklistSettings,
    /// `web.threads`: threads that answer requests.
    pub threads: usize,
    /// `web.connections_max`: open connections, live updates included; three quarters of them from one address.
    pub connections_max: usize,
    /// `web.live_listeners_max`: open browsers that get live updates; others ask every half minute.
    pub live_listeners_max: usize,
    /// `web.header_timeout_seconds`: within which a client must have sent its request's head.
    pub header_timeout_seconds: u64,
    /// `web.request_timeout_seconds`: within which a request, body included, is answered or given up.
    pub request_timeout_seconds: u64,
    /// `web.keep_alive_seconds`: how long an idle connection stays open.
    pub keep_alive_seconds: u64,
    /// `web.body_bytes_max`: largest request body.
    pub body_bytes_max: usize,
    /// `web.tls_certificate_file`: PEM of our certificate and what signed it; the server then speaks https alone.
    pub tls_certificate_file: PathBuf,
    /// `web.tls_key_file`: PEM of its key.
    pub tls_key_file: PathBuf,
    /// `web.hsts_days`: how long browsers are to insist on https (RFC 6797), where we speak it; 0 says nothing.
    pub hsts_days: u32,
    /// `web.cookie_secure`: send the session cookie over HTTPS only; set it behind a TLS proxy.
    pub cookie_secure: bool,
    /// `web.trusted_proxies`: addresses and networks of proxies in front of us; from them alone `X-Forwarded-For` is
    /// believed, and their connections are not counted by address.
    pub trusted_proxies: Vec<Network>,
    /// `web.session_idle_minutes`: a session ends after so long without a request by its user.
    pub session_idle_minutes: u32,
    /// `web.session_absolute_minutes`: a session ends after so long in any case.
    pub session_absolute_minutes: u32,
    /// `web.lockout_failures`: failed sign-ins in a row, from wherever, after which a name is locked.
    pub lockout_failures: u32,
    /// `web.lockout_minutes`: for so long.
    pub lockout_minutes: u32,
    /// `web.worker_silence_seconds`: workers silent for so long are shown as stopped.
    pub worker_silence_seconds: u32,
    /// `web.viewer_url`: link to the PACS viewer, with `{study_uid}`, `{accession}` or
    /// `{patient_id}` in it; empty for none.
    pub viewer_url: String,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self {
            time_zone: Tz::UTC,
            worklist: WorklistSettings::default(),
            threads: 2,
            connections_max: 1024,
            live_listeners_max: 256,
            header_timeout_seconds: 10,
            request_timeout_seconds: 30,
            keep_alive_seconds: 60,
            body_bytes_max: 64 * 1024,
            tls_certificate_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
            hsts_days: 365,
            cookie_secure: false,
            trusted_proxies: Vec::new(),
            session_idle_minutes: 12 * 60,
            session_absolute_minutes: 7 * 24 * 60,
            lockout_failures: 20,
            lockout_minutes: 15,
            worker_silence_seconds: 60,
            viewer_url: String::new(),
        }
    }
}

impl WebSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "web.{name} is {value}, must be between {low} and {high}"
                ))
            }
        };
        within("threads", self.threads as u64, 1, 64)?;
        within("connections_max", self.connections_max as u64, 16, 25_000)?;
        within(
            "live_listeners_max",
            self.live_listeners_max as u64,
            0,
            self.connections_max as u64 * 3 / 4,
        )?;
        within(
            "header_timeout_seconds",
            self.header_timeout_seconds,
            1,
            120,
        )?;
        within(
            "request_timeout_seconds",
            self.request_timeout_seconds,
            1,
            600,
        )?;
        within("hsts_days", self.hsts_days.into(), 0, 3650)?;
        within("keep_alive_seconds", self.keep_alive_seconds, 1, 3600)?;
        within("body_bytes_max", self.body_bytes_max as u64, 1024, 16 << 20)?;
        within(
            "session_idle_minutes",
            self.session_idle_minutes.into(),
            1,
            44_640,
        )?;
        within(
            "session_absolute_minutes",
            self.session_absolute_minutes.into(),
            self.session_idle_minutes.into(),
            525_600,
        )?;
        within("lockout_failures", self.lockout_failures.into(), 3, 1000)?;
        within("lockout_minutes", self.lockout_minutes.into(), 1, 1440)?;
        within(
            "worker_silence_seconds",
            self.worker_silence_seconds.into(),
            5,
            3600,
        )?;
        let viewer = &self.viewer_url;
        if viewer.is_empty() || viewer.starts_with("https://") || viewer.starts_with("http://") {
            Ok(())
        } else {
            Err("web.viewer_url must be empty or begin with https:// or http://".to_owned())
        }
    }

    /// How https is spoken; `None` where it is not.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn tls(&self) -> Result<Option<Arc<Live>>, String> {
        Live::open(ServerFiles {
            what: "web.tls_",
            certificate: self.tls_certificate_file.clone(),
            key: self.tls_key_file.clone(),
            clients: PathBuf::new(),
        })
    }

    /// Whether we speak https ourselves.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        !self.tls_certificate_file.as_os_str().is_empty()
    }

    /// Whether cookies go over https only.
    pub(super) fn secures_cookies(&self) -> bool {
        self.cookie_secure || self.is_tls()
    }

    /// `Strict-Transport-Security` (RFC 6797 6.1), where it is to be said.
    pub(super) fn hsts(&self) -> Option<String> {
        let said = self.is_tls() && self.hsts_days > 0;
        said.then(|| format!("max-age={}", u64::from(self.hsts_days) * 86_400))
    }

    pub(super) fn lock_limits(&self) -> LockLimits {
        LockLimits {
            failures: self.lockout_failures,
            lock_ms: i64::from(self.lockout_minutes) * 60_000,
        }
    }

    pub(super) fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            idle_ms: i64::from(self.session_idle_minutes) * 60_000,
            absolute_ms: i64::from(self.session_absolute_minutes) * 60_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_a_bad_value_is_named() {
        assert_eq!(WebSettings::default().check(), Ok(()));
        let bad = WebSettings {
            keep_alive_seconds: 0,
            ..WebSettings::default()
        };
        assert!(
            bad.check()
                .unwrap_err()
                .starts_with("web.keep_alive_seconds is 0")
        );
        let bad = WebSettings {
            viewer_url: "javascript:alert(1)".into(),
            ..WebSettings::default()
        };
        assert!(bad.check().unwrap_err().contains("web.viewer_url"));
    }
}
