//! Stage two of a study: from its files to its measurement and its refined place in the list.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::card::hex;
use super::measuring::{
    Look, Measured, Networks, Reference, Source, combine, look, memory_peak_mib,
};
use super::pipeline::Analyst;
use super::{Engine, Measurement, outlines, volumetry_findings};
use crate::dicom::decode::{DecodeError, decode_series};
use crate::dicom::header::SeriesTags;
use crate::norms::Sex;
use crate::store::intake::{SeriesForAnalysis, StudyForAnalysis};
use crate::store::measurements::{KeptCalibration, MeasurementRow};
use crate::store::{StoreError, files};
use crate::triage::Volumetry;
use crate::volume::choice::Choice;
use crate::volume::nifti::{self, Voxels};
use crate::volume::{Affine, Volume};

/// Label map of a measured study, and its lesions, in the study's folder of measurements.
pub const SEGMENTATION: &str = "segmentation.nii.gz";
/// See [`SEGMENTATION`].
pub const LESIONS: &str = "lesions.nii.gz";
/// Between two pictures stage two lets screenings go first, for at most so long.
const YIELD_MAX: Duration = Duration::from_mins(5);
/// How often it looks whether they are done.
const YIELD_POLL: Duration = Duration::from_millis(250);

/// A picture's own grid.
#[derive(Debug, Clone, Copy)]
struct Grid {
    dims: [usize; 3],
    affine: Affine,
}

/// What a series was measured to, or why it could not be.
type LookOutcome = Result<(Look, Grid), String>;

/// The scanner of a series, as calibrations name it: manufacturer, model, serial number, tesla.
#[must_use]
pub fn scanner_name(tags: &SeriesTags) -> String {
    let field = tags.field_strength.map(|tesla| format!("{tesla:.1} T"));
    let parts = [
        tags.manufacturer.clone(),
        tags.model.clone(),
        tags.device_serial.clone(),
        field,
    ];
    let known: Vec<String> = parts.into_iter().flatten().collect();
    if known.is_empty() {
        "unknown scanner".into()
    } else {
        known.join(", ")
    }
}

impl Analyst {
    /// Measures a screened study and refines its rank. Repeatable: what was measured already is
    /// not measured again.
    ///
    /// # Errors
    /// In words, when something failed that may work another time.
    pub async fn measure_study(&self, study_id: i64) -> Result<(), String> {
        let text = |e: StoreError| format!("database: {e}");
        let found = self.store.study_for_analysis(study_id).await;
        let Some(study) = found.map_err(text)? else {
            return Ok(());
        };
        let engine = match &self.measuring {
            Ok(engine) => engine,
            // Asked for by an earlier process that had the network.
            Err(why) => return self.not_measured(study_id, why).await.map_err(text),
        };
        let choice = self.screened_choice(&study).await.map_err(text)?;
        let chosen: Vec<&SeriesForAnalysis> = choice
            .chosen()
            .filter_map(|uid| study.series.iter().find(|s| s.series_uid == uid))
            .collect();
        let Some(main) = chosen.first() else {
            return Ok(());
        };
        let flair = chosen
            .get(1)
            .filter(|s| choice.kind_of(&s.series_uid) == Some("FLAIR"));
        let calibration = self
            .store
            .calibration_of(&scanner_name(&main.tags), &engine.card.sha256)
            .await
            .map_err(text)?;
        let input = self.input_of(&study, &chosen, engine, calibration.as_ref());
        let earlier = self.store.measurement(study.id).await.map_err(text)?;
        let row = if let Some(row) = earlier.filter(|row| row.input == input) {
            row
        } else {
            let outcome = self
                .measure_series(&study, &choice, main, flair.copied(), calibration)
                .await?;
            let row = MeasurementRow {
                input,
                not_done: outcome.as_ref().err().cloned(),
                result: outcome.unwrap_or_default(),
                created_at: 0,
            };
            self.store
                .keep_measurement(study.id, &row, self.clock.now_ms())
                .await
                .map_err(text)?;
            row
        };
        self.refine(&study, &row).await.map_err(text)
    }

    /// Notes that a study cannot be measured after all attempts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_up_measuring(&self, study_id: i64, why: &str) -> Result<(), StoreError> {
        self.not_measured(study_id, &format!("failed: {why}")).await
    }

    async fn not_measured(&self, study_id: i64, why: &str) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let mut uid = String::new();
        self.store
            .change_standing(study_id, &self.ranker, now, |s| {
                uid.clone_from(&s.study_uid);
                "not_done".clone_into(&mut s.volumetry);
                s.volumetry_reason = Some(why.to_owned());
                s.evidence.volumetry = None;
                s.analysed_at = None;
            })
            .await?;
        self.news.tell(&uid);
        Ok(())
    }

    /// The choice among the series that screening could use.
    async fn screened_choice(&self, study: &StudyForAnalysis) -> Result<Choice, StoreError> {
        let rows = self.store.screenings(study.id).await?;
        let unusable = rows
            .iter()
            .filter(|r| r.outcome != "screened")
            .map(|r| (r.series_uid.clone(), String::new()))
            .collect();
        Ok(Self::choose(study, &unusable))
    }

    /// Series, files, networks, norms and person: the same input is never measured twice.
    fn input_of(
        &self,
        study: &StudyForAnalysis,
        chosen: &[&SeriesForAnalysis],
        engine: &Engine,
        calibration: Option<&KeptCalibration>,
    ) -> String {
        let mut digest = Sha256::new();
        let person = format!("{:?} {:?}", study.age_years, study.sex);
        let version = calibration.map(|c| c.version);
        for part in [
            self.engine.card.sha256.as_str(),
            &engine.card.sha256,
            &engine
                .norms
                .as_ref()
                .map_or(String::new(), |n| format!("{n:?}")),
            env!("CARGO_PKG_VERSION"),
            &person,
            &format!("{version:?}"),
        ] {
            digest.update(part);
            digest.update("\n");
        }
        for series in chosen {
            let mut files: Vec<&str> = series.files.iter().map(String::as_str).collect();
            files.sort_unstable();
            digest.update(files.join("\n"));
        }
        hex(&digest.finalize())
    }

    /// The inner error says why the study cannot be measured.
    async fn measure_series(
        &self,
        study: &StudyForAnalysis,
        choice: &Choice,
        main: &SeriesForAnalysis,
        flair: Option<&SeriesForAnalysis>,
        calibration: Option<KeptCalibration>,
    ) -> Result<Result<Measurement, String>, String> {
        let started = Instant::now();
        let (looked, grid) = match self.look_at(choice, main).await? {
            Ok(look) => look,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut flair_look = None;
        let mut no_lesions = None;
        if let Some(series) = flair {
            self.let_screenings_go_first().await;
            match self.look_at(choice, series).await? {
                Ok(look) => flair_look = Some(look),
                Err(reason) => no_lesions = Some(format!("FLAIR: {reason}")),
            }
        }
        let (engine, norms) = (self.measuring.clone()?, self.norms.clone());
        let (age_years, sex) = (study.age_years, study.sex.as_deref().and_then(Sex::parse));
        let pictures = self
            .files
            .picture_folder(&study.study_uid, &main.series_uid);
        let folder = self.files.measurement_folder(&study.study_uid);
        let heavy = move || -> Result<Measurement, String> {
            let reference = Reference {
                norms: &norms,
                scanner: calibration.as_ref().map(|c| (c.version, &c.calibration)),
                age_years,
                sex,
            };
            let flair = flair_look.as_ref().map(|(look, _)| look);
            let Measured {
                mut measurement,
                segmentation,
                lesions,
                codes,
            } = combine(&looked, flair, &engine, reference);
            measurement.no_lesions = no_lesions.or(measurement.no_lesions);
            if let Some(folder) = &folder {
                write_labels(folder, SEGMENTATION, grid, &segmentation)?;
                if let Some(lesions) = &lesions {
                    let grid = flair_look.as_ref().map_or(grid, |(_, grid)| *grid);
                    write_labels(folder, LESIONS, grid, lesions)?;
                }
            }
            if let Some(folder) = &pictures {
                match outlines::draw(folder, &looked.segmented.image, &codes) {
                    Ok(planes) => measurement.pictures = planes,
                    Err(e) => warn!(error = %e, "could not draw outlines"),
                }
            }
            Ok(measurement)
        };
        let mut measurement = tokio::task::spawn_blocking(heavy)
            .await
            .map_err(|_| "measuring broke off".to_owned())??;
        measurement.memory_peak_mib = memory_peak_mib();
        let whole = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        measurement.timings_ms.insert("whole".into(), whole);
        info!(study.id = study.id, timings_ms = ?measurement.timings_ms, "study is measured");
        Ok(Ok(measurement))
    }

    /// Decodes a series and runs the networks on it.
    async fn look_at(
        &self,
        choice: &Choice,
        series: &SeriesForAnalysis,
    ) -> Result<LookOutcome, String> {
        let root = self.files.root();
        let paths: Vec<PathBuf> = series.files.iter().map(|f| root.join(f)).collect();
        let volume = match decode_series(&paths, &self.limits).await {
            Ok(decoded) => decoded.volume,
            Err(DecodeError::NotAVolume(reason)) => return Ok(Err(reason)),
            Err(DecodeError::Failed(reason)) => return Err(reason),
        };
        let source = Source {
            series_uid: series.series_uid.clone(),
            kind: choice
                .kind_of(&series.series_uid)
                .unwrap_or("MR")
                .to_owned(),
            with_agent: choice.with_agent(&series.series_uid),
        };
        let (screening, measuring) = (self.engine.clone(), self.measuring.clone()?);
        let heavy = move || look_owned(&screening, &measuring, &volume, source);
        tokio::task::spawn_blocking(heavy)
            .await
            .map_err(|_| "measuring broke off".to_owned())?
    }

    async fn let_screenings_go_first(&self) {
        let started = Instant::now();
        while started.elapsed() < YIELD_MAX {
            match self.store.screening_waits(self.clock.now_ms()).await {
                Ok(true) => tokio::time::sleep(YIELD_POLL).await,
                _ => return,
            }
        }
    }

    /// The study's standing after volumetry.
    async fn refine(
        &self,
        study: &StudyForAnalysis,
        row: &MeasurementRow,
    ) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let screenings = self.store.screenings(study.id).await?.into_iter();
        let partial: Vec<String> = screenings
            .filter(|r| r.partial_volume)
            .map(|r| r.series_uid)
            .collect();
        self.store
            .change_standing(study.id, &self.ranker, now, |s| {
                s.evidence.volumetry = None;
                if let Some(reason) = &row.not_done {
                    "not_done".clone_into(&mut s.volumetry);
                    s.volumetry_reason = Some(reason.clone());
                    s.analysed_at = None;
                    return;
                }
                "done".clone_into(&mut s.volumetry);
                s.analysed_at = s.analysed_at.or(Some(now));
                let quality = &row.result.quality;
                let doubt = quality.remarks.iter().find(|r| r.doubtful);
                s.volumetry_reason = doubt.map(|r| format!("doubtful: {}", r.text));
                if !quality.doubtful {
                    let found = Volumetry {
                        groups: volumetry_findings::groups_known(&row.result),
                        findings: row.result.findings.clone(),
                    };
                    if let Some(whole) = &mut s.evidence.whole {
                        whole.volumetry =
                            volumetry_findings::of_others(&found, &row.result, &partial);
                    }
                    s.evidence.volumetry = Some(found);
                }
            })
            .await?;
        self.news.tell(&study.study_uid);
        Ok(())
    }
}

fn look_owned(
    screening: &Arc<Engine>,
    measuring: &Arc<Engine>,
    volume: &Volume,
    source: Source,
) -> Result<LookOutcome, String> {
    let networks = Networks {
        screening,
        measuring,
    };
    let grid = Grid {
        dims: volume.dims,
        affine: volume.affine,
    };
    Ok(look(networks, volume, source)?.map(|look| (look, grid)))
}

/// Whole or not at all: readers of these files never see a half.
fn write_labels(folder: &Path, name: &str, grid: Grid, codes: &[u8]) -> Result<(), String> {
    let bytes = nifti::encode(grid.dims, &grid.affine, Voxels::U8(codes), true)
        .map_err(|e| format!("{name}: {e}"))?;
    let text = |e: std::io::Error| format!("{}: {e}", folder.join(name).display());
    std::fs::create_dir_all(folder).map_err(text)?;
    let part = folder.join(format!("{name}.part"));
    std::fs::write(&part, bytes).map_err(text)?;
    files::move_into_place(&part, &folder.join(name)).map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scanner_is_named_by_what_is_known_of_it() {
        let mut tags = SeriesTags::default();
        assert_eq!(scanner_name(&tags), "unknown scanner");
        tags.manufacturer = Some("SIEMENS".into());
        tags.device_serial = Some("4711".into());
        tags.field_strength = Some(2.893_62);
        assert_eq!(scanner_name(&tags), "SIEMENS, 4711, 2.9 T");
    }

    #[test]
    fn a_label_map_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let grid = Grid {
            dims: [2, 2, 2],
            affine: crate::volume::affine::IDENTITY,
        };
        let inside = folder.path().join("1.2.3");
        write_labels(&inside, SEGMENTATION, grid, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let names: Vec<_> = std::fs::read_dir(&inside).unwrap().collect();
        assert_eq!(names.len(), 1);
        let bytes = std::fs::read(inside.join(SEGMENTATION)).unwrap();
        assert_eq!(nifti::read(&bytes, 8).unwrap().data[7], 7.0);
        assert!(write_labels(&inside, LESIONS, grid, &[0]).is_err());
    }
}
