//! How far asking for a study's priors is.

use sea_orm::entity::prelude::*;

/// How far asking for a study's priors is.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "prior_search")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub study_id: i64,
    /// waiting, done or failed
    #[sea_orm(column_type = "Text")]
    pub state: String,
    pub attempts: i64,
    pub run_after: i64,
    pub found: i64,
    pub moved: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub said: Option<String>,
    pub changed_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
