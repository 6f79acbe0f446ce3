//! Alerts: raised with the rank that causes them, escalated, acknowledged.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::{alert, claim, delivery, study};
use super::made::quiet_of_made;
use super::outbox::{ALARM, ALERT, NewDelivery, enqueue};
use super::{Store, StoreError};
use crate::alerts::policy::{OPENED_PAUSE_MS, Policy, Rule};
use crate::clock::UnixMillis;
use crate::triage::Band;
use crate::worklist::Acting;

/// Alerts that one look goes on with; the next look takes the next.
const ESCALATED_MAX: u64 = 200;

/// What a message may say of an alert: nothing about the patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertFacts {
    /// Key.
    pub alert_id: i64,
    /// (0020,000D); it stands in links only.
    pub study_uid: String,
    /// The band that the study rose to.
    pub band: Band,
    /// Place among all open studies, from 1.
    pub rank: u64,
    /// Receipt of the first object.
    pub arrived_ms: UnixMillis,
}

/// An alert as the page behind its link shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertStanding {
    /// (0020,000D)
    pub study_uid: String,
    /// The band that the study rose to.
    pub band: Band,
    /// When.
    pub raised_ms: UnixMillis,
    /// open, read or prior.
    pub reading: String,
    /// When, and by whom, it was acknowledged.
    pub acknowledged: Option<(UnixMillis, String)>,
}

/// What a link stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// To whom the link was sent.
    pub destination: String,
    /// When the message was written.
    pub created_ms: UnixMillis,
    /// What the message said.
    pub alerts: Vec<AlertStanding>,
}

/// A study whose highest band rose to one that alerts.
pub(super) struct Risen<'a> {
    pub study_id: i64,
    pub band: Band,
    pub rule: &'a Rule,
}

/// Keeps that a study rose to a band, and what is to be told at once. The same band again changes nothing.
/// While a reader has the study in hand nobody is told; when the claim runs out unread, they are.
pub(super) async fn raise(
    tx: &DatabaseTransaction,
    risen: Risen<'_>,
    policy: &Policy,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let Risen {
        study_id,
        band,
        rule,
    } = risen;
    let holder = holder(tx, study_id, policy, now_ms).await?;
    let row = alert::ActiveModel {
        study_id: Set(study_id),
        band: Set(band.as_str().to_owned()),
        raised_at: Set(now_ms),
        steps_done: Set(0),
        rule: Set(rule.name.clone()),
        round_at: Set(Some(now_ms)),
        round_steps: Set(0),
        hurried_ms: Set(0),
        taken_at: Set(holder.as_ref().map(|_| now_ms)),
        taken_by: Set(holder.as_ref().map(|claim| claim.reader.clone())),
        next_step_at: Set(holder.as_ref().map(|claim| runs_out_at(claim, policy))),
        ..Default::default()
    };
    let fresh = alert::Entity::insert(row)
        .on_conflict(
            OnConflict::columns([alert::Column::StudyId, alert::Column::Band])
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    if fresh == 0 {
        return Ok(());
    }
    // The higher alert takes over: two escalations for one study would only be noise.
    alert::Entity::update_many()
        .col_expr(alert::Column::NextStepAt, Expr::value(Option::<i64>::None))
        .filter(alert::Column::StudyId.eq(study_id))
        .filter(alert::Column::Band.ne(band.as_str()))
        .exec(tx)
        .await?;
    match newest(tx, study_id).await? {
        Some(kept) if holder.is_none() => advance(tx, kept, policy, now_ms).await,
        _ => Ok(()),
    }
}

/// The alert of a study that counts: a higher one has taken over from those before it.
async fn newest(
    tx: &DatabaseTransaction,
    study_id: i64,
) -> Result<Option<alert::Model>, StoreError> {
    alert::Entity::find()
        .filter(alert::Column::StudyId.eq(study_id))
        .order_by_desc(alert::Column::Id)
        .one(tx)
        .await
}

/// The claim that holds a study now.
async fn holder(
    tx: &DatabaseTransaction,
    study_id: i64,
    policy: &Policy,
    now_ms: UnixMillis,
) -> Result<Option<claim::Model>, StoreError> {
    claim::Entity::find_by_id(study_id)
        .filter(claim::Column::ActiveAt.gt(now_ms - policy.claim_idle_ms))
        .one(tx)
        .await
}

/// The first moment at which a claim does not hold any more.
fn runs_out_at(claim: &claim::Model, policy: &Policy) -> UnixMillis {
    claim.active_at + policy.claim_idle_ms
}

/// A reader has the study in hand: whoever was alerted need not look any more. Whether the claim
/// still holds is looked at when it may have run out.
pub(super) async fn taken(
    tx: &DatabaseTransaction,
    study_id: i64,
    reader: &str,
    acting: Acting<'_>,
) -> Result<(), StoreError> {
    let Some(alert) = newest(tx, study_id).await? else {
        return Ok(());
    };
    let idle_ms = acting.now_ms - acting.held_since_ms;
    let again = alert.taken_by.as_deref() == Some(reader);
    let since = alert.taken_at.filter(|_| again).unwrap_or(acting.now_ms);
    let mut row = alert.into_active_model();
    row.taken_at = Set(Some(since));
    row.taken_by = Set(Some(reader.to_owned()));
    row.next_step_at = Set(Some(acting.now_ms + idle_ms));
    row.update(tx).await?;
    Ok(())
}

/// A reader gave the study up, or put it back on the list: unless someone had acknowledged the
/// alert, it begins again; not at once, as another reader is often at it already.
pub(super) async fn given_up(
    tx: &DatabaseTransaction,
    study_id: i64,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let Some(alert) = newest(tx, study_id).await? else {
        return Ok(());
    };
    let acknowledged = acknowledged(&alert).is_some();
    let (was_taken, steps_done) = (alert.taken_at.is_some(), alert.steps_done);
    let mut row = alert.into_active_model();
    row.taken_at = Set(None);
    row.taken_by = Set(None);
    row.next_step_at = Set((!acknowledged).then_some(now_ms + OPENED_PAUSE_MS));
    if was_taken && !acknowledged {
        row.round_at = Set(Some(now_ms));
        row.round_steps = Set(steps_done);
        row.hurried_ms = Set(0);
    }
    row.update(tx).await?;
    Ok(())
}

/// Someone looks at the study: its next step waits a little.
pub(super) async fn opened(
    tx: &DatabaseTransaction,
    study_id: i64,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let not_before = now_ms + OPENED_PAUSE_MS;
    alert::Entity::update_many()
        .col_expr(alert::Column::NextStepAt, Expr::value(not_before))
        .filter(alert::Column::StudyId.eq(study_id))
        .filter(alert::Column::TakenAt.is_null())
        .filter(alert::Column::NextStepAt.lt(not_before))
        .exec(tx)
        .await?;
    Ok(())
}

/// Acknowledges alerts, except those that someone acknowledged before in this round. Gives how many.
async fn settle(
    which: Expr,
    by: &str,
    tx: &DatabaseTransaction,
    now_ms: UnixMillis,
) -> Result<u64, StoreError> {
    let open = alert::Column::AcknowledgedAt
        .is_null()
        .or(Expr::col(alert::Column::AcknowledgedAt).lt(Expr::col(alert::Column::RoundAt)));
    let done = alert::Entity::update_many()
        .col_expr(alert::Column::AcknowledgedAt, Expr::value(now_ms))
        .col_expr(alert::Column::AcknowledgedBy, Expr::value(by))
        .col_expr(alert::Column::NextStepAt, Expr::value(Option::<i64>::None))
        .filter(which)
        .filter(alert::Column::TakenAt.is_null())
        .filter(open)
        .exec(tx)
        .await?;
    Ok(done.rows_affected)
}

/// Writes the deliveries of the steps that are due.
async fn advance(
    tx: &DatabaseTransaction,
    alert: alert::Model,
    policy: &Policy,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let Some(rule) = policy.rule(&alert.rule) else {
        return end(tx, alert).await;
    };
    let began_ms = alert.round_at.unwrap_or(alert.raised_at) - alert.hurried_ms;
    let done = usize::try_from(alert.steps_done - alert.round_steps).unwrap_or(0);
    let band = Band::parse(&alert.band).unwrap_or(Band::Pending);
    let (due, next_step_at) = rule.due(began_ms, done, now_ms);
    let quiet = if due.is_empty() {
        Vec::new()
    } else {
        quiet_of_made(tx).await?
    };
    for (n, step) in due.iter().enumerate() {
        for destination in policy.reaches(step, band, now_ms, &quiet) {
            let new = NewDelivery {
                destination: &destination,
                kind: ALERT,
                alert_id: Some(alert.id),
                step: i64::try_from(n).ok().map(|n| alert.steps_done + n),
                resolves: None,
            };
            enqueue(tx, new, now_ms).await?;
        }
    }
    let steps_done = alert.steps_done + i64::try_from(due.len()).unwrap_or(0);
    let mut row = alert.into_active_model();
    row.steps_done = Set(steps_done);
    row.next_step_at = Set(next_step_at);
    row.update(tx).await?;
    Ok(())
}

/// There is nobody left to tell.
async fn end(tx: &DatabaseTransaction, alert: alert::Model) -> Result<(), StoreError> {
    let mut row = alert.into_active_model();
    row.next_step_at = Set(None);
    row.update(tx).await?;
    Ok(())
}

/// What becomes of an alert whose moment has come. True where someone is told.
async fn go_on(
    tx: &DatabaseTransaction,
    alert: alert::Model,
    policy: &Policy,
    now_ms: UnixMillis,
) -> Result<bool, StoreError> {
    let study = study::Entity::find_by_id(alert.study_id).one(tx).await?;
    if study.is_none_or(|s| s.reading != "open") {
        end(tx, alert).await?;
        return Ok(false);
    }
    if let Some(claim) = holder(tx, alert.study_id, policy, now_ms).await? {
        let mut row = alert.into_active_model();
        row.next_step_at = Set(Some(runs_out_at(&claim, policy)));
        row.taken_at = Set(Some(claim.claimed_at));
        row.taken_by = Set(Some(claim.reader));
        row.update(tx).await?;
        return Ok(false);
    }
    if alert.taken_at.is_none() {
        advance(tx, alert, policy, now_ms).await?;
        return Ok(true);
    }
    // Whoever had it did not read it: everybody is told again, from the first step on.
    let steps_done = alert.steps_done;
    let mut row = alert.into_active_model();
    row.taken_at = Set(None);
    row.taken_by = Set(None);
    row.round_at = Set(Some(now_ms));
    row.round_steps = Set(steps_done);
    row.hurried_ms = Set(0);
    let alert = row.update(tx).await?;
    advance(tx, alert, policy, now_ms).await?;
    Ok(true)
}

/// Who acknowledged an alert in its present round, and when.
fn acknowledged(alert: &alert::Model) -> Option<(UnixMillis, String)> {
    let in_round = |at: &UnixMillis| alert.round_at.is_none_or(|round| *at >= round);
    let at = alert.acknowledged_at.filter(in_round);
    at.zip(alert.acknowledged_by.clone())
}

/// Who looks after an alert, and since when.
fn answer(alert: &alert::Model) -> Option<(UnixMillis, String)> {
    let by = alert.taken_by.as_ref();
    let taken = by.map(|by| format!("{by} (claimed the study)"));
    let taken = alert.taken_at.zip(taken);
    taken.or_else(|| acknowledged(alert))
}

impl Store {
    /// Goes on to the next step of each alert whose time has come; gives how many told someone.
    /// An alert whose study is not open any more ends. One whose reader left the study begins again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn escalate(&self, policy: &Policy, now_ms: UnixMillis) -> Result<u64, StoreError> {
        let due = || alert::Entity::find().filter(alert::Column::NextStepAt.lte(now_ms));
        let ids: Vec<i64> = due()
            .select_only()
            .column(alert::Column::Id)
            .order_by_asc(alert::Column::Id)
            .limit(ESCALATED_MAX)
            .into_tuple()
            .all(self.read())
            .await?;
        let mut escalated = 0;
        for id in ids {
            // One transaction each, the study locked first as everywhere, so that none waits for another.
            let tx = self.begin().await?;
            let study_id: Option<i64> = alert::Entity::find_by_id(id)
                .select_only()
                .column(alert::Column::StudyId)
                .into_tuple()
                .one(&tx)
                .await?;
            let Some(study_id) = study_id else { continue };
            study::Entity::find_by_id(study_id)
                .lock_exclusive()
                .one(&tx)
                .await?;
            let still = due().filter(alert::Column::Id.eq(id)).one(&tx).await?;
            if let Some(alert) = still {
                escalated += u64::from(go_on(&tx, alert, policy, now_ms).await?);
            }
            tx.commit().await?;
        }
        Ok(escalated)
    }

    /// What the link of a delivery stands for; `None` where there is no such delivery of an alert.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn linked(&self, delivery_id: i64) -> Result<Option<Linked>, StoreError> {
        let found = delivery::Entity::find_by_id(delivery_id)
            .filter(delivery::Column::Kind.is_in([ALERT, ALARM]))
            .one(self.read())
            .await?;
        let Some(lead) = found else {
            return Ok(None);
        };
        let ids = self.alerts_of(delivery_id).await?;
        let alerts = alert::Entity::find()
            .filter(alert::Column::Id.is_in(ids))
            .order_by_asc(alert::Column::Id)
            .all(self.read())
            .await?;
        let mut standings = Vec::with_capacity(alerts.len());
        for alert in alerts {
            let study = study::Entity::find_by_id(alert.study_id)
                .one(self.read())
                .await?;
            standings.extend(study.map(|study| AlertStanding {
                study_uid: study.study_uid,
                band: Band::parse(&alert.band).unwrap_or(Band::Pending),
                raised_ms: alert.raised_at,
                reading: study.reading,
                acknowledged: answer(&alert),
            }));
        }
        Ok(Some(Linked {
            destination: lead.destination,
            created_ms: lead.created_at,
            alerts: standings,
        }))
    }

    /// Acknowledges what a delivery said; what was acknowledged before keeps who did. Gives how many were new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn acknowledge(
        &self,
        delivery_id: i64,
        by: &str,
        now_ms: UnixMillis,
    ) -> Result<u64, StoreError> {
        let ids = self.alerts_of(delivery_id).await?;
        let tx = self.begin().await?;
        let done = settle(alert::Column::Id.is_in(ids), by, &tx, now_ms).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Acknowledges all alerts of a study; `None` where there is no such study. Gives how many were new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn acknowledge_study(
        &self,
        study_uid: &str,
        by: &str,
        now_ms: UnixMillis,
    ) -> Result<Option<u64>, StoreError> {
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(None);
        };
        let which = alert::Column::StudyId.eq(locked.study.id);
        let done = settle(which, by, &locked.tx, now_ms).await?;
        locked.tx.commit().await?;
        Ok(Some(done))
    }

    /// Makes the next step of what a delivery said come at once: whoever got it cannot look.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hurry(&self, delivery_id: i64, now_ms: UnixMillis) -> Result<(), StoreError> {
        let ids = self.alerts_of(delivery_id).await?;
        self.hurry_alerts(&ids, now_ms).await
    }

    /// The same for these alerts.
    pub(super) async fn hurry_alerts(
        &self,
        ids: &[i64],
        now_ms: UnixMillis,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        alert::Entity::update_many()
            .col_expr(
                alert::Column::HurriedMs,
                Expr::col(alert::Column::HurriedMs)
                    .add(Expr::col(alert::Column::NextStepAt).sub(now_ms)),
            )
            .col_expr(alert::Column::NextStepAt, Expr::value(now_ms))
            .filter(alert::Column::Id.is_in(ids.iter().copied()))
            .filter(alert::Column::TakenAt.is_null())
            .filter(alert::Column::NextStepAt.gt(now_ms))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// Whether a step of an alert was handed to the outbox.
    pub(super) async fn has_delivery(&self, alert_id: i64, step: i64) -> Result<bool, StoreError> {
        let found = delivery::Entity::find()
            .filter(delivery::Column::AlertId.eq(alert_id))
            .filter(delivery::Column::Step.eq(step))
            .one(self.read())
            .await?;
        Ok(found.is_some())
    }

    /// The alerts that a delivery and those it carries say.
    async fn alerts_of(&self, delivery_id: i64) -> Result<Vec<i64>, StoreError> {
        let ids: Vec<Option<i64>> = delivery::Entity::find()
            .select_only()
            .column(delivery::Column::AlertId)
            .filter(
                delivery::Column::Id
                    .eq(delivery_id)
                    .or(delivery::Column::CarriedBy.eq(delivery_id)),
            )
            .into_tuple()
            .all(self.read())
            .await?;
        Ok(ids.into_iter().flatten().collect())
    }
}
