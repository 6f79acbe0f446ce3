//! The threads that append: while one batch of a lane is synced the next one gathers.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self as std_mpsc, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::backlog::Backlog;
use super::record::Head;
use super::segment::{Place, RECORDS_AT, Segment, WRITE_RECORDS_MAX};
use super::{LogFolder, SegmentId};
use crate::dicom::header::ObjectHeader;
use crate::dicom::receive::{AssociationId, Kept, ObjectBuffer, Pool, Refusal, blocks_bytes};

/// Most bytes in one batch.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Threads that append.
const LANES: usize = 8;
/// How often segments that are not needed any more are begun anew while nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// Segments a lane keeps for the next objects once it is empty: a disk overwrites faster than it makes room.
const SPARE_MAX: usize = 1;

/// Bounds of the log.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// Length of a segment.
    pub segment_bytes: u64,
    /// Segments of a lane at one time.
    pub segments_max: usize,
    /// Free space, in bytes, below which nothing more is taken.
    pub reserve_bytes: u64,
}

/// An object's way from the log to file and row.
#[derive(Debug)]
pub struct Entry {
    /// What the header walk found.
    pub header: ObjectHeader,
    /// Over which association it came; `None` after a restart.
    pub association: Option<AssociationId>,
    /// Who sent it.
    pub calling_ae: String,
    /// When it was received.
    pub received_at: i64,
    /// How many bytes of the file stand before the data set.
    pub meta_bytes: u32,
    /// Who waits for what becomes of it.
    pub verdict: Option<oneshot::Sender<Result<Kept, Refusal>>>,
    /// Its part of the log's bound, given back with the entry.
    pub share: Option<OwnedSemaphorePermit>,
}

/// An object that is durable in the log.
#[derive(Debug)]
pub struct Logged {
    /// What it is.
    pub entry: Entry,
    /// Where it is.
    pub place: Place,
}

/// An object to be appended.
#[derive(Debug)]
pub struct Append {
    /// Its PS3.10 file.
    pub object: ObjectBuffer,
    /// CRC-32 of it.
    pub checksum: u32,
    /// What it is.
    pub entry: Entry,
    /// Told once it is durable.
    pub durable: oneshot::Sender<Result<(), NotLogged>>,
}

/// Why an object is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLogged {
    /// No room on the disk.
    Full,
    /// The disk fails.
    Disk,
}

/// Where objects are appended.
#[derive(Debug, Clone)]
pub struct Log {
    lanes: Arc<[Lane]>,
    shared: Arc<Activity>,
    folder: Arc<LogFolder>,
}

#[derive(Debug)]
struct Lane {
    orders: std_mpsc::Sender<Order>,
    /// Objects handed to it that are not durable yet.
    busy: Arc<AtomicUsize>,
}

enum Order {
    Append(Box<Append>),
    /// Nothing comes any more; told when the lane has ended, and whether all of it is settled.
    End(oneshot::Sender<bool>),
}

/// What the recorder wants to know of the log.
#[derive(Debug)]
struct Activity {
    started: Instant,
    /// When something was appended last, in milliseconds since the start.
    last_ms: AtomicU64,
    backlog: Backlog,
    /// A lane has ended though nobody told it to.
    broken: CancellationToken,
}

/// Tells when a lane's thread unwinds.
struct Bell(Arc<Activity>);

impl Drop for Bell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.cancel();
        }
    }
}

struct Writer {
    lane: usize,
    busy: Arc<AtomicUsize>,
    folder: Arc<LogFolder>,
    limits: LogLimits,
    pool: Arc<Pool>,
    shared: Arc<Activity>,
    active: Option<Active>,
    /// Full, and waiting for files and rows.
    sealed: Vec<Arc<Segment>>,
    /// Settled, and begun anew.
    spare: Vec<Active>,
    made: u64,
    /// The disk was full when last written to: said once, not for each object that is sent again.
    full: bool,
}

struct Active {
    segment: Arc<Segment>,
    id: SegmentId,
    end: u64,
}

impl Log {
    /// Starts a log in a folder of its own below `logs`. Entries go to `to` once they are durable, in
    /// order, through `wrap`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn start<T: Send + 'static>(
        logs: &Path,
        limits: LogLimits,
        pool: &Arc<Pool>,
        backlog: Backlog,
        to: &mpsc::Sender<T>,
        wrap: fn(Logged) -> T,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(logs)?;
        let folder = Arc::new(LogFolder::make(logs)?);
        let shared = Arc::new(Activity {
            started: Instant::now(),
            last_ms: AtomicU64::new(0),
            backlog,
            broken: CancellationToken::new(),
        });
        let mut lanes = Vec::with_capacity(LANES);
        for lane in 0..LANES {
            let (orders, ordered) = std_mpsc::channel();
            let busy = Arc::new(AtomicUsize::new(0));
            let mut writer = Writer {
                lane,
                busy: Arc::clone(&busy),
                folder: Arc::clone(&folder),
                limits,
                pool: Arc::clone(pool),
                shared: Arc::clone(&shared),
                active: None,
                sealed: Vec::new(),
                spare: Vec::new(),
                made: 0,
                full: false,
            };
            let (to, bell) = (to.clone(), Bell(Arc::clone(&shared)));
            std::thread::Builder::new()
                .name(format!("object-log-{lane}"))
                .spawn(move || {
                    let _bell = bell;
                    let forward = |logged| to.blocking_send(wrap(logged)).is_ok();
                    let told = writer.run(&ordered, forward);
                    // what is still on its way is the recorder's, which ends when we let go
                    drop(to);
                    if let Some(told) = told {
                        let _ = told.send(writer.end());
                    }
                })?;
            lanes.push(Lane { orders, busy });
        }
        Ok(Self {
            lanes: lanes.into(),
            shared,
            folder,
        })
    }

    /// Hands an object to the first lane that has nothing to do, else to the one with the least. False
    /// if the log has ended.
    #[must_use]
    pub fn append(&self, append: Append) -> bool {
        let least = self
            .lanes
            .iter()
            .min_by_key(|lane| lane.busy.load(Ordering::Relaxed));
        least.is_some_and(|lane| {
            lane.busy.fetch_add(1, Ordering::Relaxed);
            lane.orders.send(Order::Append(Box::new(append))).is_ok()
        })
    }

    /// Takes no more objects, and waits until the log is put away: no log is left behind if nothing in
    /// it is needed. What the recorder still has in hand when it is cut off is taken over by the next process.
    pub async fn end(&self) {
        let mut ending = Vec::with_capacity(LANES);
        let mut settled = true;
        for lane in self.lanes.iter() {
            let (ended, told) = oneshot::channel();
            match lane.orders.send(Order::End(ended)) {
                Ok(()) => ending.push(told),
                // it broke, and whatever it had written may wait
                Err(_) => settled = false,
            }
        }
        for told in ending {
            settled &= told.await.unwrap_or(false);
        }
        if !settled {
            warn!("objects stay in the log until the next start");
        } else if let Err(error) = self.folder.remove() {
            warn!(%error, "could not remove the empty object log");
        }
    }

    /// Waits until a lane breaks: what it is given from then on is refused for as long as this process lives.
    pub fn broken(&self) -> impl Future<Output = ()> + use<> {
        self.shared.broken.clone().cancelled_owned()
    }

    /// A record of an earlier process is to get its file and its row.
    pub fn taken_over(&self, place: &Place) {
        place.segment.expect_settling(1);
        let bytes = record_bytes(place.file_bytes);
        self.shared.backlog.add(place.received_at, bytes);
    }

    /// How long ago something was appended.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        let last = Duration::from_millis(self.shared.last_ms.load(Ordering::Relaxed));
        self.shared.started.elapsed().saturating_sub(last)
    }

    /// A record of so many bytes has its file and its row.
    pub fn settled(&self, place: Place) {
        let (received_at, bytes) = (place.received_at, record_bytes(place.file_bytes));
        place.settle();
        self.shared.backlog.take(received_at, bytes);
    }

    /// Bytes of records without file and row.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.shared.backlog.bytes()
    }
}

fn record_bytes(file_bytes: u32) -> u64 {
    blocks_bytes(usize::try_from(file_bytes).unwrap_or(0)) as u64
}

impl Writer {
    /// Appends until the end; gives who is to be told of it.
    fn run(
        &mut self,
        ordered: &std_mpsc::Receiver<Order>,
        forward: impl Fn(Logged) -> bool,
    ) -> Option<oneshot::Sender<bool>> {
        let mut batch = Vec::with_capacity(WRITE_RECORDS_MAX);
        let mut end = None;
        while end.is_none() {
            let mut bytes = 0;
            let mut order = match ordered.recv_timeout(IDLE) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => {
                    self.tidy();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            while let Some(ordered_next) = order.take() {
                match ordered_next {
                    Order::Append(append) => {
                        bytes += append.object.blocks().len();
                        batch.push(*append);
                    }
                    Order::End(told) => end = Some(told),
                }
                if batch.len() < WRITE_RECORDS_MAX && bytes < BATCH_BYTES_MAX && end.is_none() {
                    order = ordered.try_recv().ok();
                }
            }
            if batch.is_empty() {
                continue;
            }
            let written = self.append(&mut batch, bytes as u64);
            let ms = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.shared.last_ms.store(ms, Ordering::Relaxed);
            self.busy.fetch_sub(batch.len(), Ordering::Relaxed);
            match written {
                Ok(places) => {
                    for (append, place) in batch.drain(..).zip(places) {
                        let entry = append.entry;
                        // back to the pool first: whoever is told sends the next one
                        drop(append.object);
                        let taken = forward(Logged { entry, place });
                        let said = if taken { Ok(()) } else { Err(NotLogged::Disk) };
                        let _ = append.durable.send(said);
                    }
                }
                Err(why) => {
                    for append in batch.drain(..) {
                        let _ = append.durable.send(Err(why));
                    }
                }
            }
        }
        end
    }

    /// Makes a batch durable.
    fn append(&mut self, batch: &mut [Append], bytes: u64) -> Result<Vec<Place>, NotLogged> {
        let outcome = match self.check_space(bytes) {
            Ok(()) => self.append_to_segment(batch, bytes),
            Err(full) => Err(full),
        };
        let was_full = std::mem::take(&mut self.full);
        outcome.map_err(|trouble| match trouble.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.full = true;
                if !was_full {
                    error!("disk is full: objects are refused until there is space");
                }
                NotLogged::Full
            }
            _ => {
                error!(error = %trouble, "could not write to the object log");
                NotLogged::Disk
            }
        })
    }

    fn append_to_segment(&mut self, batch: &mut [Append], bytes: u64) -> io::Result<Vec<Place>> {
        let active = self.active_for(bytes)?;
        let (segment, id) = (Arc::clone(&active.segment), active.id);
        let mut offset = active.end;
        let mut places = Vec::with_capacity(batch.len());
        for append in batch.iter_mut() {
            let head = append.head();
            head.write(id, append.object.head());
            places.push(Place {
                segment: Arc::clone(&segment),
                id,
                offset,
                file_bytes: head.file_bytes,
                received_at: head.received_at,
            });
            offset += append.object.blocks().len() as u64;
        }
        let records: Vec<&[u8]> = batch.iter().map(|a| a.object.blocks()).collect();
        let written = segment.write(&records, active.end);
        if let Err(trouble) = written.and_then(|()| segment.sync()) {
            // whatever went wrong, nothing more is written behind it
            self.sealed.extend(self.active.take().map(|a| a.segment));
            return Err(trouble);
        }
        active.end = offset;
        segment.expect_settling(places.len() as u64);
        for place in &places {
            let bytes = record_bytes(place.file_bytes);
            self.shared.backlog.add(place.received_at, bytes);
        }
        Ok(places)
    }

    /// What is in the log needs its room a second time, as files.
    fn check_space(&self, bytes: u64) -> io::Result<()> {
        let disk = rustix::fs::statvfs(&self.folder.path)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let waiting = self.shared.backlog.bytes();
        if free
            < self
                .limits
                .reserve_bytes
                .saturating_add(waiting)
                .saturating_add(bytes)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// A segment with room for so many bytes.
    fn active_for(&mut self, bytes: u64) -> io::Result<&mut Active> {
        let room = |active: &Active| active.end + bytes <= self.limits.segment_bytes;
        if !self.active.as_ref().is_some_and(room) {
            if let Some(full) = self.active.take() {
                self.sealed.push(full.segment);
            }
            self.reuse();
            let next = match self.spare.pop() {
                Some(spare) => spare,
                None => self.make()?,
            };
            self.active = Some(next);
        }
        // just put there
        self.active
            .as_mut()
            .ok_or_else(|| io::Error::other("no segment"))
    }

    fn make(&mut self) -> io::Result<Active> {
        if self.sealed.len() >= self.limits.segments_max {
            return Err(io::Error::other("too many segments wait for the recorder"));
        }
        self.made += 1;
        let path = self
            .folder
            .path
            .join(format!("{}-{}.segment", self.lane, self.made));
        let segment = Segment::create(path, self.limits.segment_bytes)?;
        let id = segment.begin(&self.pool)?;
        crate::store::files::sync_folder(&self.folder.path)?;
        Ok(Active {
            segment: Arc::new(segment),
            id,
            end: RECORDS_AT,
        })
    }

    /// Begins settled segments anew.
    fn reuse(&mut self) {
        let (settled, waiting) = self.sealed.drain(..).partition(|s| s.is_settled());
        self.sealed = waiting;
        for segment in settled {
            self.spare.extend(self.anew(segment));
        }
    }

    fn anew(&self, segment: Arc<Segment>) -> Option<Active> {
        match segment.begin(&self.pool) {
            Ok(id) => Some(Active {
                segment,
                id,
                end: RECORDS_AT,
            }),
            Err(error) => {
                warn!(%error, "a segment of the object log is given up");
                let _ = std::fs::remove_file(segment.path());
                None
            }
        }
    }

    /// Nothing comes: what has its file and row must not be taken up again after a restart.
    fn tidy(&mut self) {
        self.reuse();
        let written = |active: &Active| active.end > RECORDS_AT && active.segment.is_settled();
        if self.active.as_ref().is_some_and(written)
            && let Some(active) = self.active.take()
        {
            let anew = self.anew(active.segment);
            self.spare.extend(anew);
        }
        while self.spare.len() > SPARE_MAX {
            if let Some(spare) = self.spare.pop() {
                let _ = std::fs::remove_file(spare.segment.path());
            }
        }
    }

    /// Waits for the recorder, for a bounded time; whether all it has written is settled.
    fn end(mut self) -> bool {
        let began = Instant::now();
        loop {
            self.tidy();
            let written = self.active.as_ref().is_some_and(|a| a.end > RECORDS_AT);
            if !written && self.sealed.is_empty() {
                return true;
            }
            if began.elapsed() > END_WAIT {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How long the end of the log waits for the recorder.
const END_WAIT: Duration = Duration::from_secs(30);

impl Append {
    fn head(&self) -> Head {
        Head {
            file_bytes: u32::try_from(self.object.len()).unwrap_or(u32::MAX),
            meta_bytes: self.entry.meta_bytes,
            checksum: self.checksum,
            received_at: self.entry.received_at,
            calling_ae: self.entry.calling_ae.clone(),
            transfer_syntax_uid: self.entry.header.transfer_syntax_uid.clone(),
        }
    }
}
