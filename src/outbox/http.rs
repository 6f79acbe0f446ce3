//! One HTTP request to an address that the settings name: TLS or loopback, no redirects, bounded answers.
//!
//! A connection for each request: messages are rare, and nothing is left half-open between two nights.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Attempt;
use super::machine::Outcome;
use crate::tls::{self, Trust};

/// Bytes of an answer that are read: enough to say what was wrong.
const ANSWER_BYTES_MAX: usize = 4096;
/// Bytes of an answer that is read as a whole.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Characters of an answer that are read as text.
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

    /// Whether it has neither path nor query.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.target == "/"
    }

    /// Last part of the path, where there is one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        let path = self.target.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        Some(last).filter(|t| !t.is_empty())
    }

    /// Port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same with more path behind it, before the query.
    #[must_use]
    pub fn below(&self, more: &str) -> Self {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mark = if query.is_empty() { "" } else { "?" };
        let path = path.trim_end_matches('/');
        Self {
            target: format!("{path}/{more}{mark}{query}"),
            ..self.clone()
        }
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

impl Answer {
    /// What the status means for what was sent (RFC 9110 15). What an administrator can put right (access refused,
    /// moved elsewhere) may pass; so may trouble of the server. The rest is about the message.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let text = format!("HTTP {}", self.status);
        match self.status {
            200..=299 => Outcome::Delivered,
            401 | 403 | 404 | 407 | 408 | 425 | 429 | 300..=399 | 500..=599 => Outcome::Later(text),
            _ => Outcome::Never(text),
        }
    }

    /// The outcome, with the body's words where it is none that was hoped for.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        match self.outcome() {
            Outcome::Delivered => Outcome::Delivered.into(),
            failed => Attempt::from(failed).with_answer(&self.said),
        }
    }
}

/// A whole answer, for those who read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// RFC 9110 15.
    pub status: u16,
    /// `Content-Type`, where it says one.
    pub content_type: Option<String>,
    /// At most `BODY_BYTES_MAX`.
    pub body: Vec<u8>,
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
        let config = tls::client(Trust::SystemAnd(extra_pem), None)?;
        Ok(Self {
            tls: TlsConnector::from(config),
        })
    }

    /// Posts a body. How long it may take is the caller's to bound.
    ///
    /// # Errors
    /// In words, when no answer came.
    pub async fn post(
        &self,
        to: &Endpoint,
        headers: &[(&str, String)],
        body: String,
    ) -> Result<Answer, String> {
        self.send("POST", to, headers, body).await
    }

    /// Sends a request by this method. How long it may take is the caller's to bound.
    ///
    /// # Errors
    /// In words, when no answer came.
    pub async fn send(
        &self,
        method: &str,
        to: &Endpoint,
        headers: &[(&str, String)],
        body: String,
    ) -> Result<Answer, String> {
        let whole = self
            .exchange(method, to, headers, body, ANSWER_BYTES_MAX)
            .await?;
        let text = String::from_utf8_lossy(&whole.body);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Answer {
            status: whole.status,
            said: line.chars().take(SAID_CHARS_MAX).collect(),
        })
    }

    /// The whole answer to a request. How long it may take is the caller's to bound.
    ///
    /// # Errors
    /// In words, when no answer came, or one that is too long.
    pub async fn fetch(
        &self,
        method: &str,
        to: &Endpoint,
        headers: &[(&str, String)],
        body: String,
    ) -> Result<Whole, String> {
        let whole = self
            .exchange(method, to, headers, body, BODY_BYTES_MAX + 1)
            .await?;
        if whole.body.len() > BODY_BYTES_MAX {
            return Err(format!("the answer of {} is too long", to.authority));
        }
        Ok(whole)
    }

    async fn exchange(
        &self,
        method: &str,
        to: &Endpoint,
        headers: &[(&str, String)],
        body: String,
        bytes_max: usize,
    ) -> Result<Whole, String> {
        let stream = TcpStream::connect((to.host.as_str(), to.port))
            .await
            .map_err(|e| format!("could not reach {}: {e}", to.authority))?;
        // A small request that waits for nothing is not worth gathering.
        let _ = stream.set_nodelay(true);
        let request = request(method, to, headers, body)?;
        if !to.tls {
            return exchange(stream, request, bytes_max).await;
        }
        let name = ServerName::try_from(to.host.clone())
            .map_err(|e| format!("{:?} cannot be in a certificate: {e}", to.host))?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|e| format!("no TLS with {}: {e}", to.authority))?;
        exchange(stream, request, bytes_max).await
    }
}

fn request(
    method: &str,
    to: &Endpoint,
    headers: &[(&str, String)],
    body: String,
) -> Result<Request<Full<Bytes>>, String> {
    let mut builder = Request::builder()
        .method(method)
        .uri(&to.target)
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

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Whole, String>
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
    let answered = async { read(sender.send_request(request).await?, bytes_max).await };
    tokio::pin!(answered, connection);
    // The connection is driven here and ends with us.
    tokio::select! {
        biased;
        answer = &mut answered => return answer.map_err(failed),
        _ = &mut connection => {}
    }
    answered.await.map_err(failed)
}

async fn read(response: Response<Incoming>, bytes_max: usize) -> Result<Whole, hyper::Error> {
    let status = response.status().as_u16();
    let kind = response.headers().get(CONTENT_TYPE);
    let content_type = kind.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut body = response.into_body();
    let mut bytes: Vec<u8> = Vec::new();
    while bytes.len() < bytes_max
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            let room = bytes_max - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(Whole {
        status,
        content_type,
        body: bytes,
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
    fn more_path_goes_before_the_query() {
        let check = |url: &str, expected: &str| {
            assert_eq!(Endpoint::parse(url).unwrap().below("A/1").target, expected);
        };
        check("https://ris.example", "/A/1");
        check("https://ris.example/fhir/", "/fhir/A/1");
        check("https://ris.example/fhir?x=1", "/fhir/A/1?x=1");
    }

    #[test]
    fn answers_mean_now_later_or_never() {
        let check = |status: u16, expected: &str| {
            let said = "x".to_owned();
            let found = match (Answer { status, said }).outcome() {
                Outcome::Delivered => "delivered",
                Outcome::Later(_) => "later",
                Outcome::Never(_) => "never",
            };
            assert_eq!(found, expected, "{status}");
        };
        for (statuses, expected) in [
            (&[200, 202, 204][..], "delivered"),
            (&[301, 401, 403, 404, 408, 429, 500, 503], "later"),
            (&[400, 410, 413, 422], "never"),
        ] {
            for status in statuses {
                check(*status, expected);
            }
        }
        let silent = Answer {
            status: 500,
            said: String::new(),
        };
        assert_eq!(silent.attempt(), Outcome::Later("HTTP 500".into()).into());
    }

    #[test]
    fn what_a_server_says_is_no_part_of_why() {
        let answer = |status| Answer {
            status,
            said: "unknown patient MUELLER^ANNA".into(),
        };
        let refused = answer(422).attempt();
        assert_eq!(refused.outcome, Outcome::Never("HTTP 422".into()));
        assert_eq!(
            refused.answer.as_deref(),
            Some("unknown patient MUELLER^ANNA")
        );
        assert_eq!(answer(200).attempt(), Outcome::Delivered.into());
    }

    #[test]
    fn an_authority_must_be_one() {
        assert!(HttpClient::new(None).is_ok());
        for bad in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert!(HttpClient::new(Some(bad.as_bytes())).is_err(), "{bad}");
        }
    }
}
