//! Ranking settings as they were applied, so that every rank can be traced to its settings, and
//! which of them rank now.
//!
//! Whoever ranks asks first, in the same transaction, which settings are in force
//! ([`version_in_force`]); whoever applies others holds that row until every open study has its new
//! place. So no study is ranked by settings that another process replaced meanwhile.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};

use super::entity::{ranking_in_force, settings_version};
use super::ranks::{Ranker, Rules};
use super::{Store, StoreError};
use crate::triage::TriageSettings;

/// Who made a version that came from the settings file.
const BY_CONFIG: &str = "config";
/// The one row of `ranking_in_force`.
const THE_ROW: i64 = 1;
/// Versions that are shown.
const VERSIONS_SHOWN: u64 = 50;

/// A version of the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsVersion {
    /// Its number.
    pub version: i64,
    /// What it says; `None` where this program cannot read it any more.
    pub settings: Option<TriageSettings>,
    /// When it came into being.
    pub at_ms: i64,
    /// Name of the account, or `config`.
    pub by: String,
    /// Why.
    pub note: Option<String>,
}

/// What became of an attempt to apply settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// They rank now.
    Done {
        /// Their version.
        version: i64,
        /// Open studies that got a new place.
        rekeyed: u64,
    },
    /// Others were applied meanwhile: this version.
    Outdated(i64),
    /// They say what is in force already.
    Same,
}

impl Store {
    /// What ranks from this start on: the settings file's where it changed since the last start, else
    /// what was applied last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_settings(
        &self,
        file: &TriageSettings,
        now_ms: i64,
    ) -> Result<Rules, StoreError> {
        let tx = self.begin().await?;
        let in_force = match lock(&tx).await? {
            Some(version) => load(&tx, version).await.ok(),
            None => None,
        };
        let of_file = settings_version::Entity::find()
            .filter(settings_version::Column::CreatedBy.eq(BY_CONFIG))
            .order_by_desc(settings_version::Column::Id)
            .one(&tx)
            .await?;
        let unchanged = of_file.and_then(|v| read(&v.settings_json)).as_ref() == Some(file);
        let rules = match in_force {
            Some(rules) if unchanged => rules,
            _ => Rules {
                settings: file.clone(),
                version: add(&tx, file, BY_CONFIG, None, now_ms).await?,
            },
        };
        tx.commit().await?;
        Ok(rules)
    }

    /// Puts settings in force and gives every open study its new place, in one transaction; those that
    /// were read get theirs when they come back.
    ///
    /// `based_on` is the version that whoever applies them has seen.
    ///
    /// # Errors
    /// When the database fails: then nothing changed.
    pub async fn apply_settings(
        &self,
        settings: &TriageSettings,
        based_on: i64,
        by: &str,
        note: Option<&str>,
        ranker: &Ranker,
        now_ms: i64,
    ) -> Result<Applied, StoreError> {
        let tx = self.begin().await?;
        let in_force = lock(&tx).await?;
        if let Some(other) = in_force.filter(|v| *v != based_on) {
            return Ok(Applied::Outdated(other));
        }
        if let Some(version) = in_force
            && load(&tx, version)
                .await
                .is_ok_and(|r| r.settings == *settings)
        {
            return Ok(Applied::Same);
        }
        let rules = Rules {
            settings: settings.clone(),
            version: add(&tx, settings, by, note, now_ms).await?,
        };
        let rekeyed = super::ranks::rekey(&tx, &rules, ranker, now_ms).await?;
        tx.commit().await?;
        let version = rules.version;
        ranker.put_in_force(rules);
        Ok(Applied::Done { version, rekeyed })
    }

    /// The versions there were, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settings_versions(&self) -> Result<Vec<SettingsVersion>, StoreError> {
        let rows = settings_version::Entity::find()
            .order_by_desc(settings_version::Column::Id)
            .limit(VERSIONS_SHOWN)
            .all(self.read())
            .await?;
        let versions = rows.into_iter().map(|row| SettingsVersion {
            version: row.id,
            settings: read(&row.settings_json),
            at_ms: row.created_at,
            by: row.created_by,
            note: row.note,
        });
        Ok(versions.collect())
    }
}

/// The version in force, which nobody changes until `tx` ends. Asked for before any study's row is
/// locked: the other way round two transactions could wait for each other.
pub(super) async fn version_in_force(tx: &DatabaseTransaction) -> Result<Option<i64>, StoreError> {
    let row = ranking_in_force::Entity::find_by_id(THE_ROW)
        .lock_shared()
        .one(tx)
        .await?;
    Ok(row.map(|row| row.version))
}

/// What a version says.
pub(super) async fn load(tx: &DatabaseTransaction, version: i64) -> Result<Rules, StoreError> {
    let row = settings_version::Entity::find_by_id(version)
        .one(tx)
        .await?;
    let settings = row.and_then(|row| read(&row.settings_json));
    settings
        .map(|settings| Rules { settings, version })
        .ok_or_else(|| StoreError::Custom(format!("could not read settings version {version}")))
}

/// The version in force, for whoever changes it.
async fn lock(tx: &DatabaseTransaction) -> Result<Option<i64>, StoreError> {
    let row = ranking_in_force::Entity::find_by_id(THE_ROW)
        .lock_exclusive()
        .one(tx)
        .await?;
    Ok(row.map(|row| row.version))
}

/// Keeps a version and puts it in force.
async fn add(
    tx: &DatabaseTransaction,
    settings: &TriageSettings,
    by: &str,
    note: Option<&str>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let row = settings_version::ActiveModel {
        settings_json: Set(serde_json::to_string(settings).unwrap_or_default()),
        created_at: Set(now_ms),
        created_by: Set(by.to_owned()),
        note: Set(note.map(str::to_owned)),
        ..Default::default()
    };
    let added = settings_version::Entity::insert(row).exec(tx).await?;
    let version = added.last_insert_id;
    let in_force = ranking_in_force::ActiveModel {
        id: Set(THE_ROW),
        version: Set(version),
    };
    ranking_in_force::Entity::insert(in_force)
        .on_conflict(
            OnConflict::column(ranking_in_force::Column::Id)
                .update_column(ranking_in_force::Column::Version)
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(version)
}

fn read(json: &str) -> Option<TriageSettings> {
    serde_json::from_str(json).ok()
}
