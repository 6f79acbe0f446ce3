//! What analysis found, kept per series.

use std::collections::BTreeMap;

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::OnConflict};
use serde::{Deserialize, Serialize};

use super::entity::screening;
use super::{Store, StoreError};
use crate::triage::Finding;
use crate::worklist::VolumeDetail;

/// Outcome of screening one series, as stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScreeningResult {
    /// `T1`, `FLAIR` or what else the series was taken for.
    pub contrast: String,
    /// Study logit of the network, before calibration.
    pub p_logit: Option<f64>,
    /// Probability calibrated on generated validation maps.
    pub p_calibrated: Option<f64>,
    /// Share of abnormal cases among those maps.
    pub prevalence_train: Option<f64>,
    /// "This is a head" logit.
    pub head_logit: Option<f64>,
    /// Coarse volumes.
    pub volumes: Vec<VolumeDetail>,
    /// Findings from volumes and abnormality map.
    pub findings: Vec<Finding>,
    /// Centre of the largest region that differs, RAS mm: the pictures go through it.
    pub focus_mm: Option<[f64; 3]>,
    /// Planes of which there are pictures.
    pub pictures: Vec<String>,
    /// Stage times in milliseconds.
    pub timings_ms: BTreeMap<String, u64>,
}

/// One row of `screening`, in plain types.
#[derive(Debug, Clone, PartialEq)]
pub struct ScreeningRow {
    /// (0020,000E)
    pub series_uid: String,
    /// What was analysed: series, images and model. The same input is never analysed twice.
    pub input: String,
    /// screened, `not_analysed` or failed.
    pub outcome: String,
    /// Why, where it was not screened.
    pub reason: Option<String>,
    /// Slices are missing as far as is known: raises no alert.
    pub partial_volume: bool,
    /// Name and version of the network.
    pub model: String,
    /// Execution provider.
    pub provider: String,
    /// The result.
    pub result: ScreeningResult,
    /// When it was made.
    pub created_at: i64,
}

impl Store {
    /// All screenings of a study.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn screenings(&self, study_id: i64) -> Result<Vec<ScreeningRow>, StoreError> {
        let rows = screening::Entity::find()
            .filter(screening::Column::StudyId.eq(study_id))
            .all(self.read())
            .await?;
        Ok(rows
            .into_iter()
            .map(|r| ScreeningRow {
                series_uid: r.series_uid,
                input: r.input,
                outcome: r.outcome,
                reason: r.reason,
                partial_volume: r.partial_volume,
                model: r.model,
                provider: r.provider,
                result: serde_json::from_str(&r.result_json).unwrap_or_default(),
                created_at: r.created_at,
            })
            .collect())
    }

    /// Keeps a screening in place of an earlier one of the same series.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_screening(
        &self,
        study_id: i64,
        row: &ScreeningRow,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        use screening::Column as C;
        let tx = self.begin().await?;
        screening::Entity::insert(screening::ActiveModel {
            study_id: Set(study_id),
            series_uid: Set(row.series_uid.clone()),
            input: Set(row.input.clone()),
            outcome: Set(row.outcome.clone()),
            reason: Set(row.reason.clone()),
            partial_volume: Set(row.partial_volume),
            model: Set(row.model.clone()),
            provider: Set(row.provider.clone()),
            result_json: Set(serde_json::to_string(&row.result).unwrap_or_default()),
            created_at: Set(now_ms),
            ..Default::default()
        })
        .on_conflict(
            OnConflict::columns([C::StudyId, C::SeriesUid])
                .update_columns([
                    C::Input,
                    C::Outcome,
                    C::Reason,
                    C::PartialVolume,
                    C::Model,
                    C::Provider,
                    C::ResultJson,
                    C::CreatedAt,
                ])
                .to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
        tx.commit().await
    }
}
