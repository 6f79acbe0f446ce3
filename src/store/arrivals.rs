//! Recording received objects: one transaction a batch.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QuerySelect,
    sea_query::{Expr, OnConflict, Query},
};

use super::entity::{instance, reading_event, series, study};
use super::ranks::{Ranker, Rules, place, refresh_places};
use super::ris::{self, Meeting};
use super::search::{CODE_BYTES, Searched, TEXT_BYTES};
use super::settings::version_in_force;
use super::subscriptions::{self, News};
use super::{Store, StoreError, priors};
use crate::dicom::guard::cut;
use crate::dicom::header::ObjectHeader;
use crate::triage::{Band, Evidence, OrderPriority};
use crate::worklist::ris::{Identifier, StudyKeys};

/// How long a study or series is remembered before it is looked up again.
const REMEMBER_MS: i64 = 10_000;
/// How often the time of the last arrival is written, and a study that was read put back on the list.
const TOUCH_EVERY_MS: i64 = 1_000;
/// Studies and series remembered.
const REMEMBER_MAX: usize = 4_096;

/// An object whose file is in place and must be recorded.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its header.
    pub header: ObjectHeader,
    /// SHA-256 of the data set, hex.
    pub digest: String,
    /// File size.
    pub size_bytes: u64,
    /// Relative to the data folder.
    pub path: String,
    /// When it was received.
    pub received_at: i64,
    /// Made by this server.
    pub own_result: bool,
    /// Age at the study, by birth date or (0010,1010).
    pub age_years: Option<f64>,
    /// A prior: kept, not listed.
    pub prior: bool,
}

/// A series that a batch of arrivals touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedSeries {
    /// Key.
    pub series_id: i64,
    /// Key of its study.
    pub study_id: i64,
    /// (0020,000D)
    pub study_uid: String,
    /// (0020,000E)
    pub series_uid: String,
    /// Arrivals in the batch.
    pub arrived: u64,
    /// The row is new, so all its images are in this batch.
    pub new_series: bool,
    /// The study's row is new.
    pub new_study: bool,
    /// (0020,1002)
    pub expected_images: Option<u64>,
}

/// Patient id and issuer of a study.
pub type PatientKey = (Option<String>, Option<String>);

/// Studies and series that were looked up lately: most batches go to the ones before them.
///
/// Keys never change, but a row may go away: after an error forget all of it.
#[derive(Debug, Default)]
pub struct Recent {
    studies: HashMap<String, RecentStudy>,
    series: HashMap<(i64, String), RecentSeries>,
}

#[derive(Debug, Clone)]
struct RecentStudy {
    id: i64,
    patient: PatientKey,
    looked_up_at: i64,
}

#[derive(Debug, Clone, Copy)]
struct RecentSeries {
    id: i64,
    looked_up_at: i64,
    /// When its last arrival was noted in the database.
    touched_at: i64,
}

impl Recent {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.studies.clear();
        self.series.clear();
    }

    /// Forgets what is too old, or all of it when it grew too large.
    fn expire(&mut self, now_ms: i64) {
        let fresh = |at: i64| now_ms.saturating_sub(at) < REMEMBER_MS;
        self.studies.retain(|_, s| fresh(s.looked_up_at));
        self.series.retain(|_, s| fresh(s.looked_up_at));
        if self.studies.len() + self.series.len() > REMEMBER_MAX {
            self.clear();
        }
    }
}

/// Where an arrival's series stands within a batch.
struct Slot {
    touched: TouchedSeries,
    /// The time of the last arrival must be written.
    touch: bool,
}

impl Store {
    /// Patient id and issuer of those studies that are recorded already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_patients(
        &self,
        recent: &mut Recent,
        study_uids: BTreeSet<&str>,
        now_ms: i64,
    ) -> Result<HashMap<String, PatientKey>, StoreError> {
        recent.expire(now_ms);
        let (known, unknown): (Vec<&str>, Vec<&str>) = study_uids
            .into_iter()
            .partition(|uid| recent.studies.contains_key(*uid));
        let mut patients: HashMap<String, PatientKey> = known
            .into_iter()
            .filter_map(|uid| Some((uid.to_owned(), recent.studies.get(uid)?.patient.clone())))
            .collect();
        if unknown.is_empty() {
            return Ok(patients);
        }
        let rows: Vec<(i64, String, Option<String>, Option<String>)> = study::Entity::find()
            .select_only()
            .columns([
                study::Column::Id,
                study::Column::StudyUid,
                study::Column::PatientId,
                study::Column::PatientIssuer,
            ])
            .filter(study::Column::StudyUid.is_in(unknown))
            .into_tuple()
            .all(self.read())
            .await?;
        for (id, uid, patient_id, issuer) in rows {
            let patient = (patient_id, issuer);
            patients.insert(uid.clone(), patient.clone());
            let study = RecentStudy {
                id,
                patient,
                looked_up_at: now_ms,
            };
            recent.studies.insert(uid, study);
        }
        Ok(patients)
    }

    /// Records a batch in one transaction; durable when it returns.
    ///
    /// # Errors
    /// When the database fails: nothing of the batch is recorded then, and `recent` is empty.
    pub async fn record(
        &self,
        recent: &mut Recent,
        batch: &[Arrival],
        quiet_ms: i64,
        ranker: &Ranker,
    ) -> Result<Vec<TouchedSeries>, StoreError> {
        let outcome = self.record_in(recent, batch, quiet_ms, ranker).await;
        if outcome.is_err() {
            recent.clear();
        }
        outcome
    }

    async fn record_in(
        &self,
        recent: &mut Recent,
        batch: &[Arrival],
        quiet_ms: i64,
        ranker: &Ranker,
    ) -> Result<Vec<TouchedSeries>, StoreError> {
        let Some(latest) = batch.iter().map(|a| a.received_at).max() else {
            return Ok(Vec::new());
        };
        recent.expire(latest);
        let tx = self.begin().await?;
        let rules = ranker.rules_in(&tx).await?;
        let unknown = |a: &Arrival| !recent.studies.contains_key(&a.header.study_uid);
        if batch.iter().any(unknown) {
            ris::meet(&tx, Meeting::Study).await?;
        }
        let mut slots: Vec<Slot> = Vec::new();
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        let mut rows = Vec::with_capacity(batch.len());
        for arrival in batch {
            let header = &arrival.header;
            let key = (header.study_uid.as_str(), header.series_uid.as_str());
            let at = if let Some(at) = places.get(&key) {
                *at
            } else {
                slots.push(find_series(&tx, recent, arrival, quiet_ms, &rules).await?);
                places.insert(key, slots.len() - 1);
                slots.len() - 1
            };
            let touched = &mut slots[at].touched;
            touched.arrived += 1;
            rows.push(instance_row(arrival, touched.series_id));
        }
        instance::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::column(instance::Column::SopUid)
                    .do_nothing()
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        let due = || slots.iter().filter(|s| s.touch).map(|s| &s.touched);
        touch(&tx, &due().map(|t| t.series_id).collect::<Vec<_>>(), latest).await?;
        tx.commit().await?;
        for touched in due() {
            let key = (touched.study_id, touched.series_uid.clone());
            if let Some(series) = recent.series.get_mut(&key) {
                series.touched_at = latest;
            }
        }
        Ok(slots.into_iter().map(|s| s.touched).collect())
    }
}

/// Notes when the last image of some series came. New images of a study that was read put it back
/// on the list; results of our own do not. Does nothing where that is noted already.
pub(super) async fn touch(
    tx: &DatabaseTransaction,
    series_ids: &[i64],
    latest: i64,
) -> Result<(), StoreError> {
    if series_ids.is_empty() {
        return Ok(());
    }
    let touched = series::Column::Id.is_in(series_ids.iter().copied());
    series::Entity::update_many()
        .col_expr(series::Column::LastReceivedAt, Expr::value(latest))
        .filter(touched.clone())
        .filter(series::Column::LastReceivedAt.lt(latest))
        .exec(tx)
        .await?;
    let studies = Query::select()
        .column(series::Column::StudyId)
        .from(series::Entity)
        .cond_where(
            Condition::all()
                .add(touched)
                .add(series::Column::OwnResult.eq(false)),
        )
        .to_owned();
    // before the update, while it still says which of them were read
    let reopened = Query::select()
        .column(study::Column::Id)
        .expr(Expr::value("reopened"))
        .expr(Expr::value("new images"))
        .expr(Expr::value(latest))
        .from(study::Entity)
        .cond_where(
            Condition::all()
                .add(study::Column::Id.in_subquery(studies.clone()))
                .add(study::Column::Reading.eq("read"))
                .add(study::Column::LastReceivedAt.lt(latest)),
        )
        .to_owned();
    let mut note = Query::insert();
    note.into_table(reading_event::Entity).columns([
        reading_event::Column::StudyId,
        reading_event::Column::What,
        reading_event::Column::Detail,
        reading_event::Column::At,
    ]);
    note.select_from(reopened)
        .map_err(|e| StoreError::Custom(e.to_string()))?;
    let reopened = tx.execute(&note).await?.rows_affected() > 0;
    let read_becomes = |column: study::Column, value: &str| {
        Expr::case(study::Column::Reading.eq("read"), value).finally(Expr::col(column))
    };
    study::Entity::update_many()
        .col_expr(study::Column::LastReceivedAt, Expr::value(latest))
        .col_expr(
            study::Column::Note,
            read_becomes(study::Column::Note, "new images").into(),
        )
        .col_expr(
            study::Column::Reading,
            read_becomes(study::Column::Reading, "open").into(),
        )
        .filter(study::Column::Id.in_subquery(studies.clone()))
        .filter(study::Column::LastReceivedAt.lt(latest))
        .exec(tx)
        .await?;
    if reopened {
        let back = Condition::all().add(study::Column::Id.in_subquery(studies));
        // whoever begins a transaction that touches has asked for it already: see `version_in_force`
        let version = version_in_force(tx).await?;
        refresh_places(tx, back, version).await?;
    }
    Ok(())
}

/// The series of an arrival, made where it is new.
async fn find_series(
    tx: &DatabaseTransaction,
    recent: &mut Recent,
    first: &Arrival,
    quiet_ms: i64,
    rules: &Rules,
) -> Result<Slot, StoreError> {
    let header = &first.header;
    let now = first.received_at;
    let (study_id, new_study) = match recent.studies.get(&header.study_uid) {
        Some(study) => (study.id, false),
        None => study_row(tx, first, rules).await?,
    };
    if new_study {
        let study = RecentStudy {
            id: study_id,
            patient: (header.patient.id.clone(), header.patient.issuer.clone()),
            looked_up_at: now,
        };
        recent.studies.insert(header.study_uid.clone(), study);
    }
    let key = (study_id, header.series_uid.clone());
    let (series, new_series) = if let Some(series) = recent.series.get(&key) {
        (*series, false)
    } else {
        let (id, new) = series_row(tx, first, study_id, quiet_ms).await?;
        let series = RecentSeries {
            id,
            looked_up_at: now,
            touched_at: if new && new_study { now } else { i64::MIN },
        };
        recent.series.insert(key, series);
        (series, new)
    };
    Ok(Slot {
        touch: now.saturating_sub(series.touched_at) >= TOUCH_EVERY_MS,
        touched: TouchedSeries {
            series_id: series.id,
            study_id,
            study_uid: header.study_uid.clone(),
            series_uid: header.series_uid.clone(),
            arrived: 0,
            new_series,
            new_study,
            expected_images: header.images_in_acquisition.map(u64::from),
        },
    })
}

fn instance_row(arrival: &Arrival, series_id: i64) -> instance::ActiveModel {
    let header = &arrival.header;
    instance::ActiveModel {
        series_id: Set(series_id),
        sop_uid: Set(header.sop_instance_uid.clone()),
        sop_class_uid: Set(header.sop_class_uid.clone()),
        transfer_syntax_uid: Set(header.transfer_syntax_uid.clone()),
        instance_number: Set(header.instance_number),
        frames: Set(i64::from(header.number_of_frames.max(1))),
        digest: Set(arrival.digest.clone()),
        size_bytes: Set(i64::try_from(arrival.size_bytes).unwrap_or(i64::MAX)),
        path: Set(arrival.path.clone()),
        received_at: Set(arrival.received_at),
        ..Default::default()
    }
}

async fn series_row(
    tx: &DatabaseTransaction,
    first: &Arrival,
    study_id: i64,
    quiet_ms: i64,
) -> Result<(i64, bool), StoreError> {
    let header = &first.header;
    let known: Option<i64> = series::Entity::find()
        .select_only()
        .column(series::Column::Id)
        .filter(series::Column::StudyId.eq(study_id))
        .filter(series::Column::SeriesUid.eq(&header.series_uid))
        .into_tuple()
        .one(tx)
        .await?;
    if let Some(id) = known {
        return Ok((id, false));
    }
    let row = series::ActiveModel {
        study_id: Set(study_id),
        series_uid: Set(header.series_uid.clone()),
        sop_class_uid: Set(header.sop_class_uid.clone()),
        modality: Set(header.series.modality.clone()),
        number: Set(header.series.number),
        description: Set(header.series.description.clone()),
        header_json: Set(serde_json::to_string(&header.series).unwrap_or_default()),
        own_result: Set(first.own_result),
        expected_images: Set(header.images_in_acquisition.map(i64::from)),
        first_received_at: Set(first.received_at),
        last_received_at: Set(first.received_at),
        quiet_ms: Set(quiet_ms),
        ..Default::default()
    };
    Ok((
        series::Entity::insert(row).exec(tx).await?.last_insert_id,
        true,
    ))
}

async fn study_row(
    tx: &DatabaseTransaction,
    first: &Arrival,
    rules: &Rules,
) -> Result<(i64, bool), StoreError> {
    let header = &first.header;
    let known: Option<i64> = study::Entity::find()
        .select_only()
        .column(study::Column::Id)
        .filter(study::Column::StudyUid.eq(&header.study_uid))
        .into_tuple()
        .one(tx)
        .await?;
    if let Some(id) = known {
        return Ok((id, false));
    }
    let (patient_id, patient_issuer) = patient_of(tx, header).await?;
    let keys = StudyKeys {
        study_uid: &header.study_uid,
        accession: header.study.accession.as_deref(),
        accession_issuer: header.study.accession_issuer.as_deref(),
        patient_id: patient_id.as_deref(),
        patient_issuer: patient_issuer.as_deref(),
    };
    let evidence = Evidence {
        order: order_of(tx, &keys, header).await?,
        ..Evidence::default()
    };
    let searched = Searched {
        name: header.patient.name.as_deref(),
        patient_id: patient_id.as_deref(),
        accession: header.study.accession.as_deref(),
        description: header.study.description.as_deref(),
        referrer: header.study.referrer.as_deref(),
    };
    let bounded = |text: &Option<String>, bytes| text.clone().map(|text| cut(text, bytes));
    let prior = first.prior || priors::is_expected(tx, &header.study_uid).await?;
    let mut row = study::ActiveModel {
        search_text: Set(searched.text()),
        study_uid: Set(header.study_uid.clone()),
        patient_id: Set(patient_id),
        patient_issuer: Set(patient_issuer),
        patient_name: Set(header.patient.name.clone()),
        birth_date: Set(header.patient.birth_date.clone()),
        sex: Set(header.patient.sex.clone()),
        age_years: Set(first.age_years),
        study_date: Set(header.study.date.clone()),
        study_time: Set(header.study.time.clone()),
        accession: Set(header.study.accession.clone()),
        accession_issuer: Set(header.study.accession_issuer.clone()),
        description: Set(bounded(&header.study.description, TEXT_BYTES)),
        referrer: Set(bounded(&header.study.referrer, TEXT_BYTES)),
        institution: Set(bounded(&header.study.institution, TEXT_BYTES)),
        modality: Set(bounded(&header.series.modality, CODE_BYTES)),
        body_part: Set(bounded(&header.series.body_part, CODE_BYTES)),
        arrived_at: Set(first.received_at),
        last_received_at: Set(first.received_at),
        reading: Set(if prior { "prior" } else { "open" }.to_owned()),
        state: Set("received".to_owned()),
        volumetry: Set("pending".to_owned()),
        changed_at: Set(first.received_at),
        ..Default::default()
    };
    place(&mut row, &evidence, first.received_at, Band::Pending, rules);
    let id = study::Entity::insert(row).exec(tx).await?.last_insert_id;
    let accession = header.study.accession.as_deref();
    let is_ordered = accession.is_some_and(|a| !a.trim().is_empty());
    if !prior && is_ordered && evidence.order != OrderPriority::Routine {
        let news = News::Order(evidence.order);
        subscriptions::notify(tx, id, news, first.received_at).await?;
    }
    Ok((id, true))
}

/// Whose study it is by what was merged since the scanner was told.
async fn patient_of(
    tx: &DatabaseTransaction,
    header: &ObjectHeader,
) -> Result<PatientKey, StoreError> {
    let named = (header.patient.id.clone(), header.patient.issuer.clone());
    let known = named.0.as_deref();
    let Some(patient) = known.and_then(|id| Identifier::new(id, named.1.as_deref())) else {
        return Ok(named);
    };
    let now = ris::current(tx, patient.clone()).await?;
    if now == patient {
        return Ok(named);
    }
    let issuer = now.issuer_name().map(str::to_owned);
    Ok((Some(now.id), issuer))
}

/// The RIS's word on the order, if it came before the study, else the scanner's (0040,1003).
async fn order_of(
    tx: &DatabaseTransaction,
    keys: &StudyKeys<'_>,
    header: &ObjectHeader,
) -> Result<OrderPriority, StoreError> {
    if let Some(priority) = ris::wanted_priority(tx, keys).await? {
        return Ok(priority);
    }
    let requested = header.study.requested_priority.as_deref();
    Ok(requested
        .and_then(OrderPriority::from_dicom)
        .unwrap_or_default())
}
