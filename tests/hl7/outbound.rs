//! Results for the RIS: what is said, how often, and what an answer means. The peer is python-hl7, the judge hl7apy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use firstread::clock::Clock as _;
use firstread::hl7::courier::Hl7Courier;
use firstread::hl7::outbound::Mapping;
use firstread::hl7::{Hl7Destination, Hl7Settings};
use firstread::outbox::machine::{Order, RetryLimits, StormLimits};
use firstread::outbox::{Outbox, Routes};
use firstread::store::entity::study;
use firstread::store::ris::ResultDestination;
use firstread::triage::{Finding, Screening};
use firstread::worklist::VolumeDetail;
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};

use crate::common::databases;
use crate::peer::Python;
use crate::site::{NOON_MS, Site, uid};

const RETRY: RetryLimits = RetryLimits {
    attempts_max: 100,
    first_ms: 1_000,
    longest_ms: 1_000,
    lease_ms: 90_000,
};

/// A site whose results go to the peer, once by each mapping that is named.
async fn site(
    database: &crate::common::Database,
    port: &Value,
    mappings: &[Mapping],
) -> (Site, Outbox) {
    let destination = |mapping: &Mapping| Hl7Destination {
        application: "RIS".into(),
        facility: "HOSP".into(),
        mapping: *mapping,
        answer_timeout_seconds: 1,
        ..Hl7Destination::new(mapping.as_str(), &format!("127.0.0.1:{port}"))
    };
    sending_to(database, mappings.iter().map(destination).collect()).await
}

/// A site whose results go to these.
pub async fn sending_to(
    database: &crate::common::Database,
    destinations: Vec<Hl7Destination>,
) -> (Site, Outbox) {
    let site = Site::on(database).await;
    let settings = Hl7Settings {
        destinations,
        error_attempts_max: 3,
        ..Hl7Settings::default()
    };
    let names: Vec<String> = settings
        .destinations
        .iter()
        .map(|d| d.name.clone())
        .collect();
    let all = settings.destinations.iter();
    let known: Vec<ResultDestination> = all
        .map(|d| ResultDestination {
            name: d.name.clone(),
            mapping: d.mapping.as_str().to_owned(),
            only_moving_up: d.tells_only_moving_up(),
            reached: String::new(),
        })
        .collect();
    site.store.know_result_destinations(&known).await.unwrap();
    site.store.know_destinations(&names).await.unwrap();
    let mut routes = Routes::default();
    let store = site.store.clone();
    routes.add(
        names.clone(),
        Arc::new(Hl7Courier {
            store,
            settings,
            made: Arc::default(),
        }),
    );
    let outbox = Outbox {
        store: site.store.clone(),
        clock: site.clock.clone(),
        courier: Arc::new(routes),
        destinations: names,
        coming: tokio::sync::watch::channel(Vec::new()).1,
        retry: RETRY,
        storm: StormLimits {
            messages: 5,
            window_ms: 600_000,
            bundle_ms: 120_000,
        },
        attempt_timeout: Duration::from_secs(30),
        failing: Arc::default(),
    };
    (site, outbox)
}

/// What becomes of a result to this destination at its first attempt, and what was said.
pub async fn sent_to(destination: Hl7Destination) -> (String, String) {
    let (site, outbox) = sending_to(&crate::common::Database::Sqlite, vec![destination]).await;
    let study = study(&site, 1).await;
    screened(&site, &study, 0.999).await;
    assert!(outbox.deliver_next("obx8").await.unwrap());
    let all = site.store.deliveries_of(&uid(1)).await.unwrap();
    let result = all.into_iter().find(|d| d.kind == "result").unwrap();
    (result.state, result.said.unwrap_or_default())
}

/// Screening says so much of a study.
pub async fn screened(site: &Site, study: &study::Model, p: f64) {
    let now_ms = site.clock.now_ms();
    let change = |s: &mut firstread::store::ranks::Standing| {
        s.state = "screened".into();
        s.looked_at = Some("T1; FLAIR & DWI not analysed".into());
        s.evidence.screening = Some(Screening {
            p_calibrated: p,
            prevalence_train: 0.5,
        });
        s.evidence.findings = vec![Finding {
            code: "lateral_ventricles_large".into(),
            group: "hydrocephalus".into(),
            text: "lateral ventricles above the 99th percentile".into(),
            minutes: if p > 0.9 { 36.0 } else { 0.0 },
            critical: false,
        }];
    };
    let changed = site
        .store
        .change_standing(study.id, &site.ranker, now_ms, change);
    changed.await.unwrap();
}

pub async fn study(site: &Site, n: u32) -> study::Model {
    let study = site
        .study_with(n, 10, 0.0, |s| {
            s.state = Set("received".into());
            s.patient_name = Set(Some("Müller^Zoë^^Dr".into()));
            s.patient_issuer = Set(Some("HOSP".into()));
            s.birth_date = Set(Some("19420131".into()));
            s.study_time = Set(Some("101530.5".into()));
        })
        .await;
    let volumes = [
        ("left lateral ventricle", 99.6),
        ("left hippocampus", 3.2),
        ("brain-stem", 51.0),
    ];
    let volumes: Vec<VolumeDetail> = volumes
        .iter()
        .map(|(structure, percentile)| {
            serde_json::from_value(json!({
                "structure": structure, "label": null, "volume_mm3": 12_345.6,
                "percent_icv": 0.8, "z": 0.0, "percentile": percentile, "no_norm": null,
                "healthy_mm3": [9_876.5, 15_000.2],
            }))
            .unwrap()
        })
        .collect();
    let result = json!({
        "contrast": "T1", "p_logit": null, "p_calibrated": null, "prevalence_train": null,
        "head_logit": null, "volumes": volumes, "findings": [], "focus_mm": null,
        "pictures": [], "timings_ms": {},
    });
    site.series_with(&study, |_| {}).await;
    site.screening_with(&study, |s| s.result_json = Set(result.to_string()))
        .await;
    study
}

async fn states(site: &Site, n: u32) -> Vec<(String, i64)> {
    let all = site.store.deliveries_of(&uid(n)).await.unwrap();
    // the site alerts as well
    let results = all.into_iter().filter(|d| d.kind == "result");
    results.map(|d| (d.state, d.attempts)).collect()
}

/// A line of a message by name, and by the code of its observation.
fn line<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let mut lines = text.split('\r');
    lines.find(|l| l.contains(start))
}

#[tokio::test]
async fn hl7apy_finds_no_fault_in_what_is_sent() {
    let Some(mut peer) = Python::start(&["serve"]) else {
        return;
    };
    let port = peer.line()["port"].clone();
    for database in databases() {
        let (site, outbox) = site(&database, &port, &Mapping::ALL).await;
        let (urgent, quiet) = (study(&site, 1).await, study(&site, 2).await);
        screened(&site, &urgent, 0.999).await;
        screened(&site, &quiet, 0.02).await;
        let mut messages = Vec::new();
        for name in &outbox.destinations {
            while outbox.deliver_next(name).await.unwrap() {
                let said = peer.line();
                assert!(said["invalid"].is_null(), "{said}");
                messages.push(said["text"].as_str().unwrap().to_owned());
            }
        }
        // two by each kind of result, one order: what does not stand out changes no order
        assert_eq!(messages.len(), 5);
        let [first, second, third, _, order] = &messages[..] else {
            panic!("{messages:?}");
        };
        assert!(
            line(first, "MSH")
                .unwrap()
                .contains("|RIS|HOSP|20261123120000+0000||ORU^R01^ORU_R01|")
        );
        assert_eq!(
            line(first, "PID"),
            Some("PID|1||PAT-1^^^HOSP^MR||Müller^Zoë^^^Dr||19420131|F")
        );
        assert!(line(first, "OBR").unwrap().contains("|20261123101530|"));
        assert!(line(first, "OBR").unwrap().ends_with("|RAD|P"));
        assert!(line(first, "113014").unwrap().contains(&uid(1)));
        crate::conformance::check_observations(first);
        let flag = |text: &str, code: &str| {
            let line = line(text, code).unwrap();
            line.split('|').nth(8).unwrap_or_default().to_owned()
        };
        assert_eq!(flag(first, "BAND^"), "AA");
        assert_eq!(flag(second, "BAND^"), "", "not flagged, so no flag");
        assert_eq!(flag(third, "BAND^"), "", "the segment says it");
        assert_eq!(flag(first, "VOL-LEFT-LATERAL-VENTRICLE^"), "HH");
        assert_eq!(flag(first, "VOL-LEFT-HIPPOCAMPUS^"), "L");
        assert_eq!(flag(first, "VOL-BRAIN-STEM^"), "N");
        assert!(
            line(first, "VOL-LEFT-HIPPOCAMPUS^")
                .unwrap()
                .contains("|12346|mm3^mm3^UCUM|9876-15000|L|")
        );
        assert!(
            line(first, "PCT-LEFT-HIPPOCAMPUS^")
                .unwrap()
                .contains("|3.2|%^%^UCUM|5-95|L|")
        );
        assert!(line(first, "LOOKEDAT^").unwrap().contains(r"FLAIR \T\ DWI"));
        assert!(first.contains("99th percentile (+36 min)"), "{first}");
        assert!(first.contains(firstread::RESEARCH_USE));
        let zfr = line(third, "ZFR").unwrap();
        assert!(
            zfr.starts_with(&format!("ZFR|{}|urgent|1|", uid(1))),
            "{zfr}"
        );
        assert!(line(order, "ORC").unwrap().starts_with("ORC|XO||ACC-1|"));
        assert!(line(order, "TQ1").unwrap().ends_with("|S^^HL70485"));
        assert_eq!(states(&site, 1).await.len(), 3);
        // nothing new was seen: nothing is sent
        screened(&site, &urgent, 0.999).await;
        assert!(!outbox.deliver_next("obx8").await.unwrap());
    }
}

#[tokio::test]
async fn an_acknowledgement_lost_50_times_costs_51_connections_and_no_second_message() {
    let Some(mut peer) = Python::start(&["serve"]) else {
        return;
    };
    let port = peer.line()["port"].clone();
    for database in databases() {
        let (site, outbox) = site(&database, &port, &[Mapping::Obx8]).await;
        let study = study(&site, 1).await;
        screened(&site, &study, 0.999).await;
        let before = peer.ask(&json!({"answer": "close"}))["connections"].clone();
        let (mut ids, mut texts) = (BTreeSet::new(), BTreeSet::new());
        let mut take = |peer: &mut Python| {
            let said = peer.line();
            ids.insert(said["control_id"].as_str().unwrap().to_owned());
            texts.insert(said["text"].as_str().unwrap().to_owned());
        };
        for lost in 0..50 {
            // most are lost with the connection, two by silence, one by an answer to another message
            let answer = match lost {
                20 | 21 => "hang",
                30 => "wrong",
                _ => "close",
            };
            peer.ask(&json!({"answer": answer}));
            assert!(outbox.deliver_next("obx8").await.unwrap());
            take(&mut peer);
            assert_eq!(states(&site, 1).await, [("waiting".to_owned(), lost + 1)]);
            assert!(
                !outbox.deliver_next("obx8").await.unwrap(),
                "not before its time"
            );
            site.clock.advance_ms(1_000);
        }
        peer.ask(&json!({"answer": "AA"}));
        assert!(outbox.deliver_next("obx8").await.unwrap());
        take(&mut peer);
        assert_eq!(states(&site, 1).await, [("delivered".to_owned(), 51)]);
        site.clock.advance_ms(86_400_000);
        assert!(!outbox.deliver_next("obx8").await.unwrap(), "never again");
        let after = peer.ask(&json!({"answer": "AA"}))["connections"].clone();
        assert_eq!(after.as_i64().unwrap() - before.as_i64().unwrap(), 51);
        assert_eq!((ids.len(), texts.len()), (1, 1), "one MSH-10, one message");
        assert!(ids.iter().all(|id| id.len() <= 20));
    }
}

#[tokio::test]
async fn an_answer_decides_what_becomes_of_a_message() {
    let Some(mut peer) = Python::start(&["serve"]) else {
        return;
    };
    let port = peer.line()["port"].clone();
    let (site, outbox) = site(&databases()[0], &port, &[Mapping::Obx8]).await;
    let mut number = 0;
    for (answer, attempts, state) in [
        ("AA", 1, "delivered"),
        ("CA", 1, "delivered"),
        ("AE", 3, "dead"),
        ("CE", 3, "dead"),
        ("AR", 1, "dead"),
        ("CR", 1, "dead"),
    ] {
        number += 1;
        let study = study(&site, number).await;
        screened(&site, &study, 0.5).await;
        peer.ask(&json!({"answer": answer}));
        for _ in 0..attempts {
            assert!(outbox.deliver_next("obx8").await.unwrap());
            peer.line();
            site.clock.advance_ms(1_000);
        }
        assert!(!outbox.deliver_next("obx8").await.unwrap());
        assert_eq!(
            states(&site, number).await,
            [(state.to_owned(), attempts)],
            "{answer}"
        );
    }
    // what is given up is an alarm on every page
    assert_eq!(site.store.failing_destinations().await.unwrap(), ["obx8"]);
    // a newer state of a study is another message, and one that still waits says the newest
    let study = study(&site, 20).await;
    peer.ask(&json!({"answer": "close"}));
    screened(&site, &study, 0.2).await;
    screened(&site, &study, 0.3).await;
    assert_eq!(states(&site, 20).await.len(), 1);
    assert!(outbox.deliver_next("obx8").await.unwrap());
    let first = peer.line();
    screened(&site, &study, 0.999).await;
    assert_eq!(
        states(&site, 20).await.len(),
        2,
        "the first was tried, and stays what it was"
    );
    peer.ask(&json!({"answer": "AA"}));
    site.clock.advance_ms(1_000);
    assert!(outbox.deliver_next("obx8").await.unwrap());
    assert_eq!(peer.line()["text"], first["text"]);
    assert!(outbox.deliver_next("obx8").await.unwrap());
    let second = peer.line();
    assert_ne!(second["control_id"], first["control_id"]);
    assert!(second["text"].as_str().unwrap().contains("|AA|"));
    assert_eq!(site.clock.now_ms() - NOON_MS, 11_000);
    // a test only connects
    assert!(
        site.store
            .send_test("obx8", site.clock.now_ms())
            .await
            .unwrap()
    );
    assert!(outbox.deliver_next("obx8").await.unwrap());
}

#[tokio::test]
async fn what_was_given_up_is_worded_anew_when_a_person_sends_it_after_all() {
    let Some(mut peer) = Python::start(&["serve"]) else {
        return;
    };
    let port = peer.line()["port"].clone();
    for database in databases() {
        let (site, outbox) = site(&database, &port, &[Mapping::Obx8]).await;
        let study = study(&site, 1).await;
        peer.ask(&json!({"answer": "AR"}));
        screened(&site, &study, 0.02).await;
        assert!(outbox.deliver_next("obx8").await.unwrap());
        let refused = peer.line();
        // a newer one is taken meanwhile
        peer.ask(&json!({"answer": "AA"}));
        screened(&site, &study, 0.999).await;
        assert!(outbox.deliver_next("obx8").await.unwrap());
        assert!(peer.line()["text"].as_str().unwrap().contains("|AA|"));
        let all = site.store.deliveries_of(&uid(1)).await.unwrap();
        let dead = all.iter().find(|d| d.state == "dead").unwrap();
        let now_ms = site.clock.now_ms();
        let steered = site.store.steer_delivery(dead.id, &Order::Resend, now_ms);
        assert!(steered.await.unwrap());
        assert!(outbox.deliver_next("obx8").await.unwrap());
        let sent = peer.line();
        assert!(
            sent["text"].as_str().unwrap().contains("|AA|"),
            "not what it was: {sent}"
        );
        assert_ne!(sent["control_id"], refused["control_id"]);
        assert!(sent["control_id"].as_str().unwrap().len() <= 20);
        let ended = states(&site, 1).await;
        assert!(ended.iter().all(|(state, _)| state == "delivered"));
    }
}

#[tokio::test]
async fn volumes_are_told_when_they_were_measured_also_where_they_are_doubtful() {
    for database in databases() {
        let (site, _outbox) = site(&database, &json!(1), &[Mapping::Obx8]).await;
        let study = study(&site, 1).await;
        screened(&site, &study, 0.02).await;
        let measure = async |volumetry: &str| {
            let (store, now_ms) = (&site.store, site.clock.now_ms());
            for delivery in store.deliveries_of(&uid(1)).await.unwrap() {
                let gone = Order::Skip("sent".into());
                store
                    .steer_delivery(delivery.id, &gone, now_ms)
                    .await
                    .unwrap();
            }
            let before = states(&site, 1).await.len();
            let changed = store.change_standing(study.id, &site.ranker, now_ms, |s| {
                s.volumetry = volumetry.into();
                s.volumetry_reason = Some("doubtful: it moved".into());
            });
            changed.await.unwrap();
            states(&site, 1).await.len() - before
        };
        assert_eq!(measure("pending").await, 0, "there is nothing yet");
        assert_eq!(measure("done").await, 1);
        assert_eq!(measure("done").await, 0, "they are known");
        assert_eq!(measure("pending").await, 0);
        assert_eq!(measure("done").await, 1, "measured again");
    }
}
