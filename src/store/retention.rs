//! Removing images of studies that were read. What was found stays: ranks, volumes, pictures, results.
//!
//! Rows go first, then files. That a study's images were forgotten is kept from the transaction that forgets them
//! until their files are gone, so a process that dies in between leaves work, and no orphans.

use std::collections::HashSet;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
};

use super::entity::{instance, job, series, study};
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// Studies that are looked up at once.
pub const CANDIDATES_MAX: i64 = 50;
/// What a study says whose images were removed.
pub const REMOVED_NOTE: &str = "images removed here, as they were read";

/// A study whose images may be removed.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Removable {
    /// Key.
    pub id: i64,
    /// (0020,000D)
    pub study_uid: String,
}

/// A study whose images were forgotten and whose files may still be there.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Forgotten {
    /// Key.
    pub id: i64,
    /// (0020,000D)
    pub study_uid: String,
}

#[derive(FromQueryResult)]
struct PathRow {
    path: String,
}

impl Store {
    /// Studies with images that were read, or are priors, since before `until_ms`: the longest read first,
    /// then priors. Never one that waits to be read, and none that something is still to be done with.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn removable_studies(
        &self,
        until_ms: UnixMillis,
    ) -> Result<Vec<Removable>, StoreError> {
        let sql = "SELECT s.id, s.study_uid FROM study s WHERE s.reading IN ('read', 'prior') \
                   AND s.changed_at < $1 AND s.last_received_at < $1 \
                   AND NOT EXISTS (SELECT 1 FROM job j WHERE j.study_id = s.id) \
                   AND EXISTS (SELECT 1 FROM series r JOIN instance i ON i.series_id = r.id \
                    WHERE r.study_id = s.id) \
                   ORDER BY CASE s.reading WHEN 'read' THEN 0 ELSE 1 END, s.changed_at, s.id LIMIT $2";
        let values = vec![until_ms.into(), CANDIDATES_MAX.into()];
        Removable::find_by_statement(self.statement(sql, values))
            .all(self.read())
            .await
    }

    /// Forgets the images of a study, so that their files may be removed, and keeps that this is to be done;
    /// `false` where it is waited for again, or something came for it, since it was looked up. A resend brings
    /// them back. Whoever removes the files holds the study from before this on (`hold_studies`): a late image
    /// is recorded either before, and then nothing is removed, or afterwards, and then its file stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_images(
        &self,
        study_id: i64,
        until_ms: UnixMillis,
        now_ms: UnixMillis,
    ) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let found = study::Entity::find_by_id(study_id)
            .lock_exclusive()
            .one(&tx)
            .await?;
        let removable = |s: &study::Model| {
            (s.reading == "read" || s.reading == "prior")
                && s.changed_at < until_ms
                && s.last_received_at < until_ms
        };
        let wanted_for = job::Entity::find().filter(job::Column::StudyId.eq(study_id));
        let Some(found) = found.filter(removable) else {
            return Ok(false);
        };
        if wanted_for.one(&tx).await?.is_some() {
            return Ok(false);
        }
        let of_study = series::Entity::find()
            .select_only()
            .column(series::Column::Id)
            .filter(series::Column::StudyId.eq(study_id));
        let of_study = sea_orm::QueryTrait::into_query(of_study);
        instance::Entity::delete_many()
            .filter(instance::Column::SeriesId.in_subquery(of_study))
            .exec(&tx)
            .await?;
        study::Entity::update_many()
            .col_expr(study::Column::Note, Expr::value(REMOVED_NOTE))
            .filter(study::Column::Id.eq(study_id))
            .exec(&tx)
            .await?;
        let sql = "INSERT INTO forgotten_study (study_uid, forgotten_at) VALUES ($1, $2) \
                   ON CONFLICT (study_uid) DO UPDATE SET forgotten_at = excluded.forgotten_at";
        let values = vec![found.study_uid.into(), now_ms.into()];
        tx.execute_raw(self.statement(sql, values)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Studies whose images were forgotten and whose files may still be there, from a key on, in pages.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forgotten_studies(&self, after: i64) -> Result<Vec<Forgotten>, StoreError> {
        let sql = "SELECT id, study_uid FROM forgotten_study WHERE id > $1 ORDER BY id LIMIT $2";
        let values = vec![after.into(), CANDIDATES_MAX.into()];
        Forgotten::find_by_statement(self.statement(sql, values))
            .all(self.read())
            .await
    }

    /// Where the recorded objects of a study are, relative to the data folder. Whoever removes the others
    /// holds the study from before this on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recorded_paths(&self, study_uid: &str) -> Result<HashSet<String>, StoreError> {
        let sql = "SELECT i.path FROM study s JOIN series r ON r.study_id = s.id \
                   JOIN instance i ON i.series_id = r.id WHERE s.study_uid = $1";
        let rows = PathRow::find_by_statement(self.statement(sql, vec![study_uid.into()]))
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(|row| row.path).collect())
    }

    /// The files of a study's forgotten images are gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forgotten_are_gone(&self, study_uid: &str) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let sql = "DELETE FROM forgotten_study WHERE study_uid = $1";
        tx.execute_raw(self.statement(sql, vec![study_uid.into()]))
            .await?;
        tx.commit().await
    }
}
