//! What other parts of the server tell the web side about themselves.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::UnixMillis;
use crate::outbox::Shared;

/// Shared by all parts; a clone is the same thing.
#[derive(Debug, Clone)]
pub struct Health {
    /// When a worker last said that it is alive; 0 for never.
    pub last_worker_beat_ms: Arc<AtomicI64>,
    /// Names of destinations that do not take what they are sent: shown as a banner, as the last channel may be among them.
    pub failing_destinations: Arc<Shared<String>>,
    /// Alerts that reached nobody, and that no step is left for.
    pub unreached_alerts: Arc<AtomicU64>,
    not_ready: Arc<RwLock<Option<String>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            last_worker_beat_ms: Arc::new(AtomicI64::new(0)),
            failing_destinations: Arc::default(),
            unreached_alerts: Arc::new(AtomicU64::new(0)),
            not_ready: Arc::new(RwLock::new(Some("starting".to_owned()))),
        }
    }
}

impl Health {
    /// Everything this process serves is up.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// Something is not up yet, or no longer.
    pub fn set_not_ready(&self, why: &str) {
        self.set(Some(why.to_owned()));
    }

    /// A worker is alive.
    pub fn worker_beat(&self, now_ms: UnixMillis) {
        self.last_worker_beat_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Why this process is not ready; `None` where it is.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.not_ready
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Since when the workers have been silent, where that is for longer than `limit_ms`;
    /// `Some(0)` where none has spoken yet.
    #[must_use]
    pub fn silent_since(&self, now_ms: UnixMillis, limit_ms: i64) -> Option<UnixMillis> {
        let beat = self.last_worker_beat_ms.load(Ordering::Relaxed);
        (now_ms - beat > limit_ms).then_some(beat)
    }

    fn set(&self, why: Option<String>) {
        *self
            .not_ready
            .write()
            .unwrap_or_else(PoisonError::into_inner) = why;
    }
}
