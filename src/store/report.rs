//! What is known of a study, gathered for its report.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::entity::{series, study};
use super::follow_up::Compared;
use super::measurements::{KeptCalibration, MeasurementRow};
use super::results::ScreeningRow;
use super::{Store, StoreError};
use crate::analysis::Measurement;
use crate::analysis::outlines::LESION_VIEW;
use crate::clock::UnixMillis;
use crate::report::NORM_TABLE_NAME;
use crate::report::facts::{Facts, Measured, Patient, RankingFacts, Shown, Stage, Study};
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
        let measurement = self
            .standing_measurement(study.id, &study.volumetry)
            .await?;
        let version = measurement
            .as_ref()
            .and_then(|row| row.result.calibration_version);
        let calibration = match version {
            Some(version) => self.calibration(version).await?,
            None => None,
        };
        // What was compared belongs to what was measured.
        let (compared, compared_ms) = match &measurement {
            Some(_) => self.compared(study.id).await?,
            None => Default::default(),
        };
        let seen = Seen {
            study: &study,
            series: &series,
            screenings: &screenings,
        };
        Ok(seen.facts(measurement.as_ref(), calibration, (compared, compared_ms)))
    }
}

/// What is known of a study, row by row.
struct Seen<'a> {
    study: &'a study::Model,
    series: &'a [series::Model],
    screenings: &'a [ScreeningRow],
}

impl Seen<'_> {
    /// Volumetry's numbers where they stand, screening's coarse ones otherwise.
    fn facts(
        &self,
        measurement: Option<&MeasurementRow>,
        calibration: Option<KeptCalibration>,
        (compared, compared_ms): (Compared, Option<UnixMillis>),
    ) -> Facts {
        let study = self.study;
        let best = best(self.screenings);
        let measured = match measurement {
            Some(row) => Some(self.measured(row, calibration)),
            None => best.map(|row| self.screened(row)),
        };
        let not_measured = measured.is_none().then(|| {
            study.not_analysed_reason.clone().unwrap_or_else(|| {
                match study.state.as_str() {
                    "received" => "not screened yet",
                    _ => "no usable MR series",
                }
                .to_owned()
            })
        });
        let result = measurement.map(|row| &row.result);
        let made = self.screenings.iter().map(|row| row.created_at);
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
            lesions: result.and_then(|m| m.lesions.clone()),
            lesion_series: result
                .and_then(|m| m.lesion_series_uid.as_deref())
                .map(|uid| self.title(uid)),
            lesion_series_uid: result.and_then(|m| m.lesion_series_uid.clone()),
            no_lesions: result.and_then(|m| m.no_lesions.clone()),
            follow_up: compared.follow_up,
            not_compared: compared.not_compared,
            volumetry: study.volumetry.clone(),
            volumetry_reason: study.volumetry_reason.clone(),
            settled: study.state != "received" && study.volumetry != "pending",
            looked_at: study.looked_at.clone(),
            ranking: ranking(study),
            models: self.models(result),
            made_ms: made
                .chain(measurement.map(|row| row.created_at))
                .chain(compared_ms)
                .max()
                .unwrap_or(study.changed_at),
        }
    }

    /// Networks that gave something: screening's first.
    fn models(&self, measurement: Option<&Measurement>) -> Vec<String> {
        let screened = self.screenings.iter().filter(|r| r.outcome == "screened");
        let mut models: Vec<String> = screened.map(|row| row.model.clone()).collect();
        models.sort();
        models.dedup();
        models.extend(measurement.map(|m| m.model.clone()));
        models
    }

    /// Number and description of a series, or its UID.
    fn title(&self, series_uid: &str) -> String {
        let of = self.series.iter().find(|s| s.series_uid == series_uid);
        let number = of.and_then(|s| s.number).map(|n| n.to_string());
        let description = of.and_then(|s| s.description.clone());
        let name: Vec<String> = [number, description].into_iter().flatten().collect();
        if name.is_empty() {
            series_uid.to_owned()
        } else {
            name.join(" ")
        }
    }

    fn screened(&self, row: &ScreeningRow) -> Measured {
        Measured {
            stage: Stage::Screening,
            series_uid: row.series_uid.clone(),
            series: self.title(&row.series_uid),
            contrast: row.result.contrast.clone(),
            model: row.model.clone(),
            input: row.input.clone(),
            volumes: row.result.volumes.clone(),
            age_years: self.study.age_years,
            sex: self.study.sex.clone(),
            partial: row.partial_volume,
            remarks: Vec::new(),
            confidence: None,
            asymmetry: Vec::new(),
            indices: Vec::new(),
            norms: NORM_TABLE_NAME.to_owned(),
            calibration: None,
            pictures: screened_pictures(row),
        }
    }

    fn measured(&self, row: &MeasurementRow, calibration: Option<KeptCalibration>) -> Measured {
        let m = &row.result;
        let screening = self.screenings.iter();
        let screening = screening
            .filter(|r| r.series_uid == m.series_uid)
            .find(|r| r.outcome == "screened");
        let (lesion, measured) = m
            .pictures
            .iter()
            .cloned()
            .partition(|name| name.starts_with(LESION_VIEW));
        Measured {
            stage: Stage::Volumetry,
            series_uid: m.series_uid.clone(),
            series: self.title(&m.series_uid),
            contrast: m.contrast.clone(),
            model: m.model.clone(),
            input: row.input.clone(),
            volumes: m.volumes.clone(),
            age_years: m.age_years,
            sex: m.sex.clone(),
            partial: screening.is_some_and(|r| r.partial_volume),
            remarks: m.quality.remarks.clone(),
            confidence: Some(m.quality.confidence),
            asymmetry: m.asymmetry.clone(),
            indices: m.indices.clone(),
            norms: m.norms.clone(),
            calibration: calibration.map(|c| (c.version, c.calibration)),
            pictures: Shown {
                measured,
                lesion,
                ..screening.map(screened_pictures).unwrap_or_default()
            },
        }
    }
}

fn screened_pictures(row: &ScreeningRow) -> Shown {
    Shown {
        screened: row.result.pictures.clone(),
        focused: row.result.focus_mm.is_some(),
        ..Shown::default()
    }
}

/// The screening whose volumes are reported where nothing was measured: that of a T1, else the first.
fn best(screenings: &[ScreeningRow]) -> Option<&ScreeningRow> {
    let measured = || screenings.iter().filter(|r| !r.result.volumes.is_empty());
    measured()
        .find(|r| r.result.contrast == "T1")
        .or_else(|| measured().next())
}

fn patient(study: &study::Model) -> Patient {
    Patient {
        name: study
            .patient_name
            .as_deref()
            .map(display_name)
            .unwrap_or_default(),
        id: study.patient_id.clone().unwrap_or_default(),
        birth_date: study.birth_date.clone(),
        sex: study.sex.clone(),
        age_years: study.age_years.map(Patient::whole_years),
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
