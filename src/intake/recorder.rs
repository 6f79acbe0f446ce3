//! One task moves objects into place and records them, a batch at a time: while one batch is
//! synced the next one gathers, so the cost of durability is shared by all associations.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{IntakeSettings, OWN_UID_ROOT, Settle, SettleRules, age_years};
use crate::clock::SharedClock;
use crate::dicom::receive::{
    AssociationId, BadObject, CommitmentReport, Kept, ObjectSink, ReceivedObject, Refusal,
};
use crate::store::arrivals::{Arrival, PatientKey, Recent, TouchedSeries};
use crate::store::files::{Files, move_into_place, sync_folder};
use crate::store::intake::QuarantineEntry;
use crate::store::ranks::Ranker;
use crate::store::{Store, StoreError};
use crate::telemetry;
use crate::worklist::NewsDesk;

/// Objects waiting to be recorded, and most in one batch.
const BATCH_MAX: usize = 128;
/// How often complete series are looked for.
const SETTLE_EVERY: Duration = Duration::from_millis(250);
/// How often series are looked for whose receiver is gone.
const ADOPT_EVERY: Duration = Duration::from_secs(5);
/// How much longer than any series of its own a receiver leaves another's alone, in milliseconds.
const ADOPTED_AFTER_MS: i64 = 10_000;
/// Older ones are taken up by the next start, in milliseconds.
const ADOPTED_WITHIN_MS: i64 = 900_000;
/// How often the list hears of a study that is still arriving.
const NEWS_EVERY_MS: i64 = 1_000;
/// Refused: Out of resources (PS3.4 table B.2-1).
const OUT_OF_RESOURCES: u16 = 0xA700;

/// What intake works with.
#[derive(Clone)]
pub struct IntakeParts {
    /// Database.
    pub store: Store,
    /// Data folder.
    pub files: Files,
    /// Time.
    pub clock: SharedClock,
    /// Settings.
    pub settings: IntakeSettings,
    /// Ranking of new studies.
    pub ranker: Arc<Ranker>,
    /// The list.
    pub news: NewsDesk,
    /// Rung when there is a new job.
    pub work: Arc<Notify>,
}

struct Waiting {
    object: ReceivedObject,
    answer: oneshot::Sender<Result<Kept, Refusal>>,
}

/// The sink that `dicom::receive` hands objects to.
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
    parts: IntakeParts,
    settle: Arc<Mutex<Settle>>,
    set_aside: AtomicU64,
}

enum Verdict {
    Again,
    Conflict(String),
    New(String),
}

impl Intake {
    /// Takes up series that an earlier process left unsettled, and starts recording.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(
        parts: IntakeParts,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        let rules = SettleRules {
            quiet_ms_max: parts.settings.quiet_ms_max,
            open_association_quiet_ms: parts.settings.open_association_quiet_ms,
        };
        let mut settle = Settle::new(rules);
        let now = parts.clock.now_ms();
        let alone = parts.store.processes().await?.len() <= 1;
        // Beside other receivers only what nobody else is getting images of.
        let since = (!alone).then(|| left_alone(&parts.settings, now, i64::MAX));
        for s in parts.store.unsettled_series(since).await? {
            let images = u64::try_from(s.images).unwrap_or(0);
            settle.watch(
                s.series_id,
                s.study_id,
                images,
                parts.settings.quiet_ms,
                now,
            );
        }
        let settle = Arc::new(Mutex::new(settle));
        let (queue, waiting) = mpsc::channel(BATCH_MAX);
        let recorder = Recorder {
            parts: parts.clone(),
            settle: settle.clone(),
            told: HashMap::new(),
            recent: Recent::default(),
        };
        tokio::spawn(recorder.run(waiting));
        tokio::spawn(adopt_loop(parts.clone(), settle.clone(), stop.clone()));
        tokio::spawn(settle_loop(parts.clone(), settle.clone(), stop));
        Ok(Arc::new(Self {
            queue,
            parts,
            settle,
            set_aside: AtomicU64::new(0),
        }))
    }
}

#[async_trait]
impl ObjectSink for Intake {
    async fn keep(&self, object: ReceivedObject) -> Result<Kept, Refusal> {
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Waiting { object, answer }).await.is_err() {
            return Err(refusal("the server is stopping"));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(refusal("the server is stopping")))
    }

    async fn commitment(&self, report: CommitmentReport) -> Result<bool, Refusal> {
        let CommitmentReport {
            transaction_uid,
            all_kept,
        } = report;
        let now_ms = self.parts.clock.now_ms();
        let taken = self
            .parts
            .store
            .take_commitment_report(&transaction_uid, all_kept, now_ms);
        let known = taken.await.map_err(|e| {
            error!(error = %e, "could not note a commitment");
            refusal("could not be noted")
        })?;
        if known && !all_kept {
            warn!("a destination stored an object and does not commit to keep it");
        }
        Ok(known)
    }

    async fn set_aside(&self, object: BadObject) {
        let kept = self.set_aside.fetch_add(1, Ordering::Relaxed);
        let keep_bytes = kept < self.parts.settings.quarantine_objects_max as u64;
        let entry = QuarantineEntry {
            sop_uid: object.sop_instance_uid.chars().take(64).collect(),
            study_uid: None,
            calling_ae: object.calling_ae,
            reason: object.reason,
            path: None,
            size_bytes: object.size_bytes,
            received_at: self.parts.clock.now_ms(),
        };
        let entry = if keep_bytes {
            to_quarantine(&self.parts.files, &object.temp_path, entry).await
        } else {
            let _ = tokio::fs::remove_file(&object.temp_path).await;
            entry
        };
        if let Err(e) = self.parts.store.quarantine(vec![entry]).await {
            error!(error = %e, "could not note a refused object");
        }
    }

    async fn association_ended(&self, association: AssociationId) {
        self.settle.lock().await.ended(association);
    }
}

struct Recorder {
    parts: IntakeParts,
    settle: Arc<Mutex<Settle>>,
    /// When the list last heard of a study.
    told: HashMap<String, i64>,
    recent: Recent,
}

impl Recorder {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.record(std::mem::take(&mut batch)).await;
        }
    }

    async fn record(&mut self, batch: Vec<Waiting>) {
        // Another receiver may be getting images of the same study: one looks and records at a time.
        let studies = batch.iter().map(|w| w.object.header.study_uid.as_str());
        let turn = match self.parts.store.hold_studies(studies).await {
            Ok(turn) => turn,
            Err(e) => return refuse_all(batch, &e),
        };
        self.record_alone(batch).await;
        if let Err(e) = turn.end().await {
            warn!(error = %e, "could not end a turn");
        }
    }

    async fn record_alone(&mut self, batch: Vec<Waiting>) {
        let verdicts = match self.judge(&batch).await {
            Ok(verdicts) => verdicts,
            Err(e) => return refuse_all(batch, &e),
        };
        let now = self.parts.clock.now_ms();
        let (mut news, mut answers, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for (waiting, verdict) in batch.into_iter().zip(verdicts) {
            match verdict {
                Verdict::New(path) => news.push((waiting, path)),
                Verdict::Again => {
                    let _ = tokio::fs::remove_file(&waiting.object.temp_path).await;
                    answers.push((waiting.answer, Kept::Again));
                }
                Verdict::Conflict(reason) => {
                    let entry = conflict_entry(&waiting.object, &reason, now);
                    aside.push(
                        to_quarantine(&self.parts.files, &waiting.object.temp_path, entry).await,
                    );
                    answers.push((waiting.answer, Kept::Quarantined(reason)));
                }
            }
        }
        match self.parts.store.quarantine(aside).await {
            Ok(()) => {
                for (answer, kept) in answers {
                    let outcome = if matches!(kept, Kept::Again) {
                        "again"
                    } else {
                        "quarantined"
                    };
                    telemetry::objects(outcome, 1, 0);
                    let _ = answer.send(Ok(kept));
                }
            }
            Err(e) => {
                error!(error = %e, "could not note quarantined objects");
                for (answer, _) in answers {
                    let _ = answer.send(Err(refusal("the database does not answer")));
                }
            }
        }
        if !news.is_empty() {
            self.keep_new(news, now).await;
        }
    }

    /// What is to become of each object: the first of equal ones in a batch wins.
    async fn judge(&mut self, batch: &[Waiting]) -> Result<Vec<Verdict>, StoreError> {
        let headers = || batch.iter().map(|w| &w.object.header);
        let sop_uids = headers().map(|h| h.sop_instance_uid.clone()).collect();
        let mut digests = self.parts.store.known_objects(sop_uids).await?;
        let studies: BTreeSet<&str> = headers().map(|h| h.study_uid.as_str()).collect();
        let now = self.parts.clock.now_ms();
        let mut patients = self
            .parts
            .store
            .known_patients(&mut self.recent, studies, now)
            .await?;
        let mut verdicts = Vec::with_capacity(batch.len());
        for object in batch.iter().map(|w| &w.object) {
            let h = &object.header;
            let patient = (h.patient.id.clone(), h.patient.issuer.clone());
            let verdict = if let Some(digest) = digests.get(&h.sop_instance_uid) {
                if *digest == object.digest {
                    Verdict::Again
                } else {
                    Verdict::Conflict(
                        "same SOP Instance UID as a stored object, other bytes".into(),
                    )
                }
            } else if patients
                .get(&h.study_uid)
                .is_some_and(|known| other_patient(known, &patient))
                && !self
                    .parts
                    .store
                    .is_patient_of(&h.study_uid, &patient)
                    .await?
            {
                Verdict::Conflict("Study Instance UID is known under another patient".into())
            } else if let Some(path) =
                Files::object_path(&h.study_uid, &h.series_uid, &h.sop_instance_uid)
            {
                digests.insert(h.sop_instance_uid.clone(), object.digest.clone());
                patients.entry(h.study_uid.clone()).or_insert(patient);
                Verdict::New(path)
            } else {
                Verdict::Conflict("a UID is not made of digits and dots".into())
            };
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    async fn keep_new(&mut self, new: Vec<(Waiting, String)>, now: i64) {
        let moves: Vec<(PathBuf, PathBuf)> = new
            .iter()
            .map(|(w, path)| {
                (
                    w.object.temp_path.clone(),
                    self.parts.files.root().join(path),
                )
            })
            .collect();
        let outcome = tokio::task::spawn_blocking(move || move_all(&moves)).await;
        if let Err(e) = outcome.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            error!(error = %e, "could not move objects into place");
            return refuse_new(new, "could not move the object into place");
        }
        let arrivals: Vec<Arrival> = new
            .iter()
            .map(|(w, path)| self.arrival(&w.object, path, now))
            .collect();
        let settings = &self.parts.settings;
        let recorded = self
            .parts
            .store
            .record(
                &mut self.recent,
                &arrivals,
                settings.quiet_ms,
                &self.parts.ranker,
            )
            .await;
        match recorded {
            Ok(touched) => {
                self.note_progress(&new, touched, now).await;
                for (waiting, _) in new {
                    telemetry::objects("new", 1, waiting.object.size_bytes);
                    let _ = waiting.answer.send(Ok(Kept::New));
                }
            }
            Err(e) => {
                error!(error = %e, "could not record objects");
                refuse_new(new, "the database does not answer");
            }
        }
    }

    fn arrival(&self, object: &ReceivedObject, path: &str, now: i64) -> Arrival {
        let header = object.header.clone();
        let own_result = header.series_uid.starts_with(OWN_UID_ROOT);
        let prior_days = self.parts.settings.prior_after_days;
        let age = age_years(
            header.patient.birth_date.as_deref(),
            header.study.date.as_deref(),
            header.patient.age.as_deref(),
        );
        Arrival {
            digest: object.digest.clone(),
            size_bytes: object.size_bytes,
            path: path.to_owned(),
            received_at: now,
            own_result,
            age_years: age,
            prior: prior_days > 0 && older_than(header.study.date.as_deref(), prior_days, now),
            header,
        }
    }

    /// Tells the watcher of series and the list.
    async fn note_progress(
        &mut self,
        new: &[(Waiting, String)],
        touched: Vec<TouchedSeries>,
        now: i64,
    ) {
        let mut settle = self.settle.lock().await;
        for t in touched {
            let of_series = |w: &&(Waiting, String)| w.0.object.header.series_uid == t.series_uid;
            let associations = new
                .iter()
                .filter(of_series)
                .map(|(w, _)| w.object.association);
            let mut arrived = t.arrived;
            if !settle.knows(t.series_id) {
                let known = if t.new_series {
                    Ok((0, self.parts.settings.quiet_ms))
                } else {
                    // Counts this batch too.
                    arrived = 0;
                    self.parts.store.series_progress(t.series_id).await
                };
                let (images, quiet_ms) = known.unwrap_or((0, self.parts.settings.quiet_ms));
                settle.watch(t.series_id, t.study_id, images, quiet_ms, now);
            }
            settle.arrived(t.series_id, arrived, t.expected_images, associations, now);
            let told = self.told.get(&t.study_uid).copied().unwrap_or(i64::MIN);
            if t.new_study || now.saturating_sub(told) >= NEWS_EVERY_MS {
                self.parts.news.tell(&t.study_uid);
                self.told.insert(t.study_uid, now);
            }
        }
        self.told.retain(|_, at| now - *at < NEWS_EVERY_MS * 60);
    }
}

/// Between which moments the last image came of series that whoever received them should have settled.
fn left_alone(settings: &IntakeSettings, now: i64, within_ms: i64) -> (i64, i64) {
    let before = now - settings.open_association_quiet_ms - ADOPTED_AFTER_MS;
    (before.saturating_sub(within_ms), before)
}

/// Takes up series whose receiver is gone. A process that is alone has none but its own.
async fn adopt_loop(parts: IntakeParts, settle: Arc<Mutex<Settle>>, stop: CancellationToken) {
    while parts.store.is_postgres() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ADOPT_EVERY) => {}
        }
        let now = parts.clock.now_ms();
        let range = left_alone(&parts.settings, now, ADOPTED_WITHIN_MS);
        match parts.store.unsettled_series(Some(range)).await {
            Ok(found) => {
                let mut settle = settle.lock().await;
                for s in found {
                    if settle.knows(s.series_id) {
                        continue;
                    }
                    let images = u64::try_from(s.images).unwrap_or(0);
                    info!(
                        series.id = s.series_id,
                        study.id = s.study_id,
                        "takes up a series"
                    );
                    settle.watch(
                        s.series_id,
                        s.study_id,
                        images,
                        parts.settings.quiet_ms,
                        now,
                    );
                }
            }
            Err(e) => error!(error = %e, "could not look for series whose receiver is gone"),
        }
    }
}

async fn settle_loop(parts: IntakeParts, settle: Arc<Mutex<Settle>>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SETTLE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = parts.clock.now_ms();
        let complete = settle.lock().await.take_complete(now);
        for (series_id, study_id) in complete {
            let quiet_ms_max = parts.settings.quiet_ms_max;
            match parts
                .store
                .settle_series(series_id, study_id, quiet_ms_max, now)
                .await
            {
                Ok(images) => {
                    info!(
                        series.id = series_id,
                        study.id = study_id,
                        images,
                        "series is complete"
                    );
                    parts.work.notify_one();
                }
                Err(e) => {
                    error!(error = %e, series.id = series_id, "could not settle a series, trying again");
                    settle.lock().await.unsettle(series_id);
                }
            }
        }
    }
}

fn move_all(moves: &[(PathBuf, PathBuf)]) -> std::io::Result<()> {
    let mut folders = BTreeSet::new();
    for (from, to) in moves {
        move_into_place(from, to)?;
        folders.extend(to.parent().map(PathBuf::from));
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

async fn to_quarantine(
    files: &Files,
    temp: &std::path::Path,
    mut entry: QuarantineEntry,
) -> QuarantineEntry {
    let name = temp
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let relative = format!("quarantine/{}-{name}.dcm", entry.received_at);
    let to = files.root().join(&relative);
    let folder = files.quarantine();
    let from = temp.to_path_buf();
    let moved = tokio::task::spawn_blocking(move || {
        std::fs::rename(&from, &to)?;
        sync_folder(&folder)
    });
    if let Ok(Ok(())) = moved.await {
        entry.path = Some(relative);
    } else {
        warn!("could not keep the bytes of a quarantined object");
    }
    entry
}

fn conflict_entry(object: &ReceivedObject, reason: &str, now: i64) -> QuarantineEntry {
    QuarantineEntry {
        sop_uid: object.header.sop_instance_uid.clone(),
        study_uid: Some(object.header.study_uid.clone()),
        calling_ae: object.calling_ae.clone(),
        reason: reason.to_owned(),
        path: None,
        size_bytes: object.size_bytes,
        received_at: now,
    }
}

/// Ids differ, or both issuers are given and differ.
fn other_patient(known: &PatientKey, new: &PatientKey) -> bool {
    known.0 != new.0 || matches!((&known.1, &new.1), (Some(a), Some(b)) if a != b)
}

fn older_than(study_date: Option<&str>, days: i64, now_ms: i64) -> bool {
    let date = study_date.and_then(|d| chrono::NaiveDate::parse_from_str(d, "%Y%m%d").ok());
    let today = chrono::DateTime::from_timestamp_millis(now_ms).map(|t| t.date_naive());
    matches!((date, today), (Some(date), Some(today)) if (today - date).num_days() > days)
}

fn refusal(comment: &str) -> Refusal {
    Refusal {
        status: OUT_OF_RESOURCES,
        comment: comment.to_owned(),
    }
}

fn refuse_all(batch: Vec<Waiting>, error: &StoreError) {
    error!(error = %error, "could not look objects up");
    for waiting in batch {
        let _ = std::fs::remove_file(&waiting.object.temp_path);
        let _ = waiting
            .answer
            .send(Err(refusal("the database does not answer")));
    }
}

/// The files may be in place already: a resend overwrites them, and without a row they are nothing.
fn refuse_new(new: Vec<(Waiting, String)>, comment: &str) {
    for (waiting, _) in new {
        let _ = std::fs::remove_file(&waiting.object.temp_path);
        let _ = waiting.answer.send(Err(refusal(comment)));
    }
}
