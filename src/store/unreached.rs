//! Alerts that reached nobody: the next step comes at once, and without one that is an alarm.
//! And those that need nobody any more, which systems that page by themselves must hear of.

use sea_orm::FromQueryResult;

use super::outbox::{ALARM, NewDelivery, RESOLVED, enqueue};
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// Attempts of a destination that fail in a row before nothing is hoped of it: one may be chance.
const FAILURES_HOPED: i64 = 2;
/// Alerts that are looked at in one go.
const LOOKED_AT_MAX: i64 = 500;

/// An alert of which every delivery of its present round fails.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
struct Unreached {
    id: i64,
    next_step_at: Option<i64>,
    round_steps: i64,
}

/// Open alerts that nobody looks after, that have something to be delivered in this round, and of
/// which nothing was delivered and nothing is hoped: given up, paused, or behind failures.
const UNREACHED: &str = "SELECT a.id, a.next_step_at, a.round_steps FROM alert a \
     JOIN study s ON s.id = a.study_id \
     WHERE s.reading = 'open' AND a.taken_at IS NULL \
     AND (a.acknowledged_at IS NULL OR a.acknowledged_at < a.round_at) \
     AND a.id = (SELECT MAX(n.id) FROM alert n WHERE n.study_id = a.study_id) \
     AND EXISTS (SELECT 1 FROM delivery d WHERE d.alert_id = a.id AND d.step >= a.round_steps \
      AND d.state <> 'skipped') \
     AND NOT EXISTS (SELECT 1 FROM delivery d LEFT JOIN destination p ON p.name = d.destination \
      WHERE d.alert_id = a.id AND d.step >= a.round_steps AND (d.state = 'delivered' OR \
       d.state IN ('waiting', 'sending') AND p.paused_at IS NULL AND COALESCE(p.failures, 0) < $1)) \
     ORDER BY a.id LIMIT $2";

/// A delivered message of which every alert is in a reader's hands, or its study off the list.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
struct Answered {
    id: i64,
    destination: String,
    alert_id: Option<i64>,
}

/// Messages to a destination, since some time, that were not taken back and need nobody any more.
const ANSWERED: &str = "SELECT d.id, d.destination, d.alert_id FROM delivery d \
     WHERE d.destination = $1 AND d.state = 'delivered' AND d.settled_at > $2 \
     AND d.kind IN ('alert', 'alarm') AND d.carried_by IS NULL \
     AND NOT EXISTS (SELECT 1 FROM delivery r WHERE r.resolves = d.id) \
     AND NOT EXISTS (SELECT 1 FROM delivery c JOIN alert a ON a.id = c.alert_id \
      JOIN study s ON s.id = a.study_id WHERE (c.id = d.id OR c.carried_by = d.id) \
      AND s.reading = 'open' AND a.taken_at IS NULL) \
     ORDER BY d.id LIMIT $3";
/// How long after a message it may still be taken back.
const RESOLVED_WITHIN_MS: i64 = 7 * 86_400_000;

impl Store {
    /// Tells these destinations of messages that need nobody any more, once each. Gives how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_back(
        &self,
        destinations: &[String],
        now_ms: UnixMillis,
    ) -> Result<u64, StoreError> {
        let mut told = 0;
        for destination in destinations {
            let values = vec![
                destination.into(),
                (now_ms - RESOLVED_WITHIN_MS).into(),
                LOOKED_AT_MAX.into(),
            ];
            let found = Answered::find_by_statement(self.statement(ANSWERED, values))
                .all(self.read())
                .await?;
            if found.is_empty() {
                continue;
            }
            let tx = self.begin().await?;
            for message in found {
                let new = NewDelivery {
                    destination: &message.destination,
                    kind: RESOLVED,
                    alert_id: message.alert_id,
                    step: None,
                    resolves: Some(message.id),
                };
                enqueue(&tx, new, now_ms).await?;
                told += 1;
            }
            tx.commit().await?;
        }
        Ok(told)
    }

    /// Goes on at once with alerts that reached nobody so far. Gives how many have no step left:
    /// nobody knows of them, and `alarm_to` is told so, once each.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rescue(&self, alarm_to: &[String], now_ms: UnixMillis) -> Result<u64, StoreError> {
        let values = vec![FAILURES_HOPED.into(), LOOKED_AT_MAX.into()];
        let found = Unreached::find_by_statement(self.statement(UNREACHED, values))
            .all(self.read())
            .await?;
        let mut without_step = 0;
        for alert in found {
            match alert.next_step_at {
                Some(at) if at > now_ms => self.hurry_alerts(&[alert.id], now_ms).await?,
                // It is being gone on with.
                Some(_) => {}
                None => {
                    without_step += 1;
                    self.alarm(&alert, alarm_to, now_ms).await?;
                }
            }
        }
        Ok(without_step)
    }

    /// How many alerts reached nobody and have no step left.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unreached_without_step(&self) -> Result<u64, StoreError> {
        let values = vec![FAILURES_HOPED.into(), LOOKED_AT_MAX.into()];
        let found = Unreached::find_by_statement(self.statement(UNREACHED, values))
            .all(self.read())
            .await?;
        Ok(found.iter().filter(|a| a.next_step_at.is_none()).count() as u64)
    }

    /// Writes the alarm of a round, where it is not written yet.
    async fn alarm(
        &self,
        alert: &Unreached,
        to: &[String],
        now_ms: UnixMillis,
    ) -> Result<(), StoreError> {
        if to.is_empty() {
            return Ok(());
        }
        // Steps count from 0 through all rounds: below them there is one number for each round's alarm.
        let step = -1 - alert.round_steps;
        if self.has_delivery(alert.id, step).await? {
            return Ok(());
        }
        let tx = self.begin().await?;
        for destination in to {
            let new = NewDelivery {
                destination,
                kind: ALARM,
                alert_id: Some(alert.id),
                step: Some(step),
                resolves: None,
            };
            enqueue(&tx, new, now_ms).await?;
        }
        tx.commit().await
    }
}
