//! What other parts of the server tell the web side about themselves.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::UnixMillis;
use crate::intake::{Backlog, Unrecorded};
use crate::outbox::Shared;
use crate::store::watch::{Said, Stuck};

/// How the work goes, as it was last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Watched {
    /// Work that should be done by now.
    pub stuck: Stuck,
    /// What the network said in the last 24 hours.
    pub day: Said,
    /// And in the last 30 days.
    pub month: Said,
    /// What lies in logs of receivers that are dead, as far as this process is none that takes them over.
    pub left: Unrecorded,
}

/// Shared by all parts; a clone is the same thing.
#[derive(Debug, Clone)]
pub struct Health {
    /// When a worker last said that it is alive; 0 for never.
    pub last_worker_beat_ms: Arc<AtomicI64>,
    /// Names of destinations that do not take what they are sent: shown as a banner, as the last channel may be among them.
    pub failing_destinations: Arc<Shared<String>>,
    /// Alerts that reached nobody, and that no step is left for.
    pub unreached_alerts: Arc<AtomicU64>,
    /// What lies in the object log of this process.
    pub backlog: Backlog,
    not_ready: Arc<RwLock<Option<String>>>,
    watched: Arc<RwLock<Watched>>,
    works_here: Arc<AtomicBool>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            last_worker_beat_ms: Arc::new(AtomicI64::new(0)),
            failing_destinations: Arc::default(),
            unreached_alerts: Arc::new(AtomicU64::new(0)),
            backlog: Backlog::default(),
            not_ready: Arc::new(RwLock::new(Some("starting".to_owned()))),
            watched: Arc::default(),
            works_here: Arc::default(),
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

    /// Work is done in this process.
    pub fn set_works_here(&self) {
        self.works_here.store(true, Ordering::Relaxed);
    }

    /// Whether work is done in this process.
    #[must_use]
    pub fn works_here(&self) -> bool {
        self.works_here.load(Ordering::Relaxed)
    }

    /// How the work goes.
    #[must_use]
    pub fn watched(&self) -> Watched {
        *self.watched.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps how the work goes.
    pub fn set_watched(&self, watched: Watched) {
        *self.watched.write().unwrap_or_else(PoisonError::into_inner) = watched;
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
