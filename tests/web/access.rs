//! Accounts and tokens: who is locked out, what a change of rights ends, and what a token may.

use firstread::clock::Clock;
use firstread::store::Store;
use firstread::store::accounts::{AccountError, LockLimits, NewToken, Role};
use firstread::store::trail::Wanted;
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

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_one_by_one_and_a_running_lock_stands() {
    for database in databases() {
        let site = Site::on(&database).await;
        let (now_ms, lock_ms) = (site.clock.now_ms(), 900_000);
        let limits = LockLimits {
            failures: 41,
            lock_ms,
        };
        let mut guesses = Vec::new();
        for _ in 0..40 {
            let store = site.store.clone();
            guesses.push(tokio::spawn(async move {
                store.login_failed("anna", limits, now_ms).await
            }));
        }
        for tried in guesses {
            assert_eq!(tried.await.unwrap().unwrap(), None, "{database:?}");
        }
        let failed = async |after_ms: i64| {
            let tried = site.store.login_failed("anna", limits, now_ms + after_ms);
            tried.await.unwrap()
        };
        let until = Some(now_ms + lock_ms);
        assert_eq!(failed(0).await, until, "none of forty was lost");
        // on their way when it was locked: neither a wrong password nor the right one ends it
        assert_eq!(failed(1).await, until, "{database:?}");
        let fits = async |after_ms: i64| {
            let fits = site.store.login_fits("anna", now_ms + after_ms);
            fits.await.unwrap()
        };
        assert_eq!(fits(2).await, until, "{database:?}");
        let locked = site.store.locked_until("anna", now_ms + 3).await.unwrap();
        assert_eq!(locked, until, "{database:?}");
        assert_eq!(fits(lock_ms).await, None, "over");
        assert_eq!(failed(lock_ms).await, None, "a new row begins");
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
            site.store.change_role(None, own, Role::Reader, 1).await,
            site.store.disable(None, own, Some(1)).await,
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

/// A token of this name and role, made by an account.
async fn token_by(store: &Store, name: &str, role: Role, by: Option<&str>) -> String {
    let wanted = NewToken {
        name,
        role,
        scopes: None,
        expires_ms: None,
        by,
    };
    store.make_token(&wanted, 0).await.unwrap()
}

/// Which of these tokens work.
async fn working(store: &Store, tokens: &[String]) -> Vec<bool> {
    let mut all = Vec::new();
    for token in tokens {
        let holder = store.token_holder(token, 10).await.unwrap();
        all.push(holder.is_some());
    }
    all
}

#[tokio::test]
async fn a_disabled_account_leaves_no_token_behind() {
    for database in databases() {
        let site = Site::on(&database).await;
        let admin = site.signed_in(Role::Admin).await;
        site.user("anna", Role::Admin).await;
        let page = site.page(&admin, "/accounts").await;
        assert!(page.contains("also revoke the tokens"), "it is said before");
        let id = id_of(&page, "Role of anna");
        let store = &site.store;
        let tokens = [
            token_by(store, "ris", Role::Integration, Some("anna")).await,
            token_by(store, "anna", Role::Reader, None).await,
            token_by(store, "dash", Role::Reader, Some("admin")).await,
            token_by(store, "annabel", Role::Reader, None).await,
        ];
        let deed = async |deed: &str| {
            let path = format!("/accounts/{id}");
            let (done, _) = post(&site, &admin, &path, &[("deed", deed)]).await;
            assert_eq!(done, StatusCode::SEE_OTHER, "{deed}");
        };
        deed("disable").await;
        assert_eq!(working(store, &tokens).await, [false, false, true, true]);
        let request = browser().get(site.url("/api/v1/worklist"));
        let answer = request.bearer_auth(&tokens[1]).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        deed("enable").await;
        assert_eq!(working(store, &tokens).await, [false, false, true, true]);
        let trail = store.trail_after(&Wanted::default(), 0).await.unwrap();
        let said: Vec<_> = trail
            .iter()
            .filter(|e| e.action == "account.change")
            .map(|e| (e.subject.as_deref(), e.detail.as_deref()))
            .collect();
        let revoked = "disable; tokens revoked, 2: ris, anna";
        let expected = [revoked, "enable"].map(|what| (Some("anna"), Some(what)));
        assert_eq!(said, expected, "{database:?}");
    }
}

#[tokio::test]
async fn another_role_revokes_what_its_account_could_not_have() {
    for database in databases() {
        let site = Site::on(&database).await;
        let store = &site.store;
        site.user("admin", Role::Admin).await;
        let anna = store
            .create_user("anna", PASSWORD, Role::Technologist, 0)
            .await
            .unwrap();
        let under_her_name = [
            token_by(store, "anna", Role::Admin, None).await,
            token_by(store, "anna", Role::Reader, None).await,
        ];
        let role = async |role, at| store.change_role(None, anna.id, role, at).await.unwrap();
        assert_eq!(role(Role::Admin, 1).await.revoked, Vec::<String>::new());
        assert_eq!(working(store, &under_her_name).await, [true; 2]);
        let [own, less] = under_her_name;
        let tokens = [
            token_by(store, "ris", Role::Integration, Some("anna")).await,
            own,
            less,
            token_by(store, "dash", Role::Admin, Some("admin")).await,
        ];
        let lowered = role(Role::Reader, 2).await;
        assert_eq!((lowered.name.as_str(), lowered.revoked.len()), ("anna", 2));
        assert_eq!(working(store, &tokens).await, [false, false, true, true]);
        // the same where single sign-on says the role
        let come = async |role| {
            let known = store.vouched_for("c-1", "carl", role, 3).await.unwrap();
            known.unwrap().1
        };
        assert_eq!(come(Role::Admin).await, Vec::<String>::new());
        let tokens = [token_by(store, "his", Role::Reader, Some("carl")).await];
        assert_eq!(come(Role::Admin).await, Vec::<String>::new());
        assert_eq!(working(store, &tokens).await, [true]);
        assert_eq!(come(Role::Auditor).await, ["his"]);
        assert_eq!(working(store, &tokens).await, [false]);
    }
}

/// Whoever was let in by the gate may have lost the right before the deed is done.
#[tokio::test]
async fn who_is_no_administrator_any_more_gives_no_rights() {
    for database in databases() {
        let site = Site::on(&database).await;
        let store = &site.store;
        site.user("admin", Role::Admin).await;
        let made = store.create_user("anna", PASSWORD, Role::Admin, 0).await;
        let (id, by) = (made.unwrap().id, Some("anna"));
        assert!(store.invite("anna", "carl", Role::Reader, 1).await.is_ok());
        store.disable(None, id, Some(1)).await.unwrap();
        let wanted = NewToken {
            name: "ris",
            role: Role::Reader,
            scopes: None,
            expires_ms: None,
            by,
        };
        let tried = [
            store.make_token(&wanted, 2).await.err(),
            store.invite("anna", "bert", Role::Admin, 2).await.err(),
            store.reset_password("anna", id).await.err(),
            store.change_role(by, id, Role::Admin, 2).await.err(),
            store.disable(by, id, None).await.err(),
        ];
        for refused in tried {
            assert!(matches!(refused, Some(AccountError::NoMore)), "{refused:?}");
        }
        assert_eq!(store.tokens().await.unwrap().len(), 0);
        let limits = firstread::store::accounts::SessionLimits {
            idle_ms: 1,
            absolute_ms: 1,
        };
        let all = store.accounts(limits, 2).await.unwrap();
        let names: Vec<&str> = all.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["admin", "anna", "carl"], "{database:?}");
        assert!(all[2].must_change);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_administrators_at_once_leave_one() {
    for database in databases() {
        let site = Site::on(&database).await;
        let store = &site.store;
        let mut ids = Vec::new();
        for name in ["anna", "bert"] {
            let made = store.create_user(name, PASSWORD, Role::Admin, 0).await;
            ids.push(made.unwrap().id);
        }
        // two stores stand for two processes
        let other = Store::open(Some(&site.database_url), site.data.path())
            .await
            .unwrap();
        for round in 0..50 {
            let mut deeds = Vec::new();
            for (id, store) in [(ids[0], store.clone()), (ids[1], other.clone())] {
                deeds.push(tokio::spawn(async move {
                    // by turns: both lose the role, or one of them is disabled
                    if round % 2 == 0 || id % 2 == 0 {
                        store.change_role(None, id, Role::Reader, round).await
                    } else {
                        store.disable(None, id, Some(round)).await
                    }
                }));
            }
            let mut done = 0;
            for deed in deeds {
                match deed.await.unwrap() {
                    Ok(_) => done += 1,
                    Err(AccountError::LastAdmin) => {}
                    Err(e) => panic!("{database:?} round {round}: {e}"),
                }
            }
            assert_eq!(done, 1, "{database:?} round {round}");
            for id in &ids {
                store.disable(None, *id, None).await.unwrap();
                store
                    .change_role(None, *id, Role::Admin, round)
                    .await
                    .unwrap();
            }
        }
    }
}
