//! FHIR subscriptions: a study that stands out is told to a real HTTP receiver, once, through the outbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firstread::clock::Clock as _;
use firstread::fhir::subscription::read;
use firstread::fhir::{FhirCourier, FhirSettings};
use firstread::outbox::Outbox;
use firstread::secrets::Vault;
use firstread::store::accounts::Role;
use firstread::triage::OrderPriority;
use serde_json::{Value, json};

use crate::common::{Database, TestServer, databases, dicom_files, modified, sample, study_uid};
use crate::mail::Peer;
use crate::queue::outbox;
use crate::site::{Site, uid};

/// A subscription to orders.
fn of_orders(peer: &Peer) -> Value {
    let mut asked = asked(peer, Some("application/fhir+json"));
    asked["criteria"] = json!("ServiceRequest?priority=stat");
    asked
}

fn asked(peer: &Peer, payload: Option<&str>) -> Value {
    json!({
        "resourceType": "Subscription", "status": "requested", "reason": "urgent studies",
        "criteria": "DiagnosticReport?conclusion=urgent,critical",
        "channel": {
            "type": "rest-hook", "endpoint": format!("http://127.0.0.1:{}/hook?x=1", peer.port),
            "payload": payload, "header": ["Authorization: Bearer s3cret"],
        },
    })
}

/// What serves a subscription to orders, made by a token "ris" that works.
async fn subscribed_to_orders(site: &Site, peer: &Peer) -> Outbox {
    site.token_of("ris", Role::Integration).await;
    let now_ms = site.clock.now_ms();
    let vault = Arc::new(Vault::open(site.data.path()).unwrap());
    let wanted = read(&of_orders(peer), now_ms).unwrap_or_else(|e| panic!("{e}"));
    let made = site.store.subscribe(&wanted, None, "ris", now_ms).await;
    made.unwrap().unwrap();
    let settings = FhirSettings {
        subscription_hosts: vec!["127.0.0.1".into()],
        ..FhirSettings::default()
    };
    let courier = FhirCourier::new(site.store.clone(), settings, vault).unwrap();
    outbox(site, Arc::new(courier)).await
}

#[tokio::test]
async fn a_report_that_meets_the_criteria_is_put_to_the_subscriber() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    for database in databases() {
        let before = peer.lines("requests.jsonl").len();
        let site = Site::on(&database).await;
        site.token_of("ris", Role::Integration).await;
        let now_ms = site.clock.now_ms();
        let vault = Arc::new(Vault::open(site.data.path()).unwrap());
        let headers = r#"[["Authorization","Bearer s3cret"]]"#;
        for payload in [Some("application/fhir+json"), None] {
            let wanted = read(&asked(&peer, payload), now_ms).unwrap_or_else(|e| panic!("{e}"));
            let sealed = Some(vault.seal(headers).unwrap());
            let made = site.store.subscribe(&wanted, sealed, "ris", now_ms).await;
            made.unwrap().unwrap();
        }
        let settings = FhirSettings {
            subscription_hosts: vec!["127.0.0.1".into()],
            ..FhirSettings::default()
        };
        let courier = FhirCourier::new(site.store.clone(), settings, vault).unwrap();
        let outbox = outbox(&site, Arc::new(courier)).await;
        let (urgent, quiet) = (site.study(1, 12, 5.0).await, site.study(2, 12, 5.0).await);
        site.flag(&urgent, false).await;
        let standing = |s: &mut firstread::store::ranks::Standing| s.looked_at = None;
        let changed = site
            .store
            .change_standing(quiet.id, &site.ranker, now_ms, standing);
        changed.await.unwrap();
        peer.set("answer", "500 200");
        assert!(outbox.deliver_next("fhir:1").await.unwrap());
        assert!(!outbox.deliver_next("fhir:1").await.unwrap(), "not at once");
        site.clock.advance_ms(2_000);
        assert!(outbox.deliver_next("fhir:1").await.unwrap());
        assert!(!outbox.deliver_next("fhir:1").await.unwrap(), "never again");
        assert!(outbox.deliver_next("fhir:2").await.unwrap());
        let got = peer.lines("requests.jsonl").split_off(before);
        assert_eq!(got.len(), 3, "nothing of what is not flagged");
        for request in &got {
            assert_eq!(request["headers"]["authorization"], "Bearer s3cret");
            assert!(!request["body"].as_str().unwrap().contains("Family"));
        }
        let (with_body, without) = (&got[1], &got[2]);
        assert_eq!(
            with_body["headers"]["idempotency-key"],
            got[0]["headers"]["idempotency-key"]
        );
        assert_eq!(with_body["method"], "PUT");
        let path = format!("/hook/DiagnosticReport/{}?x=1", uid(1));
        assert_eq!(with_body["path"], path);
        assert_eq!(
            with_body["headers"]["content-type"],
            "application/fhir+json"
        );
        let report: Value = serde_json::from_str(with_body["body"].as_str().unwrap()).unwrap();
        assert_eq!(report["id"], uid(1));
        assert_eq!(report["conclusionCode"][0]["coding"][0]["code"], "urgent");
        assert_eq!(
            (&without["method"], &without["body"]),
            (&json!("POST"), &json!(""))
        );
        assert_eq!(without["path"], "/hook?x=1");

        // a subscription that fails says so; what is deleted is sent nothing more
        peer.set("answer", "503");
        site.flag(&quiet, true).await;
        for _ in 0..2 {
            assert!(outbox.deliver_next("fhir:1").await.unwrap());
            site.clock.advance_ms(10_000);
        }
        let failing = site.store.subscription(1).await.unwrap().unwrap();
        let shown = failing.resource(site.clock.now_ms());
        assert_eq!(shown["status"], "error");
        assert!(shown["error"].as_str().unwrap().contains("503"));
        peer.set("answer", "200");
        let ended = site.store.unsubscribe(1, "ris", site.clock.now_ms()).await;
        assert!(ended.unwrap());
        assert!(!outbox.deliver_next("fhir:1").await.unwrap());
        let told = site.store.deliveries_of(&uid(2)).await.unwrap();
        let to_first = told.iter().find(|d| d.destination == "fhir:1").unwrap();
        assert_eq!(to_first.state, "skipped");
        assert!(site.store.failing_destinations().await.unwrap().is_empty());
        let to = peer.lines("requests.jsonl").len();
        site.flag(&urgent, true).await;
        assert!(!outbox.deliver_next("fhir:1").await.unwrap());
        assert_eq!(peer.lines("requests.jsonl").len(), to);
    }
}

#[tokio::test]
async fn whose_token_is_revoked_is_told_nothing_more() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    for database in databases() {
        let before = peer.lines("requests.jsonl").len();
        let site = Site::on(&database).await;
        let now_ms = site.clock.now_ms();
        let outbox = subscribed_to_orders(&site, &peer).await;
        for n in [1, 2, 3] {
            site.study(n, 12, 5.0).await;
        }
        let stat = async |accession: &str| {
            let stat = OrderPriority::Stat;
            let ordered = site
                .store
                .set_order(accession, stat, "test", &site.ranker, now_ms);
            assert_eq!(ordered.await.unwrap().len(), 1);
            outbox.deliver_next("fhir:1").await.unwrap()
        };
        let told = || peer.lines("requests.jsonl").len() - before;
        assert!(stat("ACC-1").await);
        assert_eq!(told(), 1);
        // one waits when the token is revoked
        let waits =
            site.store
                .set_order("ACC-2", OrderPriority::Stat, "test", &site.ranker, now_ms);
        waits.await.unwrap();
        let token = site.store.tokens().await.unwrap()[0].id;
        site.store.revoke_token(token, now_ms).await.unwrap();
        assert!(outbox.deliver_next("fhir:1").await.unwrap());
        assert_eq!(told(), 1, "{database:?}");
        assert!(!stat("ACC-3").await, "nothing is made for it");
        // its program got another token of that name
        site.token_of("ris", Role::Integration).await;
        site.study(4, 12, 5.0).await;
        assert!(stat("ACC-4").await);
        assert_eq!(told(), 2, "{database:?}");
    }
}

#[tokio::test]
async fn an_order_that_becomes_stat_is_put_to_the_subscriber() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    for database in databases() {
        let site = Site::on(&database).await;
        let now_ms = site.clock.now_ms();
        let outbox = subscribed_to_orders(&site, &peer).await;
        let study = site.study(1, 12, 5.0).await;
        let mut told = Vec::new();
        for (priority, tells) in [
            (OrderPriority::Asap, false),
            (OrderPriority::Stat, true),
            (OrderPriority::Stat, false),
            (OrderPriority::Routine, false),
            (OrderPriority::Stat, true),
        ] {
            let before = peer.lines("requests.jsonl").len();
            let ordered = site
                .store
                .set_order("ACC-1", priority, "test", &site.ranker, now_ms);
            assert_eq!(ordered.await.unwrap(), [uid(1)]);
            assert_eq!(outbox.deliver_next("fhir:1").await.unwrap(), tells);
            told.extend(peer.lines("requests.jsonl").split_off(before));
        }
        site.flag(&study, true).await;
        assert!(!outbox.deliver_next("fhir:1").await.unwrap(), "no order");
        assert_eq!(told.len(), 2);
        let key = |n: usize| &told[n]["headers"]["idempotency-key"];
        assert_ne!(key(0), key(1));
        assert_eq!(told[0]["method"], "PUT");
        let path = format!("/hook/ServiceRequest/{}?x=1", uid(1));
        assert_eq!(told[0]["path"], path);
        let order: Value = serde_json::from_str(told[0]["body"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&order["resourceType"], &order["priority"]),
            (&json!("ServiceRequest"), &json!("stat"))
        );
    }
}

#[tokio::test]
async fn a_subscription_made_while_the_server_runs_is_told_of_a_study_that_comes() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    let set = [
        ("TRIAGE__ELEVATED_FROM_MINUTES", "0.0"),
        ("TRIAGE__URGENT_FROM_MINUTES", "0.0"),
        ("FHIR__SUBSCRIPTION_HOSTS", "[\"127.0.0.1\"]"),
    ];
    let set = set.map(|(key, value)| (format!("FIRSTREAD_{key}"), value.to_owned()));
    let server = TestServer::start_with(&Database::Sqlite, &set);
    let token = server.create_token("integration");
    let url = format!("http://{}/fhir/Subscription", server.http);
    let made = reqwest::Client::new().post(&url).bearer_auth(&token);
    let made = made
        .body(asked(&peer, None).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), 201);
    let orders = reqwest::Client::new().post(&url).bearer_auth(&token);
    let orders = orders.body(of_orders(&peer).to_string());
    assert_eq!(orders.send().await.unwrap().status(), 201);
    // the order is there before its study
    let order = format!("http://{}/api/v1/orders/ACC-9", server.http);
    let ordered = reqwest::Client::new().put(order).bearer_auth(&token);
    let ordered = ordered.body(json!({"priority": "stat"}).to_string());
    let ordered = ordered.header("Idempotency-Key", "1").send().await;
    assert_eq!(ordered.unwrap().status(), 200);
    let folder = tempfile::tempdir().unwrap();
    let files = modified(
        &dicom_files(&sample("one")),
        folder.path(),
        &["(0008,0050)=ACC-9"],
    );
    assert!(server.send(&files).0);
    let uid = study_uid(&files[0]);
    server.wait_until_ranked(&uid).await;
    let ranked = Instant::now();
    while peer.lines("requests.jsonl").len() < 2 {
        assert!(ranked.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut came = peer.lines("requests.jsonl");
    came.sort_by_key(|request| request["method"].as_str().unwrap().to_owned());
    for request in &came {
        assert_eq!(request["headers"]["authorization"], "Bearer s3cret");
    }
    assert_eq!(came[0]["method"], "POST");
    assert_eq!(came[1]["path"], format!("/hook/ServiceRequest/{uid}?x=1"));
}
