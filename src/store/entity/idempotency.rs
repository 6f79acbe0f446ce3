//! Answers to requests that may be repeated.

use sea_orm::entity::prelude::*;

/// Answers to requests that may be repeated.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub idempotency_key: String,
    #[sea_orm(column_type = "Text")]
    pub request_digest: String,
    #[sea_orm(column_type = "Text")]
    pub response_json: String,
    pub created_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
