//! How fast the recorder works: reception goes first, up to a point.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::log::{Log, Place};
use crate::dicom::receive::Pool;

/// Reception counts as quiet when nothing was appended for so long.
const QUIET: Duration = Duration::from_millis(100);
/// While objects arrive, the recorder rests so many times as long as it worked.
const REST_FACTOR: u32 = 9;
/// Longest rest: a study is to be seen while it arrives.
const REST_MAX: Duration = Duration::from_millis(500);
/// How often it looks whether its rest is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What decides when the recorder works.
pub struct Pace {
    log: Log,
    /// Bytes in the log from which on it does not rest.
    full_bytes: u64,
    /// Senders that wait for a verdict.
    urgent: AtomicUsize,
    bell: Notify,
    pool: Arc<Pool>,
}

/// As long as it lives, the recorder does not rest.
pub struct Urgent<'a>(&'a Pace);

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.urgent.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pace {
    /// For a log that may hold `log_bytes_max`.
    #[must_use]
    pub fn new(log: Log, log_bytes_max: u64, pool: Arc<Pool>) -> Self {
        Self {
            log,
            full_bytes: log_bytes_max / 2,
            urgent: AtomicUsize::new(0),
            bell: Notify::new(),
            pool,
        }
    }

    /// Memory for objects.
    #[must_use]
    pub fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }

    /// Somebody waits for what becomes of an object.
    #[must_use]
    pub fn wait_for_verdict(&self) -> Urgent<'_> {
        self.urgent.fetch_add(1, Ordering::AcqRel);
        self.bell.notify_one();
        Urgent(self)
    }

    /// An object of the log has its file and its row.
    pub fn settled(&self, place: Place) {
        self.log.settled(place);
    }

    /// Rests after so much work, unless somebody waits, reception is quiet or the log is getting full.
    pub async fn rest(&self, worked: Duration) {
        let until = Instant::now() + (worked * REST_FACTOR).min(REST_MAX);
        while Instant::now() < until
            && self.urgent.load(Ordering::Acquire) == 0
            && self.log.quiet_for() < QUIET
            && self.log.waiting_bytes() < self.full_bytes
        {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.bell.notified() => {}
            }
        }
    }
}
