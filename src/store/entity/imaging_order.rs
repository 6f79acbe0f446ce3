//! An order priority known by accession number.

use sea_orm::entity::prelude::*;

/// An order priority known by accession number.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "imaging_order")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub accession: String,
    #[sea_orm(column_type = "Text")]
    pub priority: String,
    #[sea_orm(column_type = "Text")]
    pub source: String,
    pub changed_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
