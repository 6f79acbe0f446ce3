//! A signed-in browser.

use sea_orm::entity::prelude::*;

/// A signed-in browser.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "web_session")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub digest: String,
    pub user_id: i64,
    #[sea_orm(column_type = "Text")]
    pub csrf: String,
    pub created_at: i64,
    pub seen_at: i64,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
