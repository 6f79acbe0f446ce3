//! `/fhir/Subscription`: create, read, search and delete. A token sees its own; an administrator's all.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;
use tracing::info;

use super::WebState;
use super::answer::Problem;
use super::fhir::{FhirError, answer, base};
use super::filters::parameters;
use crate::fhir::subscription::{self, Subscription};
use crate::fhir::{FhirSettings, bundle};
use crate::outbox::http::Endpoint;
use crate::secrets::Vault;
use crate::store::accounts::{Role, TokenHolder};
use crate::store::subscriptions::SUBSCRIPTIONS_MAX;

/// The type's name.
pub(super) const SUBSCRIPTION: &str = "Subscription";

/// What taking subscriptions needs.
pub struct Subscribing {
    /// Which hosts may be notified.
    pub settings: FhirSettings,
    /// Seals the headers of notifications.
    pub vault: Arc<Vault>,
}

/// `POST /fhir/Subscription`
pub(super) async fn create(
    req: HttpRequest,
    body: web::Bytes,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, FhirError> {
    let subscribing = state.subscribing.as_ref().ok_or_else(|| {
        Problem::forbidden("no_subscriptions", "Subscriptions are not taken here.")
    })?;
    let resource: Value = serde_json::from_slice(&body)
        .map_err(|_| Problem::bad_request("bad_json", "The body is no JSON."))?;
    let refuse = |why: String| Problem::unprocessable("bad_subscription", format!("{why}."));
    let now_ms = state.clock.now_ms();
    let wanted = subscription::read(&resource, now_ms).map_err(refuse)?;
    let endpoint = Endpoint::parse(&wanted.endpoint).map_err(refuse)?;
    subscribing.settings.admits(&endpoint).map_err(refuse)?;
    let headers = serde_json::to_string(&wanted.headers).unwrap_or_default();
    let sealed = (!wanted.headers.is_empty())
        .then(|| subscribing.vault.seal(&headers))
        .transpose()
        .map_err(|why| Problem::internal(&std::io::Error::other(why)))?;
    let made = state
        .store
        .subscribe(&wanted, sealed, &holder.name, now_ms)
        .await?
        .ok_or_else(|| {
            let detail = format!(
                "There are {SUBSCRIPTIONS_MAX} subscriptions already: delete one that is not needed."
            );
            Problem::unprocessable("too_many", detail)
        })?;
    state.roll_call.notify_one();
    info!(
        subscription.id = made.id,
        token = holder.name,
        "a FHIR client subscribed"
    );
    let mut response = answer(StatusCode::CREATED, &made.resource(now_ms));
    let place = format!("{}/{SUBSCRIPTION}/{}", base(&req, &state), made.id);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// `GET /fhir/Subscription?_id=&status=`
pub(super) async fn search(
    req: HttpRequest,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, FhirError> {
    let of = whose(&holder);
    let now_ms = state.clock.now_ms();
    let all = state.store.subscriptions(of).await?;
    let mut found: Vec<Value> = all.iter().map(|s| s.resource(now_ms)).collect();
    for (name, value) in parameters(&req) {
        match name.as_str() {
            "_id" => found.retain(|s| s["id"] == value.as_str()),
            "status" => found.retain(|s| s["status"] == value.as_str()),
            // all there are fit on one page
            "_format" | "_count" => {}
            other => {
                let detail =
                    format!("{other:?} is no search parameter here; there are _id, status.");
                return Err(Problem::bad_request("unknown_parameter", detail).into());
            }
        }
    }
    let total = Some(found.len() as u64);
    let page = bundle(&base(&req, &state), found, total, &[]);
    Ok(answer(StatusCode::OK, &page))
}

/// `GET /fhir/Subscription/{id}`
pub(super) async fn read(
    id: web::Path<String>,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, FhirError> {
    let found = one(&id, &state, &holder).await?;
    let resource = found.resource(state.clock.now_ms());
    Ok(answer(StatusCode::OK, &resource))
}

/// `DELETE /fhir/Subscription/{id}`: what was still to be sent is not sent.
pub(super) async fn remove(
    id: web::Path<String>,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, FhirError> {
    let found = one(&id, &state, &holder).await?;
    let now_ms = state.clock.now_ms();
    state
        .store
        .unsubscribe(found.id, &holder.name, now_ms)
        .await?;
    state.roll_call.notify_one();
    info!(
        subscription.id = found.id,
        token = holder.name,
        "a FHIR client ended its subscription"
    );
    Ok(HttpResponse::NoContent().finish())
}

/// A subscription that this token may see.
async fn one(id: &str, state: &WebState, holder: &TokenHolder) -> Result<Subscription, FhirError> {
    let of = whose(holder);
    let found = match id.parse() {
        Ok(id) => state.store.subscription(id).await?,
        Err(_) => None,
    };
    let found = found.filter(|s| of.is_none_or(|name| s.made_by == name));
    found.ok_or_else(|| Problem::not_found("There is no Subscription with this id.").into())
}

/// Whose subscriptions a token sees; `None` for all.
fn whose(holder: &TokenHolder) -> Option<&str> {
    (holder.role != Role::Admin).then_some(&holder.name)
}
