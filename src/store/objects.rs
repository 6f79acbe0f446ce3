//! Our results as DICOM objects, and the deliveries that carry them.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder,
};

use super::entity::{object_delivery, result_object};
use super::outbox::{fresh_key, waiting};
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// A delivery of one of our objects.
pub const OBJECT: &str = "object";

/// An object on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptObject {
    /// seg, sr, pdf or sc.
    pub kind: String,
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// (0020,000E)
    pub series_uid: String,
    /// Relative to the data folder.
    pub path: String,
}

/// Who gets which kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the destination.
    pub destination: String,
    /// Kinds.
    pub kinds: Vec<String>,
}

impl From<result_object::Model> for KeptObject {
    fn from(row: result_object::Model) -> Self {
        Self {
            kind: row.kind,
            sop_instance_uid: row.sop_instance_uid,
            series_uid: row.series_uid,
            path: row.path,
        }
    }
}

impl Store {
    /// The objects that were made of a result, in the order they were made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn objects_of_result(
        &self,
        study_id: i64,
        result: &str,
    ) -> Result<Vec<KeptObject>, StoreError> {
        let rows = result_object::Entity::find()
            .filter(result_object::Column::StudyId.eq(study_id))
            .filter(result_object::Column::Result.eq(result))
            .order_by_asc(result_object::Column::Id)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(KeptObject::from).collect())
    }

    /// Keeps objects, and asks for their delivery in the same transaction. What is kept or asked for
    /// already is not kept or asked for again.
    ///
    /// # Errors
    /// When the database fails: nothing is kept then.
    pub async fn keep_objects(
        &self,
        study_id: i64,
        result: &str,
        objects: &[KeptObject],
        wanted: &[Wanted],
        now_ms: UnixMillis,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        for object in objects {
            let known = result_object::Entity::find()
                .filter(result_object::Column::SopInstanceUid.eq(&object.sop_instance_uid))
                .one(&tx)
                .await?;
            let id = match known {
                Some(row) => row.id,
                None => keep(&tx, study_id, result, object, now_ms).await?,
            };
            for to in wanted.iter().filter(|w| w.kinds.contains(&object.kind)) {
                ask(&tx, id, &to.destination, now_ms).await?;
            }
        }
        tx.commit().await
    }

    /// The object that a delivery carries; `None` for a delivery of something else.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn object_of_delivery(
        &self,
        delivery_id: i64,
    ) -> Result<Option<KeptObject>, StoreError> {
        let carried = object_delivery::Entity::find()
            .filter(object_delivery::Column::DeliveryId.eq(delivery_id))
            .one(self.read())
            .await?;
        let Some(carried) = carried else {
            return Ok(None);
        };
        let row = result_object::Entity::find_by_id(carried.object_id)
            .one(self.read())
            .await?;
        Ok(row.map(KeptObject::from))
    }
}

async fn keep(
    tx: &DatabaseTransaction,
    study_id: i64,
    result: &str,
    object: &KeptObject,
    now_ms: UnixMillis,
) -> Result<i64, StoreError> {
    let row = result_object::ActiveModel {
        study_id: Set(study_id),
        result: Set(result.to_owned()),
        kind: Set(object.kind.clone()),
        sop_instance_uid: Set(object.sop_instance_uid.clone()),
        series_uid: Set(object.series_uid.clone()),
        path: Set(object.path.clone()),
        created_at: Set(now_ms),
        ..Default::default()
    };
    Ok(row.insert(tx).await?.id)
}

/// A delivery of an object that waits to be sent.
pub(super) async fn fresh_delivery(
    tx: &DatabaseTransaction,
    destination: &str,
    now_ms: UnixMillis,
) -> Result<i64, StoreError> {
    let row = waiting(destination, OBJECT, fresh_key()?, now_ms);
    Ok(row.insert(tx).await?.id)
}

async fn ask(
    tx: &DatabaseTransaction,
    object_id: i64,
    destination: &str,
    now_ms: UnixMillis,
) -> Result<(), StoreError> {
    let known = object_delivery::Entity::find()
        .filter(object_delivery::Column::ObjectId.eq(object_id))
        .filter(object_delivery::Column::Destination.eq(destination))
        .one(tx)
        .await?;
    if known.is_some() {
        return Ok(());
    }
    let delivery_id = fresh_delivery(tx, destination, now_ms).await?;
    let carried = object_delivery::ActiveModel {
        delivery_id: Set(delivery_id),
        object_id: Set(object_id),
        destination: Set(destination.to_owned()),
        sent_again: Set(0),
        ..Default::default()
    };
    carried.insert(tx).await?;
    Ok(())
}
