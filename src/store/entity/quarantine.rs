//! An object kept aside, with the reason.

use sea_orm::entity::prelude::*;

/// An object kept aside, with the reason.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "quarantine")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub sop_uid: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub study_uid: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub calling_ae: String,
    #[sea_orm(column_type = "Text")]
    pub reason: String,
    /// NULL when the bytes themselves were not kept
    #[sea_orm(column_type = "Text", nullable)]
    pub path: Option<String>,
    pub size_bytes: i64,
    pub received_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
