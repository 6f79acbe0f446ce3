//! What destinations promise to keep (PS3.4 J): noted when it is asked for, and when they report, which
//! most do on an association of their own.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter,
};

use super::entity::{delivery, object_delivery};
use super::objects::fresh_delivery;
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// An object that a destination stored and would not keep is sent again so often, at most.
const SENT_AGAIN_MAX: i64 = 3;

/// What a destination says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commitment {
    /// It took the request and reports later.
    Requested,
    /// It keeps the object.
    Committed,
    /// It does not.
    Failed,
    /// It does not offer to promise anything.
    NotOffered,
}

impl Commitment {
    fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Committed => "committed",
            Self::Failed => "failed",
            Self::NotOffered => "not_offered",
        }
    }
}

impl Store {
    /// Notes what is about to be asked, or was said on the association that asked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_commitment(
        &self,
        delivery_id: i64,
        transaction_uid: &str,
        said: Commitment,
        now_ms: UnixMillis,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let found = object_delivery::Entity::find()
            .filter(object_delivery::Column::DeliveryId.eq(delivery_id))
            .one(&tx)
            .await?;
        if let Some(row) = found {
            let mut row = row.into_active_model();
            row.transaction_uid = Set(Some(transaction_uid.to_owned()));
            row.commitment = Set(Some(said.as_str().to_owned()));
            row.commitment_at = Set(Some(now_ms));
            row.update(&tx).await?;
        }
        tx.commit().await
    }

    /// Whether it was reported of a delivery, on another association, that its object is not kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn commitment_failed(&self, delivery_id: i64) -> Result<bool, StoreError> {
        let found = object_delivery::Entity::find()
            .filter(object_delivery::Column::DeliveryId.eq(delivery_id))
            .one(self.read())
            .await?;
        Ok(found.is_some_and(|row| row.commitment.as_deref() == Some("failed")))
    }

    /// Takes a report that came on an association of its own. What is not kept is sent again, a bounded
    /// number of times. False where no transaction of that UID is known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_commitment_report(
        &self,
        transaction_uid: &str,
        all_kept: bool,
        now_ms: UnixMillis,
    ) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let found = object_delivery::Entity::find()
            .filter(object_delivery::Column::TransactionUid.eq(transaction_uid))
            .one(&tx)
            .await?;
        let Some(row) = found else {
            return Ok(false);
        };
        let said = if all_kept {
            Commitment::Committed
        } else {
            Commitment::Failed
        };
        // A report that is repeated changes nothing, and sends nothing again.
        if row.commitment.as_deref() == Some(said.as_str()) {
            tx.commit().await?;
            return Ok(true);
        }
        let (destination, delivery_id) = (row.destination.clone(), row.delivery_id);
        let again = said == Commitment::Failed && row.sent_again < SENT_AGAIN_MAX;
        let sent_again = row.sent_again;
        let mut row = row.into_active_model();
        row.commitment = Set(Some(said.as_str().to_owned()));
        row.commitment_at = Set(Some(now_ms));
        if again {
            let settled = delivery::Entity::find_by_id(delivery_id).one(&tx).await?;
            // One that is still under way is repeated by itself.
            if settled.is_some_and(|d| d.settled_at.is_some()) {
                let id = fresh_delivery(&tx, &destination, now_ms).await?;
                row.delivery_id = Set(id);
                row.sent_again = Set(sent_again + 1);
                row.commitment = Set(None);
            }
        }
        row.update(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}
