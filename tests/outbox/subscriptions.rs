//! FHIR subscriptions: a study that stands out is told to a real HTTP receiver, once, through the outbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firstread::clock::Clock as _;
use firstread::fhir::subscription::read;
use firstread::fhir::{FhirCourier, FhirSettings};
use firstread::secrets::Vault;
use serde_json::{Value, json};

use crate::common::{Database, TestServer, databases, dicom_files, sample, study_uid};
use crate::mail::Peer;
use crate::queue::outbox;
use crate::site::{Site, uid};

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

#[tokio::test]
async fn a_report_that_meets_the_criteria_is_put_to_the_subscriber() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    for database in databases() {
        let before = peer.lines("requests.jsonl").len();
        let site = Site::on(&database).await;
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
    let files = dicom_files(&sample("one"));
    assert!(server.send(&files).0);
    server.wait_until_ranked(&study_uid(&files[0])).await;
    let ranked = Instant::now();
    while peer.lines("requests.jsonl").is_empty() {
        assert!(ranked.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let came = peer.lines("requests.jsonl");
    assert_eq!(came[0]["headers"]["authorization"], "Bearer s3cret");
}
