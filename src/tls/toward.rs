//! How TLS is spoken to a peer that settings or a page name: the part that all of them share.

use std::path::PathBuf;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::client_by_files;

/// Whether TLS is spoken to a peer, whom we trust there and who we are. Part of its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toward {
    /// Speak TLS to it.
    #[serde(default, deserialize_with = "read_tls")]
    pub tls: bool,
    /// Name in its certificate; empty for its host.
    #[serde(default, deserialize_with = "read_tls_name")]
    pub tls_name: String,
    /// PEM of the authorities of which one must have signed its certificate; empty for those the system trusts.
    #[serde(default, deserialize_with = "read_ca")]
    pub ca_file: PathBuf,
    /// PEM of the certificate that it knows us by, where it asks for one.
    #[serde(default, deserialize_with = "read_certificate")]
    pub certificate_file: PathBuf,
    /// PEM of its key.
    #[serde(default, deserialize_with = "read_key")]
    pub key_file: PathBuf,
}

/// Part of another struct, a field of the wrong type would not be named otherwise.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    key: &str,
    from: D,
) -> Result<T, D::Error> {
    T::deserialize(from).map_err(|e| D::Error::custom(format_args!("{key}: {e}")))
}

fn read_tls<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    named("tls", from)
}

fn read_tls_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    named("tls_name", from)
}

fn read_ca<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    named("ca_file", from)
}

fn read_certificate<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    named("certificate_file", from)
}

fn read_key<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    named("key_file", from)
}

impl Toward {
    /// The first field that is filled in although TLS is not spoken.
    #[must_use]
    pub fn unused(&self) -> Option<&'static str> {
        let is_set = [
            ("tls_name", !self.tls_name.is_empty()),
            ("ca_file", !self.ca_file.as_os_str().is_empty()),
            (
                "certificate_file",
                !self.certificate_file.as_os_str().is_empty(),
            ),
            ("key_file", !self.key_file.as_os_str().is_empty()),
        ];
        let found = is_set.iter().find(|(_, set)| !self.tls && *set);
        found.map(|(name, _)| *name)
    }

    /// How TLS is spoken, and the name that the peer's certificate must have; `None` where TLS is not. The files are
    /// read anew for each connection, so that a renewed certificate needs no restart. `key` begins the names of
    /// settings in errors; `host` may stand in brackets.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn connector(
        &self,
        key: &str,
        host: &str,
    ) -> Result<Option<(Arc<ClientConfig>, String)>, String> {
        if !self.tls {
            return Ok(None);
        }
        let config = client_by_files(key, &self.ca_file, &self.certificate_file, &self.key_file)?;
        let name = match self.tls_name.as_str() {
            "" => host.trim_matches(['[', ']']).to_owned(),
            name => name.to_owned(),
        };
        if ServerName::try_from(name.as_str()).is_err() {
            return Err(format!("{key}tls_name {name:?} cannot be in a certificate"));
        }
        Ok(Some((config, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_without_tls_is_named() {
        let on = Toward {
            tls: true,
            tls_name: "a b".into(),
            ..Toward::default()
        };
        assert_eq!(on.unused(), None);
        let error = on.connector("x.", "host").unwrap_err();
        assert!(error.contains("x.tls_name"), "{error}");
        let off = Toward { tls: false, ..on };
        assert_eq!(off.unused(), Some("tls_name"));
        assert!(off.connector("x.", "host").unwrap().is_none());
        let by_address = Toward {
            tls: true,
            ..Toward::default()
        };
        let (_, name) = by_address.connector("x.", "[::1]").unwrap().unwrap();
        assert_eq!(name, "::1");
    }
}
