//! An order of the RIS.

use sea_orm::entity::prelude::*;

/// An order of the RIS.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ris_order")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub order_key: String,
    #[sea_orm(column_type = "Text")]
    pub sender: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub placer: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub filler: Option<String>,
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
    #[sea_orm(column_type = "Text", nullable)]
    pub priority: Option<String>,
    pub cancelled: bool,
    #[sea_orm(column_type = "Text", nullable)]
    pub procedure_text: Option<String>,
    pub said_at: i64,
    pub changed_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
