//! A final report of the RIS.

use sea_orm::entity::prelude::*;

/// A final report of the RIS.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "final_report")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub sender: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub study_uid: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub accession: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub accession_issuer: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub patient_id: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub patient_issuer: Option<String>,
    pub received_at: i64,
    pub applied_at: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub outcome: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
