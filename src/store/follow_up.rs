//! A patient's measured studies, and what came of comparing them.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, sea_query::OnConflict,
};
use serde::{Serialize, de::DeserializeOwned};

use super::entity::{follow_up, measurement, series, study};
use super::{Store, StoreError, jobs};
use crate::analysis::{Measurement, scanner_name};
use crate::clock::UnixMillis;
use crate::followup::{FollowUp, NotCompared};
use crate::worklist::ris::Identifier;

/// Studies of one patient that are looked at, the newest ones.
const STUDIES_MAX: u64 = 50;

/// A measured study of a patient.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredStudy {
    /// Key.
    pub study_id: i64,
    /// (0020,000D)
    pub study_uid: String,
    /// (0008,0020), empty where it is not known.
    pub date: String,
    /// (0010,0030)
    pub birth_date: Option<String>,
    /// (0010,0040)
    pub sex: Option<String>,
    /// Of the series that was measured.
    pub scanner: String,
    /// What was measured.
    pub measurement: Measurement,
}

/// What came of comparing a study.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compared {
    /// The comparison.
    pub follow_up: Option<FollowUp>,
    /// Why there is none, although there are earlier studies.
    pub not_compared: Option<NotCompared>,
}

/// Asks for comparing a study, and the measured ones of the same patient: it may be their prior.
pub(super) async fn ask(
    tx: &DatabaseTransaction,
    study_id: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(study) = study::Entity::find_by_id(study_id).one(tx).await? else {
        return Ok(());
    };
    for id in measured_of(tx, &study).await? {
        jobs::enqueue(tx, jobs::FOLLOW_UP, id, now_ms).await?;
    }
    Ok(())
}

/// Keys of the measured studies of a study's patient, the newest first.
async fn measured_of(
    db: &impl ConnectionTrait,
    study: &study::Model,
) -> Result<Vec<i64>, StoreError> {
    let of_id = studies_of(db, study).await?;
    let ids = of_id.iter().map(|s| s.id);
    measurement::Entity::find()
        .select_only()
        .column(measurement::Column::StudyId)
        .filter(measurement::Column::StudyId.is_in(ids))
        .filter(measurement::Column::Outcome.eq("done"))
        .order_by_desc(measurement::Column::StudyId)
        .into_tuple()
        .all(db)
        .await
}

/// The newest studies of a study's patient, that study among them. A patient without a number has no others.
async fn studies_of(
    db: &impl ConnectionTrait,
    study: &study::Model,
) -> Result<Vec<study::Model>, StoreError> {
    let named = study.patient_id.as_deref();
    let issuer = study.patient_issuer.as_deref();
    let Some(patient) = named.and_then(|id| Identifier::new(id, issuer)) else {
        return Ok(vec![study.clone()]);
    };
    let mut all = study::Entity::find()
        .filter(study::Column::PatientId.eq(study.patient_id.clone()))
        .filter(study::Column::Id.ne(study.id))
        .order_by_desc(study::Column::StudyDate)
        .limit(STUDIES_MAX)
        .all(db)
        .await?;
    all.retain(|s| patient.is(s.patient_id.as_deref(), s.patient_issuer.as_deref()));
    all.push(study.clone());
    Ok(all)
}

impl Store {
    /// The measured studies of a study's patient, that study among them where it was measured.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn measured_studies(&self, study_id: i64) -> Result<Vec<MeasuredStudy>, StoreError> {
        let db = self.read();
        let Some(study) = study::Entity::find_by_id(study_id).one(db).await? else {
            return Ok(Vec::new());
        };
        let studies = studies_of(db, &study).await?;
        let rows = measurement::Entity::find()
            .filter(measurement::Column::StudyId.is_in(studies.iter().map(|s| s.id)))
            .filter(measurement::Column::Outcome.eq("done"))
            .all(db)
            .await?;
        let mut measured: HashMap<i64, Measurement> = rows
            .into_iter()
            .filter_map(|row| Some((row.study_id, serde_json::from_str(&row.result_json).ok()?)))
            .collect();
        let mut all = Vec::new();
        for study in studies {
            let Some(measurement) = measured.remove(&study.id) else {
                continue;
            };
            all.push(MeasuredStudy {
                scanner: self.scanner_of(study.id, &measurement.series_uid).await?,
                study_id: study.id,
                study_uid: study.study_uid,
                date: study.study_date.unwrap_or_default(),
                birth_date: study.birth_date,
                sex: study.sex,
                measurement,
            });
        }
        Ok(all)
    }

    async fn scanner_of(&self, study_id: i64, series_uid: &str) -> Result<String, StoreError> {
        let header: Option<String> = series::Entity::find()
            .select_only()
            .column(series::Column::HeaderJson)
            .filter(series::Column::StudyId.eq(study_id))
            .filter(series::Column::SeriesUid.eq(series_uid))
            .into_tuple()
            .one(self.read())
            .await?;
        let tags = header.and_then(|json| serde_json::from_str(&json).ok());
        Ok(scanner_name(&tags.unwrap_or_default()))
    }

    /// Keeps what came of comparing a study, in place of what was kept. Where that changed something, the
    /// study's results are made again: they say it. A prior's are not sent.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_follow_up(
        &self,
        study_id: i64,
        compared: &Compared,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        use follow_up::Column as C;
        let tx = self.begin().await?;
        let kept = follow_up::Entity::find_by_id(study_id).one(&tx).await?;
        let was = kept.map(|row| (row.reason, row.result_json));
        let is = (
            json(compared.not_compared.as_ref()),
            json(compared.follow_up.as_ref()),
        );
        if was.as_ref() == Some(&is) {
            return tx.commit().await;
        }
        let study = study::Entity::find_by_id(study_id).one(&tx).await?;
        if is != was.unwrap_or_default() && study.is_some_and(|s| s.reading != "prior") {
            jobs::enqueue(&tx, jobs::RESULTS, study_id, now_ms).await?;
        }
        follow_up::Entity::insert(follow_up::ActiveModel {
            study_id: Set(study_id),
            reason: Set(is.0),
            result_json: Set(is.1),
            created_at: Set(now_ms),
        })
        .on_conflict(
            OnConflict::column(C::StudyId)
                .update_columns([C::Reason, C::ResultJson, C::CreatedAt])
                .to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
        tx.commit().await
    }

    /// What came of comparing a study.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn follow_up(&self, study_id: i64) -> Result<Compared, StoreError> {
        Ok(self.compared(study_id).await?.0)
    }

    /// The same, and since when it is known, where there was anything to compare with.
    pub(super) async fn compared(
        &self,
        study_id: i64,
    ) -> Result<(Compared, Option<UnixMillis>), StoreError> {
        let row = follow_up::Entity::find_by_id(study_id)
            .one(self.read())
            .await?;
        let Some(row) = row else {
            return Ok((Compared::default(), None));
        };
        let compared = Compared {
            follow_up: parsed(row.result_json),
            not_compared: parsed(row.reason),
        };
        let said = compared != Compared::default();
        Ok((compared, said.then_some(row.created_at)))
    }
}

fn json<T: Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|v| serde_json::to_string(v).ok())
}

fn parsed<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}
