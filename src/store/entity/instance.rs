//! A DICOM object on disk.

use sea_orm::entity::prelude::*;

/// A DICOM object on disk.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "instance")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub series_id: i64,
    #[sea_orm(column_type = "Text")]
    pub sop_uid: String,
    #[sea_orm(column_type = "Text")]
    pub sop_class_uid: String,
    #[sea_orm(column_type = "Text")]
    pub transfer_syntax_uid: String,
    pub instance_number: Option<i64>,
    pub frames: i64,
    #[sea_orm(column_type = "Text")]
    pub digest: String,
    pub size_bytes: i64,
    /// relative to the data folder
    #[sea_orm(column_type = "Text")]
    pub path: String,
    pub received_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
