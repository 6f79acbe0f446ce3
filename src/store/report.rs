//! What is known of a study, gathered for its report.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::entity::{series, study};
use super::results::ScreeningRow;
use super::{Store, StoreError};
use crate::report::facts::{Facts, Measured, Patient, RankingFacts, Stage, Study};
use crate::triage::{Band, Ranking, whole_minutes};
use crate::worklist::display_name;

impl Store {
    /// The facts of a study by its UID.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn report_facts(&self, study_uid: &str) -> Result<Option<Facts>, StoreError> {
        let found = study::Entity::find().filter(study::Column::StudyUid.eq(study_uid));
        match found.one(self.read()).await? {
            Some(study) => self.gather(study).await.map(Some),
            None => Ok(None),
        }
    }

    /// The facts of a study by its key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn report_facts_of(&self, study_id: i64) -> Result<Option<Facts>, StoreError> {
        match study::Entity::find_by_id(study_id).one(self.read()).await? {
            Some(study) => self.gather(study).await.map(Some),
            None => Ok(None),
        }
    }

    async fn gather(&self, study: study::Model) -> Result<Facts, StoreError> {
        let screenings = self.screenings(study.id).await?;
        let series = series::Entity::find()
            .filter(series::Column::StudyId.eq(study.id))
            .order_by_asc(series::Column::Id)
            .all(self.read())
            .await?;
        Ok(facts(&study, &series, &screenings))
    }
}

fn facts(study: &study::Model, series: &[series::Model], screenings: &[ScreeningRow]) -> Facts {
    let best = best(screenings);
    let measured = best.map(|row| measured(study, series, row));
    let not_measured = measured.is_none().then(|| {
        study.not_analysed_reason.clone().unwrap_or_else(|| {
            match study.state.as_str() {
                "received" => "not screened yet",
                _ => "no usable MR series",
            }
            .to_owned()
        })
    });
    let mut models: Vec<String> = screenings
        .iter()
        .filter(|row| row.outcome == "screened")
        .map(|row| row.model.clone())
        .collect();
    models.sort();
    models.dedup();
    Facts {
        patient: patient(study),
        study: Study {
            uid: study.study_uid.clone(),
            date: study.study_date.clone(),
            accession: study.accession.clone(),
            description: study.description.clone(),
            referrer: study.referrer.as_deref().map(display_name),
            institution: study.institution.clone(),
        },
        measured,
        not_measured,
        lesions: None,
        volumetry: study.volumetry.clone(),
        volumetry_reason: study.volumetry_reason.clone(),
        settled: study.state != "received" && study.volumetry != "pending",
        looked_at: study.looked_at.clone(),
        ranking: ranking(study),
        models,
        made_ms: screenings
            .iter()
            .map(|row| row.created_at)
            .max()
            .unwrap_or(study.changed_at),
    }
}

/// The screening whose volumes are reported: that of a T1, else the first.
fn best(screenings: &[ScreeningRow]) -> Option<&ScreeningRow> {
    let measured = || screenings.iter().filter(|r| !r.result.volumes.is_empty());
    measured()
        .find(|r| r.result.contrast == "T1")
        .or_else(|| measured().next())
}

fn measured(study: &study::Model, series: &[series::Model], row: &ScreeningRow) -> Measured {
    let of = series.iter().find(|s| s.series_uid == row.series_uid);
    let number = of.and_then(|s| s.number).map(|n| n.to_string());
    let description = of.and_then(|s| s.description.clone());
    let name: Vec<String> = [number, description].into_iter().flatten().collect();
    Measured {
        stage: Stage::Screening,
        series_uid: row.series_uid.clone(),
        series: if name.is_empty() {
            row.series_uid.clone()
        } else {
            name.join(" ")
        },
        contrast: row.result.contrast.clone(),
        model: row.model.clone(),
        input: row.input.clone(),
        volumes: row.result.volumes.clone(),
        age_years: study.age_years,
        sex: study.sex.clone(),
        partial: row.partial_volume,
        doubts: Vec::new(),
        pictures: row.result.pictures.clone(),
        focused: row.result.focus_mm.is_some(),
    }
}

fn patient(study: &study::Model) -> Patient {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an age, between 0 and 130"
    )]
    let whole = |age: f64| age.floor().clamp(0.0, 130.0) as u32;
    Patient {
        name: study
            .patient_name
            .as_deref()
            .map(display_name)
            .unwrap_or_default(),
        id: study.patient_id.clone().unwrap_or_default(),
        birth_date: study.birth_date.clone(),
        sex: study.sex.clone(),
        age_years: study.age_years.map(whole),
    }
}

fn ranking(study: &study::Model) -> RankingFacts {
    let ranking: Option<Ranking> = serde_json::from_str(&study.ranking_json).ok();
    let reasons = ranking.map(|r| r.reasons).unwrap_or_default();
    let minutes: Vec<f64> = reasons.iter().map(|r| r.minutes).collect();
    let whole = whole_minutes(&minutes);
    RankingFacts {
        band: Band::parse(&study.band).unwrap_or(Band::Pending),
        total_minutes: whole.iter().sum(),
        terms: reasons.into_iter().zip(whole).collect(),
        p_abnormal: study.p_abnormal,
        settings_version: study.settings_version,
    }
}
