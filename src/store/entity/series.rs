//! A series of a study.

use sea_orm::entity::prelude::*;

/// A series of a study.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "series")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub study_id: i64,
    #[sea_orm(column_type = "Text")]
    pub series_uid: String,
    #[sea_orm(column_type = "Text")]
    pub sop_class_uid: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub modality: Option<String>,
    pub number: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub description: Option<String>,
    /// SeriesTags of the first object
    #[sea_orm(column_type = "Text")]
    pub header_json: String,
    /// made by this server: kept, never analysed
    pub own_result: bool,
    /// (0020,1002), or NULL where the sender does not say
    pub expected_images: Option<i64>,
    pub first_received_at: i64,
    pub last_received_at: i64,
    /// how long it must have been quiet to count as complete; doubles while slices trickle
    pub quiet_ms: i64,
    /// images at the moment it last counted as complete; NULL while it never did
    pub settled_images: Option<i64>,
    /// what series choice took it for, and why it was or was not used
    #[sea_orm(column_type = "Text", nullable)]
    pub kind: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub kind_reason: Option<String>,
}

/// Joins are written as queries where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
