//! What of a request is kept in the audit trail: one entry for each route that shows or changes something, written
//! before its answer goes out. What cannot be kept is not shown.

pub(super) mod page;
pub(super) mod patient;
mod queue;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpMessage, HttpRequest, web};

pub(super) use queue::{TrailDesk, write};

use super::WebState;
use super::answer::Problem;
use super::gate::Visitor;
use crate::clock::UnixMillis;
use crate::store::accounts::TokenHolder;
use crate::store::trail::{ActorKind, Deed, Outcome};

/// The same is not noted again within so long, where a page asks by itself or many times over.
const AGAIN_MS: i64 = 10 * 60_000;
/// What is remembered for that.
const RECENT_MAX: usize = 4096;

/// What a handler adds to the entry of its request.
#[derive(Debug, Clone, Default)]
pub(super) struct Note {
    /// Who it was, where nobody is signed in.
    pub actor: Option<String>,
    /// What it was about.
    pub subject: Option<String>,
    /// In words.
    pub detail: Option<String>,
    /// How it ended, where the status does not say.
    pub outcome: Option<Outcome>,
}

/// Adds to the entry of this request.
pub(super) fn note(req: &HttpRequest, change: impl FnOnce(&mut Note)) {
    let mut extensions = req.extensions_mut();
    let mut note = extensions.remove::<Note>().unwrap_or_default();
    change(&mut note);
    extensions.insert(note);
}

/// What was noted lately.
#[derive(Default)]
pub(super) struct Recent(Mutex<HashMap<String, UnixMillis>>);

impl Recent {
    /// Whether it is the first time within a while.
    fn is_new(&self, what: String, now_ms: UnixMillis) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&what).is_some_and(|at| now_ms - at < AGAIN_MS) {
            return false;
        }
        if all.len() >= RECENT_MAX {
            all.retain(|_, at| now_ms - *at < AGAIN_MS);
            if all.len() >= RECENT_MAX {
                all.clear();
            }
        }
        all.insert(what, now_ms);
        true
    }
}

/// The word for what a route does; `None` where it shows nothing of patients and changes nothing.
#[must_use]
pub fn action_of(method: &Method, path: &str) -> Option<&'static str> {
    let get = *method == Method::GET;
    Some(match path {
        "/login" if !get => "login",
        "/login/sso/back" => "login",
        "/logout" => "logout",
        "/worklist" | "/api/v1/worklist" => "list.view",
        "/studies/{study_uid}" | "/api/v1/studies/{study_uid}" => "study.view",
        "/studies/{study_uid}/series/{series_uid}/{picture}.png" => "picture.view",
        "/studies/{study_uid}/report" => "report.view",
        "/studies/{study_uid}/report.pdf" => "report.export",
        "/worklist/next" | "/api/v1/worklist/next" | "/studies/{study_uid}/claim" => "study.claim",
        "/api/v1/studies/{study_uid}/claim" if *method == Method::POST => "study.claim",
        "/api/v1/studies/{study_uid}/claim" | "/studies/{study_uid}/release" => "study.release",
        "/studies/{study_uid}/hand-over" | "/api/v1/studies/{study_uid}/hand-over" => {
            "study.hand_over"
        }
        "/api/v1/studies/{study_uid}/read" if *method == Method::DELETE => "study.undo",
        "/studies/{study_uid}/read" | "/api/v1/studies/{study_uid}/read" => "study.read",
        "/studies/{study_uid}/undo" => "study.undo",
        "/studies/{study_uid}/feedback" | "/api/v1/studies/{study_uid}/feedback" => {
            "study.feedback"
        }
        "/studies/{study_uid}/outcome" | "/api/v1/studies/{study_uid}/outcome" => "study.outcome",
        "/studies/{study_uid}/acknowledge" => "alert.acknowledge",
        "/a/{token}" if !get => "alert.acknowledge",
        "/worklist/filters" | "/worklist/filters/{id}" => "filter.change",
        "/settings" if get => "settings.view",
        "/settings" => "settings.change",
        "/agreement" | "/second-opinion" => "quality.view",
        "/audit" => "sample.view",
        "/audit/{study_uid}" => "sample.answer",
        "/shown" => "shown.view",
        "/intake" => "intake.view",
        "/alerts" => "alerts.view",
        "/system" => "system.view",
        "/deliveries" | "/deliveries/{id}" if get => "deliveries.view",
        "/deliveries/{id}/message" | "/destinations/{name}/preview" if !get => "message.view",
        "/deliveries/{id}" => "delivery.change",
        "/destinations" | "/destinations/{name}/form" | "/destinations/{name}/preview" if get => {
            "destinations.view"
        }
        "/destinations/{name}" | "/destinations/{name}/form" => "destination.change",
        "/fhir/Subscription" | "/fhir/Subscription/{id}" if get => "subscription.view",
        "/fhir/Subscription" => "subscription.make",
        "/fhir/Subscription/{id}" => "subscription.end",
        "/fhir/{type}" => "fhir.search",
        "/fhir/{type}/{id}" if get => "fhir.read",
        "/fhir/{type}/{id}" | "/api/v1/orders/{accession}" => "order.change",
        "/account/password" => "password.change",
        "/accounts" if get => "accounts.view",
        "/accounts" => "account.make",
        "/accounts/{id}" => "account.change",
        "/tokens" => "token.make",
        "/tokens/{id}" => "token.revoke",
        "/trail" => "trail.view",
        "/trail/export" => "trail.export",
        "/trail/patient" => "patient.report",
        "/trail/patient/export" => "patient.export",
        _ => return None,
    })
}

/// Routes that are not kept, and why.
#[cfg(test)]
const NOT_KEPT: [(&str, &str, &str); 14] = [
    ("GET", "/", "sends on to the first page"),
    ("GET", "/login", "a form"),
    ("GET", "/login/sso", "sends on to the sign-on of the site"),
    ("GET", "/events", "says that something changed, not what"),
    ("GET", "/simulate", "made-up studies"),
    ("GET", "/a/{token}", "names no patient"),
    ("GET", "/account", "the own account"),
    ("GET", "/static/{name}", "files of the program"),
    ("GET", "/favicon.ico", "files of the program"),
    ("GET", "/robots.txt", "files of the program"),
    ("GET", "/fhir/metadata", "what the program can do"),
    ("GET", "/healthz", "numbers"),
    ("GET", "/readyz", "numbers"),
    ("GET", "/metrics", "numbers"),
];

/// Keeps what an answer is about; the answer is replaced where that fails.
pub(super) async fn keep(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let Some((state, deed)) = deed(&response) else {
        return response;
    };
    if state.trail.keep(deed).await {
        return response;
    }
    let detail = "What you did cannot be kept in the audit trail just now, so it is not shown. \
                  Try again in a moment.";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_trail", detail).retry_after(5);
    let program = response.request().path().starts_with("/api/");
    let answer = if program {
        problem.json()
    } else {
        problem.page()
    };
    response.into_response(answer)
}

fn deed(response: &ServiceResponse<BoxBody>) -> Option<(Arc<WebState>, Deed)> {
    let req = response.request();
    let state = req.app_data::<web::Data<WebState>>()?.clone().into_inner();
    let pattern = req.match_pattern()?;
    let action = action_of(req.method(), &pattern)?;
    let status = response.status();
    let extensions = req.extensions();
    let note = extensions.get::<Note>().cloned().unwrap_or_default();
    let (actor, kind, role) = if let Some(visitor) = extensions.get::<Visitor>() {
        let user = &visitor.user;
        (user.name.clone(), ActorKind::User, Some(user.role))
    } else if let Some(holder) = extensions.get::<TokenHolder>() {
        (holder.name.clone(), ActorKind::Token, Some(holder.role))
    } else {
        let nobody = "nobody signed in".to_owned();
        (note.actor.unwrap_or(nobody), ActorKind::User, None)
    };
    drop(extensions);
    let outcome = note.outcome.unwrap_or(match status {
        s if s.is_success() || s.is_redirection() => Outcome::Done,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            Outcome::Refused
        }
        _ => Outcome::Failed,
    });
    // to the sign-in page: nothing was asked of us yet
    let stranger = role.is_none() && action != "login" && action != "alert.acknowledge";
    if stranger && outcome == Outcome::Done {
        return None;
    }
    let now_ms = state.clock.now_ms();
    let from = req.peer_addr().map(|a| a.ip().to_canonical().to_string());
    let study_uid = study_of(response, &pattern);
    // nobody gets a deed out of the trail by an address that a page would ask by itself
    let looks = *req.method() == Method::GET
        && action.split_once('.').is_some_and(|(_, how)| how == "view");
    let by_itself = looks && req.query_string().split('&').any(|p| p == "fragment=1");
    if by_itself || stranger || action == "picture.view" {
        let seen = format!(
            "{actor} {} {action} {}",
            from.as_deref().unwrap_or_default(),
            study_uid.as_deref().unwrap_or_default()
        );
        if !state.recent.is_new(seen, now_ms) {
            return None;
        }
    }
    let asked = Some(req.query_string().trim()).filter(|q| !q.is_empty());
    let deed = Deed {
        at_ms: now_ms,
        actor,
        kind,
        role: role.map(|r| r.as_str().to_owned()),
        from,
        action: action.to_owned(),
        outcome,
        study_uid,
        patient: None,
        subject: note.subject.or_else(|| subject_of(req)),
        detail: note.detail.or_else(|| asked.map(str::to_owned)),
    };
    Some((state, deed))
}

/// The study of the address, or the one that the answer leads to.
fn study_of(response: &ServiceResponse<BoxBody>, pattern: &str) -> Option<String> {
    let req = response.request();
    let uid = |text: &str| {
        crate::dicom::guard::uid(text.as_bytes())
            .ok()
            .map(str::to_owned)
    };
    if let Some(named) = req.match_info().get("study_uid") {
        return uid(named);
    }
    if pattern == "/fhir/{type}/{id}" {
        return req.match_info().get("id").and_then(uid);
    }
    let to = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let rest = to.strip_prefix("/studies/")?;
    uid(rest.split(['/', '?']).next()?)
}

/// What else the address names. The token of a link is a secret and stays out.
fn subject_of(req: &HttpRequest) -> Option<String> {
    let named = ["name", "id", "accession", "type"];
    let info = req.match_info();
    named
        .iter()
        .find_map(|name| info.get(name))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::routes::rules;
    use super::*;

    #[test]
    fn every_route_is_kept_or_says_why_not() {
        for rule in rules() {
            let what = format!("{} {}", rule.method, rule.path);
            let known = NOT_KEPT
                .iter()
                .any(|(m, p, _)| *m == rule.method.as_str() && *p == rule.path);
            let action = action_of(&rule.method, rule.path);
            assert_ne!(action.is_some(), known, "{what}");
            let sent_as_what_it_is = action.is_none_or(crate::atna::is_known);
            assert!(
                sent_as_what_it_is,
                "{what}: src/atna/message.rs has no event for it"
            );
        }
        for (method, path, why) in NOT_KEPT {
            let there = rules()
                .iter()
                .any(|r| r.path == path && r.method == *method);
            assert!(there, "{path}: {why}");
        }
    }

    #[test]
    fn what_was_noted_lately_is_not_noted_again() {
        let recent = Recent::default();
        assert!(recent.is_new("a".into(), 0));
        assert!(!recent.is_new("a".into(), AGAIN_MS - 1));
        assert!(recent.is_new("b".into(), 0));
        assert!(recent.is_new("a".into(), AGAIN_MS));
        for n in 0..3 * RECENT_MAX {
            recent.is_new(n.to_string(), 0);
        }
        assert!(recent.0.lock().unwrap().len() <= RECENT_MAX);
    }
}
