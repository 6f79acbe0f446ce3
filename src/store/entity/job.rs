//! Work to do on a study.

use sea_orm::entity::prelude::*;

/// Work to do on a study.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "job")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    pub study_id: i64,
    pub run_after: i64,
    /// raised by every request; a job that was asked for again while it ran runs again
    pub generation: i64,
    pub attempts: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub leased_by: Option<String>,
    pub leased_until: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub last_error: Option<String>,
    /// how often its process ended under it
    #[sea_orm(default_value = 0)]
    pub interrupted: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
