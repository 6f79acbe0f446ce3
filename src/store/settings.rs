//! Ranking settings as they were applied, so that every rank can be traced to its settings.

use sea_orm::{ActiveValue::Set, EntityTrait, QueryOrder};

use super::entity::settings_version;
use super::{Store, StoreError};
use crate::triage::TriageSettings;

impl Store {
    /// The version number of these settings: the newest one if it says the same, else a new one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settings_version(
        &self,
        settings: &TriageSettings,
        by: &str,
        now_ms: i64,
    ) -> Result<i64, StoreError> {
        let json = serde_json::to_string(settings).unwrap_or_default();
        let newest = settings_version::Entity::find()
            .order_by_desc(settings_version::Column::Id)
            .one(self.read())
            .await?;
        if let Some(newest) = newest.filter(|v| v.settings_json == json) {
            return Ok(newest.id);
        }
        let tx = self.begin().await?;
        let row = settings_version::ActiveModel {
            settings_json: Set(json),
            created_at: Set(now_ms),
            created_by: Set(by.to_owned()),
            ..Default::default()
        };
        let id = settings_version::Entity::insert(row)
            .exec(&tx)
            .await?
            .last_insert_id;
        tx.commit().await?;
        Ok(id)
    }
}
