//! `/destinations/{name}/preview`: what a destination of results would get of a real study. Each look is kept.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::gate::{Visitor, check_csrf};
use super::messages::{View, cover};
use super::trail::note;
use super::view::Frame;
use super::words;
use crate::alerts::links::short_code;
use crate::hl7::Hl7Destination;
use crate::hl7::courier::word;
use crate::store::ris::RESULT;
use crate::triage::Band;
use crate::worklist::WorklistQuery;

/// Stands in MSH-10, which each message has of its own.
const NO_CONTROL_ID: &str = "PREVIEW";
/// Studies that can be chosen.
const STUDIES_SHOWN: usize = 50;

#[derive(Template)]
#[template(path = "preview.html")]
struct PreviewPage {
    frame: Frame,
    csrf: String,
    name: String,
    studies: Vec<Choice>,
    study_uid: String,
    problem: Option<String>,
    message: Option<String>,
    would_tell: String,
    covered: bool,
    views: Vec<View>,
}

/// A study that can be chosen: no name of a patient is on it.
struct Choice {
    uid: String,
    text: String,
    here: bool,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    study: Option<String>,
    #[serde(default)]
    csrf: String,
}

pub(super) async fn page(
    req: HttpRequest,
    name: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    asked: web::Query<Asked>,
) -> Result<HttpResponse, PageError> {
    let study = asked.into_inner().study;
    show(&req, &name, study, false, &state, &visitor).await
}

/// `POST`: the same with what identifies the patient.
pub(super) async fn uncover(
    req: HttpRequest,
    name: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    asked: web::Form<Asked>,
) -> Result<HttpResponse, PageError> {
    check_csrf(&asked.csrf, &visitor)?;
    let study = asked.into_inner().study;
    show(&req, &name, study, true, &state, &visitor).await
}

async fn show(
    req: &HttpRequest,
    name: &str,
    study: Option<String>,
    uncovered: bool,
    state: &WebState,
    visitor: &Visitor,
) -> Result<HttpResponse, PageError> {
    let destination = state
        .desk
        .hl7_destination(name)
        .ok_or_else(|| Problem::not_found("There is no such destination of results."))?;
    let list = state
        .store
        .worklist(&WorklistQuery::default(), state.held_since_ms())
        .await?;
    let wanted = study.or_else(|| list.items.first().map(|i| i.study_uid.clone()));
    let studies = list.items.iter().take(STUDIES_SHOWN).map(|item| Choice {
        here: wanted.as_deref() == Some(&item.study_uid),
        text: format!(
            "{}. {}, {}",
            item.rank,
            short_code(&item.study_uid),
            words::band(item.band)
        ),
        uid: item.study_uid.clone(),
    });
    let mut page = PreviewPage {
        frame: Frame::new("Preview", "deliveries", visitor, state),
        csrf: visitor.csrf.clone(),
        name: name.to_owned(),
        studies: studies.collect(),
        study_uid: wanted.clone().unwrap_or_default(),
        problem: None,
        message: None,
        would_tell: String::new(),
        covered: false,
        views: Vec::new(),
    };
    let Some(study_uid) = wanted else {
        page.problem = Some("There is no study yet".into());
        return html(&page);
    };
    fill(
        &mut page,
        &destination,
        &study_uid,
        uncovered,
        state,
        visitor,
    )
    .await?;
    if uncovered && page.message.is_some() {
        // the form alone says of which study
        note(req, |n| n.study_uid = Some(study_uid));
    }
    html(&page)
}

async fn fill(
    page: &mut PreviewPage,
    destination: &Hl7Destination,
    study_uid: &str,
    uncovered: bool,
    state: &WebState,
    visitor: &Visitor,
) -> Result<(), PageError> {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let Some(facts) = state.store.facts_of_study(study_uid).await? else {
        return Err(Problem::not_found("There is no such study.").into());
    };
    let worded = word(&state.desk.hl7, destination, &facts, NO_CONTROL_ID, now_ms);
    let message = match worded {
        Ok(message) => message,
        Err(why) => {
            page.problem = Some(why);
            return Ok(());
        }
    };
    // nothing is shown that is not noted first
    let who = (visitor.user.name.as_str(), uncovered);
    state
        .store
        .note_preview(&destination.name, study_uid, who, now_ms)
        .await?;
    let views = state.store.preview_views(&destination.name, study_uid);
    page.views = views
        .await?
        .into_iter()
        .map(|v| View::new(v, |ms| words::exact_time(ms, zone)))
        .collect();
    let rises = facts.study.item.band >= Band::Elevated;
    if destination.tells_only_moving_up() && !rises {
        "It would not be told of this study: it does not move up.".clone_into(&mut page.would_tell);
    }
    let hidden = cover(RESULT, &message).unwrap_or_default();
    page.covered = !uncovered;
    let shown = if uncovered { message } else { hidden };
    page.message = Some(shown.replace('\r', "\n"));
    Ok(())
}
