//! The gate that every request passes: rule, identity, role, origin; and the headers every answer gets.

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use subtle::ConstantTimeEq;

use super::WebState;
use super::answer::Problem;
use super::deeds::{self, has_nul, nul};
use super::routes::{self, Access};
use super::scopes::scope_of;
use super::shown;
use super::trail;
use crate::store::accounts::{Role, TokenHolder, User};

/// Name of the session cookie.
pub(super) const SESSION_COOKIE: &str = "firstread_session";
/// Where somebody may go whose password must be changed first.
const BEFORE_CHANGE: [&str; 3] = ["/account", "/account/password", "/logout"];
/// Longest path with query; longer ones are nobody's honest wish.
const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Only our own files, nothing inline, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=()",
    ),
];

/// A person at a signed-in browser.
#[derive(Clone)]
pub(super) struct Visitor {
    pub user: User,
    /// What its forms must carry.
    pub csrf: String,
    /// The cookie's value.
    pub secret: String,
    /// The password was set by somebody else and must be changed first.
    pub must_change: bool,
}

/// Refuses a form that was not made for this visitor's session.
pub(super) fn check_csrf(given: &str, visitor: &Visitor) -> Result<(), Problem> {
    if equal(given, &visitor.csrf) {
        return Ok(());
    }
    let detail = "The page was open for too long. Reload it and try again.";
    Err(Problem::forbidden("csrf", detail))
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub(super) fn equal(a: &str, b: &str) -> bool {
    !a.is_empty() && bool::from(a.as_bytes().ct_eq(b.as_bytes()))
}

impl Visitor {
    /// Whether this person works through the list, and not only looks at it.
    pub fn may_work(&self) -> bool {
        Role::READERS.contains(&self.user.role)
    }
}

/// Puts the protective headers on every answer, and a limit on how long it may take.
pub(super) async fn protect(
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let seconds = state(&req).map_or(1, |s| s.settings.request_timeout_seconds);
    let hsts = state(&req).and_then(|s| s.settings.hsts());
    let limit = Duration::from_secs(seconds);
    if let Ok(answered) = tokio::time::timeout(limit, next.call(req)).await {
        let mut response = answered?;
        put_headers(response.headers_mut(), hsts.as_deref());
        return Ok(response);
    }
    let problem = Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "timeout",
        "The request took too long.",
    );
    let mut response = problem.json();
    put_headers(response.headers_mut(), hsts.as_deref());
    Err(InternalError::from_response("request timeout", response).into())
}

fn put_headers(headers: &mut HeaderMap, hsts: Option<&str>) {
    if let Some(Ok(hsts)) = hsts.map(HeaderValue::from_str) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    }
    for (name, value) in HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Lets a request through to its handler only when its rule allows it.
pub(super) async fn check(
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut admitted = admit(&req).await;
    if !deeds::is_deed(&req) {
        let response = match admitted {
            Ok(()) => next.call(req).await?,
            Err(response) => req.into_response(response),
        };
        return Ok(trail::keep(response).await);
    }
    let mut req = req;
    let mut place = None;
    if admitted.is_ok() {
        admitted = deeds::whole(&mut req).await;
    }
    if admitted.is_ok() {
        admitted = match deeds::place(&req) {
            Ok(free) => {
                place = free;
                Ok(())
            }
            Err(full) => Err(refusal(req.path(), &full)),
        };
    }
    let work = async move {
        match admitted {
            Ok(()) => next.call(req).await,
            Err(response) => Ok(req.into_response(response)),
        }
    };
    deeds::to_its_end(work, place).await
}

async fn admit(req: &ServiceRequest) -> Result<(), HttpResponse> {
    let path = req.path();
    let refuse = |problem: Problem| refusal(path, &problem);
    if req.uri().path_and_query().map_or(0, |t| t.as_str().len()) > TARGET_BYTES_MAX {
        let detail = "The address is too long.";
        return Err(refuse(Problem::new(
            StatusCode::URI_TOO_LONG,
            "too_long",
            detail,
        )));
    }
    if has_nul(req.uri().path().as_bytes()) {
        return Err(refuse(Problem::not_found(
            "There is nothing at this address.",
        )));
    }
    if has_nul(req.query_string().as_bytes()) {
        return Err(refuse(nul()));
    }
    let Some(pattern) = req.match_pattern() else {
        return Err(refuse(Problem::not_found(
            "There is nothing at this address.",
        )));
    };
    let Some(rule) = routes::rule_of(req.method(), &pattern) else {
        return Err(wrong_method(&refuse, &pattern));
    };
    if *req.method() != Method::GET && from_elsewhere(req.headers()) {
        let detail = "This came from another site. Open firstread itself and try again.";
        return Err(refuse(Problem::forbidden("cross_site", detail)));
    }
    match rule.access {
        Access::Public => Ok(()),
        Access::Page(roles) => admit_visitor(req, roles).await,
        Access::Api(roles) => {
            let scope = scope_of(req.method(), &pattern);
            admit_program(req, roles, scope).await
        }
    }
}

/// In the words of whoever asks at this address: a program or a person.
pub(super) fn refusal(path: &str, problem: &Problem) -> HttpResponse {
    if path.starts_with("/api/") || is_fhir(path) {
        for_program(path, problem)
    } else {
        problem.page()
    }
}

fn is_fhir(path: &str) -> bool {
    path.starts_with("/fhir/")
}

/// In the words of the API that a program speaks to.
fn for_program(path: &str, problem: &Problem) -> HttpResponse {
    if is_fhir(path) {
        super::fhir::outcome(problem)
    } else {
        problem.json()
    }
}

fn wrong_method(refuse: &impl Fn(Problem) -> HttpResponse, pattern: &str) -> HttpResponse {
    let allowed = routes::methods_of(pattern);
    let mut response = refuse(Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("This address answers to {allowed} only."),
    ));
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// Whether a browser says that another site made it send this. Programs say nothing.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => origin.split_once("://").is_none_or(|(_, o)| o != host),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

async fn admit_visitor(req: &ServiceRequest, roles: &[Role]) -> Result<(), HttpResponse> {
    let state = state(req).ok_or_else(no_state)?;
    let secret = req.cookie(SESSION_COOKIE).map(|c| c.value().to_owned());
    let by_itself = is_background(req);
    let session = match &secret {
        None => None,
        Some(secret) => state
            .store
            .session(
                secret,
                state.settings.session_limits(),
                !by_itself && !reloaded_itself(req.headers()),
                state.clock.now_ms(),
            )
            .await
            .map_err(|e| Problem::internal(&e).page())?,
    };
    let (Some(session), Some(secret)) = (session, secret) else {
        return Err(to_login(req, by_itself));
    };
    let role = session.user.role;
    req.extensions_mut().insert(Visitor {
        user: session.user,
        csrf: session.csrf,
        secret,
        must_change: session.must_change,
    });
    if session.must_change && !BEFORE_CHANGE.contains(&req.path()) {
        return Err(HttpResponse::SeeOther()
            .insert_header((header::LOCATION, "/account"))
            .finish());
    }
    if !roles.contains(&role) {
        let detail = format!(
            "Your role ({}) does not include this page. An administrator can change it.",
            role.as_str()
        );
        return Err(Problem::forbidden("role", detail).page());
    }
    Ok(())
}

/// Requests that a page makes by itself: they keep no session alive and are not sent to the login page.
fn is_background(req: &ServiceRequest) -> bool {
    req.path() == "/events" || shown::asked_by_script(req.request())
}

/// A page that a timer loaded again: browsers say `Sec-Fetch-User` only where a person did it.
fn reloaded_itself(headers: &HeaderMap) -> bool {
    let navigates = headers
        .get("sec-fetch-mode")
        .is_some_and(|m| m.as_bytes() == b"navigate");
    navigates && !headers.contains_key("sec-fetch-user")
}

fn to_login(req: &ServiceRequest, by_itself: bool) -> HttpResponse {
    if by_itself || *req.method() != Method::GET {
        let detail = "You are signed out. Sign in again.";
        return Problem::new(StatusCode::UNAUTHORIZED, "signed_out", detail).page();
    }
    let wanted = req.uri().path_and_query().map_or("/", |t| t.as_str());
    let location = if wanted == "/" {
        "/login".to_owned()
    } else {
        let encoded: String = wanted.bytes().fold(String::new(), |mut out, byte| {
            use std::fmt::Write as _;
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        });
        format!("/login?next={encoded}")
    };
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, location))
        .finish()
}

async fn admit_program(
    req: &ServiceRequest,
    roles: &[Role],
    scope: Option<&'static str>,
) -> Result<(), HttpResponse> {
    let refuse = |problem: Problem| for_program(req.path(), &problem);
    let given = req.headers().get(header::AUTHORIZATION);
    let secret = given
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim());
    let Some(secret) = secret else {
        let detail = "Send 'Authorization: Bearer frt_...'. An administrator makes tokens with \
                      'firstread token create NAME --role ROLE'.";
        return Err(refuse(Problem::new(
            StatusCode::UNAUTHORIZED,
            "no_token",
            detail,
        )));
    };
    let state = state(req).ok_or_else(no_state)?;
    let holder: Option<TokenHolder> = state
        .store
        .token_holder(secret, state.clock.now_ms())
        .await
        .map_err(|e| refuse(Problem::internal(&e)))?;
    let Some(holder) = holder else {
        let detail = "This token is not known here, was revoked, or has run out.";
        return Err(refuse(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unknown_token",
            detail,
        )));
    };
    let (role, in_scope) = (holder.role, scope.is_some_and(|s| holder.has(s)));
    req.extensions_mut().insert(holder);
    if !roles.contains(&role) {
        let able: Vec<&str> = roles.iter().map(|r| r.as_str()).collect();
        let detail = format!(
            "This token has the role {}; this needs {}.",
            role.as_str(),
            able.join(" or ")
        );
        return Err(refuse(Problem::forbidden("role", detail)));
    }
    if !in_scope {
        let detail = format!(
            "This token was not given the scope {:?}.",
            scope.unwrap_or("none")
        );
        return Err(refuse(Problem::forbidden("scope", detail)));
    }
    Ok(())
}

fn state(req: &ServiceRequest) -> Option<&web::Data<WebState>> {
    req.app_data::<web::Data<WebState>>()
}

/// The app was put together without its state: nothing can be decided, so nothing is let in.
fn no_state() -> HttpResponse {
    HttpResponse::InternalServerError().finish()
}
