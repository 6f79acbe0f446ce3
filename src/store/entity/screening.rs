//! What the screening network said about one series.

use sea_orm::entity::prelude::*;

/// What the screening network said about one series.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "screening")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub study_id: i64,
    #[sea_orm(column_type = "Text")]
    pub series_uid: String,
    /// series, its images and the model: the same input is never analysed twice
    #[sea_orm(column_type = "Text")]
    pub input: String,
    /// screened, not_analysed or failed
    #[sea_orm(column_type = "Text")]
    pub outcome: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub reason: Option<String>,
    pub partial_volume: bool,
    #[sea_orm(column_type = "Text")]
    pub model: String,
    #[sea_orm(column_type = "Text")]
    pub provider: String,
    #[sea_orm(column_type = "Text")]
    pub result_json: String,
    pub created_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
