//! From a study's files to its screening results and its place in the list.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::card::hex;
use super::standing::{
    Looked, failed_again, looked_at, not_screened, says_so_already, stand, stand_for_volumetry,
    weigh,
};
use super::{Engine, Screened, draw, measure, screen};
use crate::clock::SharedClock;
use crate::dicom::decode::{DecodeError, DecodeLimits, Decoded, decode_series};
use crate::norms::{Norms, Sex};
use crate::store::intake::{SeriesForAnalysis, StudyForAnalysis};
use crate::store::ranks::Ranker;
use crate::store::results::{ScreeningResult, ScreeningRow};
use crate::store::{Files, Store, StoreError};
use crate::telemetry;
use crate::volume::Volume;
use crate::volume::choice::{self, Candidate};
use crate::worklist::NewsDesk;

/// Series tried in turn where the first choice turns out unusable.
const TRIES_MAX: usize = 6;

/// Screens studies.
pub struct Analyst {
    /// Database.
    pub store: Store,
    /// Data folder.
    pub files: Files,
    /// Time.
    pub clock: SharedClock,
    /// The screening network.
    pub engine: Arc<Engine>,
    /// The measuring network, or why there is none.
    pub measuring: Result<Arc<Engine>, String>,
    /// Norm table.
    pub norms: Arc<Norms>,
    /// Ranking.
    pub ranker: Arc<Ranker>,
    /// The list.
    pub news: NewsDesk,
    /// Bounds on decoding.
    pub limits: DecodeLimits,
    /// After so many failures a study is given up.
    pub attempts: i64,
}

/// What came of one series.
pub enum SeriesOutcome {
    /// The network ran and saw a head.
    Screened(Box<(Screened, ScreeningResult)>),
    /// It cannot be analysed, and why.
    NotAnalysed(String),
}

impl Analyst {
    /// After so many failures a study is given up.
    #[must_use]
    pub fn attempts_max(&self) -> i64 {
        self.attempts
    }

    /// Screens the chosen series of a study and ranks it on what was found. Repeatable: what
    /// was screened already is not screened again.
    ///
    /// # Errors
    /// In words, when something failed that may work another time.
    pub async fn screen_study(&self, study_id: i64) -> Result<(), String> {
        let text = |e: StoreError| format!("database: {e}");
        let Some(study) = self
            .store
            .study_for_analysis(study_id)
            .await
            .map_err(text)?
        else {
            return Ok(());
        };
        let earlier = self.store.screenings(study.id).await.map_err(text)?;
        let images_removed = study.series.iter().all(|s| s.files.is_empty());
        if images_removed && earlier.iter().any(|r| r.outcome == "screened") {
            return self.rank_as_it_stands(&study).await.map_err(text);
        }
        let looked = self.screen_chosen(&study, &earlier).await?;
        if looked.nothing_new {
            self.rank_as_it_stands(&study).await.map_err(text)?;
        } else {
            self.rank(&study, &looked.rows).await.map_err(text)?;
        }
        looked.again.map_or(Ok(()), Err)
    }

    /// Notes that a study cannot be analysed after all attempts. What was found in it before stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_up(&self, study_id: i64, why: &str) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let no_network = self.measuring.as_ref().err().map(String::as_str);
        let mut uid = String::new();
        self.store
            .change_standing(study_id, &self.ranker, now, |s| {
                uid.clone_from(&s.study_uid);
                if s.evidence.screening.is_some() {
                    failed_again(s, why, no_network);
                } else if !says_so_already(s, why) {
                    not_screened(s, "failed", why);
                }
            })
            .await?;
        self.news.tell(&uid);
        Ok(())
    }

    /// Chooses series, decodes and screens them; an unusable one makes way for the next best.
    async fn screen_chosen(
        &self,
        study: &StudyForAnalysis,
        earlier: &[ScreeningRow],
    ) -> Result<Looked, String> {
        let text = |e: StoreError| format!("database: {e}");
        let mut unusable: BTreeMap<String, String> = BTreeMap::new();
        let mut rows: Vec<ScreeningRow> = Vec::new();
        let mut aside: Vec<ScreeningRow> = Vec::new();
        for _ in 0..TRIES_MAX {
            let choice = Self::choose(study, &unusable);
            let next = choice
                .chosen()
                .find(|uid| !rows.iter().any(|r| r.series_uid == *uid));
            let series = next.and_then(|uid| study.series.iter().find(|s| s.series_uid == uid));
            let Some(series) = series else {
                self.note_kinds(study, &choice, &rows, &unusable)
                    .await
                    .map_err(text)?;
                break;
            };
            let kind = choice
                .kind_of(&series.series_uid)
                .unwrap_or("MR")
                .to_owned();
            let row = self.screen_series(study, series, &kind, earlier).await?;
            if let (false, Some(reason)) = (row.outcome == "screened", &row.reason) {
                unusable.insert(row.series_uid.clone(), reason.clone());
                aside.push(row);
            } else {
                rows.push(row);
            }
        }
        Ok(weigh(rows, aside, earlier))
    }

    pub(super) fn choose(
        study: &StudyForAnalysis,
        unusable: &BTreeMap<String, String>,
    ) -> choice::Choice {
        let candidates: Vec<Candidate> = study
            .series
            .iter()
            .filter(|s| s.settled && !unusable.contains_key(&s.series_uid))
            .map(|s| Candidate {
                series_uid: s.series_uid.clone(),
                sop_class_uid: s.sop_class_uid.clone(),
                tags: s.tags.clone(),
                images: usize::try_from(s.frames).unwrap_or(usize::MAX),
                own_result: s.own_result,
            })
            .collect();
        choice::choose(&candidates)
    }

    async fn note_kinds(
        &self,
        study: &StudyForAnalysis,
        choice: &choice::Choice,
        rows: &[ScreeningRow],
        unusable: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let mut kinds = Vec::new();
        for s in &study.series {
            let kind = choice.kind_of(&s.series_uid).unwrap_or("MR").to_owned();
            let reason = if rows.iter().any(|r| r.series_uid == s.series_uid) {
                format!(
                    "screened: {}",
                    choice.reason_of(&s.series_uid).unwrap_or_default()
                )
            } else if let Some(reason) = unusable.get(&s.series_uid) {
                format!("not analysed: {reason}")
            } else if s.settled {
                choice
                    .reason_of(&s.series_uid)
                    .unwrap_or_default()
                    .to_owned()
            } else {
                continue;
            };
            kinds.push((s.id, kind, reason));
        }
        self.store.note_series_kinds(&kinds).await
    }

    async fn screen_series(
        &self,
        study: &StudyForAnalysis,
        series: &SeriesForAnalysis,
        kind: &str,
        earlier: &[ScreeningRow],
    ) -> Result<ScreeningRow, String> {
        let input = input_digest(study, series, &self.engine);
        let before = earlier.iter().find(|r| r.series_uid == series.series_uid);
        // a loaded machine fails too: what failed is looked at again
        if let Some(same) = before.filter(|r| r.input == input && r.outcome != "failed") {
            return Ok(same.clone());
        }
        let paths: Vec<PathBuf> = series
            .files
            .iter()
            .map(|f| self.files.root().join(f))
            .collect();
        let started = Instant::now();
        let decoded = decode_series(&paths, &self.limits).await;
        let decode_ms = millis(started);
        let mut row = ScreeningRow {
            series_uid: series.series_uid.clone(),
            input,
            outcome: "not_analysed".into(),
            reason: None,
            partial_volume: false,
            model: self.engine.card.label(),
            provider: self.engine.provider.into(),
            result: ScreeningResult::default(),
            created_at: 0,
        };
        match decoded {
            Ok(decoded) => {
                row.partial_volume = decoded.report.partial;
                self.screen_decoded(study, decoded, kind, decode_ms, &mut row)
                    .await?;
            }
            Err(DecodeError::NotAVolume(reason)) => row.reason = Some(reason),
            Err(DecodeError::Failed(reason)) => {
                "failed".clone_into(&mut row.outcome);
                row.reason = Some(reason);
                // What was found stands, with its pictures and volumes, until another look succeeds.
                if before.is_some_and(|r| r.outcome == "screened") {
                    return Ok(row);
                }
            }
        }
        let now = self.clock.now_ms();
        self.store
            .keep_screening(study.id, &row, now)
            .await
            .map_err(|e| format!("database: {e}"))?;
        Ok(row)
    }

    async fn screen_decoded(
        &self,
        study: &StudyForAnalysis,
        decoded: Decoded,
        kind: &str,
        decode_ms: u64,
        row: &mut ScreeningRow,
    ) -> Result<(), String> {
        let folder = self.files.picture_folder(&study.study_uid, &row.series_uid);
        let (engine, norms) = (self.engine.clone(), self.norms.clone());
        let (age, sex) = (study.age_years, study.sex.as_deref().and_then(Sex::parse));
        let kind = kind.to_owned();
        let heavy = move || -> Result<SeriesOutcome, String> {
            let mut outcome = screen_volume(&engine, &norms, &decoded.volume, &kind, age, sex)?;
            if let (SeriesOutcome::Screened(found), Some(folder)) = (&mut outcome, folder) {
                let started = Instant::now();
                let (screened, result) = found.as_mut();
                let focus = result.focus_mm;
                match draw(
                    &folder,
                    &decoded.volume,
                    screened,
                    &engine.card.codes,
                    focus,
                ) {
                    Ok(planes) => result.pictures = planes,
                    Err(e) => warn!(error = %e, "could not draw pictures"),
                }
                result.timings_ms.insert("pictures".into(), millis(started));
                result.timings_ms.insert("decode".into(), decode_ms);
            }
            Ok(outcome)
        };
        let outcome = tokio::task::spawn_blocking(heavy).await;
        match outcome.map_err(|_| "screening broke off".to_owned())?? {
            SeriesOutcome::Screened(found) => {
                let (_, result) = *found;
                telemetry::screened(
                    self.engine.card.label(),
                    self.engine.provider,
                    &result.timings_ms,
                );
                info!(study.id = study.id, timings_ms = ?result.timings_ms, "series is screened");
                "screened".clone_into(&mut row.outcome);
                row.reason = None;
                row.result = result;
            }
            SeriesOutcome::NotAnalysed(reason) => row.reason = Some(reason),
        }
        Ok(())
    }

    async fn rank(
        &self,
        study: &StudyForAnalysis,
        rows: &[ScreeningRow],
    ) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let pending = study.series.iter().any(|s| !s.settled && !s.own_result);
        let looked = looked_at(study, rows);
        let no_network = self.measuring.as_ref().err().map(String::as_str);
        self.store
            .change_standing(study.id, &self.ranker, now, |s| {
                stand(s, rows, looked, pending, now);
                stand_for_volumetry(s, no_network, pending);
            })
            .await?;
        self.news.tell(&study.study_uid);
        Ok(())
    }

    /// Nothing new was seen, as images that were removed cannot be; but it may have been asked for because the study
    /// came back to the list, and is to alert.
    async fn rank_as_it_stands(&self, study: &StudyForAnalysis) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        self.store
            .change_standing(study.id, &self.ranker, now, |_| {})
            .await?;
        self.news.tell(&study.study_uid);
        Ok(())
    }
}

/// Runs the network on a volume and measures what it found. Blocking and heavy.
///
/// # Errors
/// When the runtime fails.
pub fn screen_volume(
    engine: &Engine,
    norms: &Norms,
    volume: &Volume,
    kind: &str,
    age_years: Option<f64>,
    sex: Option<Sex>,
) -> Result<SeriesOutcome, String> {
    let screened = screen(engine, volume)?;
    if screened.head_logit < engine.card.head_threshold {
        return Ok(SeriesOutcome::NotAnalysed(
            "does not look like a head".into(),
        ));
    }
    let started = Instant::now();
    let measured = measure(
        &screened,
        &engine.card,
        engine.norms.as_ref(),
        norms,
        age_years,
        sex,
    );
    let timings_ms = BTreeMap::from([
        ("resample".to_owned(), screened.resample_ms),
        ("network".to_owned(), screened.network_ms),
        ("measure".to_owned(), millis(started)),
    ]);
    let result = ScreeningResult {
        contrast: kind.to_owned(),
        p_logit: Some(screened.p_logit),
        p_calibrated: Some(screened.p_calibrated),
        prevalence_train: Some(engine.card.prevalence_train),
        head_logit: Some(screened.head_logit),
        volumes: measured.volumes,
        findings: measured.findings,
        focus_mm: measured.focus_mm,
        pictures: Vec::new(),
        timings_ms,
    };
    Ok(SeriesOutcome::Screened(Box::new((screened, result))))
}

/// Series, its files, the person that it is compared by, model and program: the same input is never analysed twice.
fn input_digest(study: &StudyForAnalysis, series: &SeriesForAnalysis, engine: &Engine) -> String {
    let mut files: Vec<&str> = series.files.iter().map(String::as_str).collect();
    files.sort_unstable();
    let mut digest = Sha256::new();
    digest.update(&engine.card.sha256);
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(format!("\n{:?} {:?}\n", study.age_years, study.sex));
    for file in files {
        digest.update(file);
        digest.update("\n");
    }
    hex(&digest.finalize())
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
