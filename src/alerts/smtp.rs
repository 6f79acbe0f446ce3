//! Mail by SMTP (RFC 5321), and what the server's answer means for the delivery.

use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::message::Mail;
use super::settings::{Security, SmtpSettings, read_file};
use crate::clock::UnixMillis;
use crate::outbox::Attempt;
use crate::outbox::machine::Outcome;

/// Connections to the server at a time: destinations send beside each other.
const CONNECTIONS_MAX: u32 = 4;
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
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
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
        let tls = match settings.security {
            Security::Starttls => Tls::Required(tls(settings)?),
            Security::Tls => Tls::Wrapper(tls(settings)?),
            Security::None => Tls::None,
        };
        // A connection serves the messages that follow at once, and is closed soon after, so that
        // nothing is left half-open between two nights.
        let pool = PoolConfig::new()
            .max_size(CONNECTIONS_MAX)
            .idle_timeout(CONNECTION_IDLE);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .pool_config(pool)
            .timeout(Some(Duration::from_secs(settings.timeout_seconds.into())));
        if !settings.user.is_empty() {
            let credentials = Credentials::new(settings.user.clone(), settings.read_password()?);
            builder = builder.credentials(credentials);
        }
        Ok(Self {
            transport: builder.build(),
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
        let outcome = match self.transport.send(message).await {
            Ok(_) => Outcome::Delivered,
            Err(e) => {
                let code = e.status().map(u16::from);
                outcome(code, &said(&e))
            }
        };
        Attempt {
            outcome,
            message: Some(shown),
            receipt: None,
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

/// 5yz refuses the message for good, 4yz and everything about the connection may pass (RFC 5321 4.2.1).
fn outcome(code: Option<u16>, said: &str) -> Outcome {
    match code {
        Some(code) if CREDENTIALS_REFUSED.contains(&code) => Outcome::Later(said.to_owned()),
        Some(500..=599) => Outcome::Never(said.to_owned()),
        _ => Outcome::Later(said.to_owned()),
    }
}

/// The whole chain, in one bounded line.
fn said(error: &lettre::transport::smtp::Error) -> String {
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

fn tls(settings: &SmtpSettings) -> Result<TlsParameters, String> {
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
}
