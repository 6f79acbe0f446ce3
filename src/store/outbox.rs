//! The outbox: deliveries are claimed in order, settled, resent, skipped; destinations are paused.
//!
//! What a state may become is decided in `outbox/machine.rs`; here it is read and written.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait as _, DatabaseTransaction,
    EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Statement,
};

pub use super::alerts::AlertFacts;
use super::entity::{delivery, delivery_message, destination, process};
use super::{Store, StoreError};
use crate::clock::UnixMillis;
use crate::outbox::Attempt;
use crate::outbox::machine::{
    self, Event, Order, Outcome, Pace, Progress, RetryLimits, State, StormLimits,
};
use crate::triage::Band;

/// A study reached a band.
pub const ALERT: &str = "alert";
/// An alert reached nobody.
pub const ALARM: &str = "alarm";
/// Nobody needs to look any more at what an earlier delivery said.
pub const RESOLVED: &str = "resolved";
/// An administrator asked whether messages arrive.
pub const TEST: &str = "test";
/// Kinds of which one message may say several.
const BUNDLED: [&str; 2] = [ALERT, ALARM];
/// Deliveries that one message can say.
const BUNDLE_MAX: u64 = 500;
/// Bytes of a key that repeats carry: nobody else's is the same.
const KEY_BYTES: usize = 12;
/// What a delivery that was no longer needed says.
const NOT_NEEDED: &str = "acknowledged, claimed or read before it was sent";

/// One message, claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Delivery that the message is of.
    pub id: i64,
    /// Every repeat carries it again.
    pub dedup_key: String,
    /// alert, alarm, resolved or test.
    pub kind: String,
    /// The key of the delivery that it takes back.
    pub resolves: Option<String>,
    /// This attempt included.
    pub attempts: u32,
    /// What it says; more than one in a bundle, none in a test.
    pub alerts: Vec<AlertFacts>,
}

/// What was found to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Send this.
    Batch(Batch),
    /// One was settled without being sent: look again.
    Settled,
    /// Nothing is due.
    Nothing,
}

/// A delivery to be written.
pub(super) struct NewDelivery<'a> {
    pub destination: &'a str,
    pub kind: &'a str,
    pub alert_id: Option<i64>,
    pub step: Option<i64>,
    /// The delivery that it takes back.
    pub resolves: Option<i64>,
}

/// Writes a delivery, in the transaction of what caused it. The same step of an alert asked for twice is one.
pub(super) async fn enqueue(
    tx: &DatabaseTransaction,
    new: NewDelivery<'_>,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let row = delivery::ActiveModel {
        alert_id: Set(new.alert_id),
        step: Set(new.step),
        resolves: Set(new.resolves),
        ..waiting(new.destination, new.kind, fresh_key()?, now_ms)
    };
    delivery::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// A delivery that was never tried and is due, under a key that every repeat carries.
pub(super) fn waiting(
    destination: &str,
    kind: &str,
    dedup_key: String,
    now_ms: UnixMillis,
) -> delivery::ActiveModel {
    delivery::ActiveModel {
        destination: Set(destination.to_owned()),
        kind: Set(kind.to_owned()),
        dedup_key: Set(dedup_key),
        state: Set(State::Waiting.as_str().to_owned()),
        attempts: Set(0),
        due_at: Set(now_ms),
        created_at: Set(now_ms),
        ..Default::default()
    }
}

/// Whether one of these deliveries to a destination waits and was never tried: worded when it is sent, it says the
/// newest state, and there needs to be no second.
pub(super) async fn says_the_newest(
    tx: &DatabaseTransaction,
    destination: &str,
    ids: SelectStatement,
) -> Result<bool, StoreError> {
    let found: Option<i64> = delivery::Entity::find()
        .select_only()
        .column(delivery::Column::Id)
        .filter(delivery::Column::Destination.eq(destination))
        .filter(delivery::Column::State.eq(State::Waiting.as_str()))
        .filter(delivery::Column::Attempts.eq(0))
        .filter(delivery::Column::Id.in_subquery(ids))
        .into_tuple()
        .one(tx)
        .await?;
    Ok(found.is_some())
}

pub(super) fn fresh_key() -> Result<String, StoreError> {
    use std::fmt::Write as _;
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|e| StoreError::Custom(format!("could not make a key for a delivery: {e}")))?;
    Ok(bytes.iter().fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    }))
}

pub(super) fn progress(row: &delivery::Model) -> Progress {
    Progress {
        state: State::parse(&row.state).unwrap_or(State::Dead),
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        due_ms: row.due_at,
        said: row.said.clone(),
        settled_ms: row.settled_at,
    }
}

/// Writes where a delivery stands now, and with it those that its message carries.
pub(super) async fn write(
    tx: &DatabaseTransaction,
    row: delivery::Model,
    is: &Progress,
) -> Result<(), StoreError> {
    delivery::Entity::update_many()
        .col_expr(
            delivery::Column::State,
            Expr::value(carried_state(is.state).as_str()),
        )
        .col_expr(delivery::Column::Said, Expr::value(is.said.clone()))
        .col_expr(delivery::Column::SettledAt, Expr::value(is.settled_ms))
        .filter(delivery::Column::CarriedBy.eq(row.id))
        .exec(tx)
        .await?;
    let mut row = row.into_active_model();
    row.state = Set(is.state.as_str().to_owned());
    row.attempts = Set(is.attempts.into());
    row.due_at = Set(is.due_ms);
    row.said = Set(is.said.clone());
    row.settled_at = Set(is.settled_ms);
    row.update(tx).await?;
    Ok(())
}

/// Only the delivery that carries others is ever claimed; they wait until it is settled.
fn carried_state(state: State) -> State {
    match state {
        State::Sending => State::Waiting,
        other => other,
    }
}

#[derive(FromQueryResult)]
struct Fact {
    alert_id: i64,
    band: String,
    study_uid: String,
    arrived_at: i64,
    rank: i64,
}

impl Store {
    /// Makes rows for destinations that the settings name and the database does not know yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn know_destinations(&self, names: &[String]) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        for name in names {
            let row = destination::ActiveModel {
                name: Set(name.clone()),
                failures: Set(0),
                ..Default::default()
            };
            destination::Entity::insert(row)
                .on_conflict(
                    OnConflict::column(destination::Column::Name)
                        .do_nothing()
                        .to_owned(),
                )
                .exec_without_returning(&tx)
                .await?;
        }
        tx.commit().await
    }

    /// Makes due what a process that is gone was sending: one that is not known. Gives how many that were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_deliveries(&self, now_ms: UnixMillis) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let known = Query::select()
            .column(process::Column::Run)
            .from(process::Entity)
            .to_owned();
        let gone = delivery::Column::SentBy
            .is_null()
            .or(delivery::Column::SentBy.not_in_subquery(known));
        let sending = delivery::Entity::find()
            .filter(delivery::Column::State.eq(State::Sending.as_str()))
            .filter(gone)
            .lock_exclusive()
            .all(&tx)
            .await?;
        let freed = sending.len() as u64;
        for row in sending {
            if let Some(is) = machine::steer(&progress(&row), &Order::Release, now_ms) {
                write(&tx, row, &is).await?;
            }
        }
        tx.commit().await?;
        Ok(freed)
    }

    /// Takes what is due for a destination: its oldest delivery that is not settled, and in a storm
    /// all that wait behind it. While the oldest is not due, none is: the order is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_delivery(
        &self,
        destination: &str,
        now_ms: UnixMillis,
        limits: &RetryLimits,
        storm: &StormLimits,
    ) -> Result<Claim, StoreError> {
        // Asked without the write lock first: an idle destination costs reception nothing.
        let queue = queue_of(destination);
        let Some(head) = queue.clone().one(self.read()).await? else {
            return Ok(Claim::Nothing);
        };
        if is_put_off(head.due_at, now_ms, limits) {
            return Ok(Claim::Nothing);
        }
        let tx = self.begin().await?;
        let place = destination::Entity::find()
            .filter(destination::Column::Name.eq(destination))
            .lock_exclusive()
            .one(&tx)
            .await?;
        let head = queue.one(&tx).await?;
        let (Some(place), Some(head)) = (place, head) else {
            return Ok(Claim::Nothing);
        };
        if place.paused_at.is_some() {
            return Ok(Claim::Nothing);
        }
        let mut was = progress(&head);
        if !is_put_off(was.due_ms, now_ms, limits) {
            was.due_ms = std::cmp::min(was.due_ms, now_ms);
        }
        let is = if was.state == State::Sending || needed(&tx, &head).await? {
            machine::next(&was, &Event::Claimed, now_ms, limits, 0.0)
        } else {
            machine::steer(&was, &Order::Skip(NOT_NEEDED.to_owned()), now_ms)
        };
        let Some(is) = is else {
            return Ok(Claim::Nothing);
        };
        if is.state != State::Sending {
            write(&tx, head, &is).await?;
            tx.commit().await?;
            return Ok(Claim::Settled);
        }
        // What a message says is fixed by its first attempt: a repeat under the same key is the same.
        if BUNDLED.contains(&head.kind.as_str()) && head.attempts == 0 {
            let sent = sent_since(&tx, destination, now_ms - storm.window_ms).await?;
            match machine::pace(&sent, now_ms, storm) {
                Pace::Alone => {}
                Pace::Wait(_) => return Ok(Claim::Nothing),
                Pace::Bundled => carry(&tx, &head).await?,
            }
        }
        let batch = Batch {
            id: head.id,
            dedup_key: head.dedup_key.clone(),
            kind: head.kind.clone(),
            resolves: key_of(&tx, head.resolves).await?,
            attempts: is.attempts,
            alerts: self.facts(&tx, head.id).await?,
        };
        let mut row = head.clone().into_active_model();
        row.sent_by = Set(self.run().map(str::to_owned));
        row.update(&tx).await?;
        write(&tx, head, &is).await?;
        tx.commit().await?;
        Ok(Claim::Batch(batch))
    }

    /// Records what an attempt came to, and what it says about the destination's health.
    /// An attempt that was given up meanwhile changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_delivery(
        &self,
        batch: &Batch,
        attempt: &Attempt,
        now_ms: UnixMillis,
        limits: &RetryLimits,
        jitter: f64,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let row = delivery::Entity::find_by_id(batch.id)
            .filter(delivery::Column::Attempts.eq(i64::from(batch.attempts)))
            .lock_exclusive()
            .one(&tx)
            .await?;
        let Some(row) = row else {
            return Ok(());
        };
        let event = Event::Ended(attempt.outcome.clone());
        if let Some(is) = machine::next(&progress(&row), &event, now_ms, limits, jitter) {
            note_health(&tx, &row.destination, &attempt.outcome, now_ms).await?;
            if attempt.message.is_some() || attempt.receipt.is_some() || attempt.answer.is_some() {
                keep_message(&tx, row.id, attempt, now_ms).await?;
            } else {
                forget_answer(&tx, row.id).await?;
            }
            write(&tx, row, &is).await?;
        }
        tx.commit().await
    }

    /// What the deliveries of a message say, with the place each study has now.
    async fn facts(
        &self,
        tx: &DatabaseTransaction,
        delivery_id: i64,
    ) -> Result<Vec<AlertFacts>, StoreError> {
        let sql = "SELECT a.id AS alert_id, a.band, s.study_uid, s.arrived_at, \
                   (SELECT COUNT(*) FROM study o WHERE o.reading = 'open' AND \
                    (o.effective_arrival_ms, o.arrived_at, o.study_uid) < \
                    (s.effective_arrival_ms, s.arrived_at, s.study_uid)) + 1 AS rank \
                   FROM delivery d JOIN alert a ON a.id = d.alert_id \
                   JOIN study s ON s.id = a.study_id \
                   WHERE d.id = $1 OR d.carried_by = $1 ORDER BY a.id";
        let facts = Fact::find_by_statement(self.statement(sql, vec![delivery_id.into()]))
            .all(tx)
            .await?;
        Ok(facts
            .into_iter()
            .map(|f| AlertFacts {
                alert_id: f.alert_id,
                study_uid: f.study_uid,
                band: Band::parse(&f.band).unwrap_or(Band::Pending),
                rank: u64::try_from(f.rank).unwrap_or(0),
                arrived_ms: f.arrived_at,
            })
            .collect())
    }
}

async fn key_of(
    tx: &DatabaseTransaction,
    delivery_id: Option<i64>,
) -> Result<Option<String>, StoreError> {
    let Some(id) = delivery_id else {
        return Ok(None);
    };
    let lead = delivery::Entity::find_by_id(id).one(tx).await?;
    Ok(lead.map(|lead| lead.dedup_key))
}

/// Whether a delivery waits for a later moment. No wait is longer than the limits say: what seems to
/// be was put off by a clock that was set back since.
fn is_put_off(due_ms: UnixMillis, now_ms: UnixMillis, limits: &RetryLimits) -> bool {
    let longest_ms = std::cmp::max(limits.longest_ms, limits.lease_ms);
    due_ms > now_ms && due_ms - now_ms <= longest_ms.saturating_mul(2)
}

/// What a destination is still to get, oldest first.
fn queue_of(destination: &str) -> sea_orm::Select<delivery::Entity> {
    delivery::Entity::find()
        .filter(delivery::Column::Destination.eq(destination))
        .filter(unsettled())
        .filter(delivery::Column::CarriedBy.is_null())
        .order_by_asc(delivery::Column::Id)
}

pub(super) fn unsettled() -> sea_orm::sea_query::SimpleExpr {
    delivery::Column::State.is_in([State::Waiting.as_str(), State::Sending.as_str()])
}

/// Ends a destination: what it was still to get is skipped, and nothing is shown of its health any more.
pub(super) async fn drop_destination(
    tx: &DatabaseTransaction,
    name: &str,
    why: &str,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let open = delivery::Entity::find()
        .filter(delivery::Column::Destination.eq(name))
        .filter(delivery::Column::CarriedBy.is_null())
        .filter(delivery::Column::State.is_in([State::Waiting.as_str(), State::Dead.as_str()]))
        .lock_exclusive()
        .all(tx)
        .await?;
    for row in open {
        let skip = Order::Skip(why.to_owned());
        if let Some(is) = machine::steer(&progress(&row), &skip, now_ms) {
            write(tx, row, &is).await?;
        }
    }
    destination::Entity::delete_many()
        .filter(destination::Column::Name.eq(name))
        .exec(tx)
        .await?;
    Ok(())
}

/// Whether anything that a delivery says still has someone to reach: nobody acknowledged it in
/// this round, no reader has its study in hand, and it is open.
async fn needed(tx: &DatabaseTransaction, row: &delivery::Model) -> Result<bool, StoreError> {
    if !BUNDLED.contains(&row.kind.as_str()) {
        return Ok(true);
    }
    let sql = "SELECT a.id FROM delivery d JOIN alert a ON a.id = d.alert_id \
               JOIN study s ON s.id = a.study_id WHERE (d.id = $1 OR d.carried_by = $1) \
               AND a.taken_at IS NULL AND s.reading = 'open' \
               AND (a.acknowledged_at IS NULL OR a.acknowledged_at < a.round_at) LIMIT 1";
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, [row.id.into()]);
    Ok(tx.query_one_raw(statement).await?.is_some())
}

/// When messages about alerts were sent to a destination.
async fn sent_since(
    tx: &DatabaseTransaction,
    destination: &str,
    since_ms: UnixMillis,
) -> Result<Vec<UnixMillis>, StoreError> {
    let moments: Vec<Option<i64>> = delivery::Entity::find()
        .select_only()
        .column(delivery::Column::SettledAt)
        .filter(delivery::Column::Destination.eq(destination))
        .filter(delivery::Column::State.eq(State::Delivered.as_str()))
        .filter(delivery::Column::Kind.is_in(BUNDLED))
        .filter(delivery::Column::CarriedBy.is_null())
        .filter(delivery::Column::SettledAt.gt(since_ms))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(moments.into_iter().flatten().collect())
}

/// Lets the message of `head` say all alerts that wait behind it.
async fn carry(tx: &DatabaseTransaction, head: &delivery::Model) -> Result<(), StoreError> {
    let behind = queue_of(&head.destination)
        .filter(delivery::Column::Kind.eq(&head.kind))
        .filter(delivery::Column::Attempts.eq(0))
        .filter(delivery::Column::Id.ne(head.id))
        .limit(BUNDLE_MAX)
        .all(tx)
        .await?;
    let mut ids = Vec::with_capacity(behind.len());
    for row in &behind {
        if needed(tx, row).await? {
            ids.push(row.id);
        }
    }
    delivery::Entity::update_many()
        .col_expr(delivery::Column::CarriedBy, Expr::value(head.id))
        .filter(delivery::Column::Id.is_in(ids))
        .exec(tx)
        .await?;
    Ok(())
}

/// Keeps what was said and answered; of several attempts the last.
async fn keep_message(
    tx: &DatabaseTransaction,
    delivery_id: i64,
    attempt: &Attempt,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let row = delivery_message::ActiveModel {
        delivery_id: Set(delivery_id),
        said_at: Set(now_ms),
        message: Set(attempt.message.clone()),
        receipt: Set(attempt.receipt.clone()),
        answer: Set(attempt.answer.clone()),
    };
    let columns = [
        delivery_message::Column::SaidAt,
        delivery_message::Column::Message,
        delivery_message::Column::Receipt,
        delivery_message::Column::Answer,
    ];
    delivery_message::Entity::insert(row)
        .on_conflict(
            OnConflict::column(delivery_message::Column::DeliveryId)
                .update_columns(columns)
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// What was answered to an earlier attempt says nothing of the last.
async fn forget_answer(tx: &DatabaseTransaction, delivery_id: i64) -> Result<(), StoreError> {
    delivery_message::Entity::update_many()
        .col_expr(
            delivery_message::Column::Answer,
            Expr::value(Option::<String>::None),
        )
        .filter(delivery_message::Column::DeliveryId.eq(delivery_id))
        .exec(tx)
        .await?;
    Ok(())
}

async fn note_health(
    tx: &DatabaseTransaction,
    destination: &str,
    outcome: &Outcome,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let update = destination::Entity::update_many();
    let update = match outcome {
        Outcome::Delivered => update
            .col_expr(destination::Column::DeliveredAt, Expr::value(now_ms))
            .col_expr(destination::Column::Failures, Expr::value(0_i64)),
        Outcome::Later(why) | Outcome::Never(why) => update
            .col_expr(destination::Column::FailedAt, Expr::value(now_ms))
            .col_expr(
                destination::Column::Failures,
                Expr::col(destination::Column::Failures).add(1_i64),
            )
            .col_expr(destination::Column::LastError, Expr::value(why.as_str())),
    };
    update
        .filter(destination::Column::Name.eq(destination))
        .exec(tx)
        .await?;
    Ok(())
}
