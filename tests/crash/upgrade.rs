//! Schemas of earlier versions, with data in them, become today's.

use std::time::{Duration, Instant};

use firstread::store::Store;
use firstread::store::migrations::Migrator;
use firstread::worklist::WorklistQuery;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};
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

async fn ask(db: &DatabaseConnection, sql: String) -> Vec<QueryResult> {
    let asked = Statement::from_string(db.get_database_backend(), sql);
    db.query_all_raw(asked).await.unwrap()
}

/// Every table, in the order in which they were made.
async fn tables(db: &DatabaseConnection) -> Vec<String> {
    let sql = if db.get_database_backend() == DbBackend::Sqlite {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid"
    } else {
        "SELECT relname::TEXT AS name FROM pg_class WHERE relkind = 'r' \
         AND relnamespace = current_schema()::regnamespace ORDER BY oid"
    };
    let rows = ask(db, sql.into()).await;
    rows.iter()
        .map(|row| row.try_get("", "name").unwrap())
        .collect()
}

async fn count(db: &DatabaseConnection, table: &str) -> i64 {
    let rows = ask(db, format!("SELECT COUNT(*) AS n FROM {table}")).await;
    rows[0].try_get("", "n").unwrap()
}

/// One row in every table that has none: whatever its columns ask for, and what it refers to is the first of its kind.
async fn fill(db: &DatabaseConnection) {
    let sqlite = db.get_database_backend() == DbBackend::Sqlite;
    for table in tables(db).await {
        if count(db, &table).await > 0 {
            continue;
        }
        let columns = if sqlite {
            format!(
                "SELECT name, type AS kind FROM pragma_table_info('{table}') WHERE dflt_value IS NULL \
                 AND (\"notnull\" = 1 OR pk > 0) AND NOT (pk > 0 AND type = 'INTEGER')"
            )
        } else {
            format!(
                "SELECT column_name::TEXT AS name, data_type::TEXT AS kind FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = '{table}' \
                 AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'"
            )
        };
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in ask(db, columns).await {
            let name: String = column.try_get("", "name").unwrap();
            let kind: String = column.try_get("", "kind").unwrap();
            values.push(match kind.to_lowercase().as_str() {
                kind if kind.contains("int") => "1",
                kind if kind.contains("bool") => "FALSE",
                kind if kind.contains("double") => "0.5",
                _ if name.ends_with("_json") => "'{}'",
                _ => "'x'",
            });
            names.push(name);
        }
        let (names, values) = (names.join(", "), values.join(", "));
        let sql = format!("INSERT INTO {table} ({names}) VALUES ({values})");
        let done = db.execute_unprepared(&sql).await;
        done.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
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
            fill(&db).await;
            let before = tables(&db).await;
            db.close().await.unwrap();
            check(&url, &folder, 1).await;
            let db = sea_orm::Database::connect(&url).await.unwrap();
            for table in before {
                let rows = count(&db, &table).await;
                assert!(rows > 0, "the row of {table} is lost from step {step} on");
            }
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn words_of_peers_that_were_listed_are_covered_from_now_on() {
    let all = Migrator::migrations();
    let before = all
        .iter()
        .position(|step| step.name().ends_with("peers_words"));
    for database in databases() {
        let folder = tempfile::tempdir().unwrap();
        let (url, db) = connect(&database, &folder).await;
        let before = u32::try_from(before.unwrap()).unwrap();
        Migrator::up(&db, Some(before)).await.unwrap();
        for (n, kind, state) in [
            (1, "result", "dead"),
            (2, "result", "waiting"),
            (3, "result", "skipped"),
            (4, "alert", "dead"),
        ] {
            let sql = format!(
                "INSERT INTO delivery (id, destination, kind, dedup_key, state, attempts, due_at, said, created_at) \
                 VALUES ({n}, '{kind}', '{kind}', 'k{n}', '{state}', 1, 0, 'Anna {n}', 5)"
            );
            db.execute_unprepared(&sql).await.unwrap();
        }
        for sql in [
            "INSERT INTO delivery_message (delivery_id, said_at, message) VALUES (1, 7, 'MSH|')",
            "INSERT INTO destination (name, failures, last_error) VALUES ('result', 2, 'Anna'), ('alert', 2, 'Anna')",
        ] {
            db.execute_unprepared(sql).await.unwrap();
        }
        db.close().await.unwrap();
        let store = Store::open(Some(&url), folder.path()).await.unwrap();
        let elsewhere = "what it answered is on the page of this delivery";
        for (n, listed, message, answer) in [
            (1, elsewhere, Some("MSH|"), Some("Anna 1")),
            (2, elsewhere, None, Some("Anna 2")),
            (3, "Anna 3", None, None),
            (4, "Anna 4", None, None),
        ] {
            let (row, said) = store.view_message(n, "x", true, 0).await.unwrap().unwrap();
            assert_eq!(row.said.as_deref(), Some(listed), "{n}");
            let (kept, words) = said.map_or((None, None), |s| (s.message, s.answer));
            assert_eq!(
                (kept.as_deref(), words.as_deref()),
                (message, answer),
                "{n}"
            );
        }
        let errors: Vec<bool> = store
            .destinations()
            .await
            .unwrap()
            .iter()
            .map(|d| d.last_error.as_deref() == Some("Anna"))
            .collect();
        assert_eq!(errors, [true, false], "alert, result");
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
