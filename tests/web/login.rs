//! Signing in and out, as people do and as attackers would.

use firstread::store::accounts::{FIRST_USER, Role};
use firstread::web::WebSettings;
use reqwest::StatusCode;

use crate::common::{Database, databases};
use crate::site::{PASSWORD, Site, browser, field};

#[tokio::test]
async fn the_first_user_signs_in_and_out() {
    for database in databases() {
        let site = Site::on(&database).await;
        let first = site
            .store
            .ensure_first_user(None, 0)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(first.name, FIRST_USER);
        assert!(first.generated);
        let again = site.store.ensure_first_user(None, 0).await.unwrap();
        assert!(again.is_none());

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
