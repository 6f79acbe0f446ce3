//! What a listener's certificates are now: files are looked at again, so that a renewed one needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{Identity, authorities, provider, server};

/// Files are looked at at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a listener's certificates lie. `what` begins the names of their settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// What the names of the settings begin with, for example `hl7.tls_`.
    pub what: &'static str,
    /// PEM of our certificate and what signed it; empty where TLS is not spoken.
    pub certificate: PathBuf,
    /// PEM of its key.
    pub key: PathBuf,
    /// PEM of the authorities of which one must have signed a client's certificate; empty asks for none.
    pub clients: PathBuf,
}

/// What tells one content of a file from the next: length, moment, inode.
type Stamp = Option<(u64, SystemTime, u64)>;

impl ServerFiles {
    fn stamps(&self) -> [Stamp; 3] {
        [&self.certificate, &self.key, &self.clients].map(|path| stamp(path))
    }

    fn read(&self) -> Result<Option<Arc<ServerConfig>>, String> {
        let what = self.what;
        let identity = Identity::read_if_named(what, &self.certificate, &self.key)?;
        let clients = authorities(&format!("{what}client_ca_file"), &self.clients)?;
        let Some(identity) = identity else {
            return match clients {
                None => Ok(None),
                Some(_) => Err(format!("{what}client_ca_file needs {what}certificate_file")),
            };
        };
        server(identity, clients.as_deref())
            .map(Some)
            .map_err(|why| format!("{what}certificate_file: {why}"))
    }
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::metadata(path).ok()?;
    Some((about.len(), about.modified().ok()?, about.ino()))
}

/// How a listener speaks TLS now.
pub struct Live {
    files: ServerFiles,
    now: Mutex<Now>,
}

struct Now {
    config: Arc<ServerConfig>,
    /// Of what `config` was read from.
    stamps: [Stamp; 3],
    /// Of what could not be used, so that it is said once.
    refused: Option<[Stamp; 3]>,
    looked: Instant,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live({})", self.files.what)
    }
}

impl Live {
    /// Reads the files; `None` where none is named.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn open(files: ServerFiles) -> Result<Option<Arc<Self>>, String> {
        // before the content: a file that changes meanwhile is read again
        let stamps = files.stamps();
        let Some(config) = files.read()? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            files,
            now: Mutex::new(Now {
                config,
                stamps,
                refused: None,
                looked: Instant::now(),
            }),
        })))
    }

    /// How TLS is spoken to the next client. Files that changed and cannot be used leave what was.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.looked.elapsed() < LOOK_EVERY {
            return now.config.clone();
        }
        now.looked = Instant::now();
        let stamps = self.files.stamps();
        if stamps == now.stamps {
            return now.config.clone();
        }
        match self.files.read() {
            Ok(Some(config)) => {
                tracing::info!(files = self.files.what, "certificates were renewed");
                now.config = config;
                now.stamps = stamps;
                now.refused = None;
            }
            // perhaps half written: looked at again
            Err(error) if now.refused != Some(stamps) => {
                tracing::error!(%error, "renewed certificates cannot be used; the old ones stay");
                now.refused = Some(stamps);
            }
            Ok(None) | Err(_) => {}
        }
        now.config.clone()
    }

    /// For the next client.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config())
    }

    /// A configuration that stays the same and shows the certificate that is current, for a server that takes its
    /// configuration once. It asks no client for a certificate.
    ///
    /// # Errors
    /// In words.
    pub fn for_good(self: &Arc<Self>) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS: {e}"))?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.ignore_client_order = true;
        Ok(config)
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.config().cert_resolver.resolve(hello)
    }
}
