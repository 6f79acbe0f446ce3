//! Single sign-on: against a provider that checks what it is sent and lies as it is told, and against one that others
//! made.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firstread::clock::Clock as _;
use firstread::secrets::Vault;
use firstread::sso::{GroupRole, Sso, SsoSettings};
use firstread::store::accounts::{AccountError, Role, SessionLimits};
use firstread::store::entity::user_account;
use firstread::store::trail::Wanted;
use firstread::web::SignOn;
use futures_util::future::join_all;
use reqwest::{Client, Response, StatusCode};
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set, EntityTrait as _, TransactionTrait as _};
use serde_json::{Value, json};

use crate::common::databases;
use crate::site::{PASSWORD, Site, browser};

/// Where browsers meet firstread, as the provider knows it.
const BASE: &str = "http://127.0.0.1:1";

/// A process that ends with us.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Provider {
    _process: Process,
    port: u16,
    folder: tempfile::TempDir,
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
        let process = Process(child);
        BufReader::new(out).read_line(&mut line).unwrap();
        Self {
            _process: process,
            port: line.trim().parse().unwrap(),
            folder,
        }
    }

    fn says(&self, claims: &Value) {
        std::fs::write(self.folder.path().join("says.json"), claims.to_string()).unwrap();
    }

    fn sign_on(&self, vault: Vault) -> SignOn {
        let issuer = format!("http://127.0.0.1:{}", self.port);
        sign_on(&issuer, "firstread", "a client's secret", vault)
    }
}

fn sign_on(issuer: &str, client_id: &str, secret: &str, vault: Vault) -> SignOn {
    let role = |group: &str, role| GroupRole {
        group: group.into(),
        role,
    };
    let settings = SsoSettings {
        issuer: issuer.into(),
        client_id: client_id.into(),
        client_secret: firstread::alerts::Secret(secret.into()),
        base_url: BASE.into(),
        roles: vec![role("it", Role::Admin), role("neuro", Role::Reader)],
        ..SsoSettings::default()
    };
    settings.check().unwrap();
    SignOn {
        sso: Sso::new(&settings).unwrap().unwrap(),
        vault: vault.into(),
    }
}

fn anna(more: &Value) -> Value {
    let mut claims =
        json!({"sub": "a-1", "preferred_username": "anna", "groups": ["neuro", "choir"]});
    let all = claims.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    claims
}

/// The way of a browser: to the provider and back, as far as its address says.
async fn signs_on(site: &Site, client: &Client, next: &str) -> Response {
    let back = way_back(site, client, next).await;
    client.get(site.url(&back)).send().await.unwrap()
}

/// The provider's address that a browser is sent to.
async fn way_there(site: &Site, client: &Client, next: &str) -> String {
    let begun = client.get(site.url(&format!("/login/sso?next={next}")));
    let begun = begun.send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::SEE_OTHER);
    let cookie = begun.headers()["set-cookie"].to_str().unwrap();
    for word in [
        "firstread_sso=",
        "HttpOnly",
        "SameSite=Lax",
        "Path=/login/sso",
    ] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let there = begun.headers()["location"].to_str().unwrap().to_owned();
    for word in [
        "code_challenge_method=S256",
        "nonce=",
        "state=",
        "response_type=code",
    ] {
        assert!(there.contains(word), "{there}");
    }
    there
}

/// Path and query with which the provider sends the browser back.
async fn way_back(site: &Site, client: &Client, next: &str) -> String {
    let there = way_there(site, client, next).await;
    let sent = browser().get(there).send().await.unwrap();
    back_of(&sent)
}

fn back_of(sent: &Response) -> String {
    let back = sent.headers()["location"].to_str().unwrap();
    back.strip_prefix(BASE).unwrap().to_owned()
}

async fn is_signed_in(site: &Site, client: &Client) -> bool {
    let list = client.get(site.url("/worklist")).send().await.unwrap();
    list.status() == StatusCode::OK
}

#[tokio::test]
async fn groups_become_roles_and_the_account_stays_one() {
    for database in databases() {
        let provider = Provider::start();
        let site = Site::signing_on(&database, |vault| provider.sign_on(vault)).await;
        site.user("local", Role::Reader).await;
        let login = site.page(&browser(), "/login?next=/intake").await;
        assert!(
            login.contains("href=\"/login/sso?next=%2Fintake\""),
            "{login}"
        );
        provider.says(&anna(&json!({})));
        // whoever was signed in here before is so no more
        let client = browser();
        let before = site.sign_in(&client, "local", PASSWORD).await;
        let cookie = before.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(is_signed_in(&site, &client).await);
        let answer = signs_on(&site, &client, "/intake").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()["location"], "/intake");
        let session = cookie.split(';').next().unwrap();
        let old = browser()
            .get(site.url("/worklist"))
            .header("cookie", session);
        assert_eq!(old.send().await.unwrap().status(), StatusCode::SEE_OTHER);
        let page = site.page(&client, "/worklist").await;
        assert!(
            page.contains("<bdi>anna</bdi></a> <span class=\"dim\">reader"),
            "{page}"
        );
        // other groups, another role; sessions of before end
        provider.says(&anna(
            &json!({"groups": ["neuro", "it"], "preferred_username": "anna.new"}),
        ));
        let other = browser();
        signs_on(&site, &other, "").await;
        let page = site.page(&other, "/accounts").await;
        assert!(
            page.contains("single sign-on") && page.contains("<bdi>anna</bdi>"),
            "{page}"
        );
        assert!(!is_signed_in(&site, &client).await);
        // no password fits the account, and local accounts work as before
        let answer = site.sign_in(&browser(), "anna", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let answer = site.sign_in(&browser(), "local", PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let trail = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
        let first = trail.iter().find(|e| e.actor == "anna").unwrap();
        let said = (first.action.as_str(), first.outcome.as_str());
        assert_eq!(said, ("login", "done"));
        assert_eq!(first.detail.as_deref(), Some("by single sign-on"));
        assert!(!serde_json::to_string(&trail).unwrap().contains("code="));
    }
}

/// Two browsers of one person, of whom there is no account yet, come back at the same moment: one makes it, and
/// the other finds it, however the database lets them meet.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_sign_on_in_two_browsers_at_once_makes_one_account() {
    for database in databases() {
        let provider = Provider::start();
        let site = Site::signing_on(&database, |vault| provider.sign_on(vault)).await;
        provider.says(&anna(&json!({})));
        // the one is made, and not to be seen by the other until it is whole
        let db = sea_orm::Database::connect(&site.database_url)
            .await
            .unwrap();
        let first = db.begin().await.unwrap();
        let row = user_account::ActiveModel {
            name: Set("anna".into()),
            password_hash: Set("none".into()),
            role: Set("reader".into()),
            created_at: Set(site.clock.now_ms()),
            origin: Set("oidc".into()),
            subject: Set(Some(format!("http://127.0.0.1:{} a-1", provider.port))),
            must_change: Set(false),
            ..Default::default()
        };
        row.insert(&first).await.unwrap();
        let client = browser();
        let back = site.url(&way_back(&site, &client, "").await);
        let second = tokio::spawn({
            let client = client.clone();
            async move { client.get(back).send().await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!second.is_finished(), "it meets the first: {database:?}");
        first.commit().await.unwrap();
        let answer = second.await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{database:?}");
        assert!(is_signed_in(&site, &client).await);

        // many browsers of one person, and two people of one name
        provider.says(&anna(&json!({"sub": "b-2", "preferred_username": "bert"})));
        let mut coming = Vec::new();
        for _ in 0..6 {
            let client = browser();
            let back = site.url(&way_back(&site, &client, "").await);
            coming.push(client.get(back).send());
        }
        for answer in join_all(coming).await {
            let status = answer.unwrap().status();
            assert_eq!(status, StatusCode::SEE_OTHER, "{database:?}");
        }
        let now_ms = site.clock.now_ms();
        let vouched =
            ["c-3", "c-4"].map(|who| site.store.vouched_for(who, "carl", Role::Reader, now_ms));
        let (found, refused): (Vec<_>, Vec<_>) =
            join_all(vouched).await.into_iter().partition(Result::is_ok);
        assert_eq!((found.len(), refused.len()), (1, 1));
        assert!(matches!(refused[0], Err(AccountError::NameTaken(_))));
        let accounts = user_account::Entity::find().all(&db).await.unwrap();
        let mut names: Vec<&str> = accounts.iter().map(|a| a.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["anna", "bert", "carl"]);
    }
}

#[tokio::test]
async fn what_does_not_hold_lets_nobody_in() {
    let provider = Provider::start();
    let site = Site::signing_on(&databases()[0], |vault| provider.sign_on(vault)).await;
    let now = site.clock.now_ms() / 1000;
    let lies = [
        json!({"wrong": "iss"}),
        json!({"wrong": "aud"}),
        json!({"wrong": "aud2"}),
        json!({"wrong": "nonce"}),
        json!({"wrong": "key"}),
        json!({"wrong": "none"}),
        json!({"wrong": "hs256"}),
        json!({"exp": now - 90}),
        json!({"groups": ["choir"]}),
        json!({"groups": null}),
        json!({"groups": null, "info": {"groups": ["choir"]}}),
        json!({"preferred_username": " "}),
        json!({"preferred_username": "an\u{7}na"}),
        // user info of somebody else
        json!({"groups": null, "wrong": "info", "info": {"groups": ["it"]}}),
    ];
    for more in &lies {
        provider.says(&anna(more));
        let client = browser();
        let answer = signs_on(&site, &client, "").await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{more}");
        assert!(!is_signed_in(&site, &client).await, "{more}");
    }
    provider.says(&anna(&json!({})));
    let refused = async |client: &Client, back: &str| {
        let answer = client.get(site.url(back)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{back}");
    };
    let (begun, other) = (browser(), browser());
    let back = way_back(&site, &begun, "").await;
    // begun in another browser; with another state; from another provider; refused there; too late
    refused(&other, &back).await;
    refused(&begun, &back.replace("state=", "state=x")).await;
    refused(&begun, &format!("{back}&iss=https%3A%2F%2Fevil.example")).await;
    for _ in 0..2 {
        refused(&begun, &format!("{back}&error=access_denied&fragment=1")).await;
    }
    site.clock.advance_ms(16 * 60_000);
    refused(&begun, &back).await;
    // a code counts once
    let there = way_there(&site, &begun, "").await;
    let sent = browser().get(&there).send().await.unwrap();
    let back = back_of(&sent);
    let answer = begun.get(site.url(&back)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    refused(&begun, &back).await;
    // an open redirect it is not
    for next in [
        "https://evil.example/",
        "//evil.example",
        &format!("/{}", "a".repeat(2000)),
    ] {
        let answer = signs_on(&site, &browser(), next).await;
        assert_eq!(answer.headers()["location"], "/worklist", "{next}");
    }
    let trail = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
    let refused = trail.iter().filter(|e| e.outcome == "refused");
    assert_eq!(refused.count(), lies.len() + 7);
}

#[tokio::test]
async fn providers_differ_and_all_are_understood() {
    let provider = Provider::start();
    let site = Site::signing_on(&databases()[0], |vault| provider.sign_on(vault)).await;
    let now = site.clock.now_ms() / 1000;
    for more in [
        json!({}),
        json!({"exp": now - 30}),
        json!({"groups": "neuro"}),
        json!({"groups": null, "info": {"groups": ["neuro"]}}),
        // new keys from one sign-on to the next
        json!({"key": "new"}),
    ] {
        provider.says(&anna(&more));
        let client = browser();
        let answer = signs_on(&site, &client, "").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{more}");
        assert!(is_signed_in(&site, &client).await, "{more}");
    }
    // one that takes the secret in the body alone
    provider.says(&anna(&json!({"auth": "post"})));
    let site = Site::signing_on(&databases()[0], |vault| provider.sign_on(vault)).await;
    let client = browser();
    signs_on(&site, &client, "").await;
    assert!(is_signed_in(&site, &client).await);
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_provider_that_is_away_are_said() {
    let provider = Provider::start();
    let site = Site::signing_on(&databases()[0], |vault| provider.sign_on(vault)).await;
    site.user("anna", Role::Reader).await;
    provider.says(&anna(&json!({})));
    let answer = signs_on(&site, &browser(), "").await;
    assert_eq!(
        answer.status(),
        StatusCode::CONFLICT,
        "not the local account of that name"
    );
    // disabled here holds against the provider
    provider.says(&anna(&json!({"sub": "b-2", "preferred_username": "bert"})));
    let client = browser();
    signs_on(&site, &client, "").await;
    assert!(is_signed_in(&site, &client).await);
    let limits = SessionLimits {
        idle_ms: 1,
        absolute_ms: 1,
    };
    let accounts = site.store.accounts(limits, site.clock.now_ms());
    let accounts = accounts.await.unwrap();
    let bert = accounts.iter().find(|a| a.name == "bert").unwrap();
    site.store.disable(None, bert.id, Some(1)).await.unwrap();
    assert!(!is_signed_in(&site, &client).await);
    let answer = signs_on(&site, &client, "").await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    // away while somebody is there, and away from the beginning
    let begun = browser();
    let back = way_back(&site, &begun, "").await;
    drop(provider);
    let answer = begun.get(site.url(&back)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let trail = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
    assert_eq!(trail.last().unwrap().outcome, "failed");
    let away = Provider::start();
    let site = Site::signing_on(&databases()[0], |vault| away.sign_on(vault)).await;
    site.user("local", Role::Reader).await;
    drop(away);
    let answer = browser().get(site.url("/login/sso")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let answer = site.sign_in(&browser(), "local", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let none = Site::start().await;
    let answer = browser().get(none.url("/login/sso")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

/// oidc-provider-mock, which stands on Authlib: neither knows ours.
#[tokio::test]
async fn a_provider_that_others_made_is_understood() {
    let Some(python) = std::env::var_os("FIRSTREAD_TEST_PYTHON") else {
        return eprintln!("skipped: FIRSTREAD_TEST_PYTHON is not set");
    };
    let claims = anna(&json!({}));
    let child = Command::new(python)
        .args(["-m", "oidc_provider_mock", "--port", "0"])
        .args(["--require-registration", "--require-nonce"])
        .args(["--user-claims", &claims.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let mut said = BufReader::new(process.0.stderr.take().unwrap()).lines();
    let issuer = said
        .find_map(|line| {
            let line = line.unwrap();
            let (_, at) = line.split_once("running on ")?;
            at.split_whitespace().next().map(str::to_owned)
        })
        .unwrap();
    std::thread::spawn(move || said.count());
    let registered: Value = browser()
        .post(format!("{issuer}/oauth2/clients"))
        .json(&json!({"redirect_uris": [format!("{BASE}/login/sso/back")],
            "token_endpoint_auth_method": "client_secret_basic"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let (id, secret) = (&registered["client_id"], &registered["client_secret"]);
    let (id, secret) = (id.as_str().unwrap(), secret.as_str().unwrap());
    for (secret, status) in [
        (secret, StatusCode::SEE_OTHER),
        ("another", StatusCode::FORBIDDEN),
    ] {
        let with = |vault| sign_on(&issuer, id, secret, vault);
        let site = Site::signing_on(&databases()[0], with).await;
        let client = browser();
        let there = way_there(&site, &client, "").await;
        let sent = browser().post(there).form(&[("sub", "a-1")]);
        let back = back_of(&sent.send().await.unwrap());
        let answer = client.get(site.url(&back)).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(is_signed_in(&site, &client).await, status.is_redirection());
    }
}
