//! No text of a sender becomes a part of a page: every page there is, generated from the routes, with every
//! DICOM and HL7 text field carrying a script.

use std::collections::BTreeSet;
use std::time::Duration;

use firstread::fhir;
use firstread::store::accounts::Role;
use firstread::web::{Access, Rule, rules};
use reqwest::Response;

use crate::common::TestServer;
use crate::marked::{Hospital, SIGN, Visitor, encoded, mark};
use crate::reflected::unescaped;

/// Kinds of answer that a browser takes for nothing but text or a file, as long as it is not to guess.
const HARMLESS: [&str; 9] = [
    "application/json",
    "application/problem+json",
    "application/fhir+json",
    "application/jsonl",
    "application/pdf",
    "text/csv",
    "text/plain",
    "text/event-stream",
    "image/png",
];

/// Markers that must be found, so that the test would see one that is not escaped: where they come from.
const SHOWN: [&str; 20] = [
    // patient's name, id, accession number, descriptions, referrer of the study that is screened
    "b00100010",
    "b00100020",
    "b00080050",
    "b00081030",
    "b00080090",
    "b0008103e",
    // the same of the one whose every value is a marker, and its modality
    "a00100010",
    "a00100020",
    "a00080050",
    "a00081030",
    "a0008103e",
    "a00080060",
    // an order's procedure, a possible order, who said that a study was read
    "ormobr4c2",
    "mayobr4c2",
    "orumsh3",
    // a patient's new name, the survivor of a merge
    "adtpid5c1",
    "mrgpid3c1",
    // who sent what was kept aside
    "ae",
    // a reader's comment, a filter's name
    "comment",
    "f",
];

/// The addresses that a route has here.
fn addresses(rule: &Rule, hospital: &Hospital) -> Vec<String> {
    let path = rule.path;
    let mut all = Vec::new();
    for study in [&hospital.study, &hospital.other] {
        let patient = encoded(&mark("b00100020"));
        let more = match path {
            "/destinations/{name}/preview" | "/shown" => format!("?study={study}"),
            "/trail/export" => "?format=csv".to_owned(),
            "/trail/patient/export" => format!("?format=jsonl&patient={patient}"),
            "/trail/patient" => format!("?patient={patient}"),
            _ => String::new(),
        };
        let resources = fhir::TYPES.iter().map(|kind| {
            let id = if *kind == "Observation" { "1" } else { study };
            path.replace("/fhir/{type}/{id}", &format!("/fhir/{kind}/{id}"))
                .replace("{type}", kind)
        });
        let each: Vec<String> = if path.contains("{type}") {
            resources.collect()
        } else {
            vec![path.to_owned()]
        };
        all.extend(each.into_iter().map(|path| {
            path.replace("{name}/form", "new/form")
                .replace("{name}/preview", "ris/preview")
                .replace("{name}", "firstread.css")
                .replace("{study_uid}", study)
                .replace("{series_uid}", &hospital.series)
                .replace("{picture}", "axial")
                .replace("{id}", "1")
                .replace("{token}", "1.x")
                + &more
        }));
    }
    all.sort();
    all.dedup();
    all
}

/// Looks at an answer, and notes which markers it shows.
async fn look(what: &str, answer: Response, seen: &mut BTreeSet<String>) {
    let status = answer.status();
    let headers = answer.headers().clone();
    let header = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap());
    let kind = header("content-type").split(';').next().unwrap().to_owned();
    assert!(!status.is_server_error(), "{what}: {status}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
    if kind == "text/event-stream" {
        return;
    }
    let body = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
    if kind == "text/html" {
        if let Some(place) = unescaped(&body) {
            panic!("{what}: {place}");
        }
        for piece in body.split(SIGN).skip(1) {
            let name = piece.split(|c: char| !c.is_ascii_alphanumeric()).next();
            seen.insert(name.unwrap().to_owned());
        }
    } else if body.contains(SIGN) {
        assert!(HARMLESS.contains(&kind.as_str()), "{what} is {kind:?}");
        let file = ["text/csv", "application/jsonl"].contains(&kind.as_str());
        let said = header("content-disposition");
        assert!(!file || said.starts_with("attachment"), "{what}: {said}");
    }
}

/// Every route that shows something, as whoever may see it.
async fn every_page(hospital: &Hospital, browser: &Visitor, seen: &mut BTreeSet<String>) -> usize {
    let server = &hospital.server;
    let token = |roles: &[Role]| {
        if roles.contains(&Role::Reader) {
            server.token.clone()
        } else {
            server.create_token(roles[0].as_str())
        }
    };
    let mut looked_at = 0;
    for rule in rules().iter().filter(|r| r.method.as_str() == "GET") {
        for path in addresses(rule, hospital) {
            let request = browser.client.get(hospital.url(&path));
            let request = match rule.access {
                Access::Api(roles) => request.bearer_auth(token(roles)),
                _ => request,
            };
            let answer = tokio::time::timeout(Duration::from_secs(30), request.send());
            look(&path, answer.await.unwrap().unwrap(), seen).await;
            looked_at += 1;
        }
    }
    looked_at
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_of_a_sender_becomes_a_part_of_a_page() {
    let hospital = Hospital::open().await;
    let browser = Visitor::sign_in(&hospital.server).await;
    let mut seen = BTreeSet::new();
    hospital.order();
    hospital.write(&browser).await;
    hospital.wait_for_refusal(&browser).await;
    let looked_at = every_page(&hospital, &browser, &mut seen).await;
    assert!(looked_at > 60, "{looked_at} pages");

    // What is shown to whom asks for it, and what forms answer with.
    for path in ["/deliveries/1/message", "/destinations/ris/preview"] {
        for study in [&hospital.study, &hospital.other] {
            let fields = [("study", study.clone())];
            let (status, page) = browser.post(path, &fields).await;
            assert_eq!(status, 200, "{path}: {page}");
            assert!(page.contains(SIGN), "{path} shows no text of a sender");
            assert_eq!(unescaped(&page), None, "{path}");
            // what a RIS refuses with
            assert_eq!(
                page.contains("zqnakerr8"),
                path.contains("message"),
                "{page}"
            );
        }
    }

    // Patients get other names, are merged, and are read.
    hospital.rename();
    hospital.report();
    every_page(&hospital, &browser, &mut seen).await;
    let missing: Vec<&str> = SHOWN
        .into_iter()
        .filter(|name| !seen.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "nowhere shown: {missing:?}; shown: {seen:?}"
    );
    pdf_is_text(&hospital.server, &hospital, &browser).await;
}

/// The PDF has the marker as the text that it is.
async fn pdf_is_text(server: &TestServer, hospital: &Hospital, browser: &Visitor) {
    let path = format!("/studies/{}/report.pdf", hospital.study);
    let answer = browser.client.get(hospital.url(&path)).send().await;
    let bytes = answer.unwrap().bytes().await.unwrap();
    let file = server.data.join("report.pdf");
    std::fs::write(&file, &bytes).unwrap();
    let read = std::process::Command::new("pdftotext")
        .args(["-raw", "-enc", "UTF-8"])
        .arg(&file)
        .arg("-")
        .output();
    let Ok(read) = read else {
        return eprintln!("skipped: no pdftotext");
    };
    let text = String::from_utf8_lossy(&read.stdout).replace(['\n', ' '], "");
    assert!(text.contains("<script>hit()</script>"), "{text}");
    for word in ["/JavaScript", "/JS", "/OpenAction", "/AA"] {
        let found = bytes.windows(word.len()).any(|w| w == word.as_bytes());
        assert!(!found, "{word}");
    }
}
