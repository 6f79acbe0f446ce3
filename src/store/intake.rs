//! What is known of series while they arrive and once they are complete.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    sea_query::{Expr, Query},
};

use super::arrivals::PatientKey;
use super::entity::{instance, quarantine, series, study};
use super::ris::{self, Meeting};
use super::{Store, StoreError, arrivals, jobs};
use crate::dicom::header::SeriesTags;

/// Objects of one series that are told at one time.
const SERIES_OBJECTS_MAX: u64 = 50_000;

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

    /// Whose a study is, where it is known, and which objects of a series are recorded (at most
    /// [`SERIES_OBJECTS_MAX`]).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn objects_of_series(
        &self,
        study_uid: &str,
        series_uid: &str,
    ) -> Result<(Option<PatientKey>, Vec<String>), StoreError> {
        let study: Option<(i64, Option<String>, Option<String>)> = study::Entity::find()
            .select_only()
            .columns([
                study::Column::Id,
                study::Column::PatientId,
                study::Column::PatientIssuer,
            ])
            .filter(study::Column::StudyUid.eq(study_uid))
            .into_tuple()
            .one(self.read())
            .await?;
        let Some((id, patient_id, issuer)) = study else {
            return Ok((None, Vec::new()));
        };
        let of_series = Query::select()
            .column(series::Column::Id)
            .from(series::Entity)
            .and_where(series::Column::StudyId.eq(id))
            .and_where(series::Column::SeriesUid.eq(series_uid))
            .to_owned();
        let objects: Vec<String> = instance::Entity::find()
            .select_only()
            .column(instance::Column::SopUid)
            .filter(instance::Column::SeriesId.in_subquery(of_series))
            .limit(SERIES_OBJECTS_MAX)
            .into_tuple()
            .all(self.read())
            .await?;
        Ok((Some((patient_id, issuer)), objects))
    }

    /// Notes objects that were kept aside. One whose bytes lie where those of a noted one do is the same, found in
    /// the log again after a crash.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quarantine(&self, entries: Vec<QuarantineEntry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let tx = self.begin().await?;
        let paths: Vec<&str> = entries.iter().filter_map(|e| e.path.as_deref()).collect();
        let noted: Vec<Option<String>> = quarantine::Entity::find()
            .select_only()
            .column(quarantine::Column::Path)
            .filter(quarantine::Column::Path.is_in(paths))
            .into_tuple()
            .all(&tx)
            .await?;
        let is_new = |e: &QuarantineEntry| e.path.is_none() || !noted.contains(&e.path);
        let entries: Vec<QuarantineEntry> = entries.into_iter().filter(is_new).collect();
        if entries.is_empty() {
            return Ok(());
        }
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
        super::settings::version_in_force(&tx).await?;
        ris::meet(&tx, Meeting::Study).await?;
        let there: Option<(i64, Option<i64>)> = instance::Entity::find()
            .select_only()
            .column_as(instance::Column::Id.count(), "images")
            .column_as(instance::Column::ReceivedAt.max(), "latest")
            .filter(instance::Column::SeriesId.eq(series_id))
            .into_tuple()
            .one(&tx)
            .await?;
        let (images, latest) = there.unwrap_or((0, None));
        if let Some(latest) = latest {
            // Arrivals note this at most once a second.
            arrivals::touch(&tx, &[series_id], latest).await?;
        }
        series::Entity::update_many()
            .col_expr(series::Column::SettledImages, Expr::value(images))
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
        ris::apply_pending(&tx, study_id, now_ms).await?;
        tx.commit().await?;
        Ok(u64::try_from(images).unwrap_or(0))
    }

    /// Series that have images which no screening was asked for yet; of those, where it is given,
    /// whose last image came between two moments.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unsettled_series(
        &self,
        between: Option<(i64, i64)>,
    ) -> Result<Vec<UnsettledSeries>, StoreError> {
        let (from, to) = between.unwrap_or((i64::MIN, i64::MAX));
        let sql = "SELECT series.id AS series_id, series.study_id, study.study_uid, \
                   series.series_uid, COUNT(instance.id) AS images \
                   FROM series JOIN study ON study.id = series.study_id \
                   JOIN instance ON instance.series_id = series.id \
                   WHERE series.last_received_at BETWEEN $1 AND $2 \
                   GROUP BY series.id, series.study_id, study.study_uid, series.series_uid, \
                   series.settled_images \
                   HAVING series.settled_images IS NULL OR series.settled_images <> COUNT(instance.id)";
        let values = vec![from.into(), to.into()];
        UnsettledSeries::find_by_statement(self.statement(sql, values))
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

fn as_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
