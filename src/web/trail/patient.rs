//! `/trail/patient`: who looked at the studies of one patient, and what the server sent about them by itself, for the
//! patient who asks (GDPR Article 15).

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use futures_util::{Stream, StreamExt as _, stream};

use super::super::WebState;
use super::super::answer::{PageError, Problem, html};
use super::super::deliveries::delivery;
use super::super::gate::Visitor;
use super::super::view::Frame;
use super::super::words::exact_time;
use super::note;
use super::page::{Asked, Format, Part, download, entries};
use super::words::{Row, row, way};
use crate::store::deliveries::DeliveryRow;
use crate::store::disclosed::SeenIn;
use crate::store::outbox::ALERT;
use crate::store::trail::{ActorKind, Entry, Outcome, PAGE_ENTRIES, Wanted};

/// Entries on the page, and deliveries; the export has all.
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
    sent: Vec<Sent>,
    sent_is_all: bool,
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
    way: String,
    times: u64,
    last: String,
}

/// Something that the server sent by itself and a destination took.
struct Sent {
    at: String,
    to: String,
    what: String,
    study_uid: String,
}

pub(in crate::web) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let asked = Asked::read(&req, &state)?;
    let zone = state.settings.time_zone;
    let wanted = &asked.wanted;
    let (mut found, mut lists, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(patient) = &wanted.patient_id {
        note(&req, |n| n.subject = Some(patient.clone()));
        let (store, most) = (&state.store, SHOWN + 1);
        found = store.trail_before(wanted, i64::MAX, most).await?;
        lists = store.lists_with(wanted).await?;
        sent = store.sent_about(wanted, i64::MAX, most).await?;
    }
    let is_all = cut(&mut found);
    let sent_is_all = cut(&mut sent);
    html(&PatientPage {
        frame: Frame::new("Who looked at a patient", "trail", &visitor, &state),
        patient: asked.get("patient"),
        issuer: asked.get("issuer"),
        from: asked.get("from"),
        until: asked.get("until"),
        asked: wanted.patient_id.is_some(),
        people: people(&found, zone),
        lists: lists.iter().map(|list| seen(list, zone)).collect(),
        sent: sent.into_iter().map(|row| taken(row, &state)).collect(),
        sent_is_all,
        rows: found.iter().map(|e| row(e, zone)).collect(),
        is_all,
        csv: asked.address("/trail/patient/export", "format", "csv"),
        jsonl: asked.address("/trail/patient/export", "format", "jsonl"),
    })
}

/// Cuts what the page does not show; whether there was nothing to cut.
fn cut<T>(all: &mut Vec<T>) -> bool {
    let is_all = all.len() as u64 <= SHOWN;
    all.truncate(usize::try_from(SHOWN).unwrap_or(usize::MAX));
    is_all
}

/// The same with all entries, as CSV or JSON lines: entries, then lists, then what was sent.
pub(in crate::web) async fn export(
    req: HttpRequest,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    let asked = Asked::read(&req, &state)?;
    let format = Format::parse(&asked.get("format"))?;
    let wanted = asked.wanted;
    let Some(patient) = wanted.patient_id.clone() else {
        let detail = "Say which patient: patient=ID.";
        return Err(Problem::bad_request("no_patient", detail).into());
    };
    note(&req, |n| n.subject = Some(patient));
    let lists = state.store.lists_with(&wanted).await?;
    let lists = lists.into_iter().map(|list| of_list(list, &wanted));
    let lists: Part = Ok(lists.collect());
    let all = entries(state.clone(), wanted.clone())
        .chain(stream::iter([lists]))
        .chain(sent(state, wanted));
    Ok(download(format, "patient-access", all))
}

/// What was sent, newest first, read page by page while it goes out.
fn sent(state: web::Data<WebState>, wanted: Wanted) -> impl Stream<Item = Part> {
    stream::unfold(Some(i64::MAX), move |before| {
        let (state, wanted) = (state.clone(), wanted.clone());
        async move {
            let rows = match state.store.sent_about(&wanted, before?, PAGE_ENTRIES).await {
                Ok(rows) => rows,
                Err(e) => return Some((Err(e), None)),
            };
            let last = rows.last()?.id;
            let more = rows.len() as u64 == PAGE_ENTRIES;
            let found = rows.into_iter().map(|row| of_sent(row, &wanted, &state));
            Some((Ok(found.collect()), more.then_some(last)))
        }
    })
}

fn seen(list: &SeenIn, zone: chrono_tz::Tz) -> Seen {
    Seen {
        name: list.who.clone(),
        way: way(&list.what).to_owned(),
        times: list.times,
        last: exact_time(list.last_ms, zone),
    }
}

fn taken(row: DeliveryRow, state: &WebState) -> Sent {
    let at = exact_time(row.settled_at.unwrap_or(0), state.settings.time_zone);
    let to = row.destination.clone();
    let (what, study_uid) = said(row, state);
    Sent {
        at,
        to,
        what,
        study_uid,
    }
}

/// What was sent, in words, and of which study.
fn said(row: DeliveryRow, state: &WebState) -> (String, String) {
    let is_alert = row.kind == ALERT;
    let shown = delivery(row, state);
    let what = if is_alert {
        format!("Alert: {}", shown.what)
    } else {
        shown.what
    };
    (what, shown.study_uid.unwrap_or_default())
}

/// As a line of the export. What is no entry of the trail has the number 0 and no digest.
fn line(wanted: &Wanted) -> Entry {
    Entry {
        outcome: Outcome::Done.as_str().to_owned(),
        patient_id: wanted.patient_id.clone(),
        patient_issuer: wanted.patient_issuer.clone(),
        ..Entry::default()
    }
}

fn of_list(list: SeenIn, wanted: &Wanted) -> Entry {
    let kind = match list.what.as_str() {
        "api" | "fhir" => ActorKind::Token,
        _ => ActorKind::User,
    };
    Entry {
        at_ms: list.last_ms,
        actor: list.who,
        actor_kind: kind.as_str().to_owned(),
        action: format!("shown.{}", list.what),
        detail: Some(format!("kept {} times, last then", list.times)),
        ..line(wanted)
    }
}

fn of_sent(row: DeliveryRow, wanted: &Wanted, state: &WebState) -> Entry {
    let (at_ms, to) = (row.settled_at.unwrap_or(0), row.destination.clone());
    let (what, study_uid) = said(row, state);
    Entry {
        at_ms,
        actor: "firstread".to_owned(),
        actor_kind: ActorKind::System.as_str().to_owned(),
        action: "sent".to_owned(),
        study_uid: Some(study_uid),
        subject: Some(to),
        detail: Some(what),
        ..line(wanted)
    }
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
