//! A lesion on one side is on that side in everything that leaves the server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::{BINARY, Database, TestServer, dicom_files, tag, test_networks};
use crate::objects::{judge, judged};
use crate::pacs::Peer;
use crate::sending::{settings, wait_for};

/// `volumes.csv` of what the server tells of a study, written as `firstread analyze` writes it.
pub fn csv_of(study: &Value) -> String {
    let mut csv = "structure,label,volume_mm3,percent_icv,z,percentile\n".to_owned();
    for v in study["measurement"]["volumes"].as_array().unwrap() {
        let name = v["structure"].as_str().unwrap();
        let name = if name.contains(',') {
            format!("\"{name}\"")
        } else {
            name.to_owned()
        };
        let number = |key: &str, digits: usize| {
            let value = v[key].as_f64();
            value.map(|v| format!("{v:.digits$}")).unwrap_or_default()
        };
        let label = v["label"].as_i64().map(|l| l.to_string());
        let label = label.unwrap_or_default();
        let (mm3, share) = (number("volume_mm3", 1), number("percent_icv", 4));
        let (z, percentile) = (number("z", 3), number("percentile", 3));
        writeln!(csv, "{name},{label},{mm3},{share},{z},{percentile}").unwrap();
    }
    csv
}

/// The objects of a study among a peer's files, named by their kind.
fn sort(peer: &Peer, uid: &str, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut captures = 0;
    for file in peer.files() {
        if tag(&file, "0020,000d") != uid {
            continue;
        }
        let name = match tag(&file, "0008,0060").as_str() {
            "SEG" => "seg.dcm".to_owned(),
            "SR" => "sr.dcm".to_owned(),
            "DOC" => "pdf.dcm".to_owned(),
            _ => {
                captures += 1;
                format!("sc{captures}.dcm")
            }
        };
        std::fs::copy(file, folder.join(name)).unwrap();
    }
}

/// What the PDF within an object says.
fn words_of(object: &Path) -> String {
    let pdf = object.with_extension("pdf");
    let taken = Command::new("dcm2pdf").args([object, &pdf]).status();
    assert!(taken.unwrap().success());
    let read = Command::new("pdftotext")
        // One column after the other.
        .args(["-raw", "-enc", "UTF-8"])
        .arg(&pdf)
        .arg("-")
        .output()
        .unwrap();
    let text = String::from_utf8(read.stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `firstread analyze` of a received study.
fn analysed(server: &TestServer, uid: &str, models: &Path, out: &Path) {
    let done = Command::new(BINARY)
        .args(["analyze", uid, "--data"])
        .arg(&server.data)
        .arg("--out")
        .arg(out)
        .env("FIRSTREAD_ANALYSIS__MODELS", models)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

#[tokio::test]
async fn a_lesion_on_one_side_is_there_in_every_output() {
    let Some(python) = judge() else { return };
    let models = test_networks();
    let peer = Peer::storescp();
    let to = format!(
        "[{{name=\"pacs\", ae_title=\"PACS\", host=\"127.0.0.1\", port={}}}]",
        peer.port
    );
    let mut settings = settings(&to);
    let folder = models.path().to_str().unwrap().to_owned();
    settings.push(("FIRSTREAD_ANALYSIS__MODELS".into(), folder));
    let server = TestServer::start_with(&Database::Sqlite, &settings);
    let (side, other) = ("left", "right");
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    let made = Command::new(&python)
        .args([
            "tests/results/make_study.py",
            "tests/samples/golden_head.nii.gz",
        ])
        .arg(&source)
        .arg(side)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let uid = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let files: Vec<PathBuf> = dicom_files(&source);
    assert!(server.send(&files).0);
    server.wait_for(&uid, |i| i["volumetry"] == "done").await;
    server.wait_until_idle().await;
    // seg, sr, pdf, and planes through hippocampi and lesion
    let sent = wait_for(&server, &uid, "pacs", "delivered", 9).await;
    wait_for(&server, &uid, "pacs", "delivered", sent.len()).await;

    let study = server.get(&format!("/api/v1/studies/{uid}")).await;
    let lesions = &study["measurement"]["lesions"];
    assert_eq!(lesions["count"], 1, "{lesions}");
    assert_eq!(lesions["lesions"][0]["side"], side);
    let ml = lesions["volume_mm3"].as_f64().unwrap() / 1000.0;
    assert!((1.2..2.6).contains(&ml), "a block of 12 mm cubed: {ml} ml");

    let out = work.path().join("analysed");
    analysed(&server, &uid, models.path(), &out);
    let csv = std::fs::read_to_string(out.join("volumes.csv")).unwrap();
    assert_eq!(csv, csv_of(&study), "the server and analyze");
    let mm3 = |name: &str| {
        let row = csv.lines().find(|l| l.starts_with(name)).unwrap();
        row.split(',').nth(2).unwrap().to_owned()
    };
    let whole = mm3("white matter lesions");
    assert_eq!(mm3(&format!("{side} white matter lesions")), whole);
    assert_eq!(mm3(&format!("{other} white matter lesions")), "0.0");
    let labels = server.data.join("measurements").join(&uid);
    let labels = labels.join("segmentation.nii.gz");
    let again = std::fs::read(out.join("segmentation.nii.gz")).unwrap();
    assert!(std::fs::read(&labels).unwrap() == again);

    let results = work.path().join("results");
    sort(&peer, &uid, &results);
    let t1 = source.join("T1_MPRAGE");
    let said = judged(&python, &results, &t1, &labels, &out.join("volumes.csv"));
    eprintln!("{side}: {said}");
    let number = |key: &str| said[key].as_u64().unwrap();
    assert_eq!(said["seg_wrong"], 0, "{said}");
    assert_eq!(said["missing"], serde_json::json!([]), "{said}");
    assert!(number(&format!("lesion_{side}")) > 100, "{said}");
    assert_eq!(number(&format!("lesion_{other}")), 0, "{said}");
    assert!(number(&format!("picture_{side}")) > 100, "{said}");
    assert_eq!(number(&format!("picture_{other}")), 0, "{said}");
    let words = words_of(&results.join("pdf.dcm"));
    let ml = format!("{ml:.2} ml");
    let sentence = format!("{ml} left, 0.00 ml right.");
    assert!(words.contains(&sentence), "{sentence} is not in {words}");
    let largest = format!("The largest: {ml}, {side}, ");
    assert!(words.contains(&largest), "{largest} is not in {words}");
}
