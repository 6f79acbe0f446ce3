//! Destinations that administrators made on the page, in versions; and who looked at a preview.

use std::collections::BTreeMap;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::entity::{made_destination, preview_view};
use super::messages::MessageView;
use super::outbox::drop_destination;
use super::{Store, StoreError};
use crate::alerts::policy::Quiet;
use crate::alerts::policy::hours::Hours;
use crate::clock::UnixMillis;

/// Versions that are shown.
const VERSIONS_SHOWN: u64 = 100;
/// Looks at previews that are shown.
const VIEWS_SHOWN: u64 = 20;
/// What a delivery says whose destination was removed.
const REMOVED: &str = "its destination was removed";

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeVersion {
    /// Version: one number for each change of any destination.
    pub version: i64,
    /// Name.
    pub name: String,
    /// Which form its settings are of.
    pub kind: String,
    /// What was filled in; `None` where it was removed.
    pub filled: Option<BTreeMap<String, String>>,
    /// Why.
    pub note: String,
    /// By whom.
    pub by: String,
    /// When.
    pub at: UnixMillis,
}

impl From<made_destination::Model> for MadeVersion {
    fn from(row: made_destination::Model) -> Self {
        Self {
            version: row.id,
            name: row.name,
            kind: row.kind,
            filled: row
                .settings_json
                .map(|json| serde_json::from_str(&json).unwrap_or_default()),
            note: row.note,
            by: row.made_by,
            at: row.made_at,
        }
    }
}

/// The newest version of each, by name, but of those that were removed.
async fn in_force(connection: &impl ConnectionTrait) -> Result<Vec<MadeVersion>, StoreError> {
    let all = made_destination::Entity::find()
        .order_by_asc(made_destination::Column::Id)
        .all(connection)
        .await?;
    let newest: BTreeMap<String, MadeVersion> = all
        .into_iter()
        .map(|row| (row.name.clone(), MadeVersion::from(row)))
        .collect();
    let standing = newest.into_values().filter(|made| made.filled.is_some());
    Ok(standing.collect())
}

/// Quiet hours of those that were made on the page, as they are in force in this transaction.
pub(super) async fn quiet_of_made(tx: &DatabaseTransaction) -> Result<Vec<Quiet>, StoreError> {
    let quiet = |made: MadeVersion| {
        let filled = made.filled?;
        Some(Quiet {
            hours: Hours::parse(filled.get("quiet_hours")?.trim())?,
            instead: filled.get("quiet_instead")?.trim().to_owned(),
            destination: made.name,
        })
    };
    let made = in_force(tx).await?;
    Ok(made.into_iter().filter_map(quiet).collect())
}

impl Store {
    /// Keeps a new version of a destination; without `filled` it ends, and what it was still to get is skipped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_made_destination(
        &self,
        name: &str,
        kind: &str,
        filled: Option<&BTreeMap<String, String>>,
        (note, by): (&str, &str),
        now_ms: UnixMillis,
    ) -> Result<i64, StoreError> {
        let row = made_destination::ActiveModel {
            name: Set(name.to_owned()),
            kind: Set(kind.to_owned()),
            settings_json: Set(filled.map(|f| serde_json::to_string(f).unwrap_or_default())),
            note: Set(note.to_owned()),
            made_by: Set(by.to_owned()),
            made_at: Set(now_ms),
            ..Default::default()
        };
        let tx = self.begin().await?;
        let kept = made_destination::Entity::insert(row).exec(&tx).await?;
        if filled.is_none() {
            drop_destination(&tx, name, REMOVED, now_ms).await?;
        }
        tx.commit().await?;
        if filled.is_some() {
            self.know_destinations(&[name.to_owned()]).await?;
        }
        Ok(kept.last_insert_id)
    }

    /// The version in force of each destination that was not removed, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn made_destinations(&self) -> Result<Vec<MadeVersion>, StoreError> {
        in_force(self.read()).await
    }

    /// All versions, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn made_versions(&self) -> Result<Vec<MadeVersion>, StoreError> {
        let rows = made_destination::Entity::find()
            .order_by_desc(made_destination::Column::Id)
            .limit(VERSIONS_SHOWN)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(MadeVersion::from).collect())
    }

    /// The number of the newest version, 0 where there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn made_version(&self) -> Result<i64, StoreError> {
        let newest = made_destination::Entity::find()
            .order_by_desc(made_destination::Column::Id)
            .one(self.read())
            .await?;
        Ok(newest.map_or(0, |row| row.id))
    }

    /// Notes that someone was shown what a message would be.
    ///
    /// # Errors
    /// When the database fails; then nothing may be shown.
    pub async fn note_preview(
        &self,
        destination: &str,
        study_uid: &str,
        (who, uncovered): (&str, bool),
        now_ms: UnixMillis,
    ) -> Result<(), StoreError> {
        let row = preview_view::ActiveModel {
            destination: Set(destination.to_owned()),
            study_uid: Set(study_uid.to_owned()),
            who: Set(who.to_owned()),
            uncovered: Set(uncovered),
            at: Set(now_ms),
            ..Default::default()
        };
        let tx = self.begin().await?;
        preview_view::Entity::insert(row)
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await
    }

    /// Who was shown what a message to this destination about this study would be, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn preview_views(
        &self,
        destination: &str,
        study_uid: &str,
    ) -> Result<Vec<MessageView>, StoreError> {
        let rows = preview_view::Entity::find()
            .filter(preview_view::Column::Destination.eq(destination))
            .filter(preview_view::Column::StudyUid.eq(study_uid))
            .order_by_desc(preview_view::Column::Id)
            .limit(VIEWS_SHOWN)
            .all(self.read())
            .await?;
        let view = |row: preview_view::Model| MessageView {
            who: row.who,
            uncovered: row.uncovered,
            at: row.at,
        };
        Ok(rows.into_iter().map(view).collect())
    }
}
