//! Work to do, claimed in the list's own order.
//!
//! Why a table of our own and not a job library: see `docs/ARCHITECTURE.md`, "Jobs".

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait,
    FromQueryResult, QueryFilter, QuerySelect,
    sea_query::{Expr, Query},
};

use super::entity::{job, screening, study};
use super::{Store, StoreError};

/// Screening of a study's series.
pub const SCREEN: &str = "screen";
/// Measuring of a screened study.
pub const VOLUMETRY: &str = "volumetry";

/// Comparing a measured study with earlier ones of its patient.
pub const FOLLOW_UP: &str = "follow_up";

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
    /// How often its process ended under it; not counted as attempts.
    pub interrupted: i64,
    /// Who has its lease.
    #[sea_orm(skip)]
    pub worker: String,
}

/// Between what was looked at and why looking once more failed.
pub(crate) const FAILED_AGAIN: &str = "screening again failed: ";
/// No job is put off for longer: what seems to be was put off by a clock that was set back since.
const PUT_OFF_MS_MAX: i64 = 600_000;
/// So often a job may lose its process, or lease: it may be what ends them.
pub const LOST_MAX: i64 = 10;
/// What lost its process so often may be what ends it: of such jobs a process runs one at a time, so that no other is
/// counted out with it.
const ALONE_FROM: i64 = 2;

/// Asks for work on a study, in the transaction of the fact that makes it necessary.
/// Asking again for what is already waiting changes nothing but its generation; how often it ended its process stays,
/// and how long it is put off for that. But what is new has one try more: nobody looked at it yet.
pub(crate) async fn enqueue(
    tx: &DatabaseTransaction,
    kind: &str,
    study_id: i64,
    run_after: i64,
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO job (kind, study_id, run_after, generation, attempts) \
         VALUES ($1, $2, $3, 1, 0) \
         ON CONFLICT (kind, study_id) DO UPDATE SET \
         generation = job.generation + 1, attempts = 0, \
         interrupted = CASE WHEN job.interrupted < {LOST_MAX} THEN job.interrupted ELSE {LOST_MAX} - 1 END, \
         run_after = CASE WHEN excluded.run_after < job.run_after AND job.interrupted < {ALONE_FROM} \
                     THEN excluded.run_after ELSE job.run_after END"
    );
    let values = vec![kind.into(), study_id.into(), run_after.into()];
    tx.execute_raw(sea_orm::Statement::from_sql_and_values(
        tx.get_database_backend(),
        &sql,
        values,
    ))
    .await?;
    Ok(())
}

impl Store {
    /// Takes the job of a kind whose study stands highest in the list, for `lease_ms`.
    /// Studies are not measured while a screening waits or runs, and no results are made of a study
    /// that is still to be looked at: a PACS would get them twice. Of jobs that may be what ended their process
    /// this one runs one at a time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_job(
        &self,
        kind: &str,
        worker: &str,
        now_ms: i64,
        lease_ms: i64,
    ) -> Result<Option<Job>, StoreError> {
        // One at a time: two workers would each find that the other runs nothing that may end the process.
        let _alone = self.claims.lock().await;
        let tx = self.begin().await?;
        let lock = if self.is_postgres() {
            "FOR UPDATE OF job SKIP LOCKED"
        } else {
            ""
        };
        let idle = match kind {
            VOLUMETRY => {
                "AND NOT EXISTS (SELECT 1 FROM job s WHERE s.kind = 'screen' AND s.run_after <= $1 \
                 AND (s.leased_until IS NULL OR s.leased_until < $1 OR s.leased_by LIKE $3))"
            }
            RESULTS => {
                "AND NOT EXISTS (SELECT 1 FROM job s WHERE s.kind <> 'results' AND s.study_id = job.study_id)"
            }
            _ => "",
        };
        let sql = format!(
            "SELECT job.id, job.kind, job.study_id, job.generation, job.attempts + 1 AS attempts, job.interrupted \
             FROM job JOIN study ON study.id = job.study_id \
             WHERE job.kind = $2 AND (job.run_after <= $1 OR job.run_after > $1 + {PUT_OFF_MS_MAX}) \
             AND (job.leased_until IS NULL OR job.leased_until < $1) {idle} \
             AND (job.interrupted < {ALONE_FROM} OR NOT EXISTS (SELECT 1 FROM job s WHERE s.interrupted >= {ALONE_FROM} \
             AND s.leased_until >= $1 AND s.leased_by LIKE $3)) \
             ORDER BY CASE WHEN study.reading = 'prior' THEN 1 ELSE 0 END, study.effective_arrival_ms, study.arrived_at, study.study_uid LIMIT 1 {lock}"
        );
        // Screenings that other processes run take no core of this one, and end no other than theirs.
        let own = format!("{}%", worker.split(':').next().unwrap_or(worker));
        let values = vec![now_ms.into(), kind.into(), own.into()];
        let mut found = Job::find_by_statement(self.statement(&sql, values))
            .one(&tx)
            .await?;
        if let Some(job) = &mut found {
            worker.clone_into(&mut job.worker);
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

    /// Asks for one more screening of those of these studies whose screening, or a series of whom, failed, also where what
    /// was found before stands: their images came again, so somebody wants it. Whether there were any.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn screen_failed_again(
        &self,
        study_uids: &[&str],
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let undecodable = Query::select()
            .column(screening::Column::StudyId)
            .from(screening::Entity)
            .and_where(screening::Column::Outcome.eq("failed"))
            .and_where(
                Expr::col((screening::Entity, screening::Column::StudyId))
                    .equals((study::Entity, study::Column::Id)),
            )
            .to_owned();
        let failed = Condition::any()
            .add(study::Column::State.eq("failed"))
            .add(study::Column::LookedAt.contains(FAILED_AGAIN))
            .add(Expr::exists(undecodable));
        let failed = study::Entity::find()
            .select_only()
            .column(study::Column::Id)
            .filter(failed)
            .filter(study::Column::StudyUid.is_in(study_uids.iter().copied()));
        // a look costs no turn at writing; nearly always there is none
        let ids: Vec<i64> = failed.into_tuple().all(self.read()).await?;
        if ids.is_empty() {
            return Ok(false);
        }
        let tx = self.begin().await?;
        let sql = "INSERT INTO job (kind, study_id, run_after, generation, attempts) \
                   VALUES ($1, $2, $3, 1, 0) ON CONFLICT (kind, study_id) DO NOTHING";
        let mut asked = 0;
        for id in ids {
            let values = vec![SCREEN.into(), id.into(), now_ms.into()];
            let said = tx.execute_raw(self.statement(sql, values)).await?;
            asked += said.rows_affected();
        }
        tx.commit().await?;
        Ok(asked > 0)
    }

    /// Prolongs the lease of a job that is still being worked on. `false` where it is another's now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_job(&self, job: &Job, until_ms: i64) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let kept = job::Entity::update_many()
            .col_expr(job::Column::LeasedUntil, Expr::value(until_ms))
            .filter(job::Column::Id.eq(job.id))
            .filter(job::Column::LeasedBy.eq(&job.worker))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(kept.rows_affected > 0)
    }

    /// Removes a job that is over, done or given up, or frees it to run again where it was asked for meanwhile.
    /// One whose lease is another's now is left to that. `done`: its work does not end processes, then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_job(&self, job: &Job, done: bool) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        job::Entity::delete_many()
            .filter(job::Column::Id.eq(job.id))
            .filter(job::Column::Generation.eq(job.generation))
            .filter(job::Column::LeasedBy.eq(&job.worker))
            .exec(&tx)
            .await?;
        let mut again = job::Entity::update_many()
            .col_expr(job::Column::LeasedUntil, Expr::value(Option::<i64>::None))
            .filter(job::Column::Id.eq(job.id))
            .filter(job::Column::LeasedBy.eq(&job.worker));
        if done {
            again = again.col_expr(job::Column::Interrupted, Expr::value(0));
        }
        again.exec(&tx).await?;
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
            .filter(job::Column::LeasedBy.eq(&job.worker))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// Whether a screening waits or runs. One that runs alone may be waiting for whoever asks, and is not waited for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn screening_waits(&self, now_ms: i64) -> Result<bool, StoreError> {
        let waited_for = Condition::any()
            .add(job::Column::Interrupted.lt(ALONE_FROM))
            .add(job::Column::LeasedUntil.is_not_null());
        let waiting = job::Entity::find()
            .filter(job::Column::Kind.eq(SCREEN))
            .filter(job::Column::RunAfter.lte(now_ms))
            .filter(waited_for)
            .one(self.read())
            .await?;
        Ok(waiting.is_some())
    }

    /// Jobs waiting or running.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs_waiting(&self) -> Result<u64, StoreError> {
        sea_orm::PaginatorTrait::count(job::Entity::find(), self.read()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::results::{ScreeningResult, ScreeningRow};
    use sea_orm::{ActiveModelTrait, ActiveValue::Set};

    const NOW: i64 = 1_000_000;

    async fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(None, folder.path()).await.unwrap()
    }

    /// A study whose head start is `minutes`.
    async fn study(store: &Store, minutes: i64) -> i64 {
        let tx = store.begin().await.unwrap();
        let text = |text: &str| Set(text.to_owned());
        let row = study::ActiveModel {
            study_uid: text(&format!("1.2.{minutes}")),
            arrived_at: Set(0),
            last_received_at: Set(0),
            reading: text("open"),
            state: text("screened"),
            volumetry: text("pending"),
            order_priority: text("routine"),
            evidence_json: text("{}"),
            ranking_json: text("{}"),
            settings_version: Set(1),
            head_start_ms: Set(minutes * 60_000),
            effective_arrival_ms: Set(-minutes * 60_000),
            band: text("routine"),
            highest_band: text("routine"),
            changed_at: Set(0),
            ..Default::default()
        };
        let id = row.insert(&tx).await.unwrap().id;
        tx.commit().await.unwrap();
        id
    }

    async fn ask(store: &Store, kind: &str, study_id: i64, run_after: i64) {
        let tx = store.begin().await.unwrap();
        enqueue(&tx, kind, study_id, run_after).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn claim(store: &Store, kind: &str) -> Option<Job> {
        store.claim_job(kind, "worker", NOW, 1000).await.unwrap()
    }

    #[tokio::test]
    async fn measuring_waits_for_screenings_and_takes_the_most_urgent_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let (later, sooner) = (study(&store, 5).await, study(&store, 90).await);
        for id in [later, sooner] {
            ask(&store, VOLUMETRY, id, 0).await;
        }
        ask(&store, SCREEN, later, 0).await;
        assert!(store.screening_waits(NOW).await.unwrap());
        assert_eq!(claim(&store, VOLUMETRY).await, None, "a screening waits");
        let screening = claim(&store, SCREEN).await.unwrap();
        assert_eq!(
            (screening.study_id, screening.kind.as_str()),
            (later, SCREEN)
        );
        assert_eq!(claim(&store, VOLUMETRY).await, None, "a screening runs");
        store.finish_job(&screening, true).await.unwrap();
        assert!(!store.screening_waits(NOW).await.unwrap());
        assert_eq!(claim(&store, VOLUMETRY).await.unwrap().study_id, sooner);
        assert_eq!(claim(&store, VOLUMETRY).await.unwrap().study_id, later);
        assert_eq!(claim(&store, VOLUMETRY).await, None, "all are taken");
    }

    #[tokio::test]
    async fn a_screening_that_is_put_off_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let id = study(&store, 5).await;
        ask(&store, VOLUMETRY, id, 0).await;
        ask(&store, SCREEN, id, NOW + 60_000).await;
        assert_eq!(claim(&store, SCREEN).await, None);
        assert_eq!(claim(&store, VOLUMETRY).await.unwrap().study_id, id);
    }

    #[tokio::test]
    async fn results_wait_for_everything_else_of_their_study() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let (busy, done) = (study(&store, 90).await, study(&store, 5).await);
        ask(&store, RESULTS, busy, 0).await;
        ask(&store, RESULTS, done, 0).await;
        ask(&store, SCREEN, busy, 0).await;
        assert_eq!(claim(&store, RESULTS).await.unwrap().study_id, done);
        assert_eq!(claim(&store, RESULTS).await, None);
        let screening = claim(&store, SCREEN).await.unwrap();
        assert_eq!(claim(&store, RESULTS).await, None, "still being screened");
        store.finish_job(&screening, true).await.unwrap();
        assert_eq!(claim(&store, RESULTS).await.unwrap().study_id, busy);
    }

    #[tokio::test]
    async fn images_that_come_again_ask_for_what_failed_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let (failed, fine) = (study(&store, 90).await, study(&store, 5).await);
        let (stands, undecodable) = (study(&store, 60).await, study(&store, 30).await);
        let tx = store.begin().await.unwrap();
        for (id, column, value) in [
            (failed, study::Column::State, "failed".to_owned()),
            (
                stands,
                study::Column::LookedAt,
                format!("T1; {FAILED_AGAIN}killed"),
            ),
            (undecodable, study::Column::State, "not_analysed".to_owned()),
        ] {
            study::Entity::update_many()
                .col_expr(column, Expr::value(value))
                .filter(study::Column::Id.eq(id))
                .exec(&tx)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        for (id, outcome) in [(undecodable, "failed"), (fine, "not_analysed")] {
            let row = ScreeningRow {
                series_uid: "1.3".into(),
                input: String::new(),
                outcome: outcome.into(),
                reason: None,
                partial_volume: false,
                model: String::new(),
                provider: String::new(),
                result: ScreeningResult::default(),
                created_at: 0,
            };
            store.keep_screening(id, &row, NOW).await.unwrap();
        }
        let again = async || {
            let uids = ["1.2.90", "1.2.60", "1.2.30", "1.2.5", "1.2.7"];
            store.screen_failed_again(&uids, NOW).await.unwrap()
        };
        assert!(again().await);
        assert!(!again().await, "it waits already");
        for id in [failed, stands, undecodable] {
            assert_eq!(claim(&store, SCREEN).await.unwrap().study_id, id);
        }
        assert_eq!(claim(&store, SCREEN).await, None, "{fine} needs none");
    }

    #[tokio::test]
    async fn what_is_new_is_tried_once_more_and_no_sooner() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let id = study(&store, 5).await;
        ask(&store, SCREEN, id, NOW).await;
        let ended = async |times: i64, run_after: i64| {
            let tx = store.begin().await.unwrap();
            job::Entity::update_many()
                .col_expr(job::Column::Interrupted, Expr::value(times))
                .col_expr(job::Column::RunAfter, Expr::value(run_after))
                .exec(&tx)
                .await
                .unwrap();
            tx.commit().await.unwrap();
        };
        ended(LOST_MAX, NOW + 80_000).await;
        ask(&store, SCREEN, id, NOW).await;
        assert_eq!(claim(&store, SCREEN).await, None, "put off as before");
        ended(LOST_MAX, NOW).await;
        ask(&store, SCREEN, id, NOW).await;
        assert!(store.screening_waits(NOW).await.is_ok_and(|waits| !waits));
        let job = claim(&store, SCREEN).await.unwrap();
        assert_eq!(job.interrupted, LOST_MAX - 1);
        assert!(store.screening_waits(NOW).await.unwrap(), "it runs");
        // asked for while it ran, and it went well: nothing is held against the next
        ask(&store, SCREEN, id, NOW).await;
        store.finish_job(&job, true).await.unwrap();
        assert_eq!(claim(&store, SCREEN).await.unwrap().interrupted, 0);
    }
}
