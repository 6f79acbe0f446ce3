//! A scanner's shifts against the norm table, from local healthy scans.

use sea_orm::entity::prelude::*;

/// A scanner's shifts against the norm table, from local healthy scans.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "scanner_calibration")]
pub struct Model {
    /// the version that results name
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub scanner: String,
    /// SHA-256 of the measuring network it was made with
    #[sea_orm(column_type = "Text")]
    pub model_sha256: String,
    pub scans: i64,
    #[sea_orm(column_type = "Text")]
    pub calibration_json: String,
    pub made_at: i64,
    #[sea_orm(column_type = "Text")]
    pub made_by: String,
    pub revoked_at: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub revoked_by: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
