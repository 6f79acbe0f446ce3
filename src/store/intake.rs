//! Recording received objects, and what is known of series while they arrive.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    QuerySelect, sea_query::Expr, sea_query::OnConflict,
};

use super::entity::{imaging_order, instance, quarantine, series, study};
use super::ranks::{Ranker, place};
use super::{Store, StoreError, jobs};
use crate::dicom::header::{ObjectHeader, SeriesTags};
use crate::triage::{Band, Evidence, OrderPriority};

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

/// A series that is not settled, as found at start-up.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct UnsettledSeries {
    /// Key.
    pub series_id: i64,
    /// Key of its study.
    pub study_id: i64,
    /// (0020,000D)
    pub study_uid: String,
    /// (0020,000E)
    pub series_uid: String,
    /// Images on disk.
    pub images: i64,
}

/// An object kept aside.
#[derive(Debug, Clone)]
pub struct QuarantineEntry {
    /// (0008,0018)
    pub sop_uid: String,
    /// (0020,000D), where it is known.
    pub study_uid: Option<String>,
    /// Who sent it.
    pub calling_ae: String,
    /// Why it was kept aside.
    pub reason: String,
    /// Relative to the data folder; `None` when the bytes were not kept.
    pub path: Option<String>,
    /// File size.
    pub size_bytes: u64,
    /// When.
    pub received_at: i64,
}

/// What analysis needs to know of a study.
#[derive(Debug, Clone)]
pub struct StudyForAnalysis {
    /// Key.
    pub id: i64,
    /// (0020,000D)
    pub study_uid: String,
    /// At the time of the study.
    pub age_years: Option<f64>,
    /// F, M or O.
    pub sex: Option<String>,
    /// Its series.
    pub series: Vec<SeriesForAnalysis>,
}

/// What analysis needs to know of a series.
#[derive(Debug, Clone)]
pub struct SeriesForAnalysis {
    /// Key.
    pub id: i64,
    /// (0020,000E)
    pub series_uid: String,
    /// (0008,0016) of its first object.
    pub sop_class_uid: String,
    /// Its header.
    pub tags: SeriesTags,
    /// Made by this server.
    pub own_result: bool,
    /// (0020,1002)
    pub expected_images: Option<u64>,
    /// Whether it was ever complete.
    pub settled: bool,
    /// Files in the order received, relative to the data folder.
    pub files: Vec<String>,
    /// Frames in all its objects.
    pub frames: u64,
}

impl Store {
    /// Digests of those objects that are recorded already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_objects(
        &self,
        sop_uids: Vec<String>,
    ) -> Result<HashMap<String, String>, StoreError> {
        let rows: Vec<(String, String)> = instance::Entity::find()
            .select_only()
            .columns([instance::Column::SopUid, instance::Column::Digest])
            .filter(instance::Column::SopUid.is_in(sop_uids))
            .into_tuple()
            .all(self.read())
            .await?;
        Ok(rows.into_iter().collect())
    }

    /// Patient id and issuer of those studies that are recorded already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_patients(
        &self,
        study_uids: Vec<String>,
    ) -> Result<HashMap<String, (Option<String>, Option<String>)>, StoreError> {
        let rows: Vec<(String, Option<String>, Option<String>)> = study::Entity::find()
            .select_only()
            .columns([
                study::Column::StudyUid,
                study::Column::PatientId,
                study::Column::PatientIssuer,
            ])
            .filter(study::Column::StudyUid.is_in(study_uids))
            .into_tuple()
            .all(self.read())
            .await?;
        Ok(rows
            .into_iter()
            .map(|(uid, id, issuer)| (uid, (id, issuer)))
            .collect())
    }

    /// Records a batch in one transaction; durable when it returns.
    ///
    /// # Errors
    /// When the database fails: nothing of the batch is recorded then.
    pub async fn record(
        &self,
        batch: &[Arrival],
        quiet_ms: i64,
        ranker: &Ranker,
    ) -> Result<Vec<TouchedSeries>, StoreError> {
        let tx = self.begin().await?;
        let mut by_series: BTreeMap<(&str, &str), Vec<&Arrival>> = BTreeMap::new();
        for arrival in batch {
            let key = (
                arrival.header.study_uid.as_str(),
                arrival.header.series_uid.as_str(),
            );
            by_series.entry(key).or_default().push(arrival);
        }
        let mut touched = Vec::with_capacity(by_series.len());
        for arrivals in by_series.values() {
            touched.push(record_series(&tx, arrivals, quiet_ms, ranker).await?);
        }
        tx.commit().await?;
        Ok(touched)
    }

    /// Notes objects that were kept aside.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quarantine(&self, entries: Vec<QuarantineEntry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let tx = self.begin().await?;
        let rows = entries.into_iter().map(|e| quarantine::ActiveModel {
            sop_uid: Set(e.sop_uid),
            study_uid: Set(e.study_uid),
            calling_ae: Set(e.calling_ae),
            reason: Set(e.reason),
            path: Set(e.path),
            size_bytes: Set(as_i64(e.size_bytes)),
            received_at: Set(e.received_at),
            ..Default::default()
        });
        quarantine::Entity::insert_many(rows)
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await
    }

    /// Counts a series as complete with what is there, and asks for its study's screening.
    /// Gives the number of images; the quiet time doubles up to `quiet_ms_max` for late slices.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_series(
        &self,
        series_id: i64,
        study_id: i64,
        quiet_ms_max: i64,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let images = sea_orm::PaginatorTrait::count(
            instance::Entity::find().filter(instance::Column::SeriesId.eq(series_id)),
            &tx,
        )
        .await?;
        series::Entity::update_many()
            .col_expr(series::Column::SettledImages, Expr::value(as_i64(images)))
            .col_expr(
                series::Column::QuietMs,
                Expr::cust_with_values(
                    "CASE WHEN quiet_ms * 2 > $1 THEN $2 ELSE quiet_ms * 2 END",
                    [quiet_ms_max, quiet_ms_max],
                ),
            )
            .filter(series::Column::Id.eq(series_id))
            .exec(&tx)
            .await?;
        jobs::enqueue(&tx, jobs::SCREEN, study_id, now_ms).await?;
        tx.commit().await?;
        Ok(images)
    }

    /// Series that have images which no screening was asked for yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unsettled_series(&self) -> Result<Vec<UnsettledSeries>, StoreError> {
        let sql = "SELECT series.id AS series_id, series.study_id, study.study_uid, \
                   series.series_uid, COUNT(instance.id) AS images \
                   FROM series JOIN study ON study.id = series.study_id \
                   JOIN instance ON instance.series_id = series.id \
                   GROUP BY series.id, series.study_id, study.study_uid, series.series_uid, \
                   series.settled_images \
                   HAVING series.settled_images IS NULL OR series.settled_images <> COUNT(instance.id)";
        UnsettledSeries::find_by_statement(self.statement(sql, vec![]))
            .all(self.read())
            .await
    }

    /// Images of a series on disk, and the quiet time it now needs.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn series_progress(&self, series_id: i64) -> Result<(u64, i64), StoreError> {
        let images = sea_orm::PaginatorTrait::count(
            instance::Entity::find().filter(instance::Column::SeriesId.eq(series_id)),
            self.read(),
        )
        .await?;
        let row = series::Entity::find_by_id(series_id)
            .one(self.read())
            .await?;
        Ok((images, row.map_or(0, |s| s.quiet_ms)))
    }

    /// A study with its series and files.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn study_for_analysis(
        &self,
        study_id: i64,
    ) -> Result<Option<StudyForAnalysis>, StoreError> {
        let Some(study) = study::Entity::find_by_id(study_id).one(self.read()).await? else {
            return Ok(None);
        };
        let rows = series::Entity::find()
            .filter(series::Column::StudyId.eq(study_id))
            .all(self.read())
            .await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let files: Vec<(String, i64)> = instance::Entity::find()
                .select_only()
                .columns([instance::Column::Path, instance::Column::Frames])
                .filter(instance::Column::SeriesId.eq(row.id))
                .into_tuple()
                .all(self.read())
                .await?;
            all.push(SeriesForAnalysis {
                id: row.id,
                series_uid: row.series_uid,
                sop_class_uid: row.sop_class_uid,
                tags: serde_json::from_str(&row.header_json).unwrap_or_default(),
                own_result: row.own_result,
                expected_images: row.expected_images.and_then(|n| u64::try_from(n).ok()),
                settled: row.settled_images.is_some(),
                frames: files
                    .iter()
                    .map(|(_, n)| u64::try_from(*n).unwrap_or(0))
                    .sum(),
                files: files.into_iter().map(|(path, _)| path).collect(),
            });
        }
        Ok(Some(StudyForAnalysis {
            id: study.id,
            study_uid: study.study_uid,
            age_years: study.age_years,
            sex: study.sex,
            series: all,
        }))
    }

    /// Notes what series choice took a series for, and why it was or was not used.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_series_kinds(
        &self,
        kinds: &[(i64, String, String)],
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        for (id, kind, reason) in kinds {
            series::Entity::update_many()
                .col_expr(series::Column::Kind, Expr::value(kind.as_str()))
                .col_expr(series::Column::KindReason, Expr::value(reason.as_str()))
                .filter(series::Column::Id.eq(*id))
                .exec(&tx)
                .await?;
        }
        tx.commit().await
    }
}

async fn record_series(
    tx: &DatabaseTransaction,
    arrivals: &[&Arrival],
    quiet_ms: i64,
    ranker: &Ranker,
) -> Result<TouchedSeries, StoreError> {
    let first = arrivals[0];
    let latest = arrivals
        .iter()
        .map(|a| a.received_at)
        .max()
        .unwrap_or(first.received_at);
    let (study_id, new_study) = study_row(tx, first, latest, ranker).await?;
    let (series_id, new_series) = series_row(tx, first, study_id, latest, quiet_ms).await?;
    let rows = arrivals.iter().map(|a| instance::ActiveModel {
        series_id: Set(series_id),
        sop_uid: Set(a.header.sop_instance_uid.clone()),
        sop_class_uid: Set(a.header.sop_class_uid.clone()),
        transfer_syntax_uid: Set(a.header.transfer_syntax_uid.clone()),
        instance_number: Set(a.header.instance_number),
        frames: Set(i64::from(a.header.number_of_frames.max(1))),
        digest: Set(a.digest.clone()),
        size_bytes: Set(as_i64(a.size_bytes)),
        path: Set(a.path.clone()),
        received_at: Set(a.received_at),
        ..Default::default()
    });
    instance::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::column(instance::Column::SopUid)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(TouchedSeries {
        series_id,
        study_id,
        study_uid: first.header.study_uid.clone(),
        series_uid: first.header.series_uid.clone(),
        arrived: arrivals.len() as u64,
        new_series,
        new_study,
        expected_images: first.header.images_in_acquisition.map(u64::from),
    })
}

async fn series_row(
    tx: &DatabaseTransaction,
    first: &Arrival,
    study_id: i64,
    latest: i64,
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
        series::Entity::update_many()
            .col_expr(series::Column::LastReceivedAt, Expr::value(latest))
            .filter(series::Column::Id.eq(id))
            .exec(tx)
            .await?;
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
        last_received_at: Set(latest),
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
    latest: i64,
    ranker: &Ranker,
) -> Result<(i64, bool), StoreError> {
    let header = &first.header;
    let known = study::Entity::find()
        .filter(study::Column::StudyUid.eq(&header.study_uid))
        .one(tx)
        .await?;
    if let Some(known) = known {
        let mut update = study::Entity::update_many()
            .col_expr(study::Column::LastReceivedAt, Expr::value(latest))
            .filter(study::Column::Id.eq(known.id));
        // New images of a study that was read put it back on the list; results of our own do not.
        if known.reading == "read" && !first.own_result {
            update = update
                .col_expr(study::Column::Reading, Expr::value("open"))
                .col_expr(study::Column::Note, Expr::value("new images"));
        }
        update.exec(tx).await?;
        return Ok((known.id, false));
    }
    let evidence = Evidence {
        order: order_of(tx, header).await?,
        ..Evidence::default()
    };
    let mut row = study::ActiveModel {
        study_uid: Set(header.study_uid.clone()),
        patient_id: Set(header.patient.id.clone()),
        patient_issuer: Set(header.patient.issuer.clone()),
        patient_name: Set(header.patient.name.clone()),
        birth_date: Set(header.patient.birth_date.clone()),
        sex: Set(header.patient.sex.clone()),
        age_years: Set(first.age_years),
        study_date: Set(header.study.date.clone()),
        study_time: Set(header.study.time.clone()),
        accession: Set(header.study.accession.clone()),
        accession_issuer: Set(header.study.accession_issuer.clone()),
        description: Set(header.study.description.clone()),
        referrer: Set(header.study.referrer.clone()),
        institution: Set(header.study.institution.clone()),
        modality: Set(header.series.modality.clone()),
        body_part: Set(header.series.body_part.clone()),
        arrived_at: Set(first.received_at),
        last_received_at: Set(latest),
        reading: Set(if first.prior { "prior" } else { "open" }.to_owned()),
        state: Set("received".to_owned()),
        volumetry: Set("pending".to_owned()),
        changed_at: Set(first.received_at),
        ..Default::default()
    };
    place(
        &mut row,
        &evidence,
        first.received_at,
        Band::Pending,
        ranker,
    );
    Ok((
        study::Entity::insert(row).exec(tx).await?.last_insert_id,
        true,
    ))
}

/// The RIS's word on the order, if it came before the study, else the scanner's (0040,1003).
async fn order_of(
    tx: &DatabaseTransaction,
    header: &ObjectHeader,
) -> Result<OrderPriority, StoreError> {
    if let Some(accession) = &header.study.accession {
        let order = imaging_order::Entity::find()
            .filter(imaging_order::Column::Accession.eq(accession))
            .one(tx)
            .await?;
        if let Some(priority) = order.and_then(|o| OrderPriority::parse(&o.priority)) {
            return Ok(priority);
        }
    }
    let requested = header.study.requested_priority.as_deref();
    Ok(requested
        .and_then(OrderPriority::from_dicom)
        .unwrap_or_default())
}

fn as_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
