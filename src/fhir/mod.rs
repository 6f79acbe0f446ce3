//! FHIR R4 (4.0.1): what is known of a study as resources, and who subscribed to them. Values, but for the courier that
//! notifies; pages and access are the web's.
//!
//! Patients are logical references (identifier only): this server keeps no Patient.
//! `docs/conformance-fhir.md` lists types and parameters; a test compares it with [`TYPES`] and [`PARAMETERS`].

mod courier;
mod observation;
mod settings;
mod study;
pub mod subscription;
mod token;

use serde_json::{Map, Value, json};

pub use courier::FhirCourier;
pub use observation::observations;
pub use settings::FhirSettings;
pub use study::{diagnostic_report, imaging_study, service_request, task};
pub use token::{Token, tokens};

use crate::worklist::StudyDetail;

/// Resource types that can be read and searched.
pub const TYPES: [&str; 6] = [
    "ImagingStudy",
    "DiagnosticReport",
    "Observation",
    "ServiceRequest",
    "Task",
    "Device",
];
/// Search parameters of all types but Device, with what they are.
pub const PARAMETERS: [(&str, &str); 5] = [
    ("_id", "token"),
    ("identifier", "token"),
    ("subject:identifier", "token"),
    ("_count", "number"),
    ("_offset", "number"),
];
/// Search parameters of `DiagnosticReport` beside those.
pub const REPORT_PARAMETERS: [(&str, &str); 2] = [("conclusion", "token"), ("status", "token")];
/// Search parameters of `ServiceRequest` beside those.
pub const ORDER_PARAMETERS: [(&str, &str); 1] = [("priority", "token")];
/// Studies on a page where `_count` is not given, and at most.
pub const COUNT: (u64, u64) = (20, 100);
/// Content type of every answer.
pub const CONTENT_TYPE: &str = "application/fhir+json";
/// Code system of our own codes.
const OWN_CODES: &str = "urn:firstread:codes";
/// The one Device.
pub const DEVICE_ID: &str = "firstread";

/// A study and the key that ids of its observations begin with.
pub struct Study {
    /// Row.
    pub key: i64,
    /// What pages show.
    pub detail: StudyDetail,
}

/// Search parameters that this type has beside [`PARAMETERS`].
#[must_use]
pub fn parameters_of(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "DiagnosticReport" => &REPORT_PARAMETERS,
        "ServiceRequest" => &ORDER_PARAMETERS,
        _ => &[],
    }
}

/// What of a study is a resource of this type; `None` for a type that studies have none of.
#[must_use]
pub fn resources(kind: &str, study: &Study) -> Option<Vec<Value>> {
    Some(match kind {
        "ImagingStudy" => vec![imaging_study(study)],
        "DiagnosticReport" => vec![diagnostic_report(study)],
        "Observation" => observations(study),
        "ServiceRequest" => service_request(study).into_iter().collect(),
        "Task" => vec![task(study)],
        _ => return None,
    })
}

/// This program, as the maker of its results.
#[must_use]
pub fn device() -> Value {
    pruned(json!({
        "resourceType": "Device",
        "id": DEVICE_ID,
        "status": "active",
        "deviceName": [{"name": "firstread", "type": "model-name"}],
        "version": [{"value": env!("CARGO_PKG_VERSION")}],
        "note": [{"text": crate::RESEARCH_USE}],
    }))
}

/// What can be done here, and when this was made (RFC 3339).
#[must_use]
pub fn capability_statement(at: &str) -> Value {
    let parameters = |kind: &str| -> Vec<Value> {
        let of_kind = PARAMETERS.iter().filter(|_| kind != "Device");
        of_kind
            .chain(parameters_of(kind))
            // modifiers and result parameters are no search parameters of their own
            .filter(|(name, _)| !name.contains(':') && !["_count", "_offset"].contains(name))
            .map(|(name, kind)| json!({"name": name, "type": kind}))
            .collect()
    };
    let types: Vec<Value> = TYPES
        .iter()
        .map(|kind| {
            let mut interactions = vec![json!({"code": "read"}), json!({"code": "search-type"})];
            if *kind == "ServiceRequest" {
                interactions.push(json!({
                    "code": "update",
                    "documentation": "only priority is changed, by tokens of the role integration",
                }));
            }
            json!({"type": kind, "interaction": interactions, "searchParam": parameters(kind)})
        })
        .collect();
    let interactions = ["create", "read", "search-type", "delete"].map(|c| json!({"code": c}));
    let subscription = json!({
        "type": "Subscription",
        "documentation": format!(
            "rest-hook only; criteria: {}; endpoints on hosts that the administrator lists",
            subscription::CRITERIA
        ),
        "interaction": interactions,
        "searchParam": [],
    });
    let types: Vec<Value> = types.into_iter().chain([subscription]).collect();
    pruned(json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": at,
        "kind": "instance",
        "software": {"name": "firstread", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": crate::RESEARCH_USE},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "resource": types}],
    }))
}

/// A page of what was found. `total` is of studies, so it is left out where one has several resources.
#[must_use]
pub fn bundle(
    base: &str,
    resources: Vec<Value>,
    total: Option<u64>,
    links: &[(&str, String)],
) -> Value {
    let entries: Vec<Value> = resources
        .into_iter()
        .map(|resource| {
            let text = |key: &str| resource[key].as_str().unwrap_or_default().to_owned();
            let url = format!("{base}/{}/{}", text("resourceType"), text("id"));
            json!({"fullUrl": url, "resource": resource, "search": {"mode": "match"}})
        })
        .collect();
    let links: Vec<Value> = links
        .iter()
        .map(|(relation, url)| json!({"relation": relation, "url": url}))
        .collect();
    pruned(json!({
        "resourceType": "Bundle",
        "type": "searchset",
        "total": total,
        "link": links,
        "entry": entries,
    }))
}

/// Why a request was not served.
#[must_use]
pub fn operation_outcome(code: &str, text: &str) -> Value {
    json!({
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": text}],
    })
}

/// FHIR has neither null nor empty values (2.6.2).
fn pruned(value: Value) -> Value {
    fn is_empty(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(all) => all.is_empty(),
            Value::Object(all) => all.is_empty(),
            _ => false,
        }
    }
    match value {
        Value::Array(all) => {
            let kept = all.into_iter().map(pruned).filter(|v| !is_empty(v));
            Value::Array(kept.collect())
        }
        Value::Object(all) => {
            let kept = all
                .into_iter()
                .map(|(key, value)| (key, pruned(value)))
                .filter(|(_, value)| !is_empty(value));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// The patient, by what is known of the id.
fn subject(study: &Study) -> Value {
    let item = &study.detail.item;
    match &item.patient_id {
        Some(id) => json!({"type": "Patient", "identifier": {"value": id}}),
        None => json!({"type": "Patient", "display": "unknown"}),
    }
}

/// `meta` of a resource of a study: when anything of the study last changed.
fn meta(study: &Study) -> Value {
    json!({"lastUpdated": study.detail.changed_at})
}

/// When what was found in a study's images was last written down; screening and measuring again make it anew.
fn issued(study: &Study) -> Option<&str> {
    let detail = &study.detail;
    let screenings = detail.screenings.iter();
    let screened = screenings.filter(|s| s.outcome == "screened");
    // RFC 3339, all in UTC and to the millisecond: as texts they are ordered as in time
    let all = screened.map(|s| s.created_at.as_str());
    all.chain(detail.item.screened_at.as_deref())
        .chain(detail.item.analysed_at.as_deref())
        .filter(|_| detail.item.screened_at.is_some())
        .max()
}

fn reference(kind: &str, id: &str) -> Value {
    json!({"reference": format!("{kind}/{id}")})
}

fn coded(code: &str, text: &str) -> Value {
    json!({"coding": [{"system": OWN_CODES, "code": code, "display": text}], "text": text})
}
