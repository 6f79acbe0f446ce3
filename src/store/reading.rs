//! Working through the list: claims, reading, and the log of both.
//!
//! Each change locks its study's row first, so that claiming and reading cannot cross; the claim
//! itself is one conditional upsert, so that two readers never hold one study whatever happens.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait,
    FromQueryResult, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};

use super::entity::{claim, reading_event, study};
use super::ranks::{catch_up, refresh_places};
use super::settings::version_in_force;
use super::worklist::{ORDER, as_u64, conditions};
use super::{Store, StoreError, alerts};
use crate::clock::rfc3339;
use crate::worklist::{Acting, Assignment, Claim, Reading, ReadingEvent, WorklistQuery};

/// Events of a study that are shown.
const HISTORY_SHOWN: u64 = 50;
/// How often the next study is looked for again because another reader was faster.
const NEXT_TRIES_MAX: usize = 64;
/// Detail of `read`: the study was claimed, so undoing claims it again.
const HELD: &str = "held";

/// What became of an attempt to work on a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is as was wanted.
    Done {
        /// False where it had been so before.
        changed: bool,
    },
    /// No study with this UID was received.
    Unknown,
    /// Another reader has it in hand.
    Held(Claim),
    /// It is read, or a prior.
    NotOpen,
}

/// Open studies by who has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimCounts {
    /// In this reader's hands.
    pub mine: u64,
    /// In anyone's hands.
    pub held: u64,
}

#[derive(FromQueryResult)]
struct Uid {
    study_uid: String,
}

#[derive(FromQueryResult)]
struct Counts {
    mine: i64,
    held: i64,
}

/// A study locked for a change, and who has it.
pub(super) struct Locked {
    pub(super) tx: DatabaseTransaction,
    pub(super) study: study::Model,
    /// Also one that has run out.
    row: Option<claim::Model>,
}

impl Locked {
    /// The claim that holds now.
    fn holding(&self, acting: Acting<'_>) -> Option<&claim::Model> {
        self.row
            .as_ref()
            .filter(|c| c.active_at > acting.held_since_ms)
    }

    /// Another reader's claim.
    fn held_by_another(&self, acting: Acting<'_>) -> Option<Outcome> {
        let claim = self.holding(acting)?;
        (claim.reader != acting.reader).then(|| {
            Outcome::Held(Claim {
                reader: claim.reader.clone(),
                since_ms: claim.claimed_at,
                active_ms: claim.active_at,
            })
        })
    }

    /// Why it cannot be worked on.
    fn refusal(&self, acting: Acting<'_>) -> Option<Outcome> {
        if self.study.reading == "open" {
            self.held_by_another(acting)
        } else {
            Some(Outcome::NotOpen)
        }
    }

    async fn note(
        &self,
        what: &str,
        acting: Acting<'_>,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        let row = reading_event::ActiveModel {
            study_id: Set(self.study.id),
            what: Set(what.to_owned()),
            who: Set(Some(acting.reader.to_owned())),
            detail: Set(detail.map(str::to_owned)),
            at: Set(acting.now_ms),
            ..Default::default()
        };
        reading_event::Entity::insert(row)
            .exec_without_returning(&self.tx)
            .await?;
        Ok(())
    }

    /// Puts the study into `reader`'s hands unless another's claim holds. True where it is there now.
    async fn put_into_hands(&self, reader: &str, acting: Acting<'_>) -> Result<bool, StoreError> {
        let sql = "INSERT INTO claim (study_id, reader, claimed_at, active_at) \
                   VALUES ($1, $2, $3, $3) \
                   ON CONFLICT (study_id) DO UPDATE SET \
                   claimed_at = CASE WHEN claim.reader = excluded.reader AND claim.active_at > $4 \
                                THEN claim.claimed_at ELSE excluded.claimed_at END, \
                   reader = excluded.reader, active_at = excluded.active_at \
                   WHERE claim.reader = $5 OR claim.active_at <= $4";
        let values = vec![
            self.study.id.into(),
            reader.into(),
            acting.now_ms.into(),
            acting.held_since_ms.into(),
            acting.reader.into(),
        ];
        let upsert =
            sea_orm::Statement::from_sql_and_values(self.tx.get_database_backend(), sql, values);
        let taken = self.tx.execute_raw(upsert).await?.rows_affected() == 1;
        if taken {
            alerts::taken(&self.tx, self.study.id, reader, acting).await?;
        }
        Ok(taken)
    }

    /// Keeps the claim of a reader who is at work on it.
    pub(super) async fn renew(&self, acting: Acting<'_>) -> Result<(), StoreError> {
        claim::Entity::update_many()
            .col_expr(claim::Column::ActiveAt, Expr::value(acting.now_ms))
            .filter(claim::Column::StudyId.eq(self.study.id))
            .filter(claim::Column::Reader.eq(acting.reader))
            .filter(claim::Column::ActiveAt.gt(acting.held_since_ms))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    async fn drop_claim(&self) -> Result<(), StoreError> {
        claim::Entity::delete_many()
            .filter(claim::Column::StudyId.eq(self.study.id))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    async fn set_reading(&self, reading: &str, acting: Acting<'_>) -> Result<(), StoreError> {
        study::Entity::update_many()
            .col_expr(study::Column::Reading, Expr::value(reading))
            .col_expr(study::Column::ChangedAt, Expr::value(acting.now_ms))
            .filter(study::Column::Id.eq(self.study.id))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    async fn claim(&self, acting: Acting<'_>) -> Result<Outcome, StoreError> {
        if let Some(refused) = self.refusal(acting) {
            return Ok(refused);
        }
        let renewed = self.holding(acting).is_some();
        if !self.put_into_hands(acting.reader, acting).await? {
            return Err(StoreError::Custom("a claim changed under a lock".into()));
        }
        if !renewed {
            let ran_out = self.row.as_ref().filter(|c| c.reader != acting.reader);
            self.note("claimed", acting, ran_out.map(|c| c.reader.as_str()))
                .await?;
        }
        Ok(Outcome::Done { changed: !renewed })
    }
}

async fn lock_in(tx: DatabaseTransaction, study_uid: &str) -> Result<Option<Locked>, StoreError> {
    let found = study::Entity::find()
        .filter(study::Column::StudyUid.eq(study_uid))
        .lock_exclusive()
        .one(&tx)
        .await?;
    let Some(study) = found else { return Ok(None) };
    let row = claim::Entity::find_by_id(study.id).one(&tx).await?;
    Ok(Some(Locked { tx, study, row }))
}

impl Store {
    pub(super) async fn lock(&self, study_uid: &str) -> Result<Option<Locked>, StoreError> {
        lock_in(self.begin().await?, study_uid).await
    }

    /// Puts an open study into a reader's hands, or renews the claim it has there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_study(
        &self,
        study_uid: &str,
        acting: Acting<'_>,
    ) -> Result<Outcome, StoreError> {
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(Outcome::Unknown);
        };
        let outcome = locked.claim(acting).await?;
        locked.tx.commit().await?;
        Ok(outcome)
    }

    /// Claims the first study of the list that nobody has in hand; gives its UID.
    ///
    /// # Errors
    /// When the database fails, or others were faster all the time.
    pub async fn claim_next(
        &self,
        query: &WorklistQuery,
        acting: Acting<'_>,
    ) -> Result<Option<String>, StoreError> {
        let free = WorklistQuery {
            assigned: Some(Assignment::Nobody),
            reading: Reading::Unread,
            ..query.clone()
        };
        let (from, condition, values) = conditions(&free, acting.held_since_ms);
        let sql = format!(
            "SELECT s.study_uid FROM {from} WHERE {condition} \
             ORDER BY {ORDER} LIMIT 1"
        );
        for _ in 0..NEXT_TRIES_MAX {
            let first = Uid::find_by_statement(self.statement(&sql, values.clone()));
            let Some(found) = first.one(self.read()).await? else {
                return Ok(None);
            };
            let Some(locked) = self.lock(&found.study_uid).await? else {
                continue;
            };
            // held meanwhile, by another reader or by this one's other window: the next one then
            if locked.study.reading == "open" && locked.holding(acting).is_none() {
                locked.claim(acting).await?;
                locked.tx.commit().await?;
                return Ok(Some(found.study_uid));
            }
        }
        Err(StoreError::Custom(
            "other readers were faster on every study".into(),
        ))
    }

    /// Gives up a claim.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_study(
        &self,
        study_uid: &str,
        acting: Acting<'_>,
    ) -> Result<Outcome, StoreError> {
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(Outcome::Unknown);
        };
        if let Some(held) = locked.held_by_another(acting) {
            return Ok(held);
        }
        let changed = locked.holding(acting).is_some();
        if changed {
            locked.drop_claim().await?;
            alerts::given_up(&locked.tx, locked.study.id, acting.now_ms).await?;
            locked.note("released", acting, None).await?;
        }
        locked.tx.commit().await?;
        Ok(Outcome::Done { changed })
    }

    /// Puts a study that is this reader's, or nobody's, into another reader's hands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hand_over_study(
        &self,
        study_uid: &str,
        to: &str,
        acting: Acting<'_>,
    ) -> Result<Outcome, StoreError> {
        if to == acting.reader {
            return self.claim_study(study_uid, acting).await;
        }
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(Outcome::Unknown);
        };
        if let Some(refused) = locked.refusal(acting) {
            return Ok(refused);
        }
        if !locked.put_into_hands(to, acting).await? {
            return Err(StoreError::Custom("a claim changed under a lock".into()));
        }
        locked.note("handed_over", acting, Some(to)).await?;
        locked.tx.commit().await?;
        Ok(Outcome::Done { changed: true })
    }

    /// Takes a study off the open list. It stays reachable by its UID.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_read(
        &self,
        study_uid: &str,
        acting: Acting<'_>,
    ) -> Result<Outcome, StoreError> {
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(Outcome::Unknown);
        };
        if locked.study.reading == "read" {
            return Ok(Outcome::Done { changed: false });
        }
        if let Some(refused) = locked.refusal(acting) {
            return Ok(refused);
        }
        let held = locked.holding(acting).map(|_| HELD);
        locked.drop_claim().await?;
        locked.set_reading("read", acting).await?;
        locked.note("read", acting, held).await?;
        locked.tx.commit().await?;
        Ok(Outcome::Done { changed: true })
    }

    /// Puts a read study back on the list: as it was for the reader who had marked it, else unclaimed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reopen_study(
        &self,
        study_uid: &str,
        acting: Acting<'_>,
    ) -> Result<Outcome, StoreError> {
        let tx = self.begin().await?;
        let version = version_in_force(&tx).await?;
        let Some(locked) = lock_in(tx, study_uid).await? else {
            return Ok(Outcome::Unknown);
        };
        match locked.study.reading.as_str() {
            "read" => {}
            "open" => return Ok(Outcome::Done { changed: false }),
            _ => return Ok(Outcome::NotOpen),
        }
        let marked = reading_event::Entity::find()
            .filter(reading_event::Column::StudyId.eq(locked.study.id))
            .filter(reading_event::Column::What.eq("read"))
            .order_by_desc(reading_event::Column::Id)
            .one(&locked.tx)
            .await?;
        let mine = marked.filter(|e| e.who.as_deref() == Some(acting.reader));
        locked.set_reading("open", acting).await?;
        let back = Condition::all().add(study::Column::Id.eq(locked.study.id));
        refresh_places(&locked.tx, back, version).await?;
        catch_up(&locked.tx, locked.study.id, version, acting.now_ms).await?;
        if mine
            .as_ref()
            .is_some_and(|e| e.detail.as_deref() == Some(HELD))
        {
            locked.put_into_hands(acting.reader, acting).await?;
        } else {
            alerts::given_up(&locked.tx, locked.study.id, acting.now_ms).await?;
        }
        let what = if mine.is_some() { "undone" } else { "reopened" };
        locked.note(what, acting, None).await?;
        locked.tx.commit().await?;
        Ok(Outcome::Done { changed: true })
    }

    /// Notes that a reader looked at a study; that keeps the reader's claim.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn opened_study(
        &self,
        study_uid: &str,
        acting: Acting<'_>,
    ) -> Result<(), StoreError> {
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(());
        };
        locked.renew(acting).await?;
        alerts::opened(&locked.tx, locked.study.id, acting.now_ms).await?;
        locked.note("opened", acting, None).await?;
        locked.tx.commit().await
    }

    /// Who has which of these studies in hand.
    pub(super) async fn claims_on(
        &self,
        study_ids: impl IntoIterator<Item = i64>,
        held_since_ms: i64,
    ) -> Result<HashMap<i64, Claim>, StoreError> {
        let rows = claim::Entity::find()
            .filter(claim::Column::StudyId.is_in(study_ids))
            .filter(claim::Column::ActiveAt.gt(held_since_ms))
            .all(self.read())
            .await?;
        let claims = rows.into_iter().map(|c| {
            let claim = Claim {
                reader: c.reader,
                since_ms: c.claimed_at,
                active_ms: c.active_at,
            };
            (c.study_id, claim)
        });
        Ok(claims.collect())
    }

    /// How many open studies are in this reader's and in anyone's hands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_counts(&self, acting: Acting<'_>) -> Result<ClaimCounts, StoreError> {
        let sql = "SELECT COUNT(*) AS held, COUNT(CASE WHEN c.reader = $2 THEN 1 END) AS mine \
                   FROM claim c JOIN study s ON s.id = c.study_id \
                   WHERE c.active_at > $1 AND s.reading = 'open'";
        let values = vec![acting.held_since_ms.into(), acting.reader.into()];
        let counts = Counts::find_by_statement(self.statement(sql, values))
            .one(self.read())
            .await?;
        Ok(ClaimCounts {
            mine: counts.as_ref().map_or(0, |c| as_u64(c.mine)),
            held: counts.as_ref().map_or(0, |c| as_u64(c.held)),
        })
    }

    /// What readers did with a study, newest first.
    pub(super) async fn history_of(&self, study_id: i64) -> Result<Vec<ReadingEvent>, StoreError> {
        let rows = reading_event::Entity::find()
            .filter(reading_event::Column::StudyId.eq(study_id))
            .order_by_desc(reading_event::Column::Id)
            .limit(HISTORY_SHOWN)
            .all(self.read())
            .await?;
        let shown = rows.into_iter().map(|row| ReadingEvent {
            what: row.what,
            who: row.who,
            detail: row.detail.filter(|d| d != HELD),
            at: rfc3339(row.at),
        });
        Ok(shown.collect())
    }
}
