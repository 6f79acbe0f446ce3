//! Reading the list and one study.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, Statement, Value,
};

use super::entity::{instance, screening, series, study};
use super::follow_up::Compared;
use super::results::ScreeningResult;
use super::{Store, StoreError, search};
use crate::clock::rfc3339;
use crate::triage::{Band, Ranking};
use crate::worklist::ris::KnownOrder;
use crate::worklist::{
    Assignment, Claim, ITEMS_PER_PAGE, READ_MAX, Reading, ScreeningDetail, SeriesDetail, Sort,
    StudyDetail, VolumeDetail, WorklistItem, WorklistPage, WorklistQuery, display_name,
};

/// The list's order, everywhere the same: it is total, so pages never overlap.
pub(super) const ORDER: &str = "effective_arrival_ms, arrived_at, study_uid";

/// What the index of studies that were read has for orders (`study_read_list`).
const READ_COLUMNS: &str = "s.id, s.study_uid, s.changed_at, s.effective_arrival_ms, s.arrived_at, \
     s.state, s.description, s.search_text";

/// Studies, with their claims where those matter: those active after `$1`.
const STUDIES: &str = "study s";
const STUDIES_AND_CLAIMS: &str =
    "study s LEFT JOIN claim c ON c.study_id = s.id AND c.active_at > $1";

#[derive(FromQueryResult)]
struct Ranked {
    id: i64,
    rank: i64,
}

#[derive(FromQueryResult)]
struct Id {
    id: i64,
}

#[derive(FromQueryResult)]
struct Pictured {
    study_id: i64,
    series_uid: String,
}

#[derive(FromQueryResult)]
pub(super) struct Count {
    pub(super) n: i64,
}

#[derive(FromQueryResult)]
struct CountOf {
    study_id: i64,
    n: i64,
}

impl Store {
    /// A page of open studies in order. Claims hold that were active after `held_since_ms`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn worklist(
        &self,
        query: &WorklistQuery,
        held_since_ms: i64,
    ) -> Result<WorklistPage, StoreError> {
        let page = query.page.max(1);
        let offset = (page - 1).saturating_mul(ITEMS_PER_PAGE);
        let ids = self.listed(query, held_since_ms, as_i64(offset)).await?;
        let last = as_u64(i64::try_from(ids.len()).unwrap_or(i64::MAX));
        let total = if last < ITEMS_PER_PAGE && (last > 0 || offset == 0) {
            // the last page says itself how many there are
            offset + last
        } else {
            let (from, condition, values) = conditions(query, held_since_ms);
            self.count(&from, &condition, values).await?
        };
        let rows = self.in_order(&ids).await?;
        let ranks = if query.reading == Reading::Read {
            HashMap::new()
        } else if query.is_filtered() || !query.is_by_place() {
            self.ranks_of(&rows).await?
        } else {
            let ids = rows.iter().map(|s| s.id);
            ids.zip(offset + 1..).collect()
        };
        let ids = || rows.iter().map(|s| s.id);
        let images = self.images_of(ids()).await?;
        let mut claims = self.claims_on(ids(), held_since_ms).await?;
        let mut pictured = self.pictured(ids()).await?;
        let of = |map: &HashMap<i64, u64>, id| map.get(&id).copied().unwrap_or(0);
        let items = rows
            .iter()
            .map(|s| {
                let claim = claims.remove(&s.id);
                WorklistItem {
                    pictured_series: pictured.remove(&s.id),
                    ..item(s, of(&ranks, s.id), of(&images, s.id), claim)
                }
            })
            .collect();
        Ok(WorklistPage { items, total, page })
    }

    /// One study with its series, screenings and volumes, and what readers did with it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn study_detail(
        &self,
        study_uid: &str,
        held_since_ms: i64,
    ) -> Result<Option<StudyDetail>, StoreError> {
        let found = study::Entity::find().filter(study::Column::StudyUid.eq(study_uid));
        let Some(study) = found.one(self.read()).await? else {
            return Ok(None);
        };
        let images = self.images_of([study.id]).await?;
        let rank = if study.reading == "open" {
            self.rank_of(&study).await?
        } else {
            0
        };
        let claim = self
            .claims_on([study.id], held_since_ms)
            .await?
            .remove(&study.id);
        let count = images.get(&study.id).copied().unwrap_or(0);
        let item = item(&study, rank, count, claim);
        let screenings = screening::Entity::find()
            .filter(screening::Column::StudyId.eq(study.id))
            .order_by_asc(screening::Column::Id)
            .all(self.read())
            .await?;
        let results: Vec<Option<ScreeningResult>> = screenings
            .iter()
            .map(|s| serde_json::from_str(&s.result_json).ok())
            .collect();
        let measured = self.measurement(study.id).await?;
        let measured = measured
            .filter(|row| row.not_done.is_none() && study.volumetry == "done")
            .map(|row| row.result);
        let findings = item
            .reasons
            .iter()
            .filter(|r| !NOT_FINDINGS.contains(&r.code.as_str()))
            .cloned()
            .collect();
        let (orders, possible_orders) = self.orders_of(&study).await?;
        let compared = match &measured {
            Some(_) => self.follow_up(study.id).await?,
            None => Compared::default(),
        };
        Ok(Some(StudyDetail {
            item,
            reading: study.reading.clone(),
            settings_version: study.settings_version,
            changed_at: changed_at(&study, &orders),
            series: self.series_details(study.id).await?,
            volumes: match &measured {
                Some(measured) => measured.volumes.clone(),
                None => volumes(&results),
            },
            measurement: measured,
            not_compared: compared.not_compared,
            follow_up: compared.follow_up,
            read_as: self.read_outcome(study.id).await?,
            prior_search: self.prior_search(study.id).await?,
            screenings: screenings
                .iter()
                .zip(&results)
                .map(|(s, result)| screening_detail(s, result.as_ref()))
                .collect(),
            findings,
            orders,
            possible_orders,
            history: self.history_of(study.id).await?,
            feedback: self.feedback_of(study.id).await?,
            deliveries: self.deliveries_of(study_uid).await?,
        }))
    }

    /// Keys of a page, in the order that is asked for.
    ///
    /// Keys only: an index has all that filters and orders ask for (`study_open_list`), and rows are large.
    async fn listed(
        &self,
        query: &WorklistQuery,
        held_since_ms: i64,
        offset: i64,
    ) -> Result<Vec<i64>, StoreError> {
        let (sql, values) = page_of(query, held_since_ms, offset);
        let rows = Id::find_by_statement(self.statement(&sql, values))
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// These studies, in this order.
    async fn in_order(&self, ids: &[i64]) -> Result<Vec<study::Model>, StoreError> {
        let mut rows = study::Entity::find()
            .filter(study::Column::Id.is_in(ids.iter().copied()))
            .all(self.read())
            .await?;
        rows.sort_by_key(|row| ids.iter().position(|id| *id == row.id));
        Ok(rows)
    }

    /// Of each of these studies a series that was screened and has pictures.
    async fn pictured(
        &self,
        studies: impl IntoIterator<Item = i64>,
    ) -> Result<HashMap<i64, String>, StoreError> {
        let ids: Vec<String> = studies.into_iter().map(|id| id.to_string()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT study_id, series_uid FROM screening WHERE study_id IN ({}) \
             AND outcome = 'screened' AND result_json LIKE '%\"pictures\":[\"%' ORDER BY id DESC",
            ids.join(", ")
        );
        let rows = Pictured::find_by_statement(self.statement(&sql, vec![]))
            .all(self.read())
            .await?;
        // the first screening of each, which the page of the study opens with
        Ok(rows
            .into_iter()
            .map(|r| (r.study_id, r.series_uid))
            .collect())
    }

    async fn count(
        &self,
        from: &str,
        condition: &str,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let sql = format!("SELECT COUNT(*) AS n FROM {from} WHERE {condition}");
        let count = Count::find_by_statement(self.statement(&sql, values))
            .one(self.read())
            .await?;
        Ok(as_u64(count.map_or(0, |c| c.n)))
    }

    /// Places among all open studies, also where a filter hides some: read off the index alone.
    async fn ranks_of(&self, studies: &[study::Model]) -> Result<HashMap<i64, u64>, StoreError> {
        if studies.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = studies.iter().map(|s| s.id.to_string()).collect();
        let sql = format!(
            "SELECT id, rank FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY {ORDER}) AS rank \
             FROM study WHERE reading = 'open') ranked WHERE id IN ({})",
            ids.join(", ")
        );
        let rows = Ranked::find_by_statement(self.statement(&sql, vec![]))
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(|r| (r.id, as_u64(r.rank))).collect())
    }

    async fn rank_of(&self, study: &study::Model) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM study WHERE reading = 'open' AND ({ORDER}) < ($1, $2, $3)"
        );
        let values = vec![
            study.effective_arrival_ms.into(),
            study.arrived_at.into(),
            study.study_uid.clone().into(),
        ];
        let count = Count::find_by_statement(self.statement(&sql, values))
            .one(self.read())
            .await?;
        Ok(as_u64(count.map_or(0, |c| c.n)) + 1)
    }

    async fn images_of(
        &self,
        studies: impl IntoIterator<Item = i64>,
    ) -> Result<HashMap<i64, u64>, StoreError> {
        let ids: Vec<String> = studies.into_iter().map(|id| id.to_string()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT series.study_id, COUNT(*) AS n FROM instance \
             JOIN series ON series.id = instance.series_id \
             WHERE series.study_id IN ({}) GROUP BY series.study_id",
            ids.join(", ")
        );
        let rows = CountOf::find_by_statement(self.statement(&sql, vec![]))
            .all(self.read())
            .await?;
        Ok(rows
            .into_iter()
            .map(|r| (r.study_id, as_u64(r.n)))
            .collect())
    }

    async fn series_details(&self, study_id: i64) -> Result<Vec<SeriesDetail>, StoreError> {
        let all = series::Entity::find()
            .filter(series::Column::StudyId.eq(study_id))
            .order_by_asc(series::Column::Number)
            .order_by_asc(series::Column::Id)
            .all(self.read())
            .await?;
        let mut details = Vec::with_capacity(all.len());
        for s in all {
            let images = sea_orm::PaginatorTrait::count(
                instance::Entity::find().filter(instance::Column::SeriesId.eq(s.id)),
                self.read(),
            )
            .await?;
            let settled = s.settled_images.is_some_and(|n| as_u64(n) == images);
            details.push(SeriesDetail {
                series_uid: s.series_uid,
                number: s.number,
                modality: s.modality,
                description: s.description,
                images,
                state: if settled { "complete" } else { "receiving" }.to_owned(),
                kind: s.kind,
                kind_reason: s.kind_reason,
            });
        }
        Ok(details)
    }

    pub(crate) fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.read().get_database_backend(), sql, values)
    }
}

/// Reason codes that are not measured in the images.
pub(super) const NOT_FINDINGS: [&str; 7] = [
    "screening",
    "lowered_after_volumetry",
    "order_stat",
    "order_asap",
    "not_analysed",
    "not_screened",
    "site_rule",
];

/// What is asked for: where it stands, the condition, and the values of both.
pub(super) fn conditions(
    query: &WorklistQuery,
    held_since_ms: i64,
) -> (String, String, Vec<Value>) {
    let mut from = STUDIES;
    // written out: with a bound value SQLite cannot use the indexes of open studies
    let reading = match query.reading {
        Reading::Unread => "s.reading = 'open'",
        Reading::Read => "s.reading = 'read'",
    };
    let mut parts = vec![reading.to_owned()];
    let mut values: Vec<Value> = Vec::new();
    if let Some(assigned) = &query.assigned {
        from = STUDIES_AND_CLAIMS;
        values.push(held_since_ms.into());
        parts.push(match assigned {
            Assignment::Nobody => "c.study_id IS NULL".to_owned(),
            Assignment::Reader(name) => {
                values.push(name.as_str().into());
                "c.reader = $2".to_owned()
            }
        });
    }
    if let Some(band) = query.band {
        values.push(band.as_str().into());
        parts.push(format!("s.band = ${}", values.len()));
    }
    for (column, wanted) in [
        ("state", &query.state),
        ("modality", &query.modality),
        ("body_part", &query.region),
        ("institution", &query.location),
        ("referrer", &query.referrer),
    ] {
        if let Some(wanted) = wanted {
            values.push(wanted.as_str().into());
            parts.push(format!("s.{column} = ${}", values.len()));
        }
    }
    for word in search::words(query.q.as_deref().unwrap_or_default()) {
        values.push(search::pattern(&word).into());
        parts.push(format!("s.search_text LIKE ${} ESCAPE '\\'", values.len()));
    }
    let condition = parts.join(" AND ");
    match query.reading {
        Reading::Unread => (from.to_owned(), condition, values),
        // years of them: neither sorted nor counted as a whole
        Reading::Read => {
            let last = format!(
                "(SELECT {READ_COLUMNS} FROM {from} WHERE {condition} \
                 ORDER BY s.changed_at DESC, s.study_uid DESC LIMIT {READ_MAX}) s"
            );
            (last, "1 = 1".to_owned(), values)
        }
    }
}

/// The statement that gives the keys of a page.
fn page_of(query: &WorklistQuery, held_since_ms: i64, offset: i64) -> (String, Vec<Value>) {
    let (from, condition, mut values) = conditions(query, held_since_ms);
    let (limit, skip) = (values.len() + 1, values.len() + 2);
    values.push(as_i64(ITEMS_PER_PAGE).into());
    values.push(offset.into());
    let order = order(query);
    let sql = format!(
        "SELECT s.id FROM {from} WHERE {condition} ORDER BY {order} LIMIT ${limit} OFFSET ${skip}"
    );
    (sql, values)
}

/// The order of the rows; it is total, so pages never overlap.
fn order(query: &WorklistQuery) -> String {
    let direction = if query.descending { "DESC" } else { "ASC" };
    let by = match (query.sort, query.reading) {
        (Sort::Place, Reading::Unread) if query.descending => {
            return "effective_arrival_ms DESC, arrived_at DESC, study_uid DESC".to_owned();
        }
        (Sort::Place, Reading::Unread) => return ORDER.to_owned(),
        (Sort::Place, Reading::Read) => {
            let direction = if query.descending { "ASC" } else { "DESC" };
            return format!("changed_at {direction}, study_uid {direction}");
        }
        (Sort::Arrived, _) => return format!("arrived_at {direction}, study_uid {direction}"),
        (Sort::Patient, _) => "search_text",
        (Sort::Study, _) => "LOWER(COALESCE(description, ''))",
        (Sort::State, _) => "state",
    };
    format!("{by} {direction}, {ORDER}")
}

fn item(study: &study::Model, rank: u64, images: u64, claim: Option<Claim>) -> WorklistItem {
    let ranking: Option<Ranking> = serde_json::from_str(&study.ranking_json).ok();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a head start is far below 2^53 ms"
    )]
    let head_start_minutes = study.head_start_ms as f64 / 60_000.0;
    WorklistItem {
        number: study.id,
        study_uid: study.study_uid.clone(),
        rank,
        band: Band::parse(&study.band).unwrap_or(Band::Pending),
        head_start_minutes,
        reasons: ranking.map(|r| r.reasons).unwrap_or_default(),
        p_abnormal: study.p_abnormal,
        order_priority: study.order_priority.clone(),
        state: study.state.clone(),
        not_analysed_reason: study.not_analysed_reason.clone(),
        volumetry: study.volumetry.clone(),
        volumetry_reason: study.volumetry_reason.clone(),
        arrived_at: rfc3339(study.arrived_at),
        screened_at: study.screened_at.map(rfc3339),
        analysed_at: study.analysed_at.map(rfc3339),
        effective_arrival: rfc3339(study.effective_arrival_ms),
        looked_at: study.looked_at.clone(),
        note: study.note.clone(),
        patient_name: study.patient_name.as_deref().map(display_name),
        patient_id: study.patient_id.clone(),
        sex: study.sex.clone(),
        age_years: study.age_years,
        accession: study.accession.clone(),
        study_date: study.study_date.clone(),
        description: study.description.clone(),
        referrer: study.referrer.as_deref().map(display_name),
        modality: study.modality.clone(),
        region: study.body_part.clone(),
        location: study.institution.clone(),
        images,
        claimed_at: claim.as_ref().map(|c| rfc3339(c.since_ms)),
        claim_active_at: claim.as_ref().map(|c| rfc3339(c.active_ms)),
        assigned_to: claim.map(|c| c.reader),
        read_at: (study.reading == "read").then(|| rfc3339(study.changed_at)),
        pictured_series: None,
    }
}

fn changed_at(study: &study::Model, orders: &[KnownOrder]) -> String {
    let own = rfc3339(study.changed_at.max(study.last_received_at));
    // of one form, in UTC: as texts they are ordered as in time
    let all = orders.iter().map(|o| o.changed_at.clone()).chain([own]);
    all.max().unwrap_or_default()
}

fn screening_detail(row: &screening::Model, result: Option<&ScreeningResult>) -> ScreeningDetail {
    ScreeningDetail {
        series_uid: row.series_uid.clone(),
        outcome: row.outcome.clone(),
        reason: row.reason.clone(),
        model: row.model.clone(),
        provider: row.provider.clone(),
        created_at: rfc3339(row.created_at),
        p_calibrated: result.and_then(|r| r.p_calibrated),
        timings_ms: result.map_or(serde_json::Value::Null, |r| {
            serde_json::to_value(&r.timings_ms).unwrap_or_default()
        }),
        pictures: result.map(|r| r.pictures.clone()).unwrap_or_default(),
    }
}

/// The volumes of the screening that rests on a T1, else of the first one.
fn volumes(results: &[Option<ScreeningResult>]) -> Vec<VolumeDetail> {
    let measured = || results.iter().flatten().filter(|r| !r.volumes.is_empty());
    measured()
        .find(|r| r.contrast == "T1")
        .or_else(|| measured().next())
        .map(|r| r.volumes.clone())
        .unwrap_or_default()
}

pub(crate) fn as_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn as_u64(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(FromQueryResult)]
    struct Step {
        detail: String,
    }

    #[tokio::test]
    async fn filters_sorts_and_counts_look_at_an_index_and_never_at_rows() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(None, folder.path()).await.unwrap();
        let text = |text: &str| Some(text.to_owned());
        let all = WorklistQuery {
            state: text("screened"),
            modality: text("MR"),
            region: text("HEAD"),
            location: text("North"),
            referrer: text("Doc^A"),
            q: text("two words"),
            assigned: Some(Assignment::Nobody),
            ..WorklistQuery::default()
        };
        let mut asked = vec![WorklistQuery::default(), all];
        for band in [None, Some(Band::Urgent)] {
            asked.extend(Sort::ALL.map(|sort| WorklistQuery {
                band,
                sort,
                ..WorklistQuery::default()
            }));
        }
        let of_read = asked.clone().into_iter().map(|query| WorklistQuery {
            reading: Reading::Read,
            ..query
        });
        asked.extend(of_read.collect::<Vec<_>>());
        for query in asked {
            let index = match query.reading {
                Reading::Unread => "COVERING INDEX study_open_list",
                Reading::Read => "COVERING INDEX study_read_list",
            };
            let (sql, values) = page_of(&query, 0, 9_950);
            let (from, condition, counted) = conditions(&query, 0);
            let count = format!("SELECT COUNT(*) FROM {from} WHERE {condition}");
            for (sql, values) in [(sql, values), (count, counted)] {
                let explain = format!("EXPLAIN QUERY PLAN {sql}");
                let steps = Step::find_by_statement(store.statement(&explain, values));
                let steps = steps.all(store.read()).await.unwrap();
                let of_studies = steps.iter().find(|s| s.detail.contains(" s USING"));
                let detail = &of_studies.unwrap().detail;
                assert!(detail.contains(index), "{sql}: {detail}");
            }
        }
    }
}
