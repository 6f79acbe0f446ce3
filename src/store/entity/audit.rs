//! A study of the audit sample.

use sea_orm::entity::prelude::*;

/// A study of the audit sample.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub study_id: i64,
    pub drawn_at: i64,
    pub read_at: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub first_reader: Option<String>,
    /// some that were flagged are among them, so that being asked says nothing
    pub flagged: bool,
    #[sea_orm(column_type = "Text", nullable)]
    pub model: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub who: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub verdict: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub comment: Option<String>,
    pub answered_at: Option<i64>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
