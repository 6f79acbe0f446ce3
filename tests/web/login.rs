//! Signing in and out, as people do and as attackers would.

use firstread::clock::Clock;
use firstread::store::accounts::{FIRST_USER, Role};
use firstread::store::trail::Wanted;
use firstread::web::WebSettings;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, redirect::Policy};

use crate::common::{Database, databases};
use crate::site::{PASSWORD, Site, browser, field};

#[tokio::test]
async fn the_first_user_signs_in_and_out() {
    for database in databases() {
        let site = Site::on(&database).await;
        let nobody = site
            .store
            .ensure_first_user(None, 0, |_| Err("no disk".into()));
        let nobody = nobody.await.unwrap_err().to_string();
        assert!(nobody.contains("no disk"), "{nobody}");
        // nobody has that password: there is no such account
        let first = site
            .store
            .ensure_first_user(None, 0, |_| Ok(()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(first.name, FIRST_USER);
        assert!(first.generated);
        let again = site.store.ensure_first_user(None, 0, |_| Ok(()));
        assert!(again.await.unwrap().is_none());

        let client = browser();
        let sent = client.get(site.url("/")).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::SEE_OTHER);
        assert_eq!(sent.headers()["location"], "/login");
        let login = site.page(&client, "/login").await;
        assert!(login.contains(firstread::RESEARCH_USE));

        let answer = site.sign_in(&client, FIRST_USER, &first.password).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers().get_all("set-cookie").iter();
        let cookie = cookie
            .map(|c| c.to_str().unwrap())
            .find(|c| c.starts_with("firstread_session="))
            .unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
            "{cookie}"
        );
        let list = client.get(site.url("/worklist")).send().await.unwrap();
        assert_eq!(
            list.headers()["location"],
            "/account",
            "ours must be changed"
        );
        let account = site.page(&client, "/account").await;
        let filled = [
            ("csrf", field(&account, "csrf")),
            ("old", first.password),
            ("new", PASSWORD.to_owned()),
            ("again", PASSWORD.to_owned()),
        ];
        let change = client.post(site.url("/account/password")).form(&filled);
        assert_eq!(change.send().await.unwrap().status(), StatusCode::SEE_OTHER);
        let list = site.page(&client, "/worklist").await;
        assert!(list.contains("No open studies"));

        let csrf = field(&list, "csrf");
        let out = client.post(site.url("/logout")).form(&[("csrf", csrf)]);
        assert_eq!(out.send().await.unwrap().status(), StatusCode::SEE_OTHER);
        let list = client.get(site.url("/worklist")).send().await.unwrap();
        assert_eq!(list.status(), StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn guesses_fail_and_wait() {
    let site = Site::start().await;
    site.user("reader", Role::Reader).await;
    let client = browser();
    for name in ["reader", "nobody", "reader' OR '1'='1"] {
        let answer = site.sign_in(&client, name, "a wrong password").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let page = answer.text().await.unwrap();
        assert!(page.contains("Name and password do not fit."));
    }
    for _ in 0..5 {
        site.sign_in(&client, "reader", "a wrong password").await;
    }
    let answer = site.sign_in(&client, "reader", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "2");
    site.clock.advance_ms(2_000);
    let answer = site.sign_in(&client, "reader", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let site = Site::start().await;
    let client = site.signed_in(Role::Reader).await;
    // no token, a wrong token, another site's page
    for (csrf, origin) in [("", None), ("00", None), ("", Some("https://evil.example"))] {
        let mut out = client.post(site.url("/logout")).form(&[("csrf", csrf)]);
        if let Some(origin) = origin {
            out = out.header("origin", origin);
        }
        assert_eq!(out.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    let list = site.page(&client, "/worklist").await;
    let out = client
        .post(site.url("/logout"))
        .header("sec-fetch-site", "cross-site")
        .form(&[("csrf", field(&list, "csrf"))]);
    assert_eq!(out.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    // a login form from nowhere
    let filled = [
        ("form_token", "00"),
        ("name", "reader"),
        ("password", PASSWORD),
    ];
    let login = browser().post(site.url("/login")).form(&filled);
    assert_eq!(login.send().await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_session_ends_when_idle_and_in_any_case() {
    let settings = WebSettings {
        session_idle_minutes: 10,
        session_absolute_minutes: 30,
        ..WebSettings::default()
    };
    let site = Site::with(&Database::Sqlite, settings).await;
    let client = site.signed_in(Role::Reader).await;
    let status = async |path: &str| client.get(site.url(path)).send().await.unwrap().status();
    site.clock.advance_ms(9 * 60_000);
    assert_eq!(status("/worklist").await, StatusCode::OK);
    site.clock.advance_ms(9 * 60_000);
    // what the page asks by itself keeps nobody signed in
    assert_eq!(status("/worklist?fragment=1").await, StatusCode::OK);
    site.clock.advance_ms(2 * 60_000);
    assert_eq!(
        status("/worklist?fragment=1").await,
        StatusCode::UNAUTHORIZED
    );

    site.sign_in(&client, "reader", PASSWORD).await;
    for _ in 0..3 {
        site.clock.advance_ms(9 * 60_000);
        assert_eq!(status("/worklist").await, StatusCode::OK);
    }
    site.clock.advance_ms(4 * 60_000);
    assert_eq!(status("/worklist").await, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn after_login_only_our_own_pages_open() {
    let site = Site::start().await;
    site.user("reader", Role::Reader).await;
    for (next, location) in [
        ("/studies/1.2.3", "/studies/1.2.3"),
        ("https://evil.example/", "/worklist"),
        ("//evil.example/", "/worklist"),
        ("/\\evil.example/", "/worklist"),
    ] {
        let client = browser();
        let form = site.page(&client, "/login").await;
        let form_token = field(&form, "form_token");
        let filled = [
            ("form_token", form_token.as_str()),
            ("name", "reader"),
            ("password", PASSWORD),
            ("next", next),
        ];
        let login = client.post(site.url("/login")).form(&filled);
        let answer = login.send().await.unwrap();
        assert_eq!(answer.headers()["location"], location);
    }
}

/// A browser whose requests say that they were passed on for somebody.
fn browser_for(forwarded_for: &str) -> Client {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(forwarded_for).unwrap();
    headers.insert("x-forwarded-for", value);
    Client::builder()
        .cookie_store(true)
        .redirect(Policy::none())
        .default_headers(headers)
        .build()
        .unwrap()
}

fn behind_a_proxy() -> WebSettings {
    WebSettings {
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..WebSettings::default()
    }
}

/// Sends a hundred wrong passwords for one name at once, each from one of so many addresses; gives what was answered.
async fn burst(site: &Site, name: &str, addresses: usize) -> Vec<StatusCode> {
    let mut filled = Vec::new();
    for n in 0..100 {
        let client = browser_for(&format!("10.0.0.{}", n % addresses));
        let form_token = field(&site.page(&client, "/login").await, "form_token");
        filled.push((client, form_token));
    }
    let sent: Vec<_> = filled
        .into_iter()
        .map(|(client, form_token)| {
            let login = client.post(site.url("/login")).form(&[
                ("form_token", form_token.as_str()),
                ("name", name),
                ("password", "a wrong password"),
            ]);
            tokio::spawn(async move { login.send().await.unwrap().status() })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in sent {
        answers.push(answer.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_guesses_locks_the_name_and_the_lock_stands() {
    for database in databases() {
        let settings = WebSettings {
            lockout_failures: 5,
            ..behind_a_proxy()
        };
        let site = Site::with(&database, settings).await;
        site.user("anna", Role::Reader).await;
        let answers = burst(&site, "anna", 100).await;
        // the fifth is told of the lock, and so is who was checked beside it
        let wrong = answers.iter().filter(|a| **a == StatusCode::UNAUTHORIZED);
        assert_eq!(wrong.count(), 4, "{database:?}");
        let barred = |a: &&StatusCode| **a == StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(answers.iter().filter(barred).count(), 96, "{database:?}");
        let now_ms = site.clock.now_ms();
        let until = site.store.locked_until("anna", now_ms).await.unwrap();
        assert_eq!(until, Some(now_ms + 15 * 60_000), "{database:?}");
        let client = browser_for("10.0.1.1");
        let answer = site.sign_in(&client, "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let list = client.get(site.url("/worklist")).send().await.unwrap();
        assert_eq!(list.status(), StatusCode::SEE_OTHER, "not signed in");
        site.clock.advance_ms(15 * 60_000);
        let answer = site.sign_in(&client, "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_from_one_address_waits_as_if_it_came_in_a_row() {
    let settings = WebSettings {
        lockout_failures: 1000,
        ..behind_a_proxy()
    };
    let site = Site::with(&Database::Sqlite, settings).await;
    let answers = burst(&site, "anna", 1).await;
    let checked = answers.iter().filter(|a| **a == StatusCode::UNAUTHORIZED);
    // five are free, the sixth begins the wait; one more may be checked beside it
    let checked = checked.count();
    assert!((6..=7).contains(&checked), "{checked}");
}

/// Where each sign-in came from, by the trail.
async fn origins(site: &Site) -> Vec<String> {
    let trail = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
    let logins = trail.into_iter().filter(|e| e.action == "login");
    logins.map(|e| e.from.unwrap_or_default()).collect()
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_address_waits_for_itself() {
    let site = Site::with(&Database::Sqlite, behind_a_proxy()).await;
    site.user("anna", Role::Reader).await;
    for n in 0..6 {
        // what a client writes before the proxy does is not believed
        let client = browser_for(&format!("198.51.100.{n}, 10.1.1.1"));
        let answer = site.sign_in(&client, "anna", "a wrong password").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let answer = site
        .sign_in(&browser_for("10.1.1.1"), "anna", PASSWORD)
        .await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let answer = site
        .sign_in(&browser_for("10.1.1.2"), "anna", PASSWORD)
        .await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let answer = site
        .sign_in(&browser_for("junk"), "anna", "a wrong password")
        .await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let mut expected = vec!["10.1.1.1"; 7];
    expected.extend(["10.1.1.2", "127.0.0.1"]);
    assert_eq!(origins(&site).await, expected);
}

#[tokio::test]
async fn from_others_no_address_is_believed() {
    let settings = WebSettings {
        trusted_proxies: vec!["10.0.9.0/24".parse().unwrap()],
        ..WebSettings::default()
    };
    let site = Site::with(&Database::Sqlite, settings).await;
    site.user("anna", Role::Reader).await;
    for n in 0..6 {
        let client = browser_for(&format!("10.0.9.{n}"));
        site.sign_in(&client, "anna", "a wrong password").await;
    }
    let answer = site
        .sign_in(&browser_for("10.1.1.1"), "anna", PASSWORD)
        .await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(origins(&site).await, ["127.0.0.1"; 7]);
}
