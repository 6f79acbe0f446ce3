//! FHIR subscriptions: kept, found, ended; and their notifications, written with the rank that causes them.

use sea_orm::sea_query::{ExprTrait as _, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait as _,
    QueryFilter, QueryOrder, sea_query::Expr,
};

use super::accounts::still_works;
use super::entity::{api_token, delivery, destination, fhir_notice, fhir_subscription, study};
use super::outbox::{fresh_key, says_the_newest, waiting};
use super::{Store, StoreError};
use crate::clock::UnixMillis;
use crate::fhir::subscription::{Criteria, Subscription, Wanted};
use crate::triage::{Band, OrderPriority};
use crate::worklist::StudyDetail;

/// Kind of a delivery that notifies a subscriber.
pub const NOTICE: &str = "fhir";
/// Subscriptions at a time.
pub const SUBSCRIPTIONS_MAX: u64 = 50;
/// Failures in a row after which a subscription says `error`.
const FAILURES_SHOWN: i64 = 2;
/// What a notification says that its subscription's end made superfluous.
const ENDED: &str = "its subscription was deleted";

/// What a study is now, as far as one can subscribe to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum News<'a> {
    /// Its report is in this state, and of this band.
    Report(&'a str, Band),
    /// Its order has this priority now, and had another.
    Order(OrderPriority),
}

/// Notifies whoever subscribed to what this study is now. One that waits and was never tried tells the newest state
/// anyway, so there is no second.
pub(super) async fn notify(
    tx: &DatabaseTransaction,
    study_id: i64,
    news: News<'_>,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let live = fhir_subscription::Entity::find()
        .filter(fhir_subscription::Column::RemovedAt.is_null())
        .filter(is_vouched_for(now_ms))
        .order_by_asc(fhir_subscription::Column::Id)
        .all(tx)
        .await?;
    for row in live {
        let over = row.ends_at.is_some_and(|at| at <= now_ms);
        let fits = Criteria::parse(&row.criteria).is_ok_and(|criteria| match news {
            News::Report(state, band) => criteria.fit_report(state, band),
            News::Order(priority) => criteria.fit_order(priority),
        });
        if over || !fits {
            continue;
        }
        let destination = subscription(row).destination();
        let of_study = Query::select()
            .column(fhir_notice::Column::DeliveryId)
            .from(fhir_notice::Entity)
            .cond_where(fhir_notice::Column::StudyId.eq(study_id))
            .to_owned();
        if says_the_newest(tx, &destination, of_study).await? {
            continue;
        }
        let row = waiting(&destination, NOTICE, fresh_key()?, now_ms);
        let id = delivery::Entity::insert(row).exec(tx).await?.last_insert_id;
        let row = fhir_notice::ActiveModel {
            delivery_id: Set(id),
            study_id: Set(study_id),
        };
        fhir_notice::Entity::insert(row)
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// A token of the name that made a subscription still works: who may see nothing any more is told nothing.
fn is_vouched_for(now_ms: UnixMillis) -> Expr {
    let name = Expr::col((api_token::Entity, api_token::Column::Name));
    let made_by = (fhir_subscription::Entity, fhir_subscription::Column::MadeBy);
    let tokens = Query::select()
        .column((api_token::Entity, api_token::Column::Id))
        .from(api_token::Entity)
        .and_where(name.equals(made_by))
        .cond_where(still_works(now_ms))
        .to_owned();
    Expr::exists(tokens)
}

fn subscription(row: fhir_subscription::Model) -> Subscription {
    Subscription {
        id: row.id,
        criteria: row.criteria,
        reason: row.reason,
        endpoint: row.endpoint,
        payload: row.payload,
        headers_sealed: row.headers_sealed,
        header_names: serde_json::from_str(&row.header_names).unwrap_or_default(),
        ends_at: row.ends_at,
        made_by: row.made_by,
        error: None,
    }
}

impl Store {
    /// Keeps a subscription; `None` where there are too many already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subscribe(
        &self,
        wanted: &Wanted,
        headers_sealed: Option<String>,
        by: &str,
        now_ms: UnixMillis,
    ) -> Result<Option<Subscription>, StoreError> {
        let names: Vec<&str> = wanted.headers.iter().map(|(n, _)| n.as_str()).collect();
        let row = fhir_subscription::ActiveModel {
            criteria: Set(wanted.criteria.clone()),
            reason: Set(wanted.reason.clone()),
            endpoint: Set(wanted.endpoint.clone()),
            payload: Set(wanted.payload.clone()),
            headers_sealed: Set(headers_sealed),
            header_names: Set(serde_json::to_string(&names).unwrap_or_default()),
            ends_at: Set(wanted.ends_at),
            made_by: Set(by.to_owned()),
            made_at: Set(now_ms),
            ..Default::default()
        };
        let tx = self.begin().await?;
        let live = fhir_subscription::Entity::find()
            .filter(fhir_subscription::Column::RemovedAt.is_null());
        if live.count(&tx).await? >= SUBSCRIPTIONS_MAX {
            return Ok(None);
        }
        let made = fhir_subscription::Entity::insert(row).exec(&tx).await?;
        tx.commit().await?;
        let made = self.subscription(made.last_insert_id).await?;
        if let Some(made) = &made {
            self.know_destinations(&[made.destination()]).await?;
        }
        Ok(made)
    }

    /// A subscription that was not deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subscription(&self, id: i64) -> Result<Option<Subscription>, StoreError> {
        let row = fhir_subscription::Entity::find_by_id(id)
            .filter(fhir_subscription::Column::RemovedAt.is_null())
            .one(self.read())
            .await?;
        match row {
            None => Ok(None),
            Some(row) => Ok(Some(self.with_health(row).await?)),
        }
    }

    /// A subscription that may be told something now: not deleted, not over, and a token of its name still works.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn served_subscription(
        &self,
        id: i64,
        now_ms: UnixMillis,
    ) -> Result<Option<Subscription>, StoreError> {
        let row = fhir_subscription::Entity::find_by_id(id)
            .filter(fhir_subscription::Column::RemovedAt.is_null())
            .filter(is_vouched_for(now_ms))
            .one(self.read())
            .await?;
        Ok(row.map(subscription).filter(|found| !found.is_over(now_ms)))
    }

    /// All that were not deleted, oldest first; of one token where it is named.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subscriptions(&self, of: Option<&str>) -> Result<Vec<Subscription>, StoreError> {
        let mut found = fhir_subscription::Entity::find()
            .filter(fhir_subscription::Column::RemovedAt.is_null())
            .order_by_asc(fhir_subscription::Column::Id);
        if let Some(name) = of {
            found = found.filter(fhir_subscription::Column::MadeBy.eq(name));
        }
        let mut all = Vec::new();
        for row in found.all(self.read()).await? {
            all.push(self.with_health(row).await?);
        }
        Ok(all)
    }

    async fn with_health(&self, row: fhir_subscription::Model) -> Result<Subscription, StoreError> {
        let mut found = subscription(row);
        let health = destination::Entity::find()
            .filter(destination::Column::Name.eq(found.destination()))
            .filter(destination::Column::Failures.gte(FAILURES_SHOWN))
            .one(self.read())
            .await?;
        found.error = health.and_then(|h| h.last_error);
        Ok(found)
    }

    /// Deletes a subscription; what was still to be sent is skipped. False where there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unsubscribe(
        &self,
        id: i64,
        by: &str,
        now_ms: UnixMillis,
    ) -> Result<bool, StoreError> {
        use fhir_subscription::Column as C;
        let tx = self.begin().await?;
        let done = fhir_subscription::Entity::update_many()
            .col_expr(C::RemovedAt, Expr::value(now_ms))
            .col_expr(C::RemovedBy, Expr::value(by))
            // what was to be sent with them goes with them
            .col_expr(C::HeadersSealed, Expr::value(Option::<String>::None))
            .filter(C::Id.eq(id))
            .filter(C::RemovedAt.is_null())
            .exec(&tx)
            .await?;
        super::outbox::drop_destination(&tx, &format!("fhir:{id}"), ENDED, now_ms).await?;
        tx.commit().await?;
        Ok(done.rows_affected > 0)
    }

    /// The study that a notification is about, with its key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn notice_study(
        &self,
        delivery_id: i64,
    ) -> Result<Option<(i64, StudyDetail)>, StoreError> {
        let notice = fhir_notice::Entity::find_by_id(delivery_id)
            .one(self.read())
            .await?;
        let Some(notice) = notice else {
            return Ok(None);
        };
        let row = study::Entity::find_by_id(notice.study_id)
            .one(self.read())
            .await?;
        let Some(row) = row else { return Ok(None) };
        // who has it in hand is not told
        let detail = self.study_detail(&row.study_uid, i64::MAX).await?;
        Ok(detail.map(|detail| (row.id, detail)))
    }
}
