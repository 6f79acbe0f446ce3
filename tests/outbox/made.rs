//! A destination that was made on the page: in force while the server runs, and named by steps of the settings file.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use firstread::clock::{Clock as _, SystemClock};
use firstread::store::Store;
use serde_json::Value;

use crate::common::{Database, TestServer, dicom_files, sample, study_uid};
use crate::mail::Peer;

const NAME: &str = "page:hub";

async fn keep(store: &Store, filled: Option<&str>) {
    let filled = filled.map(|to| BTreeMap::from([("to".to_owned(), to.to_owned())]));
    let now_ms = SystemClock.now_ms();
    store
        .keep_made_destination(NAME, "webhook", filled.as_ref(), ("", "root"), now_ms)
        .await
        .unwrap();
}

async fn next(peer: &Peer, before: usize) -> Value {
    let started = Instant::now();
    loop {
        if let Some(found) = peer.lines("requests.jsonl").get(before) {
            return found.clone();
        }
        assert!(started.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_destination_of_the_page_is_served_changed_and_named_by_steps() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    let mut server = TestServer::start_with(&Database::Sqlite, &[]);
    let store = Store::open(None, &server.data).await.unwrap();
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", peer.port);
    for (n, path) in ["/one", "/two"].into_iter().enumerate() {
        keep(&store, Some(&at(path))).await;
        // another process made it: it is found within seconds
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(store.send_test(NAME, SystemClock.now_ms()).await.unwrap());
        let got = next(&peer, n).await;
        assert_eq!(got["path"], path);
        assert!(got["body"].as_str().unwrap().contains("\"event\":\"test\""));
    }
    let set = [
        ("TRIAGE__ELEVATED_FROM_MINUTES", "0.0"),
        ("TRIAGE__URGENT_FROM_MINUTES", "0.0"),
        ("ALERTS__BANDS", "[\"urgent\", \"critical\"]"),
        ("ALERTS__BASE_URL", "https://f.example"),
        ("ALERTS__STEPS", "[{after_minutes=0, to=[\"page:hub\"]}]"),
    ];
    let set = set.map(|(key, value)| (format!("FIRSTREAD_{key}"), value.to_owned()));
    // what is not recorded yet would be repeated
    let started = Instant::now();
    while !store.open_deliveries(1).await.unwrap().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.kill();
    let telling = TestServer::start_in_with(&server.data, "", &set);
    let files = dicom_files(&sample("one"));
    assert!(telling.send(&files).0);
    telling.wait_until_ranked(&study_uid(&files[0])).await;
    let alert = next(&peer, 2).await;
    let body: Value = serde_json::from_str(alert["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["event"], "alert");
    let link = body["cases"][0]["link"].as_str().unwrap();
    assert!(link.ends_with(&study_uid(&files[0])));
    // what was removed gets nothing more
    keep(&store, None).await;
    assert!(!store.send_test(NAME, SystemClock.now_ms()).await.unwrap());
    assert!(store.destinations().await.unwrap().is_empty());
}
