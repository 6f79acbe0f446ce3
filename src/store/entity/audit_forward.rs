//! Up to where the audit trail was sent on.

use sea_orm::entity::prelude::*;

/// Up to where the audit trail was sent on.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_forward")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub seq: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub held_by: Option<String>,
    pub held_until: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
