//! `/fhir`: FHIR R4, read and search, and the priority of a `ServiceRequest`. Errors are `OperationOutcome`.

mod search;

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde_json::Value;

use self::search::{Search, of_ids};
use super::WebState;
use super::answer::Problem;
use super::filters::parameters;
use super::shown;
use super::subscriptions::SUBSCRIPTION;
use super::trail::note;
use crate::clock::rfc3339;
use crate::fhir::{self, Study};
use crate::store::StoreError;
use crate::store::accounts::TokenHolder;

/// A problem that a FHIR client meets.
#[derive(Debug)]
pub(super) struct FhirError(Problem);

impl fmt::Display for FhirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl ResponseError for FhirError {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        outcome(&self.0)
    }
}

impl From<Problem> for FhirError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for FhirError {
    fn from(cause: StoreError) -> Self {
        Self(Problem::internal(&cause))
    }
}

/// A problem as an `OperationOutcome` (issue types of R4 4.3.10).
pub(super) fn outcome(problem: &Problem) -> HttpResponse {
    let code = match problem.status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => "invalid",
        StatusCode::UNAUTHORIZED => "login",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not-found",
        StatusCode::METHOD_NOT_ALLOWED => "not-supported",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG => "too-long",
        _ => "exception",
    };
    let body = fhir::operation_outcome(code, &problem.detail);
    let mut response = answer(problem.status, &body);
    // headers that belong to the problem, such as WWW-Authenticate
    for (name, value) in problem.json().headers() {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

pub(super) fn answer(status: StatusCode, body: &Value) -> HttpResponse {
    let mut response = HttpResponse::build(status).body(body.to_string());
    let kind = HeaderValue::from_static(fhir::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `GET /fhir/metadata`
pub(super) async fn metadata(state: web::Data<WebState>) -> HttpResponse {
    let at = rfc3339(state.clock.now_ms());
    answer(StatusCode::OK, &fhir::capability_statement(&at))
}

/// `GET /fhir/{type}?_id=&identifier=&subject:identifier=&_count=&_offset=`
pub(super) async fn search(
    req: HttpRequest,
    kind: web::Path<String>,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, FhirError> {
    known_type(&kind)?;
    let given = parameters(&req);
    let base = base(&req, &state);
    let search = Search::read(&kind, &given)?;
    if kind.as_str() == "Device" {
        let ours = search.wants(fhir::DEVICE_ID) && search.offset == 0;
        let found: Vec<Value> = ours.then(fhir::device).into_iter().collect();
        let total = Some(found.len() as u64);
        let page = fhir::bundle(&base, found, total, &[]);
        return Ok(answer(StatusCode::OK, &page));
    }
    let (studies, total) = state
        .store
        .studies_page(
            &search.filter,
            search.offset,
            search.count,
            state.held_since_ms(),
        )
        .await?;
    let (mut found, mut numbers) = (Vec::new(), Vec::new());
    for (key, detail) in studies {
        let mut of_study = fhir::resources(&kind, &Study { key, detail }).unwrap_or_default();
        of_study.retain(|r| r["id"].as_str().is_some_and(|id| search.wants(id)));
        if !of_study.is_empty() {
            numbers.push(key);
        }
        found.extend(of_study);
    }
    let asked = format!("{kind}?{}", req.query_string());
    shown::fhir(&state, &holder.name, asked, &numbers);
    let page = |offset: u64| {
        let mut query: Vec<String> = given
            .iter()
            .filter(|(name, _)| name != "_offset" && name != "_count")
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        query.push(format!("_count={}&_offset={offset}", search.count));
        format!("{base}/{kind}?{}", query.join("&"))
    };
    let mut links = vec![("self", page(search.offset))];
    if search.offset + search.count < total {
        links.push(("next", page(search.offset + search.count)));
    }
    if search.offset > 0 {
        links.push(("previous", page(search.offset.saturating_sub(search.count))));
    }
    let one_each = kind.as_str() != "Observation";
    let total = one_each.then_some(total);
    let bundle = fhir::bundle(&base, found, total, &links);
    Ok(answer(StatusCode::OK, &bundle))
}

/// `GET /fhir/{type}/{id}`
pub(super) async fn read(
    req: HttpRequest,
    path: web::Path<(String, String)>,
    state: web::Data<WebState>,
) -> Result<HttpResponse, FhirError> {
    let (kind, id) = path.into_inner();
    let (found, study_uid) = resource(&kind, &id, &state).await?;
    // the id of an observation does not say which study it is of
    note(&req, |n| n.study_uid = study_uid);
    Ok(answer(StatusCode::OK, &found))
}

/// `PUT /fhir/ServiceRequest/{id}`: its priority, as an order of the RIS; anything else stays as it is.
pub(super) async fn update(
    path: web::Path<(String, String)>,
    body: web::Bytes,
    state: web::Data<WebState>,
    holder: web::ReqData<TokenHolder>,
) -> Result<HttpResponse, FhirError> {
    let (kind, id) = path.into_inner();
    if kind != "ServiceRequest" {
        let detail = "Only the priority of a ServiceRequest can be updated.";
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "read_only", detail).into());
    }
    let wanted: Value = serde_json::from_slice(&body)
        .map_err(|e| Problem::bad_request("bad_json", format!("The body is no JSON: {e}.")))?;
    if wanted["resourceType"] != "ServiceRequest" || wanted["id"] != id.as_str() {
        let detail = "Send a ServiceRequest with the id of the address.";
        return Err(Problem::bad_request("wrong_resource", detail).into());
    }
    let priority = wanted["priority"].as_str();
    let priority = priority.and_then(fhir::subscription::priority);
    let priority = priority.ok_or_else(|| {
        let detail = "priority must be routine, urgent, asap or stat.";
        Problem::unprocessable("unknown_priority", detail)
    })?;
    // also says whether it exists
    let (before, _) = resource(&kind, &id, &state).await?;
    let accession = before["identifier"][0]["value"]
        .as_str()
        .unwrap_or_default();
    let source = format!("fhir:{}", holder.name);
    let now_ms = state.clock.now_ms();
    let moved = state
        .store
        .set_order(accession, priority, &source, &state.ranker, now_ms)
        .await?;
    for study_uid in &moved {
        state.news.tell(study_uid);
    }
    let (after, _) = resource(&kind, &id, &state).await?;
    Ok(answer(StatusCode::OK, &after))
}

/// A resource, and the study that it is of.
async fn resource(
    kind: &str,
    id: &str,
    state: &WebState,
) -> Result<(Value, Option<String>), FhirError> {
    known_type(kind)?;
    let missing = || Problem::not_found(format!("There is no {kind} with this id."));
    if kind == "Device" {
        return if id == fhir::DEVICE_ID {
            Ok((fhir::device(), None))
        } else {
            Err(missing().into())
        };
    }
    let filter = of_ids(kind, &[id.to_owned()]);
    let page = state
        .store
        .studies_page(&filter, 0, 1, state.held_since_ms());
    let (studies, _) = page.await?;
    for (key, detail) in studies {
        let uid = detail.item.study_uid.clone();
        let all = fhir::resources(kind, &Study { key, detail }).unwrap_or_default();
        if let Some(found) = all.into_iter().find(|r| r["id"] == id) {
            return Ok((found, Some(uid)));
        }
    }
    Err(missing().into())
}

fn known_type(kind: &str) -> Result<(), Problem> {
    if fhir::TYPES.contains(&kind) {
        return Ok(());
    }
    let types = fhir::TYPES.join(", ");
    let detail = format!("Resource types here: {types}, {SUBSCRIPTION}.");
    Err(Problem::not_found(detail))
}

/// Address of this server as the client wrote it. What proxies or a sender say besides (`Forwarded`,
/// `X-Forwarded-Host`) is not believed: anybody can write it.
pub(super) fn base(req: &HttpRequest, state: &WebState) -> String {
    let scheme = if state.settings.secures_cookies() {
        "https"
    } else {
        "http"
    };
    let named = req.headers().get(header::HOST);
    let named = named.and_then(|host| host.to_str().ok());
    let plain = |host: &&str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        !host.is_empty() && host.bytes().all(fits)
    };
    let host = named.filter(plain).unwrap_or("localhost");
    format!("{scheme}://{host}/fhir")
}

fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
