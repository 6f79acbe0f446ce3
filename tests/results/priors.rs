//! Earlier studies, asked for at a PACS: a real Orthanc, one of our own script, and one that is not there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use firstread::dicom::query::{self, Patient};
use serde_json::{Value, json};

use crate::common::{Database, TestServer, dicom_files, sample, study_uid, test_networks};
use crate::pacs::{Peer, destination, free_port};

/// The same pictures as an earlier study: other UIDs and another date, each as long as before.
fn two_years_before(files: &[PathBuf], folder: &Path) -> Vec<PathBuf> {
    let changed = |file: &PathBuf| {
        let mut bytes = std::fs::read(file).unwrap();
        for at in 0..bytes.len() - 8 {
            match &bytes[at..] {
                [b'2', b'.', b'2', b'5', b'.', first, ..] => {
                    bytes[at + 5] = if *first == b'9' { b'1' } else { first + 1 };
                }
                rest if rest.starts_with(b"20261120") => bytes[at + 3] = b'4',
                _ => {}
            }
        }
        let to = folder.join(file.file_name().unwrap());
        std::fs::write(&to, bytes).unwrap();
        to
    };
    files.iter().map(changed).collect()
}

fn asking(ae_title: &str, port: u16) -> Vec<(String, String)> {
    let models = test_networks().keep();
    [
        ("FIRSTREAD_PRIORS__HOST", "127.0.0.1"),
        ("FIRSTREAD_PRIORS__PORT", &port.to_string()),
        ("FIRSTREAD_PRIORS__AE_TITLE", ae_title),
        ("FIRSTREAD_PRIORS__ANSWER_TIMEOUT_SECONDS", "10"),
        ("FIRSTREAD_ANALYSIS__VOLUMETRY", "true"),
        ("FIRSTREAD_ANALYSIS__MODELS", models.to_str().unwrap()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

async fn study(server: &TestServer, uid: &str) -> Value {
    server.get(&format!("/api/v1/studies/{uid}")).await
}

async fn wait_for(server: &TestServer, uid: &str, done: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let study = study(server, uid).await;
        if done(&study) {
            return study;
        }
        assert!(
            started.elapsed() < Duration::from_mins(2),
            "in vain: {study}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn orthanc_is_asked_and_what_it_sends_is_a_prior() {
    let Some(orthanc) = Peer::orthanc() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let present = dicom_files(&sample("one"));
    let prior = two_years_before(&present, folder.path());
    let (uid, prior_uid) = (study_uid(&present[0]), study_uid(&prior[0]));
    let sent = Command::new("storescu")
        .args(["-xv", "-aec", "ORTHANC", "127.0.0.1"])
        .arg(orthanc.port.to_string())
        .args(&prior)
        .env("TCP_NODELAY", "1")
        .output()
        .unwrap();
    assert!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    let server = TestServer::start_with(&Database::Sqlite, &asking("ORTHANC", orthanc.port));
    // Orthanc does not know us yet: the search fails, and is repeated.
    assert!(server.send(&present).0);
    let waiting = wait_for(&server, &uid, |s| s["prior_search"]["said"].is_string()).await;
    assert_eq!(waiting["prior_search"]["state"], "waiting", "{waiting}");
    let us = json!({"AET": "FIRSTREAD", "Host": "127.0.0.1", "Port": server.dicom.port()});
    let known = reqwest::Client::new()
        .put(format!("http://127.0.0.1:{}/modalities/us", orthanc.http))
        .body(us.to_string())
        .send()
        .await
        .unwrap();
    assert!(known.status().is_success());
    let found = wait_for(&server, &uid, |s| s["prior_search"]["state"] == "done").await;
    assert_eq!(found["prior_search"]["said"], "1 of 1 brought");
    let compared = wait_for(&server, &uid, |s| !s["follow_up"].is_null()).await;
    assert_eq!(compared["follow_up"]["prior_study_uid"], prior_uid.as_str());
    assert_eq!(compared["reading"], "open");
    let change = &compared["follow_up"];
    assert_eq!(
        (&change["days"], &change["prior_date"]),
        (&730.into(), &"20241120".into())
    );
    let changes = change["changes"].as_array().unwrap();
    assert!(!changes.is_empty(), "{change}");
    for structure in changes {
        assert_eq!(structure["percent"], 0.0, "the same pictures");
        assert_eq!(structure["standing"], "within_limit");
    }
    assert_eq!(change["no_lesions"], "no_flair");
    let brought = study(&server, &prior_uid).await;
    assert_eq!(brought["reading"], "prior");
    assert_eq!(brought["follow_up"], Value::Null, "nothing is before it");
    assert_eq!(
        brought["prior_search"],
        Value::Null,
        "nobody asks for its priors"
    );
    assert_eq!(brought["deliveries"], json!([]));
    let listed = server.worklist().await;
    assert_eq!(listed.len(), 1, "a prior is not listed");
    assert_eq!(listed[0]["study_uid"], uid.as_str());
}

#[tokio::test]
async fn a_pacs_that_is_not_there_holds_nothing_up() {
    let server = TestServer::start_with(&Database::Sqlite, &asking("PACS", free_port()));
    let files = dicom_files(&sample("one"));
    let uid = study_uid(&files[0]);
    assert!(server.send(&files).0);
    server.wait_for(&uid, |i| i["volumetry"] == "done").await;
    let study = wait_for(&server, &uid, |s| {
        s["prior_search"]["attempts"].as_i64() >= Some(2)
    })
    .await;
    assert_eq!(study["prior_search"]["state"], "waiting");
    assert!(
        study["prior_search"]["said"]
            .as_str()
            .unwrap()
            .contains("could not reach PACS"),
        "{study}"
    );
}

#[tokio::test]
async fn what_a_pacs_says_of_a_search_stays_with_its_study() {
    let refusing =
        json!({"find": {"matches": 0, "status": 0xA700}, "comment": "no patient MUELLER ANNA"});
    let Some(peer) = Peer::told(&refusing) else {
        return;
    };
    let server = TestServer::start_with(&Database::Sqlite, &asking("PACS", peer.port));
    let files = dicom_files(&sample("one"));
    let uid = study_uid(&files[0]);
    assert!(server.send(&files).0);
    let study = wait_for(&server, &uid, |s| s["prior_search"]["said"].is_string()).await;
    let said = "the query was refused: status 0xA700";
    let shown = study["prior_search"]["said"].as_str().unwrap();
    assert!(
        shown.ends_with(&format!("{said}: no patient MUELLER ANNA")),
        "{shown}"
    );
    let log = server.log();
    assert!(log.contains(said), "{log}");
    assert!(!log.contains("MUELLER"), "{log}");
}

/// What a PACS that is told to answers gives for patient `P1`.
async fn asked(answers: Value) -> Option<Result<usize, String>> {
    let peer = Peer::told(&answers)?;
    let mut to = destination("priors", "PACS", peer.port);
    to.answer_timeout_seconds = 3;
    let patient = Patient {
        id: "P1".into(),
        issuer: None,
    };
    let found = query::studies(&to, "FIRSTREAD", &patient, ("20200101", "20260101")).await;
    Some(found.map(|all| all.len()).map_err(|e| e.to_string()))
}

#[tokio::test]
async fn answers_are_bounded_and_judged() {
    let find = |find: Value| json!({ "find": find });
    for (answers, expected) in [
        (find(json!({"matches": 3})), Ok(3)),
        (find(json!({"matches": 0})), Ok(0)),
        (find(json!({"matches": 2, "no_uid": true})), Ok(0)),
        (
            find(json!({"matches": 501})),
            Err("the association broke off: the PACS gave more than 500 answers"),
        ),
        (
            find(json!({"matches": 1, "status": 0xA700})),
            Err("the query was refused: status 0xA700"),
        ),
        (
            find(json!({"matches": 1, "silent": true})),
            Err("the association broke off: the peer did not answer in time"),
        ),
        (
            json!({}),
            Err("the destination does not take this kind of object"),
        ),
    ] {
        let Some(said) = asked(answers.clone()).await else {
            eprintln!("skipped: FIRSTREAD_TEST_PYTHON is not set");
            return;
        };
        match (&said, expected) {
            (Ok(n), Ok(want)) => assert_eq!(*n, want, "{answers}"),
            (Err(e), Err(want)) => assert!(
                e.contains(want) || e.contains("did not end its answer in time"),
                "{answers}: {e}"
            ),
            other => panic!("{answers}: {other:?}"),
        }
    }
}
