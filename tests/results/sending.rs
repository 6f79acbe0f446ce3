//! Objects on their way: what the PACS says is what counts, and each PACS is on its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;
use dicom_object::from_reader;
use firstread::clock::{Clock as _, SystemClock};
use firstread::dicom::objects::{Kind, Maker, Source, pdf};
use firstread::dicom::send::{
    Answered, CommitOutcome, SendError, Status, StoreOutcome, commit, echo, store,
};
use firstread::outbox::Courier as _;
use firstread::outbox::machine::Outcome;
use firstread::results::ObjectCourier;
use firstread::store::Store;
use firstread::store::outbox::{Batch, TEST};
use serde_json::{Value, json};

use crate::common::{Database, TestServer, dicom_files, real_study, sample, study_uid, tag};
use crate::pacs::{Peer, destination, free_port};

fn maker() -> Maker {
    Maker {
        uid_root: firstread::intake::OWN_UID_ROOT,
        result: "r".into(),
        software_versions: vec!["firstread".into()],
        algorithm: ("a".into(), "1".into()),
        device: "FIRSTREAD".into(),
        date: "20261126".into(),
        time: "120000".into(),
    }
}

/// A PDF object of a synthetic sample.
pub fn object(folder: &Path) -> (String, PathBuf) {
    let source = Source::read(&dicom_files(&sample("one"))).unwrap();
    let made = pdf(&source, None, &maker(), "Title", b"%PDF-1.7 a little odd").unwrap();
    let file = folder.join("object.dcm");
    std::fs::write(&file, &made.file).unwrap();
    (made.sop_instance_uid, file)
}

#[test]
fn a_report_names_the_images_of_both_series_it_tells_of() {
    let [t1, flair] = ["one", "two"].map(|name| dicom_files(&sample(name)));
    let (source, seen_on) = (Source::read(&t1).unwrap(), Source::read(&flair).unwrap());
    let made = pdf(&source, Some(&seen_on), &maker(), "Title", b"%PDF-1.7").unwrap();
    let report = from_reader(made.file.as_slice()).unwrap();
    let sequence = report.element_by_name("SourceInstanceSequence").unwrap();
    let named: BTreeSet<String> = sequence
        .items()
        .unwrap()
        .iter()
        .map(|item| item.get(tags::REFERENCED_SOP_INSTANCE_UID).unwrap())
        .map(|uid| uid.to_str().unwrap().into_owned())
        .collect();
    let images = source.images.iter().chain(&seen_on.images);
    let expected: BTreeSet<String> = images.map(|i| i.sop_instance_uid.clone()).collect();
    assert!(expected.len() > source.images.len());
    assert_eq!(named, expected);
}

#[tokio::test]
async fn storescp_stores_what_we_send_and_answers_an_echo() {
    let folder = tempfile::tempdir().unwrap();
    let (uid, file) = object(folder.path());
    let peer = Peer::storescp();
    let to = destination("pacs", "PACS", peer.port);
    echo(&to, "FIRSTREAD").await.unwrap();
    for _ in 0..2 {
        let stored = store(&to, "FIRSTREAD", Kind::Pdf, &uid, &file).await;
        assert_eq!(stored, Ok(StoreOutcome::Stored));
    }
    let files = peer.files();
    assert_eq!(files.len(), 1);
    assert_eq!(tag(&files[0], "0008,0018"), uid);
    assert_eq!(tag(&files[0], "0008,0060"), "DOC");
}

#[tokio::test]
async fn a_status_is_judged_and_silence_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (uid, file) = object(folder.path());
    let answered = |status| Answered {
        status: Status(status),
        comment: "told to".into(),
    };
    for (answers, expected) in [
        (json!({}), Ok(StoreOutcome::Stored)),
        (json!({"implicit": true}), Ok(StoreOutcome::Stored)),
        (json!({"*": 0xB000}), Ok(StoreOutcome::Stored)),
        (
            json!({"Encapsulated": 0xA700}),
            Ok(StoreOutcome::Later(answered(0xA700))),
        ),
        (
            json!({"Encapsulated": 0xC000}),
            Ok(StoreOutcome::Refused(answered(0xC000))),
        ),
        (
            json!({"silent": true}),
            Err(SendError::BrokenOff(
                "the peer did not answer in time".into(),
            )),
        ),
    ] {
        let Some(peer) = Peer::told(&answers) else {
            eprintln!("skipped: FIRSTREAD_TEST_PYTHON is not set");
            return;
        };
        let mut to = destination("pacs", "PACS", peer.port);
        to.answer_timeout_seconds = 2;
        let said = store(&to, "FIRSTREAD", Kind::Pdf, &uid, &file).await;
        assert_eq!(said, expected, "{answers}");
        let there = peer.files().len();
        let stored = matches!(said, Ok(StoreOutcome::Stored));
        assert_eq!(there, usize::from(stored), "{answers}");
    }
}

#[tokio::test]
async fn who_is_not_there_or_not_called_so_is_a_reason() {
    let nobody = destination("pacs", "PACS", free_port());
    let said = echo(&nobody, "FIRSTREAD").await;
    assert!(matches!(said, Err(SendError::Unreachable(_))), "{said:?}");
    let Some(peer) = Peer::told(&json!({})) else {
        return;
    };
    let wrong = destination("pacs", "OTHER", peer.port);
    let said = echo(&wrong, "FIRSTREAD").await;
    assert!(matches!(said, Err(SendError::Rejected(_))), "{said:?}");
}

#[tokio::test]
async fn commitment_is_asked_for_where_it_is_offered() {
    for (answers, expected) in [
        (json!({"commit": 1}), CommitOutcome::Committed),
        (json!({"commit": 2}), CommitOutcome::Failed),
        (json!({}), CommitOutcome::NotOffered),
    ] {
        let Some(peer) = Peer::told(&answers) else {
            return;
        };
        let to = destination("pacs", "PACS", peer.port);
        let what = ("1.2.840.10008.5.1.4.1.1.104.1", "1.2.3");
        let said = commit(&to, "FIRSTREAD", "1.2.4", what, Duration::from_secs(5)).await;
        assert_eq!(said, Ok(expected), "{answers}");
    }
}

#[tokio::test]
async fn a_report_of_commitment_is_taken_on_an_association_of_its_own() {
    let Some(peer) = Peer::told(&json!({"commit": [1]})) else {
        return;
    };
    let listed = format!(
        "[{{name=\"pacs\", ae_title=\"PACS\", host=\"127.0.0.1\", port={}, objects=[\"pdf\"], \
         commitment=true}}]",
        peer.port
    );
    let mut settings = settings(&listed);
    settings.push(("FIRSTREAD_ANALYSIS__VOLUMETRY".into(), "false".into()));
    let server = TestServer::start_with(&Database::Sqlite, &settings);
    let beside = |ending: &str| peer.folder.path().with_extension(ending);
    std::fs::write(beside("port"), server.dicom.port().to_string()).unwrap();
    let files = dicom_files(&sample("one"));
    let uid = study_uid(&files[0]);
    assert!(server.send(&files).0);
    let started = Instant::now();
    let said = loop {
        let said = std::fs::read_to_string(beside("said")).unwrap_or_default();
        if said.lines().count() == 1 {
            break said;
        }
        assert!(started.elapsed() < Duration::from_mins(2), "{said:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // The peer provides the service; a transaction of nobody's is told from ours.
    assert_eq!(said, "roles False True 0x0112 0x0000\n");
    let told = wait_for(&server, &uid, "pacs", "delivered", 1).await;
    assert_eq!(told[0]["commitment"], "committed", "{told:?}");
    assert!(told[0]["commitment_at"].is_string());
    std::fs::remove_file(beside("port")).unwrap();
    std::fs::remove_file(beside("said")).unwrap();
    assert_eq!(peer.files().len(), 1, "the same object");
}

#[tokio::test]
async fn a_test_delivery_is_an_echo() {
    let folder = tempfile::tempdir().unwrap();
    let peer = Peer::storescp();
    let courier = ObjectCourier {
        store: Store::open(None, folder.path()).await.unwrap(),
        root: folder.path().to_owned(),
        destinations: vec![
            destination("pacs", "PACS", peer.port),
            destination("dead", "PACS", free_port()),
        ],
        made: std::sync::Arc::default(),
        ae_title: "FIRSTREAD".into(),
        clock: std::sync::Arc::new(firstread::clock::SystemClock),
    };
    let batch = Batch {
        id: 1,
        dedup_key: "k".into(),
        kind: TEST.into(),
        resolves: None,
        attempts: 1,
        alerts: Vec::new(),
    };
    let there = courier.deliver("pacs", &batch, 0).await.outcome;
    assert_eq!(there, Outcome::Delivered);
    let dead = courier.deliver("dead", &batch, 0).await.outcome;
    assert!(matches!(dead, Outcome::Later(_)), "{dead:?}");
    let unknown = courier.deliver("gone", &batch, 0).await.outcome;
    assert!(matches!(unknown, Outcome::Later(_)), "{unknown:?}");
}

#[tokio::test]
async fn a_pacs_made_on_the_page_answers_an_echo_and_gets_the_next_study() {
    const NAME: &str = "page:pacs";
    let peer = Peer::storescp();
    let port = peer.port.to_string();
    let without = ("FIRSTREAD_ANALYSIS__VOLUMETRY".into(), "false".into());
    let server = TestServer::start_with(&Database::Sqlite, &[without]);
    let store = Store::open(None, &server.data).await.unwrap();
    let filled = [
        ("ae_title", "PACS"),
        ("host", "127.0.0.1"),
        ("port", &port),
        ("pdf", "yes"),
    ];
    let filled = filled
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let now_ms = SystemClock.now_ms();
    let kept = store.keep_made_destination(NAME, "dicom", Some(&filled), ("", "root"), now_ms);
    kept.await.unwrap();
    assert!(store.send_test(NAME, now_ms).await.unwrap());
    let started = Instant::now();
    while store.settled_deliveries(1).await.unwrap().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        store.settled_deliveries(1).await.unwrap()[0].state,
        "delivered"
    );
    assert!(peer.files().is_empty(), "an echo stores nothing");
    let files = dicom_files(&sample("one"));
    let uid = study_uid(&files[0]);
    assert!(server.send(&files).0);
    wait_for(&server, &uid, NAME, "delivered", 1).await;
    let came = peer.files();
    assert_eq!(came.len(), 1);
    assert_eq!(tag(&came[0], "0008,0060"), "DOC");
}

#[tokio::test]
async fn what_a_pacs_says_of_an_object_is_covered_and_never_logged() {
    let answers =
        json!({"Encapsulated": 0xC000, "comment": "unknown patient MUELLER ANNA 19560102"});
    let Some(peer) = Peer::told(&answers) else {
        return;
    };
    let listed = format!(
        "[{{name=\"pacs\", ae_title=\"PACS\", host=\"127.0.0.1\", port={}, objects=[\"pdf\"]}}]",
        peer.port
    );
    let listed = ("FIRSTREAD_DICOM__DESTINATIONS".to_owned(), listed);
    let server = TestServer::start_with(&Database::Sqlite, &[listed]);
    let files = dicom_files(&sample("one"));
    assert!(server.send(&files).0);
    let dead = wait_for(&server, &study_uid(&files[0]), "pacs", "dead", 1).await;
    assert_eq!(dead[0]["said"], "refused: status 0xC000");
    server.covers(&dead[0], "MUELLER").await;
}

pub fn settings(destinations: &str) -> Vec<(String, String)> {
    [
        ("FIRSTREAD_DICOM__DESTINATIONS", destinations),
        ("FIRSTREAD_ANALYSIS__VOLUMETRY", "true"),
        ("FIRSTREAD_OUTBOX__RETRY_FIRST_SECONDS", "1"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec()
}

async fn deliveries(server: &TestServer, uid: &str) -> Vec<Value> {
    let study = server.get(&format!("/api/v1/studies/{uid}")).await;
    study["deliveries"].as_array().cloned().unwrap_or_default()
}

/// Waits until so many deliveries to a destination stand so.
pub async fn wait_for(
    server: &TestServer,
    uid: &str,
    to: &str,
    state: &str,
    n: usize,
) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let all = deliveries(server, uid).await;
        let mine: Vec<Value> = all.into_iter().filter(|d| d["destination"] == to).collect();
        if mine.iter().filter(|d| d["state"] == state).count() >= n {
            return mine;
        }
        assert!(
            started.elapsed() < Duration::from_mins(4),
            "{to} never had {n} {state}: {mine:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_study_sent_in_is_in_orthanc_while_a_dead_pacs_waits_and_a_picky_one_refuses_one() {
    let (Some(orthanc), Some(study)) = (Peer::orthanc(), real_study("t1_flair_study")) else {
        return;
    };
    let Some(picky) = Peer::told(&json!({"Comprehensive": 0xC000})) else {
        return;
    };
    let listed = format!(
        "[{{name=\"orthanc\", ae_title=\"ORTHANC\", host=\"127.0.0.1\", port={}}}, \
         {{name=\"picky\", ae_title=\"PACS\", host=\"127.0.0.1\", port={}}}, \
         {{name=\"dead\", ae_title=\"PACS\", host=\"127.0.0.1\", port={}, objects=[\"pdf\"]}}]",
        orthanc.port,
        picky.port,
        free_port()
    );
    let server = TestServer::start_with(&Database::Sqlite, &settings(&listed));
    let files = dicom_files(&study);
    let uid = study_uid(&files[0]);
    let started = Instant::now();
    let (sent, said) = server.send(&files);
    assert!(sent, "{said}");
    server.wait_until_ranked(&uid).await;
    let ranked = started.elapsed();
    server.wait_for(&uid, |i| i["volumetry"] == "done").await;
    let measured = started.elapsed();
    server.wait_until_idle().await;
    // a segmentation, a report of measurements, a PDF, and three to nine key images
    let to_orthanc = wait_for(&server, &uid, "orthanc", "delivered", 6).await;
    let made = to_orthanc.len();
    wait_for(&server, &uid, "orthanc", "delivered", made).await;
    assert!(started.elapsed() < Duration::from_mins(5));
    eprintln!(
        "ranked after {ranked:?}, measured after {measured:?}, in Orthanc after {:?}",
        started.elapsed()
    );
    let kinds: Vec<&str> = to_orthanc
        .iter()
        .filter_map(|d| d["object"].as_str())
        .collect();
    for kind in ["seg", "sr", "pdf", "sc"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let n = to_orthanc.len();
    wait_for(&server, &uid, "orthanc", "delivered", n).await;
    let instances = orthanc.get("/instances?expand").await;
    let instances = instances.as_array().unwrap();
    assert_eq!(instances.len(), n);
    let studies = orthanc.get("/studies?expand").await;
    assert_eq!(studies.as_array().unwrap().len(), 1);
    assert_eq!(
        studies[0]["MainDicomTags"]["StudyInstanceUID"],
        uid.as_str()
    );
    let series = orthanc.get("/series?expand").await;
    let modalities: Vec<&str> = series
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["MainDicomTags"]["Modality"].as_str())
        .collect();
    for modality in ["SEG", "SR", "DOC", "OT"] {
        assert!(modalities.contains(&modality), "{modalities:?}");
    }
    // Orthanc shows the PDF
    let document = series
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["MainDicomTags"]["Modality"] == "DOC");
    let instance = document.unwrap()["Instances"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let url = format!("http://127.0.0.1:{}/instances/{instance}/pdf", orthanc.http);
    let shown = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    assert!(shown.starts_with(b"%PDF"));
    judge_what_orthanc_has(&server, &orthanc, &uid, &study).await;
    // the picky one refused the one, and has the others
    let refused = wait_for(&server, &uid, "picky", "dead", 1).await;
    wait_for(&server, &uid, "picky", "delivered", n - 1).await;
    let dead: Vec<&Value> = refused.iter().filter(|d| d["state"] == "dead").collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["object"], "sr");
    assert!(
        dead[0]["said"].as_str().unwrap().contains("0xC000"),
        "{dead:?}"
    );
    assert_eq!(picky.files().len(), n - 1);
    // nothing is lost for the dead one
    let waiting = deliveries(&server, &uid).await;
    let waiting: Vec<&Value> = waiting
        .iter()
        .filter(|d| d["destination"] == "dead")
        .collect();
    assert_eq!(waiting.len(), 1);
    assert!(["waiting", "sending"].contains(&waiting[0]["state"].as_str().unwrap()));
    come_back(&server, &uid, &picky.files()).await;
}

/// What highdicom and dciodvfy say of what lies in Orthanc, against what the server measured.
async fn judge_what_orthanc_has(server: &TestServer, orthanc: &Peer, uid: &str, study: &Path) {
    let Some(python) = crate::objects::judge() else {
        return;
    };
    let work = tempfile::tempdir().unwrap();
    orthanc.fetch(work.path()).await;
    let told = server.get(&format!("/api/v1/studies/{uid}")).await;
    let csv = work.path().join("volumes.csv");
    std::fs::write(&csv, crate::measured::csv_of(&told)).unwrap();
    let labels = server.data.join("measurements").join(uid);
    let lesions = labels.join("lesions.nii.gz");
    let labels = labels.join("segmentation.nii.gz");
    let source = study.join("t1_flair_study/t1_mprage");
    let flair = study.join("t1_flair_study/flair");
    let found = work.path().join("seg_lesions.dcm").exists();
    let found = found.then_some([flair.as_path(), lesions.as_path()]);
    let measured = [source.as_path(), &labels, &csv];
    let said = crate::objects::judged(&python, work.path(), measured, found);
    eprintln!("in Orthanc: {said}");
    let count = &told["measurement"]["lesions"]["count"];
    assert_eq!(found.is_some(), count.as_u64().unwrap() > 0, "{count}");
    if found.is_some() {
        assert_eq!(said["lesion_seg_wrong"], 0, "{said}");
    }
    assert_eq!(said["seg_wrong"], 0, "{said}");
    assert!(said["seg_labelled"].as_u64().unwrap() > 500_000, "{said}");
    assert!(said["segments"].as_u64().unwrap() > 25, "{said}");
    assert_eq!(said["missing"], json!([]), "{said}");
    let volumes = told["measurement"]["volumes"].as_array().unwrap().len();
    assert_eq!(said["measurements"], volumes, "{said}");
}

/// Our own objects that come back are kept and change nothing.
async fn come_back(server: &TestServer, uid: &str, ours: &[PathBuf]) {
    let before = server.item(uid).await.unwrap();
    let (sent, said) = server.send(ours);
    assert!(sent, "{said}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.wait_until_idle().await;
    let after = server.item(uid).await.unwrap();
    for key in [
        "state",
        "looked_at",
        "head_start_minutes",
        "band",
        "reasons",
        "screened_at",
    ] {
        assert_eq!(before[key], after[key], "{key}");
    }
    let study = server.get(&format!("/api/v1/studies/{uid}")).await;
    let screened = study["screenings"].as_array().unwrap().len();
    assert_eq!(screened, 2, "{}", study["screenings"]);
}
