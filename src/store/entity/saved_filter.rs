//! A filter of the list that a person keeps under a name.

use sea_orm::entity::prelude::*;

/// A filter of the list that a person keeps under a name.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "saved_filter")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    /// name of the account
    #[sea_orm(column_type = "Text")]
    pub who: String,
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// as it stands in the address bar after /worklist?
    #[sea_orm(column_type = "Text")]
    pub query: String,
    pub created_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
