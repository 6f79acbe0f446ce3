//! The report as page and PDF: the same numbers, in two languages, of nothing but text.

use std::process::Command;

use firstread::store::accounts::Role;
use firstread::store::results::ScreeningResult;
use firstread::worklist::VolumeDetail;
use reqwest::StatusCode;
use sea_orm::ActiveValue::Set;

use crate::site::{Site, uid};

fn volume(structure: &str, volume_mm3: f64, z: Option<f64>) -> VolumeDetail {
    VolumeDetail {
        structure: structure.into(),
        label: None,
        volume_mm3,
        percent_icv: None,
        z,
        percentile: z.map(|z| 100.0 * firstread::norms::phi(z)),
        healthy_mm3: None,
        no_norm: z.is_none().then(|| "sex unknown".to_owned()),
    }
}

fn result(compared: bool) -> String {
    let z = |z: f64| compared.then_some(z);
    let result = ScreeningResult {
        contrast: "T1".into(),
        volumes: vec![
            volume("total intracranial", 1_432_100.0, z(0.3)),
            volume("total hippocampus", 6_251.0, z(-2.44)),
            volume("left hippocampus", 3_001.0, z(-2.6)),
            volume("right hippocampus", 3_250.0, z(-2.2)),
            volume("total lateral ventricle", 61_234.0, z(1.04)),
        ],
        pictures: vec!["axial".into(), "coronal".into(), "sagittal".into()],
        ..ScreeningResult::default()
    };
    serde_json::to_string(&result).unwrap()
}

async fn reported(site: &Site, n: u32, compared: bool) -> String {
    let study = site.study(n, 30, 94.0).await;
    site.series_with(&study, |row| {
        row.number = Set(Some(3));
        row.description = Set(Some("MPRAGE".into()));
    })
    .await;
    site.screening_with(&study, |row| row.result_json = Set(result(compared)))
        .await;
    study.study_uid
}

/// What `pdftotext` reads, spaces evened out; `None` where it is not installed.
fn text_of(pdf: &[u8]) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pdf).unwrap();
    let read = Command::new("pdftotext")
        // One column after the other.
        .args(["-raw", "-enc", "UTF-8"])
        .arg(file.path())
        .arg("-")
        .output();
    let Ok(read) = read else {
        eprintln!("skipped: pdftotext (poppler-utils) is not installed");
        return None;
    };
    assert!(read.status.success());
    let text = String::from_utf8(read.stdout).unwrap();
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn page_and_pdf_say_the_same_in_both_languages() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let study = reported(&site, 1, true).await;
    for (lang, said) in [
        (
            "en",
            [
                "1432.1",
                "6.25",
                "\u{2212}2.4",
                "3.00",
                "61.2",
                "+1.0",
                "Hippocampus",
                "Lateral ventricles",
                "Not flagged",
                "Ranked as if it had arrived 94 min earlier.",
                "screening 0.0.1",
                "norms_synthseg_v0",
                firstread::RESEARCH_USE,
                "Family1, Given",
                "PAT-1",
                "Uncalibrated",
            ],
        ),
        (
            "de",
            [
                "1432,1",
                "6,25",
                "\u{2212}2,4",
                "3,00",
                "61,2",
                "+1,0",
                "Hippocampus",
                "Seitenventrikel",
                "Nicht markiert",
                "Eingereiht, als wäre die Untersuchung 94 min früher eingetroffen.",
                "screening 0.0.1",
                "norms_synthseg_v0",
                firstread::RESEARCH_USE,
                "Family1, Given",
                "PAT-1",
                "Nicht kalibriert",
            ],
        ),
    ] {
        let page = site
            .page(&reader, &format!("/studies/{study}/report?lang={lang}"))
            .await;
        for words in said {
            assert!(
                page.contains(words),
                "{lang}: the page does not say {words}"
            );
        }
        assert!(
            page.contains("<circle class=\"patient\""),
            "{lang}: no curve"
        );
        let url = site.url(&format!("/studies/{study}/report.pdf?lang={lang}"));
        let answer = reader.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/pdf");
        let pdf = answer.bytes().await.unwrap();
        if let Some(text) = text_of(&pdf) {
            for words in said {
                assert!(
                    text.contains(words),
                    "{lang}: the PDF does not say {words}: {text}"
                );
            }
        }
    }
}

#[tokio::test]
async fn without_a_comparison_there_is_no_z_and_no_curve() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let study = reported(&site, 1, false).await;
    let page = site
        .page(&reader, &format!("/studies/{study}/report"))
        .await;
    assert!(page.contains("No comparison with healthy people (no z, no percentile): sex unknown."));
    assert!(page.contains("6.25"));
    assert!(!page.contains("class=\"patient\""));
}

#[tokio::test]
async fn a_study_without_results_says_so_and_unknown_ones_are_not_found() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    site.study(1, 30, 94.0).await;
    let page = site
        .page(&reader, &format!("/studies/{}/report", uid(1)))
        .await;
    assert!(page.contains("No volumes were measured"));
    for (path, status) in [
        (format!("/studies/{}/report", uid(2)), StatusCode::NOT_FOUND),
        (
            format!("/studies/{}/report.pdf", uid(2)),
            StatusCode::NOT_FOUND,
        ),
        (
            format!("/studies/{}/report?lang=xx", uid(1)),
            StatusCode::BAD_REQUEST,
        ),
        (
            format!("/studies/{}/report.pdf?lang=", uid(1)),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let answer = reader.get(site.url(&path)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}
