//! Whose earlier studies are to be asked for, and which were.

use std::collections::HashSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    QuerySelect,
    sea_query::{Expr, OnConflict},
};
use serde::Serialize;

use super::entity::{asked_prior, prior_search, study};
use super::{Store, StoreError};
use crate::clock::rfc3339;

/// Longest reason that is kept, characters.
const SAID_CHARS_MAX: usize = 500;

/// What a PACS is asked about a study.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// (0020,000D) of the present study.
    pub study_uid: String,
    /// (0010,0020)
    pub patient_id: String,
    /// (0010,0021)
    pub issuer: Option<String>,
    /// (0010,0030)
    pub birth_date: Option<String>,
    /// (0008,0020), `YYYYMMDD`.
    pub date: String,
}

/// A search that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Key of the present study.
    pub study_id: i64,
    /// This attempt, from 1.
    pub attempts: i64,
    /// What to ask.
    pub question: Question,
}

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchState {
    /// It failed and runs again.
    Waiting {
        /// Not before.
        run_after: i64,
    },
    /// All that is wanted is here.
    Done,
    /// Given up.
    Failed,
}

/// How far asking for a study's priors is, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriorSearch {
    /// waiting, done or failed.
    pub state: String,
    /// Attempts begun.
    pub attempts: i64,
    /// Studies that fit.
    pub found: i64,
    /// Of those, which are here.
    pub moved: i64,
    /// What came of the last attempt.
    pub said: Option<String>,
    /// When, RFC 3339.
    pub changed_at: String,
}

#[derive(FromQueryResult)]
struct Candidate {
    id: i64,
    study_uid: String,
    patient_id: String,
    patient_issuer: Option<String>,
    birth_date: Option<String>,
    study_date: Option<String>,
    attempts: i64,
}

/// Whether a study was asked for.
pub(super) async fn is_expected(
    tx: &DatabaseTransaction,
    study_uid: &str,
) -> Result<bool, StoreError> {
    let found = asked_prior::Entity::find_by_id(study_uid.to_owned());
    Ok(found.one(tx).await?.is_some())
}

impl Store {
    /// Begins the search for the open study that stands highest of those that were not asked about, or
    /// whose next attempt is due. Another process finds it again after `until_ms` only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_prior_search(
        &self,
        now_ms: i64,
        until_ms: i64,
    ) -> Result<Option<Search>, StoreError> {
        let tx = self.begin().await?;
        // 'open' is written out: with a bound value SQLite cannot use the index of open studies.
        let sql = "SELECT study.id, study.study_uid, study.patient_id, study.patient_issuer, \
                   study.birth_date, study.study_date, COALESCE(p.attempts, 0) + 1 AS attempts \
                   FROM study LEFT JOIN prior_search p ON p.study_id = study.id \
                   WHERE study.reading = 'open' AND study.patient_id IS NOT NULL \
                   AND (p.study_id IS NULL OR (p.state = 'waiting' AND p.run_after <= $1)) \
                   ORDER BY study.effective_arrival_ms, study.arrived_at, study.study_uid LIMIT 1";
        let found = Candidate::find_by_statement(self.statement(sql, vec![now_ms.into()]))
            .one(&tx)
            .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let sql = "INSERT INTO prior_search \
                   (study_id, state, attempts, run_after, found, moved, said, changed_at) \
                   VALUES ($1, 'waiting', 1, $2, 0, 0, NULL, $3) \
                   ON CONFLICT (study_id) DO UPDATE SET \
                   attempts = prior_search.attempts + 1, run_after = excluded.run_after, \
                   changed_at = excluded.changed_at \
                   WHERE prior_search.state = 'waiting' AND prior_search.run_after <= $3";
        let values = vec![found.id.into(), until_ms.into(), now_ms.into()];
        let taken = tx.execute_raw(self.statement(sql, values)).await?;
        tx.commit().await?;
        let search = Search {
            study_id: found.id,
            attempts: found.attempts,
            question: Question {
                study_uid: found.study_uid,
                patient_id: found.patient_id.trim().to_owned(),
                issuer: found.patient_issuer,
                birth_date: found.birth_date,
                date: found.study_date.unwrap_or_default().trim().to_owned(),
            },
        };
        Ok((taken.rows_affected() > 0).then_some(search))
    }

    /// Notes what came of a search: `(found, moved)`, and in words.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_prior_search(
        &self,
        study_id: i64,
        state: SearchState,
        (found, moved): (i64, i64),
        said: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        use prior_search::Column as C;
        let (state, run_after) = match state {
            SearchState::Waiting { run_after } => ("waiting", run_after),
            SearchState::Done => ("done", now_ms),
            SearchState::Failed => ("failed", now_ms),
        };
        let said: String = said.chars().take(SAID_CHARS_MAX).collect();
        let tx = self.begin().await?;
        prior_search::Entity::update_many()
            .col_expr(C::State, Expr::value(state))
            .col_expr(C::RunAfter, Expr::value(run_after))
            .col_expr(C::Found, Expr::value(found))
            .col_expr(C::Moved, Expr::value(moved))
            .col_expr(C::Said, Expr::value(said))
            .col_expr(C::ChangedAt, Expr::value(now_ms))
            .filter(C::StudyId.eq(study_id))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// How far asking for a study's priors is; `None` where nobody was asked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prior_search(&self, study_id: i64) -> Result<Option<PriorSearch>, StoreError> {
        let row = prior_search::Entity::find_by_id(study_id)
            .one(self.read())
            .await?;
        Ok(row.map(|row| PriorSearch {
            state: row.state,
            attempts: row.attempts,
            found: row.found,
            moved: row.moved,
            said: row.said,
            changed_at: rfc3339(row.changed_at),
        }))
    }

    /// Which of these studies were received already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn studies_here(&self, uids: &[String]) -> Result<HashSet<String>, StoreError> {
        let here: Vec<String> = study::Entity::find()
            .select_only()
            .column(study::Column::StudyUid)
            .filter(study::Column::StudyUid.is_in(uids))
            .into_tuple()
            .all(self.read())
            .await?;
        Ok(here.into_iter().collect())
    }

    /// Notes that a study was asked for, before it is: what arrives of it is a prior.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn expect_prior(
        &self,
        study_uid: &str,
        for_study_id: i64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        asked_prior::Entity::insert(asked_prior::ActiveModel {
            study_uid: Set(study_uid.to_owned()),
            for_study_id: Set(for_study_id),
            asked_at: Set(now_ms),
        })
        .on_conflict(
            OnConflict::column(asked_prior::Column::StudyUid)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
        tx.commit().await
    }
}
