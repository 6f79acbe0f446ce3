//! From the list to the study, its report, and its PDF, as a reader goes.

use firstread::store::accounts::Role;
use firstread::store::follow_up::Compared;
use serde_json::json;
use thirtyfour::prelude::*;

use crate::compared::follow_up;
use crate::site::{Site, uid};
use crate::{Browser, body_text};

/// What is wider than its place, or lies over another part of the report.
const OVERFLOWS: &str = "const wide = [...document.querySelectorAll('.report *')] \
    .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflow === 'visible' \
            && e.clientWidth > 0 && !e.closest('svg')).map(e => e.outerHTML.slice(0, 80)); \
    const parts = [...document.querySelectorAll('.report > *')].map(e => e.getBoundingClientRect()); \
    const over = parts.filter((r, i) => i > 0 && r.top < parts[i - 1].bottom - 1).length; \
    return [wide, over, document.documentElement.scrollWidth > innerWidth]";

fn result() -> String {
    let volume = |structure: &str, mm3: f64, z: f64| {
        json!({"structure": structure, "label": null, "volume_mm3": mm3, "z": z,
               "percentile": 100.0 * firstread::norms::phi(z), "no_norm": null})
    };
    json!({
        "contrast": "T1", "p_logit": null, "p_calibrated": null, "prevalence_train": null,
        "head_logit": null, "findings": [], "focus_mm": null, "timings_ms": {},
        "pictures": ["axial", "coronal", "sagittal"],
        "volumes": [
            volume("total intracranial", 1_432_100.0, 0.3),
            volume("total hippocampus", 6251.0, -2.44),
            volume("left hippocampus", 3001.0, -2.6),
            volume("right hippocampus", 3250.0, -2.2),
        ],
    })
    .to_string()
}

#[tokio::test]
async fn from_the_list_to_the_study_its_report_and_its_pdf() {
    let Some(browser) = Browser::open().await else {
        return;
    };
    let site = Site::start().await;
    site.user("reader", Role::Reader).await;
    let study = site.study(1, 30, 94.0).await;
    site.series_with(&study, |_| {}).await;
    site.screening_with(&study, |row| {
        row.result_json = sea_orm::ActiveValue::Set(result());
    })
    .await;
    let driver = &browser.driver;
    browser.sign_in(&site, "reader", "/worklist").await;
    let open = driver.find(By::Css("#rows a.open")).await.unwrap();
    open.click().await.unwrap();
    browser
        .until(&format!(
            "return location.pathname === '/studies/{}'",
            uid(1)
        ))
        .await;
    driver
        .find(By::Id("report"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser
        .until(&format!(
            "return location.pathname === '/studies/{}/report'",
            uid(1)
        ))
        .await;
    for (lang, words) in [
        (
            "en",
            ["Brain MRI: volumes and ranking", "6.25", "Hippocampus"],
        ),
        (
            "de",
            [
                "MRT des Gehirns: Volumina und Einreihung",
                "6,25",
                "Hippocampus",
            ],
        ),
    ] {
        if lang == "de" {
            let german = driver.find(By::Css("a[hreflang=de]")).await.unwrap();
            german.click().await.unwrap();
            browser.until("return location.search === '?lang=de'").await;
        }
        let text = body_text(driver).await;
        for said in words {
            assert!(text.contains(said), "{lang}: {said}\n{text}");
        }
        assert!(text.contains(firstread::RESEARCH_USE));
        let drawn = browser
            .js("return document.querySelectorAll('circle.patient').length")
            .await;
        assert_eq!(drawn, json!(1));
        assert_eq!(browser.js(OVERFLOWS).await, json!([[], 0, false]), "{lang}");
        let pdf = "return fetch(document.getElementById('pdf').href).then(r => r.arrayBuffer()) \
                   .then(b => String.fromCharCode(...new Uint8Array(b.slice(0, 5))))";
        assert_eq!(browser.js(pdf).await, json!("%PDF-"), "{lang}");
    }
    measured(&browser, &site).await;
    browser.close().await;
}

/// The report of a study that was measured: lesions, ratios, doubts and all pictures have their place.
async fn measured(browser: &Browser, site: &Site) {
    let study = site
        .study_with(2, 20, 94.0, |row| {
            row.volumetry = sea_orm::ActiveValue::Set("done".into());
        })
        .await;
    let series = site.series_with(&study, |_| {}).await;
    let planes = |view: &str| ["axial", "coronal", "sagittal"].map(|p| format!("{view}_{p}"));
    let region =
        |name: &str, count: u32| json!({"region": name, "count": count, "volume_mm3": 900.0});
    let pictures = [planes("measured"), planes("lesion")].concat();
    let result = json!({
        "series_uid": series.series_uid, "contrast": "T1", "lesion_series_uid": series.series_uid,
        "age_years": 60.5, "sex": "F", "model": "volumetry 0.1 (abc)", "calibration_version": null,
        "norms": "norms_synthseg_v0, segmenter offsets from 10 healthy scans, scanner uncalibrated",
        "volumes": [
            {"structure": "total intracranial", "volume_mm3": 1_432_100.0},
            {"structure": "total hippocampus", "volume_mm3": 6251.0, "no_norm": "age unknown"},
        ],
        "asymmetry": [{"structure": "hippocampus", "left_mm3": 2500.0, "right_mm3": 3751.0, "percent": -40.0}],
        "indices": [{"code": "evans_like_index", "name": "", "value": 0.31},
                    {"code": "brain_parenchymal_fraction", "name": "", "value": 0.8}],
        "lesions": {
            "count": 3, "volume_mm3": 2700.0, "left_mm3": 1800.0, "right_mm3": 900.0, "percent_icv": 0.19,
            "regions": [region("infratentorial", 0), region("periventricular", 2),
                        region("juxtacortical", 0), region("deep", 1)],
            "lesions": [{"region": "deep", "side": "left", "volume_mm3": 1200.0, "centre_mm": [0.0, 0.0, 0.0]}],
        },
        "quality": {"doubtful": true, "confidence": 0.8, "remarks": [
            {"code": "cut_off", "text": "the picture ends within the brain above", "doubtful": true},
        ]},
        "pictures": pictures,
    });
    let row = firstread::store::measurements::MeasurementRow {
        input: "input".into(),
        not_done: None,
        result: serde_json::from_value(result).unwrap(),
        created_at: 0,
    };
    let kept = site.store.keep_measurement(study.id, &row, 0).await;
    kept.unwrap();
    let compared = Compared {
        follow_up: Some(follow_up()),
        not_compared: None,
    };
    let kept = site.store.keep_follow_up(study.id, &compared, 0).await;
    kept.unwrap();
    for (lang, words) in [
        (
            "en",
            [
                "3 lesions, 2.70 ml",
                "The largest: 1.20 ml, left",
                "Doubtful: the picture ends",
                "0.310",
                "Compared with the study of 2024-11-22, 2.0 years before.",
                "beyond limit and ageing",
            ],
        ),
        (
            "de",
            [
                "3 Läsionen, 2,70 ml",
                "Die größte: 1,20 ml, links",
                "Zweifelhaft: das Bild endet",
                "0,310",
                "Verglichen mit der Untersuchung vom 22.11.2024, 2,0 Jahre zuvor.",
                "über Grenze und Altern",
            ],
        ),
    ] {
        let page = site.url(&format!("/studies/{}/report?lang={lang}", uid(2)));
        browser.driver.goto(page).await.unwrap();
        let text = body_text(&browser.driver).await;
        for said in words {
            assert!(text.contains(said), "{lang}: {said}\n{text}");
        }
        assert_eq!(browser.js(OVERFLOWS).await, json!([[], 0, false]), "{lang}");
        let rows = "return document.querySelectorAll('.planes.measured').length";
        assert_eq!(browser.js(rows).await, json!(2), "{lang}");
    }
}
