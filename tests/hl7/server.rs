//! The whole way: studies by DICOM, what the RIS says of them by HL7, in every order of arrival.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{Database, TestServer, databases, dicom_files, modified, sample, study_uid};
use crate::peer::{Peer, Python, message, msa};

/// Within this time an order shows in the list.
const SHOWS_WITHIN: Duration = Duration::from_secs(2);
/// Images of a sample that are sent: what the network makes of them is not the question here.
const IMAGES: usize = 6;

fn start(database: &Database) -> TestServer {
    let on = ("FIRSTREAD_LISTEN__HL7".to_owned(), "127.0.0.1:0".to_owned());
    TestServer::start_with(database, &[on])
}

/// Some images of a sample as a study of this patient and accession number.
fn study(folder: &Path, name: &str, n: u32) -> (String, Vec<PathBuf>) {
    let files: Vec<PathBuf> = dicom_files(&sample(name))
        .into_iter()
        .take(IMAGES)
        .collect();
    let files = modified(
        &files,
        &folder.join(name),
        &[
            &format!("(0010,0020)=PID-{n}"),
            &format!("(0008,0050)=ACC-{n}"),
        ],
    );
    (study_uid(&files[0]), files)
}

async fn say(server: &TestServer, kind: &str, id: &str, rest: &str) {
    let mut peer = Peer::connect(server.hl7.unwrap()).await;
    let answer = peer.send(&message(kind, id, rest)).await;
    assert_eq!(msa(&answer), ("AA", id), "{answer}");
}

fn order(n: u32) -> String {
    format!("PID|1||PID-{n}\rORC|NW||ACC-{n}\rTQ1|1||||||||S\rOBR|1||ACC-{n}|MRBR\r")
}

fn report(n: u32) -> String {
    format!("PID|1||PID-{n}\rOBR|1||ACC-{n}{}F\r", "|".repeat(22))
}

async fn wait_for(server: &TestServer, uid: &str, within: Duration, key: &str, value: &str) {
    let started = Instant::now();
    let path = format!("/api/v1/studies/{uid}");
    loop {
        let found = server.get(&path).await;
        if found[key] == value {
            eprintln!("{key} {value} after {:?}", started.elapsed());
            return;
        }
        assert!(started.elapsed() < within, "{key} is {}", found[key]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_order_before_during_and_after_its_study_ranks_it_within_2_s() {
    let folder = tempfile::tempdir().unwrap();
    let (before, during, after) = (
        study(folder.path(), "one", 1),
        study(folder.path(), "three", 2),
        study(folder.path(), "four", 3),
    );
    for database in databases() {
        let server = start(&database);
        say(&server, "ORM^O01", "1", &order(1)).await;
        assert!(server.send(&before.1).0);
        wait_for(&server, &before.0, SHOWS_WITHIN, "order_priority", "stat").await;
        // half of its images are there
        assert!(server.send(&during.1[..IMAGES / 2]).0);
        say(&server, "ORM^O01", "2", &order(2)).await;
        wait_for(&server, &during.0, SHOWS_WITHIN, "order_priority", "stat").await;
        assert!(server.send(&during.1[IMAGES / 2..]).0);
        assert!(server.send(&after.1).0);
        server.wait_until_ranked(&after.0).await;
        say(&server, "ORM^O01", "3", &order(3)).await;
        wait_for(&server, &after.0, SHOWS_WITHIN, "order_priority", "stat").await;
        server.wait_until_ranked(&during.0).await;
        wait_for(&server, &during.0, SHOWS_WITHIN, "order_priority", "stat").await;
    }
}

#[tokio::test]
async fn a_final_report_before_and_during_its_study_marks_it_read_once_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (before, during) = (
        study(folder.path(), "one", 1),
        study(folder.path(), "three", 2),
    );
    for database in databases() {
        let mut server = start(&database);
        say(&server, "ORU^R01", "1", &report(1)).await;
        assert!(server.send(&before.1).0);
        assert!(server.send(&during.1[..IMAGES / 2]).0);
        say(&server, "ORU^R01", "2", &report(2)).await;
        assert!(server.send(&during.1[IMAGES / 2..]).0);
        let whole = Duration::from_secs(20);
        wait_for(&server, &before.0, whole, "reading", "read").await;
        wait_for(&server, &during.0, whole, "reading", "read").await;
        // what was taken is known after a crash too
        server.kill_and_restart();
        say(&server, "ORU^R01", "1", &report(1)).await;
        let found = server.get(&format!("/api/v1/studies/{}", during.0)).await;
        let what: Vec<&str> = found["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["what"].as_str().unwrap())
            .collect();
        assert_eq!(what, ["read"], "never read and reopened in between");
    }
}

#[tokio::test]
async fn late_images_under_a_merged_patient_are_not_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (uid, files) = study(folder.path(), "one", 1);
    let (other, others) = study(folder.path(), "three", 1);
    for database in databases() {
        let server = start(&database);
        assert!(server.send(&files[..3]).0);
        say(&server, "ADT^A40", "1", "PID|1||PID-9\rMRG|PID-1\r").await;
        assert!(server.send(&files[3..]).0);
        assert!(server.send(&others).0);
        for uid in [&uid, &other] {
            // Rows follow the sender's answer within a moment.
            let path = format!("/api/v1/studies/{uid}");
            let mut found = server.get(&path).await;
            let started = Instant::now();
            while found["images"] != IMAGES && started.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                found = server.get(&path).await;
            }
            assert_eq!(found["patient_id"], "PID-9");
            assert_eq!(found["images"], IMAGES);
        }
    }
}

#[tokio::test]
async fn what_a_ris_says_of_a_patient_is_covered_and_never_logged() {
    let Some(mut ris) = Python::start(&["serve"]) else {
        return;
    };
    let port = ris.line()["port"].clone();
    let text = "unknown patient MUELLER^ANNA 19560102";
    ris.ask(&json!({"answer": "AR", "text": text}));
    let folder = tempfile::tempdir().unwrap();
    let (uid, files) = study(folder.path(), "one", 1);
    let key = "FIRSTREAD_HL7__DESTINATIONS".to_owned();
    let ris_at = format!("[{{name=\"ris\", address=\"127.0.0.1:{port}\"}}]");
    for database in databases() {
        let server = TestServer::start_with(&database, &[(key.clone(), ris_at.clone())]);
        assert!(server.send(&files).0);
        let started = Instant::now();
        let told = loop {
            let told = server.get(&format!("/api/v1/studies/{uid}")).await["deliveries"].clone();
            if told[0]["state"] == "dead" {
                break told[0].clone();
            }
            assert!(started.elapsed() < Duration::from_mins(1), "{told}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(told["said"], "AR");
        server.covers(&told, "MUELLER").await;
    }
}

#[tokio::test]
async fn kill_9_while_sending_repeats_the_same_message_and_no_other() {
    let Some(mut ris) = Python::start(&["serve"]) else {
        return;
    };
    let port = ris.line()["port"].clone();
    let folder = tempfile::tempdir().unwrap();
    let (uid, files) = study(folder.path(), "one", 1);
    let key = "FIRSTREAD_HL7__DESTINATIONS".to_owned();
    let ris_at = format!("[{{name=\"ris\", address=\"127.0.0.1:{port}\"}}]");
    for database in databases() {
        ris.ask(&json!({"answer": "hang"}));
        let mut server = TestServer::start_with(&database, &[(key.clone(), ris_at.clone())]);
        assert!(server.send(&files).0);
        // the RIS has it, we do not know: the worst moment
        let first = ris.line();
        assert!(first["invalid"].is_null(), "{first}");
        ris.ask(&json!({"answer": "AA"}));
        server.kill_and_restart();
        let second = ris.line();
        assert_eq!(second["control_id"], first["control_id"]);
        assert_eq!(second["text"], first["text"]);
        let started = Instant::now();
        let told = loop {
            let told = server.get(&format!("/api/v1/studies/{uid}")).await["deliveries"].clone();
            if told[0]["state"] == "delivered" {
                break told;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{told}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
        let connections = ris.ask(&json!({"answer": "AA"}))["connections"].clone();
        server.kill_and_restart();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = ris.ask(&json!({"answer": "AA"}))["connections"].clone();
        assert_eq!(after, connections, "what is delivered is never sent again");
    }
}
