//! `/deliveries/{id}`: one message as it went out, and what it was answered. Each look is kept.
//!
//! What tells people says nothing about patients. What tells systems does, and their answers may repeat it:
//! both are covered until someone asks for them by a button, and that is kept too.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::deliveries::{Delivery, delivery};
use super::gate::{Visitor, check_csrf};
use super::trail::note;
use super::view::Frame;
use super::words;
use crate::store::messages::MessageView;
use crate::store::outbox::{ALARM, ALERT, RESOLVED, TEST};

/// What stands for what is covered.
const COVERED: &str = "...";
/// Segments of HL7 v2 that say nothing about the patient: header, answers, errors, observations.
const OPEN_SEGMENTS: [&str; 5] = ["MSH", "MSA", "ERR", "OBX", "TQ1"];

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage {
    frame: Frame,
    csrf: String,
    delivery: Delivery,
    message: Option<String>,
    said_at: String,
    /// What the destination answered in its own words.
    answer: Option<String>,
    covered: bool,
    views: Vec<View>,
}

/// Someone looked.
pub(super) struct View {
    pub at: String,
    pub who: String,
    pub uncovered: bool,
}

impl View {
    pub fn new(view: MessageView, at: impl Fn(i64) -> String) -> Self {
        Self {
            at: at(view.at),
            who: view.who,
            uncovered: view.uncovered,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Asked {
    csrf: String,
}

pub(super) async fn page(
    req: HttpRequest,
    id: web::Path<i64>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    show(&req, *id, false, &state, &visitor).await
}

/// `POST /deliveries/{id}/message`: the same with what identifies the patient.
pub(super) async fn uncover(
    req: HttpRequest,
    id: web::Path<i64>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    asked: web::Form<Asked>,
) -> Result<HttpResponse, PageError> {
    check_csrf(&asked.csrf, &visitor)?;
    show(&req, *id, true, &state, &visitor).await
}

async fn show(
    req: &HttpRequest,
    id: i64,
    uncovered: bool,
    state: &WebState,
    visitor: &Visitor,
) -> Result<HttpResponse, PageError> {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let who = &visitor.user.name;
    let found = state.store.view_message(id, who, uncovered, now_ms).await?;
    let Some((row, said)) = found else {
        return Err(Problem::not_found("There is no such delivery.").into());
    };
    if uncovered {
        // the number of a delivery does not say whom its message names
        note(req, |n| n.study_uid.clone_from(&row.study_uid));
    }
    let at = |ms| words::exact_time(ms, zone);
    let said_at = said.as_ref().map(|s| at(s.at)).unwrap_or_default();
    let (whole, answer) = said.map_or((None, None), |s| (s.message, s.answer));
    let hidden = whole.as_ref().and_then(|m| cover(&row.kind, m));
    // Its words may repeat what it was sent.
    let closed = answer.is_some() && !is_nobodys(&row.kind);
    let covered = (hidden.is_some() || closed) && !uncovered;
    let message = if covered { hidden.or(whole) } else { whole };
    let answer = answer.map(|words| {
        if covered && closed {
            COVERED.to_owned()
        } else {
            words
        }
    });
    let views = state.store.message_views(id).await?;
    html(&MessagePage {
        frame: Frame::new("Message", "deliveries", visitor, state),
        csrf: visitor.csrf.clone(),
        delivery: delivery(row, state),
        // Segments of HL7 v2 end in a carriage return, which no browser breaks a line at.
        message: message.map(|m| m.replace("\r\n", "\n").replace('\r', "\n")),
        said_at,
        answer,
        covered,
        views: views.into_iter().map(|v| View::new(v, at)).collect(),
    })
}

/// Whether messages of a kind say nothing about patients, so that no answer to them can.
fn is_nobodys(kind: &str) -> bool {
    [ALERT, ALARM, RESOLVED, TEST].contains(&kind)
}

/// A message without what may identify the patient; `None` where nothing in it can.
pub(super) fn cover(kind: &str, message: &str) -> Option<String> {
    if is_nobodys(kind) {
        return None;
    }
    if !message.starts_with("MSH") {
        return Some(COVERED.to_owned());
    }
    let covered = |line: &str| {
        let name = line.split('|').next().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        if OPEN_SEGMENTS.contains(&name) {
            line.to_owned()
        } else if name.len() == 3 && name.chars().all(is_name) {
            format!("{name}|{COVERED}")
        } else {
            COVERED.to_owned()
        }
    };
    let lines = message.split(['\r', '\n']).filter(|line| !line.is_empty());
    Some(lines.map(covered).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_nothing_of_the_patient_is_open() {
        let check = |kind: &str, message: &str, expected: Option<&str>| {
            assert_eq!(cover(kind, message).as_deref(), expected, "{kind}");
        };
        check("alert", "Urgent #3 K7QF", None);
        check(
            "hl7",
            "MSH|^~\\&|A\rPID|1||PAT-1||Doe^Jane\rOBR|1|ACC\rOBX|1|NM|x||2\r",
            Some("MSH|^~\\&|A\nPID|...\nOBR|...\nOBX|1|NM|x||2"),
        );
        check("fhir", "{\"name\": \"Doe\"}", Some("..."));
        check("hl7", "MSHx\rDoe Jane", Some("...\n..."));
    }
}
