//! Where others connect: the sockets, and how TLS is spoken on them. All of it is there, or nothing starts.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tracing::warn;

use crate::config::Config;
use crate::dicom::receive;
use crate::secrets::Vault;
use crate::sso::Sso;
use crate::tls::Live;
use crate::web::SignOn;

/// What others connect to.
pub(super) struct Doors {
    pub http: std::net::TcpListener,
    pub https: Option<Arc<Live>>,
    /// None where this process does not receive.
    pub dicom: Option<receive::Doors>,
    pub hl7: Option<(TcpListener, Option<Arc<Live>>)>,
}

/// Where they are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Pages and API.
    pub http: SocketAddr,
    /// Whether those are by TLS.
    pub https: bool,
    /// DICOM in the clear, if this process receives.
    pub dicom: Option<SocketAddr>,
    /// DICOM by TLS, if it is on.
    pub dicom_tls: Option<SocketAddr>,
    /// HL7, if it is on.
    pub hl7: Option<SocketAddr>,
}

fn could_not(what: &str, at: SocketAddr, e: &std::io::Error) -> String {
    format!("could not listen on listen.{what} {at}: {e}")
}

/// How people come by single sign-on, where they do.
pub(super) fn sign_on(config: &Config, vault: &Arc<Vault>) -> Result<Option<SignOn>, String> {
    let sso = Sso::new(&config.sso)?;
    Ok(sso.map(|sso| SignOn {
        sso,
        vault: vault.clone(),
    }))
}

/// The door of pages and machines that watch, and how TLS is spoken there, where it is.
pub(super) type Http = (std::net::TcpListener, Option<Arc<Live>>);

impl Doors {
    /// Opens that of pages and machines that watch, first of all.
    pub fn open_http(config: &Config) -> Result<Http, String> {
        let at = config.listen.http;
        let https = config.web.tls()?;
        let bound = std::net::TcpListener::bind(at).map_err(|e| could_not("http", at, &e))?;
        Ok((bound, https))
    }

    /// Opens the others of this process' role.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub async fn open(config: &Config, (http, https): Http) -> Result<Self, String> {
        let listen = &config.listen;
        let bind = async |key: &str, at: SocketAddr| {
            let bound = TcpListener::bind(at).await;
            bound.map_err(|e| could_not(key, at, &e))
        };
        if https.is_none() && !listen.http.ip().is_loopback() {
            warn!(
                "pages are served in the clear: set web.tls_certificate_file, or listen.http to this machine behind a proxy with TLS"
            );
        }
        let mut doors = Self {
            http,
            https,
            dicom: None,
            hl7: None,
        };
        if !config.process.role.receives() {
            return Ok(doors);
        }
        let plain = bind("dicom", listen.dicom).await?;
        let dicom_tls = match (listen.dicom_tls()?, config.dicom.tls()?) {
            (None, _) => None,
            (Some(_), None) => {
                return Err("listen.dicom_tls needs dicom.tls_certificate_file".into());
            }
            (Some(at), Some(live)) => Some((bind("dicom_tls", at).await?, live)),
        };
        doors.dicom = Some(receive::Doors {
            plain,
            tls: dicom_tls,
        });
        if let Some(at) = listen.hl7()? {
            doors.hl7 = Some((bind("hl7", at).await?, config.hl7.tls()?));
        }
        Ok(doors)
    }

    /// Where they are.
    ///
    /// # Errors
    /// When a socket does not say.
    pub fn addresses(&self) -> Result<Addresses, String> {
        let said = |e: std::io::Error| e.to_string();
        let of = |listener: &TcpListener| listener.local_addr().map_err(said);
        let dicom = self.dicom.as_ref();
        let dicom_tls = dicom.and_then(|d| d.tls.as_ref());
        Ok(Addresses {
            http: self.http.local_addr().map_err(said)?,
            https: self.https.is_some(),
            dicom: dicom.map(|d| of(&d.plain)).transpose()?,
            dicom_tls: dicom_tls.map(|(l, _)| of(l)).transpose()?,
            hl7: self.hl7.as_ref().map(|(l, _)| of(l)).transpose()?,
        })
    }
}

impl Addresses {
    /// For people and scripts.
    #[must_use]
    pub fn in_words(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let dicom = self.dicom.map(|at| format!("  DICOM on {at}"));
        let hl7 = self.hl7.map(|at| format!("  HL7 on {at}"));
        let tls = self.dicom_tls.map(|at| format!("  DICOM TLS on {at}"));
        format!(
            "{scheme}://{}/{}{}{}",
            self.http,
            dicom.unwrap_or_default(),
            hl7.unwrap_or_default(),
            tls.unwrap_or_default()
        )
    }
}
