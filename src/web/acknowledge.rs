//! `/a/{token}`: the page behind the link of a message.
//!
//! GET only shows: mail scanners and previews follow links, and must not silence an alert.
//! POST acknowledges. It needs no sign-in, for a phone at night; the link itself is the proof, and
//! the page says nothing about the patient.

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
use crate::store::alerts::{AlertStanding, Linked};

/// Longest name that someone may sign with, in characters.
const NAME_CHARS_MAX: usize = 60;

#[derive(Template)]
#[template(path = "acknowledge.html")]
struct AcknowledgePage {
    frame: Frame,
    token: String,
    cases: Vec<Case>,
    /// Alerts that nobody acknowledged yet.
    left: usize,
}

struct Case {
    code: String,
    study_uid: String,
    band: &'static str,
    class: &'static str,
    raised: String,
    standing: String,
}

#[derive(Deserialize)]
pub(super) struct Signed {
    #[serde(default)]
    name: String,
}

pub(super) async fn page(
    token: web::Path<String>,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    let (_, linked) = linked(&token, &state).await?;
    show(token.into_inner(), linked, &state)
}

pub(super) async fn submit(
    token: web::Path<String>,
    state: web::Data<WebState>,
    signed: web::Form<Signed>,
) -> Result<HttpResponse, PageError> {
    let (delivery_id, found) = linked(&token, &state).await?;
    let by = who(&signed.name, &found.destination);
    let new = state
        .store
        .acknowledge(delivery_id, &by, state.clock.now_ms())
        .await?;
    info!(
        delivery.id = delivery_id,
        alerts = new,
        "alerts were acknowledged by a link"
    );
    let (_, after) = linked(&token, &state).await?;
    show(token.into_inner(), after, &state)
}

/// "Dr Chen (link to oncall)": who says so, and whom the link was sent to.
fn who(name: &str, destination: &str) -> String {
    let plain: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARS_MAX)
        .collect();
    match plain.trim() {
        "" => format!("link to {destination}"),
        name => format!("{name} (link to {destination})"),
    }
}

/// What the link stands for, where we made it and it is not too old.
async fn linked(token: &str, state: &WebState) -> Result<(i64, Linked), PageError> {
    let unknown = || {
        let detail = "This link is not known here, or it is too old. Open the list instead.";
        PageError::from(Problem::not_found(detail))
    };
    let id = state.alerts.links.delivery_of(token).ok_or_else(unknown)?;
    let found = state.store.linked(id).await?.ok_or_else(unknown)?;
    let age_ms = state.clock.now_ms() - found.created_ms;
    if age_ms > state.alerts.link_valid_ms {
        return Err(unknown());
    }
    Ok((id, found))
}

fn show(token: String, linked: Linked, state: &WebState) -> Result<HttpResponse, PageError> {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let left = linked
        .alerts
        .iter()
        .filter(|a| a.acknowledged.is_none() && a.reading == "open")
        .count();
    let case = |a: AlertStanding| Case {
        code: short_code(&a.study_uid),
        study_uid: a.study_uid,
        band: words::band(a.band),
        class: a.band.as_str(),
        raised: words::clock_time(a.raised_ms, now_ms, zone),
        standing: match (a.acknowledged, a.reading.as_str()) {
            (Some((at, by)), _) => {
                format!(
                    "acknowledged {} by {by}",
                    words::clock_time(at, now_ms, zone)
                )
            }
            (None, "open") => "waits for someone".to_owned(),
            (None, _) => "not in the list any more".to_owned(),
        },
    };
    html(&AcknowledgePage {
        frame: Frame::bare("Acknowledge"),
        token,
        left,
        cases: linked.alerts.into_iter().map(case).collect(),
    })
}

#[derive(Deserialize)]
pub(super) struct Pressed {
    csrf: String,
}

/// `POST /studies/{study_uid}/acknowledge`: the same for whoever is signed in, from the study's page.
pub(super) async fn in_app(
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    pressed: web::Form<Pressed>,
) -> Result<HttpResponse, PageError> {
    check_csrf(&pressed.csrf, &visitor)?;
    let (by, now_ms) = (visitor.user.name.as_str(), state.clock.now_ms());
    let done = state
        .store
        .acknowledge_study(&study_uid, by, now_ms)
        .await?;
    let Some(new) = done else {
        return Err(Problem::not_found("No study with this UID was received.").into());
    };
    info!(
        study_uid = study_uid.as_str(),
        user = by,
        alerts = new,
        "alerts were acknowledged on the page of a study"
    );
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, format!("/studies/{study_uid}")))
        .finish())
}

#[cfg(test)]
mod tests {
    use super::who;

    #[test]
    fn who_acknowledged_is_bounded_and_says_whose_link_it_was() {
        assert_eq!(who("", "room"), "link to room");
        assert_eq!(who("  ", "room"), "link to room");
        assert_eq!(who("Dr Chen", "room"), "Dr Chen (link to room)");
        assert_eq!(who("a\nb", "room"), "ab (link to room)");
        assert!(who(&"x".repeat(1000), "room").len() < 100);
    }
}
