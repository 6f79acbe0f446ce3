//! Where reception hands its objects to: into the log, and with a word on what became of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::IntakeSettings;
use super::known::Known;
use super::log::{Append, Backlog, Entry, Found, Log, LogLimits, Logged, NotLogged, take_over};
use super::pace::Pace;
use super::place::to_quarantine;
use super::recorder::{Item, Recorder, Waiting};
use super::tasks::Tasks;
use super::watch::{adopt_loop, settle_loop, unsettled};
use crate::clock::SharedClock;
use crate::dicom::extract;
use crate::dicom::receive::{
    AssociationId, BadObject, Body, CommitmentReport, Kept, ObjectBuffer, ObjectSink, Pool,
    ReceivedObject, Refusal,
};
use crate::store::files::Files;
use crate::store::intake::QuarantineEntry;
use crate::store::ranks::Ranker;
use crate::store::{Store, StoreError};
use crate::worklist::NewsDesk;

/// Objects on their way from the log to file and row.
const QUEUE_MAX: usize = 16_384;
/// Length of a segment of the log, in MiB.
const SEGMENT_MIB: u64 = 16;
/// How long an object waits for room in the log before it is refused.
const ROOM_WAIT: Duration = Duration::from_mins(1);
/// How often the logs of receivers that died are looked for.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(10);
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
    /// `dicom.disk_reserve_bytes`: free space below which nothing more is taken.
    pub reserve_bytes: u64,
    /// Ranking of new studies.
    pub ranker: Arc<Ranker>,
    /// The list.
    pub news: NewsDesk,
    /// Told what lies in the log.
    pub backlog: Backlog,
    /// Rung when there is a new job.
    pub work: Arc<Notify>,
}

/// The sink that `dicom::receive` hands objects to.
pub struct Intake {
    queue: mpsc::Sender<Item>,
    log: Log,
    /// Room in the log, in KiB.
    room: Arc<Semaphore>,
    room_kib: u32,
    known: Mutex<Known>,
    pace: Arc<Pace>,
    parts: IntakeParts,
    set_aside: AtomicU64,
}

impl Intake {
    /// Takes up what an earlier process left in its log and what it left unsettled, and starts recording.
    /// Reception may go on for as long as all of the tasks do.
    ///
    /// # Errors
    /// In words, when the database fails or the log cannot be begun.
    pub async fn start(
        parts: IntakeParts,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, Tasks), String> {
        let database = |e: StoreError| format!("database: {e}");
        let settle = unsettled(&parts).await.map_err(database)?;
        let settle = Arc::new(AsyncMutex::new(settle));
        let pool: Arc<Pool> = Arc::default();
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let log_mib = parts.settings.log_mib_max;
        let limits = LogLimits {
            segment_bytes: SEGMENT_MIB << 20,
            // one is written, and one may be held up by a single object
            segments_max: usize::try_from(log_mib / SEGMENT_MIB).unwrap_or(0) + 2,
            reserve_bytes: parts.reserve_bytes,
        };
        let folder = parts.files.log();
        let wrap = |logged| Item::Object(Box::new(Waiting::logged(logged)));
        let log = Log::start(&folder, limits, &pool, parts.backlog.clone(), &queue, wrap)
            .map_err(|e| format!("object log: {e}"))?;
        let pace = Arc::new(Pace::new(log.clone(), log_mib << 20, pool));
        let recorder = Recorder::new(parts.clone(), settle.clone(), pace.clone());
        let mut tasks = Tasks::default();
        tasks.start("recording objects", recorder.run(waiting));
        tasks.start("writing the object log", log.broken());
        let room_kib = u32::try_from(log_mib << 10).unwrap_or(u32::MAX);
        let intake = Arc::new(Self {
            queue,
            log,
            room: Arc::new(Semaphore::new(usize::try_from(room_kib).unwrap_or(0))),
            room_kib,
            known: Mutex::default(),
            pace,
            parts: parts.clone(),
            set_aside: AtomicU64::new(0),
        });
        intake
            .take_over_logs()
            .await
            .map_err(|e| format!("object log: {e}"))?;
        let adopt = adopt_loop(parts.clone(), settle.clone(), stop.clone());
        tasks.start("taking up series of receivers that are gone", adopt);
        let settling = settle_loop(parts, settle, stop.clone());
        tasks.start("settling series", settling);
        let take_over = take_over_loop(Arc::downgrade(&intake), stop);
        tasks.start("taking over logs of receivers that died", take_over);
        Ok((intake, tasks))
    }

    /// Records what was received, and puts the log away. Nothing is taken any more.
    pub async fn finish(&self) {
        let (done, recorded) = oneshot::channel();
        let _urgent = self.pace.wait_for_verdict();
        if self.queue.send(Item::Flush(done)).await.is_ok() {
            let _ = recorded.await;
        }
        self.log.end().await;
    }

    /// Records what processes that are dead had acknowledged; returns once it is.
    async fn take_over_logs(&self) -> std::io::Result<()> {
        let folder = self.parts.files.log();
        let all = tokio::task::spawn_blocking(move || take_over(&folder)).await??;
        for mut left in all {
            let objects = left.found.len();
            for found in std::mem::take(&mut left.found) {
                // what breaks our reading is as good as damaged: the next process would break on it as well
                let read = catch_unwind(AssertUnwindSafe(|| self.read_again(found)));
                match read.unwrap_or_else(|_| Err("reading it broke (a panic)".into())) {
                    Ok(item) => drop(self.queue.send(item).await),
                    Err(e) => {
                        error!(error = %e, "could not read an acknowledged object");
                        left.note_damaged();
                    }
                }
            }
            let (done, recorded) = oneshot::channel();
            let _ = self.queue.send(Item::Flush(done)).await;
            if recorded.await.is_err() {
                // the recorder ended before: the log stays for the next process
                return Ok(());
            }
            if objects > 0 {
                info!(
                    objects,
                    "recorded objects that an earlier process had acknowledged"
                );
            }
            left.finish();
        }
        Ok(())
    }

    fn read_again(&self, found: Found) -> Result<Item, String> {
        let Found { place, head } = found;
        let object = place.read(&self.pace.pool()).map_err(|e| e.to_string())?;
        let meta_bytes = usize::try_from(head.meta_bytes).unwrap_or(0);
        let data = object.object().get(meta_bytes..).unwrap_or_default();
        let length = data.len() as u64;
        let data = std::io::Cursor::new(data);
        let header = extract::header(data, length, &head.transfer_syntax_uid);
        let header = header.map_err(|e| e.to_string())?;
        self.log.taken_over(&place);
        let entry = Entry {
            header,
            association: None,
            calling_ae: head.calling_ae,
            received_at: head.received_at,
            meta_bytes: head.meta_bytes,
            verdict: None,
            share: None,
        };
        Ok(Item::Object(Box::new(Waiting::logged(Logged {
            entry,
            place,
        }))))
    }

    /// Whether a sender must wait for what the recorder says.
    async fn is_doubtful(&self, object: &ReceivedObject) -> bool {
        let header = &object.header;
        let ask = || self.known.lock().ok()?.doubtful(header);
        if let Some(doubtful) = ask() {
            return doubtful;
        }
        let here = self
            .parts
            .store
            .objects_of_series(&header.study_uid, &header.series_uid);
        match here.await {
            Ok((patient, sop_uids)) => {
                if let Ok(mut known) = self.known.lock() {
                    known.load(header, patient, sop_uids);
                }
                ask().unwrap_or(true)
            }
            Err(e) => {
                error!(error = %e, "could not look objects up");
                true
            }
        }
    }

    async fn keep_in_log(
        &self,
        object: ReceivedObject,
        bytes: ObjectBuffer,
        meta_bytes: usize,
    ) -> Result<Kept, Refusal> {
        let doubtful = self.is_doubtful(&object).await;
        let kib = u32::try_from(bytes.blocks().len() >> 10).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(kib.min(self.room_kib));
        let Ok(Ok(share)) = tokio::time::timeout(ROOM_WAIT, room).await else {
            warn!("the object log is full: the recorder does not keep up");
            return Err(refusal("busy, try again later"));
        };
        let (verdict, judged) = oneshot::channel();
        let (durable, told) = oneshot::channel();
        let _waits = doubtful.then(|| self.pace.wait_for_verdict());
        let append = Append {
            checksum: crc32fast::hash(bytes.object()),
            object: bytes,
            entry: Entry {
                header: object.header,
                association: Some(object.association),
                calling_ae: object.calling_ae,
                received_at: self.parts.clock.now_ms(),
                meta_bytes: u32::try_from(meta_bytes).unwrap_or(0),
                verdict: doubtful.then_some(verdict),
                share: Some(share),
            },
            durable,
        };
        if !self.log.append(append) {
            return Err(stopping());
        }
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(NotLogged::Full)) => return Err(refusal("disk full, try again later")),
            Ok(Err(NotLogged::Disk)) => {
                return Err(refusal("could not write to disk, try again later"));
            }
            Err(_) => return Err(stopping()),
        }
        if !doubtful {
            return Ok(Kept::New);
        }
        judged.await.unwrap_or_else(|_| Err(stopping()))
    }
}

#[async_trait]
impl ObjectSink for Intake {
    async fn keep(&self, mut object: ReceivedObject) -> Result<Kept, Refusal> {
        let body = std::mem::replace(
            &mut object.body,
            Body::File {
                temp_path: std::path::PathBuf::new(),
                digest: String::new(),
            },
        );
        match body {
            Body::Memory {
                object: bytes,
                meta_bytes,
            } => self.keep_in_log(object, bytes, meta_bytes).await,
            Body::File { temp_path, digest } => {
                let (answer, answered) = oneshot::channel();
                let now = self.parts.clock.now_ms();
                let waiting = Waiting::spooled(object, temp_path, digest, now, answer);
                let _waits = self.pace.wait_for_verdict();
                let item = Item::Object(Box::new(waiting));
                if self.queue.send(item).await.is_err() {
                    return Err(stopping());
                }
                answered.await.unwrap_or_else(|_| Err(stopping()))
            }
        }
    }

    fn takes_memory(&self) -> bool {
        true
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
        // behind the objects it brought
        let _ = self.queue.send(Item::Ended(association)).await;
    }
}

async fn take_over_loop(intake: std::sync::Weak<Intake>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TAKE_OVER_EVERY) => {}
        }
        let Some(intake) = intake.upgrade() else {
            return;
        };
        if let Err(e) = intake.take_over_logs().await {
            warn!(error = %e, "could not look for logs of receivers that died");
        }
    }
}

pub(super) fn refusal(comment: &str) -> Refusal {
    Refusal {
        status: OUT_OF_RESOURCES,
        comment: comment.to_owned(),
    }
}

fn stopping() -> Refusal {
    refusal("the server is stopping")
}
