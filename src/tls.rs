//! TLS by rustls, for everything that speaks it: who we are, whom we trust. Certificates and keys are PEM files.
//!
//! Clients trust what the system trusts and the authorities in `ca_file`; with `ca_file` and `only_these` nothing else.
//! Servers can ask for client certificates. TLS 1.2 and 1.3, nothing older. `live` keeps up with renewed files.

mod live;
mod toward;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use live::{Live, ServerFiles};
pub use toward::Toward;

/// Certificate chain and key of our own.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads PEM files. `what` names their settings in errors.
    ///
    /// # Errors
    /// Names the file that cannot be read or holds something else.
    pub fn read(what: &str, certificate: &Path, key: &Path) -> Result<Self, String> {
        let chain = certificates(&format!("{what}certificate_file"), certificate)?;
        let named = format!("{what}key_file {}", key.display());
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|e| format!("{named} holds no PEM key that can be read: {e}"))?;
        Ok(Self { chain, key })
    }

    /// Both files, or neither: `None` where none is named.
    ///
    /// # Errors
    /// Where only one is named, or as [`Identity::read`].
    pub fn read_if_named(
        what: &str,
        certificate: &Path,
        key: &Path,
    ) -> Result<Option<Self>, String> {
        match (is_named(certificate), is_named(key)) {
            (false, false) => Ok(None),
            (true, true) => Self::read(what, certificate, key).map(Some),
            _ => Err(format!(
                "{what}certificate_file and {what}key_file go together: set both or neither"
            )),
        }
    }
}

/// Whom a client trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust<'a> {
    /// What the system trusts, and the authorities in this PEM.
    SystemAnd(Option<&'a [u8]>),
    /// The authorities in this PEM and nobody else.
    Only(&'a [u8]),
}

/// How a client speaks TLS.
///
/// # Errors
/// In words, when a certificate or key does not fit.
pub fn client(trust: Trust<'_>, identity: Option<Identity>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let pem = match trust {
        Trust::SystemAnd(pem) => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            pem
        }
        Trust::Only(pem) => Some(pem),
    };
    if let Some(pem) = pem {
        add_authorities(&mut roots, pem)?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(own) => config
            .with_client_auth_cert(own.chain, own.key)
            .map_err(|e| format!("the client certificate does not fit its key: {e}"))?,
    };
    Ok(Arc::new(config))
}

/// How a server speaks TLS; with `client_authorities` (PEM) only to clients whose certificate one of them signed.
///
/// # Errors
/// In words, when a certificate or key does not fit.
pub fn server(
    identity: Identity,
    client_authorities: Option<&[u8]>,
) -> Result<Arc<ServerConfig>, String> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?;
    let config = match client_authorities {
        None => config.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            add_authorities(&mut roots, pem)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
                .build()
                .map_err(|e| format!("the authorities of clients do not fit: {e}"))?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config
        .with_single_cert(identity.chain, identity.key)
        .map_err(|e| format!("the certificate does not fit its key: {e}"))?;
    // ours are in order of strength
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// How a client speaks TLS by files that settings name; `key` begins their names in errors. Without `ca_file` it
/// trusts what the system trusts, with it nobody else.
///
/// # Errors
/// Names the setting that does not fit.
pub fn client_by_files(
    key: &str,
    ca_file: &PathBuf,
    certificate_file: &Path,
    key_file: &Path,
) -> Result<Arc<ClientConfig>, String> {
    let pem = authorities(&format!("{key}ca_file"), ca_file)?;
    let trust = pem.as_deref().map_or(Trust::SystemAnd(None), Trust::Only);
    let identity = Identity::read_if_named(key, certificate_file, key_file)?;
    client(trust, identity).map_err(|why| format!("{key}{why}"))
}

/// By name: two providers in one build would make the default one panic.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn add_authorities(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), String> {
    let mut found = 0;
    for authority in CertificateDer::pem_slice_iter(pem) {
        let authority = authority.map_err(|e| format!("no PEM certificate: {e}"))?;
        roots
            .add(authority)
            .map_err(|e| format!("no usable certificate: {e}"))?;
        found += 1;
    }
    if found == 0 {
        return Err("no PEM certificate".into());
    }
    Ok(())
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = format!("{key} {}", path.display());
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|e| format!("could not read {named}: {e}"))?
        .collect();
    let all = all.map_err(|e| format!("{named} holds no PEM certificate: {e}"))?;
    if all.is_empty() {
        return Err(format!("{named} holds no PEM certificate"));
    }
    Ok(all)
}

/// The authorities in a file, where one is named; checked to be some.
///
/// # Errors
/// Names the setting when the file cannot be read or holds none.
pub fn authorities(key: &str, path: &PathBuf) -> Result<Option<Vec<u8>>, String> {
    if !is_named(path) {
        return Ok(None);
    }
    let pem =
        std::fs::read(path).map_err(|e| format!("could not read {key} {}: {e}", path.display()))?;
    add_authorities(&mut RootCertStore::empty(), &pem)
        .map_err(|why| format!("{key} {} holds {why}", path.display()))?;
    Ok(Some(pem))
}

fn is_named(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        assert!(client(Trust::SystemAnd(None), None).is_ok());
        for bad in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert!(client(Trust::Only(bad.as_bytes()), None).is_err(), "{bad}");
            std::fs::write(&file, bad).unwrap();
            let error = authorities("hl7.ca_file", &file).unwrap_err();
            assert!(error.contains("hl7.ca_file"), "{error}");
            let error = Identity::read("hl7.tls_", &file, &file).err().unwrap();
            assert!(error.contains("hl7.tls_certificate_file"), "{error}");
        }
        let none = Path::new("");
        assert!(Identity::read_if_named("x.", none, none).is_ok_and(|i| i.is_none()));
        let error = Identity::read_if_named("x.", &file, none).err().unwrap();
        assert!(error.contains("both or neither"), "{error}");
        assert_eq!(authorities("x", &PathBuf::new()), Ok(None));
    }
}
