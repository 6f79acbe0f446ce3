//! A study that was asked for: what arrives of it is a prior.

use sea_orm::entity::prelude::*;

/// A study that was asked for: what arrives of it is a prior.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "asked_prior")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub study_uid: String,
    pub for_study_id: i64,
    pub asked_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
