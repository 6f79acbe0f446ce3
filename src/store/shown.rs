//! The log of what was shown to whom and when.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::{shown_log, study};
use super::{Store, StoreError};

/// Clocks of two processes on one database may differ by so much: a list may have been shown "before" the study in it came.
const CLOCKS_DIFFER_MS_MAX: i64 = 10 * 60_000;
/// Entries that are given at one time.
const ENTRIES_MAX: u64 = 200;

/// Something that was shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// When.
    pub at_ms: i64,
    /// Name of the account or token.
    pub who: String,
    /// list, study, audit or opinions; api, fhir or intake for what else is a list.
    pub what: &'static str,
    /// The study (its number); `None` for a list.
    pub study_id: Option<i64>,
    /// The list or search, as its address has it.
    pub query: Option<String>,
    /// Version of the ranking settings.
    pub settings_version: i64,
    /// Place, band, head start: JSON.
    pub shown_json: String,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownEntry {
    /// When.
    pub at_ms: i64,
    /// Name of the account or token.
    pub who: String,
    /// list, study, audit or opinions; api, fhir or intake for what else is a list.
    pub what: String,
    /// (0020,000D) of the study; `None` for a list.
    pub study_uid: Option<String>,
    /// The list or search, as its address has it.
    pub query: Option<String>,
    /// Version of the ranking settings.
    pub settings_version: i64,
    /// Place, band, head start: JSON.
    pub shown_json: String,
}

impl Store {
    /// Adds to the log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_shown(&self, shown: Vec<Shown>) -> Result<(), StoreError> {
        if shown.is_empty() {
            return Ok(());
        }
        let tx = self.begin().await?;
        let rows = shown.into_iter().map(|s| shown_log::ActiveModel {
            at: Set(s.at_ms),
            who: Set(s.who),
            what: Set(s.what.to_owned()),
            study_id: Set(s.study_id),
            query: Set(s.query),
            settings_version: Set(s.settings_version),
            shown_json: Set(s.shown_json),
            ..Default::default()
        });
        shown_log::Entity::insert_many(rows)
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await
    }

    /// Cuts what is older. Gives how much that was.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cut_shown(&self, before_ms: i64) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let cut = shown_log::Entity::delete_many()
            .filter(shown_log::Column::At.lt(before_ms))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(cut.rows_affected)
    }

    /// The log, newest first: of all, or of one study, its lists included; of everybody or one person;
    /// up to a moment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shown(
        &self,
        study_uid: Option<&str>,
        who: Option<&str>,
        until_ms: i64,
    ) -> Result<Vec<ShownEntry>, StoreError> {
        let mut condition = Condition::all().add(shown_log::Column::At.lte(until_ms));
        if let Some(who) = who {
            condition = condition.add(shown_log::Column::Who.eq(who));
        }
        if let Some(uid) = study_uid {
            let found: Option<(i64, i64)> = study::Entity::find()
                .select_only()
                .columns([study::Column::Id, study::Column::ArrivedAt])
                .filter(study::Column::StudyUid.eq(uid))
                .into_tuple()
                .one(self.read())
                .await?;
            let Some((id, arrived_at)) = found else {
                return Ok(Vec::new());
            };
            // a row of a list begins with the study's number: web::shown writes it so
            let in_list = Condition::all()
                .add(shown_log::Column::StudyId.is_null())
                .add(shown_log::Column::ShownJson.contains(format!("[{id},")));
            let of_study = Condition::any()
                .add(shown_log::Column::StudyId.eq(id))
                .add(in_list);
            condition = condition
                .add(shown_log::Column::At.gte(arrived_at - CLOCKS_DIFFER_MS_MAX))
                .add(of_study);
        }
        let rows = shown_log::Entity::find()
            .filter(condition)
            .order_by_desc(shown_log::Column::At)
            .order_by_desc(shown_log::Column::Id)
            .limit(ENTRIES_MAX)
            .all(self.read())
            .await?;
        let ids: Vec<i64> = rows.iter().filter_map(|row| row.study_id).collect();
        let uids: std::collections::HashMap<i64, String> = study::Entity::find()
            .select_only()
            .columns([study::Column::Id, study::Column::StudyUid])
            .filter(study::Column::Id.is_in(ids))
            .into_tuple::<(i64, String)>()
            .all(self.read())
            .await?
            .into_iter()
            .collect();
        let entries = rows.into_iter().map(|row| ShownEntry {
            at_ms: row.at,
            who: row.who,
            what: row.what,
            study_uid: row.study_id.and_then(|id| uids.get(&id).cloned()),
            query: row.query,
            settings_version: row.settings_version,
            shown_json: row.shown_json,
        });
        Ok(entries.collect())
    }

    /// The number under which the log keeps a study.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn study_number(&self, study_uid: &str) -> Result<Option<i64>, StoreError> {
        study::Entity::find()
            .select_only()
            .column(study::Column::Id)
            .filter(study::Column::StudyUid.eq(study_uid))
            .into_tuple()
            .one(self.read())
            .await
    }
}
