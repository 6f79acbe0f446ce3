//! The audit trail at an audit record repository: a TLS listener of its own that checks each message against the schema
//! of PS3.15, dies in the middle, is away, or does not know us.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firstread::atna::{AtnaSettings, Repository, Source};
use firstread::store::accounts::Role;
use firstread::store::trail::{Entry, Wanted};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::common::databases;
use crate::papers::Papers;
use crate::site::{Site, browser, uid};

/// The process, and what it has read.
struct Peer {
    child: Child,
    port: u16,
    read: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// On a port, or any if 0; gone after so many bytes, if not 0.
    fn start(papers: &Papers, port: u16, dies_after: usize) -> Self {
        let mut command = Command::new("python3");
        command
            .arg("tests/web/audit_repository.py")
            .arg(port.to_string())
            .args(["ca.pem", "ca-server.pem", "ca-server.key"].map(|name| papers.path(name)));
        if dies_after > 0 {
            command.arg(dies_after.to_string());
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        let read = Arc::new(Mutex::new(Vec::new()));
        let kept = read.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap();
                kept.lock().unwrap().push(message);
            }
        });
        Self { child, port, read }
    }

    fn read(&self) -> Vec<Value> {
        self.read.lock().unwrap().clone()
    }
}

fn settings(papers: &Papers, port: u16, client: &str) -> AtnaSettings {
    let own = |end: &str| papers.path(&format!("{client}.{end}"));
    let settings = AtnaSettings {
        host: "localhost".into(),
        port,
        ca_file: papers.path("ca.pem"),
        certificate_file: own("pem"),
        key_file: own("key"),
        ..AtnaSettings::default()
    };
    settings.check().unwrap();
    settings
}

/// Sends until the token is cancelled.
fn send(site: &Site, settings: AtnaSettings) -> CancellationToken {
    let stop = CancellationToken::new();
    let repository = Repository {
        store: site.store.clone(),
        clock: site.clock.clone(),
        settings,
        source: Source {
            id: "firstread".into(),
            site: "Clinic".into(),
            node: "mri-1".into(),
        },
    };
    tokio::spawn(repository.run(stop.clone()));
    stop
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn trail(site: &Site) -> Vec<Entry> {
    let all = site.store.trail_after(&Wanted::default(), 0).await;
    all.unwrap()
}

#[tokio::test]
async fn every_entry_comes_as_the_message_that_the_standard_has_for_it() {
    for database in databases() {
        let papers = Papers::new();
        let peer = Peer::start(&papers, 0, 0);
        let site = Site::on(&database).await;
        let study = site.study(1, 10, 60.0).await;
        let client = site.signed_in_as("anna <&>", Role::Reader).await;
        site.sign_in(&browser(), "anna <&>", "a wrong password")
            .await;
        site.page(&client, "/worklist?q=Jane").await;
        site.page(&client, &format!("/studies/{}", uid(1))).await;
        site.page(&client, "/account").await;
        let stop = send(&site, settings(&papers, peer.port, "ca-client"));
        let store = &site.store;
        until("all is sent", async || {
            store.trail_sent().await.unwrap().waiting == 0
        })
        .await;
        let entries = trail(&site).await;
        until("all is read", async || peer.read().len() >= entries.len()).await;
        let read = peer.read();
        assert_eq!(read.len(), entries.len());
        for (message, entry) in read.iter().zip(&entries) {
            assert_eq!(message["seq"], entry.seq);
            assert_eq!(message["details"]["digest"], entry.digest);
            assert_eq!(message["users"][0], entry.actor);
            assert_eq!(message["from"], "127.0.0.1");
            assert_eq!(message["kind"], "DICOM+RFC3881");
            assert_eq!(message["source"]["AuditSourceID"], "firstread");
            assert_eq!(message["source"]["AuditEnterpriseSiteID"], "Clinic");
            assert!(message["bytes"].as_u64().unwrap() < 8192);
            // what the trail does not hold
            let name = study.patient_name.as_deref().unwrap();
            assert!(!message["xml"].as_str().unwrap().contains(name));
        }
        let of = |action: &str| {
            let at = entries.iter().position(|e| e.action == action).unwrap();
            &read[at]
        };
        let dcm = |code: &str| serde_json::json!([code, "DCM"]);
        let login = of("login");
        assert_eq!(login["event"], dcm("110114"));
        assert_eq!(login["types"][0], dcm("110122"));
        assert_eq!(
            (&login["outcome"], &login["priority"]),
            (&"0".into(), &"85".into())
        );
        let refused = &read[entries.iter().position(|e| e.outcome == "refused").unwrap()];
        assert_eq!(
            (&refused["outcome"], &refused["priority"]),
            (&"4".into(), &"84".into())
        );
        assert_eq!(of("list.view")["event"], dcm("110112"));
        assert_eq!(of("list.view")["details"]["detail"], "q=Jane");
        // PS3.15 A.5.3.10 asks for the query; in Base64
        let query = "<ParticipantObjectQuery>cT1KYW5l</ParticipantObjectQuery>";
        assert!(of("list.view")["xml"].as_str().unwrap().contains(query));
        let seen = of("study.view");
        assert_eq!(
            (&seen["event"], &seen["action"]),
            (&dcm("110103"), &"R".into())
        );
        assert_eq!(
            seen["objects"][0],
            serde_json::json!([["110180", "DCM"], uid(1)])
        );
        let patient = study.patient_id.as_deref().unwrap();
        assert_eq!(seen["objects"][1][0], serde_json::json!(["2", "RFC-3881"]));
        let said = seen["objects"][1][1].as_str().unwrap();
        assert!(said.starts_with(patient), "{said}");
        // what is added later comes too, and nothing twice
        site.page(&client, &format!("/studies/{}?again", uid(1)))
            .await;
        until("one more", async || peer.read().len() > read.len()).await;
        let seqs: Vec<i64> = peer
            .read()
            .iter()
            .map(|m| m["seq"].as_i64().unwrap())
            .collect();
        let count = i64::try_from(seqs.len()).unwrap();
        assert_eq!(seqs, (1..=count).collect::<Vec<_>>());
        stop.cancel();
    }
}

#[tokio::test]
async fn a_repository_that_is_away_or_dies_holds_up_nobody_and_misses_nothing() {
    let papers = Papers::new();
    let port = Peer::start(&papers, 0, 0).port;
    let site = Site::recording_to(&databases()[0], format!("localhost:{port}")).await;
    let client = site.signed_in(Role::Admin).await;
    for n in 0..40 {
        site.page(&client, &format!("/worklist?q={n}")).await;
    }
    let stop = send(&site, settings(&papers, port, "ca-client"));
    let problem = async || site.store.trail_sent().await.unwrap().problem;
    until("away", async || problem().await.is_some()).await;
    let (why, _) = problem().await.unwrap();
    assert!(why.contains("could not reach it"), "{why}");
    let begun = Instant::now();
    let page = site.page(&client, "/system").await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    for word in [
        "does not take the audit trail since",
        "could not reach it",
        "entries wait",
    ] {
        assert!(page.contains(word), "{page}");
    }
    let metrics = site.page(&browser(), "/metrics").await;
    assert!(metrics.contains("firstread_audit_unsent 4"), "{metrics}");
    // gone in the middle: nothing counts as sent
    let mut dying = Peer::start(&papers, port, 20_000);
    until("died", async || dying.child.try_wait().unwrap().is_some()).await;
    until("noticed", async || {
        problem()
            .await
            .is_some_and(|(why, _)| !why.contains("could not reach it"))
    })
    .await;
    assert_eq!(site.store.trail_sent().await.unwrap().seq, 0);
    let peer = Peer::start(&papers, port, 0);
    until("all is sent", async || {
        site.store.trail_sent().await.unwrap().waiting == 0
    })
    .await;
    assert_eq!(problem().await, None);
    let all = trail(&site).await.len();
    until("all is read", async || peer.read().len() >= all).await;
    let page = site.page(&client, "/system").await;
    assert!(page.contains("last sent"), "{page}");
    stop.cancel();
}

#[tokio::test]
async fn nothing_is_told_to_whom_we_do_not_know_nor_by_whom_it_does_not() {
    let papers = Papers::new();
    let peer = Peer::start(&papers, 0, 0);
    let site = Site::on(&databases()[0]).await;
    site.signed_in(Role::Admin).await;
    let known = settings(&papers, peer.port, "ca-client");
    let strange = AtnaSettings {
        ca_file: papers.path("other.pem"),
        ..known.clone()
    };
    let unknown = settings(&papers, peer.port, "other-client");
    let nameless = AtnaSettings {
        certificate_file: "".into(),
        key_file: "".into(),
        ..known.clone()
    };
    for settings in [strange, unknown, nameless] {
        site.store.trail_was_sent(0, 0).await.unwrap();
        let stop = send(&site, settings);
        until("a problem", async || {
            site.store.trail_sent().await.unwrap().problem.is_some()
        })
        .await;
        stop.cancel();
        let sent = site.store.trail_sent().await.unwrap();
        assert_eq!(sent.seq, 0, "{sent:?}");
        assert_eq!(peer.read().len(), 0);
    }
    send(&site, known);
    until("sent", async || {
        site.store.trail_sent().await.unwrap().waiting == 0
    })
    .await;
}
