//! The study and the message of a delivery by HL7.

use sea_orm::entity::prelude::*;

/// The study and the message of a delivery by HL7.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "hl7_result")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: i64,
    pub study_id: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub message: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
