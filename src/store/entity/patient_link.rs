//! A patient identifier that was merged into another.

use sea_orm::entity::prelude::*;

/// A patient identifier that was merged into another.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "patient_link")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub prior_id: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub prior_issuer: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub patient_id: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub patient_issuer: Option<String>,
    pub linked_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
