//! A server that is asked to stop says so in the audit trail, last of all; one that is killed cannot, and the chain
//! holds all the same.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firstread::store::Store;
use firstread::store::entity::job;
use firstread::store::trail::{Entry, Wanted};
use sea_orm::EntityTrait as _;

use crate::common::{BINARY, TestServer, databases, dicom_files, sample, study_uid};
use crate::database_of;

async fn trail(url: &str, data: &Path) -> Vec<Entry> {
    let store = Store::open(Some(url).filter(|u| !u.is_empty()), data);
    let store = store.await.unwrap();
    store.trail_after(&Wanted::default(), 0).await.unwrap()
}

fn of_the_server(trail: &[Entry]) -> Vec<&str> {
    let words = trail.iter().map(|e| e.action.as_str());
    words.filter(|w| w.starts_with("system.")).collect()
}

/// `firstread audit verify`; gives what it printed.
fn verify(url: &str, data: &Path) -> String {
    let out = Command::new(BINARY)
        .args(["audit", "verify", "--data"])
        .arg(data)
        .env("FIRSTREAD_DATABASE__URL", url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_says_so_last_and_the_chain_holds() {
    let files = dicom_files(&sample("one"))[..40].to_vec();
    let uid = study_uid(&files[0]);
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let data = data.path();
        let mut server = TestServer::start_in(data, &url);
        assert!(server.send(&files).0);
        // in the middle of work, and of answers
        let (at, token) = (server.http, server.token.clone());
        let asking = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let list = format!("http://{at}/api/v1/worklist");
            let mut answers = 0;
            while let Ok(answer) = client.get(&list).bearer_auth(&token).send().await {
                answers += u32::from(answer.status() == 200);
            }
            answers
        });
        while server.item(&uid).await.is_none() {}
        let began = Instant::now();
        assert!(server.terminate(), "it ends well");
        eprintln!("stopped within {:?}", began.elapsed());
        assert!(asking.await.unwrap() > 0);

        let kept = trail(&url, data).await;
        assert_eq!(of_the_server(&kept), ["system.start", "system.stop"]);
        let last = kept.last().unwrap();
        assert_eq!(
            (
                last.action.as_str(),
                last.actor.as_str(),
                last.outcome.as_str()
            ),
            ("system.stop", "firstread", "done"),
            "nothing comes after it"
        );
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_string_lossy().into_owned();
        assert_eq!(last.subject.as_ref(), Some(&machine));
        let whole = format!("whole: {} entries, head {}:", kept.len(), last.seq);
        let said = verify(&url, data);
        assert!(said.starts_with(&whole), "{said}, not {whole}");

        // killed: no last word, and nothing is broken
        let mut server = TestServer::start_in(data, &url);
        server.kill();
        let kept = trail(&url, data).await;
        let words = of_the_server(&kept);
        assert_eq!(words, ["system.start", "system.stop", "system.start"]);
        assert_ne!(kept.last().unwrap().action, "system.stop");
        verify(&url, data);
    }
}

/// Else a server that is stopped often would give up what it never finished.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_stop_cuts_off_is_as_if_it_had_not_begun() {
    let files = dicom_files(&sample("one"));
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let mut server = TestServer::start_in(data.path(), &url);
        let db = database_of(&url, data.path()).await;
        let jobs = async || job::Entity::find().all(&db).await.unwrap();
        assert!(server.send(&files).0);
        let began = Instant::now();
        while !jobs().await.iter().any(|job| job.leased_until.is_some()) {
            assert!(began.elapsed() < Duration::from_secs(30), "nobody took it");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(server.terminate(), "it ends well");
        let left = jobs().await;
        assert!(!left.is_empty(), "done before the stop");
        for job in left {
            let counted = (job.leased_until, job.attempts, job.interrupted);
            assert_eq!(counted, (None, 0, 0), "{job:?}");
        }
    }
}
