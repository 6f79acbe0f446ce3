//! What ends its process is not begun for ever, no part of reception ends unnoticed, and what cannot be kept in the
//! audit trail is not shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firstread::clock::{Clock, SharedClock, UnixMillis};
use firstread::intake::{Intake, IntakeParts, IntakeSettings, Tasks};
use firstread::store::Files;
use firstread::store::accounts::Role;
use firstread::store::entity::{job, study};
use firstread::store::jobs::{FOLLOW_UP, Job, SCREEN, VOLUMETRY};
use firstread::triage::Evidence;
use reqwest::StatusCode;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait as _,
    EntityTrait as _, QueryFilter as _,
};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::common::{TestServer, databases};
use crate::site::{NOON_MS, Site, browser, flag, uid};

const LEASE_MS: i64 = 90_000;
/// So much later for each end of a process but the first.
const LATER_MS: i64 = 8_000;
const SOON: Duration = Duration::from_secs(30);

/// A job whose process ended so often.
async fn waits(site: &Site, study: &study::Model, kind: &str, interrupted: i64) {
    let db = sea_orm::Database::connect(&site.database_url).await;
    let row = job::ActiveModel {
        kind: Set(kind.into()),
        study_id: Set(study.id),
        run_after: Set(0),
        generation: Set(1),
        attempts: Set(0),
        interrupted: Set(interrupted),
        ..Default::default()
    };
    row.insert(&db.unwrap()).await.unwrap();
}

async fn claim(site: &Site, run: &str, kind: &str, now_ms: i64) -> Option<Job> {
    let worker = format!("{run}:{kind}");
    let claimed = site.store.claim_job(kind, &worker, now_ms, LEASE_MS).await;
    claimed.unwrap()
}

#[tokio::test]
async fn what_ends_its_process_comes_back_later_each_time_and_others_get_on() {
    for database in databases() {
        let site = Site::on(&database).await;
        let (first, second) = (site.study(1, 30, 60.0).await, site.study(2, 20, 5.0).await);
        waits(&site, &first, SCREEN, 0).await;
        waits(&site, &second, SCREEN, 0).await;
        let mut now_ms = NOON_MS;
        for ended in 0..10 {
            let job = claim(&site, "0a", SCREEN, now_ms).await.unwrap();
            assert_eq!(
                (job.study_id, job.attempts, job.interrupted),
                (first.id, 1, ended)
            );
            // no process of that name is known: it is gone
            assert_eq!(site.store.bury(&[], now_ms).await.unwrap().jobs, 1);
            if ended == 1 {
                let other = claim(&site, "0b", SCREEN, now_ms).await.unwrap();
                assert_eq!(other.study_id, second.id, "others get on");
                site.store.finish_job(&other, true).await.unwrap();
            }
            if ended > 0 {
                let early = now_ms + ended * LATER_MS - 1;
                assert_eq!(claim(&site, "0b", SCREEN, early).await, None);
            }
            now_ms += ended * LATER_MS;
        }
        let job = claim(&site, "0a", SCREEN, now_ms).await.unwrap();
        assert_eq!((job.attempts, job.interrupted), (1, 10));
    }
}

#[tokio::test]
async fn a_process_that_stops_in_order_hands_its_jobs_back_uncounted() {
    for database in databases() {
        let site = Site::on(&database).await;
        let study = site.study(1, 30, 60.0).await;
        waits(&site, &study, SCREEN, 0).await;
        for _ in 0..20 {
            let job = claim(&site, "0a", SCREEN, NOON_MS).await.unwrap();
            assert_eq!((job.attempts, job.interrupted), (1, 0));
            assert_eq!(site.store.hand_back("0a").await.unwrap(), 1);
        }
        let others = claim(&site, "0b", SCREEN, NOON_MS).await.unwrap();
        assert_eq!(site.store.hand_back("0a").await.unwrap(), 0);
        let kept = site.store.keep_job(&others, NOON_MS + LEASE_MS).await;
        assert!(kept.unwrap(), "what another has in hand stays its own");
    }
}

/// Else whatever runs beside it would be counted out with it.
#[tokio::test]
async fn what_may_end_a_process_runs_beside_nothing_else_that_may() {
    for database in databases() {
        let site = Site::on(&database).await;
        let first = site.study(1, 30, 60.0).await;
        let second = site.study(2, 30, 30.0).await;
        let third = site.study(3, 30, 5.0).await;
        waits(&site, &first, SCREEN, 2).await;
        waits(&site, &second, FOLLOW_UP, 2).await;
        waits(&site, &third, FOLLOW_UP, 1).await;
        let of = async |run: &str, kind: &str| claim(&site, run, kind, NOON_MS).await;
        let suspect = of("0a", SCREEN).await.unwrap();
        let beside = of("0a", FOLLOW_UP).await.unwrap();
        assert_eq!((suspect.study_id, beside.study_id), (first.id, third.id));
        site.store.finish_job(&beside, true).await.unwrap();
        assert_eq!(of("0a", FOLLOW_UP).await, None);
        let elsewhere = of("0b", FOLLOW_UP).await.unwrap();
        assert_eq!(elsewhere.study_id, second.id, "another process may");
        assert_eq!(site.store.hand_back("0b").await.unwrap(), 1);
        site.store.finish_job(&suspect, true).await.unwrap();
        let alone = of("0a", FOLLOW_UP).await.unwrap();
        assert_eq!(alone.study_id, second.id, "its turn has come");
        // two workers of a process that look at the same moment
        assert_eq!(site.store.hand_back("0a").await.unwrap(), 1);
        waits(&site, &first, SCREEN, 2).await;
        let (one, other) = tokio::join!(of("0a", SCREEN), of("0a", FOLLOW_UP));
        assert!(one.is_some() != other.is_some(), "{one:?}, {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_its_process_ten_times_is_given_up_and_says_so() {
    const WHY: &str = "the process ended while it ran, 10 times";
    for database in databases() {
        let site = Site::on(&database).await;
        let (first, second) = (site.study(1, 30, 60.0).await, site.study(2, 20, 5.0).await);
        waits(&site, &first, SCREEN, 10).await;
        waits(&site, &second, VOLUMETRY, 10).await;
        // screened once, and then more images came
        let found = site.study_with(3, 10, 5.0, |row| {
            let mut evidence = Evidence::default();
            flag(&mut evidence, false);
            row.evidence_json = Set(serde_json::to_string(&evidence).unwrap());
            row.looked_at = Set(Some("T1".into()));
        });
        waits(&site, &found.await, SCREEN, 10).await;
        let server = TestServer::start_in(site.data.path(), &site.database_url);
        let item = server.wait_for(&uid(1), |i| i["state"] == "failed").await;
        assert_eq!(item["not_analysed_reason"], WHY, "{item}");
        let item = server
            .wait_for(&uid(2), |i| i["volumetry"] == "not_done")
            .await;
        assert_eq!(item["volumetry_reason"], format!("failed: {WHY}"), "{item}");
        assert_eq!(item["state"], "screened", "screening stands");
        let told = format!("T1; screening again failed: {WHY}");
        let item = server.wait_for(&uid(3), |i| i["looked_at"] == told).await;
        assert_eq!(
            (&item["state"], &item["band"]),
            (&json!("screened"), &json!("urgent"))
        );
        assert!(
            item["p_abnormal"].as_f64().is_some_and(|p| p > 0.9),
            "{item}"
        );
        assert!(item["not_analysed_reason"].is_null(), "{item}");
        assert_ne!(item["volumetry_reason"], "not screened", "{item}");
        let db = sea_orm::Database::connect(&site.database_url)
            .await
            .unwrap();
        let began = Instant::now();
        loop {
            let kinds = job::Column::Kind.is_in([SCREEN, VOLUMETRY]);
            let left = job::Entity::find().filter(kinds).one(&db).await.unwrap();
            if left.is_none() {
                break;
            }
            assert!(began.elapsed() < SOON, "still there: {left:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A clock that stands still, and breaks who asks it once it is told to.
#[derive(Default)]
struct Breaking(AtomicBool);

impl Clock for Breaking {
    fn now_ms(&self) -> UnixMillis {
        assert!(!self.0.load(Ordering::Relaxed), "broken on purpose");
        NOON_MS
    }
}

async fn reception(
    site: &Site,
    clock: SharedClock,
    stop: &CancellationToken,
) -> (Arc<Intake>, Tasks) {
    let parts = IntakeParts {
        store: site.store.clone(),
        files: Files::open(site.data.path()).unwrap(),
        clock,
        settings: IntakeSettings::default(),
        reserve_bytes: 0,
        ranker: site.ranker.clone(),
        news: site.news.clone(),
        backlog: site.health.backlog.clone(),
        work: Arc::default(),
    };
    Intake::start(parts, stop.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_of_reception_ends_unnoticed() {
    let (site, stop) = (Site::start().await, CancellationToken::new());
    let clock = Arc::new(Breaking::default());
    let (intake, mut tasks) = reception(&site, clock.clone(), &stop).await;
    let early = timeout(Duration::from_secs(1), tasks.ended_early(&stop)).await;
    assert!(early.is_err(), "all go on: {early:?}");
    clock.0.store(true, Ordering::Relaxed);
    let how = timeout(SOON, tasks.ended_early(&stop)).await;
    assert_eq!(how.as_deref(), Ok("settling series broke"));
    // and the recorder, once nobody can hand it anything
    intake.finish().await;
    drop(intake);
    let how = timeout(SOON, tasks.ended_early(&stop)).await;
    assert_eq!(how.as_deref(), Ok("recording objects ended"));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_shown() {
    let site = Site::start().await;
    site.study(1, 10, 5.0).await;
    let reader = site.signed_in(Role::Reader).await;
    let token = site.token_of("ris", Role::Integration).await;
    let db = sea_orm::Database::connect(&site.database_url)
        .await
        .unwrap();
    db.execute_unprepared("ALTER TABLE audit_trail RENAME TO gone")
        .await
        .unwrap();
    let answer = reader
        .get(site.url(&format!("/studies/{}", uid(1))))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = answer.text().await.unwrap();
    assert!(
        !text.contains("Family1") && text.contains("audit trail"),
        "{text}"
    );
    // each program in the words of its API
    for (path, kind, word) in [
        ("/api/v1/worklist", "problem+json", "\"no_trail\""),
        ("/fhir/ImagingStudy", "fhir+json", "\"OperationOutcome\""),
    ] {
        let asked = browser().get(site.url(path)).bearer_auth(&token);
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        let headers = answer.headers();
        assert_eq!(headers["retry-after"], "5", "{path}");
        assert_eq!(headers["content-type"], format!("application/{kind}"));
        let text = answer.text().await.unwrap();
        assert!(
            text.contains(word) && !text.contains("Family1") && !text.contains(&uid(1)),
            "{text}"
        );
    }
    db.execute_unprepared("ALTER TABLE gone RENAME TO audit_trail")
        .await
        .unwrap();
    let answer = reader
        .get(site.url(&format!("/studies/{}", uid(1))))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
