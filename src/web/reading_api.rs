//! The same over `/api/v1`. A token acts in the name it was made with: the reader's account.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::WebState;
use super::answer::{ApiError, Problem};
use super::filters::{parameters, query};
use super::reading::{Deed, act, next, say};
use super::trail::note;
use crate::store::accounts::TokenHolder;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandOver {
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    finding: String,
    verdict: String,
    comment: Option<String>,
}

async fn done(
    state: &WebState,
    holder: &TokenHolder,
    study_uid: &str,
    deed: Deed<'_>,
) -> Result<HttpResponse, ApiError> {
    act(state, &holder.name, study_uid, deed).await?;
    standing(state, study_uid).await
}

/// How the study stands now.
async fn standing(state: &WebState, study_uid: &str) -> Result<HttpResponse, ApiError> {
    let held_since_ms = state.held_since_ms();
    let Some(study) = state.store.study_detail(study_uid, held_since_ms).await? else {
        return Err(Problem::not_found("No study with this UID was received.").into());
    };
    Ok(HttpResponse::Ok().json(json!({
        "study_uid": study.item.study_uid,
        "reading": study.reading,
        "assigned_to": study.item.assigned_to,
        "claimed_at": study.item.claimed_at,
    })))
}

macro_rules! deed {
    ($(#[$doc:meta])* $name:ident, $deed:expr) => {
        $(#[$doc])*
        pub(super) async fn $name(
            study_uid: web::Path<String>,
            state: web::Data<WebState>,
            holder: web::ReqData<TokenHolder>,
        ) -> Result<HttpResponse, ApiError> {
            done(&state, &holder, &study_uid, $deed).await
        }
    };
}

deed!(
    /// `POST /api/v1/studies/{study_uid}/claim`: takes it, or keeps what is taken.
    claim,
    Deed::Claim
);
deed!(
    /// `DELETE /api/v1/studies/{study_uid}/claim`
    release,
    Deed::Release
);
deed!(
    /// `POST /api/v1/studies/{study_uid}/read`
    read,
    Deed::Read
);
deed!(
    /// `DELETE /api/v1/studies/{study_uid}/read`: back on the list.
    undo,
    Deed::Reopen
);

/// `POST /api/v1/studies/{study_uid}/hand-over` `{"to": ACCOUNT}`
pub(super) async fn hand_over(
    study_uid: web::Path<String>,
    body: web::Bytes,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, ApiError> {
    let wanted: HandOver = read_body(&body, "{\"to\": \"name of a reader's account\"}")?;
    done(
        &state,
        &holder,
        &study_uid,
        Deed::HandOver(wanted.to.trim()),
    )
    .await
}

/// `POST /api/v1/studies/{study_uid}/feedback` `{"finding", "verdict", "comment"}`
pub(super) async fn feedback(
    study_uid: web::Path<String>,
    body: web::Bytes,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, ApiError> {
    let form = "{\"finding\": \"code\", \"verdict\": \"agree\"|\"disagree\"|\"comment\", \"comment\": \"text\"|null}";
    let said: Feedback = read_body(&body, form)?;
    let comment = said.comment.as_deref();
    say(
        &state,
        &holder.name,
        &study_uid,
        &said.finding,
        &said.verdict,
        comment,
    )
    .await?;
    let detail = state
        .store
        .study_detail(&study_uid, state.held_since_ms())
        .await?;
    let feedback = detail.map(|d| d.feedback).unwrap_or_default();
    Ok(HttpResponse::Ok().json(json!({ "study_uid": *study_uid, "feedback": feedback })))
}

#[derive(serde::Deserialize)]
struct Said {
    outcome: String,
}

/// `POST /api/v1/studies/{study_uid}/outcome` `{"outcome"}`
pub(super) async fn outcome(
    study_uid: web::Path<String>,
    body: web::Bytes,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, ApiError> {
    let said: Said = read_body(&body, "{\"outcome\": \"unremarkable\"|\"abnormal\"}")?;
    super::opinion::say(&state, &holder.name, &study_uid, &said.outcome).await?;
    let detail = state
        .store
        .study_detail(&study_uid, state.held_since_ms())
        .await?;
    let read_as = detail.and_then(|d| d.read_as);
    Ok(HttpResponse::Ok().json(json!({ "study_uid": *study_uid, "read_as": read_as })))
}

/// `POST /api/v1/worklist/next?band=&q=`: claims the first study that nobody has; null where none is left.
pub(super) async fn next_case(
    req: HttpRequest,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, ApiError> {
    let asked = query(&parameters(&req), &holder.name)?;
    match next(&state, &holder.name, &asked).await? {
        Some(study_uid) => {
            note(&req, |n| n.study_uid = Some(study_uid.clone()));
            standing(&state, &study_uid).await
        }
        None => Ok(HttpResponse::Ok().json(json!({ "study_uid": null }))),
    }
}

fn read_body<T: serde::de::DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|e| Problem::bad_request("bad_json", format!("Send {form}: {e}.")))
}
