//! Work that is stuck is said on every page, in the metrics and in the log; so is what the network says of late.

use std::path::Path;
use std::time::{Duration, Instant};

use firstread::clock::{Clock as _, SystemClock};
use firstread::store::accounts::Role;
use firstread::store::entity::{job, process};
use firstread::store::watch::{Said, Stuck};
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set, ConnectionTrait as _};

use crate::common::{Database, TestServer, databases};
use crate::site::{PASSWORD, Site, browser, field};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// Studies that were screened: of the last month with 0.2, of the last hours with 0.8; a prior and an older one
/// that do not count.
async fn screened(site: &Site, now_ms: i64) {
    let screened = async |n: u32, ago_ms: i64, p: f64, reading: &str| {
        site.study_with(n, 10, 5.0, |row| {
            row.screened_at = Set(Some(now_ms - ago_ms));
            row.p_abnormal = Set(Some(p));
            row.reading = Set(reading.into());
        })
        .await
    };
    for n in 1..=12 {
        screened(n, DAY_MS * i64::from(2 * n), 0.2, "read").await;
    }
    for n in 13..=16 {
        screened(n, 60 * MINUTE_MS, 0.8, "open").await;
    }
    screened(17, 60 * MINUTE_MS, 0.0, "prior").await;
    screened(18, 31 * DAY_MS, 0.0, "read").await;
}

/// A job, a series and a delivery that should be done by now, and one of each that is not late yet.
async fn left_undone(site: &Site, now_ms: i64) {
    let db = sea_orm::Database::connect(&site.database_url)
        .await
        .unwrap();
    for (n, kind, minutes) in [
        (1, "screen", 16),
        (2, "screen", 14),
        (3, "results", 359),
        (4, "volumetry", 361),
    ] {
        let study = site.row(n).await;
        let row = job::ActiveModel {
            kind: Set(kind.into()),
            study_id: Set(study.id),
            run_after: Set(now_ms - minutes * MINUTE_MS),
            generation: Set(1),
            attempts: Set(0),
            interrupted: Set(0),
            ..Default::default()
        };
        row.insert(&db).await.unwrap();
    }
    for (n, minutes) in [(5, 11), (6, 9)] {
        let study = site.row(n).await;
        site.series_with(&study, |row| {
            row.settled_images = Set(None);
            row.last_received_at = Set(now_ms - minutes * MINUTE_MS);
        })
        .await;
    }
    let names = ["room", "pager"].map(str::to_owned);
    site.store.know_destinations(&names).await.unwrap();
    for (name, minutes) in [("room", 61), ("room", 59), ("pager", 120)] {
        let at_ms = now_ms - minutes * MINUTE_MS;
        assert!(site.store.send_test(name, at_ms).await.unwrap());
    }
    // receivers that last told what lies in their logs; the clock of a web process does not reach there
    for (run, minutes) in [("0a", Some(6)), ("0b", Some(4)), ("0c", None)] {
        let row = process::ActiveModel {
            run: Set(run.into()),
            node: Set("elsewhere".into()),
            role: Set("receiver".into()),
            version: Set("0".into()),
            started_at: Set(now_ms - DAY_MS),
            beats: Set(1),
            beat_at: Set(now_ms),
            worker_beat_at: Set(None),
            log_bytes: Set(minutes.map_or(0, |_| 7_000_000)),
            log_oldest_at: Set(minutes.map(|m| now_ms - m * MINUTE_MS)),
            ..Default::default()
        };
        row.insert(&db).await.unwrap();
    }
    // whoever paused it knows that it waits
    let by = Some("anna");
    assert!(
        site.store
            .pause_destination("pager", by, now_ms)
            .await
            .unwrap()
    );
}

/// The log of a receiver that died with two objects in it, of 5,000 and 100 bytes, and no receiver to take it over:
/// as `src/intake/log/` lays it out.
fn log_of_the_dead(data: &Path, received_at: i64) {
    let id = [7; 16];
    let mut segment = [b"FRlog 01".as_slice(), &id].concat();
    segment.resize(4096, 0);
    for (bytes, received_at) in [(5_000_u32, received_at), (100, received_at + 1)] {
        let at = segment.len();
        segment.extend(b"FRobject");
        segment.extend(id);
        segment.extend(bytes.to_le_bytes());
        segment.extend([0; 8]);
        segment.extend(received_at.to_le_bytes());
        segment.resize(at + 252, 0);
        let checksum = crc32fast::hash(&segment[at..]);
        segment.extend(checksum.to_le_bytes());
        segment.resize((at + 256 + bytes as usize).next_multiple_of(4096), 1);
    }
    segment.resize(1 << 16, 2);
    let log = data.join("log/00dead00");
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("lock"), "").unwrap();
    std::fs::write(log.join("0-1.segment"), segment).unwrap();
}

fn near(said: Said, studies: u64, mean: f64) {
    assert_eq!(said.studies, studies);
    assert!((said.mean.unwrap() - mean).abs() < 1e-9, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stuck_and_what_the_network_says_of_late_is_told() {
    for database in databases() {
        let site = Site::on(&database).await;
        let now_ms = SystemClock.now_ms();
        assert_eq!(site.store.stuck(now_ms).await.unwrap(), Stuck::default());
        assert_eq!(site.store.said_since(0).await.unwrap(), Said::default());
        screened(&site, now_ms).await;
        left_undone(&site, now_ms).await;
        let stuck = site.store.stuck(now_ms).await.unwrap();
        let expected = Stuck {
            jobs: 2,
            series: 1,
            deliveries: 1,
            logs: 1,
            damaged_logs: 0,
        };
        assert_eq!(stuck, expected);
        let since = async |ms: i64| site.store.said_since(now_ms - ms).await.unwrap();
        near(since(DAY_MS).await, 4, 0.8);
        near(since(30 * DAY_MS).await, 16, 0.35);
        if let Database::Postgres(_) = database {
            told_by_a_server(&site).await;
        }
    }
}

/// What lies in the log lies longest when the database is away: that is told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_this_process_are_told_while_the_database_is_away() {
    let site = Site::start().await;
    let metrics = async || site.page(&browser(), "/metrics").await;
    let up = metrics().await;
    for line in [
        "firstread_database_up 1",
        "firstread_processes{role=\"web\"} 0",
        "firstread_jobs_waiting 0",
    ] {
        assert!(up.contains(line), "no {line} in {up}");
    }
    let db = sea_orm::Database::connect(&site.database_url)
        .await
        .unwrap();
    let broken = db
        .execute_unprepared("ALTER TABLE job RENAME TO no_job")
        .await;
    broken.unwrap();
    let away = metrics().await;
    for line in [
        "firstread_database_up 0",
        "firstread_object_log_bytes 0",
        "firstread_object_log_oldest_seconds 0",
        "firstread_stuck{what=\"logs\"} 0",
        "firstread_disk_used_percent ",
        "firstread_build_info{",
    ] {
        assert!(away.contains(line), "no {line} in {away}");
    }
    assert!(
        !away.contains("firstread_jobs_waiting"),
        "not known: {away}"
    );
}

/// A process that shows pages tells what others left undone.
async fn told_by_a_server(site: &Site) {
    site.user("watching", Role::Admin).await;
    let role = ("FIRSTREAD_PROCESS__ROLE".to_owned(), "web".to_owned());
    let data = tempfile::tempdir().unwrap();
    log_of_the_dead(data.path(), SystemClock.now_ms() - 7 * MINUTE_MS);
    let server = TestServer::start_in_with(data.path(), &site.database_url, &[role]);
    let url = |path: &str| format!("http://{}{path}", server.http);
    let client = browser();
    let get = async |path: &str| {
        client
            .get(url(path))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    let began = Instant::now();
    let mut metrics = get("/metrics").await;
    while !metrics.contains("firstread_stuck{what=\"jobs\"} 2") {
        assert!(began.elapsed() < Duration::from_secs(20), "{metrics}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        metrics = get("/metrics").await;
    }
    for line in [
        "firstread_stuck{what=\"series\"} 1",
        "firstread_stuck{what=\"deliveries\"} 1",
        "firstread_stuck{what=\"logs\"} 2",
        "firstread_object_log_objects 2",
        "firstread_object_log_bytes 12288",
        "firstread_object_log_oldest_seconds 42",
        "firstread_database_up 1",
        "firstread_probability_mean{window=\"1d\"} 0.8",
        "firstread_probability_studies{window=\"1d\"} 4",
        "firstread_probability_mean{window=\"30d\"} 0.35",
        "firstread_probability_studies{window=\"30d\"} 16",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    let form = get("/login").await;
    let form_token = field(&form, "form_token");
    let filled = [
        ("form_token", form_token.as_str()),
        ("name", "watching"),
        ("password", PASSWORD),
    ];
    let signed_in = client.post(url("/login")).form(&filled).send().await;
    assert_eq!(signed_in.unwrap().status(), 303);
    let list = get("/worklist").await;
    assert!(
        list.contains("Work is stuck: 2 jobs: due for long"),
        "{list}"
    );
    let system = get("/system").await;
    for words in [
        "1 series: not complete",
        "1 delivery: waiting",
        "2 object logs: images that were received more than 5 minutes ago are not recorded",
        "7 MB, the oldest for 6 min",
        "80 %",
        "35 %",
    ] {
        assert!(system.contains(words), "no {words} in {system}");
    }
    let log = server.log();
    assert!(log.contains("work is stuck"), "{log}");
}
