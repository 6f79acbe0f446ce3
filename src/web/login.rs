//! Signing in and out.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::client::address_of;
use super::filters::encoded;
use super::gate::{SESSION_COOKIE, Visitor, check_csrf, equal};
use super::trail::note;
use super::view::Frame;
use super::words;
use crate::clock::UnixMillis;
use crate::store::accounts::{NewSession, Role, User, random_hex};

/// Ties the login form to the browser it was shown in.
const FORM_COOKIE: &str = "firstread_login";
/// How long a login form may lie open.
const FORM_COOKIE_MINUTES: i64 = 60;
/// Passwords checked at once: each takes 19 MiB and a good part of a core.
static CHECKS: Semaphore = Semaphore::const_new(2);

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    form_token: String,
    next: &'a str,
    name: &'a str,
    problem: Option<String>,
    /// Address of single sign-on, and what it is called.
    sso: Option<(String, String)>,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Filled {
    form_token: String,
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct OnlyCsrf {
    csrf: String,
}

/// To each role its first page.
pub(super) async fn home(visitor: web::ReqData<Visitor>) -> HttpResponse {
    see_other(home_of(visitor.user.role))
}

fn home_of(role: Role) -> &'static str {
    match role {
        Role::Reader | Role::Admin | Role::Auditor => "/worklist",
        Role::Technologist => "/intake",
        // a program: nothing for it to see
        Role::Integration => "/account",
    }
}

pub(super) async fn form(
    state: web::Data<WebState>,
    asked: web::Query<Asked>,
) -> Result<HttpResponse, PageError> {
    let next = asked.next.as_deref().filter(|n| is_ours(n)).unwrap_or("");
    show(&state, StatusCode::OK, next, "", None)
}

fn show(
    state: &WebState,
    status: StatusCode,
    next: &str,
    name: &str,
    problem: Option<String>,
) -> Result<HttpResponse, PageError> {
    let form_token = random_hex()?;
    let mut response = html(&LoginPage {
        frame: Frame::bare("Sign in"),
        form_token: form_token.clone(),
        next,
        name,
        problem,
        sso: state.sign_on.as_ref().map(|on| {
            let label = on.sso.settings().label.clone();
            (format!("/login/sso?next={}", encoded(next)), label)
        }),
    })?;
    *response.status_mut() = status;
    let cookie = cookie(state, FORM_COOKIE, form_token)
        .path("/login")
        .max_age(Duration::minutes(FORM_COOKIE_MINUTES))
        .finish();
    response
        .add_cookie(&cookie)
        .map_err(|e| Problem::internal(&e))?;
    Ok(response)
}

pub(super) async fn submit(
    req: HttpRequest,
    state: web::Data<WebState>,
    filled: web::Form<Filled>,
) -> Result<HttpResponse, PageError> {
    let next = Some(filled.next.as_str())
        .filter(|n| is_ours(n))
        .unwrap_or("");
    let same_browser = req
        .cookie(FORM_COOKIE)
        .is_some_and(|c| equal(c.value(), &filled.form_token));
    if !same_browser {
        let problem = "The form was open for too long. Please sign in again.".to_owned();
        return show(
            &state,
            StatusCode::FORBIDDEN,
            next,
            &filled.name,
            Some(problem),
        );
    }
    note(&req, |n| n.actor = Some(filled.name.clone()));
    let from = address_of(&req, &state.settings.trusted_proxies);
    let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    match try_password(&state, &filled, from).await? {
        Tried::Fits(user) => sign_in(&req, &state, &user, next).await,
        Tried::Wrong => {
            let problem = "Name and password do not fit.".to_owned();
            let status = StatusCode::UNAUTHORIZED;
            show(&state, status, next, &filled.name, Some(problem))
        }
        Tried::LockedNow(until) => {
            note(&req, |n| n.detail = Some("locked from now on".into()));
            locked(&state, next, &filled.name, until)
        }
        Tried::Barred(Barred::Locked(until)) => {
            note(&req, |n| n.detail = Some("locked".into()));
            locked(&state, next, &filled.name, until)
        }
        Tried::Barred(Barred::Waits(seconds)) => {
            note(&req, |n| n.detail = Some("has to wait".into()));
            too_many(&state, next, &filled.name, seconds)
        }
    }
}

/// What a try to sign in came to.
enum Tried {
    Fits(User),
    Wrong,
    /// Wrong, and the name is locked by it until then.
    LockedNow(UnixMillis),
    Barred(Barred),
}

/// Why a try comes to nothing whatever the password.
enum Barred {
    /// So many seconds.
    Waits(i64),
    /// Until then.
    Locked(UnixMillis),
}

async fn barred(state: &WebState, name: &str, from: IpAddr) -> Result<Option<Barred>, PageError> {
    let now_ms = state.clock.now_ms();
    if let Some(seconds) = state.throttle.wait_seconds(name, from, now_ms) {
        return Ok(Some(Barred::Waits(seconds)));
    }
    let until = state.store.locked_until(name, now_ms).await?;
    Ok(until.map(Barred::Locked))
}

/// A place among the passwords that are checked at once.
pub(super) async fn place_to_check() -> Result<SemaphorePermit<'static>, Problem> {
    CHECKS.acquire().await.map_err(|e| Problem::internal(&e))
}

/// Checks the password and counts what came of it before it gives its place away: of many that come at once no more
/// are checked than would be one after the other, but for those in the other places.
async fn try_password(state: &WebState, filled: &Filled, from: IpAddr) -> Result<Tried, PageError> {
    let name = &filled.name;
    // needs no place
    if let Some(barred) = barred(state, name, from).await? {
        return Ok(Tried::Barred(barred));
    }
    let _place = place_to_check().await?;
    // by those before it, while it waited
    if let Some(barred) = barred(state, name, from).await? {
        return Ok(Tried::Barred(barred));
    }
    let user = state.store.check_password(name, &filled.password).await?;
    let now_ms = state.clock.now_ms();
    if let Some(user) = user {
        if let Some(until) = state.store.login_fits(name, now_ms).await? {
            return Ok(Tried::Barred(Barred::Locked(until)));
        }
        state.throttle.succeeded(name, from);
        return Ok(Tried::Fits(user));
    }
    state.throttle.failed(name, from, now_ms);
    tracing::warn!(from = %from, "a login from {from} failed");
    let limits = state.settings.lock_limits();
    let until = state.store.login_failed(name, limits, now_ms).await?;
    Ok(until.map_or(Tried::Wrong, Tried::LockedNow))
}

/// Begins a session and opens its first page.
pub(super) async fn sign_in(
    req: &HttpRequest,
    state: &WebState,
    user: &User,
    next: &str,
) -> Result<HttpResponse, PageError> {
    note(req, |n| n.actor = Some(user.name.clone()));
    // a fresh session at every login: one planted before is worth nothing
    if let Some(old) = req.cookie(SESSION_COOKIE) {
        state.store.end_session(old.value()).await?;
    }
    let fresh = state
        .store
        .start_session(user, state.settings.session_limits(), state.clock.now_ms())
        .await?;
    let mut response = see_other(if next.is_empty() {
        home_of(user.role)
    } else {
        next
    });
    begin(state, &mut response, fresh)?;
    Ok(response)
}

/// Gives the browser its session.
pub(super) fn begin(
    state: &WebState,
    response: &mut HttpResponse,
    fresh: NewSession,
) -> Result<(), PageError> {
    let cookie = cookie(state, SESSION_COOKIE, fresh.secret)
        .path("/")
        .finish();
    response
        .add_cookie(&cookie)
        .map_err(|e| Problem::internal(&e).into())
}

fn locked(
    state: &WebState,
    next: &str,
    name: &str,
    until_ms: i64,
) -> Result<HttpResponse, PageError> {
    let now_ms = state.clock.now_ms();
    let at = words::clock_time(until_ms, now_ms, state.settings.time_zone);
    let problem = format!(
        "This name is locked until {at}: too many sign-ins with it failed. Try again then, or ask \
         an administrator to unlock it."
    );
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut response = show(state, status, next, name, Some(problem))?;
    let seconds = header::HeaderValue::from((until_ms - now_ms + 999) / 1000);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    Ok(response)
}

fn too_many(
    state: &WebState,
    next: &str,
    name: &str,
    seconds: i64,
) -> Result<HttpResponse, PageError> {
    let problem = format!("Too many failed tries. Try again in {seconds} s.");
    let mut response = show(
        state,
        StatusCode::TOO_MANY_REQUESTS,
        next,
        name,
        Some(problem),
    )?;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    Ok(response)
}

pub(super) async fn logout(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: web::Form<OnlyCsrf>,
) -> Result<HttpResponse, PageError> {
    check_csrf(&form.csrf, &visitor)?;
    state.store.end_session(&visitor.secret).await?;
    let mut response = see_other("/login");
    let mut gone = cookie(&state, SESSION_COOKIE, String::new())
        .path("/")
        .finish();
    gone.make_removal();
    response
        .add_cookie(&gone)
        .map_err(|e| Problem::internal(&e))?;
    Ok(response)
}

pub(super) fn cookie(
    state: &WebState,
    name: &'static str,
    value: String,
) -> actix_web::cookie::CookieBuilder<'static> {
    // Lax, not Strict: a link in a page or pager message must find its reader signed in
    Cookie::build(name, value)
        .http_only(true)
        .secure(state.settings.secures_cookies())
        .same_site(SameSite::Lax)
}

/// A path on this server: nothing a browser would take for another one.
pub(super) fn is_ours(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && path.is_ascii()
}

pub(super) fn see_other(path: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, path))
        .content_type(ContentType::plaintext())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_are_returned_to() {
        assert!(is_ours("/worklist?band=urgent"));
        for bad in [
            "",
            "https://evil",
            "//evil",
            "/\\evil",
            "/a\r\nb",
            "javascript:x",
        ] {
            assert!(!is_ours(bad), "{bad}");
        }
    }
}
