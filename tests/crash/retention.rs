//! Retention with a whole server: by age and by how full the disk is. What was found stays, and so does every
//! study that nobody has read, whatever lies in the object log.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use firstread::clock::{Clock as _, SystemClock};
use firstread::store::Store;
use sea_orm::ConnectionTrait as _;

use crate::common::{Database, TestServer, databases, dicom_files, modified, sample, tag};
use crate::database_of;
use crate::log::data_set;

pub const DAY_MS: i64 = 86_400_000;

/// Some images of a sample as a study of its own: `n` makes it another.
pub fn study(folder: &Path, n: u32, images: usize) -> (String, Vec<PathBuf>) {
    let files: Vec<PathBuf> = dicom_files(&sample("one"))
        .into_iter()
        .take(images)
        .collect();
    let root = format!("1.2.826.0.1.3680043.10.777.{n}");
    let changes = [
        format!("(0010,0020)=KEEP-{n}"),
        format!("(0020,000d)={root}"),
        format!("(0020,000e)={root}.1"),
    ];
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let copies = modified(&files, &folder.join(n.to_string()), &changes);
    for (i, copy) in copies.iter().enumerate() {
        let uid = format!("(0008,0018)={root}.1.{i}");
        let renamed = Command::new("dcmodify")
            .args(["-nb", "-i", &uid])
            .arg(copy)
            .status();
        assert!(renamed.unwrap().success());
    }
    (root, copies)
}

pub async fn read(server: &TestServer, uid: &str) {
    let url = format!("http://{}/api/v1/studies/{uid}/read", server.http);
    let client = reqwest::Client::new();
    let answer = client.post(url).bearer_auth(&server.token).send().await;
    assert_eq!(answer.unwrap().status(), 200, "{uid}");
}

/// Makes a study look as if everything about it had happened so long ago.
pub async fn age(url: &str, data: &Path, uid: &str, by_ms: i64) {
    let db = database_of(url, data).await;
    let sql = format!(
        "UPDATE study SET changed_at = changed_at - {by_ms}, last_received_at = last_received_at - {by_ms}, \
         arrived_at = arrived_at - {by_ms} WHERE study_uid = '{uid}'"
    );
    let done = db.execute_unprepared(&sql).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    db.close().await.unwrap();
}

pub fn images(data: &Path, uid: &str) -> usize {
    let series = data.join("objects").join(uid).join(format!("{uid}.1"));
    std::fs::read_dir(series).map_or(0, |all| {
        all.filter(|f| {
            f.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "dcm")
        })
        .count()
    })
}

pub async fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: never");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lays the log of a receiver that died with these images in it into a data folder.
fn left_in_log(files: &[PathBuf], data: &Path) {
    let theirs = tempfile::tempdir().unwrap();
    let mut dead = TestServer::start_in(theirs.path(), "");
    assert!(dead.send(files).0);
    dead.kill();
    let logs = std::fs::read_dir(theirs.path().join("log")).unwrap();
    let log = logs.map(|e| e.unwrap().path()).next().unwrap();
    let to = data.join("log/00dead00");
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(log).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_go_when_they_were_read_long_ago_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (old, all) = study(folder.path(), 1, 200);
    let (fresh, of_fresh) = study(folder.path(), 2, 4);
    let (unread, of_unread) = study(folder.path(), 3, 4);
    let (late, of_late) = study(folder.path(), 4, 5);
    let dead = tempfile::tempdir().unwrap();
    left_in_log(&of_late[4..], dead.path());
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let data = data.path();
        let server = TestServer::start_in(data, &url);
        // a whole head takes its time: once is enough
        let whole = matches!(database, Database::Sqlite);
        let all = if whole { &all[..] } else { &all[..4] };
        for files in [all, &of_fresh, &of_unread, &of_late[..4]] {
            assert!(server.send(files).0);
        }
        for uid in [&old, &fresh, &unread, &late] {
            server.wait_until_ranked(uid).await;
        }
        let state = &server.item(&old).await.unwrap()["state"];
        assert_eq!(state == "screened", whole, "{state}");
        server.wait_until_idle().await;
        for uid in [&old, &fresh, &late] {
            read(&server, uid).await;
        }
        let found = server.get(&format!("/api/v1/studies/{old}")).await;
        drop(server);
        for uid in [&old, &unread, &late] {
            age(&url, data, uid, 40 * DAY_MS).await;
        }
        // an image of a study that was read lies in the log, acknowledged and not recorded
        std::fs::create_dir_all(data.join("log")).unwrap();
        copy_tree(
            &dead.path().join("log/00dead00"),
            &data.join("log/00dead00"),
        );

        let days = ("FIRSTREAD_RETENTION__READ_DAYS".to_owned(), "30".to_owned());
        let server = TestServer::start_in_with(data, &url, &[days]);
        until("the images of the old study go", || images(data, &old) == 0).await;
        assert_eq!(images(data, &fresh), 4, "read, but not long ago");
        assert_eq!(images(data, &unread), 4, "nobody has read it");
        assert_eq!(images(data, &late), 5, "something came for it");
        let of = |uid: &str| format!("/api/v1/studies/{uid}");
        let reopened = server.get(&of(&late)).await;
        assert_eq!(
            (&reopened["reading"], &reopened["images"]),
            (&"open".into(), &5.into())
        );
        let kept = data.join("objects").join(&late).join(format!("{late}.1"));
        let name = format!("{}.dcm", tag(&of_late[4], "0008,0018"));
        let bytes = std::fs::read(kept.join(name)).unwrap();
        assert!(bytes.ends_with(&data_set(&of_late[4])), "as it was sent");

        // What was found is still there, and says that the images are not.
        let after = server.get(&of(&old)).await;
        for key in [
            "reading",
            "state",
            "p_abnormal",
            "volumes",
            "reasons",
            "history",
        ] {
            assert_eq!(after[key], found[key], "{key}");
        }
        assert_eq!(after["images"], 0);
        assert!(
            after["note"]
                .as_str()
                .unwrap_or_default()
                .contains("removed"),
            "{after}"
        );
        let pictures = data.join("pictures").join(&old);
        assert_eq!(pictures.is_dir(), whole, "pictures stay");

        // Sent again they are back.
        assert!(server.send(all).0);
        until("they are back", || images(data, &old) == all.len()).await;
    }
}

/// What a process does that dies between forgetting images and removing their files.
async fn forget_and_die(url: &str, data: &Path, studies: usize) {
    let store = Store::open(Some(url).filter(|u| !u.is_empty()), data);
    let store = store.await.unwrap();
    let now_ms = SystemClock.now_ms();
    let found = store.removable_studies(now_ms).await.unwrap();
    assert_eq!(found.len(), studies);
    for study in found {
        assert!(store.forget_images(study.id, now_ms, now_ms).await.unwrap());
    }
    assert_eq!(store.forgotten_studies(0).await.unwrap().len(), studies);
}

/// Retention is off at the next start: what was begun is finished all the same, and what was never forgotten stays.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_what_was_forgotten_go_at_the_next_start_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (gone, of_gone) = study(folder.path(), 21, 3);
    let (back, of_back) = study(folder.path(), 22, 3);
    let dead = tempfile::tempdir().unwrap();
    left_in_log(&of_back[..1], dead.path());
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let data = data.path();
        let server = TestServer::start_in(data, &url);
        for (uid, files) in [(&gone, &of_gone), (&back, &of_back)] {
            assert!(server.send(files).0);
            server.wait_until_ranked(uid).await;
        }
        server.wait_until_idle().await;
        for uid in [&gone, &back] {
            read(&server, uid).await;
        }
        drop(server);
        for uid in [&gone, &back] {
            age(&url, data, uid, DAY_MS).await;
        }
        std::fs::remove_dir_all(data.join("log")).unwrap();
        forget_and_die(&url, data, 2).await;
        assert_eq!((images(data, &gone), images(data, &back)), (3, 3), "left");
        let stray = data.join("objects/1.2.3/1.2.4");
        std::fs::create_dir_all(&stray).unwrap();
        std::fs::write(stray.join("1.2.5.dcm"), "nobody forgot it").unwrap();
        // an image of one comes again: it is recorded before or after the rest goes
        std::fs::create_dir_all(data.join("log")).unwrap();
        copy_tree(
            &dead.path().join("log/00dead00"),
            &data.join("log/00dead00"),
        );

        let server = TestServer::start_in(data, &url);
        let folder = data.join("objects").join(&gone);
        until("the files go", || !folder.exists()).await;
        until("those that nothing names go", || images(data, &back) == 1).await;
        let shown = server.get(&format!("/api/v1/studies/{back}")).await;
        assert_eq!(
            (&shown["reading"], &shown["images"]),
            (&"open".into(), &1.into())
        );
        let name = format!("{}.dcm", tag(&of_back[0], "0008,0018"));
        let kept = data.join("objects").join(&back).join(format!("{back}.1"));
        let bytes = std::fs::read(kept.join(name)).unwrap();
        assert!(bytes.ends_with(&data_set(&of_back[0])), "as it was sent");
        assert!(stray.join("1.2.5.dcm").exists());
        let store = Store::open(Some(url.as_str()).filter(|u| !u.is_empty()), data);
        let store = store.await.unwrap();
        let began = Instant::now();
        while !store.forgotten_studies(0).await.unwrap().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "never done");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// How full the disk of a folder is, in percent, as the server counts.
fn used_percent(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).unwrap();
    let used = disk.f_blocks - disk.f_bfree;
    (used * 100).div_ceil((used + disk.f_bavail).max(1))
}

/// Fills the disk until it is as full as that, as one finds it that has run for long: without the log of a process
/// that was killed, all of which is recorded.
fn fill(data: &Path, name: &str, percent: u64) {
    std::fs::remove_dir_all(data.join("log")).unwrap();
    let mut ballast = std::fs::File::create(data.join(name)).unwrap();
    let some = vec![7; 4 << 20];
    while used_percent(data) < percent {
        std::io::Write::write_all(&mut ballast, &some).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_the_longest_read_first_and_never_one_that_nobody_read() {
    let small = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1000m", "tmpfs"])
        .arg(small.path())
        .output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: may not mount a small disk");
        return;
    }
    let data = small.path();
    let folder = tempfile::tempdir().unwrap();
    let studies: Vec<(String, Vec<PathBuf>)> =
        (11..=14).map(|n| study(folder.path(), n, 3)).collect();
    let [longest, later, just_now, unread] = [0, 1, 2, 3].map(|n| studies[n].0.as_str());
    let reserve = (
        "FIRSTREAD_DICOM__DISK_RESERVE_BYTES".to_owned(),
        (4 << 20).to_string(),
    );
    let server = TestServer::start_in_with(data, "", std::slice::from_ref(&reserve));
    for (uid, files) in &studies {
        assert!(server.send(files).0);
        server.wait_until_ranked(uid).await;
    }
    server.wait_until_idle().await;
    for uid in [longest, later, just_now] {
        read(&server, uid).await;
    }
    drop(server);
    for (uid, days) in [(longest, 9), (later, 5), (unread, 99)] {
        age("", data, uid, days * DAY_MS).await;
    }
    // 10 % of the disk each
    for (uid, _) in &studies {
        let big = data.join("objects").join(uid).join("big");
        std::fs::write(big, vec![1; 100 << 20]).unwrap();
    }
    let limit = (
        "FIRSTREAD_RETENTION__DISK_PERCENT_MAX".to_owned(),
        "85".to_owned(),
    );
    let limits = [limit, reserve];
    let start = || TestServer::start_in_with(data, "", &limits);
    let there = |uid: &str| data.join("objects").join(uid).join("big").exists();

    fill(data, "ballast-1", 90);
    let server = start();
    until("the longest read goes", || !there(longest)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        there(later) && there(just_now) && there(unread),
        "that was enough"
    );
    drop(server);

    fill(data, "ballast-2", 90);
    let server = start();
    until("the next goes", || !there(later)).await;
    drop(server);

    // Nothing is left that may go: it is said, and nothing goes.
    fill(data, "ballast-3", 95);
    let server = start();
    let said = || server.log().contains("nobody has read");
    until("it is said", said).await;
    assert!(there(just_now), "its reader may want it back");
    assert!(there(unread), "nobody has read it");
    assert_eq!(server.worklist().await.len(), 1);
    drop(server);
    let unmounted = Command::new("umount").arg("-l").arg(data).status();
    assert!(unmounted.unwrap().success());
}

/// Who removes a study's images and who records one of them take turns, on one process of SQLite too.
#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_has_a_study() {
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let url = Some(url).filter(|u| !u.is_empty());
        let store = firstread::store::Store::open(url.as_deref(), data.path())
            .await
            .unwrap();
        let held = store.hold_studies(["1.2.3"]).await.unwrap();
        let other = store.clone();
        let waiting = tokio::spawn(async move { other.hold_studies(["9.9", "1.2.3"]).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished(), "{database:?}");
        held.end().await.unwrap();
        let next = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        next.unwrap().unwrap().unwrap().end().await.unwrap();
    }
}
