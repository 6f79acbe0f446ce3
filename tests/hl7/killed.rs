//! A process that is killed again and again while it sends results: the peer takes each message exactly once.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use firstread::store::ris::ResultDestination;
use serde_json::{Value, json};

use crate::common::{Database, TestServer, databases};
use crate::outbound::{screened, study};
use crate::peer::Python;
use crate::site::Site;

/// Results of the night.
const RESULTS: u32 = 60;
/// How often the process is killed in it.
const KILLS: usize = 20;

/// Messages that the peer took since it was last asked, acknowledged or not.
fn taken(peer: &mut Python) -> Vec<Value> {
    peer.ask(&json!({"answer": "AA", "taken": true}))["taken"]
        .as_array()
        .unwrap()
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_20_random_moments_each_result_is_acknowledged_exactly_once() {
    for database in databases() {
        killed(&database).await;
    }
}

async fn killed(database: &Database) {
    // An idempotent peer: it works 40 ms on a message, acknowledges it, and knows MSH-10 again.
    let Some(mut peer) = Python::start(&["collect", "40"]) else {
        return;
    };
    let port = peer.line()["port"].clone();
    let site = Site::on(database).await;
    let ris = ResultDestination {
        name: "ris".into(),
        mapping: "obx8".into(),
        only_moving_up: false,
        reached: String::new(),
    };
    site.store.know_result_destinations(&[ris]).await.unwrap();
    for n in 1..=RESULTS {
        let study = study(&site, n).await;
        screened(&site, &study, 0.5).await;
    }
    let settings = [
        (
            "HL7__DESTINATIONS",
            format!("[{{name=\"ris\", address=\"127.0.0.1:{port}\"}}]"),
        ),
        ("OUTBOX__RETRY_FIRST_SECONDS", "1".to_owned()),
    ];
    let settings = settings.map(|(key, value)| (format!("FIRSTREAD_{key}"), value));
    let mut server = TestServer::start_in_with(site.data.path(), &site.database_url, &settings);
    let mut seed = u64::from(std::process::id());
    for _ in 0..KILLS {
        // A small generator of its own: the moments differ in every run.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(30 + (seed >> 33) % 150)).await;
        server.kill_and_restart();
    }
    let started = Instant::now();
    let results = async || {
        let settled = site.store.settled_deliveries(500).await.unwrap();
        settled
            .into_iter()
            .filter(|d| d.destination == "ris" && d.state == "delivered")
            .count()
    };
    while results().await < RESULTS as usize {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let came = taken(&mut peer);
    let mut texts: HashMap<&str, &str> = HashMap::new();
    for message in &came {
        let id = message["control_id"].as_str().unwrap();
        let text = message["text"].as_str().unwrap();
        let first = *texts.entry(id).or_insert(text);
        assert_eq!(first, text, "a repeat is the same message");
    }
    assert_eq!(texts.len(), RESULTS as usize, "each was taken once");
    let studies: HashSet<&str> = texts
        .values()
        .map(|text| {
            text.split("113014^")
                .nth(1)
                .unwrap()
                .split('\r')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(studies.len(), RESULTS as usize, "each study once");
    let repeats = came.len() - RESULTS as usize;
    eprintln!("{KILLS} kills, {repeats} messages were repeated");
    assert!(repeats <= KILLS, "only what was in flight is repeated");
    // what is recorded as acknowledged is never sent again
    server.kill_and_restart();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(taken(&mut peer).is_empty());
}
