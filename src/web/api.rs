//! `/api/v1`: what other programs read and change. Errors are RFC 9457 JSON.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::WebState;
use super::answer::{ApiError, Problem};
use super::filters::{Address, parameters, query};
use super::shown::{self, Asks};
use crate::clock::rfc3339;
use crate::store::accounts::{TokenHolder, digest};
use crate::triage::OrderPriority;

/// Longest accession number: SH in DICOM has 16, HL7 and sloppy senders have more.
const ACCESSION_BYTES_MAX: usize = 64;
/// Longest Idempotency-Key.
const KEY_BYTES_MAX: usize = 255;

/// `GET /api/v1/worklist?band=&q=&assigned=&page=`
pub(super) async fn worklist(
    req: HttpRequest,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, ApiError> {
    let given = parameters(&req);
    let asked = query(&given, &holder.name)?;
    let page = state.store.worklist(&asked, state.held_since_ms()).await?;
    let at = Address::of(&given);
    shown::list(&state, &holder.name, &at, &page, Asks::Program);
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /api/v1/studies/{study_uid}`
pub(super) async fn study(
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
) -> Result<HttpResponse, ApiError> {
    match state
        .store
        .study_detail(&study_uid, state.held_since_ms())
        .await?
    {
        Some(detail) => Ok(HttpResponse::Ok().json(detail)),
        None => Err(Problem::not_found("No study with this UID was received.").into()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedOrder {
    priority: String,
}

#[derive(Serialize)]
struct KeptOrder<'a> {
    accession: &'a str,
    priority: &'static str,
    changed_at: String,
    /// Open studies that it moved.
    study_uids: Vec<String>,
}

/// `PUT /api/v1/orders/{accession}` with an Idempotency-Key: the same request gets the same answer,
/// another request under the same key is refused.
pub(super) async fn put_order(
    req: HttpRequest,
    accession: web::Path<String>,
    body: web::Bytes,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, ApiError> {
    let accession = check_accession(&accession)?;
    // each token has keys of its own
    let key = digest(&format!("{}:{}", holder.id, idempotency_key(&req)?));
    let priority = check_order(&body)?;
    let asked = digest(&format!("PUT order\n{accession}\n{}", priority.as_str()));
    if let Some(answer) = earlier(&state, &key, &asked).await? {
        return Ok(answer);
    }
    let now_ms = state.clock.now_ms();
    let source = format!("api:{}", holder.name);
    let study_uids = state
        .store
        .set_order(accession, priority, &source, &state.ranker, now_ms)
        .await?;
    for study_uid in &study_uids {
        state.news.tell(study_uid);
    }
    let answer = serde_json::to_string(&KeptOrder {
        accession,
        priority: priority.as_str(),
        changed_at: rfc3339(now_ms),
        study_uids,
    });
    let answer = answer.map_err(|e| Problem::internal(&e))?;
    state
        .store
        .keep_answer(&key, &asked, &answer, now_ms)
        .await?;
    // where the same request ran twice at once, both get the answer that was kept
    Ok(earlier(&state, &key, &asked)
        .await?
        .unwrap_or_else(|| json(answer)))
}

/// The answer to the same request, if it came before.
async fn earlier(
    state: &WebState,
    key: &str,
    asked: &str,
) -> Result<Option<HttpResponse>, ApiError> {
    match state.store.earlier_answer(key).await? {
        None => Ok(None),
        Some((request, answer)) if request == asked => Ok(Some(json(answer))),
        Some(_) => Err(Problem::unprocessable(
            "key_reused",
            "This Idempotency-Key came with another request before. Use a new one for each change.",
        )
        .into()),
    }
}

fn json(body: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(body)
}

fn check_accession(accession: &str) -> Result<&str, Problem> {
    let trimmed = accession.trim();
    if trimmed.is_empty()
        || trimmed.len() > ACCESSION_BYTES_MAX
        || trimmed.chars().any(char::is_control)
    {
        let detail = format!(
            "An accession number has 1 to {ACCESSION_BYTES_MAX} bytes, none of them control characters."
        );
        return Err(Problem::unprocessable("bad_accession", detail));
    }
    Ok(trimmed)
}

fn idempotency_key(req: &HttpRequest) -> Result<&str, Problem> {
    let given = req.headers().get("idempotency-key");
    given
        .and_then(|v| v.to_str().ok())
        .map(str::trim)
        .filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX)
        .ok_or_else(|| {
            let detail = format!(
                "Send an Idempotency-Key header of 1 to {KEY_BYTES_MAX} bytes, a new one for each change."
            );
            Problem::bad_request("no_idempotency_key", detail)
        })
}

fn check_order(body: &[u8]) -> Result<OrderPriority, Problem> {
    let wanted: WantedOrder = serde_json::from_slice(body).map_err(|e| {
        let detail = format!("Send {{\"priority\": \"stat\"|\"asap\"|\"routine\"}}: {e}.");
        Problem::new(StatusCode::BAD_REQUEST, "bad_json", detail)
    })?;
    OrderPriority::parse(&wanted.priority).ok_or_else(|| {
        let detail = "priority must be stat, asap or routine.";
        Problem::unprocessable("unknown_priority", detail)
    })
}
