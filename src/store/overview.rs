//! What happens at the door: studies as they arrived, objects kept aside, and counts for monitoring.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, JoinType, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::entity::{instance, job, quarantine, series, study};
use super::{Store, StoreError};
use crate::clock::UnixMillis;
use crate::triage::Evidence;

/// A study as the person who sent it wants to see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrivedStudy {
    /// The number under which the log keeps it.
    pub number: i64,
    /// (0020,000D)
    pub study_uid: String,
    /// (0010,0010) as kept.
    pub patient_name: Option<String>,
    /// (0010,0020)
    pub patient_id: Option<String>,
    /// (0008,0050)
    pub accession: Option<String>,
    /// (0008,1030)
    pub description: Option<String>,
    /// Receipt of the first object.
    pub arrived_at: UnixMillis,
    /// Receipt of the last object.
    pub last_received_at: UnixMillis,
    /// Series received.
    pub series: i64,
    /// Series that count as complete.
    pub series_complete: i64,
    /// Images received.
    pub images: i64,
    /// received, screened, `not_analysed` or failed.
    pub state: String,
    /// Why it was not analysed.
    pub not_analysed_reason: Option<String>,
    /// open, read or prior.
    pub reading: String,
}

/// An object kept aside.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptAside {
    /// (0008,0018)
    pub sop_uid: String,
    /// (0020,000D), where it could be read.
    pub study_uid: Option<String>,
    /// Who sent it.
    pub calling_ae: String,
    /// Why it was kept aside.
    pub reason: String,
    /// Whether the bytes are kept.
    pub kept: bool,
    /// Size.
    pub size_bytes: i64,
    /// When.
    pub received_at: UnixMillis,
}

impl From<quarantine::Model> for KeptAside {
    fn from(row: quarantine::Model) -> Self {
        Self {
            sop_uid: row.sop_uid,
            study_uid: row.study_uid,
            calling_ae: row.calling_ae,
            reason: row.reason,
            kept: row.path.is_some(),
            size_bytes: row.size_bytes,
            received_at: row.received_at,
        }
    }
}

impl Store {
    /// What the ranking of studies screened since then rests on, the newest first, with when they
    /// were screened. Priors are not counted: they are not alerted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn past_evidence(
        &self,
        since_ms: UnixMillis,
        limit: u64,
    ) -> Result<Vec<(UnixMillis, Evidence)>, StoreError> {
        let rows: Vec<(Option<i64>, String)> = study::Entity::find()
            .select_only()
            .column(study::Column::ScreenedAt)
            .column(study::Column::EvidenceJson)
            .filter(study::Column::ScreenedAt.gte(since_ms))
            .filter(study::Column::Reading.ne("prior"))
            .order_by_desc(study::Column::ScreenedAt)
            .limit(limit)
            .into_tuple()
            .all(self.read())
            .await?;
        let evidence = |(at, json): (Option<i64>, String)| {
            let evidence = serde_json::from_str(&json).ok()?;
            Some((at?, evidence))
        };
        Ok(rows.into_iter().filter_map(evidence).collect())
    }

    /// The studies that received something last, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn arrivals(&self, limit: u64) -> Result<Vec<ArrivedStudy>, StoreError> {
        let rows = study::Entity::find()
            .order_by_desc(study::Column::LastReceivedAt)
            .limit(limit)
            .all(self.read())
            .await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut counts = self.series_counts(&ids).await?;
        for (id, images) in self.image_counts(&ids).await? {
            counts.entry(id).or_default().2 = images;
        }
        Ok(rows
            .into_iter()
            .map(|row| {
                let (series, series_complete, images) =
                    counts.get(&row.id).copied().unwrap_or_default();
                ArrivedStudy {
                    number: row.id,
                    study_uid: row.study_uid,
                    patient_name: row.patient_name,
                    patient_id: row.patient_id,
                    accession: row.accession,
                    description: row.description,
                    arrived_at: row.arrived_at,
                    last_received_at: row.last_received_at,
                    series,
                    series_complete,
                    images,
                    state: row.state,
                    not_analysed_reason: row.not_analysed_reason,
                    reading: row.reading,
                }
            })
            .collect())
    }

    /// Study to (series, complete series, 0).
    async fn series_counts(
        &self,
        study_ids: &[i64],
    ) -> Result<HashMap<i64, (i64, i64, i64)>, StoreError> {
        let rows: Vec<(i64, i64, i64)> = series::Entity::find()
            .select_only()
            .column(series::Column::StudyId)
            .column_as(series::Column::Id.count(), "series")
            .column_as(series::Column::SettledImages.count(), "complete")
            .filter(series::Column::StudyId.is_in(study_ids.iter().copied()))
            .group_by(series::Column::StudyId)
            .into_tuple()
            .all(self.read())
            .await?;
        Ok(rows
            .into_iter()
            .map(|(id, n, done)| (id, (n, done, 0)))
            .collect())
    }

    /// Study to images.
    async fn image_counts(&self, study_ids: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
        instance::Entity::find()
            .select_only()
            .column(series::Column::StudyId)
            .column_as(instance::Column::Id.count(), "images")
            .join(
                JoinType::InnerJoin,
                instance::Entity::belongs_to(series::Entity)
                    .from(instance::Column::SeriesId)
                    .to(series::Column::Id)
                    .into(),
            )
            .filter(series::Column::StudyId.is_in(study_ids.iter().copied()))
            .group_by(series::Column::StudyId)
            .into_tuple()
            .all(self.read())
            .await
    }

    /// The objects kept aside last, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn kept_aside(&self, limit: u64) -> Result<Vec<KeptAside>, StoreError> {
        let rows = quarantine::Entity::find()
            .order_by_desc(quarantine::Column::Id)
            .limit(limit)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(KeptAside::from).collect())
    }

    /// The objects of one study that were kept aside, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn kept_aside_of(
        &self,
        study_uid: &str,
        limit: u64,
    ) -> Result<Vec<KeptAside>, StoreError> {
        let rows = quarantine::Entity::find()
            .filter(quarantine::Column::StudyUid.eq(study_uid))
            .order_by_desc(quarantine::Column::Id)
            .limit(limit)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(KeptAside::from).collect())
    }

    /// Open studies by state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_studies_by_state(&self) -> Result<Vec<(String, i64)>, StoreError> {
        study::Entity::find()
            .select_only()
            .column(study::Column::State)
            .column_as(study::Column::Id.count(), "studies")
            .filter(study::Column::Reading.eq("open"))
            .group_by(study::Column::State)
            .into_tuple()
            .all(self.read())
            .await
    }

    /// Open studies by band.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_studies_by_band(&self) -> Result<Vec<(String, i64)>, StoreError> {
        #[derive(FromQueryResult)]
        struct OfBand {
            band: String,
            studies: i64,
        }
        // 'open' is written out: with a bound value SQLite cannot use the index of open studies.
        let sql =
            "SELECT band, COUNT(*) AS studies FROM study WHERE reading = 'open' GROUP BY band";
        let rows = OfBand::find_by_statement(self.statement(sql, vec![]))
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(|r| (r.band, r.studies)).collect())
    }

    /// Jobs that wait or run.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn queued_jobs(&self) -> Result<u64, StoreError> {
        job::Entity::find().count(self.read()).await
    }

    /// Objects kept aside.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn kept_aside_count(&self) -> Result<u64, StoreError> {
        quarantine::Entity::find().count(self.read()).await
    }
}
