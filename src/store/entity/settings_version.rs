//! Ranking settings, as they were applied.

use sea_orm::entity::prelude::*;

/// Ranking settings, as they were applied.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "settings_version")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub settings_json: String,
    pub created_at: i64,
    #[sea_orm(column_type = "Text")]
    pub created_by: String,
    /// why they were changed, in the words of who did it
    #[sea_orm(column_type = "Text", nullable)]
    pub note: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
