//! One HTTP POST to an address that the settings name: TLS or loopback, no redirects, bounded answers.
//!
//! A connection for each request: messages are rare, and nothing is left half-open between two nights.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Bytes of an answer that are read: enough to say what was wrong.
const ANSWER_BYTES_MAX: usize = 4096;
/// Characters of an answer that are kept.
const SAID_CHARS_MAX: usize = 200;

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    /// Host, and port where the address has one.
    authority: String,
    /// Path and query.
    target: String,
}

impl Endpoint {
    /// Reads `https://host:port/path?query`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{e}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("must begin with https:// or http://".into()),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("must not carry a user or password: set secret".into());
        }
        let target = uri.path_and_query().map_or("/", |t| t.as_str());
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            target: target.to_owned(),
        })
    }

    /// Whether it is spoken to by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Last part of the path, where there is one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        let path = self.target.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        Some(last).filter(|t| !t.is_empty())
    }

    /// The same without the last part of the path.
    #[must_use]
    pub fn parent(&self) -> Self {
        let path = self.target.split('?').next().unwrap_or_default();
        let end = path.rfind('/').map_or(0, |at| at + 1);
        Self {
            target: path[..end].to_owned(),
            ..self.clone()
        }
    }
}

/// Whether a host is the machine itself.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    ["localhost", "127.0.0.1", "::1"].contains(&host)
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// RFC 9110 15.
    pub status: u16,
    /// The beginning of the body, in one line.
    pub said: String,
}

/// Sends requests.
pub struct HttpClient {
    tls: TlsConnector,
}

impl HttpClient {
    /// Trusts what the system trusts, and the authorities in `extra_pem`.
    ///
    /// # Errors
    /// When `extra_pem` holds no certificate.
    pub fn new(extra_pem: Option<&[u8]>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = extra_pem {
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
        }
        // The provider by name: two in one build would make the default one panic.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Posts a body. How long it may take is the caller's to bound.
    ///
    /// # Errors
    /// In words, when no answer came.
    pub async fn post(
        &self,
        to: &Endpoint,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<Answer, String> {
        let stream = TcpStream::connect((to.host.as_str(), to.port))
            .await
            .map_err(|e| format!("could not reach {}: {e}", to.authority))?;
        // A small request that waits for nothing is not worth gathering.
        let _ = stream.set_nodelay(true);
        let request = request(to, headers, body)?;
        if !to.tls {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(to.host.clone())
            .map_err(|e| format!("{:?} cannot be in a certificate: {e}", to.host))?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|e| format!("no TLS with {}: {e}", to.authority))?;
        exchange(stream, request).await
    }
}

fn request(
    to: &Endpoint,
    headers: &[(&'static str, String)],
    body: String,
) -> Result<Request<Full<Bytes>>, String> {
    let mut builder = Request::post(&to.target)
        .header(HOST, &to.authority)
        .header(USER_AGENT, concat!("firstread/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_LENGTH, body.len());
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| format!("could not write the request: {e}"))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| {
        let cause = std::error::Error::source(&e).map(|c| format!(": {c}"));
        format!("{e}{}", cause.unwrap_or_default())
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let answered = async { read(sender.send_request(request).await?).await };
    tokio::pin!(answered, connection);
    // The connection is driven here and ends with us.
    tokio::select! {
        biased;
        answer = &mut answered => return answer.map_err(failed),
        _ = &mut connection => {}
    }
    answered.await.map_err(failed)
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes: Vec<u8> = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            let room = ANSWER_BYTES_MAX - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Answer {
        status,
        said: line.chars().take(SAID_CHARS_MAX).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let check = |url: &str, expected: (bool, &str, u16, &str)| {
            let found = Endpoint::parse(url).unwrap();
            let shown = (
                found.tls,
                found.host.as_str(),
                found.port,
                found.target.as_str(),
            );
            assert_eq!(shown, expected, "{url}");
        };
        check(
            "https://hooks.example/a?b=c",
            (true, "hooks.example", 443, "/a?b=c"),
        );
        check("http://127.0.0.1:81", (false, "127.0.0.1", 81, "/"));
        check("https://[::1]:8443/x", (true, "::1", 8443, "/x"));
        for bad in [
            "",
            "hooks.example/a",
            "ftp://hooks.example",
            "https://user:secret@hooks.example/",
            "https://",
            "https://a b/",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_topic_is_the_last_part_of_the_path() {
        let check = |url: &str, topic: Option<&str>, parent: &str| {
            let found = Endpoint::parse(url).unwrap();
            assert_eq!(found.topic(), topic, "{url}");
            assert_eq!(found.parent().target, parent, "{url}");
        };
        check("https://ntfy.example/mri", Some("mri"), "/");
        check("https://ntfy.example/push/mri?x=1", Some("mri"), "/push/");
        check("https://ntfy.example/", None, "/");
        check("https://ntfy.example", None, "/");
    }

    #[test]
    fn an_authority_must_be_one() {
        assert!(HttpClient::new(None).is_ok());
        for bad in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert!(HttpClient::new(Some(bad.as_bytes())).is_err(), "{bad}");
        }
    }
}
