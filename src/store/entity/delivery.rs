//! Something to be delivered to one destination.

use sea_orm::entity::prelude::*;

/// Something to be delivered to one destination.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub destination: String,
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    pub alert_id: Option<i64>,
    pub step: Option<i64>,
    #[sea_orm(column_type = "Text")]
    pub dedup_key: String,
    pub carried_by: Option<i64>,
    #[sea_orm(column_type = "Text")]
    pub state: String,
    pub attempts: i64,
    pub due_at: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub said: Option<String>,
    pub created_at: i64,
    pub settled_at: Option<i64>,
    pub resolves: Option<i64>,
    /// Run of the process that is sending it.
    #[sea_orm(column_type = "Text", nullable)]
    pub sent_by: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
