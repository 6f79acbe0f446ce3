//! Order priorities, known by accession number, before or after their study arrives.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use super::entity::{idempotency, imaging_order, study};
use super::ranks::Ranker;
use super::ris::{self, Meeting};
use super::{Store, StoreError};
use crate::triage::OrderPriority;

impl Store {
    /// Keeps the priority of an order and re-ranks its studies, at once; gives the UIDs of the open ones.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_order(
        &self,
        accession: &str,
        priority: OrderPriority,
        source: &str,
        ranker: &Ranker,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        let tx = self.begin().await?;
        ranker.rules_in(&tx).await?;
        ris::meet(&tx, Meeting::Message).await?;
        let row = imaging_order::ActiveModel {
            accession: Set(accession.to_owned()),
            priority: Set(priority.as_str().to_owned()),
            source: Set(source.to_owned()),
            changed_at: Set(now_ms),
            ..Default::default()
        };
        imaging_order::Entity::insert(row)
            .on_conflict(
                OnConflict::column(imaging_order::Column::Accession)
                    .update_columns([
                        imaging_order::Column::Priority,
                        imaging_order::Column::Source,
                        imaging_order::Column::ChangedAt,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        let of_accession = study::Entity::find()
            .filter(study::Column::Accession.eq(accession))
            .order_by_asc(study::Column::Id)
            .lock_exclusive()
            .all(&tx)
            .await?;
        let mut open = Vec::new();
        for study in of_accession {
            // one that was read too: it may come back to the list, and has its place then
            Box::pin(ris::refresh(&tx, study.id, &[], ranker, now_ms)).await?;
            if study.reading == "open" {
                open.push(study.study_uid);
            }
        }
        tx.commit().await?;
        Ok(open)
    }

    /// The answer given to an earlier request with this key: digest of the request, answer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn earlier_answer(&self, key: &str) -> Result<Option<(String, String)>, StoreError> {
        let found = idempotency::Entity::find()
            .filter(idempotency::Column::IdempotencyKey.eq(key))
            .one(self.read())
            .await?;
        Ok(found.map(|row| (row.request_digest, row.response_json)))
    }

    /// Keeps an answer for requests that repeat this key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_answer(
        &self,
        key: &str,
        request_digest: &str,
        response_json: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let row = idempotency::ActiveModel {
            idempotency_key: Set(key.to_owned()),
            request_digest: Set(request_digest.to_owned()),
            response_json: Set(response_json.to_owned()),
            created_at: Set(now_ms),
            ..Default::default()
        };
        idempotency::Entity::insert(row)
            .on_conflict(
                OnConflict::column(idempotency::Column::IdempotencyKey)
                    .do_nothing()
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await
    }
}
