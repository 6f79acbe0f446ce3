//! The object log under a whole server: torn by a crash, on a full disk, taken over by another.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use firstread::store::Store;
use firstread::store::intake::QuarantineEntry;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};

use crate::common::{BINARY, Database, TestServer, databases, dicom_files, sample, study_uid, tag};

const BLOCK_BYTES: usize = 4096;
const RECORD: &[u8] = b"FRobject";

/// The data set of a PS3.10 file: what follows the group of file meta information.
pub fn data_set(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let length: [u8; 4] = bytes[140..144].try_into().unwrap();
    let at = 144 + usize::try_from(u32::from_le_bytes(length)).unwrap();
    bytes[at..].to_vec()
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for run in std::fs::read_dir(data.join("log")).into_iter().flatten() {
        for file in std::fs::read_dir(run.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "segment") {
                found.push(path);
            }
        }
    }
    found
}

/// Adds to each log of a process that was killed what a write under way leaves: the head of a record
/// that is not all there, and noise.
pub fn tear(data: &Path) {
    for path in segments(data) {
        let bytes = std::fs::read(&path).unwrap();
        let blocks = || bytes.chunks_exact(BLOCK_BYTES).enumerate();
        let records = blocks().filter(|(_, block)| block.starts_with(RECORD));
        // of this life of the segment
        let mut ours = records.filter(|(_, block)| block[8..24] == bytes[8..24]);
        let Some((last, block)) = ours.next_back() else {
            continue;
        };
        let length: [u8; 4] = block[24..28].try_into().unwrap();
        let length = 256 + usize::try_from(u32::from_le_bytes(length)).unwrap();
        let at = (last + length.div_ceil(BLOCK_BYTES)) * BLOCK_BYTES;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let mut torn = block.to_vec();
        torn.extend([0xEE; 1000]);
        file.write_all_at(&torn, at as u64).unwrap();
        eprintln!("torn at {at}: {}", path.display());
    }
}

/// After a start only the log of the process that runs is there, and none was put aside as damaged.
pub fn nothing_is_left_over(data: &Path) {
    let logs = std::fs::read_dir(data.join("log")).unwrap().count();
    assert_eq!(logs, 1, "one log, of the process that runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_reception_resumes_by_itself() {
    let small = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let mounted = Command::new("mount")
            .args(arguments)
            .arg(small.path())
            .output();
        mounted.is_ok_and(|o| o.status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=100m", "tmpfs"]) {
        eprintln!("skipped: may not mount a small disk");
        return;
    }
    let settings = [(
        "FIRSTREAD_DICOM__DISK_RESERVE_BYTES".to_owned(),
        (4 << 20).to_string(),
    )];
    let server = TestServer::start_in_with(small.path(), "", &settings);
    let files = dicom_files(&sample("one"));
    assert!(server.send(&files[..1]).0, "there is room");
    let ballast = small.path().join("ballast");
    // all of it: writing ends when nothing more fits
    let _ = std::fs::write(&ballast, vec![1; 100 << 20]);
    let (all, said) = server.send(&files[1..2]);
    let refused = said.contains("0xa700")
        || said.contains("OutOfResources")
        || said.contains("Out Of Resources");
    assert!(!all || refused, "{said}");
    assert!(refused, "{said}");
    std::fs::remove_file(&ballast).unwrap();
    let (all, said) = server.send(&files[1..]);
    assert!(all, "by itself: {said}");
    let uid = study_uid(&files[0]);
    server.wait_for(&uid, |i| i["images"] == files.len()).await;
    drop(server);
    let unmounted = Command::new("umount").arg("-l").arg(small.path()).status();
    assert!(unmounted.unwrap().success());
}

/// What a receiver had acknowledged when it died is recorded by another one on the same folder, while
/// that one runs.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_receiver_that_died_is_taken_over() {
    let files = dicom_files(&sample("one"));
    let uid = study_uid(&files[0]);
    let (theirs, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut dead = TestServer::start_in(theirs.path(), "");
    let server = TestServer::start_in(data.path(), "");
    assert!(dead.send(&files).0);
    dead.kill();
    let segment = segments(theirs.path()).remove(0);
    // as if both had one folder; others look at it once it has its name
    let hidden = data.path().join("log/.copy");
    std::fs::create_dir(&hidden).unwrap();
    for file in std::fs::read_dir(segment.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), hidden.join(file.file_name())).unwrap();
    }
    std::fs::rename(&hidden, data.path().join("log/00dead00")).unwrap();
    server.wait_for(&uid, |i| i["images"] == files.len()).await;
    for file in &files {
        let series = tag(file, "0020,000e");
        let kept = format!("objects/{uid}/{series}/{}.dcm", tag(file, "0008,0018"));
        let on_disk = std::fs::read(data.path().join(kept)).unwrap();
        assert!(on_disk.ends_with(&data_set(file)));
    }
    let began = Instant::now();
    while data.path().join("log/00dead00").exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "put away");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.wait_until_ranked(&uid).await;
}

/// An object that cannot be recorded, although the database answers, is tried five times and then kept aside with
/// the reason and its bytes, also when the process dies in between; others are recorded meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_kept_aside_whole_and_holds_up_nobody() {
    let data = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(data.path(), "");
    let (files, others) = (dicom_files(&sample("one")), dicom_files(&sample("three")));
    let uid = study_uid(&files[0]);
    // its folder cannot be made: a file has the name
    let in_the_way = data.path().join("objects").join(&uid);
    std::fs::write(&in_the_way, "").unwrap();
    let aside = async || {
        let store = Store::open(None, data.path()).await.unwrap();
        store.kept_aside(10).await.unwrap()
    };
    let began = Instant::now();
    assert!(server.send(&files[..1]).0, "acknowledged");
    assert!(server.send(&others[..3]).0);
    let other = study_uid(&others[0]);
    server.wait_for(&other, |i| i["images"] == 3).await;
    let mut all = aside().await;
    while all.is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "never kept aside"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        all = aside().await;
    }
    assert!(
        began.elapsed() > Duration::from_secs(4),
        "after five tries, a second apart"
    );
    assert_eq!(all.len(), 1);
    assert!(
        all[0].reason.contains("could not be recorded"),
        "{}",
        all[0].reason
    );
    assert!(
        all[0].reason.contains("could not make files"),
        "{}",
        all[0].reason
    );
    assert_eq!(all[0].sop_uid, tag(&files[0], "0008,0018"));
    assert!(all[0].kept, "with its bytes");

    // After a crash it is found in the log once more, and is still one object.
    server.kill_and_restart();
    assert_eq!(aside().await.len(), 1);
    let kept: Vec<PathBuf> = std::fs::read_dir(data.path().join("quarantine"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1);
    let bytes = std::fs::read(&kept[0]).unwrap();
    assert!(bytes.ends_with(&data_set(&files[0])), "as it was sent");
    nothing_is_left_over(data.path());

    // Once it can be, it is recorded.
    std::fs::remove_file(&in_the_way).unwrap();
    assert!(server.send(&files[..2]).0);
    server.wait_for(&uid, |i| i["images"] == 2).await;
}

/// What is kept aside is found in the log once more where the process died before the log was begun anew: it is
/// noted once.
#[tokio::test]
async fn an_object_kept_aside_is_noted_once() {
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let url = Some(url).filter(|u| !u.is_empty());
        let store = Store::open(url.as_deref(), data.path()).await.unwrap();
        let entry = |path: Option<&str>| QuarantineEntry {
            sop_uid: "1.2.3".into(),
            study_uid: None,
            calling_ae: "MR".into(),
            reason: "could not be recorded".into(),
            path: path.map(str::to_owned),
            size_bytes: 9,
            received_at: 7,
        };
        let (one, other) = (Some("quarantine/7-aa.dcm"), Some("quarantine/7-bb.dcm"));
        for (path, noted) in [(one, 1), (one, 1), (other, 2), (None, 3), (None, 4)] {
            store.quarantine(vec![entry(path)]).await.unwrap();
            assert_eq!(store.kept_aside_count().await.unwrap(), noted, "{path:?}");
        }
    }
}

/// Keeps the recorder from recording a study until it is dropped.
enum Held {
    Study(firstread::store::turns::Turn),
    Writer(sea_orm::DatabaseTransaction),
}

impl Held {
    async fn hold(store: &Store, database: &Database, data: &Path, uid: &str) -> Self {
        if let Database::Postgres(_) = database {
            return Self::Study(store.hold_studies([uid]).await.unwrap());
        }
        let db = crate::database_of("", data).await;
        let tx = db.begin().await.unwrap();
        // from the first statement that could write on, nobody else writes
        tx.execute_unprepared("DELETE FROM job WHERE 1 = 0")
            .await
            .unwrap();
        Self::Writer(tx)
    }

    async fn end(self) {
        match self {
            Self::Study(turn) => turn.end().await.unwrap(),
            Self::Writer(tx) => tx.rollback().await.unwrap(),
        }
    }
}

/// What was acknowledged and cannot be recorded at present is counted, with its age, until it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_log_is_told() {
    let files = dicom_files(&sample("one"))[..12].to_vec();
    let uid = study_uid(&files[0]);
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let server = TestServer::start_in(data.path(), &url);
        let url = Some(url).filter(|u| !u.is_empty());
        let store = Store::open(url.as_deref(), data.path()).await.unwrap();
        let held = Held::hold(&store, &database, data.path(), &uid).await;
        let began = Instant::now();
        assert!(server.send(&files).0, "acknowledged");
        let told = async |what: &str| server.metric(&format!("firstread_object_log_{what}")).await;
        assert!((told("objects").await - 12.0).abs() < 0.1, "{database:?}");
        let bytes: u64 = files
            .iter()
            .map(|f| std::fs::metadata(f).unwrap().len())
            .sum();
        let counted = told("bytes").await / bytes as f64;
        assert!((0.9..1.5).contains(&counted), "{counted} of {bytes}");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let age = told("oldest_seconds").await;
        let at_most = began.elapsed().as_secs_f64();
        assert!((1.0..=at_most).contains(&age), "{age} of {at_most}");
        held.end().await;
        while told("objects").await > 0.0 {
            assert!(began.elapsed() < Duration::from_secs(30), "never recorded");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(told("bytes").await + told("oldest_seconds").await < 0.1);
        server.wait_for(&uid, |i| i["images"] == files.len()).await;
    }
}

/// A backup that is made while acknowledged objects have no row yet restores to a system that records them.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_what_lies_in_the_log_and_is_not_recorded() {
    let files = dicom_files(&sample("one"))[..12].to_vec();
    let uid = study_uid(&files[0]);
    for database in databases() {
        let url = database.fresh_url();
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let (data, copy, restored) = (at("data"), at("copy"), at("restored"));
        std::fs::create_dir(&data).unwrap();
        let mut server = TestServer::start_in(&data, &url);
        let of = |url: &str| Some(url.to_owned()).filter(|u| !u.is_empty());
        let store = Store::open(of(&url).as_deref(), &data).await.unwrap();
        let held = Held::hold(&store, &database, &data, &uid).await;
        assert!(server.send(&files).0, "acknowledged");
        let sop_uids: Vec<String> = files.iter().map(|f| tag(f, "0008,0018")).collect();
        let recorded = store.known_objects(sop_uids.clone()).await.unwrap();
        assert!(recorded.is_empty(), "in the log alone");
        let run = |command: &str, folder: &Path, url: &str| {
            let out = Command::new(BINARY)
                .args([command, copy.to_str().unwrap(), "--data"])
                .arg(folder)
                .env("FIRSTREAD_DATABASE__URL", url)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.status.success(), "{said}");
        };
        run("backup", &data, &url);
        server.kill();
        held.end().await;
        drop((server, store));
        std::fs::remove_dir_all(&data).unwrap();

        let fresh = database.fresh_url();
        run("restore", &restored, &fresh);
        let server = TestServer::start_in(&restored, &fresh);
        server.wait_for(&uid, |i| i["images"] == files.len()).await;
        for file in &files {
            let series = tag(file, "0020,000e");
            let kept = format!("objects/{uid}/{series}/{}.dcm", tag(file, "0008,0018"));
            let on_disk = std::fs::read(restored.join(kept)).unwrap();
            assert!(on_disk.ends_with(&data_set(file)));
        }
        nothing_is_left_over(&restored);
    }
}
