//! What readers do with a study: claim, release, hand over, mark read, say what they think of a finding.
//!
//! Pages send forms; with `quiet` in them the page's script sent it, and wants no page back.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::WebState;
use super::answer::Problem;
use super::filters::Address;
use super::gate::Visitor;
use super::{gate, words};
use crate::store::feedback::FeedbackOutcome;
use crate::store::reading::Outcome;
use crate::worklist::{Verdict, WorklistQuery};

/// Longest comment on a finding, in characters.
pub(super) const COMMENT_CHARS_MAX: usize = 1000;

/// What can be done with a study.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deed<'a> {
    Claim,
    Release,
    /// To the account of this name.
    HandOver(&'a str),
    Read,
    Reopen,
}

/// Does it in a reader's name, and tells every open list.
pub(super) async fn act(
    state: &WebState,
    reader: &str,
    study_uid: &str,
    deed: Deed<'_>,
) -> Result<(), Problem> {
    let acting = state.acting(reader);
    let store = &state.store;
    let outcome = match deed {
        Deed::Claim => store.claim_study(study_uid, acting).await,
        Deed::Release => store.release_study(study_uid, acting).await,
        Deed::HandOver(to) => {
            let readers = store.readers().await.map_err(|e| Problem::internal(&e))?;
            if !readers.iter().any(|name| name == to) {
                let detail = "Nobody of this name reads studies here. Choose another reader.";
                return Err(Problem::unprocessable("unknown_reader", detail));
            }
            store.hand_over_study(study_uid, to, acting).await
        }
        Deed::Read => store.mark_read(study_uid, acting).await,
        Deed::Reopen => store.reopen_study(study_uid, acting).await,
    };
    match outcome.map_err(|e| Problem::internal(&e))? {
        Outcome::Done { changed } => {
            if changed {
                state.news.tell(study_uid);
            }
            Ok(())
        }
        Outcome::Unknown => Err(no_study()),
        Outcome::NotOpen => Err(Problem::new(
            StatusCode::CONFLICT,
            "not_open",
            "This study is not on the open list. Put it back there first.",
        )),
        Outcome::Held(claim) => {
            let since = words::since(claim.since_ms, acting.now_ms, state.settings.time_zone);
            let detail = format!(
                "{} has this study in hand {since}. It is free when released, or after {} min without activity.",
                claim.reader, state.settings.worklist.claim_idle_minutes
            );
            Err(Problem::new(StatusCode::CONFLICT, "held", detail))
        }
    }
}

/// Claims the first study of the list that nobody has.
pub(super) async fn next(
    state: &WebState,
    reader: &str,
    query: &WorklistQuery,
) -> Result<Option<String>, Problem> {
    let claimed = state.store.claim_next(query, state.acting(reader)).await;
    let claimed = claimed.map_err(|e| Problem::internal(&e))?;
    if let Some(study_uid) = &claimed {
        state.news.tell(study_uid);
    }
    Ok(claimed)
}

/// Keeps a reader's word on a finding.
pub(super) async fn say(
    state: &WebState,
    reader: &str,
    study_uid: &str,
    finding: &str,
    verdict: &str,
    comment: Option<&str>,
) -> Result<(), Problem> {
    let Some(verdict) = Verdict::parse(verdict) else {
        let detail = "verdict must be agree, disagree or comment.";
        return Err(Problem::unprocessable("unknown_verdict", detail));
    };
    let comment = comment.map(str::trim).filter(|c| !c.is_empty());
    if verdict == Verdict::Comment && comment.is_none() {
        let detail = "The comment is empty. Write one, or agree or disagree.";
        return Err(Problem::unprocessable("no_comment", detail));
    }
    if comment.is_some_and(|c| c.chars().count() > COMMENT_CHARS_MAX || c.contains('\0')) {
        let detail = format!("A comment has at most {COMMENT_CHARS_MAX} characters and no NUL.");
        return Err(Problem::unprocessable("bad_comment", detail));
    }
    let kept = state
        .store
        .give_feedback(study_uid, finding, verdict, comment, state.acting(reader))
        .await;
    match kept.map_err(|e| Problem::internal(&e))? {
        FeedbackOutcome::Kept { changed } => {
            if changed {
                state.news.tell(study_uid);
            }
            Ok(())
        }
        FeedbackOutcome::Unknown => Err(no_study()),
        FeedbackOutcome::NoFinding(codes) if codes.is_empty() => Err(Problem::unprocessable(
            "unknown_finding",
            "Nothing was found in the images of this study yet.",
        )),
        FeedbackOutcome::NoFinding(codes) => {
            let detail = format!("finding must be one of {}.", codes.join(", "));
            Err(Problem::unprocessable("unknown_finding", detail))
        }
    }
}

fn no_study() -> Problem {
    Problem::not_found("No study with this UID was received.")
}

/// What the forms of the list and of a study's page may carry.
#[derive(Deserialize)]
pub(super) struct Filled {
    csrf: String,
    #[serde(default)]
    quiet: String,
    /// Hand over: to whom.
    #[serde(default)]
    to: String,
    /// Feedback: the verdict, a space, the finding's code.
    #[serde(default)]
    said: String,
    #[serde(default)]
    comment: String,
    /// Next: the list, as it stands in the address bar.
    #[serde(default)]
    list: String,
}

/// A form that was sent by a page, with its sender checked.
type Sent = web::Form<Filled>;

async fn done(
    state: &WebState,
    visitor: &Visitor,
    form: &Filled,
    study_uid: &str,
    deed: Deed<'_>,
) -> HttpResponse {
    let outcome = match gate::check_csrf(&form.csrf, visitor) {
        Ok(()) => act(state, &visitor.user.name, study_uid, deed).await,
        Err(problem) => Err(problem),
    };
    let then = match deed {
        Deed::Read => format!("/worklist?read={study_uid}"),
        _ => format!("/studies/{study_uid}"),
    };
    answer(outcome.map(|()| then), form)
}

fn answer(outcome: Result<String, Problem>, form: &Filled) -> HttpResponse {
    match (outcome, form.quiet.is_empty()) {
        (Ok(then), true) => HttpResponse::SeeOther()
            .insert_header((header::LOCATION, then))
            .finish(),
        (Ok(_), false) => HttpResponse::NoContent().finish(),
        (Err(problem), true) => problem.page(),
        (Err(problem), false) => problem.json(),
    }
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident, |$form:ident| $deed:expr) => {
        $(#[$doc])*
        pub(super) async fn $name(
            study_uid: web::Path<String>,
            state: web::Data<WebState>,
            visitor: web::ReqData<Visitor>,
            form: Sent,
        ) -> HttpResponse {
            let $form = &form;
            done(&state, &visitor, $form, &study_uid, $deed).await
        }
    };
}

form!(claim, |_form| Deed::Claim);
form!(release, |_form| Deed::Release);
form!(hand_over, |form| Deed::HandOver(form.to.trim()));
form!(read, |_form| Deed::Read);
form!(undo, |_form| Deed::Reopen);

pub(super) async fn feedback(
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: Sent,
) -> HttpResponse {
    let (verdict, finding) = form.said.split_once(' ').unwrap_or((&form.said, ""));
    let outcome = match gate::check_csrf(&form.csrf, &visitor) {
        Ok(()) => {
            let comment = Some(form.comment.as_str());
            say(
                &state,
                &visitor.user.name,
                &study_uid,
                finding,
                verdict,
                comment,
            )
            .await
        }
        Err(problem) => Err(problem),
    };
    answer(outcome.map(|()| format!("/studies/{study_uid}")), &form)
}

pub(super) async fn outcome(
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: Sent,
) -> HttpResponse {
    let outcome = match gate::check_csrf(&form.csrf, &visitor) {
        Ok(()) => super::opinion::say(&state, &visitor.user.name, &study_uid, &form.said).await,
        Err(problem) => Err(problem),
    };
    answer(outcome.map(|()| format!("/studies/{study_uid}")), &form)
}

pub(super) async fn next_case(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: Sent,
) -> HttpResponse {
    answer(next_of(&state, &visitor, &form).await, &form)
}

/// Where to go from here: to the study that was claimed, or back to the list.
async fn next_of(state: &WebState, visitor: &Visitor, form: &Filled) -> Result<String, Problem> {
    gate::check_csrf(&form.csrf, visitor)?;
    let me = &visitor.user.name;
    let list = Address::parse(&form.list);
    Ok(match next(state, me, &list.asked(me)?).await? {
        Some(study_uid) => format!("/studies/{study_uid}"),
        None => list.with("assigned", "").url_and("none", "1"),
    })
}
