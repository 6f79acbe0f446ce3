//! `/deliveries`: destinations with their health, what waits, what was given up, what was sent.
//!
//! Administrators resend, skip, pause and send a test; auditors look. No name of a patient is on it: what a
//! destination answers in its own words is on the delivery's own page, covered.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use tracing::info;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::gate::{Visitor, check_csrf};
use super::view::Frame;
use super::words;
use crate::alerts::links::short_code;
use crate::fhir::subscription::Subscription;
use crate::outbox::machine::Order;
use crate::store::accounts::Role;
use crate::store::deliveries::{DeliveryRow, DestinationHealth};
use crate::store::outbox::{ALARM, RESOLVED};
use crate::store::subscriptions::NOTICE;

/// Deliveries shown in each table.
const SHOWN: u64 = 200;

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    csrf: String,
    /// Whether this visitor may change something.
    may_steer: bool,
    destinations: Vec<Destination>,
    open: Vec<Delivery>,
    settled: Vec<Delivery>,
    on: bool,
}

struct Destination {
    name: String,
    /// "mail to mri@hospital.example", or that the settings do not name it any more.
    reached: String,
    known: bool,
    paused: Option<String>,
    health: String,
    fails: bool,
    waiting: i64,
    dead: i64,
}

/// A delivery in words; the study page shows the same.
pub(super) struct Delivery {
    pub id: i64,
    pub created: String,
    pub destination: String,
    pub what: String,
    pub study_uid: Option<String>,
    pub state: String,
    pub class: &'static str,
    pub said: String,
    pub acknowledged: String,
    pub may_resend: bool,
    pub may_skip: bool,
}

pub(super) async fn page(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let destinations = state.store.destinations().await?;
    let subscriptions = state.store.subscriptions(None).await?;
    let open = state.store.open_deliveries(SHOWN).await?;
    let settled = state.store.settled_deliveries(SHOWN).await?;
    let rows = |rows: Vec<DeliveryRow>| rows.into_iter().map(|r| delivery(r, &state)).collect();
    html(&DeliveriesPage {
        frame: Frame::new("Deliveries", "deliveries", &visitor, &state),
        csrf: visitor.csrf.clone(),
        may_steer: visitor.user.role == Role::Admin,
        on: !destinations.is_empty(),
        destinations: destinations
            .into_iter()
            .map(|d| destination(d, &subscriptions, &state))
            .collect(),
        open: rows(open),
        settled: rows(settled),
    })
}

fn destination(
    d: DestinationHealth,
    subscriptions: &[Subscription],
    state: &WebState,
) -> Destination {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let at = |ms| words::clock_time(ms, now_ms, zone);
    let made = state.alerts.made.get();
    let mut all = state.alerts.destinations.iter().chain(made.iter());
    let settings = all.find(|s| s.name == d.name);
    let subscription = subscriptions.iter().find(|s| s.destination() == d.name);
    let objects_to = state.objects_reached(&d.name);
    let fails = d.fails();
    let last = d.delivered_at.map(at);
    let health = match (fails || d.failures > 0, last, &d.last_error) {
        (true, last, Some(why)) => {
            let tried = words::counted(u64::try_from(d.failures).unwrap_or(0), "failed attempt");
            let last = last.map_or("never".to_owned(), |at| format!("last {at}"));
            format!("{tried} since it last took something ({last}): {why}")
        }
        (_, Some(at), _) => format!("Took a message {at}"),
        (_, None, _) => "Nothing sent yet".to_owned(),
    };
    let reached = settings
        .map(|s| format!("{} to {}", s.channel.as_str(), s.to))
        .or_else(|| objects_to.map(|to| format!("DICOM to {to}")))
        .or_else(|| subscription.map(|s| format!("FHIR to {}: {}", s.host(), s.criteria)))
        .or(d.reached);
    Destination {
        known: reached.is_some(),
        reached: reached.unwrap_or_else(|| "not in the settings any more".to_owned()),
        paused: d.paused_at.map(|ms| {
            let by = d.paused_by.as_deref().unwrap_or("someone");
            format!("since {} by {by}", at(ms))
        }),
        name: d.name,
        health,
        fails,
        waiting: d.waiting,
        dead: d.dead,
    }
}

pub(super) fn delivery(row: DeliveryRow, state: &WebState) -> Delivery {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let at = |ms| words::clock_time(ms, now_ms, zone);
    let what = match (row.band(), row.study_uid.as_deref(), row.carries) {
        (Some(band), Some(uid), 0) => format!("{}, {}", words::band(band), short_code(uid)),
        (Some(band), Some(uid), n) => {
            format!("{}, {} and {n} more", words::band(band), short_code(uid))
        }
        (None, Some(uid), _) => match row.object_kind.as_deref() {
            Some(object) => format!("{}, {}", words::object(object), short_code(uid)),
            None if row.kind == NOTICE => format!("FHIR notification, {}", short_code(uid)),
            None => format!("Result, {}", short_code(uid)),
        },
        _ => "Test message".to_owned(),
    };
    let what = match row.kind.as_str() {
        ALARM => format!("Alarm, nobody reached: {what}"),
        RESOLVED => format!("Resolved: {what}"),
        _ => what,
    };
    let acknowledged = row.acknowledged_at.map(|ms| {
        let by = row.acknowledged_by.as_deref().unwrap_or("someone");
        format!("{} by {by}", at(ms))
    });
    Delivery {
        id: row.id,
        created: at(row.created_at),
        what,
        state: in_words(&row.state, row.attempts, row.due_at, row.settled_at, state),
        class: class(&row.state),
        said: said(row.said, row.commitment.as_deref()),
        acknowledged: acknowledged.unwrap_or_default(),
        may_resend: matches!(row.state.as_str(), "waiting" | "dead" | "skipped"),
        may_skip: matches!(row.state.as_str(), "waiting" | "dead"),
        destination: row.destination,
        study_uid: row.study_uid,
    }
}

/// What the last attempt came to, and what the destination says of keeping what it got.
pub(super) fn said(said: Option<String>, commitment: Option<&str>) -> String {
    let kept = commitment.and_then(words::commitment).map(str::to_owned);
    let all: Vec<String> = [said, kept].into_iter().flatten().collect();
    all.join("; ")
}

fn class(state: &str) -> &'static str {
    match state {
        "dead" => "critical",
        "waiting" | "sending" => "elevated",
        _ => "routine",
    }
}

/// "Waiting, tried 3 times, next 13:05", "Delivered 13:05".
fn in_words(
    delivery_state: &str,
    attempts: i64,
    due_at: i64,
    settled_at: Option<i64>,
    state: &WebState,
) -> String {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let at = |ms: i64| words::exact_time(ms, zone)[11..].to_owned();
    let settled = settled_at.map_or_else(String::new, |ms| words::clock_time(ms, now_ms, zone));
    let tried = words::counted(u64::try_from(attempts).unwrap_or(0), "attempt");
    match delivery_state {
        "waiting" if attempts == 0 => "Waits its turn".to_owned(),
        "waiting" => format!("Waits after {tried}, next at {}", at(due_at)),
        "sending" => format!("Is being sent, {tried}"),
        "delivered" => format!("Delivered {settled}"),
        "dead" => format!("Given up {settled} after {tried}"),
        _ => format!("Skipped {settled}"),
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    csrf: String,
    action: String,
}

/// `POST /deliveries/{id}` with action `resend` or `skip`.
pub(super) async fn steer(
    id: web::Path<i64>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    wanted: web::Form<Wanted>,
) -> Result<HttpResponse, PageError> {
    check_csrf(&wanted.csrf, &visitor)?;
    let by = &visitor.user.name;
    let order = match wanted.action.as_str() {
        "resend" => Order::Resend,
        "skip" => Order::Skip(format!("skipped by {by}")),
        _ => return Err(unknown_action()),
    };
    let now_ms = state.clock.now_ms();
    if !state.store.steer_delivery(*id, &order, now_ms).await? {
        let detail = "It does not stand so any more. Reload the page.";
        return Err(Problem::new(actix_web::http::StatusCode::CONFLICT, "moved_on", detail).into());
    }
    info!(
        delivery.id = *id,
        action = wanted.action,
        user = by,
        "a delivery was steered"
    );
    back(&state).await
}

/// `POST /destinations/{name}` with action `pause`, `resume` or `test`.
pub(super) async fn destination_action(
    name: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    wanted: web::Form<Wanted>,
) -> Result<HttpResponse, PageError> {
    check_csrf(&wanted.csrf, &visitor)?;
    let now_ms = state.clock.now_ms();
    let by = visitor.user.name.as_str();
    let found = match wanted.action.as_str() {
        "pause" => {
            state
                .store
                .pause_destination(&name, Some(by), now_ms)
                .await?
        }
        "resume" => state.store.pause_destination(&name, None, now_ms).await?,
        "test" => state.store.send_test(&name, now_ms).await?,
        _ => return Err(unknown_action()),
    };
    if !found {
        return Err(Problem::not_found("There is no such destination.").into());
    }
    info!(destination = %name, action = wanted.action, user = by, "a destination was steered");
    back(&state).await
}

fn unknown_action() -> PageError {
    Problem::bad_request(
        "unknown_action",
        "This is not something that can be done here.",
    )
    .into()
}

/// To the page, with the warning on all pages as it is now.
async fn back(state: &WebState) -> Result<HttpResponse, PageError> {
    let failing = state.store.failing_destinations().await?;
    state.health.failing_destinations.set(failing);
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/deliveries"))
        .finish())
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn what_a_destination_promises_is_said_beside_its_answer() {
        let stored = || Some("stored".to_owned());
        assert_eq!(said(stored(), None), "stored");
        assert_eq!(
            said(stored(), Some("committed")),
            "stored; promised to keep it"
        );
        assert_eq!(
            said(None, Some("requested")),
            "asked to keep it, not answered yet"
        );
        assert_eq!(said(None, Some("failed")), "says that it does not keep it");
        assert_eq!(said(None, Some("odd")), "");
    }
}
