//! `/trail/patient`: who looked at the studies of one patient, for the patient who asks (GDPR Article 15).

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::super::WebState;
use super::super::answer::{PageError, Problem, html};
use super::super::gate::Visitor;
use super::super::view::Frame;
use super::super::words::exact_time;
use super::note;
use super::page::{Asked, Format, download};
use super::words::{Row, row};
use crate::store::trail::Entry;

/// Entries on the page; the export has all.
const SHOWN: u64 = 1000;

#[derive(Template)]
#[template(path = "trail_patient.html")]
struct PatientPage {
    frame: Frame,
    patient: String,
    issuer: String,
    from: String,
    until: String,
    asked: bool,
    people: Vec<Person>,
    lists: Vec<Seen>,
    rows: Vec<Row>,
    is_all: bool,
    csv: String,
    jsonl: String,
}

/// Somebody who did something with the patient's studies.
struct Person {
    name: String,
    role: String,
    times: usize,
    studies: usize,
    first: String,
    last: String,
}

/// Somebody to whom lists were shown in which the patient stood.
struct Seen {
    name: String,
    times: u64,
    last: String,
}

pub(in crate::web) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let asked = Asked::read(&req, &state)?;
    let zone = state.settings.time_zone;
    let patient = asked.wanted.patient_id.clone();
    let (mut found, mut lists) = (Vec::new(), Vec::new());
    if let Some(patient) = &patient {
        note(&req, |n| n.subject = Some(patient.clone()));
        let most = SHOWN + 1;
        found = state
            .store
            .trail_before(&asked.wanted, i64::MAX, most)
            .await?;
        let issuer = asked.wanted.patient_issuer.as_deref();
        let span = (asked.wanted.from_ms, asked.wanted.until_ms);
        let seen = state.store.lists_with(patient, issuer, span).await?;
        lists = seen
            .into_iter()
            .map(|(name, times, last_ms)| Seen {
                name,
                times,
                last: exact_time(last_ms, zone),
            })
            .collect();
    }
    let is_all = found.len() as u64 <= SHOWN;
    found.truncate(usize::try_from(SHOWN).unwrap_or(usize::MAX));
    html(&PatientPage {
        frame: Frame::new("Who looked at a patient", "trail", &visitor, &state),
        patient: asked.get("patient"),
        issuer: asked.get("issuer"),
        from: asked.get("from"),
        until: asked.get("until"),
        asked: patient.is_some(),
        people: people(&found, zone),
        lists,
        rows: found.iter().map(|e| row(e, zone)).collect(),
        is_all,
        csv: asked.address("/trail/patient/export", "format", "csv"),
        jsonl: asked.address("/trail/patient/export", "format", "jsonl"),
    })
}

/// The same with all entries, as CSV or JSON lines.
pub(in crate::web) async fn export(
    req: HttpRequest,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    let asked = Asked::read(&req, &state)?;
    let format = Format::parse(&asked.get("format"))?;
    let Some(patient) = asked.wanted.patient_id.clone() else {
        let detail = "Say which patient: patient=ID.";
        return Err(Problem::bad_request("no_patient", detail).into());
    };
    note(&req, |n| n.subject = Some(patient));
    Ok(download(format, "patient-access", state, asked.wanted))
}

fn people(entries: &[Entry], zone: chrono_tz::Tz) -> Vec<Person> {
    let mut all: BTreeMap<(&str, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        let role = entry.role.as_deref().unwrap_or_default();
        all.entry((&entry.actor, role)).or_default().push(entry);
    }
    let people = all.into_iter().map(|((name, role), entries)| {
        let mut studies: Vec<_> = entries
            .iter()
            .filter_map(|e| e.study_uid.as_ref())
            .collect();
        studies.sort_unstable();
        studies.dedup();
        let moment = |at: Option<i64>| at.map_or_else(String::new, |at| exact_time(at, zone));
        Person {
            name: name.to_owned(),
            role: role.to_owned(),
            times: entries.len(),
            studies: studies.len(),
            first: moment(entries.iter().map(|e| e.at_ms).min()),
            last: moment(entries.iter().map(|e| e.at_ms).max()),
        }
    });
    people.collect()
}
