//! Schemas of earlier versions, with data in them, become today's.

use std::time::{Duration, Instant};

use firstread::store::Store;
use firstread::store::migrations::Migrator;
use firstread::worklist::WorklistQuery;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use sea_orm_migration::MigratorTrait;

use crate::common::{Database, databases};

/// Studies of the upgrade that is timed.
const MANY: u32 = 10_000;
/// How long it may take.
const LONGEST: Duration = Duration::from_mins(1);

/// What version 0.1.0 would have written: study `n`, with a series and two images, screened.
fn rows(n: &str, from: &str) -> [String; 4] {
    [
        format!(
            "INSERT INTO study (study_uid, patient_id, patient_name, accession, description, modality, \
             arrived_at, last_received_at, reading, state, volumetry, order_priority, evidence_json, \
             ranking_json, settings_version, head_start_ms, effective_arrival_ms, band, highest_band, \
             p_abnormal, screened_at, changed_at) \
             SELECT '1.2.' || {n}, 'P' || {n}, 'Test^' || {n}, 'A' || {n}, 'MR Brain', 'MR', \
             1000 + {n}, 1000 + {n}, 'open', 'screened', 'not_done', 'routine', '{{}}', \
             '{{\"reasons\":[]}}', 1, 60000, {n} - 59000, 'routine', 'routine', 0.1, 2000, 2000 {from}"
        ),
        format!(
            "INSERT INTO series (study_id, series_uid, sop_class_uid, header_json, own_result, \
             first_received_at, last_received_at, quiet_ms, settled_images) \
             SELECT {n} + 1, '1.3.' || {n}, '1.2.840.10008.5.1.4.1.1.4', '{{}}', FALSE, \
             1000, 1000, 2000, 2 {from}"
        ),
        format!(
            "INSERT INTO instance (series_id, sop_uid, sop_class_uid, transfer_syntax_uid, frames, \
             digest, size_bytes, path, received_at) \
             SELECT {n} + 1, '1.4.' || {n}, '1.2', '1.2.840.10008.1.2', 1, 'ab', 10, 'objects/1', 1000 {from}"
        ),
        format!(
            "INSERT INTO instance (series_id, sop_uid, sop_class_uid, transfer_syntax_uid, frames, \
             digest, size_bytes, path, received_at) \
             SELECT {n} + 1, '1.5.' || {n}, '1.2', '1.2.840.10008.1.2', 1, 'ab', 10, 'objects/2', 1000 {from}"
        ),
    ]
}

async fn connect(database: &Database, folder: &tempfile::TempDir) -> (String, DatabaseConnection) {
    let mut url = database.fresh_url();
    if url.is_empty() {
        let file = folder.path().join("firstread.db");
        url = format!("sqlite://{}?mode=rwc", file.display());
    }
    let db = sea_orm::Database::connect(&url).await.unwrap();
    (url, db)
}

async fn check(url: &str, folder: &tempfile::TempDir, studies: u64) {
    let store = Store::open(Some(url), folder.path()).await.unwrap();
    let query = WorklistQuery {
        page: 1,
        ..WorklistQuery::default()
    };
    let page = store.worklist(&query, 0).await.unwrap();
    assert_eq!(page.total, studies);
    let first = &page.items[0];
    assert_eq!(first.study_uid, "1.2.0");
    assert_eq!((first.images, first.state.as_str()), (2, "screened"));
    let asked = store.study_for_analysis(1).await.unwrap().unwrap();
    assert_eq!(asked.series[0].files, ["objects/1", "objects/2"]);
}

#[tokio::test]
async fn every_schema_with_data_in_it_becomes_todays() {
    let steps = u32::try_from(Migrator::migrations().len()).unwrap();
    for database in databases() {
        let stride = match database {
            Database::Sqlite => 1,
            // The same steps; each database costs a while.
            Database::Postgres(_) => 7,
        };
        for step in (1..steps).step_by(stride) {
            let folder = tempfile::tempdir().unwrap();
            let (url, db) = connect(&database, &folder).await;
            Migrator::up(&db, Some(step)).await.unwrap();
            for sql in rows("0", "") {
                let done = db.execute_unprepared(&sql).await;
                done.unwrap_or_else(|e| panic!("schema of step {step}: {e}"));
            }
            db.close().await.unwrap();
            check(&url, &folder, 1).await;
        }
    }
}

#[tokio::test]
async fn ten_thousand_studies_of_the_first_schema_are_upgraded_within_a_minute() {
    for database in databases() {
        let folder = tempfile::tempdir().unwrap();
        let (url, db) = connect(&database, &folder).await;
        Migrator::up(&db, Some(1)).await.unwrap();
        let numbers = format!(
            "FROM (WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {}) \
             SELECT n FROM c) numbers",
            MANY - 1
        );
        for sql in rows("n", &numbers) {
            db.execute_unprepared(&sql).await.unwrap();
        }
        db.close().await.unwrap();
        let began = Instant::now();
        let store = Store::open(Some(&url), folder.path()).await.unwrap();
        let took = began.elapsed();
        drop(store);
        eprintln!("{MANY} studies upgraded in {took:.1?} on {database:?}");
        assert!(took < LONGEST, "{took:?}");
        check(&url, &folder, u64::from(MANY)).await;
    }
}
