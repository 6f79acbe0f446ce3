//! Messages as they went out, and who looked at them.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::deliveries::DeliveryRow;
use super::entity::{delivery_message, message_view};
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// Looks that are shown.
const VIEWS_SHOWN: u64 = 50;

/// A message as it went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// When it last went out.
    pub at: UnixMillis,
    /// Its text; `None` where an object went out.
    pub message: Option<String>,
    /// What the destination answered in its own words, where it did not take it.
    pub answer: Option<String>,
}

/// Someone looked at a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// Name of the account.
    pub who: String,
    /// Whether what identifies the patient was shown.
    pub uncovered: bool,
    /// When.
    pub at: UnixMillis,
}

impl Store {
    /// A delivery, with what it said where something went out. That `who` looks is kept with it:
    /// nobody sees a message without leaving a trace.
    ///
    /// # Errors
    /// When the database fails; then nothing was shown.
    pub async fn view_message(
        &self,
        delivery_id: i64,
        who: &str,
        uncovered: bool,
        now_ms: UnixMillis,
    ) -> Result<Option<(DeliveryRow, Option<Said>)>, StoreError> {
        let Some(row) = self.delivery(delivery_id).await? else {
            return Ok(None);
        };
        let tx = self.begin().await?;
        let view = message_view::ActiveModel {
            delivery_id: Set(delivery_id),
            who: Set(who.to_owned()),
            uncovered: Set(uncovered),
            at: Set(now_ms),
            ..Default::default()
        };
        message_view::Entity::insert(view)
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await?;
        let said = delivery_message::Entity::find_by_id(delivery_id)
            .one(self.read())
            .await?;
        let said = said.map(|m| Said {
            at: m.said_at,
            message: m.message,
            answer: m.answer,
        });
        Ok(Some((row, said)))
    }

    /// Who looked at a message, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn message_views(&self, delivery_id: i64) -> Result<Vec<MessageView>, StoreError> {
        let rows = message_view::Entity::find()
            .filter(message_view::Column::DeliveryId.eq(delivery_id))
            .order_by_desc(message_view::Column::Id)
            .limit(VIEWS_SHOWN)
            .all(self.read())
            .await?;
        let view = |row: message_view::Model| MessageView {
            who: row.who,
            uncovered: row.uncovered,
            at: row.at,
        };
        Ok(rows.into_iter().map(view).collect())
    }
}
