//! One of our results as a DICOM object.

use sea_orm::entity::prelude::*;

/// One of our results as a DICOM object.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "result_object")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub study_id: i64,
    /// network, input, versions, language: the same result is made once
    #[sea_orm(column_type = "Text")]
    pub result: String,
    /// seg, sr, pdf or sc
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    #[sea_orm(column_type = "Text")]
    pub sop_instance_uid: String,
    #[sea_orm(column_type = "Text")]
    pub series_uid: String,
    /// relative to the data folder
    #[sea_orm(column_type = "Text")]
    pub path: String,
    pub created_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
