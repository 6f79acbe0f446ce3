//! Where something is delivered to, and how that goes.

use sea_orm::entity::prelude::*;

/// Where something is delivered to, and how that goes.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "destination")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub name: String,
    pub paused_at: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub paused_by: Option<String>,
    pub delivered_at: Option<i64>,
    pub failed_at: Option<i64>,
    pub failures: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub last_error: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
