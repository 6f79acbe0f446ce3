//! One task makes files and rows of objects, a batch at a time, behind the answer of most of them.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{error, warn};

use super::known::other_patient;
use super::log::{Entry, Logged, Place};
use super::pace::Pace;
use super::place::{Bytes, place_all, read_all, to_quarantine, write_quarantine};
use super::sink::{IntakeParts, refusal};
use super::{OWN_UID_ROOT, Settle, age_years};
use crate::dicom::header::ObjectHeader;
use crate::dicom::receive::{AssociationId, Kept, Pool, ReceivedObject, Refusal};
use crate::store::StoreError;
use crate::store::arrivals::{Arrival, Recent, TouchedSeries};
use crate::store::files::Files;
use crate::store::intake::QuarantineEntry;
use crate::telemetry;

/// Most objects in one batch.
const BATCH_MAX: usize = 64;
/// Most bytes of objects from the log in one batch.
const BATCH_BYTES_MAX: u64 = 32 << 20;
/// How often the list hears of a study that is still arriving.
const NEWS_EVERY_MS: i64 = 1_000;
/// Pause before what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often an object that alone cannot be recorded is tried before it is kept aside.
const TRIES_MAX: u32 = 5;

/// What the recorder is told, in order.
#[derive(Debug)]
pub enum Item {
    /// An object, in the log or in the spool.
    Object(Box<Waiting>),
    /// An association is over.
    Ended(AssociationId),
    /// Somebody wants to know when all before this is recorded.
    Flush(oneshot::Sender<()>),
}

/// An object without file and row.
#[derive(Debug)]
pub struct Waiting {
    header: ObjectHeader,
    association: Option<AssociationId>,
    calling_ae: String,
    received_at: i64,
    size_bytes: u64,
    source: Source,
    /// Who waits for what becomes of it.
    answer: Option<oneshot::Sender<Result<Kept, Refusal>>>,
    tries: u32,
    /// It has its file and its row, or is kept aside.
    done: bool,
}

#[derive(Debug)]
enum Source {
    /// A synced file in the spool; not ours until it is answered.
    Spool { path: PathBuf, digest: String },
    /// A record of the log, acknowledged or about to be.
    Log {
        place: Place,
        meta_bytes: u32,
        _share: Option<OwnedSemaphorePermit>,
    },
}

/// With its bytes at hand.
struct Ready<'a> {
    waiting: &'a mut Waiting,
    bytes: Bytes,
    digest: String,
}

enum Verdict {
    Again,
    Conflict(String),
    New(String),
}

impl Waiting {
    /// One that is in the log.
    pub fn logged(logged: Logged) -> Self {
        let Logged { entry, place } = logged;
        let Entry {
            header,
            association,
            calling_ae,
            received_at,
            meta_bytes,
            verdict,
            share,
        } = entry;
        Self {
            header,
            association,
            calling_ae,
            received_at,
            size_bytes: place.size_bytes(),
            source: Source::Log {
                place,
                meta_bytes,
                _share: share,
            },
            answer: verdict,
            tries: 0,
            done: false,
        }
    }

    /// One that is in the spool.
    pub fn spooled(
        object: ReceivedObject,
        path: PathBuf,
        digest: String,
        received_at: i64,
        answer: oneshot::Sender<Result<Kept, Refusal>>,
    ) -> Self {
        Self {
            header: object.header,
            association: Some(object.association),
            calling_ae: object.calling_ae,
            received_at,
            size_bytes: object.size_bytes,
            source: Source::Spool { path, digest },
            answer: Some(answer),
            tries: 0,
            done: false,
        }
    }

    fn is_logged(&self) -> bool {
        matches!(self.source, Source::Log { .. })
    }

    fn say(&mut self, what: Result<Kept, Refusal>) {
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(what);
        }
    }
}

/// Makes files and rows.
pub struct Recorder {
    parts: IntakeParts,
    settle: Arc<Mutex<Settle>>,
    pool: Arc<Pool>,
    pace: Arc<Pace>,
    /// When the list last heard of a study.
    told: HashMap<String, i64>,
    recent: Recent,
}

impl Recorder {
    /// One that knows nothing yet.
    pub fn new(parts: IntakeParts, settle: Arc<Mutex<Settle>>, pace: Arc<Pace>) -> Self {
        Self {
            parts,
            settle,
            pool: pace.pool(),
            pace,
            told: HashMap::new(),
            recent: Recent::default(),
        }
    }

    /// Records until nobody can send any more.
    pub async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut some = Vec::with_capacity(BATCH_MAX);
        while items.recv_many(&mut some, BATCH_MAX).await > 0 {
            let began = Instant::now();
            let (mut objects, mut ended, mut flushed) = (Vec::new(), Vec::new(), Vec::new());
            for item in some.drain(..) {
                match item {
                    Item::Object(waiting) => objects.push(*waiting),
                    Item::Ended(association) => ended.push(association),
                    Item::Flush(done) => flushed.push(done),
                }
            }
            for batch in bounded(objects) {
                self.record_surely(batch).await;
            }
            let mut settle = self.settle.lock().await;
            for association in ended {
                settle.ended(association);
            }
            drop(settle);
            for done in flushed {
                let _ = done.send(());
            }
            self.pace.rest(began.elapsed()).await;
        }
    }

    /// Tries until each object is recorded, kept aside, or (if it was not acknowledged) refused.
    async fn record_surely(&mut self, batch: Vec<Waiting>) {
        let mut parts = vec![batch];
        while let Some(mut left) = parts.pop() {
            let alone = left.len() == 1;
            let Err(cause) = self.record(&mut left).await else {
                continue;
            };
            left.retain(|waiting| !waiting.done);
            error!(%cause, objects = left.len(), "could not record objects");
            for waiting in &mut left {
                waiting.tries += u32::from(alone);
                waiting.say(Err(refusal("could not be recorded, try again later")));
            }
            // the others are deleted by who was refused
            left.retain(Waiting::is_logged);
            if left.is_empty() {
                continue;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
            if alone
                && left.iter().all(|w| w.tries >= TRIES_MAX)
                && self.parts.store.ping().await.is_ok()
            {
                left = self.give_up(left, &cause).await;
            }
            // one by one, so that one bad object holds up no other
            parts.extend(left.into_iter().rev().map(|waiting| vec![waiting]));
        }
    }

    /// Makes files and rows of a batch; where that fails, what is not done is left. Another receiver may be getting
    /// images of the same study: one looks and records at a time.
    async fn record(&mut self, batch: &mut [Waiting]) -> Result<(), String> {
        let studies = batch.iter().map(|w| w.header.study_uid.as_str());
        let turn = self.parts.store.hold_studies(studies).await;
        let turn = turn.map_err(|e| unanswered(&e))?;
        // A panic ends this try, and not recording: the next process would find the same objects, and end as well.
        // What it held, a transaction too, is let go while it unwinds.
        let recorded = AssertUnwindSafe(self.record_alone(batch)).catch_unwind();
        let recorded = recorded.await;
        if recorded.is_err() {
            // may know rows of a transaction that was rolled back
            self.recent.clear();
        }
        if let Err(e) = turn.end().await {
            warn!(error = %e, "could not end a turn");
        }
        recorded.unwrap_or_else(|_| Err("recording it broke (a panic)".to_owned()))
    }

    async fn record_alone(&mut self, batch: &mut [Waiting]) -> Result<(), String> {
        let ready = self.read(batch).await?;
        let verdicts = self.judge(&ready).await.map_err(|e| unanswered(&e))?;
        let (mut new, mut again, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for (ready, verdict) in ready.into_iter().zip(verdicts) {
            match verdict {
                Verdict::New(path) => new.push((ready, path)),
                Verdict::Again => again.push(ready),
                Verdict::Conflict(reason) => aside.push((ready, reason)),
            }
        }
        // what is the same as one of these is not here before that is
        self.keep_new(new).await?;
        self.ask_again(&again).await;
        for ready in again {
            if let Bytes::Spooled(path) = &ready.bytes {
                let _ = tokio::fs::remove_file(path).await;
            }
            self.done(ready.waiting, Kept::Again);
        }
        self.put_aside(aside).await
    }

    /// What is sent again after its screening failed is screened again. The objects are kept either way.
    async fn ask_again(&self, again: &[Ready<'_>]) {
        let mut uids: Vec<&str> = again
            .iter()
            .map(|ready| ready.waiting.header.study_uid.as_str())
            .collect();
        uids.sort_unstable();
        uids.dedup();
        if uids.is_empty() {
            return;
        }
        let now_ms = self.parts.clock.now_ms();
        match self.parts.store.screen_failed_again(&uids, now_ms).await {
            Ok(true) => self.parts.work.notify_one(),
            Ok(false) => {}
            Err(e) => warn!(error = %e, "could not ask for a screening once more"),
        }
    }

    fn done(&self, waiting: &mut Waiting, kept: Kept) {
        match &kept {
            Kept::New => telemetry::objects("new", 1, waiting.size_bytes),
            Kept::Again => telemetry::objects("again", 1, 0),
            Kept::Quarantined(_) => telemetry::objects("quarantined", 1, 0),
        }
        waiting.done = true;
        waiting.say(Ok(kept));
        if let Source::Log { place, .. } = &waiting.source {
            self.pace.settled(place.clone());
        }
    }

    async fn read<'a>(&self, batch: &'a mut [Waiting]) -> Result<Vec<Ready<'a>>, String> {
        let places: Vec<(Place, u32)> = batch
            .iter()
            .filter_map(|w| match &w.source {
                Source::Log {
                    place, meta_bytes, ..
                } => Some((place.clone(), *meta_bytes)),
                Source::Spool { .. } => None,
            })
            .collect();
        let mut read = read_all(places, &self.pool).await.into_iter();
        let (mut ready, mut cause) = (Vec::with_capacity(batch.len()), None);
        for waiting in batch {
            let got = match &waiting.source {
                Source::Spool { path, digest } => {
                    Ok((Bytes::Spooled(path.clone()), digest.clone()))
                }
                Source::Log { .. } => match read.next() {
                    Some(Ok((object, digest))) => Ok((Bytes::Read(object), digest)),
                    Some(Err(e)) => Err(e.to_string()),
                    None => Err("the log was not read".to_owned()),
                },
            };
            match got {
                Ok((bytes, digest)) => ready.push(Ready {
                    waiting,
                    bytes,
                    digest,
                }),
                Err(e) => cause = Some(e),
            }
        }
        cause.map_or(Ok(ready), Err)
    }

    /// What is to become of each object: the first of equal ones in a batch wins.
    async fn judge(&mut self, batch: &[Ready<'_>]) -> Result<Vec<Verdict>, StoreError> {
        let headers = || batch.iter().map(|r| &r.waiting.header);
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
        for object in batch {
            let h = &object.waiting.header;
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

    /// Keeps conflicting objects in quarantine with the reason.
    async fn put_aside(&self, conflicts: Vec<(Ready<'_>, String)>) -> Result<(), String> {
        let mut cause = None;
        for (ready, reason) in conflicts {
            let entry = conflict_entry(ready.waiting, &reason);
            let files = &self.parts.files;
            let kept = match ready.bytes {
                Bytes::Spooled(path) => Ok(to_quarantine(files, &path, entry).await),
                Bytes::Read(object) => write_quarantine(files, object, entry).await,
            };
            let noted = match kept {
                Ok(entry) => self.parts.store.quarantine(vec![entry]).await,
                Err(e) => Err(StoreError::Custom(e.to_string())),
            };
            match noted {
                Ok(()) => self.done(ready.waiting, Kept::Quarantined(reason)),
                Err(e) => cause = Some(format!("could not note quarantined objects: {e}")),
            }
        }
        cause.map_or(Ok(()), Err)
    }

    async fn keep_new(&mut self, new: Vec<(Ready<'_>, String)>) -> Result<(), String> {
        if new.is_empty() {
            return Ok(());
        }
        let (mut objects, mut waiting, mut arrivals) = (Vec::new(), Vec::new(), Vec::new());
        for (ready, path) in new {
            let arrival = self.arrival(&ready, &path);
            objects.push((ready.bytes, self.parts.files.root().join(&path)));
            waiting.push(ready.waiting);
            arrivals.push(arrival);
        }
        let placed = place_all(objects).await;
        if let Some(e) = placed.into_iter().find_map(Result::err) {
            return Err(format!("could not make files of objects: {e}"));
        }
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
                self.note_progress(&waiting, touched).await;
                for waiting in waiting {
                    self.done(waiting, Kept::New);
                }
                Ok(())
            }
            Err(e) => Err(unanswered(&e)),
        }
    }

    fn arrival(&self, ready: &Ready<'_>, path: &str) -> Arrival {
        let object = &*ready.waiting;
        let header = object.header.clone();
        let own_result = header.series_uid.starts_with(OWN_UID_ROOT);
        let prior_days = self.parts.settings.prior_after_days;
        let age = age_years(
            header.patient.birth_date.as_deref(),
            header.study.date.as_deref(),
            header.patient.age.as_deref(),
        );
        let date = header.study.date.as_deref();
        Arrival {
            digest: ready.digest.clone(),
            size_bytes: object.size_bytes,
            path: path.to_owned(),
            received_at: object.received_at,
            own_result,
            age_years: age,
            prior: prior_days > 0 && older_than(date, prior_days, object.received_at),
            header,
        }
    }

    /// Tells the watcher of series and the list.
    async fn note_progress(&mut self, new: &[&mut Waiting], touched: Vec<TouchedSeries>) {
        let now = self.parts.clock.now_ms();
        let mut settle = self.settle.lock().await;
        for t in touched {
            let of_series = || new.iter().filter(|w| w.header.series_uid == t.series_uid);
            let associations = of_series().filter_map(|w| w.association);
            let last = of_series().map(|w| w.received_at).max().unwrap_or(now);
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
                settle.watch(t.series_id, t.study_id, images, quiet_ms, last);
            }
            settle.arrived(t.series_id, arrived, t.expected_images, associations, last);
            let told = self.told.get(&t.study_uid).copied().unwrap_or(i64::MIN);
            if t.new_study || now.saturating_sub(told) >= NEWS_EVERY_MS {
                self.parts.news.tell(&t.study_uid);
                self.told.insert(t.study_uid, now);
            }
        }
        self.told.retain(|_, at| now - *at < NEWS_EVERY_MS * 60);
    }

    /// What was acknowledged and cannot be recorded, although the database answers, is kept aside with
    /// the reason. Gives back what cannot even be kept aside.
    async fn give_up(&self, objects: Vec<Waiting>, cause: &str) -> Vec<Waiting> {
        let mut left = Vec::new();
        for mut waiting in objects {
            let Source::Log { place, .. } = &waiting.source else {
                continue;
            };
            let reason = format!("could not be recorded: {cause}");
            let mut entry = conflict_entry(&waiting, &reason);
            if let Ok(read) = place.read(&self.pool) {
                match write_quarantine(&self.parts.files, read, entry.clone()).await {
                    Ok(with_bytes) => entry = with_bytes,
                    Err(e) => {
                        error!(error = %e, "could not keep the bytes of an object aside");
                        left.push(waiting);
                        continue;
                    }
                }
            }
            match self.parts.store.quarantine(vec![entry]).await {
                Ok(()) => self.done(&mut waiting, Kept::Quarantined(reason)),
                Err(e) => {
                    error!(error = %e, "could not note an object that cannot be recorded");
                    left.push(waiting);
                }
            }
        }
        left
    }
}

fn unanswered(error: &StoreError) -> String {
    format!("the database does not answer: {error}")
}

/// Objects in parts of which each fits into memory.
fn bounded(objects: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for object in objects {
        if object.is_logged() {
            bytes += object.size_bytes;
        }
        if bytes > BATCH_BYTES_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = object.size_bytes;
        }
        part.push(object);
    }
    parts.push(part);
    parts.retain(|part: &Vec<Waiting>| !part.is_empty());
    parts
}

fn conflict_entry(object: &Waiting, reason: &str) -> QuarantineEntry {
    QuarantineEntry {
        sop_uid: object.header.sop_instance_uid.clone(),
        study_uid: Some(object.header.study_uid.clone()),
        calling_ae: object.calling_ae.clone(),
        reason: reason.to_owned(),
        path: None,
        size_bytes: object.size_bytes,
        received_at: object.received_at,
    }
}

fn older_than(study_date: Option<&str>, days: i64, now_ms: i64) -> bool {
    let date = study_date.and_then(|d| chrono::NaiveDate::parse_from_str(d, "%Y%m%d").ok());
    let today = chrono::DateTime::from_timestamp_millis(now_ms).map(|t| t.date_naive());
    matches!((date, today), (Some(date), Some(today)) if (today - date).num_days() > days)
}
