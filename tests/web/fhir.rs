//! FHIR R4 as a client meets it; `fhir.resources` parses everything that is given out.

use std::io::Write as _;
use std::process::{Command, Stdio};

use firstread::clock::rfc3339;
use firstread::fhir::subscription::CRITERIA;
use firstread::fhir::{ORDER_PARAMETERS, PARAMETERS, REPORT_PARAMETERS, TYPES};
use firstread::store::accounts::Role;
use firstread::worklist::News;
use reqwest::{Response, StatusCode};
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};

use crate::common::databases;
use crate::site::{NOON_MS, Site, browser, uid};

async fn ask(site: &Site, path: &str, token: &str) -> Response {
    let url = site.url(&format!("/fhir{path}"));
    browser().get(url).bearer_auth(token).send().await.unwrap()
}

async fn get(site: &Site, path: &str, token: &str) -> Value {
    let answer = ask(site, path, token).await;
    assert_eq!(answer.headers()["content-type"], "application/fhir+json");
    answer.json().await.unwrap()
}

/// Studies of which the first was screened and measured.
async fn filled(site: &Site) {
    let volumes = json!([
        {"structure": "left lateral ventricle", "label": 4, "volume_mm3": 40_000.4, "percent_icv": 2.9,
         "z": 3.0, "percentile": 99.8, "no_norm": null},
        {"structure": "intracranial volume", "label": null, "volume_mm3": 1.4e6, "percent_icv": 100.0,
         "z": null, "percentile": null, "no_norm": "no norm"},
    ]);
    let result = json!({
        "contrast": "T1", "p_logit": null, "p_calibrated": null, "prevalence_train": null,
        "head_logit": null, "volumes": volumes, "findings": [], "focus_mm": null,
        "pictures": [], "timings_ms": {},
    });
    for n in 1..=5 {
        let study = site
            .study_with(n, 10, f64::from(n) * 40.0, |s| {
                if n == 2 {
                    s.state = Set("not_analysed".into());
                    s.not_analysed_reason = Set(Some("no usable series".into()));
                    s.p_abnormal = Set(None);
                }
                if n == 3 {
                    s.accession = Set(None);
                    s.patient_id = Set(None);
                    s.study_date = Set(Some("someday".into()));
                }
                if n == 4 {
                    s.reading = Set("read".into());
                    s.band = Set("urgent".into());
                }
                if n == 5 {
                    s.reading = Set("prior".into());
                }
            })
            .await;
        site.series_with(&study, |s| s.description = Set(Some("<T1>".into())))
            .await;
        site.screening_with(&study, |s| s.result_json = Set(result.to_string()))
            .await;
    }
}

/// What `fhir.resources` says of each; nothing where this machine does not have it.
pub fn judged(resources: &[Value]) -> Vec<Value> {
    let Some(python) = std::env::var_os("FIRSTREAD_TEST_PYTHON") else {
        eprintln!("skipped: FIRSTREAD_TEST_PYTHON is not set");
        return vec![];
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/fhir_parse.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let lines: Vec<String> = resources.iter().map(Value::to_string).collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(to, "{line}").unwrap();
        }
    });
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let all: Vec<Value> = said
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(all.len(), resources.len());
    all
}

fn resources(bundle: &Value) -> Vec<Value> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries.into_iter().map(|e| e["resource"].clone()).collect()
}

#[tokio::test]
async fn fhir_resources_parses_everything() {
    for database in databases() {
        let site = Site::on(&database).await;
        filled(&site).await;
        let token = site.token(Role::Integration).await;
        let mut all = vec![get(&site, "/metadata", &token).await];
        for kind in TYPES {
            let bundle = get(&site, &format!("/{kind}"), &token).await;
            let found = resources(&bundle);
            assert!(!found.is_empty(), "{kind}");
            for resource in &found {
                assert_eq!(resource["resourceType"], kind);
                let id = resource["id"].as_str().unwrap();
                let alone = get(&site, &format!("/{kind}/{id}"), &token).await;
                assert_eq!(alone, *resource, "read and search give the same");
            }
            all.extend(found);
            all.push(bundle);
        }
        all.push(get(&site, "/ImagingStudy/1.2.3", &token).await);
        all.push(get(&site, "/ImagingStudy", "no token").await);
        for (resource, wrong) in all.iter().zip(judged(&all)) {
            assert!(wrong.is_null(), "{wrong}\n{resource}");
        }
        assert_eq!(all.last().unwrap()["issue"][0]["code"], "login");
        let text = Value::from(all).to_string();
        assert!(!text.contains("Family"), "no name of a patient");
    }
}

#[tokio::test]
async fn what_is_given_out_says_what_the_page_says() {
    let site = Site::start().await;
    filled(&site).await;
    let token = site.token(Role::Reader).await;
    let study = get(&site, &format!("/ImagingStudy/{}", uid(1)), &token).await;
    assert_eq!(
        study["identifier"][0]["value"],
        format!("urn:oid:{}", uid(1))
    );
    assert_eq!(study["identifier"][1]["value"], "ACC-1");
    assert_eq!(study["started"], "2026-11-23");
    assert_eq!(study["series"][0]["description"], "<T1>");
    let report = get(&site, &format!("/DiagnosticReport/{}", uid(1)), &token).await;
    assert_eq!(report["status"], "preliminary");
    assert!(
        report["conclusion"]
            .as_str()
            .unwrap()
            .contains(firstread::RESEARCH_USE)
    );
    assert_eq!(report["result"].as_array().unwrap().len(), 3);
    let observations = get(
        &site,
        &format!("/Observation?identifier={}", uid(1)),
        &token,
    )
    .await;
    let found = resources(&observations);
    let flag = |o: &Value| o["interpretation"][0]["coding"][0]["code"].clone();
    assert_eq!(
        flag(&found[0]),
        Value::Null,
        "not flagged: no interpretation"
    );
    assert_eq!(flag(&found[1]), "HH");
    assert_eq!(
        found[1]["component"][0]["referenceRange"][0]["high"]["value"],
        95.0
    );
    assert_eq!(flag(&found[2]), Value::Null, "no comparison");
    assert_eq!(found[2]["note"][0]["text"], "no comparison: no norm");
    let urgent = get(
        &site,
        &format!("/Observation?identifier={}", uid(4)),
        &token,
    )
    .await;
    assert_eq!(flag(&resources(&urgent)[0]), "AA");
    let task = get(&site, &format!("/Task/{}", uid(2)), &token).await;
    assert_eq!(
        (&task["status"], &task["statusReason"]["text"]),
        (&json!("rejected"), &json!("no usable series"))
    );
    // measured after it was screened: issued then; and what changes later is not issued anew
    let dated = site.study_with(6, 10, 5.0, |s| {
        s.screened_at = Set(Some(NOON_MS));
        s.analysed_at = Set(Some(NOON_MS + 90_000));
        s.changed_at = Set(NOON_MS + 120_000);
    });
    dated.await;
    let report = get(&site, &format!("/DiagnosticReport/{}", uid(6)), &token).await;
    assert_eq!(report["issued"], rfc3339(NOON_MS + 90_000));
    let updated = rfc3339(NOON_MS + 120_000);
    for kind in ["DiagnosticReport", "ImagingStudy", "ServiceRequest", "Task"] {
        let found = get(&site, &format!("/{kind}/{}", uid(6)), &token).await;
        assert_eq!(found["meta"]["lastUpdated"], updated, "{kind}");
    }
    let request = get(&site, &format!("/ServiceRequest/{}", uid(4)), &token).await;
    assert_eq!(
        (&request["status"], &request["priority"]),
        (&json!("completed"), &json!("routine"))
    );
    // without an accession number there is no order; priors are not listed
    for (kind, n) in [("ServiceRequest", 3), ("ImagingStudy", 5), ("Patient", 1)] {
        let answer = ask(&site, &format!("/{kind}/{}", uid(n)), &token).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{kind}");
        let outcome: Value = answer.json().await.unwrap();
        assert_eq!(outcome["resourceType"], "OperationOutcome");
    }
}

#[tokio::test]
async fn searches_are_paged_and_wrong_ones_are_named() {
    let site = Site::start().await;
    filled(&site).await;
    let token = site.token(Role::Auditor).await;
    let mut path = "/ImagingStudy?_count=3".to_owned();
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let page = get(&site, &path, &token).await;
        assert_eq!(page["total"], 4);
        found.extend(
            resources(&page)
                .iter()
                .map(|r| r["id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        let links = page["link"].as_array().unwrap();
        let Some(next) = links.iter().find(|l| l["relation"] == "next") else {
            break;
        };
        let next = next["url"].as_str().unwrap();
        assert!(next.starts_with(&site.url("/fhir/ImagingStudy?")), "{next}");
        path = next.split_once("/fhir").unwrap().1.to_owned();
    }
    assert_eq!((pages, found), (2, vec![uid(4), uid(3), uid(2), uid(1)]));
    let count = async |path: &str| resources(&get(&site, path, &token).await).len();
    assert_eq!(count("/ImagingStudy?identifier=ACC-2").await, 1);
    assert_eq!(
        count(&format!(
            "/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{}",
            uid(2)
        ))
        .await,
        1
    );
    assert_eq!(count("/Task?subject:identifier=PAT-2").await, 1);
    assert_eq!(
        count("/Task?subject:identifier=PAT-2&identifier=ACC-1").await,
        0
    );
    assert_eq!(count(&format!("/DiagnosticReport?_id={}", uid(1))).await, 1);
    let report = "/DiagnosticReport?conclusion";
    assert_eq!(count(&format!("{report}=urgent,critical")).await, 1);
    assert_eq!(
        count(&format!("{report}=urn:firstread:codes%7Ccritical")).await,
        0
    );
    assert_eq!(count("/DiagnosticReport?status=preliminary").await, 4);
    assert_eq!(count("/DiagnosticReport?status=registered").await, 0);
    assert_eq!(count("/Observation?_id=1-SCORE").await, 1);
    assert_eq!(count("/Observation?_id=x").await, 0);
    assert_eq!(count("/ServiceRequest").await, 3);
    assert_eq!(count("/ServiceRequest?priority=stat").await, 0);
    assert_eq!(count("/ServiceRequest?priority=stat,routine").await, 3);
    assert_eq!(count("/Device?_id=other").await, 0);
    assert_eq!(count("/Device?_id=other,firstread").await, 1);
    for (path, word) in [
        ("/ImagingStudy?colour=red", "colour"),
        ("/ImagingStudy?_count=many", "_count"),
        ("/ImagingStudy?_count=101", "_count"),
        ("/ImagingStudy?_offset=-1", "_offset"),
        ("/ImagingStudy?conclusion=urgent", "conclusion"),
        ("/DiagnosticReport?conclusion=cancer", "conclusion"),
        ("/DiagnosticReport?status=final", "status"),
        ("/ServiceRequest?priority=soon", "priority"),
        ("/Task?priority=stat", "priority"),
        ("/Task?identifier=", "identifier"),
        ("/Task?identifier=ACC-1,", "identifier"),
        ("/Task?identifier=urn:hospital%7CACC-1", "urn:hospital"),
        (
            "/Task?subject:identifier=urn:hospital%7CPAT-1",
            "urn:hospital",
        ),
        ("/Task?_id=urn:x%7C1", "_id"),
        ("/Task?_count=1&_count=2", "_count"),
        ("/Device?identifier=1", "identifier"),
        ("/DiagnosticReport?status=urn:x%7Cpreliminary", "status"),
    ] {
        let answer = ask(&site, path, &token).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        let outcome: Value = answer.json().await.unwrap();
        assert!(
            outcome["issue"][0]["diagnostics"]
                .as_str()
                .unwrap()
                .contains(word)
        );
    }
}

#[tokio::test]
async fn values_are_alternatives_and_repetitions_all_hold() {
    let site = Site::start().await;
    filled(&site).await;
    let token = site.token(Role::Auditor).await;
    let of = async |kind: &str, query: &str| {
        let page = get(&site, &format!("/{kind}?{query}"), &token).await;
        resources(&page).len()
    };
    let (one, two) = (uid(1), uid(2));
    for (kind, query, n) in [
        ("Task", format!("_id={one},{two}"), 2),
        ("Task", format!("_id={one}&_id={two}"), 0),
        ("Task", format!("_id={one},{two}&_id={two}"), 1),
        ("Observation", "_id=1-SCORE,4-SCORE,4-x".into(), 2),
        ("Task", format!("identifier=ACC-2,{one}"), 2),
        ("Task", "identifier=ACC-2&identifier=ACC-1".into(), 0),
        ("Task", format!("identifier=ACC-2&identifier={two}"), 1),
        ("Task", "identifier=%7CACC-2".into(), 1),
        ("Task", format!("identifier=%7C{one}"), 0),
        ("Task", "identifier=urn:dicom:uid%7CACC-2".into(), 0),
        ("Task", format!("identifier=urn:dicom:uid%7C{two},ACC-1"), 2),
        ("Task", "identifier=ACC%5C,2".into(), 0),
        ("Task", "subject:identifier=PAT-2,PAT-1".into(), 2),
        (
            "Task",
            "subject:identifier=PAT-2&subject:identifier=PAT-1".into(),
            0,
        ),
        (
            "DiagnosticReport",
            "status=preliminary,registered".into(),
            4,
        ),
        (
            "DiagnosticReport",
            "status=preliminary&status=registered".into(),
            0,
        ),
        (
            "DiagnosticReport",
            "conclusion=urgent&conclusion=critical".into(),
            0,
        ),
        ("ServiceRequest", "priority=stat&priority=routine".into(), 0),
        (
            "ServiceRequest",
            "priority=stat,routine&priority=routine".into(),
            3,
        ),
    ] {
        assert_eq!(of(kind, &query).await, n, "{kind}?{query}");
    }
}

#[tokio::test]
async fn the_priority_of_an_order_can_be_changed_by_an_integration_alone() {
    for database in databases() {
        let site = Site::on(&database).await;
        filled(&site).await;
        let token = site.token(Role::Integration).await;
        let url = site.url(&format!("/fhir/ServiceRequest/{}", uid(1)));
        let put = async |token: &str, body: Value| {
            let request = browser().put(&url).bearer_auth(token).json(&body);
            request.send().await.unwrap()
        };
        let order = |priority: &str| json!({"resourceType": "ServiceRequest", "id": uid(1), "priority": priority});
        let mut news = site.news.listen();
        let changed = put(&token, order("stat")).await;
        assert_eq!(changed.status(), StatusCode::OK);
        assert_eq!(changed.json::<Value>().await.unwrap()["priority"], "stat");
        assert_eq!(news.try_recv().unwrap(), News::Study(uid(1)));
        let study = site.store.study_detail(&uid(1), 0).await.unwrap().unwrap();
        assert_eq!(
            (study.item.order_priority.as_str(), study.item.rank),
            ("stat", 1)
        );
        let urgent: Value = put(&token, order("urgent")).await.json().await.unwrap();
        assert_eq!(urgent["priority"], "asap");
        assert_eq!(
            put(&token, order("soon")).await.status(),
            StatusCode::UNPROCESSABLE_ENTITY
        );
        let other = json!({"resourceType": "ServiceRequest", "id": "1", "priority": "stat"});
        assert_eq!(put(&token, other).await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            put(&token, json!([])).await.status(),
            StatusCode::BAD_REQUEST
        );
        let reader = site.token_of("anna", Role::Reader).await;
        assert_eq!(
            put(&reader, order("stat")).await.status(),
            StatusCode::FORBIDDEN
        );
        let task = site.url(&format!("/fhir/Task/{}", uid(1)));
        let refused = browser().put(task).bearer_auth(&token).json(&order("stat"));
        assert_eq!(
            refused.send().await.unwrap().status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}

#[tokio::test]
async fn the_conformance_statement_lists_what_there_is() {
    let site = Site::start().await;
    let statement = include_str!("../../docs/conformance-fhir.md");
    let rows: Vec<&str> = statement
        .lines()
        .filter_map(|l| l.strip_prefix("| `")?.split('`').next())
        .collect();
    let parameters = PARAMETERS.iter().map(|(name, _)| *name);
    let of_report = REPORT_PARAMETERS.iter().map(|(name, _)| *name);
    let of_order = ORDER_PARAMETERS.iter().map(|(name, _)| *name);
    let expected: Vec<&str> = TYPES
        .into_iter()
        .chain(["Subscription"])
        .chain(parameters)
        .chain(of_report)
        .chain(of_order)
        .collect();
    assert_eq!(rows, expected);
    assert!(statement.contains(CRITERIA), "{CRITERIA}");
    let capabilities = get(&site, "/metadata", "").await;
    let types: Vec<&str> = capabilities["rest"][0]["resource"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, [&TYPES[..], &["Subscription"]].concat());
}
