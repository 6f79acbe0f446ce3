//! How far the audit trail went to the site's audit record repository: the trail itself is the queue.

use sea_orm::sea_query::{Expr, Func};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::entity::{audit_sent, audit_trail};
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// The one row of `audit_sent`.
const THE_ROW: i64 = 1;

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrailSent {
    /// Entries up to this one were taken.
    pub seq: i64,
    /// Entries that wait.
    pub waiting: i64,
    /// When the one that waits longest was made.
    pub oldest_ms: Option<UnixMillis>,
    /// When one was taken last.
    pub sent_ms: Option<UnixMillis>,
    /// What is in the way, and since when.
    pub problem: Option<(String, UnixMillis)>,
}

impl Store {
    /// How far the trail went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trail_sent(&self) -> Result<TrailSent, StoreError> {
        let row = audit_sent::Entity::find_by_id(THE_ROW)
            .one(self.read())
            .await?;
        let (head, _) = self.trail_head().await?;
        let Some(row) = row else {
            return Ok(TrailSent::default());
        };
        // never beyond what there is: what is added next has to go out
        let seq = row.seq.min(head);
        let oldest = audit_trail::Entity::find_by_id(seq + 1)
            .one(self.read())
            .await?;
        Ok(TrailSent {
            seq,
            waiting: head - seq,
            oldest_ms: oldest.map(|entry| entry.at),
            sent_ms: row.sent_at,
            problem: row.problem.zip(row.problem_since),
        })
    }

    /// Notes that entries up to this one were taken.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trail_was_sent(&self, seq: i64, now_ms: UnixMillis) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        audit_sent::Entity::update_many()
            .col_expr(audit_sent::Column::Seq, Expr::value(seq))
            .col_expr(audit_sent::Column::SentAt, Expr::value(now_ms))
            .col_expr(
                audit_sent::Column::Problem,
                Expr::value(Option::<String>::None),
            )
            .col_expr(
                audit_sent::Column::ProblemSince,
                Expr::value(Option::<i64>::None),
            )
            .filter(audit_sent::Column::Id.eq(THE_ROW))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// Notes what is in the way.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trail_not_sent(&self, why: &str, now_ms: UnixMillis) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let since = Expr::col(audit_sent::Column::ProblemSince);
        let since = Func::coalesce([since, Expr::value(now_ms)]);
        audit_sent::Entity::update_many()
            .col_expr(audit_sent::Column::Problem, Expr::value(why))
            .col_expr(audit_sent::Column::ProblemSince, since.into())
            .filter(audit_sent::Column::Id.eq(THE_ROW))
            .exec(&tx)
            .await?;
        tx.commit().await
    }
}
