//! Which delivery carries which object.

use sea_orm::entity::prelude::*;

/// Which delivery carries which object.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "object_delivery")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub delivery_id: i64,
    pub object_id: i64,
    #[sea_orm(column_type = "Text")]
    pub destination: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub transaction_uid: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub commitment: Option<String>,
    pub commitment_at: Option<i64>,
    pub sent_again: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
