//! A study goes in, a ranked row comes out: the real server, stock dcmtk, both databases.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{TestServer, databases, dicom_files, modified, real_study, sample, study_uid, tag};

fn sample_files(name: &str) -> Vec<PathBuf> {
    dicom_files(&sample(name))
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

#[tokio::test]
async fn samples_are_ranked_with_reasons() {
    for database in databases() {
        let server = TestServer::start(&database);
        let mut studies = Vec::new();
        for entry in std::fs::read_dir(sample("")).unwrap() {
            let folder = entry.unwrap().path();
            let files = if folder.is_dir() {
                dicom_files(&folder)
            } else {
                vec![]
            };
            if let Some(first) = files.first() {
                let (content, said) = server.send(&files);
                assert!(content, "{said}");
                studies.push((
                    folder.file_name().unwrap().to_owned(),
                    study_uid(first),
                    tag(first, "0040,1003"),
                ));
            }
        }
        assert!(studies.len() >= 4);
        for (name, uid, requested) in &studies {
            let item = server.wait_until_ranked(uid).await;
            if name == "phantom" {
                assert_eq!(text(&item, "state"), "not_analysed", "{item}");
                assert_ne!(text(&item, "not_analysed_reason"), "");
            } else {
                assert_eq!(text(&item, "state"), "screened", "{name:?} {item}");
                assert!(item["p_abnormal"].as_f64().is_some());
                assert_eq!(text(&item, "volumetry"), "not_done");
            }
            if requested == "STAT" {
                assert_eq!(text(&item, "order_priority"), "stat");
            }
            let sum: f64 = item["reasons"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["minutes"].as_f64().unwrap())
                .sum();
            let head_start = item["head_start_minutes"].as_f64().unwrap();
            assert!((sum - head_start).abs() < 0.01, "the terms add up: {item}");
        }
        server.wait_until_idle().await;
        let list = server.worklist().await;
        let keys: Vec<&str> = list.iter().map(|i| text(i, "effective_arrival")).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        let ranks: Vec<u64> = list.iter().map(|i| i["rank"].as_u64().unwrap()).collect();
        assert_eq!(ranks, (1..=list.len() as u64).collect::<Vec<_>>());
        // STAT lies outside every cap: first, whatever the images show.
        assert_eq!(text(&list[0], "order_priority"), "stat");
    }
}

#[tokio::test]
async fn a_resend_is_idempotent_and_conflicts_are_kept_aside() {
    for database in databases() {
        let server = TestServer::start(&database);
        let files = sample_files("one");
        let uid = study_uid(&files[0]);
        assert!(server.send(&files).0);
        assert!(server.send(&files).0, "the same again");
        let first = server.wait_until_ranked(&uid).await;
        assert_eq!(first["images"], files.len());

        let folder = tempfile::tempdir().unwrap();
        // The same SOP Instance UID with other bytes.
        let other = modified(
            &files[..1],
            &folder.path().join("bytes"),
            &["(0008,103e)=another text"],
        );
        let (_, said) = server.send(&other);
        assert!(
            said.contains("0xb000") || said.contains("Warning"),
            "{said}"
        );
        // The same study under another patient.
        let stranger = modified(
            &files[..1],
            &folder.path().join("patient"),
            &["(0010,0020)=SOMEONE-ELSE", "(0008,0018)=1.2.3.4.5.6.7"],
        );
        let (_, said) = server.send(&stranger);
        assert!(
            said.contains("0xb000") || said.contains("Warning"),
            "{said}"
        );
        let after = server.get(&format!("/api/v1/studies/{uid}")).await;
        assert_eq!(
            after["images"],
            files.len(),
            "nothing of it entered the study"
        );
        assert_eq!(after["patient_id"], first["patient_id"]);
        let aside = std::fs::read_dir(server.data.join("quarantine"))
            .unwrap()
            .count();
        assert_eq!(aside, 2);
    }
}

#[tokio::test]
async fn late_slices_run_what_they_touch_again() {
    for database in databases() {
        let server = TestServer::start(&database);
        let files = sample_files("one");
        let uid = study_uid(&files[0]);
        let (early, late) = files.split_at(files.len() - 3);
        assert!(server.send(early).0);
        server.wait_until_ranked(&uid).await;
        assert!(server.send(late).0);
        let item = server.wait_for(&uid, |i| i["images"] == files.len()).await;
        assert_eq!(text(&item, "study_uid"), uid);
        // The series settles again with all its slices, after a doubled quiet time.
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.wait_until_idle().await;
        let study = server.get(&format!("/api/v1/studies/{uid}")).await;
        assert_eq!(study["series"][0]["state"], "complete", "{study}");
        assert_eq!(text(&study, "state"), "screened");
    }
}

#[tokio::test]
async fn new_images_put_a_read_study_back_on_the_list() {
    for database in databases() {
        let server = TestServer::start(&database);
        let files = sample_files("one");
        let uid = study_uid(&files[0]);
        let (early, late) = files.split_at(files.len() - 3);
        assert!(server.send(early).0);
        server.wait_until_ranked(&uid).await;
        let read = reqwest::Client::new()
            .post(format!("http://{}/api/v1/studies/{uid}/read", server.http))
            .bearer_auth(&server.token)
            .send();
        assert_eq!(read.await.unwrap().status().as_u16(), 200);
        assert!(server.worklist().await.is_empty());
        assert!(server.send(late).0);
        let item = server.wait_for(&uid, |i| i["note"] == "new images").await;
        assert_eq!(text(&item, "study_uid"), uid);
        let study = server.get(&format!("/api/v1/studies/{uid}")).await;
        assert_eq!(text(&study, "reading"), "open");
        let last = &study["history"][0];
        assert_eq!(
            (text(last, "what"), text(last, "detail")),
            ("reopened", "new images")
        );
        assert!(last["who"].is_null());
        assert_eq!(text(&study["history"][1], "what"), "read");
        assert_eq!(
            study["history"].as_array().unwrap().len(),
            2,
            "once: {study}"
        );
    }
}

#[tokio::test]
async fn an_order_moves_its_study_before_and_after_arrival() {
    for database in databases() {
        let server = TestServer::start(&database);
        let files = sample_files("one");
        let folder = tempfile::tempdir().unwrap();
        let files = modified(
            &files,
            folder.path(),
            &["(0008,0050)=ACC77", "(0040,1003)=ROUTINE"],
        );
        let uid = study_uid(&files[0]);
        let integration = server.create_token("integration");
        let put = async |priority: &str, key: &str| {
            reqwest::Client::new()
                .put(format!("http://{}/api/v1/orders/ACC77", server.http))
                .bearer_auth(&integration)
                .header("Idempotency-Key", key)
                .json(&serde_json::json!({ "priority": priority }))
                .send()
                .await
                .unwrap()
                .status()
                .as_u16()
        };
        assert!((200..300).contains(&put("asap", "a").await));
        assert!(server.send(&files).0);
        let item = server
            .wait_for(&uid, |i| i["order_priority"] == "asap")
            .await;
        let before = item["head_start_minutes"].as_f64().unwrap();
        assert!((200..300).contains(&put("stat", "b").await));
        let item = server
            .wait_for(&uid, |i| i["order_priority"] == "stat")
            .await;
        assert!(item["head_start_minutes"].as_f64().unwrap() > before + 9_000.0);
    }
}

#[tokio::test]
async fn a_real_study_is_listed_while_it_arrives_and_ranked_after() {
    let Some(folder) = real_study("t1_flair_study") else {
        return;
    };
    let files = dicom_files(&folder);
    let uid = study_uid(&files[0]);
    for database in databases() {
        let server = TestServer::start(&database);
        let mut sender = server
            .storescu(&files)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let early = server
            .wait_for(&uid, |i| text(i, "state") == "received")
            .await;
        assert!(
            early["images"].as_u64().unwrap() < files.len() as u64,
            "seen while it arrives"
        );
        assert!(sender.wait().unwrap().success());
        let item = server.wait_until_ranked(&uid).await;
        assert_eq!(text(&item, "state"), "screened", "{item}");
        server.wait_until_idle().await;
        let study = server.get(&format!("/api/v1/studies/{uid}")).await;
        assert_eq!(text(&study, "looked_at"), "T1, FLAIR");
        assert_eq!(study["images"], files.len());
        assert_eq!(study["screenings"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn what_cannot_be_analysed_says_why() {
    let server = TestServer::start(&databases()[0]);
    for (name, words) in [("phantom_brain_tags", "head"), ("localizer", "locali")] {
        let Some(folder) = real_study(name) else {
            return;
        };
        let files = dicom_files(&folder);
        let mut studies: Vec<String> = files.iter().map(|f| study_uid(f)).collect();
        studies.sort();
        studies.dedup();
        assert!(server.send(&files).0, "{name}");
        for uid in studies {
            let item = server.wait_until_ranked(&uid).await;
            eprintln!("{name}: {} {}", item["state"], item["not_analysed_reason"]);
            if name == "phantom_brain_tags" {
                assert_eq!(text(&item, "state"), "not_analysed", "{item}");
                assert!(text(&item, "not_analysed_reason").contains(words), "{item}");
            }
        }
    }
}
