//! Deeds: what a request changes is done to its end, and is in the audit trail, whether or not its client stays.
//!
//! A connection that breaks ends the work on its request, wherever that stands. A change could then be there without
//! its entry, and a wrong password uncounted while its check goes on. So a deed begins once all that its client has to
//! say is there, and is then no longer its client's.

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{Error, HttpResponse, web};

use super::answer::Problem;
use super::client::address_of;
use super::gate::refusal;
use super::{WebState, trail};
use crate::porch::Place;

/// What browsers send forms as.
const FORM: &str = "application/x-www-form-urlencoded";
/// A sign-in, though a browser only follows a link to it.
const SIGNED_ON: &str = "/login/sso/back";
/// When to try again where too many deeds are under way.
const BUSY_SECONDS: i64 = 2;

/// Whether a request may change something.
pub(super) fn is_deed(req: &ServiceRequest) -> bool {
    *req.method() != Method::GET || req.path() == SIGNED_ON
}

/// Waits until all of a request is there, and refuses a form with a NUL in it: no text here has one, and PostgreSQL
/// keeps none. What was read is put back for the handler.
pub(super) async fn whole(req: &mut ServiceRequest) -> Result<(), HttpResponse> {
    let Ok(body) = req.extract::<web::Bytes>().await else {
        let detail = "What was sent did not come whole, or is too large.";
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_body", detail);
        return Err(refusal(req.path(), &problem));
    };
    let kind = req.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|k| k.as_bytes().starts_with(FORM.as_bytes()));
    if is_form && has_nul(&body) {
        return Err(refusal(req.path(), &nul()));
    }
    req.set_payload(Payload::from(body));
    Ok(())
}

/// Whether a percent-encoded text has a NUL.
pub(super) fn has_nul(text: &[u8]) -> bool {
    text.contains(&0) || text.windows(3).any(|three| three == b"%00")
}

pub(super) fn nul() -> Problem {
    Problem::bad_request(
        "nul",
        "A NUL character is in what was sent; nothing here has one.",
    )
}

/// A place among the deeds under way, by the client's address: without its connection nothing else bounds them.
pub(super) fn place(req: &ServiceRequest) -> Result<Option<Place>, Problem> {
    let Some(state) = req.app_data::<web::Data<WebState>>() else {
        return Ok(None);
    };
    let from = address_of(req.request(), &state.settings.trusted_proxies);
    let Some(from) = from else {
        return Ok(None);
    };
    state.deeds.take(from).map(Some).map_err(|_| {
        let detail = "Too much is being done at one time. Try again in a moment.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(BUSY_SECONDS)
    })
}

/// Goes on with `work` even where nobody waits for it any more, and keeps what it was in the trail.
pub(super) async fn to_its_end(
    work: impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> + 'static,
    place: Option<Place>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let done = actix_web::rt::spawn(async move {
        let _place = place;
        Ok(trail::keep(work.await?).await)
    });
    done.await.unwrap_or_else(|broke| {
        let response = Problem::internal(&broke).page();
        Err(InternalError::from_response("a deed broke", response).into())
    })
}
