//! Deliveries as people see and steer them: queue, dead letters, health of destinations.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Value,
};

use super::entity::{delivery, delivery_message, destination};
use super::outbox::{NewDelivery, TEST, enqueue, progress, write};
use super::{Store, StoreError, ris};
use crate::clock::{UnixMillis, rfc3339};
use crate::outbox::machine::{Order, State, steer};
use crate::triage::Band;
use crate::worklist::DeliveryDetail;

/// A destination and how delivering to it goes.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct DestinationHealth {
    /// As in the settings.
    pub name: String,
    /// Since when nothing is sent to it.
    pub paused_at: Option<UnixMillis>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// When it last took something.
    pub delivered_at: Option<UnixMillis>,
    /// When an attempt last failed.
    pub failed_at: Option<UnixMillis>,
    /// Attempts that failed since the last that succeeded.
    pub failures: i64,
    /// What the last failed attempt came to.
    pub last_error: Option<String>,
    /// Deliveries that wait or are being sent.
    pub waiting: i64,
    /// Deliveries given up, that nobody has resent or skipped.
    pub dead: i64,
    /// Where it is, for one of results.
    pub reached: Option<String>,
}

/// A delivery, with what it is about.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct DeliveryRow {
    /// Key.
    pub id: i64,
    /// To whom.
    pub destination: String,
    /// alert or test.
    pub kind: String,
    /// waiting, sending, delivered, dead or skipped.
    pub state: String,
    /// Attempts begun.
    pub attempts: i64,
    /// When it is tried next.
    pub due_at: UnixMillis,
    /// What came of the last attempt, or why it was skipped.
    pub said: Option<String>,
    /// When it was written.
    pub created_at: UnixMillis,
    /// When it was delivered, given up or skipped.
    pub settled_at: Option<UnixMillis>,
    /// Others that its message says too.
    pub carries: i64,
    /// The band that the study rose to.
    pub band: Option<String>,
    /// (0020,000D)
    pub study_uid: Option<String>,
    /// When someone acknowledged the alert.
    pub acknowledged_at: Option<UnixMillis>,
    /// Who did.
    pub acknowledged_by: Option<String>,
    /// seg, sr, pdf or sc, where it carries one of our objects.
    pub object_kind: Option<String>,
    /// What the destination says of keeping the object: requested, committed, failed or `not_offered`.
    pub commitment: Option<String>,
    /// When it was asked or said so.
    pub commitment_at: Option<UnixMillis>,
}

impl DeliveryRow {
    /// The band, where it is about one.
    #[must_use]
    pub fn band(&self) -> Option<Band> {
        self.band.as_deref().and_then(Band::parse)
    }
}

/// A page to a two-way pager whose answer is awaited.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct UnansweredPage {
    /// Key.
    pub delivery_id: i64,
    /// To whom.
    pub destination: String,
    /// What the paging server calls it.
    pub receipt: String,
}

/// Pages that are asked about in one look.
const ASKED_MAX: u64 = 50;

/// A delivery with its alert and study.
pub(super) const ROWS: &str = "SELECT d.id, d.destination, d.kind, d.state, d.attempts, d.due_at, d.said, \
     d.created_at, d.settled_at, a.band, s.study_uid, \
     COALESCE(a.taken_at, a.acknowledged_at) AS acknowledged_at, \
     CASE WHEN a.taken_at IS NULL THEN a.acknowledged_by \
      ELSE a.taken_by || ' (claimed the study)' END AS acknowledged_by, \
     (SELECT COUNT(*) FROM delivery c WHERE c.carried_by = d.id) AS carries, \
     ro.kind AS object_kind, od.commitment, od.commitment_at \
     FROM delivery d LEFT JOIN alert a ON a.id = d.alert_id \
     LEFT JOIN object_delivery od ON od.delivery_id = d.id \
     LEFT JOIN result_object ro ON ro.id = od.object_id \
     LEFT JOIN hl7_result r ON r.delivery_id = d.id \
     LEFT JOIN fhir_notice f ON f.delivery_id = d.id \
     LEFT JOIN study s ON s.id = COALESCE(a.study_id, ro.study_id, r.study_id, f.study_id)";

/// The condition that delivery `d` tells of a study `t` of which this is true. `ROWS` joins its study last: asked by
/// `s`, every delivery would be read. Here each way from a study to its deliveries has an index.
pub(super) fn tells_of(is: &str) -> String {
    let ways = [
        "x.id FROM study t JOIN alert y ON y.study_id = t.id JOIN delivery x ON x.alert_id = y.id",
        "x.delivery_id FROM study t JOIN result_object y ON y.study_id = t.id \
         JOIN object_delivery x ON x.object_id = y.id",
        "x.delivery_id FROM study t JOIN hl7_result x ON x.study_id = t.id",
        "x.delivery_id FROM study t JOIN fhir_notice x ON x.study_id = t.id",
    ];
    let ids = ways.map(|way| format!("SELECT {way} WHERE {is}"));
    format!("d.id IN ({})", ids.join(" UNION ALL "))
}

impl Store {
    /// All destinations that were ever served, in the order of their names.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn destinations(&self) -> Result<Vec<DestinationHealth>, StoreError> {
        let count = |states: &str| {
            format!(
                "(SELECT COUNT(*) FROM delivery q WHERE q.destination = d.name \
                 AND q.carried_by IS NULL AND q.state IN ({states}))"
            )
        };
        let sql = format!(
            "SELECT d.name, d.paused_at, d.paused_by, d.delivered_at, d.failed_at, d.failures, \
             d.last_error, {} AS waiting, {} AS dead, r.reached FROM destination d \
             LEFT JOIN result_destination r ON r.name = d.name ORDER BY d.name",
            count("'waiting', 'sending'"),
            count("'dead'"),
        );
        DestinationHealth::find_by_statement(self.statement(&sql, vec![]))
            .all(self.read())
            .await
    }

    /// What waits, is being sent or was given up, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_deliveries(&self, limit: u64) -> Result<Vec<DeliveryRow>, StoreError> {
        let tail = "WHERE d.carried_by IS NULL AND d.state IN ('waiting', 'sending', 'dead') \
                    ORDER BY d.id LIMIT $1";
        self.delivery_rows(tail, as_value(limit)).await
    }

    /// What was delivered or skipped, last first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settled_deliveries(&self, limit: u64) -> Result<Vec<DeliveryRow>, StoreError> {
        let tail = "WHERE d.carried_by IS NULL AND d.state IN ('delivered', 'skipped') \
                    ORDER BY d.settled_at DESC, d.id DESC LIMIT $1";
        self.delivery_rows(tail, as_value(limit)).await
    }

    /// What was told of a study, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deliveries_of(&self, study_uid: &str) -> Result<Vec<DeliveryDetail>, StoreError> {
        let tail = format!("WHERE {} ORDER BY d.id", tells_of("t.study_uid = $1"));
        let rows = self.delivery_rows(&tail, study_uid.into()).await?;
        Ok(rows
            .into_iter()
            .map(|row| DeliveryDetail {
                id: row.id,
                band: row.band(),
                destination: row.destination,
                kind: row.kind,
                object: row.object_kind,
                state: row.state,
                attempts: row.attempts,
                said: row.said,
                created_at: rfc3339(row.created_at),
                settled_at: row.settled_at.map(rfc3339),
                acknowledged_at: row.acknowledged_at.map(rfc3339),
                acknowledged_by: row.acknowledged_by,
                commitment: row.commitment,
                commitment_at: row.commitment_at.map(rfc3339),
            })
            .collect())
    }

    /// One delivery.
    pub(super) async fn delivery(&self, id: i64) -> Result<Option<DeliveryRow>, StoreError> {
        let rows = self.delivery_rows("WHERE d.id = $1", id.into()).await?;
        Ok(rows.into_iter().next())
    }

    async fn delivery_rows(
        &self,
        tail: &str,
        value: Value,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let sql = format!("{ROWS} {tail}");
        DeliveryRow::find_by_statement(self.statement(&sql, vec![value]))
            .all(self.read())
            .await
    }

    /// Pages since then that nobody has answered, of alerts that still need an answer; oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unanswered_pages(
        &self,
        since_ms: UnixMillis,
    ) -> Result<Vec<UnansweredPage>, StoreError> {
        let sql = "SELECT d.id AS delivery_id, d.destination, m.receipt FROM delivery d \
                   JOIN delivery_message m ON m.delivery_id = d.id \
                   JOIN alert a ON a.id = d.alert_id JOIN study s ON s.id = a.study_id \
                   WHERE m.receipt IS NOT NULL AND m.said_at >= $1 AND d.state = 'delivered' \
                   AND a.taken_at IS NULL AND s.reading = 'open' \
                   AND (a.acknowledged_at IS NULL OR a.acknowledged_at < a.round_at) \
                   ORDER BY d.id LIMIT $2";
        let values = vec![since_ms.into(), as_value(ASKED_MAX)];
        UnansweredPage::find_by_statement(self.statement(sql, values))
            .all(self.read())
            .await
    }

    /// A page needs not be asked about any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn page_answered(&self, delivery_id: i64) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        delivery_message::Entity::update_many()
            .col_expr(
                delivery_message::Column::Receipt,
                Expr::value(Option::<String>::None),
            )
            .filter(delivery_message::Column::DeliveryId.eq(delivery_id))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// How many deliveries stand in which state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deliveries_by_state(&self) -> Result<Vec<(String, i64)>, StoreError> {
        delivery::Entity::find()
            .select_only()
            .column(delivery::Column::State)
            .column_as(delivery::Column::Id.count(), "n")
            .group_by(delivery::Column::State)
            .order_by_asc(delivery::Column::State)
            .into_tuple()
            .all(self.read())
            .await
    }

    /// Destinations that have not taken something for a while: the last attempts failed, or
    /// something was given up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn failing_destinations(&self) -> Result<Vec<String>, StoreError> {
        let all = self.destinations().await?;
        let failing = all.into_iter().filter(DestinationHealth::fails);
        Ok(failing.map(|d| d.name).collect())
    }

    /// Sends a delivery now, or takes it out of the queue. `false` where it does not stand so
    /// that this can be done.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn steer_delivery(
        &self,
        id: i64,
        order: &Order,
        now_ms: UnixMillis,
    ) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let row = delivery::Entity::find_by_id(id)
            .filter(delivery::Column::CarriedBy.is_null())
            .lock_exclusive()
            .one(&tx)
            .await?;
        let Some(row) = row else {
            return Ok(false);
        };
        let was = progress(&row);
        let Some(is) = steer(&was, order, now_ms) else {
            return Ok(false);
        };
        let is_over = matches!(was.state, State::Dead | State::Skipped);
        if *order == Order::Resend && is_over && row.kind == ris::RESULT {
            ris::word_anew(&tx, id).await?;
        }
        write(&tx, row, &is).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Stops sending to a destination, or goes on; what is written meanwhile waits.
    /// `false` where there is no such destination.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pause_destination(
        &self,
        name: &str,
        by: Option<&str>,
        now_ms: UnixMillis,
    ) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let done = destination::Entity::update_many()
            .col_expr(
                destination::Column::PausedAt,
                Expr::value(by.map(|_| now_ms)),
            )
            .col_expr(destination::Column::PausedBy, Expr::value(by))
            .filter(destination::Column::Name.eq(name))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected > 0)
    }

    /// Asks for a test message. `false` where there is no such destination.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn send_test(&self, name: &str, now_ms: UnixMillis) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let known = destination::Entity::find()
            .filter(destination::Column::Name.eq(name))
            .one(&tx)
            .await?;
        let Some(known) = known else {
            return Ok(false);
        };
        let new = NewDelivery {
            destination: &known.name,
            kind: TEST,
            alert_id: None,
            step: None,
            resolves: None,
        };
        enqueue(&tx, new, now_ms).await?;
        tx.commit().await?;
        Ok(true)
    }
}

impl DestinationHealth {
    /// Attempts that fail in a row before a destination counts as failing: one may be chance.
    const FAILURES_SHOWN: i64 = 2;

    /// Whether a message does not get through. What is not in use any more does not count.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.dead > 0 || self.waiting > 0 && self.failures >= Self::FAILURES_SHOWN
    }
}

fn as_value(n: u64) -> Value {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}
