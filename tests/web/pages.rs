//! What pages say, and that nothing from the wire becomes part of them.

use firstread::store::accounts::Role;
use reqwest::StatusCode;
use sea_orm::ActiveValue::Set;

use crate::common::databases;
use crate::site::{Site, uid};

const ATTACKS: [&str; 3] = [
    "<script>alert('x')</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg onload=alert(1)>{{ 7*7 }}",
];

#[tokio::test]
async fn text_from_the_wire_stays_text() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    for (n, attack) in (1..).zip(ATTACKS) {
        let text = || Set(Some(attack.to_owned()));
        let study = site
            .study_with(n, 10, 5.0, |row| {
                row.patient_name = text();
                row.patient_id = text();
                row.sex = text();
                row.study_date = text();
                row.accession = text();
                row.description = text();
                row.referrer = text();
                row.modality = text();
                row.looked_at = text();
                row.note = text();
                row.not_analysed_reason = text();
                row.volumetry_reason = text();
                row.volumetry = Set("not_done".into());
                row.state = Set(["screened", "not_analysed", "failed"][(n - 1) as usize].into());
                let mut ranking: serde_json::Value =
                    serde_json::from_str(row.ranking_json.as_ref()).unwrap();
                ranking["reasons"][0]["text"] = attack.into();
                row.ranking_json = Set(ranking.to_string());
            })
            .await;
        site.series_with(&study, |row| {
            row.description = text();
            row.modality = text();
            row.kind = text();
            row.kind_reason = text();
        })
        .await;
        site.screening_with(&study, |row| {
            row.reason = text();
            row.model = Set(attack.into());
            row.provider = Set(attack.into());
        })
        .await;
        site.kept_aside(&study.study_uid, attack, attack).await;
    }
    let mut paths = vec!["/worklist".to_owned(), "/intake".to_owned()];
    paths.extend((1..4).map(|n| format!("/studies/{}", uid(n))));
    paths.extend((1..4).map(|n| format!("/studies/{}/report", uid(n))));
    paths.push("/worklist?q=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E".to_owned());
    for path in paths {
        let page = site.page(&reader, &path).await;
        for tag in [
            "<script>alert",
            "<img src=x",
            "<svg onload",
            "onerror=alert(1)>\"",
        ] {
            assert!(!page.contains(tag), "{path} has {tag}");
        }
        assert!(page.contains("alert("), "{path} does not show the text");
        assert!(page.contains(firstread::RESEARCH_USE), "{path}");
    }
}

#[tokio::test]
async fn only_uids_and_known_names_become_a_path() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let study = site.study(1, 10, 5.0).await;
    site.picture(&study.study_uid, "axial.png", b"picture");
    site.picture(&study.study_uid, "secret.png", b"secret");
    std::fs::write(site.data.path().join("axial.png"), b"secret").unwrap();
    let good = format!("/studies/{0}/series/{0}.1/axial.png", uid(1));
    assert_eq!(site.page(&reader, &good).await, "picture");
    for bad in [
        format!("/studies/{0}/series/{0}.1/secret.png", uid(1)),
        format!("/studies/{0}/series/{0}.1/axial_overlay.png", uid(1)),
        "/studies/../series/../axial.png".to_owned(),
        "/studies/%2e%2e/series/%2e%2e/axial.png".to_owned(),
        "/studies/..%2f..%2f/series/..%2f/axial.png".to_owned(),
        format!("/studies/{}/series/..%2f..%2f..%2f/axial.png", uid(1)),
        format!("/studies/{0}/series/{0}.1/..%2f..%2f..%2faxial.png", uid(1)),
        format!("/studies/{}/series/%00/axial.png", uid(1)),
        "/static/..%2f..%2ftest.db".to_owned(),
    ] {
        let answer = reader.get(site.url(&bad)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{bad}");
        assert!(!answer.text().await.unwrap().contains("secret"), "{bad}");
    }
}

#[tokio::test]
async fn the_list_says_why_and_what_was_looked_at() {
    for database in databases() {
        let site = Site::on(&database).await;
        let reader = site.signed_in(Role::Reader).await;
        site.study_with(1, 64, 94.2, |row| {
            row.looked_at = Set(Some("T1, FLAIR; DWI not analysed".into()));
            row.patient_name = Set(Some("Yamada^Tarou=山田^太郎".into()));
        })
        .await;
        site.study_with(2, 5, 108.0, |row| {
            row.state = Set("not_analysed".into());
            row.band = Set("pending".into());
            row.not_analysed_reason = Set(Some("only a localiser was received".into()));
            row.order_priority = Set("asap".into());
        })
        .await;
        let page = site.page(&reader, "/worklist").await;
        for words in [
            "ranked as if it had arrived 94 min earlier: +94 screening",
            "T1, FLAIR; DWI not analysed",
            "Yamada, Tarou (山田, 太郎)",
            "Not flagged",
            "1 h 04 min",
            "Not analysed: only a localiser was received",
            "ASAP",
            "2 open studies",
            "60 y F",
            "more than 300 min after it",
        ] {
            assert!(page.contains(words), "the list does not say {words:?}");
        }
        assert!(!page.contains("0.42"), "the list shows a probability");
        let filtered = site.page(&reader, "/worklist?band=pending").await;
        assert!(!filtered.contains("Yamada") && filtered.contains("localiser"));
    }
}

#[tokio::test]
async fn stopped_workers_are_said() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    assert!(
        !site
            .page(&reader, "/worklist")
            .await
            .contains("has not answered")
    );
    site.clock.advance_ms(61_000);
    let page = site.page(&reader, "/worklist?fragment=1").await;
    assert!(page.contains("Analysis has not answered since 12:00"));
}

#[tokio::test]
async fn the_study_page_adds_up() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let study = site.study(1, 64, 94.2).await;
    site.series_with(&study, |row| {
        row.number = Set(Some(3));
        row.description = Set(Some("t1_mprage".into()));
        row.kind = Set(Some("T1".into()));
        row.kind_reason = Set(Some("1 mm isotropic".into()));
    })
    .await;
    site.screening_with(&study, |row| {
        row.result_json = Set(r#"{"contrast":"T1","p_logit":0.1,"p_calibrated":0.3,
            "prevalence_train":0.5,"head_logit":4.0,"findings":[],"focus_mm":null,
            "volumes":[{"structure":"hippocampus","label":null,"volume_mm3":6200.0,"z":-2.147,
                "percentile":1.6,"no_norm":null}],
            "pictures":["axial","coronal","sagittal"],"timings_ms":{"network":900}}"#
            .into());
    })
    .await;
    let page = site.page(&reader, &format!("/studies/{}", uid(1))).await;
    for words in [
        "Family1, Given",
        "94 min",
        "2026-11-23 10:56:00",
        "2026-11-23 09:21:48",
        "hippocampus",
        "\u{2212}2.1",
        "6.2",
        "1 mm isotropic",
        "3 t1_mprage",
        "network 900 ms",
        "axial_overlay.png",
        "screening 0.0.1",
    ] {
        assert!(
            page.contains(words),
            "the study page does not say {words:?}"
        );
    }
}

#[tokio::test]
async fn a_measured_study_shows_its_volumes_lesions_and_doubts() {
    use firstread::analysis::{LesionRegion, Lesions, Measurement, Quality, Region, Remark};
    use firstread::store::measurements::MeasurementRow;
    use firstread::worklist::VolumeDetail;
    for database in databases() {
        let site = Site::on(&database).await;
        let reader = site.signed_in(Role::Reader).await;
        let study = site
            .study_with(1, 10, 5.0, |row| row.volumetry = Set("done".into()))
            .await;
        let result = Measurement {
            series_uid: format!("{}.1", study.study_uid),
            contrast: "T1".into(),
            volumes: vec![VolumeDetail {
                structure: "total hippocampus".into(),
                label: None,
                volume_mm3: 6200.0,
                percent_icv: Some(0.4493),
                z: Some(-2.147),
                percentile: Some(1.59),
                healthy_mm3: None,
                no_norm: None,
            }],
            lesions: Some(Lesions {
                count: 3,
                volume_mm3: 4200.0,
                left_mm3: 4200.0,
                right_mm3: 0.0,
                percent_icv: 0.3,
                regions: vec![LesionRegion {
                    region: Region::Periventricular,
                    count: 3,
                    volume_mm3: 4200.0,
                }],
                lesions: Vec::new(),
            }),
            quality: Quality {
                doubtful: true,
                remarks: vec![Remark {
                    code: "cut_off".into(),
                    text: "the picture ends within the brain above".into(),
                    doubtful: true,
                }],
                confidence: 0.91,
            },
            pictures: vec!["measured_axial".into()],
            norms: "scanner uncalibrated".into(),
            ..Measurement::default()
        };
        let row = MeasurementRow {
            input: "input".into(),
            not_done: None,
            result,
            created_at: 0,
        };
        for _ in 0..2 {
            // In place of the earlier one.
            let kept = site.store.keep_measurement(study.id, &row, 0).await;
            kept.unwrap();
        }
        let page = site.page(&reader, &format!("/studies/{}", uid(1))).await;
        for words in [
            "Volumes measured on T1.",
            "Doubtful:",
            "The picture ends within the brain above",
            "6.20",
            "0.45",
            "\u{2212}2.1",
            "3 lesions, 4.2 ml together (0.30 % of intracranial volume).",
            "Periventricular",
            "measured_axial_overlay.png",
            "scanner uncalibrated",
        ] {
            assert!(page.contains(words), "{words}");
        }
        assert!(!page.contains("Coarse volumes"));
        site.picture(&study.study_uid, "measured_axial_overlay.png", b"outlines");
        let picture = format!(
            "/studies/{0}/series/{0}.1/measured_axial_overlay.png",
            uid(1)
        );
        assert_eq!(site.page(&reader, &picture).await, "outlines");
        let detail = site.store.study_detail(&uid(1), 0).await.unwrap().unwrap();
        assert_eq!(detail.volumes[0].percentile, Some(1.59));
        assert_eq!(detail.measurement.unwrap(), row.result);
    }
}
