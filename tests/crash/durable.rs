//! Backup and restore while studies arrive; retention.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::{BINARY, TestServer, databases, dicom_files, modified, sample, study_uid};
use crate::retention::{DAY_MS, age, images, read, study, until};
use firstread::store::Store;

fn firstread(arguments: &[&str], url: &str) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .env("FIRSTREAD_DATABASE__URL", url)
        .output()
        .unwrap()
}

#[track_caller]
fn succeed(arguments: &[&str], url: &str) -> String {
    let out = firstread(arguments, url);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_under_load_restores_to_a_consistent_system() {
    for database in databases() {
        let url = database.fresh_url();
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let (data, copy, restored) = (at("data"), at("copy"), at("restored"));
        std::fs::create_dir(&data).unwrap();
        let server = TestServer::start_in(&data, &url);
        let first = dicom_files(&sample("one"));
        assert!(server.send(&first).0);
        server.wait_until_ranked(&study_uid(&first[0])).await;

        // acknowledged a moment before the backup begins: in the log, on its way to file and row
        let just_now = dicom_files(&sample("four"))[..8].to_vec();
        assert!(server.send(&just_now).0);
        let second = dicom_files(&sample("two"));
        let mut sender = server.storescu(&second).spawn().unwrap();
        let arguments = ["backup", text(&copy), "--data", text(&data)];
        let said = succeed(&arguments, &url);
        assert!(sender.wait().unwrap().success());
        eprint!("{said}");
        // Again into the same folder: images are there already.
        let said = succeed(&arguments, &url);
        assert!(!said.contains("which 0 files"), "{said}");
        drop(server);

        let fresh = database.fresh_url();
        let back = ["restore", text(&copy), "--data", text(&restored)];
        let said = succeed(&back, &fresh);
        assert!(said.contains("are there"), "{said}");
        let refused = firstread(&back, &fresh);
        assert_eq!(refused.status.code(), Some(3), "it is not empty any more");

        let store_url = (!fresh.is_empty()).then_some(fresh.as_str());
        let store = Store::open(store_url, &restored).await.unwrap();
        let uids = |files: &[std::path::PathBuf]| {
            let uid = |f| crate::common::tag(f, "0008,0018");
            files.iter().map(|f| uid(f)).collect::<HashSet<_>>()
        };
        let known = store
            .known_objects(uids(&first).into_iter().collect())
            .await
            .unwrap();
        assert_eq!(known.len(), first.len(), "acknowledged before the backup");
        drop(store);
        // Work that was under way goes on, and new studies get numbers of their own.
        let server = TestServer::start_in(&restored, &fresh);
        let uid = study_uid(&just_now[0]);
        let all = |i: &serde_json::Value| i["images"] == just_now.len();
        server.wait_for(&uid, all).await;
        let third = modified(
            &dicom_files(&sample("three")),
            &at("third"),
            &["(0010,0020)=AFTER"],
        );
        assert!(server.send(&third).0);
        for item in server.worklist().await {
            let item = server
                .wait_until_ranked(item["study_uid"].as_str().unwrap())
                .await;
            assert_ne!(item["state"], "failed", "{item}");
        }
        server.wait_until_idle().await;
        assert!(server.item(&study_uid(&third[0])).await.is_some());
    }
}

/// What retention removed stays in the backup, is never restored, and goes when somebody asks.
#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_away_is_not_restored_and_goes_from_the_backup_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (old, of_old) = study(folder.path(), 31, 3);
    let (fresh, of_fresh) = study(folder.path(), 32, 2);
    for database in databases() {
        let url = database.fresh_url();
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let (data, copy) = (at("data"), at("copy"));
        std::fs::create_dir(&data).unwrap();
        let server = TestServer::start_in(&data, &url);
        for (uid, files) in [(&old, &of_old), (&fresh, &of_fresh)] {
            assert!(server.send(files).0);
            server.wait_until_ranked(uid).await;
        }
        server.wait_until_idle().await;
        read(&server, &old).await;
        drop(server);
        age(&url, &data, &old, 2 * DAY_MS).await;
        let back_up = ["backup", text(&copy), "--data", text(&data)];
        let pruning = ["backup", text(&copy), "--prune", "--data", text(&data)];
        let said = succeed(&back_up, &url);
        assert!(
            !said.contains("--prune"),
            "nothing is left over yet: {said}"
        );
        let in_copy = |uid: &str| images(&copy.join("files"), uid);
        assert_eq!((in_copy(&old), in_copy(&fresh)), (3, 2));

        let days = ("FIRSTREAD_RETENTION__READ_DAYS".to_owned(), "1".to_owned());
        let server = TestServer::start_in_with(&data, &url, &[days]);
        until("its images go", || images(&data, &old) == 0).await;
        drop(server);
        let said = succeed(&back_up, &url);
        assert!(said.contains("kept beside it: 3 files"), "{said}");
        assert_eq!((in_copy(&old), in_copy(&fresh)), (3, 2), "nobody asked");
        let restore = |name: &str| {
            let (restored, fresh_url) = (at(name), database.fresh_url());
            let said = succeed(
                &["restore", text(&copy), "--data", text(&restored)],
                &fresh_url,
            );
            assert!(
                said.contains("2 files that the database counts on are there"),
                "{said}"
            );
            assert_eq!((images(&restored, &old), images(&restored, &fresh)), (0, 2));
            (restored, fresh_url)
        };
        restore("once");

        // a disk that is not mounted is no reason to lose what the backup has
        std::fs::rename(data.join("objects"), at("elsewhere")).unwrap();
        let out = firstread(&pruning, &url);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            !out.status.success() && said.contains("nothing was pruned: 2 files"),
            "{said}"
        );
        assert_eq!((in_copy(&old), in_copy(&fresh)), (3, 2));
        std::fs::rename(at("elsewhere"), data.join("objects")).unwrap();

        let said = succeed(&pruning, &url);
        assert!(said.contains("removed 3 files"), "{said}");
        assert_eq!((in_copy(&old), in_copy(&fresh)), (0, 2));
        assert!(!copy.join("files/objects").join(&old).exists());
        // both are in the trail, of which the copy is part
        let said = succeed(&["audit", "verify", "--data", text(&data)], &url);
        assert!(said.starts_with("whole"), "{said}");
        let said = succeed(&["audit", "export", "--data", text(&data)], &url);
        assert_eq!(said.matches("system.backup").count(), 4, "{said}");
        let (last, fresh_url) = restore("again");
        let said = succeed(&["audit", "verify", "--data", text(&last)], &fresh_url);
        assert!(said.starts_with("whole"), "{said}");
        let said = succeed(&["audit", "export", "--data", text(&last)], &fresh_url);
        assert_eq!(said.matches("system.restore").count(), 1, "{said}");
        assert_eq!(said.matches("system.backup").count(), 4, "{said}");
        let said = succeed(&back_up, &url);
        assert!(!said.contains("beside"), "{said}");
    }
}

#[test]
fn what_is_no_whole_backup_is_not_restored() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (data, copy) = (at("data"), at("copy"));
    std::fs::create_dir(&data).unwrap();
    std::fs::create_dir(&copy).unwrap();
    let fails = |arguments: &[&str], words: &str| {
        let out = firstread(arguments, "");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(words), "{said}");
    };
    let fresh = at("fresh");
    let restore = ["restore", text(&copy), "--data", text(&fresh)];
    fails(&restore, "no finished backup");
    fails(
        &["backup", text(&data.join("in")), "--data", text(&data)],
        "lies in the data folder",
    );
    std::fs::write(copy.join("letter.txt"), "mine").unwrap();
    fails(
        &["backup", text(&copy), "--data", text(&data)],
        "neither empty",
    );
}
