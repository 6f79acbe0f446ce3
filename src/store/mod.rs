//! What is kept: sea-orm entities, queries, and the folder of files beside the database.
//!
//! Only this folder names sea-orm. SQLite has one writer connection (so `BEGIN IMMEDIATE`
//! never waits for ourselves) and separate readers; PostgreSQL uses one pool for both.

pub mod accounts;
pub mod alerts;
pub mod arrivals;
pub mod audit;
pub mod audit_sent;
pub mod commitments;
pub mod deliveries;
pub mod disclosed;
pub mod dump;
pub mod entity;
pub mod feedback;
pub mod fhir;
pub mod files;
pub mod filters;
pub mod follow_up;
pub mod intake;
pub mod jobs;
pub mod made;
pub mod measurements;
pub mod messages;
#[path = "../../migrations/mod.rs"]
pub mod migrations;
pub mod objects;
pub mod opinions;
pub mod orders;
pub mod outbox;
pub mod overview;
pub mod priors;
pub mod processes;
pub mod ranks;
pub mod reading;
pub mod report;
pub mod results;
pub mod retention;
pub mod ris;
pub mod search;
pub mod settings;
pub mod shown;
pub mod spread;
pub mod subscriptions;
pub mod trail;
pub mod turns;
mod unreached;
pub mod watch;
pub mod what_if;
pub mod worklist;

pub use files::Files;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sea_orm::sqlx::Connection;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

/// What the database's own layers log of themselves: only what is wrong.
pub const QUIET: &str = "sqlx=warn,sea_orm_migration=warn";

/// Readers beside SQLite's one writer.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL, by default.
pub const POSTGRES_CONNECTIONS: u32 = 12;
/// How long a statement waits for a connection or for SQLite's write lock.
const WAIT: Duration = Duration::from_secs(20);

/// A failure of the database.
pub type StoreError = DbErr;

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    write: DatabaseConnection,
    read: DatabaseConnection,
    /// Name of this process' run, in leases.
    run: Arc<OnceLock<String>>,
    /// Who has the studies of SQLite.
    studies: Arc<tokio::sync::Mutex<()>>,
    /// Who of this process is looking for a job: see `claim_job`.
    claims: Arc<tokio::sync::Mutex<()>>,
}

impl Store {
    /// Connects, and brings the schema up to date.
    ///
    /// `url` is `None` for `firstread.db` in the data folder, else a `postgres://` or `sqlite://` URL.
    ///
    /// # Errors
    /// When the database cannot be reached or a migration fails.
    pub async fn open(url: Option<&str>, data: &Path) -> Result<Self, StoreError> {
        Self::open_with(url, data, POSTGRES_CONNECTIONS).await
    }

    /// The same with so many connections to PostgreSQL at most.
    ///
    /// # Errors
    /// When the database cannot be reached or a migration fails.
    pub async fn open_with(
        url: Option<&str>,
        data: &Path,
        connections: u32,
    ) -> Result<Self, StoreError> {
        let store = Self::connect(url, data, connections).await?;
        // Of several processes that start at once one changes the schema.
        let turn = store.wait_for_turn(turns::Duty::Start).await?;
        migrations::Migrator::up(&store.write, None).await?;
        turn.end().await?;
        Ok(store)
    }

    async fn connect(url: Option<&str>, data: &Path, connections: u32) -> Result<Self, StoreError> {
        let default = format!("sqlite://{}?mode=rwc", data.join("firstread.db").display());
        let url = url.unwrap_or(&default);
        let store = if url.starts_with("sqlite:") {
            Self {
                write: sqlite(url, 1).await?,
                read: sqlite(url, SQLITE_READERS).await?,
                run: Arc::default(),
                studies: Arc::default(),
                claims: Arc::default(),
            }
        } else {
            let mut options = ConnectOptions::new(url);
            options
                .max_connections(connections)
                .acquire_timeout(WAIT)
                .sqlx_logging(false);
            let pool = Database::connect(options).await?;
            Self {
                write: pool.clone(),
                read: pool,
                run: Arc::default(),
                studies: Arc::default(),
                claims: Arc::default(),
            }
        };
        Ok(store)
    }

    /// For queries that change nothing.
    #[must_use]
    pub(crate) fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// A transaction that may write.
    pub(crate) async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        self.write
            .begin_with_options(TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            })
            .await
    }

    /// Which database this is.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        self.write.get_database_backend() == DbBackend::Postgres
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read.ping().await
    }
}

async fn sqlite(url: &str, connections: u32) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(WAIT)
        // The connection is a thread of this process: asking it whether it lives costs as much as a query.
        .test_before_acquire(false)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|o| {
            o.journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(WAIT)
                .foreign_keys(true)
        })
        .map_sqlx_sqlite_pool_opts(|o| {
            o.after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?; // rollbacks of what was dropped are queued until then
                    // SQLite ends a transaction by itself where the disk is full (sqlite.org/lang_transaction.html).
                    // Its rollback then fails, sqlx counts one transaction too many for ever, and what follows
                    // would be savepoints that nobody commits.
                    let ended = !connection.is_in_transaction();
                    if !ended {
                        tracing::warn!("a transaction did not end: its connection is opened anew");
                    }
                    Ok(ended)
                })
            })
        });
    Database::connect(options).await
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait;

    use super::*;

    async fn tell(store: &Store, sql: &str) -> Result<(), StoreError> {
        store.write.execute_unprepared(sql).await.map(drop)
    }

    async fn insert(store: &Store, bytes: usize) -> Result<(), StoreError> {
        let transaction = store.begin().await?;
        let sql = format!("INSERT INTO note VALUES (zeroblob({bytes}))");
        transaction.execute_unprepared(&sql).await?;
        transaction.commit().await
    }

    async fn notes(store: &Store) -> i64 {
        let all =
            sea_orm::Statement::from_string(DbBackend::Sqlite, "SELECT COUNT(*) AS n FROM note");
        let row = store.read.query_one_raw(all).await.unwrap().unwrap();
        row.try_get("", "n").unwrap()
    }

    #[tokio::test]
    async fn after_a_full_disk_what_is_committed_is_kept() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(None, data.path()).await.unwrap();
        tell(&store, "CREATE TABLE note (text BLOB)").await.unwrap();
        tell(&store, "PRAGMA max_page_count = 1").await.unwrap(); // as many pages as there are
        let full = insert(&store, 1 << 20).await.unwrap_err();
        assert!(full.to_string().contains("full"), "{full}");
        tell(&store, "PRAGMA max_page_count = 1000000")
            .await
            .unwrap();
        drop(store.begin().await.unwrap()); // somebody looked and changed nothing
        for _ in 0..3 {
            insert(&store, 10).await.unwrap();
        }
        assert_eq!(notes(&store).await, 3, "another connection sees them");
    }
}
