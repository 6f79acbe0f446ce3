//! A screening that ends its process again and again is given up, others go on, and who sends the study again has it
//! looked at once more.
//!
//! The process is killed while it screens this study and no other: a file of the study is a pipe, and the decoder
//! that opens it waits.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use firstread::clock::{Clock as _, SystemClock};
use firstread::store::entity::job;
use firstread::store::jobs::SCREEN;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _};

use crate::common::{TestServer, databases, dicom_files, modified, sample, study_uid};
use crate::database_of;

/// So often a screening may lose its process.
const ENDS: i64 = 10;
const WHY: &str = "the process ended while it ran, 10 times";
/// Longer than what follows takes, and below what counts as put off by a clock that was set back since (600 s).
const PUT_OFF_MS: i64 = 500_000;

/// A pipe in place of what is there: a new one each time, so that whoever comes late for the one before it does not
/// meet who comes for this one.
fn set_trap(trap: &Path) {
    std::fs::remove_file(trap).unwrap();
    rustix::fs::mkfifoat(CWD, trap, Mode::RUSR | Mode::WUSR).unwrap();
}

/// The trap's other end, once somebody has come to read; who reads waits until it is dropped.
async fn sprung(trap: &Path) -> OwnedFd {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let began = Instant::now();
    loop {
        // fails where nobody reads yet, instead of waiting (fifo(7))
        match rustix::fs::open(trap, flags, Mode::empty()) {
            Ok(held) => return held,
            Err(why) => assert_eq!(why, Errno::NXIO),
        }
        let waited = began.elapsed();
        assert!(waited < Duration::from_mins(1), "nobody comes to read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The only screening that is asked for.
async fn screening(db: &DatabaseConnection) -> job::Model {
    let found = job::Entity::find().filter(job::Column::Kind.eq(SCREEN));
    let mut all = found.all(db).await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Lets a job begin from then on, however long it was put off.
async fn due(db: &DatabaseConnection, id: i64, at_ms: i64) {
    let set = job::Entity::update_many()
        .col_expr(job::Column::RunAfter, Expr::value(at_ms))
        .filter(job::Column::Id.eq(id));
    assert_eq!(set.exec(db).await.unwrap().rows_affected, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screening_that_ends_its_process_ten_times_is_given_up_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    // does not say how many images there are: complete once it was quiet for its time, and not before
    let uncounted = ["(0020,1002)=0"];
    let bad = modified(&dicom_files(&sample("one")), folder.path(), &uncounted);
    let good = dicom_files(&sample("three"));
    let (bad_uid, good_uid) = (study_uid(&bad[0]), study_uid(&good[0]));
    for database in databases() {
        let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
        let data = data.path();
        // received and recorded, and not screened yet
        let quiet = ("FIRSTREAD_INTAKE__QUIET_MS".to_owned(), "60000".to_owned());
        let mut receiving = TestServer::start_in_with(data, &url, &[quiet]);
        assert!(receiving.send(&bad).0);
        assert!(receiving.terminate(), "it ends well");
        let trap = dicom_files(&data.join("objects").join(&bad_uid)).remove(0);
        let image = std::fs::read(&trap).unwrap();
        set_trap(&trap);

        let mut server = TestServer::start_in(data, &url);
        let db = database_of(&url, data).await;
        for ended in 1..=ENDS {
            let held = sprung(&trap).await;
            server.kill();
            // the decoder that is left reads a file of no bytes, and ends
            drop(held);
            set_trap(&trap);
            server.kill_and_restart();
            let job = screening(&db).await;
            assert_eq!(job.interrupted, ended);
            assert!(job.attempts <= 1, "begun again, or not yet: {job:?}");
            // from the second time on it is put off, by the start: here until others were seen to go on, at the end
            let at_ms = if ended < ENDS {
                0
            } else {
                SystemClock.now_ms() + PUT_OFF_MS
            };
            due(&db, job.id, at_ms).await;
        }

        let id = screening(&db).await.id;
        assert!(server.send(&good).0);
        let item = server.wait_until_ranked(&good_uid).await;
        assert_eq!(item["state"], "screened", "{item}");
        let item = server.item(&bad_uid).await.unwrap();
        assert_eq!(item["state"], "received", "{item}");

        // nothing is wrong with it any more, and it is not begun all the same
        std::fs::remove_file(&trap).unwrap();
        std::fs::write(&trap, &image).unwrap();
        due(&db, id, 0).await;
        let item = server.wait_until_ranked(&bad_uid).await;
        assert_eq!(item["state"], "failed", "{item}");
        assert_eq!(item["not_analysed_reason"], WHY);
        let told = format!("not analysed: ranked as an average study ({WHY})");
        let reasons = item["reasons"].as_array().unwrap();
        assert!(reasons.iter().any(|r| r["text"] == *told), "{item}");

        // who sends it again asks for one screening more
        assert!(server.send(&bad).0);
        let item = server
            .wait_for(&bad_uid, |i| i["state"] == "screened")
            .await;
        assert!(item["not_analysed_reason"].is_null(), "{item}");
    }
}
