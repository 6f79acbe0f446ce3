//! Processes on one database: who lives, and what becomes of the work of those that do not.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
};

use super::entity::process;
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// How much later a job begins again for each time but the first that its process ended: others get on meanwhile.
const PUT_OFF_MS: i64 = 8_000;

/// A process, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Name of its run; no other has it.
    pub run: String,
    /// Name of its machine.
    pub node: String,
    /// all, receiver, worker or web.
    pub role: String,
    /// Of the program.
    pub version: String,
    /// When it started.
    pub started_ms: UnixMillis,
    /// Raised with every sign of life.
    pub beats: i64,
    /// When the last was, by its own clock.
    pub beat_ms: UnixMillis,
    /// When a worker of it was last alive.
    pub worker_beat_ms: Option<UnixMillis>,
    /// Bytes in its object log without file and row.
    pub log_bytes: i64,
    /// When the oldest object of those was received.
    pub log_oldest_ms: Option<UnixMillis>,
}

/// What was freed of processes that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Jobs that another may take now.
    pub jobs: u64,
    /// Deliveries that are due again.
    pub deliveries: u64,
}

impl Store {
    /// Leases of this process carry this name from now on; the first name stays.
    pub fn call_run(&self, run: &str) {
        let _ = self.run.set(run.to_owned());
    }

    /// The name of this process' run, if it has one.
    #[must_use]
    pub fn run(&self) -> Option<&str> {
        self.run.get().map(String::as_str)
    }

    /// Says that a process lives; it is made known where it was not, or not any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn beat(&self, process: &Process) -> Result<(), StoreError> {
        let row = process::ActiveModel {
            run: Set(process.run.clone()),
            node: Set(process.node.clone()),
            role: Set(process.role.clone()),
            version: Set(process.version.clone()),
            started_at: Set(process.started_ms),
            beats: Set(process.beats),
            beat_at: Set(process.beat_ms),
            worker_beat_at: Set(process.worker_beat_ms),
            log_bytes: Set(process.log_bytes),
            log_oldest_at: Set(process.log_oldest_ms),
            ..Default::default()
        };
        let tx = self.begin().await?;
        process::Entity::insert(row)
            .on_conflict(
                OnConflict::column(process::Column::Run)
                    .update_columns([
                        process::Column::Beats,
                        process::Column::BeatAt,
                        process::Column::WorkerBeatAt,
                        process::Column::LogBytes,
                        process::Column::LogOldestAt,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await
    }

    /// All that are known, the first started first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn processes(&self) -> Result<Vec<Process>, StoreError> {
        let rows = process::Entity::find()
            .order_by_asc(process::Column::Id)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(Process::from).collect())
    }

    /// Forgets processes that are gone, and frees what they were working on: jobs and deliveries of
    /// any process that is not known. Two may do so at once. A job loses no attempt by that, but it is counted:
    /// what ends processes again and again comes back later each time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn bury(&self, runs: &[String], now_ms: UnixMillis) -> Result<Freed, StoreError> {
        let tx = self.begin().await?;
        process::Entity::delete_many()
            .filter(process::Column::Run.is_in(runs))
            .exec(&tx)
            .await?;
        let sql = format!(
            "UPDATE job SET leased_until = NULL, leased_by = NULL, \
             attempts = CASE WHEN attempts > 0 THEN attempts - 1 ELSE 0 END, \
             run_after = CASE WHEN interrupted = 0 THEN run_after ELSE $1 + interrupted * {PUT_OFF_MS} END, \
             interrupted = interrupted + 1 \
             WHERE leased_by IS NOT NULL AND leased_until IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM process p WHERE job.leased_by LIKE p.run || ':%')"
        );
        let freed = tx
            .execute_raw(self.statement(&sql, vec![now_ms.into()]))
            .await?;
        tx.commit().await?;
        Ok(Freed {
            jobs: freed.rows_affected(),
            deliveries: self.release_deliveries(now_ms).await?,
        })
    }

    /// Frees the jobs of a process that stops as it was asked to: neither an attempt nor an end of a process is
    /// counted. How many they are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hand_back(&self, run: &str) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let sql = "UPDATE job SET leased_until = NULL, leased_by = NULL, \
                   attempts = CASE WHEN attempts > 0 THEN attempts - 1 ELSE 0 END \
                   WHERE leased_until IS NOT NULL AND leased_by LIKE $1";
        let freed = tx
            .execute_raw(self.statement(sql, vec![format!("{run}:%").into()]))
            .await?;
        tx.commit().await?;
        Ok(freed.rows_affected())
    }
}

impl From<process::Model> for Process {
    fn from(row: process::Model) -> Self {
        Self {
            run: row.run,
            node: row.node,
            role: row.role,
            version: row.version,
            started_ms: row.started_at,
            beats: row.beats,
            beat_ms: row.beat_at,
            worker_beat_ms: row.worker_beat_at,
            log_bytes: row.log_bytes,
            log_oldest_ms: row.log_oldest_at,
        }
    }
}
