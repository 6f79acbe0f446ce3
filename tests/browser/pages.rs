//! Every page in a real browser: axe-core finds no serious fault, in the dark and in the light.
//!
//! With `FIRSTREAD_SCREENSHOTS=FOLDER` the pages are kept as pictures, 1280 and 1920 px wide.

use std::path::{Path, PathBuf};
use std::process::Command;

use firstread::store::accounts::Role;
use firstread::store::follow_up::Compared;
use firstread::store::measurements::MeasurementRow;
use firstread::triage::{
    Band, Evidence, Finding, OrderPriority, Reason, Screening, logistic, logit,
};
use firstread::worklist::agreement::Answer;
use firstread::worklist::{Acting, Verdict};
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};

use crate::Browser;
use crate::site::{NOON_MS, Site, uid};

/// Rules of axe-core that count, by the standards they belong to (WCAG 2.2 A and AA, and good practice).
const TAGS: &str = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";

/// axe-core, where `scripts/setup --tests` put it; `None` with a printed word.
fn axe() -> Option<String> {
    let python = std::env::var("FIRSTREAD_TEST_PYTHON").ok()?;
    let find = "import importlib.util as u; \
                print(u.find_spec('axe_playwright_python').submodule_search_locations[0])";
    let found = Command::new(python).args(["-c", find]).output().ok()?;
    let folder = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let script = std::fs::read_to_string(Path::new(&folder).join("axe.min.js")).ok();
    if script.is_none() {
        eprintln!("skipped: no axe-core; scripts/setup --tests installs it");
    }
    script
}

/// Serious and critical faults of the page that is open, each with what it is about.
async fn faults(browser: &Browser, axe: &str) -> Vec<String> {
    browser.driver.execute(axe, vec![]).await.unwrap();
    let run = format!(
        "const done = arguments[arguments.length - 1]; \
         axe.run(document, {{runOnly: {TAGS}, resultTypes: ['violations']}}).then(r => done(r.violations), e => done(String(e)))"
    );
    let found = browser.driver.execute_async(&run, vec![]).await.unwrap();
    let found = found.json().clone();
    let violations = found.as_array().unwrap_or_else(|| panic!("{found}"));
    let serious = |v: &&Value| v["impact"] == "serious" || v["impact"] == "critical";
    violations
        .iter()
        .filter(serious)
        .map(|v| {
            let nodes = v["nodes"].as_array().unwrap().iter();
            let html: Vec<String> = nodes
                .take(4)
                .map(|n| format!("{} ({})", n["html"], n["any"][0]["message"]))
                .collect();
            format!("{}: {}", v["id"], html.join(" | "))
        })
        .collect()
}

async fn theme(browser: &Browser, scheme: &str) {
    let wanted = json!({
        "cmd": "Emulation.setEmulatedMedia",
        "params": { "features": [{ "name": "prefers-color-scheme", "value": scheme }] },
    });
    let session = browser.driver.session_id().to_string();
    let url = format!("{}/session/{session}/goog/cdp/execute", browser.address);
    let answer = reqwest::Client::new().post(url).json(&wanted).send().await;
    assert!(answer.unwrap().status().is_success());
}

async fn keep_picture(browser: &Browser, folder: &Path, name: &str) {
    for width in [1280, 1920] {
        browser
            .driver
            .set_window_rect(0, 0, width, 1000)
            .await
            .unwrap();
        let file: PathBuf = folder.join(format!("{name}-{width}.png"));
        browser.driver.screenshot(&file).await.unwrap();
    }
    browser
        .driver
        .set_window_rect(0, 0, 1280, 500)
        .await
        .unwrap();
}

#[tokio::test]
async fn no_page_has_a_serious_fault() {
    let (Some(axe), Some(browser)) = (axe(), Browser::open().await) else {
        return;
    };
    let site = Site::start().await;
    site.user("admin", Role::Admin).await;
    site.user("bert", Role::Reader).await;
    furnish(&site).await;
    let pictures = std::env::var_os("FIRSTREAD_SCREENSHOTS").map(PathBuf::from);
    let study = format!("/studies/{}", uid(2));
    browser.driver.goto(site.url("/login")).await.unwrap();
    let mut broken = faults(&browser, &axe).await;
    if let Some(folder) = &pictures {
        keep_picture(&browser, folder, "login-dark").await;
    }
    browser.sign_in(&site, "admin", "/worklist").await;
    for (name, path) in [
        ("worklist", "/worklist"),
        (
            "filtered",
            "/worklist?modality=MR&sort=patient&assigned=unassigned",
        ),
        ("read", "/worklist?reading=read"),
        ("study", &*study),
        (
            "settings",
            "/settings?k_minutes_per_logit=10&readers=1&read_minutes=12",
        ),
        ("simulate", "/simulate?readers=2&load=0.9&prevalence=0.4"),
        ("agreement", "/agreement"),
        ("opinion", "/second-opinion"),
        ("audit", "/audit"),
        ("shown", "/shown"),
        ("system", "/system"),
        ("intake", "/intake"),
        ("deliveries", "/deliveries"),
        ("destinations", "/destinations"),
        ("destination", "/destinations/new/form?kind=dicom"),
        ("alerts", "/alerts"),
        ("error", "/worklist?band=odd"),
    ] {
        for scheme in ["dark", "light"] {
            theme(&browser, scheme).await;
            browser.driver.goto(site.url(path)).await.unwrap();
            if name == "filtered" {
                browser
                    .js("document.getElementById('filters').open = true")
                    .await;
            }
            let found = faults(&browser, &axe).await;
            broken.extend(found.iter().map(|f| format!("{name}, {scheme}: {f}")));
            if let Some(folder) = &pictures {
                keep_picture(&browser, folder, &format!("{name}-{scheme}")).await;
                if name == "study" {
                    browser
                        .js("document.getElementById('follow-up').scrollIntoView()")
                        .await;
                    keep_picture(&browser, folder, &format!("follow-up-{scheme}")).await;
                }
            }
        }
    }
    theme(&browser, "dark").await;
    browser.driver.goto(site.url("/worklist")).await.unwrap();
    browser
        .js("document.getElementById('help').showModal()")
        .await;
    let found = faults(&browser, &axe).await;
    broken.extend(found.iter().map(|f| format!("keys: {f}")));
    if let Some(folder) = &pictures {
        keep_picture(&browser, folder, "keys-dark").await;
    }
    browser.close().await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn acting(reader: &str) -> Acting<'_> {
    Acting {
        reader,
        now_ms: NOON_MS,
        held_since_ms: NOON_MS - 1_800_000,
    }
}

/// Something of everything: bands, orders, states, claims, words, the sample, settings.
async fn furnish(site: &Site) {
    let bands = [
        (Band::Critical, 240.0),
        (Band::Urgent, 175.0),
        (Band::Elevated, 140.0),
        (Band::Routine, 60.0),
        (Band::Routine, 12.0),
        (Band::Pending, 108.0),
    ];
    for n in 1..=24_u32 {
        let (band, minutes) = bands[(n % 6) as usize];
        let order = [
            OrderPriority::Routine,
            OrderPriority::Asap,
            OrderPriority::Stat,
        ];
        let order = order[usize::from(n % 7 == 0) + usize::from(n % 11 == 0)];
        let study = site
            .study_with(n, 17 * i64::from(n), minutes, |row| {
                let mut ranking: firstread::triage::Ranking =
                    serde_json::from_str(row.ranking_json.as_ref()).unwrap();
                ranking.reasons = vec![
                    reason("screening", "screening", minutes - 10.0),
                    reason(
                        "lateral_ventricles_large",
                        "lateral ventricles above the 99th percentile",
                        10.0,
                    ),
                ];
                row.ranking_json = Set(serde_json::to_string(&ranking).unwrap());
                row.evidence_json = Set(evidence(band, minutes));
                row.band = Set(band.as_str().into());
                row.order_priority = Set(order.as_str().into());
                row.body_part = Set(Some(if n % 3 == 0 { "HEAD" } else { "BRAIN" }.into()));
                row.institution = Set(Some("North Hospital".into()));
                row.referrer = Set(Some(format!("Referrer{}^Ada", n % 4)));
                row.looked_at = Set(Some("T1, FLAIR; DWI not analysed".into()));
                if band == Band::Pending {
                    row.state = Set("not_analysed".into());
                    row.not_analysed_reason = Set(Some("no T1 or FLAIR among its series".into()));
                }
            })
            .await;
        site.series_with(&study, |_| {}).await;
        site.screening_with(&study, |row| row.result_json = Set(RESULT.into()))
            .await;
        for picture in PICTURES {
            site.picture(&study.study_uid, picture, &png(picture.contains("overlay")));
        }
    }
    let store = &site.store;
    store.claim_study(&uid(3), acting("admin")).await.unwrap();
    store.claim_study(&uid(4), acting("bert")).await.unwrap();
    for n in 1..=12 {
        let verdict = if n % 4 == 0 {
            Verdict::Disagree
        } else {
            Verdict::Agree
        };
        let study = uid(n);
        let said = store.give_feedback(&study, "screening", verdict, None, acting("bert"));
        said.await.unwrap();
    }
    let said = Some("the left one, <b>not</b> the right one");
    let study = uid(2);
    let comment = store.give_feedback(&study, "screening", Verdict::Comment, said, acting("bert"));
    comment.await.unwrap();
    for n in 13..=24 {
        store.mark_read(&uid(n), acting("bert")).await.unwrap();
    }
    change_since(site).await;
    store.draw_audit(1.0, NOON_MS).await.unwrap();
    let (first, _) = store.next_audit("admin", 0).await.unwrap();
    let first = first.unwrap().study_uid;
    let answer = store.answer_audit(&first, "admin", Answer::Nothing, None, NOON_MS);
    answer.await.unwrap();
    store
        .save_filter("admin", "STAT of the night", "state=screened", NOON_MS)
        .await
        .unwrap();
}

/// Study 2 was measured, and compared with an earlier one.
async fn change_since(site: &Site) {
    let study = site.row(2).await;
    let measured = |s: &mut firstread::store::ranks::Standing| s.volumetry = "done".into();
    let changed = site
        .store
        .change_standing(study.id, &site.ranker, NOON_MS, measured);
    changed.await.unwrap();
    let row = MeasurementRow::default();
    let kept = site.store.keep_measurement(study.id, &row, NOON_MS);
    kept.await.unwrap();
    let compared = Compared {
        follow_up: Some(crate::compared::follow_up()),
        not_compared: None,
    };
    let kept = site.store.keep_follow_up(study.id, &compared, NOON_MS);
    kept.await.unwrap();
}

/// What would give these minutes, roughly.
fn evidence(band: Band, minutes: f64) -> String {
    let finding = Finding {
        code: "lateral_ventricles_large".into(),
        group: "hydrocephalus".into(),
        text: "lateral ventricles above the 99th percentile".into(),
        minutes: 10.0,
        critical: band == Band::Critical,
    };
    let screening = Screening {
        p_calibrated: logistic(logit(0.003) + (minutes - 10.0) / 30.0),
        prevalence_train: 0.1,
    };
    let evidence = Evidence {
        screening: (band != Band::Pending).then_some(screening),
        findings: vec![finding],
        ..Evidence::default()
    };
    serde_json::to_string(&evidence).unwrap()
}

fn reason(code: &str, text: &str, minutes: f64) -> Reason {
    Reason {
        code: code.into(),
        text: text.into(),
        minutes,
    }
}

const PICTURES: [&str; 6] = [
    "axial.png",
    "coronal.png",
    "sagittal.png",
    "axial_overlay.png",
    "coronal_overlay.png",
    "sagittal_overlay.png",
];

const RESULT: &str = "{\"contrast\":\"T1\",\"p_logit\":null,\"p_calibrated\":0.4,\"prevalence_train\":0.5,\
     \"head_logit\":null,\"findings\":[],\"focus_mm\":null,\"volumes\":[],\
     \"pictures\":[\"axial\",\"coronal\",\"sagittal\"],\"timings_ms\":{}}";

/// A grey disc, or a coloured spot on nothing.
fn png(overlay: bool) -> Vec<u8> {
    const SIDE: u32 = 96;
    let mut rgba = Vec::new();
    for y in 0..SIDE {
        for x in 0..SIDE {
            let far = |cx: f64, cy: f64| (f64::from(x) - cx).hypot(f64::from(y) - cy);
            let pixel = match overlay {
                true if far(60.0, 40.0) < 9.0 => [255, 170, 60, 150],
                false if far(48.0, 48.0) < 38.0 => [120, 120, 120, 255],
                true => [0, 0, 0, 0],
                false => [0, 0, 0, 255],
            };
            rgba.extend(pixel);
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgba);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&rgba)
        .unwrap();
    out
}
