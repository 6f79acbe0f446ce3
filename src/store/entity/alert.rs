//! A study reached a band that is alerted.

use sea_orm::entity::prelude::*;

/// A study reached a band that is alerted.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "alert")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub study_id: i64,
    #[sea_orm(column_type = "Text")]
    pub band: String,
    pub raised_at: i64,
    pub steps_done: i64,
    pub next_step_at: Option<i64>,
    pub acknowledged_at: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub acknowledged_by: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub rule: String,
    pub round_at: Option<i64>,
    pub round_steps: i64,
    pub hurried_ms: i64,
    pub taken_at: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub taken_by: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
