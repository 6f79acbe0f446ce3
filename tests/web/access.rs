//! Accounts and tokens: who is locked out, what a change of rights ends, and what a token may.

use firstread::store::accounts::{AccountError, NewToken, Role};
use firstread::web::WebSettings;
use reqwest::{Client, StatusCode};

use crate::common::databases;
use crate::site::{PASSWORD, Site, browser, field};

const NEW: &str = "seven odd grey kettles";
const DAY_MS: i64 = 86_400_000;

async fn status(site: &Site, client: &Client, path: &str) -> StatusCode {
    client.get(site.url(path)).send().await.unwrap().status()
}

/// Fills in a form of a page on which the visitor's token stands.
async fn post(
    site: &Site,
    client: &Client,
    path: &str,
    fields: &[(&str, &str)],
) -> (StatusCode, String) {
    let csrf = field(&site.page(client, "/account").await, "csrf");
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend_from_slice(fields);
    let answer = client.post(site.url(path)).form(&all).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_name_is_locked_after_failures_from_anywhere_and_says_until_when() {
    for database in databases() {
        let settings = WebSettings {
            lockout_failures: 4,
            lockout_minutes: 15,
            ..WebSettings::default()
        };
        let site = Site::with(&database, settings).await;
        site.user("anna", Role::Reader).await;
        let admin = site.signed_in(Role::Admin).await;
        for name in ["anna", "nobody at all"] {
            for _ in 0..3 {
                let answer = site.sign_in(&browser(), name, "a wrong password").await;
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            }
            let answer = site.sign_in(&browser(), name, "a wrong password").await;
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(answer.headers()["retry-after"], "900");
            let page = answer.text().await.unwrap();
            assert!(page.contains("locked until 12:15"), "{name}: {page}");
        }
        // the right password does not help either, until it is over or an administrator helps
        let answer = site.sign_in(&browser(), "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let list = site.page(&admin, "/accounts").await;
        assert!(list.contains("locked</span> until"), "{list}");
        let id = id_of(&list, "Role of anna");
        let unlocked = post(
            &site,
            &admin,
            &format!("/accounts/{id}"),
            &[("deed", "unlock")],
        )
        .await;
        assert_eq!(unlocked.0, StatusCode::SEE_OTHER);
        let answer = site.sign_in(&browser(), "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        site.clock.advance_ms(15 * 60_000 + 1);
        let answer = site.sign_in(&browser(), "nobody at all", "x").await;
        assert_eq!(
            answer.status(),
            StatusCode::UNAUTHORIZED,
            "the lock ends by itself"
        );
    }
}

/// Number of the row with this label in its form.
fn id_of(page: &str, label: &str) -> i64 {
    let before = page.split(label).next().unwrap();
    let action = before.rsplit("action=\"").next().unwrap();
    let path = action.split('"').next().unwrap();
    path.rsplit('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_invited_person_chooses_a_password_before_anything_else() {
    let site = Site::start().await;
    let admin = site.signed_in(Role::Admin).await;
    let fields = [("name", "bert"), ("role", "reader")];
    let (made, page) = post(&site, &admin, "/accounts", &fields).await;
    assert_eq!(made, StatusCode::OK);
    let shown = page.split("shown this once: <code>").nth(1).unwrap();
    let password = shown.split('<').next().unwrap().to_owned();
    let again = site.page(&admin, "/accounts").await;
    assert!(!again.contains(&password), "shown once");

    let bert = browser();
    let answer = site.sign_in(&bert, "bert", &password).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let list = bert.get(site.url("/worklist")).send().await.unwrap();
    assert_eq!(list.headers()["location"], "/account");
    for (old, new, again, why) in [
        (
            password.as_str(),
            NEW,
            "another thing typed",
            "same way twice",
        ),
        ("not my password!", NEW, NEW, "typed wrong"),
        (
            &password,
            "Password1234",
            "Password1234",
            "first that are tried",
        ),
        (&password, "short", "short", "too short"),
        (&password, &password, &password, "the one you had"),
    ] {
        let fields = [("old", old), ("new", new), ("again", again)];
        let (refused, page) = post(&site, &bert, "/account/password", &fields).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY, "{why}");
        assert!(page.contains(why), "{why}: {page}");
    }
    let other = browser();
    site.sign_in(&other, "bert", &password).await;
    let fields = [("old", password.as_str()), ("new", NEW), ("again", NEW)];
    let (changed, _) = post(&site, &bert, "/account/password", &fields).await;
    assert_eq!(changed, StatusCode::SEE_OTHER);
    assert_eq!(status(&site, &bert, "/worklist").await, StatusCode::OK);
    assert_eq!(
        status(&site, &other, "/account").await,
        StatusCode::SEE_OTHER,
        "signed out"
    );
    let old = site.sign_in(&browser(), "bert", &password).await;
    assert_eq!(old.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_change_of_rights_ends_sessions_and_an_administrator_is_left() {
    for database in databases() {
        let site = Site::on(&database).await;
        let admin = site.signed_in(Role::Admin).await;
        let anna = site.signed_in_as("anna", Role::Reader).await;
        let id = id_of(&site.page(&admin, "/accounts").await, "Role of anna");
        let path = format!("/accounts/{id}");
        let (done, _) = post(
            &site,
            &admin,
            &path,
            &[("deed", "role"), ("role", "auditor")],
        )
        .await;
        assert_eq!(done, StatusCode::SEE_OTHER);
        assert_eq!(
            status(&site, &anna, "/account").await,
            StatusCode::SEE_OTHER
        );
        site.sign_in(&anna, "anna", PASSWORD).await;
        assert_eq!(status(&site, &anna, "/trail").await, StatusCode::OK);
        post(&site, &admin, &path, &[("deed", "disable")]).await;
        assert_eq!(
            status(&site, &anna, "/account").await,
            StatusCode::SEE_OTHER
        );
        let answer = site.sign_in(&anna, "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        post(&site, &admin, &path, &[("deed", "enable")]).await;
        let answer = site.sign_in(&anna, "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        // the last administrator stays one
        let limits = firstread::store::accounts::SessionLimits {
            idle_ms: 1,
            absolute_ms: 1,
        };
        let all = site.store.accounts(limits, 0).await.unwrap();
        let own = all.iter().find(|a| a.name == "admin").unwrap().id;
        for refused in [
            site.store.change_role(own, Role::Reader).await,
            site.store.disable(own, Some(1)).await,
        ] {
            assert!(
                matches!(refused, Err(AccountError::LastAdmin)),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_until_it_ends() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 10, 5.0).await;
        let admin = site.signed_in(Role::Admin).await;
        let fields = [
            ("name", "dash"),
            ("role", "reader"),
            ("scope", "list"),
            ("days", "30"),
        ];
        let (made, page) = post(&site, &admin, "/tokens", &fields).await;
        assert_eq!(made, StatusCode::OK);
        let shown = page.split("shown this once: <code>").nth(1).unwrap();
        let token = shown.split('<').next().unwrap().to_owned();
        assert!(token.starts_with("frt_"));
        let client = browser();
        let ask = async |path: &str| {
            let request = client.get(site.url(path)).bearer_auth(&token);
            let answer = request.send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        };
        assert_eq!(ask("/api/v1/worklist").await.0, StatusCode::OK);
        let (refused, said) = ask("/fhir/ImagingStudy").await;
        assert_eq!(refused, StatusCode::FORBIDDEN);
        assert!(said.contains("fhir"), "{said}");
        let claim = client
            .post(site.url("/api/v1/worklist/next"))
            .bearer_auth(&token);
        assert_eq!(claim.send().await.unwrap().status(), StatusCode::FORBIDDEN);
        let list = site.page(&admin, "/accounts").await;
        assert!(list.contains("2026-11-23 12:00"), "last used: {list}");
        assert!(!list.contains(&token), "shown once");
        site.clock.advance_ms(29 * DAY_MS);
        assert_eq!(ask("/api/v1/worklist").await.0, StatusCode::OK);
        site.clock.advance_ms(DAY_MS);
        assert_eq!(
            ask("/api/v1/worklist").await.0,
            StatusCode::UNAUTHORIZED,
            "it has run out"
        );
    }
}

#[tokio::test]
async fn a_token_is_revoked_at_once_and_scopes_fit_the_role() {
    let site = Site::start().await;
    let admin = site.signed_in(Role::Admin).await;
    for (role, scope, days) in [
        ("reader", "orders", "10"),
        ("reader", "everything", "10"),
        ("reader", "", "10"),
        ("reader", "list", "0"),
        ("reader", "list", "99999"),
    ] {
        let fields = [
            ("name", "x"),
            ("role", role),
            ("scope", scope),
            ("days", days),
        ];
        let (refused, _) = post(&site, &admin, "/tokens", &fields).await;
        assert_eq!(
            refused,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{role} {scope} {days}"
        );
    }
    let wanted = NewToken {
        name: "ris",
        role: Role::Reader,
        scopes: None,
        expires_ms: None,
        by: None,
    };
    let token = site.store.make_token(&wanted, 0).await.unwrap();
    let ask = async || {
        let request = browser()
            .get(site.url("/api/v1/worklist"))
            .bearer_auth(&token);
        request.send().await.unwrap().status()
    };
    assert_eq!(ask().await, StatusCode::OK);
    let id = site.store.tokens().await.unwrap()[0].id;
    let (revoked, _) = post(&site, &admin, &format!("/tokens/{id}"), &[]).await;
    assert_eq!(revoked, StatusCode::SEE_OTHER);
    assert_eq!(ask().await, StatusCode::UNAUTHORIZED);
    let (again, _) = post(&site, &admin, &format!("/tokens/{id}"), &[]).await;
    assert_eq!(again, StatusCode::UNPROCESSABLE_ENTITY);
}
