//! What an administrator can set about reception.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dicom::send::DestinationSettings;
use crate::tls::{Live, ServerFiles};

/// Longest AE title (PS3.5 6.2, VR AE).
pub const AE_CHARS_MAX: usize = 16;

/// Settings of the DICOM listener. Every bound has its unit in its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiveSettings {
    /// Our AE title; callers must call it.
    pub ae_title: String,
    /// Callers from other hosts. From the machine itself anyone may call.
    pub callers: Vec<AllowedCaller>,
    /// Where objects are written while they arrive; on the same file system as the store.
    pub spool_dir: PathBuf,
    /// Free space, in bytes, below which nothing more is taken.
    pub disk_reserve_bytes: u64,
    /// Associations at one time, three quarters of them from one address before their first command; a further one is
    /// rejected as "local limit exceeded".
    pub associations_max: usize,
    /// Largest PDU we accept, in bytes.
    pub pdu_bytes_max: u32,
    /// Largest object, in bytes; a larger one is refused with 0xA700.
    pub object_bytes_max: u64,
    /// From connection to association, in seconds.
    pub handshake_timeout_seconds: u64,
    /// Longest silence on an association, in seconds.
    pub idle_timeout_seconds: u64,
    /// Longest time one object may take to arrive, in seconds.
    pub object_timeout_seconds: u64,
    /// How long objects under way may still arrive once the server stops, in seconds.
    pub stop_timeout_seconds: u64,
    /// PEM of our certificate and what signed it, for `listen.dicom_tls`.
    pub tls_certificate_file: PathBuf,
    /// PEM of its key.
    pub tls_key_file: PathBuf,
    /// PEM of the authorities of which one must have signed a caller's certificate; empty asks for none.
    pub tls_client_ca_file: PathBuf,
    /// Who gets our results.
    pub destinations: Vec<DestinationSettings>,
}

impl Default for ReceiveSettings {
    fn default() -> Self {
        Self {
            ae_title: "FIRSTREAD".into(),
            callers: Vec::new(),
            spool_dir: "spool".into(),
            disk_reserve_bytes: 1 << 30,
            associations_max: 100,
            pdu_bytes_max: 131_072,
            object_bytes_max: 2 << 30,
            handshake_timeout_seconds: 10,
            idle_timeout_seconds: 120,
            object_timeout_seconds: 1800,
            stop_timeout_seconds: 10,
            tls_certificate_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
            tls_client_ca_file: PathBuf::new(),
            destinations: Vec::new(),
        }
    }
}

impl ReceiveSettings {
    /// Checks what serde cannot.
    ///
    /// # Errors
    /// Names the key and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        check_ae("ae_title", &self.ae_title)?;
        for caller in &self.callers {
            if caller.ae_title != AllowedCaller::ANY {
                check_ae("callers.ae_title", &caller.ae_title)?;
            }
        }
        if !(4096..=1 << 24).contains(&self.pdu_bytes_max) {
            return Err("pdu_bytes_max must be from 4096 to 16777216".into());
        }
        for (key, value) in [
            ("handshake_timeout_seconds", self.handshake_timeout_seconds),
            ("idle_timeout_seconds", self.idle_timeout_seconds),
            ("object_timeout_seconds", self.object_timeout_seconds),
        ] {
            if value == 0 {
                return Err(format!("{key} must be at least 1"));
            }
        }
        if self.associations_max == 0 {
            return Err("associations_max must be at least 1".into());
        }
        let mut names = std::collections::BTreeSet::new();
        for destination in &self.destinations {
            destination.check()?;
            if !names.insert(destination.name.as_str()) {
                return Err(format!(
                    "destinations.name {:?} is there twice",
                    destination.name
                ));
            }
        }
        Ok(())
    }

    /// How TLS is spoken; `None` where no certificate is named.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn tls(&self) -> Result<Option<Arc<Live>>, String> {
        Live::open(ServerFiles {
            what: "dicom.tls_",
            certificate: self.tls_certificate_file.clone(),
            key: self.tls_key_file.clone(),
            clients: self.tls_client_ca_file.clone(),
        })
    }

    /// Whether any caller of this address can be let in, before it has said who it is.
    #[must_use]
    pub fn admits_host(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        peer.is_loopback() || self.callers.iter().any(|c| c.address.contains(peer))
    }

    /// Whether this AE title may call from this address.
    #[must_use]
    pub fn admits(&self, peer: IpAddr, ae_title: &str) -> bool {
        let peer = peer.to_canonical();
        let listed = |caller: &AllowedCaller| {
            caller.address.contains(peer)
                && (caller.ae_title == AllowedCaller::ANY || caller.ae_title == ae_title)
        };
        peer.is_loopback() || self.callers.iter().any(listed)
    }
}

pub(in crate::dicom) fn check_ae(key: &str, title: &str) -> Result<(), String> {
    let printable = title
        .bytes()
        .all(|b| b == b' ' || (b.is_ascii_graphic() && b != b'\\'));
    if title.trim().is_empty() || title.trim() != title || !printable {
        return Err(format!(
            "{key} must be printable ASCII without spaces around it"
        ));
    }
    if title.len() > AE_CHARS_MAX {
        return Err(format!("{key} is longer than {AE_CHARS_MAX} characters"));
    }
    Ok(())
}

/// A sender that may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedCaller {
    /// Its AE title, or `*` for any.
    pub ae_title: String,
    /// Its address, or a network such as `10.1.2.0/24`.
    pub address: Network,
}

impl AllowedCaller {
    /// Any AE title.
    pub const ANY: &'static str = "*";
}

/// An address, or all addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether `peer` (canonical, so not IPv4 mapped to IPv6) is part of it.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        match (self.address, peer) {
            (IpAddr::V4(ours), IpAddr::V4(peer)) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix_bits))
                    .unwrap_or(0);
                Ipv4Addr::to_bits(ours) & mask == Ipv4Addr::to_bits(peer) & mask
            }
            (IpAddr::V6(ours), IpAddr::V6(peer)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix_bits))
                    .unwrap_or(0);
                Ipv6Addr::to_bits(ours) & mask == Ipv6Addr::to_bits(peer) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bad = || format!("{text:?} is neither an IP address nor a network like 10.1.2.0/24");
        let address: IpAddr = address.trim().parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => most,
            Some(bits) => bits
                .trim()
                .parse()
                .ok()
                .filter(|n| *n <= most)
                .ok_or_else(bad)?,
        };
        Ok(Self {
            address,
            prefix_bits,
        })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        format!("{}/{}", network.address, network.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(callers: &[(&str, &str)]) -> ReceiveSettings {
        ReceiveSettings {
            callers: callers
                .iter()
                .map(|(ae_title, address)| AllowedCaller {
                    ae_title: (*ae_title).into(),
                    address: address.parse().unwrap(),
                })
                .collect(),
            ..ReceiveSettings::default()
        }
    }

    #[test]
    fn who_may_call() {
        let settings = settings(&[
            ("MR1", "10.1.2.3"),
            ("*", "192.168.0.0/16"),
            ("V6", "fd00::/8"),
        ]);
        let check = |peer: &str, ae: &str, host: bool, caller: bool| {
            let peer = peer.parse().unwrap();
            assert_eq!(settings.admits_host(peer), host, "{peer}");
            assert_eq!(settings.admits(peer, ae), caller, "{peer} {ae}");
        };
        check("127.0.0.1", "ANYONE", true, true);
        check("::1", "ANYONE", true, true);
        check("::ffff:127.0.0.1", "ANYONE", true, true);
        check("10.1.2.3", "MR1", true, true);
        check("::ffff:10.1.2.3", "MR1", true, true);
        check("10.1.2.3", "MR2", true, false);
        check("10.1.2.4", "MR1", false, false);
        check("192.168.77.1", "WHATEVER", true, true);
        check("fd12::1", "V6", true, true);
        check("fe80::1", "V6", false, false);
    }

    #[test]
    fn networks_are_read() {
        assert!("10.0.0.0/33".parse::<Network>().is_err());
        assert!("mr1.local".parse::<Network>().is_err());
        assert!(
            "0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .contains([8, 8, 8, 8].into())
        );
    }

    #[test]
    fn defaults_pass_and_bad_keys_are_named() {
        assert_eq!(ReceiveSettings::default().check(), Ok(()));
        let check = |settings: ReceiveSettings, key: &str| {
            assert!(settings.check().unwrap_err().starts_with(key));
        };
        let default = ReceiveSettings::default;
        check(
            ReceiveSettings {
                ae_title: "A".repeat(17),
                ..default()
            },
            "ae_title",
        );
        check(
            ReceiveSettings {
                ae_title: " A".into(),
                ..default()
            },
            "ae_title",
        );
        check(
            ReceiveSettings {
                pdu_bytes_max: 100,
                ..default()
            },
            "pdu_bytes_max",
        );
        check(
            ReceiveSettings {
                idle_timeout_seconds: 0,
                ..default()
            },
            "idle_timeout",
        );
        let text = r#"{"callers": [{"ae_title": "MR1", "address": "10.0.0.0/8"}]}"#;
        let read: ReceiveSettings = serde_json::from_str(text).unwrap();
        assert!(read.admits([10, 9, 9, 9].into(), "MR1"));
    }
}
