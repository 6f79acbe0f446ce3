//! Single sign-on against a provider that checks what it is sent, and lies as it is told.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use firstread::secrets::Vault;
use firstread::sso::{GroupRole, Sso, SsoSettings};
use firstread::store::accounts::Role;
use firstread::store::trail::Wanted;
use firstread::web::SignOn;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::common::databases;
use crate::site::{PASSWORD, Site, browser};

struct Provider {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Provider {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("python3")
            .arg("tests/web/oidc_provider.py")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Self {
            child,
            port,
            folder,
        }
    }

    fn says(&self, claims: &Value) {
        std::fs::write(self.folder.path().join("says.json"), claims.to_string()).unwrap();
    }

    fn settings(&self) -> SsoSettings {
        let role = |group: &str, role| GroupRole {
            group: group.into(),
            role,
        };
        SsoSettings {
            issuer: format!("http://127.0.0.1:{}", self.port),
            client_secret: firstread::alerts::Secret("a client's secret".into()),
            base_url: "http://127.0.0.1:1".into(),
            roles: vec![role("it", Role::Admin), role("neuro", Role::Reader)],
            ..SsoSettings::default()
        }
    }

    fn sign_on(&self, vault: Vault) -> SignOn {
        let settings = self.settings();
        settings.check().unwrap();
        SignOn {
            sso: Sso::new(&settings).unwrap().unwrap(),
            vault: vault.into(),
        }
    }
}

fn anna(more: &Value) -> Value {
    let mut claims = json!({"sub": "a-1", "preferred_username": "anna", "groups": ["neuro", "choir"]});
    let all = claims.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    claims
}

/// The way of a browser: to the provider and back, as far as its address says.
async fn signs_on(site: &Site, client: &Client, next: &str) -> Response {
    let back = way_back(site, client, next).await;
    client.get(site.url(&back)).send().await.unwrap()
}

/// Path and query with which the provider sends the browser back.
async fn way_back(site: &Site, client: &Client, next: &str) -> String {
    let begun = client.get(site.url(&format!("/login/sso?next={next}")));
    let begun = begun.send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::SEE_OTHER);
    let there = begun.headers()["location"].to_str().unwrap().to_owned();
    for word in ["code_challenge_method=S256", "nonce=", "state=", "response_type=code"] {
        assert!(there.contains(word), "{there}");
    }
    let sent = browser().get(there).send().await.unwrap();
    let back = sent.headers()["location"].to_str().unwrap().to_owned();
    back.strip_prefix("http://127.0.0.1:1").unwrap().to_owned()
}

#[tokio::test]
async fn groups_become_roles_and_the_account_stays_one() {
    for database in databases() {
        let provider = Provider::start();
        let site = Site::signing_on(&database, |vault| provider.sign_on(vault)).await;
        site.user("local", Role::Reader).await;
        let login = site.page(&browser(), "/login?next=/intake").await;
        assert!(login.contains("href=\"/login/sso?next=/intake\""), "{login}");
        provider.says(&anna(&json!({})));
        let client = browser();
        let answer = signs_on(&site, &client, "/intake").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()["location"], "/intake");
        let page = site.page(&client, "/worklist").await;
        assert!(page.contains("<bdi>anna</bdi></a> <span class=\"dim\">reader"), "{page}");
        // other groups, another role; sessions of before end
        provider.says(&anna(&json!({"groups": ["neuro", "it"], "preferred_username": "anna.new"})));
        let other = browser();
        signs_on(&site, &other, "").await;
        let page = site.page(&other, "/accounts").await;
        assert!(page.contains("single sign-on") && page.contains("<bdi>anna</bdi>"), "{page}");
        let before = client.get(site.url("/worklist")).send().await.unwrap();
        assert_eq!(before.status(), StatusCode::SEE_OTHER);
        // no password fits the account, and local accounts work as before
        let answer = site.sign_in(&browser(), "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let answer = site.sign_in(&browser(), "local", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let trail = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
        let first = trail.iter().find(|e| e.action == "login").unwrap();
        assert_eq!((first.actor.as_str(), first.outcome.as_str()), ("anna", "done"));
        assert!(!serde_json::to_string(&trail).unwrap().contains("code="));
    }
}

#[tokio::test]
async fn what_does_not_hold_lets_nobody_in() {
    let provider = Provider::start();
    let site = Site::signing_on(&databases()[0], |vault| provider.sign_on(vault)).await;
    for (more, status) in [
        (json!({"wrong": "iss"}), StatusCode::FORBIDDEN),
        (json!({"wrong": "aud"}), StatusCode::FORBIDDEN),
        (json!({"wrong": "exp"}), StatusCode::FORBIDDEN),
        (json!({"wrong": "nonce"}), StatusCode::FORBIDDEN),
        (json!({"wrong": "key"}), StatusCode::FORBIDDEN),
        (json!({"wrong": "none"}), StatusCode::FORBIDDEN),
        (json!({"groups": ["choir"]}), StatusCode::FORBIDDEN),
        (json!({"groups": null}), StatusCode::FORBIDDEN),
        (json!({"preferred_username": " "}), StatusCode::FORBIDDEN),
    ] {
        provider.says(&anna(&more));
        let client = browser();
        let answer = signs_on(&site, &client, "").await;
        assert_eq!(answer.status(), status, "{more}");
        let list = client.get(site.url("/worklist")).send().await.unwrap();
        assert_eq!(list.status(), StatusCode::SEE_OTHER, "{more}: signed in");
    }
    provider.says(&anna(&json!({})));
    // begun in another browser
    let (begun, other) = (browser(), browser());
    let back = way_back(&site, &begun, "").await;
    let answer = other.get(site.url(&back)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    // with another state
    let forged = back.replace("state=", "state=x");
    let answer = begun.get(site.url(&forged)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    // too late
    site.clock.advance_ms(16 * 60_000);
    let answer = begun.get(site.url(&back)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    // a code counts once
    let back = way_back(&site, &begun, "").await;
    let answer = begun.get(site.url(&back)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let answer = begun.get(site.url(&back)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    // an open redirect it is not
    let answer = signs_on(&site, &browser(), "https://evil.example/").await;
    assert_eq!(answer.headers()["location"], "/worklist");
    let refused = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
    let refused = refused.iter().filter(|e| e.action == "login" && e.outcome == "refused");
    assert_eq!(refused.count(), 13);
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_provider_that_is_away_are_said() {
    let provider = Provider::start();
    let site = Site::signing_on(&databases()[0], |vault| provider.sign_on(vault)).await;
    site.user("anna", Role::Reader).await;
    provider.says(&anna(&json!({})));
    let answer = signs_on(&site, &browser(), "").await;
    assert_eq!(answer.status(), StatusCode::CONFLICT, "not the local account of that name");
    drop(provider);
    let away = Provider::start();
    let sign_on = |vault| away.sign_on(vault);
    let site = Site::signing_on(&databases()[0], sign_on).await;
    drop(away);
    let answer = browser().get(site.url("/login/sso")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let none = Site::start().await;
    let answer = browser().get(none.url("/login/sso")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}
