//! What an administrator can set about HL7.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

pub use super::inbound::FieldName;
use super::outbound::Mapping;
use super::outbound::template::Template;
pub use crate::dicom::receive::Network;
use crate::tls::{Live, ServerFiles, Toward};

/// Settings of HL7. Every bound has its unit in its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hl7Settings {
    /// `hl7.application`: our name, MSH-3 of what we send.
    pub application: String,
    /// `hl7.facility`: our facility, MSH-4; may be empty.
    pub facility: String,
    /// `hl7.peers`: addresses and networks that may send. From the machine itself anyone may.
    pub peers: Vec<Network>,
    /// `hl7.patient_issuer`: assigning authority (PID-3.4) of the patient ids that images carry, and
    /// patients of another are passed over; empty takes the first identifier of a hospital.
    pub patient_issuer: String,
    /// `hl7.accession`: where the accession number stands in orders and reports: the first that has one.
    pub accession: Vec<FieldName>,
    /// `hl7.remember_hours`: a message that comes again within this time is acknowledged and not applied again.
    pub remember_hours: u32,
    /// `hl7.message_bytes_max`: largest message, or batch of messages.
    pub message_bytes_max: usize,
    /// `hl7.connections_max`: connections at one time, three quarters of them from one address; a further one is
    /// closed.
    pub connections_max: usize,
    /// `hl7.first_message_timeout_seconds`: within which a new connection must begin a message.
    pub first_message_timeout_seconds: u64,
    /// `hl7.idle_timeout_seconds`: longest silence between two messages.
    pub idle_timeout_seconds: u64,
    /// `hl7.message_timeout_seconds`: longest time a message may take to arrive.
    pub message_timeout_seconds: u64,
    /// `hl7.tls_certificate_file`: PEM of our certificate and what signed it; the listener then speaks TLS alone.
    pub tls_certificate_file: PathBuf,
    /// `hl7.tls_key_file`: PEM of its key.
    pub tls_key_file: PathBuf,
    /// `hl7.tls_client_ca_file`: PEM of the authorities of which one must have signed a sender's certificate; empty
    /// asks senders for none.
    pub tls_client_ca_file: PathBuf,
    /// `hl7.destinations`: who gets results.
    pub destinations: Vec<Hl7Destination>,
    /// `hl7.error_attempts_max`: how often a message is sent that is answered AE or CE before it is given up.
    pub error_attempts_max: u32,
}

/// A system that gets results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hl7Destination {
    /// How pages and logs call it.
    pub name: String,
    /// Host name or address, and port.
    pub address: String,
    /// Its name, MSH-5.
    #[serde(default)]
    pub application: String,
    /// Its facility, MSH-6.
    #[serde(default)]
    pub facility: String,
    /// How it is told that a study moves up: obx8, segment, order or template.
    #[serde(default)]
    pub mapping: Mapping,
    /// The message, where mapping is template.
    #[serde(default)]
    pub template: String,
    /// Tell it of a study only when it moves up, as the mapping order does.
    #[serde(default)]
    pub only_moving_up: bool,
    /// How TLS is spoken to it.
    #[serde(flatten)]
    pub by_tls: Toward,
    /// Ask for a commit acknowledgement (enhanced mode).
    #[serde(default)]
    pub enhanced: bool,
    /// Longest wait for an answer; then the connection is closed and the message sent again.
    #[serde(default = "answer_timeout_seconds")]
    pub answer_timeout_seconds: u64,
}

fn answer_timeout_seconds() -> u64 {
    30
}

/// Longest name of a destination.
const NAME_CHARS_MAX: usize = 40;

impl Hl7Destination {
    /// With what is asked of every destination, the rest at its default.
    #[must_use]
    pub fn new(name: &str, address: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            application: String::new(),
            facility: String::new(),
            mapping: Mapping::default(),
            template: String::new(),
            only_moving_up: false,
            by_tls: Toward::default(),
            enhanced: false,
            answer_timeout_seconds: answer_timeout_seconds(),
        }
    }

    /// For people: where it is.
    #[must_use]
    pub fn reached(&self) -> String {
        let tls = if self.by_tls.tls { " by TLS" } else { "" };
        format!("HL7 ({}) to {}{tls}", self.mapping.as_str(), self.address)
    }

    /// Whether it hears of a study only when that moves up.
    #[must_use]
    pub fn tells_only_moving_up(&self) -> bool {
        self.only_moving_up || self.mapping == Mapping::Order
    }

    /// How TLS is spoken to it, and the name that its certificate must have; `None` where TLS is not. The files are
    /// read anew for each connection, so that a renewed certificate needs no restart.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn connector(&self) -> Result<Option<(TlsConnector, ServerName<'static>)>, String> {
        let key = format!("hl7.destinations {:?} ", self.name);
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
        let Some((config, name)) = self.by_tls.connector(&key, host)? else {
            return Ok(None);
        };
        let name = ServerName::try_from(name).map_err(|e| format!("{key}tls_name: {e}"))?;
        Ok(Some((TlsConnector::from(config), name)))
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
            return Err(format!(
                "hl7.destinations has the name {name:?}, must be 1 to {NAME_CHARS_MAX} letters, digits, - _ ."
            ));
        }
        self.check_fields()
    }

    /// Checks all but the name.
    ///
    /// # Errors
    /// Names what is wrong and what it may be.
    pub fn check_fields(&self) -> Result<(), String> {
        let name = &self.name;
        let port = self.address.rsplit_once(':');
        if !port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            return Err(format!(
                "hl7.destinations {name:?} has address = {:?}, must be a host and a port like ris:2575",
                self.address
            ));
        }
        if self.mapping == Mapping::Template {
            Template::parse(&self.template)
                .map_err(|why| format!("hl7.destinations {name:?} has a template that {why}"))?;
        } else if !self.template.is_empty() {
            return Err(format!(
                "hl7.destinations {name:?} has a template: set mapping = \"template\""
            ));
        }
        if let Some(key) = self.by_tls.unused() {
            return Err(format!(
                "hl7.destinations {name:?} has {key}, which is for tls = true"
            ));
        }
        if !(1..=300).contains(&self.answer_timeout_seconds) {
            return Err(format!(
                "hl7.destinations {name:?} has answer_timeout_seconds = {}, must be between 1 and 300",
                self.answer_timeout_seconds
            ));
        }
        Ok(())
    }
}

impl Default for Hl7Settings {
    fn default() -> Self {
        let field = |segment: &str, field| FieldName {
            segment: segment.to_owned(),
            field,
        };
        Self {
            application: "FIRSTREAD".into(),
            facility: String::new(),
            peers: Vec::new(),
            patient_issuer: String::new(),
            accession: vec![
                field("IPC", 1),
                field("OBR", 18),
                field("OBR", 3),
                field("ORC", 3),
            ],
            remember_hours: 72,
            message_bytes_max: 1 << 20,
            connections_max: 20,
            first_message_timeout_seconds: 60,
            idle_timeout_seconds: 3_600,
            message_timeout_seconds: 30,
            tls_certificate_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
            tls_client_ca_file: PathBuf::new(),
            destinations: Vec::new(),
            error_attempts_max: 5,
        }
    }
}

impl Hl7Settings {
    /// Checks what serde cannot.
    ///
    /// # Errors
    /// Names the key and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let between = |key: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "hl7.{key} is {value}, must be between {least} and {most}"
                ))
            }
        };
        if self.application.trim().is_empty() {
            return Err("hl7.application must not be empty".into());
        }
        if self.accession.is_empty() {
            return Err("hl7.accession must name a field".into());
        }
        let size = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        for (at, destination) in self.destinations.iter().enumerate() {
            destination.check()?;
            let before = &self.destinations[..at];
            if before.iter().any(|d| d.name == destination.name) {
                return Err(format!(
                    "hl7.destinations has the name {:?} twice",
                    destination.name
                ));
            }
        }
        between(
            "error_attempts_max",
            self.error_attempts_max.into(),
            1,
            1_000,
        )?;
        between("remember_hours", self.remember_hours.into(), 1, 8_760)?;
        between(
            "message_bytes_max",
            size(self.message_bytes_max),
            4_096,
            64 << 20,
        )?;
        between("connections_max", size(self.connections_max), 1, 1_000)?;
        between(
            "first_message_timeout_seconds",
            self.first_message_timeout_seconds,
            1,
            1_000_000,
        )?;
        between(
            "idle_timeout_seconds",
            self.idle_timeout_seconds,
            1,
            1_000_000,
        )?;
        between(
            "message_timeout_seconds",
            self.message_timeout_seconds,
            1,
            3_600,
        )
    }

    /// How the listener speaks TLS; `None` where it does not.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn tls(&self) -> Result<Option<Arc<Live>>, String> {
        Live::open(ServerFiles {
            what: "hl7.tls_",
            certificate: self.tls_certificate_file.clone(),
            key: self.tls_key_file.clone(),
            clients: self.tls_client_ca_file.clone(),
        })
    }

    /// Whether a peer may send.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        peer.is_loopback() || self.peers.iter().any(|network| network.contains(peer))
    }

    /// How long messages are known again, in milliseconds.
    #[must_use]
    pub fn remember_ms(&self) -> i64 {
        i64::from(self.remember_hours) * 3_600_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_bad_keys_are_named() {
        let default = Hl7Settings::default;
        assert_eq!(default().check(), Ok(()));
        let check = |settings: Hl7Settings, key: &str| {
            let error = settings.check().unwrap_err();
            assert!(error.contains(key), "{error}");
        };
        check(
            Hl7Settings {
                connections_max: 0,
                ..default()
            },
            "hl7.connections_max",
        );
        check(
            Hl7Settings {
                accession: vec![],
                ..default()
            },
            "hl7.accession",
        );
        check(
            Hl7Settings {
                application: " ".into(),
                ..default()
            },
            "hl7.application",
        );
        let destination = |text: &str| {
            let text = format!(r#"{{"destinations": [{text}]}}"#);
            let read = serde_json::from_str::<Hl7Settings>(&text);
            read.map_err(|e| e.to_string())
                .and_then(|s| s.check().map(|()| s))
        };
        let ris = destination(r#"{"name": "ris", "address": "ris:2575"}"#).unwrap();
        assert_eq!(ris.destinations[0].mapping, Mapping::Obx8);
        for (text, word) in [
            (r#"{"name": "a b", "address": "ris:2575"}"#, "a b"),
            (r#"{"name": "ris", "address": "ris"}"#, "ris:2575"),
            (
                r#"{"name": "ris", "address": "r:1", "mapping": "x"}"#,
                "obx8",
            ),
            (
                r#"{"name": "ris", "address": "r:1", "answer_timeout_seconds": 0}"#,
                "answer_timeout",
            ),
            (
                r#"{"name": "ris", "address": "r:1", "ca_file": "a.pem"}"#,
                "ca_file",
            ),
            (
                r#"{"name": "r", "address": "r:1"}, {"name": "r", "address": "r:2"}"#,
                "twice",
            ),
        ] {
            let error = destination(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let read = |text: &str| serde_json::from_str::<Hl7Settings>(text);
        let set = read(r#"{"accession": ["obr-19"], "peers": ["10.0.0.0/8"]}"#).unwrap();
        assert_eq!(set.accession[0].to_string(), "OBR-19");
        assert!(set.admits([10, 1, 1, 1].into()) && set.admits([127, 0, 0, 1].into()));
        assert!(!set.admits([11, 1, 1, 1].into()));
        for wrong in ["OBR", "OBR-0", "OBR-x", "OB-1"] {
            assert!(read(&format!(r#"{{"accession": ["{wrong}"]}}"#)).is_err());
        }
    }
}
