//! `kill -9` at any moment loses nothing that was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;
#[path = "crash/durable.rs"]
mod durable;
#[path = "crash/ends.rs"]
mod ends;
#[path = "crash/fuzz.rs"]
mod fuzz;
#[path = "crash/log.rs"]
mod log;
#[path = "crash/loris.rs"]
mod loris;
#[allow(dead_code, reason = "others use the rest")]
#[path = "common/papers.rs"]
mod papers;
#[path = "crash/parsers.rs"]
mod parsers;
#[path = "crash/retention.rs"]
mod retention;
#[path = "crash/scale.rs"]
mod scale;
#[path = "crash/slow_tls.rs"]
mod slow_tls;
#[path = "crash/stopped.rs"]
mod stopped;
#[path = "crash/upgrade.rs"]
mod upgrade;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use common::{TestServer, databases, dicom_files, modified, sample, study_uid, tag};
use firstread::store::Store;

/// Runs in CI; `FIRSTREAD_CRASH_RUNS` asks for more.
const RUNS: u32 = 2;
const CLIENTS: usize = 3;

/// The database of a server: at this URL, in the data folder where that is empty.
async fn database_of(url: &str, data: &Path) -> sea_orm::DatabaseConnection {
    let here = format!("sqlite://{}", data.join("firstread.db").display());
    let url = if url.is_empty() { &here } else { url };
    sea_orm::Database::connect(url).await.unwrap()
}

/// Three copies of a sample as three studies of three people.
fn studies(folder: &Path) -> Vec<Vec<PathBuf>> {
    let files = dicom_files(&sample("one"));
    (0..CLIENTS)
        .map(|n| {
            let folder = folder.join(n.to_string());
            let changes = [
                format!("(0010,0020)=CRASH-{n}"),
                format!("(0020,000d)=1.2.826.0.1.3680043.10.999.{n}"),
                format!("(0020,000e)=1.2.826.0.1.3680043.10.999.{n}.1"),
            ];
            let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
            let copies = modified(&files, &folder, &changes);
            for (i, copy) in copies.iter().enumerate() {
                let uid = format!("(0008,0018)=1.2.826.0.1.3680043.10.999.{n}.1.{i}");
                let renamed = std::process::Command::new("dcmodify")
                    .args(["-nb", "-i", &uid])
                    .arg(copy)
                    .status();
                assert!(renamed.unwrap().success());
            }
            copies
        })
        .collect()
}

/// Sends and gives the files whose success was seen before the connection broke.
fn send(mut command: std::process::Command, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || successes(stderr));
    let seen = successes(child.stdout.take().unwrap());
    child.wait().unwrap();
    let seen = seen + errors.join().unwrap();
    files.into_iter().take(seen).collect()
}

fn successes(said: impl std::io::Read) -> usize {
    let lines = BufReader::new(said).lines().map_while(Result::ok);
    lines
        .filter(|l| l.contains("Received Store Response (Success)"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let runs = std::env::var("FIRSTREAD_CRASH_RUNS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(RUNS);
    let folder = tempfile::tempdir().unwrap();
    let studies = studies(folder.path());
    for database in databases() {
        for run in 0..runs {
            crash_once(&database, &studies, run).await;
        }
    }
}

async fn crash_once(database: &common::Database, studies: &[Vec<PathBuf>], run: u32) {
    let data = tempfile::tempdir().unwrap();
    let url = database.fresh_url();
    let mut server = TestServer::start_in(data.path(), &url);
    let senders: Vec<_> = studies
        .iter()
        .map(|files| {
            let (command, files) = (server.storescu(files), files.clone());
            std::thread::spawn(move || send(command, files))
        })
        .collect();
    // Any moment from the first object to the screening that follows.
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    let wait = Duration::from_millis(50 + u64::from(nanos) % 4_000);
    tokio::time::sleep(wait).await;
    server.kill();
    let acknowledged: Vec<PathBuf> = senders
        .into_iter()
        .flat_map(|s| s.join().unwrap())
        .collect();
    eprintln!(
        "run {run}: killed after {wait:?}, {} objects acknowledged",
        acknowledged.len()
    );
    if run % 2 == 1 {
        log::tear(data.path());
    }
    server.kill_and_restart();

    let store = Store::open(
        Some(&url).filter(|u| !u.is_empty()).map(String::as_str),
        data.path(),
    )
    .await
    .unwrap();
    let sop_uids: Vec<String> = acknowledged.iter().map(|f| tag(f, "0008,0018")).collect();
    let known = store.known_objects(sop_uids.clone()).await.unwrap();
    for (file, uid) in acknowledged.iter().zip(&sop_uids) {
        assert!(
            known.contains_key(uid),
            "acknowledged but not recorded: {}",
            file.display()
        );
        let kept = format!(
            "objects/{}/{}/{uid}.dcm",
            study_uid(file),
            tag(file, "0020,000e")
        );
        let on_disk = std::fs::read(data.path().join(&kept)).unwrap_or_default();
        assert!(
            on_disk.ends_with(&log::data_set(file)),
            "acknowledged but not on disk as it was sent: {kept}"
        );
    }
    log::nothing_is_left_over(data.path());
    let touched: HashSet<String> = acknowledged.iter().map(|f| study_uid(f)).collect();
    for uid in touched {
        let item = server.wait_until_ranked(&uid).await;
        assert!(
            item["state"] == "screened" || item["not_analysed_reason"].is_string(),
            "{item}"
        );
    }
}
