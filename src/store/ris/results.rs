//! Results for the RIS: written with the rank that they tell, worded when they are first sent.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    sea_query::{Expr, Query},
};

use super::super::entity::{delivery, hl7_result, result_destination, study};
use super::super::outbox::{fresh_key, says_the_newest, waiting};
use super::super::{Store, StoreError};
use crate::triage::Band;
use crate::worklist::StudyDetail;

/// Kind of a delivery of a result.
pub const RESULT: &str = "result";
/// Characters of a key that stands in MSH-10, which has 20 at most (2.5.1 2.15.9.10).
const KEY_CHARS: usize = 20;

/// A destination of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultDestination {
    /// As in the settings.
    pub name: String,
    /// obx8, segment, order or template.
    pub mapping: String,
    /// Told of a study only when it moves up.
    pub only_moving_up: bool,
    /// For people: where it is.
    pub reached: String,
}

/// What a message about a study may say.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultFacts {
    /// What pages show.
    pub study: StudyDetail,
    /// (0010,0010) as received.
    pub patient_name: Option<String>,
    /// (0010,0021)
    pub patient_issuer: Option<String>,
    /// (0010,0030) `YYYYMMDD`
    pub birth_date: Option<String>,
    /// (0008,0030)
    pub study_time: Option<String>,
}

/// Asks for a message to everyone who gets results. One that waits and was never tried says the
/// newest state anyway, so there is no second.
pub(in super::super) async fn tell(
    tx: &DatabaseTransaction,
    study_id: i64,
    before: Band,
    now: Band,
    now_ms: i64,
) -> Result<(), StoreError> {
    for destination in result_destination::Entity::find().all(tx).await? {
        let moves_up = now > before && now >= Band::Elevated;
        if destination.only_moving_up && !moves_up {
            continue;
        }
        let of_study = Query::select()
            .column(hl7_result::Column::DeliveryId)
            .from(hl7_result::Entity)
            .cond_where(hl7_result::Column::StudyId.eq(study_id))
            .to_owned();
        if says_the_newest(tx, &destination.name, of_study).await? {
            continue;
        }
        let row = waiting(&destination.name, RESULT, fresh_control_id()?, now_ms);
        let id = delivery::Entity::insert(row).exec(tx).await?.last_insert_id;
        let row = hl7_result::ActiveModel {
            delivery_id: Set(id),
            study_id: Set(study_id),
            message: Set(None),
        };
        hl7_result::Entity::insert(row)
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// A result that was given up or skipped tells the study as it stands when a person sends it after all: newer ones may
/// have gone out since. So it is worded anew, under a control id that no receiver knows.
pub(in super::super) async fn word_anew(
    tx: &DatabaseTransaction,
    delivery_id: i64,
) -> Result<(), StoreError> {
    hl7_result::Entity::update_many()
        .col_expr(
            hl7_result::Column::Message,
            Expr::value(Option::<String>::None),
        )
        .filter(hl7_result::Column::DeliveryId.eq(delivery_id))
        .exec(tx)
        .await?;
    delivery::Entity::update_many()
        .col_expr(delivery::Column::DedupKey, Expr::value(fresh_control_id()?))
        .filter(delivery::Column::Id.eq(delivery_id))
        .exec(tx)
        .await?;
    Ok(())
}

fn fresh_control_id() -> Result<String, StoreError> {
    Ok(fresh_key()?.chars().take(KEY_CHARS).collect())
}

impl Store {
    /// Keeps who gets results from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn know_result_destinations(
        &self,
        all: &[ResultDestination],
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        result_destination::Entity::delete_many().exec(&tx).await?;
        for destination in all {
            let row = result_destination::ActiveModel {
                name: Set(destination.name.clone()),
                mapping: Set(destination.mapping.clone()),
                only_moving_up: Set(destination.only_moving_up),
                reached: Set(destination.reached.clone()),
            };
            result_destination::Entity::insert(row)
                .exec_without_returning(&tx)
                .await?;
        }
        tx.commit().await
    }

    /// The message of a delivery where it was sent before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn result_message(&self, delivery_id: i64) -> Result<Option<String>, StoreError> {
        let row = hl7_result::Entity::find_by_id(delivery_id)
            .one(self.read())
            .await?;
        Ok(row.and_then(|r| r.message))
    }

    /// Keeps the message of a delivery before it is first sent: every repeat is the same.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_result_message(
        &self,
        delivery_id: i64,
        message: &str,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        hl7_result::Entity::update_many()
            .col_expr(hl7_result::Column::Message, Expr::value(message))
            .filter(hl7_result::Column::DeliveryId.eq(delivery_id))
            .filter(hl7_result::Column::Message.is_null())
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// What the message of a delivery says; `None` where its study is not known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn result_facts(&self, delivery_id: i64) -> Result<Option<ResultFacts>, StoreError> {
        let Some(result) = hl7_result::Entity::find_by_id(delivery_id)
            .one(self.read())
            .await?
        else {
            return Ok(None);
        };
        let row = study::Entity::find_by_id(result.study_id)
            .one(self.read())
            .await?;
        self.facts_of(row).await
    }

    /// What a message about this study would say.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn facts_of_study(&self, study_uid: &str) -> Result<Option<ResultFacts>, StoreError> {
        let row = study::Entity::find()
            .filter(study::Column::StudyUid.eq(study_uid))
            .filter(study::Column::Reading.ne("prior"))
            .one(self.read())
            .await?;
        self.facts_of(row).await
    }

    async fn facts_of(&self, row: Option<study::Model>) -> Result<Option<ResultFacts>, StoreError> {
        let Some(row) = row else {
            return Ok(None);
        };
        // who has it in hand is not told
        let detail = self.study_detail(&row.study_uid, i64::MAX).await?;
        Ok(detail.map(|study| ResultFacts {
            study,
            patient_name: row.patient_name,
            patient_issuer: row.patient_issuer,
            birth_date: row.birth_date,
            study_time: row.study_time,
        }))
    }
}
