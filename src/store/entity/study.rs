//! A study: who, when, what became of it and where it stands in the list.

use sea_orm::entity::prelude::*;

/// A study: who, when, what became of it and where it stands in the list.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "study")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub study_uid: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub patient_id: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub patient_issuer: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub patient_name: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub birth_date: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub sex: Option<String>,
    pub age_years: Option<f64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub study_date: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub study_time: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub accession: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub accession_issuer: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub description: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub referrer: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub institution: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub modality: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub body_part: Option<String>,
    /// arrival of the first object: what waiting is counted from
    pub arrived_at: i64,
    pub last_received_at: i64,
    /// open, read or prior; only open studies are listed
    #[sea_orm(column_type = "Text")]
    pub reading: String,
    /// received, screened, not_analysed or failed: about screening only
    #[sea_orm(column_type = "Text")]
    pub state: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub not_analysed_reason: Option<String>,
    /// pending, done or not_done, with its own reason
    #[sea_orm(column_type = "Text")]
    pub volumetry: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub volumetry_reason: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub looked_at: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub note: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub order_priority: String,
    /// raw evidence; minutes are derived from it, so that new settings can re-key the list
    #[sea_orm(column_type = "Text")]
    pub evidence_json: String,
    #[sea_orm(column_type = "Text")]
    pub ranking_json: String,
    pub settings_version: i64,
    pub head_start_ms: i64,
    /// the list's order: arrived_at - head_start_ms
    pub effective_arrival_ms: i64,
    #[sea_orm(column_type = "Text")]
    pub band: String,
    #[sea_orm(column_type = "Text")]
    pub highest_band: String,
    pub p_abnormal: Option<f64>,
    pub screened_at: Option<i64>,
    pub analysed_at: Option<i64>,
    pub changed_at: i64,
    /// what a search looks through
    #[sea_orm(column_type = "Text")]
    pub search_text: String,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
