//! What the hospital's systems say, applied once: orders re-rank, reports mark read, patients are merged.
//!
//! A message, what it changes and the note that it was taken are one transaction.

mod orders;
mod patients;
mod reports;
mod results;

use std::collections::BTreeSet;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, QueryFilter, QuerySelect, Statement, sea_query::OnConflict,
};

pub(super) use orders::{refresh, wanted_priority};
pub(super) use patients::current;
pub(super) use reports::apply_pending;
pub use results::{RESULT, ResultDestination, ResultFacts};
pub(super) use results::{tell, word_anew};

use super::entity::{hl7_message, reading_event, study};
use super::ranks::Ranker;
use super::{Store, StoreError};
use crate::worklist::ris::{Deed, StudyKeys};

/// A message as far as it must be known again.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// Whose control ids these are: application and facility with `|` between them.
    pub sender: &'a str,
    /// MSH-10
    pub control_id: &'a str,
    /// `ORM^O01`
    pub kind: &'a str,
    /// Of its content.
    pub digest: &'a str,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It was applied to these studies.
    New {
        /// (0020,000D)
        changed: Vec<String>,
    },
    /// It was taken before: nothing was done.
    Again,
    /// Another message was taken under this id: nothing was done.
    Reused,
}

impl Store {
    /// Applies a message, once. What was taken before `remember_ms` ago is not known any more.
    ///
    /// # Errors
    /// When the database fails: then nothing was done.
    pub async fn take_message(
        &self,
        letter: &Letter<'_>,
        deed: &Deed,
        ranker: &Ranker,
        remember_ms: i64,
        now_ms: i64,
    ) -> Result<Taken, StoreError> {
        let tx = self.begin().await?;
        ranker.rules_in(&tx).await?;
        meet(&tx, Meeting::Message).await?;
        hl7_message::Entity::delete_many()
            .filter(hl7_message::Column::ReceivedAt.lt(now_ms - remember_ms))
            .exec(&tx)
            .await?;
        if let Some(earlier) = remember(&tx, letter, now_ms).await? {
            let same = earlier.digest == letter.digest;
            return Ok(if same { Taken::Again } else { Taken::Reused });
        }
        let at = At {
            sender: letter.sender,
            ranker,
            now_ms,
        };
        let mut changed = BTreeSet::new();
        match deed {
            Deed::Orders(all) => orders::keep(&tx, all, &at, &mut changed).await?,
            Deed::Reports(all) => reports::keep(&tx, all, &at, &mut changed).await?,
            Deed::Demographics(known) => {
                patients::update(&tx, known, &at, &mut changed).await?;
            }
            Deed::Merge(all) => patients::merge(&tx, all, &at, &mut changed).await?,
            Deed::Nothing => {}
        }
        tx.commit().await?;
        Ok(Taken::New {
            changed: changed.into_iter().collect(),
        })
    }
}

/// Notes that a message was taken; gives the one that was taken under its id before.
async fn remember(
    tx: &DatabaseTransaction,
    letter: &Letter<'_>,
    now_ms: i64,
) -> Result<Option<hl7_message::Model>, StoreError> {
    let row = hl7_message::ActiveModel {
        sender: Set(letter.sender.to_owned()),
        control_id: Set(letter.control_id.to_owned()),
        kind: Set(letter.kind.to_owned()),
        digest: Set(letter.digest.to_owned()),
        received_at: Set(now_ms),
        ..Default::default()
    };
    let key = [hl7_message::Column::Sender, hl7_message::Column::ControlId];
    let inserted = hl7_message::Entity::insert(row)
        .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await;
    match inserted {
        Ok(0) | Err(DbErr::RecordNotInserted) => {}
        other => return other.map(|_| None),
    }
    hl7_message::Entity::find()
        .filter(hl7_message::Column::Sender.eq(letter.sender))
        .filter(hl7_message::Column::ControlId.eq(letter.control_id))
        .one(tx)
        .await
}

/// Who says it, and when.
struct At<'a> {
    sender: &'a str,
    ranker: &'a Ranker,
    now_ms: i64,
}

impl At<'_> {
    /// The sender as pages show it.
    fn shown_sender(&self) -> String {
        let parts: Vec<&str> = self.sender.split('|').filter(|p| !p.is_empty()).collect();
        parts.join(" ")
    }
}

/// What wants to meet: see [`meet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// A study is new, or complete.
    Study,
    /// Something may be said about it.
    Message,
}

/// Key of PostgreSQL's lock for [`meet`]; any number that nothing else uses.
const MEETING_LOCK: i64 = 0x4649_5253_5452_4953;

/// Keeps a message and its study from missing each other when both are written at one time: of two
/// transactions that meet here the later sees what the earlier wrote. Call it before anything is locked.
/// SQLite has one writer, so there it holds anyway.
pub(super) async fn meet(tx: &DatabaseTransaction, who: Meeting) -> Result<(), StoreError> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let sql = match who {
        Meeting::Study => "SELECT pg_advisory_xact_lock_shared($1)",
        Meeting::Message => "SELECT pg_advisory_xact_lock($1)",
    };
    let lock = Statement::from_sql_and_values(DbBackend::Postgres, sql, [MEETING_LOCK.into()]);
    tx.execute_raw(lock).await?;
    Ok(())
}

fn keys(study: &study::Model) -> StudyKeys<'_> {
    StudyKeys {
        study_uid: &study.study_uid,
        accession: study.accession.as_deref(),
        accession_issuer: study.accession_issuer.as_deref(),
        patient_id: study.patient_id.as_deref(),
        patient_issuer: study.patient_issuer.as_deref(),
    }
}

/// A study, locked until the transaction ends.
async fn locked(tx: &DatabaseTransaction, id: i64) -> Result<Option<study::Model>, StoreError> {
    study::Entity::find_by_id(id).lock_exclusive().one(tx).await
}

/// Studies with one of these UIDs or accession numbers, by key.
async fn candidates(
    tx: &DatabaseTransaction,
    uids: &BTreeSet<String>,
    accessions: &BTreeSet<String>,
) -> Result<BTreeSet<i64>, StoreError> {
    let found: Vec<i64> = study::Entity::find()
        .select_only()
        .column(study::Column::Id)
        .filter(
            sea_orm::Condition::any()
                .add(study::Column::StudyUid.is_in(uids))
                .add(study::Column::Accession.is_in(accessions)),
        )
        .into_tuple()
        .all(tx)
        .await?;
    Ok(found.into_iter().collect())
}

/// Notes in the history of a study what no reader did.
async fn note(
    tx: &DatabaseTransaction,
    study_id: i64,
    what: &str,
    detail: String,
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = reading_event::ActiveModel {
        study_id: Set(study_id),
        what: Set(what.to_owned()),
        detail: Set(Some(detail)),
        at: Set(now_ms),
        ..Default::default()
    };
    reading_event::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}
