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
use super::client::address_of;
use super::gate::{Visitor, refusal};
use super::shown;
use crate::clock::UnixMillis;
use crate::store::accounts::TokenHolder;
use crate::store::trail::{ActorKind, Deed, Outcome};

/// The same is not noted again within so long, where a page asks by itself or many times over.
const AGAIN_MS: i64 = 10 * 60_000;
/// What is remembered for that.
const RECENT_MAX: usize = 4096;
/// Pages whose scripts ask for them again. Anywhere else `fragment=1` is only what somebody wrote into an address.
const RENEW_THEMSELVES: [&str; 3] = ["/worklist", "/studies/{study_uid}", "/intake"];

/// What a handler adds to the entry of its request.
#[derive(Debug, Clone, Default)]
pub(super) struct Note {
    /// Who it was, where nobody is signed in.
    pub actor: Option<String>,
    /// (0020,000D) of the study it was about, where neither the address nor where the answer leads says so.
    pub study_uid: Option<String>,
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

/// When the same was last kept; locked while that is under way.
type Slot = Arc<tokio::sync::Mutex<Option<UnixMillis>>>;

/// What was kept lately, by what it was.
#[derive(Default)]
pub(super) struct Recent(Mutex<HashMap<String, Slot>>);

impl Recent {
    /// Whether it is kept: by `keep`, or by another request within a while before. Who comes while that is under way
    /// waits for it, and tries for itself where it failed: nothing is shown on the strength of an entry that is not there.
    async fn keep(
        &self,
        what: String,
        now_ms: UnixMillis,
        keep: impl Future<Output = bool>,
    ) -> bool {
        let slot = self.slot(what, now_ms);
        let mut kept_at = slot.lock().await;
        if kept_at.is_some_and(|at| now_ms - at < AGAIN_MS) {
            return true;
        }
        let kept = keep.await;
        if kept {
            *kept_at = Some(now_ms);
        }
        kept
    }

    fn slot(&self, what: String, now_ms: UnixMillis) -> Slot {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= RECENT_MAX && !all.contains_key(&what) {
            all.retain(|_, slot| match slot.try_lock() {
                Ok(kept_at) => kept_at.is_some_and(|at| now_ms - at < AGAIN_MS),
                Err(_) => true,
            });
            // forgetting costs an entry too many, never one too few
            if all.len() >= RECENT_MAX {
                all.clear();
            }
        }
        Arc::clone(all.entry(what).or_default())
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
    let Some(Wish { state, deed, once }) = wish(&response) else {
        return response;
    };
    let now_ms = deed.at_ms;
    let keeping = state.trail.keep(deed);
    let kept = match once {
        Some(what) => state.recent.keep(what, now_ms, keeping).await,
        None => keeping.await,
    };
    if kept {
        return response;
    }
    let detail = "What you did cannot be kept in the audit trail just now, so it is not shown. \
                  Try again in a moment.";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_trail", detail).retry_after(5);
    let answer = refusal(response.request().path(), &problem);
    response.into_response(answer)
}

/// What is to be kept before an answer goes out.
struct Wish {
    state: Arc<WebState>,
    deed: Deed,
    /// What the same again is known by, where once in a while is enough.
    once: Option<String>,
}

fn wish(response: &ServiceResponse<BoxBody>) -> Option<Wish> {
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
    let from = address_of(req, &state.settings.trusted_proxies).map(|a| a.to_string());
    let study_uid = note.study_uid.or_else(|| study_of(response, &pattern));
    // nobody gets a deed out of the trail by an address that a page would ask by itself
    let by_itself = *req.method() == Method::GET
        && RENEW_THEMSELVES.contains(&pattern.as_str())
        && shown::asked_by_script(req);
    let often = by_itself || stranger || action == "picture.view";
    let once = often.then(|| {
        let from = from.as_deref().unwrap_or_default();
        let study_uid = study_uid.as_deref().unwrap_or_default();
        // what failed or was refused does not stand for what was shown after it
        [actor.as_str(), from, action, study_uid, outcome.as_str()].join("\n")
    });
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
    Some(Wish { state, deed, once })
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
    fn what_renews_itself_is_a_page_that_is_looked_at() {
        for path in RENEW_THEMSELVES {
            let there = rules()
                .iter()
                .any(|r| r.path == path && r.method == Method::GET);
            let action = action_of(&Method::GET, path).and_then(|a| a.split_once('.'));
            let looks = action.is_some_and(|(_, how)| how == "view");
            assert!(there && looks, "{path}");
        }
    }

    #[tokio::test]
    async fn what_was_kept_lately_is_not_kept_again() {
        let recent = Recent::default();
        let tried = std::cell::Cell::new(0);
        let keep = async |what: &str, now_ms: UnixMillis, works: bool| {
            let trying = async {
                tried.set(tried.get() + 1);
                works
            };
            let kept = recent.keep(what.into(), now_ms, trying).await;
            (kept, tried.get())
        };
        assert_eq!(keep("a", 0, false).await, (false, 1));
        assert_eq!(keep("a", 1, true).await, (true, 2), "it was not there");
        assert_eq!(keep("a", AGAIN_MS, false).await, (true, 2));
        assert_eq!(keep("b", 1, true).await, (true, 3));
        assert_eq!(keep("a", AGAIN_MS + 1, true).await, (true, 4));
        for n in 0..3 * RECENT_MAX {
            keep(&n.to_string(), 0, n % 2 == 0).await;
        }
        assert!(recent.0.lock().unwrap().len() <= RECENT_MAX);
    }

    #[tokio::test]
    async fn nothing_is_shown_by_an_entry_that_then_fails() {
        let recent = Recent::default();
        let (failing, fails) = tokio::sync::oneshot::channel::<()>();
        let first = recent.keep("a".into(), 0, async { fails.await.is_err() });
        let second = recent.keep("a".into(), 0, async { false });
        let end = async {
            tokio::task::yield_now().await;
            failing.send(()).unwrap();
        };
        let (first, second, ()) = tokio::join!(first, second, end);
        assert_eq!((first, second), (false, false));
        // who gives up does not hold up the next
        let given_up = recent.keep("a".into(), 0, std::future::pending());
        let late = tokio::time::timeout(std::time::Duration::from_millis(1), given_up);
        assert!(late.await.is_err());
        assert!(recent.keep("a".into(), 0, async { true }).await);
    }
}
