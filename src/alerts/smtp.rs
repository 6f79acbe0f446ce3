//! Mail by SMTP (RFC 5321), and what the server's answer means for the delivery.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::message::Mail;
use super::settings::{Security, SmtpSettings, read_file};
use crate::clock::UnixMillis;
use crate::outbox::Attempt;
use crate::outbox::machine::Outcome;
use crate::tls::{self, Trust};

/// Connections that are kept for the messages that follow: destinations send beside each other.
const CONNECTIONS_MAX: usize = 4;
/// How we sign in.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
/// A connection without a message is closed after so long.
const CONNECTION_IDLE: Duration = Duration::from_secs(5);
/// Longest answer of a server that is kept, in characters.
const SAID_CHARS_MAX: usize = 300;
/// Answers that speak of our credentials (RFC 4954 6): the message is not at fault, and an
/// administrator can put it right.
const CREDENTIALS_REFUSED: [u16; 4] = [530, 534, 535, 538];

/// What is sent, in the form that the destination takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Text and HTML.
    Twins(Mail),
    /// One line of text and no subject: gateways to pagers count every character.
    Line(String),
}

/// The mail server.
pub struct SmtpChannel {
    line: Line,
    /// Connections without a message, and since when.
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
    from: Mailbox,
}

/// How the server is reached.
struct Line {
    host: String,
    port: u16,
    security: Security,
    /// For STARTTLS.
    tls: Option<TlsParameters>,
    /// For TLS from the first byte.
    wrapper: Option<(TlsConnector, ServerName<'static>)>,
    credentials: Option<Credentials>,
    patience: Duration,
}

/// Why a message did not go.
enum Failed {
    /// The server, or what speaks to it, said so.
    Said(SmtpError),
    /// There was no server.
    Unreached(String),
}

/// TLS over TCP, in lettre's words.
#[derive(Debug)]
struct Wrapped(TlsStream<TcpStream>);

impl AsyncRead for Wrapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wrapped {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }
}

impl Line {
    /// A connection that takes messages: encrypted and signed in, as the settings say.
    ///
    /// The socket sends at once (`TCP_NODELAY`): the end of a message is a write of its own, which would otherwise wait
    /// for the server's delayed acknowledgement of what is before it, 40 ms a message.
    async fn open(&self) -> Result<AsyncSmtpConnection, Failed> {
        let seconds = self.patience.as_secs();
        timeout(self.patience, self.greet())
            .await
            .unwrap_or_else(|_| Err(Failed::Unreached(format!("no greeting within {seconds} s"))))
    }

    async fn greet(&self) -> Result<AsyncSmtpConnection, Failed> {
        let unreached = |e: io::Error| {
            Failed::Unreached(format!("could not reach {}:{}: {e}", self.host, self.port))
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(unreached)?;
        stream.set_nodelay(true).map_err(unreached)?;
        let stream: Box<dyn AsyncTokioStream> = match &self.wrapper {
            Some((tls, name)) => {
                let shaken = tls.connect(name.clone(), stream).await;
                Box::new(Wrapped(shaken.map_err(unreached)?))
            }
            None => Box::new(stream),
        };
        let name = ClientId::default();
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &name)
            .await
            .map_err(Failed::Said)?;
        if let (Security::Starttls, Some(tls)) = (self.security, &self.tls) {
            // lettre fails where the server does not offer it: nothing goes in the clear
            let changed = connection.starttls(tls.clone(), &name).await;
            changed.map_err(Failed::Said)?;
        }
        if let Some(credentials) = &self.credentials {
            connection
                .auth(&MECHANISMS, credentials)
                .await
                .map_err(Failed::Said)?;
        }
        Ok(connection)
    }
}

impl SmtpChannel {
    /// Reads what the settings point to; connects only when there is something to send.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn new(settings: &SmtpSettings) -> Result<Self, String> {
        let from = settings
            .from
            .parse()
            .map_err(|e| format!("smtp.from is {:?}: {e}", settings.from))?;
        let credentials = if settings.user.is_empty() {
            None
        } else {
            let password = settings.read_password()?;
            Some(Credentials::new(settings.user.clone(), password))
        };
        let line = Line {
            host: settings.host.clone(),
            port: settings.port,
            security: settings.security,
            tls: match settings.security {
                Security::Starttls => Some(starttls(settings)?),
                Security::Tls | Security::None => None,
            },
            wrapper: match settings.security {
                Security::Tls => Some(wrapper(settings)?),
                Security::Starttls | Security::None => None,
            },
            credentials,
            patience: Duration::from_secs(settings.timeout_seconds.into()),
        };
        Ok(Self {
            line,
            idle: Mutex::default(),
            from,
        })
    }

    /// Sends to one address. A repeat carries the same `key` as its Message-ID (RFC 5322 3.6.4).
    pub async fn send(&self, to: &str, key: &str, form: Form, now_ms: UnixMillis) -> Attempt {
        let shown = match &form {
            Form::Twins(mail) => format!("{}\n\n{}", mail.subject, mail.text),
            Form::Line(line) => line.clone(),
        };
        let message = match self.message(to, key, form, now_ms) {
            Ok(message) => message,
            Err(why) => return Outcome::Never(why).into(),
        };
        let attempt = match self.transmit(&message).await {
            Ok(()) => Outcome::Delivered.into(),
            Err(Failed::Said(e)) => judge(&e),
            Err(Failed::Unreached(why)) => Outcome::Later(why).into(),
        };
        Attempt {
            message: Some(shown),
            ..attempt
        }
    }

    /// On a connection that an earlier message left, or on a new one. It is kept for the next where all went well.
    async fn transmit(&self, message: &Message) -> Result<(), Failed> {
        let mut connection = match self.left().await {
            Some(connection) => connection,
            None => self.line.open().await?,
        };
        let sent = connection
            .send(message.envelope(), &message.formatted())
            .await;
        match sent {
            Ok(_) => {
                let mut idle = self.idle.lock().await;
                if idle.len() < CONNECTIONS_MAX {
                    idle.push((connection, Instant::now()));
                }
                Ok(())
            }
            Err(e) => {
                connection.abort().await;
                Err(Failed::Said(e))
            }
        }
    }

    /// A connection that is still there. One that was idle for long is closed, so that none is left half-open.
    async fn left(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle.lock().await.pop()?;
            if since.elapsed() < CONNECTION_IDLE && connection.test_connected().await {
                return Some(connection);
            }
            connection.abort().await;
        }
    }

    fn message(
        &self,
        to: &str,
        key: &str,
        form: Form,
        now_ms: UnixMillis,
    ) -> Result<Message, String> {
        let text = |e: &dyn std::error::Error| format!("could not write the message: {e}");
        let to: Mailbox = to.parse().map_err(|e| text(&e))?;
        let since_1970 = Duration::from_millis(now_ms.try_into().unwrap_or(0));
        // A machine wrote it (RFC 3834 5): out-of-office answers stay away.
        let automatic = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        );
        let builder = Message::builder()
            .from(self.from.clone())
            .to(to)
            .date(SystemTime::UNIX_EPOCH + since_1970)
            .message_id(Some(format!("<{key}@{}>", self.from.email.domain())))
            .raw_header(automatic);
        let built = match form {
            Form::Twins(mail) => builder
                .subject(mail.subject)
                .multipart(MultiPart::alternative_plain_html(mail.text, mail.html)),
            Form::Line(line) => builder.singlepart(SinglePart::plain(line)),
        };
        built.map_err(|e| text(&e))
    }
}

/// What the server answered keeps its words apart from its codes; what broke the connection is said whole.
fn judge(error: &SmtpError) -> Attempt {
    let said = said(error);
    let Some(code) = error.status().map(u16::from) else {
        // The library quotes an answer that it cannot read.
        if error.is_response() {
            let why = "its answer is no SMTP".to_owned();
            return Attempt::from(Outcome::Later(why)).with_answer(&said);
        }
        return outcome(None, &said).into();
    };
    let words = std::error::Error::source(error).map(ToString::to_string);
    let words = words.unwrap_or_default();
    let why = match enhanced(&words) {
        Some(more) => format!("SMTP {code} {more}"),
        None => format!("SMTP {code}"),
    };
    Attempt::from(outcome(Some(code), &why)).with_answer(&words)
}

/// The enhanced status code that an answer begins with (RFC 3463 2), as `5.1.1`.
fn enhanced(words: &str) -> Option<&str> {
    let first = words.split_whitespace().next()?;
    let mut parts = first.split('.');
    let is_number = |n: &str| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
    let class = parts.next().is_some_and(|n| ["4", "5"].contains(&n));
    let (subject, detail) = (parts.next()?, parts.next()?);
    let whole = class && is_number(subject) && is_number(detail) && parts.next().is_none();
    whole.then_some(first)
}

/// 5yz refuses the message for good, 4yz and everything about the connection may pass (RFC 5321 4.2.1).
fn outcome(code: Option<u16>, said: &str) -> Outcome {
    match code {
        Some(code) if CREDENTIALS_REFUSED.contains(&code) => Outcome::Later(said.to_owned()),
        Some(500..=599) => Outcome::Never(said.to_owned()),
        _ => Outcome::Later(said.to_owned()),
    }
}

/// The whole chain, in one bounded line.
fn said(error: &SmtpError) -> String {
    let mut chain = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !chain.contains(&cause_text) {
            chain = format!("{chain}: {cause_text}");
        }
        next = cause.source();
    }
    let line = chain.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SAID_CHARS_MAX).collect()
}

/// TLS from the first byte (RFC 8314).
fn wrapper(settings: &SmtpSettings) -> Result<(TlsConnector, ServerName<'static>), String> {
    let pem = tls::authorities("smtp.ca_file", &settings.ca_file)?;
    let config = tls::client(Trust::SystemAnd(pem.as_deref()), None)?;
    let name = ServerName::try_from(settings.host.clone()).map_err(|e| {
        format!(
            "smtp.host {:?} cannot be in a certificate: {e}",
            settings.host
        )
    })?;
    Ok((TlsConnector::from(config), name))
}

fn starttls(settings: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if !settings.ca_file.as_os_str().is_empty() {
        let pem = read_file("smtp.ca_file", &settings.ca_file)?;
        let authority = Certificate::from_pem(&pem).map_err(|e| {
            format!(
                "smtp.ca_file {} is no PEM certificate: {e}",
                settings.ca_file.display()
            )
        })?;
        builder = builder.add_root_certificate(authority);
    }
    builder.build().map_err(|e| {
        format!(
            "smtp.host {:?} cannot be spoken to by TLS: {e}",
            settings.host
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_now_later_or_never() {
        let check = |code: Option<u16>, later: bool| {
            let found = outcome(code, "x");
            assert_eq!(matches!(found, Outcome::Later(_)), later, "{code:?}");
            assert_ne!(found, Outcome::Delivered);
        };
        check(None, true);
        check(Some(421), true);
        check(Some(451), true);
        check(Some(550), false);
        check(Some(554), false);
        check(Some(535), true);
    }

    #[test]
    fn only_a_code_is_taken_from_words() {
        assert_eq!(enhanced("5.1.1 unknown ANNA"), Some("5.1.1"));
        assert_eq!(enhanced("4.3.0"), Some("4.3.0"));
        for words in [
            "", "unknown", "5.1", "5.1.1.1", "2.1.56", "5.1956.2", "5.anna.1",
        ] {
            assert_eq!(enhanced(words), None, "{words}");
        }
    }
}
