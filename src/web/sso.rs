//! `/login/sso`: to the site's single sign-on and back.

use actix_web::cookie::time::Duration;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::WebState;
use super::accounts::with_revoked;
use super::answer::{PageError, Problem};
use super::filters::{parameters, value};
use super::login::{cookie, is_ours, see_other, sign_in};
use super::trail::note;
use crate::secrets::Vault;
use crate::sso::{Brought, Sso, SsoError, TICKET_MINUTES, Vouched};
use crate::store::accounts::{AccountError, User};
use crate::store::trail::Outcome;

/// Ties what comes back to the browser that was sent.
const TICKET_COOKIE: &str = "firstread_sso";
/// Where the browser wanted to go; a longer way would not fit into the cookie beside the rest.
const NEXT_BYTES_MAX: usize = 1024;

/// Single sign-on, and what seals its tickets.
pub struct SignOn {
    /// Speaks with the provider.
    pub sso: Sso,
    /// Seals.
    pub vault: std::sync::Arc<Vault>,
}

fn desk(state: &WebState) -> Result<&SignOn, Problem> {
    let none = || Problem::not_found("There is no single sign-on here.");
    state.sign_on.as_deref().ok_or_else(none)
}

pub(super) async fn begin(
    req: HttpRequest,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    let at = desk(&state)?;
    let given = parameters(&req);
    let next = value(&given, "next").filter(|n| is_ours(n) && n.len() <= NEXT_BYTES_MAX);
    let next = next.unwrap_or("");
    let begun = at.sso.begin(next, &at.vault, state.clock.now_ms()).await;
    let (url, ticket) = begun.map_err(|e| refuse(&e))?;
    let mut response = see_other(&url);
    let kept = cookie(&state, TICKET_COOKIE, ticket)
        .path("/login/sso")
        .max_age(Duration::minutes(TICKET_MINUTES))
        .finish();
    let added = response.add_cookie(&kept);
    added.map_err(|e| Problem::internal(&e))?;
    Ok(response)
}

pub(super) async fn back(
    req: HttpRequest,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    note(&req, |n| {
        n.actor = Some("single sign-on".into());
        n.outcome = Some(Outcome::Refused);
        // the address carries the code
        n.detail = Some("by single sign-on".into());
    });
    let at = desk(&state)?;
    let vouched = vouched(&req, &state, at).await.map_err(|e| {
        note(&req, |n| {
            n.detail = Some(format!("by single sign-on: {e}"));
            if matches!(e, SsoError::Provider(_)) {
                n.outcome = Some(Outcome::Failed);
            }
        });
        refuse(&e)
    })?;
    note(&req, |n| n.actor = Some(vouched.name.clone()));
    let user = account(&req, &state, at, &vouched).await?;
    note(&req, |n| n.outcome = None);
    let mut response = sign_in(&req, &state, &user, &vouched.next).await?;
    let mut gone = cookie(&state, TICKET_COOKIE, String::new())
        .path("/login/sso")
        .finish();
    gone.make_removal();
    let added = response.add_cookie(&gone);
    added.map_err(|e| Problem::internal(&e))?;
    Ok(response)
}

async fn vouched(req: &HttpRequest, state: &WebState, at: &SignOn) -> Result<Vouched, SsoError> {
    let given = parameters(req);
    let get = |name: &str| value(&given, name).unwrap_or_default();
    if !get("error").is_empty() {
        let said = get("error").chars().filter(|c| !c.is_control()).take(80);
        return Err(SsoError::Refused(said.collect()));
    }
    let ticket = req.cookie(TICKET_COOKIE);
    let brought = Brought {
        code: get("code"),
        state: get("state"),
        issuer: value(&given, "iss"),
        ticket: ticket.as_ref().map_or("", |c| c.value()),
    };
    let now_ms = state.clock.now_ms();
    at.sso.finish(brought, &at.vault, now_ms).await
}

/// The account of somebody vouched for, made at the first time.
async fn account(
    req: &HttpRequest,
    state: &WebState,
    at: &SignOn,
    who: &Vouched,
) -> Result<User, PageError> {
    let Some(role) = at.sso.settings().role_of(&who.groups) else {
        let said = "by single sign-on: in no group that has a role";
        note(req, |n| n.detail = Some(said.into()));
        let detail = "You are signed in at your hospital, but in none of the groups that may use \
                      firstread. Its administrator can add you to one.";
        return Err(Problem::forbidden("no_role", detail).into());
    };
    let (store, now_ms) = (&state.store, state.clock.now_ms());
    match store
        .vouched_for(&who.subject, &who.name, role, now_ms)
        .await
    {
        Ok(Some((user, revoked))) => {
            let said = with_revoked("by single sign-on", &revoked);
            note(req, |n| n.detail = Some(said));
            Ok(user)
        }
        Ok(None) => {
            note(req, |n| {
                n.detail = Some("by single sign-on: disabled".into());
            });
            let detail = "This account was disabled. An administrator can enable it.";
            Err(Problem::forbidden("disabled", detail).into())
        }
        Err(AccountError::NameTaken(_)) => {
            note(req, |n| {
                n.detail = Some("by single sign-on: another has the name".into());
            });
            let detail = "Another account has your name already. An administrator must settle which is which.";
            Err(Problem::new(StatusCode::CONFLICT, "name_taken", detail).into())
        }
        Err(e @ AccountError::BadName) => {
            let detail = format!("Your hospital gave a name that cannot be used here: {e}.");
            Err(Problem::forbidden("bad_name", detail).into())
        }
        Err(e) => Err(e.into()),
    }
}

/// Said to the person; the log has the rest.
fn refuse(error: &SsoError) -> Problem {
    tracing::warn!(%error, "single sign-on failed");
    match error {
        SsoError::Provider(_) => {
            let detail = "The single sign-on of your hospital cannot be reached. Try again, or sign in with a local account.";
            Problem::new(StatusCode::BAD_GATEWAY, "no_provider", detail)
        }
        SsoError::Ticket => {
            let detail = "The sign-on was not begun in this browser, or took too long. Start again from the sign-in page.";
            Problem::forbidden("ticket", detail)
        }
        SsoError::Refused(_) | SsoError::Token(_) => {
            let detail = "Your hospital's single sign-on did not vouch for you. Try again; if it stays so, its administrator can say why.";
            Problem::forbidden("not_vouched", detail)
        }
    }
}
