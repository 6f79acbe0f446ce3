//! A process that shares the database.

use sea_orm::entity::prelude::*;

/// A process that shares the database.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "process")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub run: String,
    #[sea_orm(column_type = "Text")]
    pub node: String,
    #[sea_orm(column_type = "Text")]
    pub role: String,
    #[sea_orm(column_type = "Text")]
    pub version: String,
    pub started_at: i64,
    pub beats: i64,
    pub beat_at: i64,
    pub worker_beat_at: Option<i64>,
    pub log_bytes: i64,
    pub log_oldest_at: Option<i64>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
