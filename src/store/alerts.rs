//! Alerts: raised with the rank that causes them, escalated, acknowledged.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::{alert, delivery, study};
use super::outbox::{ALERT, NewDelivery, enqueue};
use super::{Store, StoreError};
use crate::alerts::policy::Policy;
use crate::clock::UnixMillis;
use crate::triage::Band;

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

/// Keeps that a study rose to a band, and what is to be told at once. The same band again changes nothing.
pub(super) async fn raise(
    tx: &DatabaseTransaction,
    study_id: i64,
    band: Band,
    policy: &Policy,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let row = alert::ActiveModel {
        study_id: Set(study_id),
        band: Set(band.as_str().to_owned()),
        raised_at: Set(now_ms),
        steps_done: Set(0),
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
    let kept = alert::Entity::find()
        .filter(alert::Column::StudyId.eq(study_id))
        .filter(alert::Column::Band.eq(band.as_str()))
        .one(tx)
        .await?;
    match kept {
        Some(kept) => advance(tx, kept, policy, now_ms).await,
        None => Ok(()),
    }
}

/// A reader took the study: whoever was alerted need not look any more.
pub(super) async fn answered(
    tx: &DatabaseTransaction,
    study_id: i64,
    reader: &str,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let by = format!("{reader} (claimed the study)");
    settle(alert::Column::StudyId.eq(study_id), &by, tx, now_ms).await?;
    Ok(())
}

/// Acknowledges alerts, except those that someone acknowledged before. Gives how many.
async fn settle(
    which: Expr,
    by: &str,
    tx: &DatabaseTransaction,
    now_ms: UnixMillis,
) -> Result<u64, StoreError> {
    let done = alert::Entity::update_many()
        .col_expr(alert::Column::AcknowledgedAt, Expr::value(now_ms))
        .col_expr(alert::Column::AcknowledgedBy, Expr::value(by))
        .col_expr(alert::Column::NextStepAt, Expr::value(Option::<i64>::None))
        .filter(which)
        .filter(alert::Column::AcknowledgedAt.is_null())
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
    let done = usize::try_from(alert.steps_done).unwrap_or(0);
    let (due, next_step_at) = policy.due(alert.raised_at, done, now_ms);
    for (n, step) in due.iter().enumerate() {
        for destination in &step.to {
            let new = NewDelivery {
                destination,
                kind: ALERT,
                alert_id: Some(alert.id),
                step: i64::try_from(done + n).ok(),
            };
            enqueue(tx, new, now_ms).await?;
        }
    }
    let steps_done = i64::try_from(done + due.len()).unwrap_or(i64::MAX);
    let mut row = alert.into_active_model();
    row.steps_done = Set(steps_done);
    row.next_step_at = Set(next_step_at);
    row.update(tx).await?;
    Ok(())
}

impl Store {
    /// Goes on to the next step of each alert whose time has come; gives how many that were.
    /// An alert whose study is not open any more ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn escalate(&self, policy: &Policy, now_ms: UnixMillis) -> Result<u64, StoreError> {
        let due = || alert::Entity::find().filter(alert::Column::NextStepAt.lte(now_ms));
        if due().one(self.read()).await?.is_none() {
            return Ok(0);
        }
        let tx = self.begin().await?;
        let mut escalated = 0;
        let rows = due()
            .order_by_asc(alert::Column::Id)
            .lock_exclusive()
            .all(&tx)
            .await?;
        for alert in rows {
            let study = study::Entity::find_by_id(alert.study_id).one(&tx).await?;
            if study.is_some_and(|s| s.reading == "open") {
                escalated += 1;
                advance(&tx, alert, policy, now_ms).await?;
            } else {
                let mut row = alert.into_active_model();
                row.next_step_at = Set(None);
                row.update(&tx).await?;
            }
        }
        tx.commit().await?;
        Ok(escalated)
    }

    /// What the link of a delivery stands for; `None` where there is no such delivery of an alert.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn linked(&self, delivery_id: i64) -> Result<Option<Linked>, StoreError> {
        let found = delivery::Entity::find_by_id(delivery_id)
            .filter(delivery::Column::Kind.eq(ALERT))
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
                acknowledged: alert.acknowledged_at.zip(alert.acknowledged_by),
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
