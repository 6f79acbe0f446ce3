//! A lesion on one side is on that side in everything that leaves the server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use firstread::norms::fixed;
use firstread::report::Language;
use firstread::report::content::percentile;
use firstread::report::names::{COHORTS_DIFFER, ROWS};
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
            value.map(|v| fixed(v, digits)).unwrap_or_default()
        };
        let label = v["label"].as_i64().map(|l| l.to_string());
        let label = label.unwrap_or_default();
        let (mm3, share) = (number("volume_mm3", 1), number("percent_icv", 4));
        let (z, percentile) = (number("z", 3), number("percentile", 3));
        writeln!(csv, "{name},{label},{mm3},{share},{z},{percentile}").unwrap();
    }
    csv
}

/// A server with the test networks that sends all it makes to a peer.
fn measuring_server(models: &Path, peer: &Peer) -> TestServer {
    let to = format!(
        "[{{name=\"pacs\", ae_title=\"PACS\", host=\"127.0.0.1\", port={}}}]",
        peer.port
    );
    let mut settings = settings(&to);
    let folder = models.to_str().unwrap().to_owned();
    settings.push(("FIRSTREAD_ANALYSIS__MODELS".into(), folder));
    TestServer::start_with(&Database::Sqlite, &settings)
}

/// Sends a study and waits until its objects are with the peer: two segmentations, measurements, PDF,
/// and planes through hippocampi and lesion.
async fn through(server: &TestServer, peer: &Peer, uid: &str, source: &Path, results: &Path) {
    assert!(server.send(&dicom_files(source)).0);
    server.wait_for(uid, |i| i["volumetry"] == "done").await;
    server.wait_until_idle().await;
    let sent = wait_for(server, uid, "pacs", "delivered", 10).await;
    wait_for(server, uid, "pacs", "delivered", sent.len()).await;
    sort(peer, uid, results);
}

/// Every number of `volumes.csv` that the PDF's table shows, as it shows it: ml, percent of
/// intracranial volume, z, percentile, left and right. Volumes are moved by so many mm3: the file rounds them to
/// 0.1, the table the volumes themselves.
fn rows_of(csv: &str, by: f64) -> Vec<String> {
    let cells: Vec<Vec<&str>> = csv
        .lines()
        .skip(1)
        .map(|l| l.split(',').collect())
        .collect();
    let of = |name: &str| cells.iter().find(|c| c[0] == name);
    let ml = |c: &Vec<&str>| Language::En.millilitres(c[2].parse::<f64>().unwrap() + by);
    let rows = ROWS.iter().filter_map(|row| {
        let whole = of(row.structure)?;
        let said =
            |at: usize, say: &dyn Fn(f64) -> String| whole[at].parse().map(say).unwrap_or_default();
        let mark = if COHORTS_DIFFER.contains(&row.structure) {
            " *"
        } else {
            ""
        };
        let mut words = vec![
            format!("{}{mark}", row.name(Language::En)),
            ml(whole),
            said(3, &|v| Language::En.number(v, 2)),
            said(4, &|v| Language::En.signed(v)),
            said(5, &|v| percentile(v, Language::En)),
        ];
        words.extend(
            row.sides
                .iter()
                .flatten()
                .filter_map(|side| of(side).map(ml)),
        );
        Some(
            words
                .into_iter()
                .filter(|w| !w.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
        )
    });
    rows.collect()
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
            "SEG" if tag(&file, "0008,103e").contains("lesions") => "seg_lesions.dcm".to_owned(),
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
    // Two servers work at once, each on a core: what they make must be the same.
    let (peer, another) = (Peer::storescp(), Peer::storescp());
    let server = measuring_server(models.path(), &peer);
    let second = measuring_server(models.path(), &another);
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
    let (results, repeated) = (work.path().join("results"), work.path().join("repeated"));
    tokio::join!(
        through(&server, &peer, &uid, &source, &results),
        through(&second, &another, &uid, &source, &repeated),
    );

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
    let kept = |server: &TestServer, name: &str| {
        let folder = server.data.join("measurements").join(&uid);
        folder.join(name)
    };
    let maps = ["segmentation.nii.gz", "lesions.nii.gz"];
    let [labels, lesion_map] = maps.map(|name| kept(&server, name));
    let again = std::fs::read(out.join("segmentation.nii.gz")).unwrap();
    assert!(std::fs::read(&labels).unwrap() == again);

    let measured = [
        source.join("T1_MPRAGE"),
        labels.clone(),
        out.join("volumes.csv"),
    ];
    let measured = measured.each_ref().map(PathBuf::as_path);
    let flair = source.join("FLAIR");
    let seen_on = Some([flair.as_path(), lesion_map.as_path()]);
    let said = judged(&python, &results, measured, seen_on);
    eprintln!("{side}: {said}");
    let number = |key: &str| said[key].as_u64().unwrap();
    assert_eq!(said["seg_wrong"], 0, "{said}");
    assert_eq!(said["lesion_seg_wrong"], 0, "{said}");
    assert!(number(&format!("lesion_seg_{side}")) > 100, "{said}");
    assert_eq!(number(&format!("lesion_seg_{other}")), 0, "{said}");
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
    // The report's numbers are those of volumes.csv, which the measurement report was judged by.
    let rows = [0.0, -0.05, 0.05].map(|by| rows_of(&csv, by));
    assert!(rows[0].len() > 10, "{rows:?}");
    for (n, row) in rows[0].iter().enumerate() {
        let stands = rows.iter().any(|rows| words.contains(&rows[n]));
        assert!(stands, "{row} is not in {words}");
    }

    // The other server made the same of it: maps bit by bit, objects but for the time they were made.
    for name in maps {
        let [one, two] = [&server, &second].map(|s| std::fs::read(kept(s, name)).unwrap());
        assert!(one == two, "{name}");
    }
    let compared = Command::new(&python)
        .arg("tests/results/same.py")
        .args([&results, &repeated])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(compared.status.success(), "{said}{compared:?}");
    let objects = std::fs::read_dir(&results)
        .unwrap()
        .map(|e| e.unwrap().path());
    let made = objects
        .filter(|path| path.extension().is_some_and(|e| e == "dcm"))
        .count();
    assert!(made >= 8, "reports, maps and pictures: {made}");
    assert_eq!(said.trim(), format!("{made} objects are the same"));
}
