//! Signs of life: each process says that it lives, and frees what those were working on that do not.
//!
//! Nobody compares clocks. A process is gone when the lock on its folder in the spool is free (on the
//! same machine), or when its count of beats stood still while we looked so often ourselves.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Part;
use crate::clock::SharedClock;
use crate::store::processes::Process;
use crate::store::{Files, Store, StoreError};
use crate::web::Health;

/// How often a process says that it lives and looks for others.
const BEAT: Duration = Duration::from_secs(2);
/// Looks in a row at which another's count stood still before it counts as gone: 16 s in which our own
/// looks succeeded, so that a database which was away kills nobody.
const STILL_MAX: u32 = 8;

/// What a process says of itself, and what it knows of the others.
pub(super) struct Presence {
    store: Store,
    files: Files,
    clock: SharedClock,
    health: Health,
    part: Part,
    me: Process,
    /// Count of each, and how often it was found so.
    seen: HashMap<String, (i64, u32)>,
}

impl Presence {
    /// Joins the others, and takes over from those that are gone.
    pub async fn join(
        store: &Store,
        files: &Files,
        clock: &SharedClock,
        health: &Health,
        part: Part,
    ) -> Result<Self, StoreError> {
        store.call_run(files.run());
        let node = rustix::system::uname();
        let now_ms = clock.now_ms();
        let me = Process {
            run: files.run().to_owned(),
            node: node.nodename().to_string_lossy().into_owned(),
            role: part.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: now_ms,
            beats: 0,
            beat_ms: now_ms,
            worker_beat_ms: None,
            log_bytes: 0,
            log_oldest_ms: None,
        };
        let mut presence = Self {
            store: store.clone(),
            files: files.clone(),
            clock: clock.clone(),
            health: health.clone(),
            part,
            me,
            seen: HashMap::new(),
        };
        presence.store.beat(&presence.me).await?;
        presence.look(true).await?;
        Ok(presence)
    }

    /// Beats until told to stop, then takes leave.
    pub async fn run(mut self, stop: CancellationToken) {
        // SQLite serves one process, which need not tell itself that it lives.
        while self.store.is_postgres() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(BEAT) => {}
            }
            if let Err(e) = self.beat_and_look().await {
                warn!(error = %e, "could not say that this process lives");
            }
        }
        stop.cancelled().await;
    }

    /// What this process held is free for the others. Jobs count as interrupted unless it ends `in_order`.
    pub async fn leave(store: &Store, clock: &SharedClock, in_order: bool) {
        let runs: Vec<String> = store.run().map(str::to_owned).into_iter().collect();
        if in_order
            && let Some(run) = runs.first()
            && let Err(e) = store.hand_back(run).await
        {
            warn!(error = %e, "could not hand jobs back");
        }
        if let Err(e) = store.bury(&runs, clock.now_ms()).await {
            warn!(error = %e, "could not take leave of the other processes");
        }
    }

    async fn beat_and_look(&mut self) -> Result<(), StoreError> {
        self.me.beats += 1;
        self.me.beat_ms = self.clock.now_ms();
        let worker = self.health.last_worker_beat_ms.load(Ordering::Relaxed);
        self.me.worker_beat_ms = (self.part.works() && worker > 0).then_some(worker);
        let lies = self.health.backlog.unrecorded();
        self.me.log_bytes = i64::try_from(lies.bytes).unwrap_or(i64::MAX);
        self.me.log_oldest_ms = lies.oldest_ms;
        self.store.beat(&self.me).await?;
        self.look(false).await
    }

    async fn look(&mut self, first: bool) -> Result<(), StoreError> {
        let all = self.store.processes().await?;
        let others = all.iter().filter(|p| p.run != self.me.run);
        let mut gone = Vec::new();
        for other in others {
            let still = match self.seen.get(&other.run) {
                Some((beats, times)) if *beats == other.beats => times + 1,
                _ => 0,
            };
            self.seen.insert(other.run.clone(), (other.beats, still));
            let alone = !self.store.is_postgres();
            let here = other.node == self.me.node && self.files.has_ended(&other.run);
            if alone || here || still >= STILL_MAX {
                gone.push(other.run.clone());
            }
        }
        self.seen.retain(|run, _| all.iter().any(|p| p.run == *run));
        if !gone.is_empty() || first {
            self.take_over(&gone).await?;
        }
        if all.len() > 1 {
            self.look_at_work(&all).await?;
        }
        Ok(())
    }

    async fn take_over(&self, gone: &[String]) -> Result<(), StoreError> {
        let freed = self.store.bury(gone, self.clock.now_ms()).await?;
        if !gone.is_empty() {
            info!(
                processes = gone.len(),
                jobs = freed.jobs,
                deliveries = freed.deliveries,
                "took over from processes that are gone"
            );
        }
        let living = self.store.processes().await?;
        let living: Vec<String> = living.into_iter().map(|p| p.run).collect();
        let files = self.files.clone();
        let swept = tokio::task::spawn_blocking(move || files.sweep_spool(&living)).await;
        match swept {
            Ok(Ok(0)) => {}
            Ok(Ok(left)) => info!(left, "removed objects that were never acknowledged"),
            Ok(Err(e)) => {
                error!(error = %e, "could not clear the spool of processes that are gone");
            }
            Err(e) => error!(error = %e, "clearing the spool broke"),
        }
        Ok(())
    }

    /// What pages say of workers and deliveries, where others do the work.
    async fn look_at_work(&self, all: &[Process]) -> Result<(), StoreError> {
        let beat = all.iter().filter_map(|p| p.worker_beat_ms).max();
        let health = &self.health;
        health
            .last_worker_beat_ms
            .fetch_max(beat.unwrap_or(0), Ordering::Relaxed);
        let failing = self.store.failing_destinations().await?;
        health.failing_destinations.set(failing);
        let unreached = self.store.unreached_without_step().await?;
        health.unreached_alerts.store(unreached, Ordering::Relaxed);
        Ok(())
    }
}
