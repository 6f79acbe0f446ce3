//! `/accounts`: who can sign in, and which programs have a token. Administrators change it, auditors look.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::value;
use super::gate::{Visitor, check_csrf};
use super::login::see_other;
use super::scopes::{SCOPES, read_scopes};
use super::trail::note;
use super::view::Frame;
use super::words::exact_time;
use crate::store::accounts::{Account, AccountError, Changed, NewToken, Role, TokenEntry};

/// Longest life of a token that is made here, in days.
const DAYS_MAX: i64 = 3650;
const DAY_MS: i64 = 86_400_000;
/// A token that ends so soon is pointed out.
const SOON_DAYS: i64 = 30;

#[derive(Template)]
#[template(path = "accounts.html")]
struct AccountsPage {
    frame: Frame,
    csrf: String,
    may_change: bool,
    problem: Option<String>,
    /// What it is, and the secret, which is shown once.
    made: Option<(String, String)>,
    roles: [&'static str; 5],
    accounts: Vec<AccountRow>,
    tokens: Vec<TokenRow>,
    scopes: Vec<ScopeRow>,
}

struct AccountRow {
    id: i64,
    name: String,
    role: String,
    local: bool,
    signed_in: String,
    sessions: u64,
    disabled: Option<String>,
    locked: Option<String>,
    must_change: bool,
    own: bool,
}

struct TokenRow {
    id: i64,
    name: String,
    role: String,
    scopes: String,
    made: String,
    used: String,
    ends: String,
    /// Ended, or ends soon.
    state: &'static str,
    works: bool,
}

struct ScopeRow {
    name: &'static str,
    means: &'static str,
    roles: String,
}

type Pairs = web::Form<Vec<(String, String)>>;

pub(super) async fn page(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    show(&state, &visitor, None, None).await
}

async fn show(
    state: &WebState,
    visitor: &Visitor,
    made: Option<(String, String)>,
    problem: Option<String>,
) -> Result<HttpResponse, PageError> {
    let now_ms = state.clock.now_ms();
    let limits = state.settings.session_limits();
    let accounts = state.store.accounts(limits, now_ms).await?;
    let tokens = state.store.tokens().await?;
    html(&AccountsPage {
        frame: Frame::new("Accounts", "accounts", visitor, state),
        csrf: visitor.csrf.clone(),
        may_change: visitor.user.role == Role::Admin,
        problem,
        made,
        roles: Role::ALL.map(Role::as_str),
        accounts: accounts
            .iter()
            .map(|a| account(a, visitor, state))
            .collect(),
        tokens: tokens.iter().map(|t| token(t, state)).collect(),
        scopes: SCOPES
            .iter()
            .map(|s| ScopeRow {
                name: s.name,
                means: s.means,
                roles: s
                    .roles
                    .iter()
                    .map(|r| r.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
            .collect(),
    })
}

fn account(a: &Account, visitor: &Visitor, state: &WebState) -> AccountRow {
    let at = |ms: i64| exact_time(ms, state.settings.time_zone);
    AccountRow {
        id: a.id,
        name: a.name.clone(),
        role: a.role.clone(),
        local: a.origin == "local",
        signed_in: a.signed_in_ms.map_or_else(|| "never".to_owned(), at),
        sessions: a.sessions,
        disabled: a.disabled_ms.map(at),
        locked: a.locked_until_ms.map(at),
        must_change: a.must_change,
        own: a.id == visitor.user.id,
    }
}

fn token(t: &TokenEntry, state: &WebState) -> TokenRow {
    let now_ms = state.clock.now_ms();
    let at = |ms: i64| exact_time(ms, state.settings.time_zone);
    let (word, works) = match (t.revoked_ms, t.expires_ms) {
        (Some(_), _) => ("revoked", false),
        (None, Some(end)) if end <= now_ms => ("has run out", false),
        (None, Some(end)) if end - now_ms < SOON_DAYS * DAY_MS => ("ends soon", true),
        _ => ("", true),
    };
    let by = t.by.as_deref().unwrap_or("the command line");
    TokenRow {
        id: t.id,
        name: t.name.clone(),
        role: t.role.clone(),
        scopes: t.scopes.clone().unwrap_or_else(|| "all of its role".into()),
        made: format!("{} by {by}", at(t.created_ms)),
        used: t.used_ms.map_or_else(|| "never".to_owned(), at),
        ends: match (t.revoked_ms, t.expires_ms) {
            (Some(ms), _) | (None, Some(ms)) => at(ms),
            (None, None) => "never".to_owned(),
        },
        state: word,
        works,
    }
}

fn given<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    value(form, name).unwrap_or_default().trim()
}

fn role_of(form: &[(String, String)]) -> Result<Role, Problem> {
    Role::parse(given(form, "role"))
        .ok_or_else(|| Problem::unprocessable("bad_role", "Choose one of the roles."))
}

/// A deed in the words of the trail, with the tokens that were revoked by it.
pub(super) fn with_revoked(deed: &str, revoked: &[String]) -> String {
    match revoked.len() {
        0 => deed.to_owned(),
        // the names last: the trail cuts what is too long
        n => format!("{deed}; tokens revoked, {n}: {}", revoked.join(", ")),
    }
}

/// What a deed was about, and what it made: what that is, and the secret, which is shown once.
type Done = (String, Option<(String, String)>);

/// Says what a deed came to.
async fn answer(
    req: &HttpRequest,
    state: &WebState,
    visitor: &Visitor,
    done: Result<Done, AccountError>,
) -> Result<HttpResponse, PageError> {
    match done {
        Ok((name, made)) => {
            note(req, |n| n.subject = Some(name));
            if made.is_some() {
                return show(state, visitor, made, None).await;
            }
            Ok(see_other("/accounts"))
        }
        Err(e @ (AccountError::Store(_) | AccountError::Hash(_))) => Err(e.into()),
        Err(e) => unprocessable(state, visitor, &e.to_string()).await,
    }
}

async fn unprocessable(
    state: &WebState,
    visitor: &Visitor,
    said: &str,
) -> Result<HttpResponse, PageError> {
    let said = super::words::sentence(said) + ".";
    let mut response = show(state, visitor, None, Some(said)).await?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

pub(super) async fn make(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: Pairs,
) -> Result<HttpResponse, PageError> {
    check_csrf(given(&form, "csrf"), &visitor)?;
    let (name, role) = (given(&form, "name"), role_of(&form)?);
    note(&req, |n| {
        n.subject = Some(name.to_owned());
        n.detail = Some(format!("role {}", role.as_str()));
    });
    let (by, now_ms) = (&visitor.user.name, state.clock.now_ms());
    let invited = state.store.invite(by, name, role, now_ms).await;
    let done = invited.map(|password| {
        let what = format!("Password of {name}, to be changed at the first sign-in");
        (name.to_owned(), Some((what, password)))
    });
    answer(&req, &state, &visitor, done).await
}

pub(super) async fn change(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    id: web::Path<i64>,
    form: Pairs,
) -> Result<HttpResponse, PageError> {
    check_csrf(given(&form, "csrf"), &visitor)?;
    let (store, now_ms, deed) = (&state.store, state.clock.now_ms(), given(&form, "deed"));
    let me = visitor.user.name.as_str();
    let by = Some(me);
    let mut words = deed.to_owned();
    let mut revoked = Vec::new();
    let only = |name: String| (name, None);
    let rights = |changed: Changed| {
        revoked = changed.revoked;
        only(changed.name)
    };
    let done = match deed {
        "role" => {
            let role = role_of(&form)?;
            words = format!("role {}", role.as_str());
            store.change_role(by, *id, role, now_ms).await.map(rights)
        }
        "disable" => store.disable(by, *id, Some(now_ms)).await.map(rights),
        "enable" => store.disable(by, *id, None).await.map(rights),
        "unlock" => store.unlock(*id).await.map(only),
        "password" => store.reset_password(me, *id).await.map(|(name, password)| {
            let what = format!("Password of {name}, to be changed at the next sign-in");
            (name, Some((what, password)))
        }),
        _ => {
            let detail = "Say what is to be done.";
            return Err(Problem::bad_request("bad_deed", detail).into());
        }
    };
    note(&req, |n| n.detail = Some(with_revoked(&words, &revoked)));
    answer(&req, &state, &visitor, done).await
}

pub(super) async fn make_token(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: Pairs,
) -> Result<HttpResponse, PageError> {
    check_csrf(given(&form, "csrf"), &visitor)?;
    let (name, role) = (given(&form, "name"), role_of(&form)?);
    let now_ms = state.clock.now_ms();
    let wanted = form.iter().filter(|(n, _)| n == "scope");
    let scopes = match read_scopes(wanted.map(|(_, v)| v.as_str()), role) {
        Ok(scopes) => scopes,
        Err(why) => return unprocessable(&state, &visitor, &why).await,
    };
    let days: Option<i64> = given(&form, "days").parse().ok();
    let Some(days) = days.filter(|d| (1..=DAYS_MAX).contains(d)) else {
        let why = format!("a token works for 1 to {DAYS_MAX} days");
        return unprocessable(&state, &visitor, &why).await;
    };
    note(&req, |n| {
        n.subject = Some(name.to_owned());
        let scopes = scopes.join(" ");
        n.detail = Some(format!(
            "role {}, scopes {scopes}, {days} days",
            role.as_str()
        ));
    });
    let wanted = NewToken {
        name,
        role,
        scopes: Some(&scopes),
        expires_ms: Some(now_ms + days * DAY_MS),
        by: Some(&visitor.user.name),
    };
    let made = state.store.make_token(&wanted, now_ms).await;
    let done = made.map(|secret| (name.to_owned(), Some((format!("Token of {name}"), secret))));
    answer(&req, &state, &visitor, done).await
}

pub(super) async fn revoke_token(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    id: web::Path<i64>,
    form: Pairs,
) -> Result<HttpResponse, PageError> {
    check_csrf(given(&form, "csrf"), &visitor)?;
    let revoked = state.store.revoke_token(*id, state.clock.now_ms()).await;
    let done = revoked.map(|name| (name, None));
    answer(&req, &state, &visitor, done).await
}
