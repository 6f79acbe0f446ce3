//! `Subscription` (R4 2.46): what is asked for, checked; and how one is shown. Values only.

use serde_json::{Value, json};

use super::{OWN_CODES, pruned};
use crate::clock::{UnixMillis, rfc3339};
use crate::outbox::http::Endpoint;
use crate::triage::{Band, OrderPriority};

/// The criteria that can be subscribed to, as the `CapabilityStatement` says it.
pub const CRITERIA: &str = "DiagnosticReport, with conclusion (elevated, urgent, critical; several with commas) \
     and status (preliminary); or ServiceRequest, with priority (asap, stat; several with commas)";
/// Code system of priorities (R4 request-priority).
const PRIORITIES: &str = "http://hl7.org/fhir/request-priority";
/// Media types of a notification's body.
pub const PAYLOADS: [&str; 2] = ["application/fhir+json", "application/json"];
/// What stands for the value of a header.
const HIDDEN: &str = "***";
/// Longest text of a kind, in characters.
const TEXT_CHARS_MAX: usize = 1000;
/// Headers of a subscription.
const HEADERS_MAX: usize = 10;
/// Headers that are the connection's own (RFC 9110, 9112), or say what the body is.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What a subscription is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Criteria {
    /// Reports of these bands; empty for any.
    Report(Vec<Band>),
    /// Orders that come to have one of these priorities.
    Order(Vec<OrderPriority>),
}

impl Criteria {
    /// Reads `DiagnosticReport?conclusion=urgent,critical`.
    ///
    /// # Errors
    /// Says what can be subscribed to.
    pub fn parse(text: &str) -> Result<Self, String> {
        let can =
            || format!("{text:?} cannot be subscribed to; here one can subscribe to {CRITERIA}");
        let (kind, query) = text.split_once('?').unwrap_or((text, ""));
        if kind == "ServiceRequest" {
            let asked = query.strip_prefix("priority=").and_then(priorities);
            let asked = asked.filter(|all| !all.contains(&OrderPriority::Routine));
            return asked.map(Self::Order).ok_or_else(can);
        }
        if kind != "DiagnosticReport" {
            return Err(can());
        }
        let mut wanted = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("conclusion", value)) if wanted.is_empty() => {
                    wanted = bands(value).ok_or_else(can)?;
                }
                Some(("status", "preliminary")) => {}
                _ => return Err(can()),
            }
        }
        Ok(Self::Report(wanted))
    }

    /// Whether the report of a study in this state and band meets them.
    #[must_use]
    pub fn fit_report(&self, state: &str, band: Band) -> bool {
        match self {
            Self::Report(bands) => {
                state != "received" && (bands.is_empty() || bands.contains(&band))
            }
            Self::Order(_) => false,
        }
    }

    /// Whether an order that comes to have this priority meets them.
    #[must_use]
    pub fn fit_order(&self, priority: OrderPriority) -> bool {
        matches!(self, Self::Order(wanted) if wanted.contains(&priority))
    }
}

/// A priority of a `ServiceRequest`, as FHIR writes it: `urgent` is below `asap` there, and the same here.
#[must_use]
pub fn priority(code: &str) -> Option<OrderPriority> {
    match code {
        "urgent" => Some(OrderPriority::Asap),
        other => OrderPriority::parse(other),
    }
}

/// `stat,asap`, each perhaps after `http://hl7.org/fhir/request-priority|`; `None` where one is no priority.
#[must_use]
pub fn priorities(text: &str) -> Option<Vec<OrderPriority>> {
    codes(text)
        .map(|(system, code)| priority(&code).filter(|_| ["", PRIORITIES].contains(&&*system)))
        .collect()
}

/// Tokens of a search (R4 3.1.1.4.10): system, empty where none is named, and code.
fn codes(text: &str) -> impl Iterator<Item = (String, String)> {
    let text = text.replace("%2C", ",").replace("%2c", ",");
    let tokens: Vec<String> = text.split(',').map(str::to_owned).collect();
    tokens.into_iter().map(|token| {
        let token = token.replace("%7C", "|").replace("%7c", "|");
        match token.split_once('|') {
            Some((system, code)) => (system.to_owned(), code.to_owned()),
            None => (String::new(), token),
        }
    })
}

/// `urgent,critical`, each perhaps after `system|`; `None` where one is no band that stands out.
#[must_use]
pub fn bands(text: &str) -> Option<Vec<Band>> {
    codes(text)
        .map(|(system, code)| {
            let ours = ["", OWN_CODES].contains(&&*system);
            Band::parse(&code).filter(|band| ours && *band >= Band::Elevated)
        })
        .collect()
}

/// A subscription that is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As it was sent.
    pub criteria: String,
    /// Why, for people.
    pub reason: String,
    /// Where to.
    pub endpoint: String,
    /// Media type of the body; `None` notifies without one.
    pub payload: Option<String>,
    /// Name and value of each header.
    pub headers: Vec<(String, String)>,
    /// After this moment nothing is sent.
    pub ends_at: Option<UnixMillis>,
}

/// A subscription as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Key.
    pub id: i64,
    /// As it was sent.
    pub criteria: String,
    /// Why, for people.
    pub reason: String,
    /// Where to.
    pub endpoint: String,
    /// Media type of the body.
    pub payload: Option<String>,
    /// Sealed lines `name: value`.
    pub headers_sealed: Option<String>,
    /// Names of the headers.
    pub header_names: Vec<String>,
    /// After this moment nothing is sent.
    pub ends_at: Option<UnixMillis>,
    /// Name of the token.
    pub made_by: String,
    /// What the last attempt failed with, while attempts fail.
    pub error: Option<String>,
}

impl Subscription {
    /// Its destination in the outbox. No other destination can be called so.
    #[must_use]
    pub fn destination(&self) -> String {
        format!("fhir:{}", self.id)
    }

    /// The host that is notified, for people: the rest of the address may be a secret.
    #[must_use]
    pub fn host(&self) -> String {
        Endpoint::parse(&self.endpoint).map_or_else(|_| "nowhere".into(), |e| e.host().to_owned())
    }

    /// The key in the name of a destination.
    #[must_use]
    pub fn of_destination(name: &str) -> Option<i64> {
        name.strip_prefix("fhir:")?.parse().ok()
    }

    /// Whether it has run out.
    #[must_use]
    pub fn is_over(&self, now_ms: UnixMillis) -> bool {
        self.ends_at.is_some_and(|at| at <= now_ms)
    }

    /// As a resource: `active`, `error` while notifications fail, `off` when it has run out. Values of headers are hidden.
    #[must_use]
    pub fn resource(&self, now_ms: UnixMillis) -> Value {
        let status = match &self.error {
            _ if self.is_over(now_ms) => "off",
            Some(_) => "error",
            None => "active",
        };
        let headers = self.header_names.iter().map(|n| format!("{n}: {HIDDEN}"));
        pruned(json!({
            "resourceType": "Subscription",
            "id": self.id.to_string(),
            "status": status,
            "end": self.ends_at.map(rfc3339),
            "reason": self.reason,
            "criteria": self.criteria,
            "error": self.error,
            "channel": {
                "type": "rest-hook",
                "endpoint": self.endpoint,
                "payload": self.payload,
                "header": headers.collect::<Vec<_>>(),
            },
        }))
    }
}

/// Reads a Subscription that is to be made.
///
/// # Errors
/// In words for the client, which element is wrong and what it may be. Values of headers are not repeated.
pub fn read(resource: &Value, now_ms: UnixMillis) -> Result<Wanted, String> {
    if resource["resourceType"] != "Subscription" {
        return Err("the body is no Subscription".into());
    }
    if !["requested", "active"].contains(&resource["status"].as_str().unwrap_or_default()) {
        return Err("status must be requested; the server makes it active".into());
    }
    let text = |value: &Value, name: &str| {
        let text = value.as_str().unwrap_or_default().trim();
        if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX {
            return Err(format!("{name} must have 1 to {TEXT_CHARS_MAX} characters"));
        }
        Ok(text.to_owned())
    };
    let criteria = text(&resource["criteria"], "criteria")?;
    Criteria::parse(&criteria)?;
    let channel = &resource["channel"];
    if channel["type"] != "rest-hook" {
        return Err("channel.type must be rest-hook".into());
    }
    let endpoint = text(&channel["endpoint"], "channel.endpoint")?;
    Endpoint::parse(&endpoint).map_err(|why| format!("channel.endpoint is no address: {why}"))?;
    let payload = match &channel["payload"] {
        Value::Null => None,
        Value::String(kind) if PAYLOADS.contains(&kind.as_str()) => Some(kind.clone()),
        _ => {
            return Err(format!(
                "channel.payload must be {}, or absent",
                PAYLOADS.join(" or ")
            ));
        }
    };
    Ok(Wanted {
        reason: text(&resource["reason"], "reason")?,
        headers: headers(&channel["header"])?,
        ends_at: end(&resource["end"], now_ms)?,
        criteria,
        endpoint,
        payload,
    })
}

fn headers(given: &Value) -> Result<Vec<(String, String)>, String> {
    let lines = match given {
        Value::Null => return Ok(Vec::new()),
        Value::Array(lines) if lines.len() <= HEADERS_MAX => lines,
        _ => {
            return Err(format!(
                "channel.header must be a list of at most {HEADERS_MAX} lines"
            ));
        }
    };
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let header = |line: &Value| {
        let line = line.as_str().unwrap_or_default();
        let (name, value) = line.split_once(':')?;
        let (name, value) = (name.trim(), value.trim());
        let fits = !name.is_empty()
            && name.chars().all(is_token)
            && value.len() <= TEXT_CHARS_MAX
            && value.chars().all(|c| c == ' ' || c.is_ascii_graphic())
            && !RESERVED.contains(&name.to_ascii_lowercase().as_str());
        fits.then(|| (name.to_owned(), value.to_owned()))
    };
    let all: Option<Vec<_>> = lines.iter().map(header).collect();
    all.ok_or_else(|| {
        format!(
            "each channel.header must be like \"Authorization: Bearer ...\", of ASCII, and none of {}",
            RESERVED.join(", ")
        )
    })
}

fn end(given: &Value, now_ms: UnixMillis) -> Result<Option<UnixMillis>, String> {
    let Some(text) = given.as_str() else {
        return if given.is_null() {
            Ok(None)
        } else {
            Err("end must be an instant like 2026-12-31T00:00:00Z".into())
        };
    };
    let at = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_| "end must be an instant like 2026-12-31T00:00:00Z".to_owned())?
        .timestamp_millis();
    if at <= now_ms {
        return Err("end has passed".into());
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Value {
        json!({
            "resourceType": "Subscription", "status": "requested", "reason": "urgent studies",
            "criteria": "DiagnosticReport?conclusion=urgent,critical",
            "end": "2030-01-01T00:00:00Z",
            "channel": {
                "type": "rest-hook", "endpoint": "https://ris.example/hook",
                "payload": "application/fhir+json", "header": ["Authorization: Bearer abc"],
            },
        })
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let wanted = read(&asked(), 0).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            wanted.headers,
            [("Authorization".into(), "Bearer abc".into())]
        );
        assert_eq!(wanted.ends_at, Some(1_893_456_000_000));
        let criteria = Criteria::parse(&wanted.criteria).unwrap();
        assert_eq!(
            criteria,
            Criteria::Report(vec![Band::Urgent, Band::Critical])
        );
        assert!(criteria.fit_report("screened", Band::Critical));
        assert!(!criteria.fit_report("screened", Band::Elevated));
        assert!(!criteria.fit_order(OrderPriority::Stat));
        let any = Criteria::parse("DiagnosticReport?status=preliminary").unwrap();
        assert!(any.fit_report("screened", Band::Routine));
        assert!(!any.fit_report("received", Band::Pending));
    }

    #[test]
    fn orders_are_subscribed_to_by_their_priority() {
        let check = |text: &str, fit: &[OrderPriority]| {
            let criteria = Criteria::parse(text).unwrap_or_else(|e| panic!("{e}"));
            let all = [
                OrderPriority::Routine,
                OrderPriority::Asap,
                OrderPriority::Stat,
            ];
            let found = all.into_iter().filter(|p| criteria.fit_order(*p));
            assert_eq!(found.collect::<Vec<_>>(), fit, "{text}");
            assert!(!criteria.fit_report("screened", Band::Critical));
        };
        check("ServiceRequest?priority=stat", &[OrderPriority::Stat]);
        check(
            "ServiceRequest?priority=http://hl7.org/fhir/request-priority%7Cstat,urgent",
            &[OrderPriority::Asap, OrderPriority::Stat],
        );
        for wrong in [
            "ServiceRequest",
            "ServiceRequest?priority=",
            "ServiceRequest?priority=routine",
            "ServiceRequest?priority=x|stat",
            "ServiceRequest?status=active",
        ] {
            let error = Criteria::parse(wrong).err().unwrap();
            assert!(error.contains("asap, stat"), "{error}");
        }
    }

    #[test]
    fn a_band_may_name_its_system() {
        let check = |text: &str, expected: Option<&[Band]>| {
            assert_eq!(bands(text).as_deref(), expected, "{text}");
        };
        check("urgent", Some(&[Band::Urgent]));
        check("urn:firstread:codes|critical", Some(&[Band::Critical]));
        check("urgent%2Celevated", Some(&[Band::Urgent, Band::Elevated]));
        check("|urgent", Some(&[Band::Urgent]));
        check("http://snomed.info/sct|urgent", None);
        check("routine", None);
        check("urgent,", None);
        check("", None);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_repeated() {
        let check = |path: &[&str], value: Value, word: &str| {
            let mut wrong = asked();
            let mut at = &mut wrong;
            for key in path {
                at = &mut at[*key];
            }
            *at = value;
            let error = read(&wrong, 0).err().unwrap();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        };
        check(&["resourceType"], json!("Task"), "no Subscription");
        check(&["status"], json!("off"), "requested");
        check(&["reason"], Value::Null, "reason");
        check(&["criteria"], json!("Patient?name=x"), "DiagnosticReport");
        check(
            &["criteria"],
            json!("DiagnosticReport?conclusion=cancer"),
            "conclusion",
        );
        check(
            &["criteria"],
            json!("DiagnosticReport?code=1"),
            "conclusion",
        );
        check(&["end"], json!("yesterday"), "end");
        check(&["end"], json!("1969-01-01T00:00:00Z"), "end");
        check(&["channel", "type"], json!("email"), "rest-hook");
        check(&["channel", "endpoint"], json!("ris"), "endpoint");
        check(
            &["channel", "endpoint"],
            json!("https://a:s3cret@ris.example/"),
            "endpoint",
        );
        check(&["channel", "payload"], json!("text/plain"), "payload");
        for header in [
            json!("Authorization"),
            json!(["s3cret"]),
            json!(["Host: s3cret"]),
            json!(["X: s3cret\r\nY: z"]),
            json!(vec!["X: s3cret"; HEADERS_MAX + 1]),
        ] {
            check(&["channel", "header"], header, "channel.header");
        }
    }
}
