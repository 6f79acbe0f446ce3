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
    pub dicom: receive::Doors,
    pub hl7: Option<(TcpListener, Option<Arc<Live>>)>,
}

/// Where they are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Pages and API.
    pub http: SocketAddr,
    /// Whether those are by TLS.
    pub https: bool,
    /// DICOM in the clear.
    pub dicom: SocketAddr,
    /// DICOM by TLS, if it is on.
    pub dicom_tls: Option<SocketAddr>,
    /// HL7, if it is on.
    pub hl7: Option<SocketAddr>,
}

/// How people come by single sign-on, where they do.
pub(super) fn sign_on(config: &Config, vault: &Arc<Vault>) -> Result<Option<SignOn>, String> {
    let sso = Sso::new(&config.sso)?;
    Ok(sso.map(|sso| SignOn {
        sso,
        vault: vault.clone(),
    }))
}

impl Doors {
    /// Binds what is configured.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub async fn open(config: &Config) -> Result<Self, String> {
        let listen = &config.listen;
        let failed = |key: &str, at: SocketAddr, e: std::io::Error| {
            format!("could not listen on listen.{key} {at}: {e}")
        };
        let bind = async |key: &str, at: SocketAddr| {
            let bound = TcpListener::bind(at).await;
            bound.map_err(|e| failed(key, at, e))
        };
        let https = config.web.tls()?;
        if https.is_none() && !listen.http.ip().is_loopback() {
            warn!(
                "pages are served in the clear: set web.tls_certificate_file, or listen.http to this machine behind a proxy with TLS"
            );
        }
        let http =
            std::net::TcpListener::bind(listen.http).map_err(|e| failed("http", listen.http, e))?;
        let dicom = bind("dicom", listen.dicom).await?;
        let dicom_tls = match (listen.dicom_tls()?, config.dicom.tls()?) {
            (None, _) => None,
            (Some(_), None) => {
                return Err("listen.dicom_tls needs dicom.tls_certificate_file".into());
            }
            (Some(at), Some(live)) => Some((bind("dicom_tls", at).await?, live)),
        };
        let hl7 = match listen.hl7()? {
            None => None,
            Some(at) => Some((bind("hl7", at).await?, config.hl7.tls()?)),
        };
        Ok(Self {
            http,
            https,
            dicom: receive::Doors {
                plain: dicom,
                tls: dicom_tls,
            },
            hl7,
        })
    }

    /// Where they are.
    ///
    /// # Errors
    /// When a socket does not say.
    pub fn addresses(&self) -> Result<Addresses, String> {
        let said = |e: std::io::Error| e.to_string();
        let of = |listener: &TcpListener| listener.local_addr().map_err(said);
        let dicom_tls = self.dicom.tls.as_ref();
        Ok(Addresses {
            http: self.http.local_addr().map_err(said)?,
            https: self.https.is_some(),
            dicom: of(&self.dicom.plain)?,
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
        let hl7 = self.hl7.map(|at| format!("  HL7 on {at}"));
        let tls = self.dicom_tls.map(|at| format!("  DICOM TLS on {at}"));
        format!(
            "{scheme}://{}/  DICOM on {}{}{}",
            self.http,
            self.dicom,
            hl7.unwrap_or_default(),
            tls.unwrap_or_default()
        )
    }
}
