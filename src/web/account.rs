//! `/account`: the own account, and its password.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use tracing::warn;

use super::WebState;
use super::answer::{PageError, html};
use super::gate::{Visitor, check_csrf};
use super::login::{begin, place_to_check, see_other};
use super::trail::note;
use super::view::Frame;
use crate::secrets;
use crate::store::accounts::{AccountError, FIRST_USER, PASSWORD_CHARS_MIN};

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    csrf: String,
    name: String,
    must_change: bool,
    changed: bool,
    chars_min: usize,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Filled {
    csrf: String,
    #[serde(default)]
    old: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    again: String,
}

fn show(
    state: &WebState,
    visitor: &Visitor,
    changed: bool,
    problem: Option<String>,
) -> Result<HttpResponse, PageError> {
    html(&AccountPage {
        frame: Frame::new("Your account", "account", visitor, state),
        csrf: visitor.csrf.clone(),
        name: visitor.user.name.clone(),
        must_change: visitor.must_change,
        changed,
        chars_min: PASSWORD_CHARS_MIN,
        problem,
    })
}

pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    show(&state, &visitor, req.query_string() == "changed", None)
}

/// The file with the first user's first password has done its work.
fn forget_first_password(state: &WebState, name: &str) {
    if name == FIRST_USER
        && let Err(e) = secrets::forget_first_password(&state.data)
    {
        warn!(error = %e, "could not remove the file of the first password");
    }
}

/// Changes the own password; every other session of it ends, and this one goes on under a new secret.
pub(super) async fn change(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    filled: web::Form<Filled>,
) -> Result<HttpResponse, PageError> {
    check_csrf(&filled.csrf, &visitor)?;
    let now_ms = state.clock.now_ms();
    let name = &visitor.user.name;
    let refuse = |why: String| {
        note(&req, |n| n.detail = Some(why.clone()));
        let mut response = show(&state, &visitor, false, Some(why))?;
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        Ok(response)
    };
    if filled.new != filled.again {
        return refuse("The new password was not typed the same way twice.".to_owned());
    }
    // As at the sign-in: of many at once the later ones see what came of the first.
    let _place = place_to_check().await?;
    if state.store.locked_until(name, now_ms).await?.is_some() {
        return refuse("Too many wrong passwords. Try again later.".to_owned());
    }
    let limits = state.settings.session_limits();
    let fresh = state
        .store
        .change_password(&visitor.user, &filled.old, &filled.new, limits, now_ms)
        .await;
    match fresh {
        Ok(fresh) => {
            forget_first_password(&state, name);
            let mut response = see_other("/account?changed");
            begin(&state, &mut response, fresh)?;
            Ok(response)
        }
        Err(AccountError::Unknown) => {
            let lock = state.settings.lock_limits();
            state.store.login_failed(name, lock, now_ms).await?;
            refuse("The password you have now was typed wrong.".to_owned())
        }
        Err(AccountError::BadPassword(why)) => refuse(format!("The new password {why}.")),
        Err(e) => Err(e.into()),
    }
}
