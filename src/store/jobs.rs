//! Work to do, claimed in the list's own order.
//!
//! Why a table of our own and not a job library: see `docs/ARCHITECTURE.md`, "Jobs".

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    sea_query::Expr,
};

use super::entity::job;
use super::{Store, StoreError};

/// Screening of a study's series.
pub const SCREEN: &str = "screen";

/// Making a study's results and handing them to the outbox.
pub const RESULTS: &str = "results";

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Job {
    /// Key.
    pub id: i64,
    /// What to do.
    pub kind: String,
    /// To which study.
    pub study_id: i64,
    /// As it was when claimed: finishing removes the job only if nobody asked again since.
    pub generation: i64,
    /// How often it was started, this time included.
    pub attempts: i64,
}

/// Asks for work on a study, in the transaction of the fact that makes it necessary.
/// Asking again for what is already waiting changes nothing but its generation.
pub(crate) async fn enqueue(
    tx: &DatabaseTransaction,
    kind: &str,
    study_id: i64,
    run_after: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO job (kind, study_id, run_after, generation, attempts) \
               VALUES ($1, $2, $3, 1, 0) \
               ON CONFLICT (kind, study_id) DO UPDATE SET \
               generation = job.generation + 1, attempts = 0, \
               run_after = CASE WHEN excluded.run_after < job.run_after \
                           THEN excluded.run_after ELSE job.run_after END";
    let values = vec![kind.into(), study_id.into(), run_after.into()];
    tx.execute_raw(sea_orm::Statement::from_sql_and_values(
        tx.get_database_backend(),
        sql,
        values,
    ))
    .await?;
    Ok(())
}

impl Store {
    /// Takes the job whose study stands highest in the list, for `lease_ms`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_job(
        &self,
        worker: &str,
        now_ms: i64,
        lease_ms: i64,
    ) -> Result<Option<Job>, StoreError> {
        let tx = self.begin().await?;
        let lock = if self.is_postgres() {
            "FOR UPDATE OF job SKIP LOCKED"
        } else {
            ""
        };
        let sql = format!(
            "SELECT job.id, job.kind, job.study_id, job.generation, job.attempts + 1 AS attempts \
             FROM job JOIN study ON study.id = job.study_id \
             WHERE job.run_after <= $1 AND (job.leased_until IS NULL OR job.leased_until < $1) \
             ORDER BY study.effective_arrival_ms, study.arrived_at, study.study_uid LIMIT 1 {lock}"
        );
        let found = Job::find_by_statement(self.statement(&sql, vec![now_ms.into()]))
            .one(&tx)
            .await?;
        if let Some(job) = &found {
            job::Entity::update_many()
                .col_expr(job::Column::LeasedBy, Expr::value(worker))
                .col_expr(job::Column::LeasedUntil, Expr::value(now_ms + lease_ms))
                .col_expr(job::Column::Attempts, Expr::value(job.attempts))
                .filter(job::Column::Id.eq(job.id))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
        Ok(found)
    }

    /// Prolongs the lease of a job that is still being worked on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_job(&self, id: i64, until_ms: i64) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        job::Entity::update_many()
            .col_expr(job::Column::LeasedUntil, Expr::value(until_ms))
            .filter(job::Column::Id.eq(id))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// Removes a finished job, or frees it to run again where it was asked for meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_job(&self, job: &Job) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        job::Entity::delete_many()
            .filter(job::Column::Id.eq(job.id))
            .filter(job::Column::Generation.eq(job.generation))
            .exec(&tx)
            .await?;
        job::Entity::update_many()
            .col_expr(job::Column::LeasedUntil, Expr::value(Option::<i64>::None))
            .filter(job::Column::Id.eq(job.id))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// Puts a failed job back, to run from `run_after` on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_job(
        &self,
        job: &Job,
        error: &str,
        run_after: i64,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        job::Entity::update_many()
            .col_expr(job::Column::LeasedUntil, Expr::value(Option::<i64>::None))
            .col_expr(job::Column::RunAfter, Expr::value(run_after))
            .col_expr(job::Column::LastError, Expr::value(error))
            .filter(job::Column::Id.eq(job.id))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// Frees the jobs of workers that are gone with the process that ran them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_leases(&self, worker: &str) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let freed = job::Entity::update_many()
            .col_expr(job::Column::LeasedUntil, Expr::value(Option::<i64>::None))
            .filter(job::Column::LeasedBy.eq(worker))
            .filter(job::Column::LeasedUntil.is_not_null())
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(freed.rows_affected)
    }

    /// Jobs waiting or running.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs_waiting(&self) -> Result<u64, StoreError> {
        sea_orm::PaginatorTrait::count(job::Entity::find(), self.read()).await
    }
}
