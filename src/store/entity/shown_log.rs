//! What was shown to whom and when.

use sea_orm::entity::prelude::*;

/// What was shown to whom and when.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "shown_log")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub at: i64,
    #[sea_orm(column_type = "Text")]
    pub who: String,
    /// list, study, audit, opinions, api, fhir or intake
    #[sea_orm(column_type = "Text")]
    pub what: String,
    pub study_id: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub query: Option<String>,
    pub settings_version: i64,
    #[sea_orm(column_type = "Text")]
    pub shown_json: String,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
