//! Webhooks: a message as the body of an HTTP POST, and what the receiver's answer means.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::message::Notice;
use super::settings::{DestinationSettings, Preset, read_file};
use super::template::Template;
use crate::clock::UnixMillis;
use crate::outbox::Attempt;
use crate::outbox::http::{Endpoint, HttpClient};
use crate::outbox::machine::Outcome;
use crate::store::outbox::Batch;
use crate::triage::Band;

/// Carries when a body was signed, and the signature: `t=SECONDS,v1=HEX`.
const SIGNATURE_HEADER: &str = "x-firstread-signature";
/// Every repeat carries the same (draft-ietf-httpapi-idempotency-key-header).
const KEY_HEADER: &str = "idempotency-key";

/// A receiver.
pub struct Webhook {
    endpoint: Endpoint,
    preset: Preset,
    template: Option<Template>,
    secret: String,
    client: HttpClient,
}

/// What is posted.
struct Posted {
    endpoint: Endpoint,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Webhook {
    /// Reads what the settings point to; connects only when there is something to send.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn new(settings: &DestinationSettings) -> Result<Self, String> {
        let key = |what: &str| format!("alerts.destinations {:?} {what}", settings.name);
        let pem = if settings.ca_file.as_os_str().is_empty() {
            None
        } else {
            Some(read_file(&key("ca_file"), &settings.ca_file)?)
        };
        let template = (settings.preset == Preset::Template)
            .then(|| Template::parse(&settings.template))
            .transpose()
            .map_err(|why| format!("{} {why}", key("template")))?;
        Ok(Self {
            endpoint: Endpoint::parse(&settings.to)
                .map_err(|why| format!("{} {why}", key("to")))?,
            preset: settings.preset,
            template,
            secret: settings.read_secret()?,
            client: HttpClient::new(pem.as_deref())
                .map_err(|why| format!("{} holds {why}", key("ca_file")))?,
        })
    }

    /// Whether the receiver wants to hear that an alert needs nobody any more.
    #[must_use]
    pub fn is_told_of_answers(preset: Preset) -> bool {
        matches!(preset, Preset::Json | Preset::Pagerduty)
    }

    /// Posts a message. A repeat carries the same key.
    pub async fn send(&self, notice: &Notice, batch: &Batch, now_ms: UnixMillis) -> Attempt {
        let posted = self.posted(notice, batch, now_ms);
        // The page of messages shows no secret.
        let message = if self.preset == Preset::Pagerduty {
            posted.body.replace(&self.secret, "...")
        } else {
            posted.body.clone()
        };
        let answered = self
            .client
            .post(&posted.endpoint, &posted.headers, posted.body)
            .await;
        let attempt = match answered {
            Ok(answer) => answer.attempt(),
            Err(why) => Outcome::Later(why).into(),
        };
        Attempt {
            message: Some(message),
            ..attempt
        }
    }

    fn posted(&self, notice: &Notice, batch: &Batch, now_ms: UnixMillis) -> Posted {
        let key = batch.dedup_key.as_str();
        let resolves = batch.resolves.as_deref();
        let mut endpoint = self.endpoint.clone();
        let mut media_type = "application/json";
        let mut headers = vec![(KEY_HEADER, key.to_owned())];
        let body = match (self.preset, &self.template) {
            (Preset::Template, Some(template)) => {
                media_type = template.media_type();
                template.fill(&|name| notice.named(name))
            }
            (Preset::Pagerduty, _) => match resolves {
                Some(earlier) => pagerduty_resolve(earlier, &self.secret).to_string(),
                None => pagerduty(notice, key, &self.secret).to_string(),
            },
            (Preset::Ntfy, _) => {
                endpoint = self.endpoint.parent();
                if !self.secret.is_empty() {
                    headers.push(("authorization", format!("Bearer {}", self.secret)));
                }
                ntfy(notice, self.endpoint.topic().unwrap_or_default()).to_string()
            }
            _ => match resolves {
                Some(earlier) => plain_resolved(notice, key, earlier).to_string(),
                None => plain(notice, key).to_string(),
            },
        };
        let signs = matches!(self.preset, Preset::Json | Preset::Template);
        if signs && !self.secret.is_empty() {
            let signed = signature(&self.secret, now_ms / 1000, &body);
            headers.push((SIGNATURE_HEADER, signed));
        }
        headers.push(("content-type", media_type.to_owned()));
        Posted {
            endpoint,
            headers,
            body,
        }
    }
}

/// HMAC-SHA256 (RFC 2104) of `SECONDS.BODY`: a body that was overheard cannot be sent again later
/// to a receiver that looks at the seconds.
fn signature(secret: &str, seconds: i64, body: &str) -> String {
    use std::fmt::Write as _;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{seconds}.{body}").as_bytes());
    let mut text = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Our own form.
fn plain(notice: &Notice, key: &str) -> Value {
    let case = |case: &super::message::Case| {
        json!({
            "band": case.band().as_str(),
            "place": case.rank(),
            "waiting_minutes": case.waiting_minutes(),
            "code": case.code(),
            "link": case.link(),
        })
    };
    let cases: Vec<Value> = notice.listed().iter().map(case).collect();
    json!({
        "event": notice.event(),
        "key": key,
        "site": notice.site,
        "headline": notice.headline(),
        "cases": cases,
        "more": notice.more(),
        "acknowledge": notice.acknowledge,
        "note": crate::RESEARCH_USE,
    })
}

/// Our own form, of a message that needs nobody any more.
fn plain_resolved(notice: &Notice, key: &str, earlier: &str) -> Value {
    json!({
        "event": "resolved",
        "key": key,
        "resolves": earlier,
        "site": notice.site,
        "note": crate::RESEARCH_USE,
    })
}

/// `PagerDuty` Events API v2, event action `resolve`.
fn pagerduty_resolve(earlier: &str, routing_key: &str) -> Value {
    json!({ "routing_key": routing_key, "event_action": "resolve", "dedup_key": earlier })
}

/// `PagerDuty` Events API v2, event action `trigger`.
fn pagerduty(notice: &Notice, key: &str, routing_key: &str) -> Value {
    let severity = match notice.band() {
        Some(Band::Critical) => "critical",
        Some(Band::Urgent) => "error",
        Some(_) => "warning",
        None => "info",
    };
    let mut links = Vec::new();
    if let Some(href) = &notice.acknowledge {
        links.push(json!({ "href": href, "text": "Acknowledge in firstread" }));
    }
    if let [one] = notice.listed() {
        links.push(json!({ "href": one.link(), "text": "Open the study" }));
    }
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": key,
        "client": notice.sender(),
        "payload": {
            "summary": format!("{}: {}", notice.sender(), notice.headline()),
            "source": notice.sender(),
            "severity": severity,
            "component": "reading list",
            "custom_details": { "message": notice.body(), "note": crate::RESEARCH_USE },
        },
        "links": links,
    })
}

/// ntfy, publishing as JSON.
fn ntfy(notice: &Notice, topic: &str) -> Value {
    let priority = match notice.band() {
        Some(Band::Critical) => 5,
        Some(_) => 4,
        None => 3,
    };
    let mut published = json!({
        "topic": topic,
        "title": format!("{}: {}", notice.sender(), notice.headline()),
        "message": format!("{}\n{}", notice.body(), crate::RESEARCH_USE),
        "priority": priority,
    });
    if let [one] = notice.listed() {
        published["click"] = one.link().into();
    }
    if let Some(url) = &notice.acknowledge {
        published["actions"] = json!([{ "action": "view", "label": "Acknowledge", "url": url }]);
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with `printf '1795435200.{}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn a_signature_is_hmac_sha256_of_moment_and_body() {
        assert_eq!(
            signature("key", 1_795_435_200, "{}"),
            "t=1795435200,v1=e28051f8f0941cb1186d7db24263d44c1c1a2fd233c749abe1dee1f453d59d13"
        );
    }
}
