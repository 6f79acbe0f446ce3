//! A FHIR rest-hook subscription.

use sea_orm::entity::prelude::*;

/// A FHIR rest-hook subscription.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "fhir_subscription")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub criteria: String,
    #[sea_orm(column_type = "Text")]
    pub reason: String,
    #[sea_orm(column_type = "Text")]
    pub endpoint: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub payload: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub headers_sealed: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub header_names: String,
    pub ends_at: Option<i64>,
    #[sea_orm(column_type = "Text")]
    pub made_by: String,
    pub made_at: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub removed_by: Option<String>,
    pub removed_at: Option<i64>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
