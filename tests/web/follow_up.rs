//! What the study page and the API say of change since the patient's earlier study.

use firstread::analysis::Measurement;
use firstread::followup::NotCompared;
use firstread::store::accounts::Role;
use firstread::store::follow_up::Compared;
use firstread::store::jobs::{FOLLOW_UP, RESULTS};
use firstread::store::measurements::MeasurementRow;
use firstread::store::ris::Letter;
use firstread::worklist::ris::{Deed, Demographics, Identifier, Merge};
use sea_orm::ActiveValue::Set;

use crate::common::databases;
use crate::compared::follow_up;
use crate::site::{NOON_MS, Site, uid};

const HIPPOCAMPUS: &str = "{\"structure\": \"total hippocampus\", \"volume_mm3\": 7000.0}";

/// Study `n` of patient 1, measured.
async fn measured(site: &Site, n: u32, date: &str) -> i64 {
    let study = site
        .study_with(n, 10, 5.0, |row| {
            row.patient_id = Set(Some("PAT-1".into()));
            row.study_date = Set(Some(date.into()));
            row.volumetry = Set("done".into());
        })
        .await;
    let row = MeasurementRow {
        input: n.to_string(),
        not_done: None,
        result: Measurement {
            model: "volumetry 1".into(),
            volumes: vec![serde_json::from_str(HIPPOCAMPUS).unwrap()],
            ..Measurement::default()
        },
        created_at: 0,
    };
    site.store
        .keep_measurement(study.id, &row, NOON_MS)
        .await
        .unwrap();
    study.id
}

async fn asked(site: &Site) -> Vec<i64> {
    let mut all = Vec::new();
    while let Some(job) = site
        .store
        .claim_job(FOLLOW_UP, "test", NOON_MS, 1000)
        .await
        .unwrap()
    {
        all.push(job.study_id);
        site.store.finish_job(&job, true).await.unwrap();
    }
    all.sort_unstable();
    all
}

#[tokio::test]
async fn measuring_a_study_asks_for_all_of_its_patient() {
    for database in databases() {
        let site = Site::on(&database).await;
        let first = measured(&site, 1, "20261101").await;
        assert_eq!(asked(&site).await, [first]);
        let prior = measured(&site, 2, "20201101").await;
        assert_eq!(asked(&site).await, [first, prior], "the later one again");
        let studies = site.store.measured_studies(first).await.unwrap();
        let dates: Vec<&str> = studies.iter().map(|s| s.date.as_str()).collect();
        assert_eq!(dates, ["20201101", "20261101"]);
        let nobody = site
            .study_with(3, 10, 5.0, |row| row.patient_id = Set(None))
            .await;
        assert!(
            site.store
                .measured_studies(nobody.id)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn page_and_api_say_what_changed() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let id = measured(&site, 1, "20261123").await;
    let path = format!("/studies/{}", uid(1));
    let page = site.page(&reader, &path).await;
    assert!(
        !page.contains("id=\"follow-up\""),
        "nothing to compare with"
    );
    let keep = async |compared: &Compared| {
        let kept = site.store.keep_follow_up(id, compared, NOON_MS);
        kept.await.unwrap();
        site.page(&reader, &path).await
    };
    let page = keep(&Compared {
        not_compared: Some(NotCompared::OtherNetwork),
        ..Compared::default()
    })
    .await;
    assert!(page.contains("another network measured them"));
    let page = keep(&Compared {
        follow_up: Some(follow_up()),
        not_compared: None,
    })
    .await;
    for said in [
        "2024-11-22",
        "2.0 years before",
        "\u{2212}20.0",
        "\u{2212}10.0",
        "beyond limit and ageing",
        "1 new lesion, 0 enlarged",
        "Another scanner",
        "Maclaren 2014",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("Left caudate</td><td class=\"num\">7.00"));
    let token = site.token(Role::Reader).await;
    let study: serde_json::Value = reqwest::Client::new()
        .get(site.url(&format!("/api/v1{path}")))
        .bearer_auth(token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(study["follow_up"]["days"], 731);
    assert_eq!(
        study["follow_up"]["changes"][0]["standing"],
        "beyond_ageing"
    );
    assert_eq!(study["follow_up"]["doubts"][0]["code"], "other_scanner");
    assert_eq!(study["not_compared"], serde_json::Value::Null);
}

#[tokio::test]
async fn what_changed_makes_the_results_again_and_nothing_else_does() {
    for database in databases() {
        let site = Site::on(&database).await;
        let id = measured(&site, 1, "20261123").await;
        asked(&site).await;
        let asked_for = async |compared: &Compared| {
            let kept = site.store.keep_follow_up(id, compared, NOON_MS);
            kept.await.unwrap();
            let job = site.store.claim_job(RESULTS, "test", NOON_MS, 1000);
            let job = job.await.unwrap();
            if let Some(job) = &job {
                site.store.finish_job(job, true).await.unwrap();
            }
            job.is_some()
        };
        let compared = Compared {
            follow_up: Some(follow_up()),
            not_compared: None,
        };
        assert!(!asked_for(&Compared::default()).await, "nothing to say");
        assert!(asked_for(&compared).await, "the earlier study came");
        assert!(!asked_for(&compared).await, "the same again");
        let facts = site.store.report_facts_of(id).await.unwrap().unwrap();
        assert_eq!(facts.follow_up, compared.follow_up);
        assert_eq!(facts.made_ms, NOON_MS);
    }
}

#[tokio::test]
async fn patients_that_became_one_are_compared() {
    for database in databases() {
        let site = Site::on(&database).await;
        let first = measured(&site, 1, "20261101").await;
        let other = site
            .study_with(2, 10, 5.0, |row| {
                row.patient_id = Set(Some("PAT-OLD".into()));
                row.study_date = Set(Some("20201101".into()));
                row.volumetry = Set("done".into());
            })
            .await;
        let row = MeasurementRow::default();
        let kept = site.store.keep_measurement(other.id, &row, NOON_MS);
        kept.await.unwrap();
        assert_eq!(asked(&site).await, [first, other.id]);
        let patient = |id: &str| Identifier::new(id, None).unwrap();
        let merge = Deed::Merge(vec![Merge {
            prior: patient("PAT-OLD"),
            surviving: Demographics {
                patient: patient("PAT-1"),
                ..Demographics::default()
            },
        }]);
        let letter = Letter {
            sender: "RIS",
            control_id: "1",
            kind: "ADT^A40",
            digest: "00",
        };
        site.store
            .take_message(&letter, &merge, &site.ranker, 1000, NOON_MS)
            .await
            .unwrap();
        assert_eq!(asked(&site).await, [first, other.id]);
    }
}
