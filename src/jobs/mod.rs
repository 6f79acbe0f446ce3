//! Workers: each takes jobs of one kind, that of the study highest in the list first, one at a time.
//!
//! One screens and one measures. Measuring does not begin while a screening waits or runs; a
//! screening that comes meanwhile runs beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::analysis::Analyst;
use crate::clock::SharedClock;
use crate::results::Results;
use crate::store::jobs::{FOLLOW_UP, Job, LOST_MAX, RESULTS, VOLUMETRY};
use crate::store::{Store, StoreError};
use crate::telemetry;

/// How long a worker may be silent before its job is given to another. The job of a process that is
/// gone is freed sooner, see `serve/presence.rs`.
const LEASE_MS: i64 = 90_000;
/// How often a running job's lease is prolonged, and an idle worker looks for work unasked.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Wait before a failed job runs again; doubles with every attempt ...
const RETRY_MS: i64 = 2_000;
/// ... so often at most: about a minute.
const DOUBLED_MAX: i64 = 5;

/// What a worker needs.
pub struct Worker {
    /// Name in leases.
    pub name: String,
    /// Kind of its jobs.
    pub kind: &'static str,
    /// Database.
    pub store: Store,
    /// Time.
    pub clock: SharedClock,
    /// Who does the work.
    pub analyst: Arc<Analyst>,
    /// Who makes and hands over results.
    pub results: Arc<Results>,
    /// Rung when there is a new job.
    pub work: Arc<Notify>,
    /// Rung when a job is done: another worker may have been waiting for that.
    pub done: Arc<Notify>,
    /// When the worker was last alive: shown as a banner when it stops.
    pub beat_ms: Arc<AtomicI64>,
}

impl Worker {
    /// Works until told to stop; a job under way is left to the next start.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            self.beat();
            let claimed = self
                .store
                .claim_job(self.kind, &self.name, self.clock.now_ms(), LEASE_MS)
                .await;
            let job = match claimed {
                Ok(job) => job,
                Err(e) => {
                    error!(error = %e, "could not look for work");
                    None
                }
            };
            if stop.is_cancelled() {
                return;
            }
            if let Some(job) = job {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.work_on(&job) => {}
                }
            } else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.work.notified() => {}
                    () = tokio::time::sleep(HEARTBEAT) => {}
                }
            }
        }
    }

    fn beat(&self) {
        self.beat_ms.store(self.clock.now_ms(), Ordering::Relaxed);
    }

    async fn work_on(&self, job: &Job) {
        // Every line that is logged meanwhile says for which job and study.
        let span = info_span!("job", job.id, job.kind = self.kind, study.id = job.study_id);
        let began = Instant::now();
        if let Some(outcome) = Box::pin(self.settle(job).instrument(span)).await {
            telemetry::job(self.kind, outcome, began.elapsed());
        }
        self.done.notify_one();
    }

    /// Does a job and says so; how that went, unless another worker took it over.
    async fn settle(&self, job: &Job) -> Option<&'static str> {
        if let Some(why) = lost_too_often(job, self.analyst.attempts_max()) {
            error!(job.id, study.id = job.study_id, error = %why, "job is not begun again");
            return Some(said(job, "failed", self.give_up(job, &why).await));
        }
        let done = async {
            match job.kind.as_str() {
                RESULTS => self.results.make(job.study_id).await,
                VOLUMETRY => self.analyst.measure_study(job.study_id).await,
                FOLLOW_UP => self.analyst.compare_with_prior(job.study_id).await,
                _ => self.analyst.screen_study(job.study_id).await,
            }
        };
        let Some(outcome) = Box::pin(unless(done, self.taken_over(job))).await else {
            warn!(
                job.id,
                study.id = job.study_id,
                "another worker took the job over"
            );
            return None;
        };
        let went = if outcome.is_ok() { "done" } else { "failed" };
        let settled = match outcome {
            Ok(()) => self.store.finish_job(job, true).await,
            Err(e) => self.failed(job, &e).await,
        };
        Some(said(job, went, settled))
    }

    /// Prolongs the lease until another worker has the job.
    async fn taken_over(&self, job: &Job) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            self.beat();
            let until_ms = self.clock.now_ms() + LEASE_MS;
            match self.store.keep_job(job, until_ms).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => warn!(error = %e, job.id, "could not prolong a lease"),
            }
        }
    }

    async fn failed(&self, job: &Job, why: &str) -> Result<(), StoreError> {
        warn!(
            job.id,
            study.id = job.study_id,
            attempt = job.attempts,
            error = why,
            "job failed"
        );
        if job.attempts >= self.analyst.attempts_max() {
            return self.give_up(job, why).await;
        }
        let wait = RETRY_MS << job.attempts.clamp(0, DOUBLED_MAX);
        self.store
            .retry_job(job, why, self.clock.now_ms() + wait)
            .await
    }

    async fn give_up(&self, job: &Job, why: &str) -> Result<(), StoreError> {
        info!(job.id, study.id = job.study_id, "given up");
        match job.kind.as_str() {
            // The analysis stands, whatever becomes of its objects.
            RESULTS | FOLLOW_UP => {}
            VOLUMETRY => self.analyst.give_up_measuring(job.study_id, why).await?,
            _ => self.analyst.give_up(job.study_id, why).await?,
        }
        self.store.finish_job(job, false).await
    }
}

/// How a job went; that it could not be settled is logged.
fn said(job: &Job, went: &'static str, settled: Result<(), StoreError>) -> &'static str {
    if let Err(e) = settled {
        error!(error = %e, job.id, "could not settle a job; its lease will run out");
    }
    went
}

/// Why a job is not begun once more, although its work never said that it failed.
fn lost_too_often(job: &Job, attempts_max: i64) -> Option<String> {
    let (ended, begun) = (job.interrupted, job.attempts - 1);
    if ended >= LOST_MAX {
        return Some(format!("the process ended while it ran, {ended} times"));
    }
    (begun >= attempts_max + LOST_MAX)
        .then(|| format!("it was begun {begun} times and did not finish"))
}

/// What `work` gives, or `None` where `over` ends before it. Both go on meanwhile: a lease that is prolonged while
/// the work stands still would wait for ever for the one connection that writes, if the work holds it.
async fn unless<T>(work: impl Future<Output = T>, over: impl Future<Output = ()>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = over => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Mutex;
    use tokio::time::{sleep, timeout};

    const TICK: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn work_that_holds_the_connection_is_prolonged_after_it_lets_go() {
        let connection = Mutex::new(0);
        let work = async {
            let mut held = connection.lock().await;
            sleep(5 * TICK).await;
            *held += 1;
            drop(held);
            sleep(5 * TICK).await;
            "done"
        };
        let prolonged = async {
            loop {
                sleep(TICK).await;
                *connection.lock().await += 1;
            }
        };
        let outcome = timeout(100 * TICK, unless(work, prolonged)).await;
        assert_eq!(outcome, Ok(Some("done")));
        assert!(*connection.lock().await > 1, "it was never prolonged");
    }

    #[tokio::test]
    async fn work_that_another_has_is_left() {
        assert_eq!(unless(std::future::pending::<()>(), async {}).await, None);
    }

    #[test]
    fn what_is_never_settled_is_not_begun_for_ever() {
        let said = |attempts, interrupted| {
            let job = Job {
                id: 1,
                kind: VOLUMETRY.into(),
                study_id: 1,
                generation: 1,
                attempts,
                interrupted,
                worker: "run:volumetry".into(),
            };
            lost_too_often(&job, 4)
        };
        assert_eq!(said(1, 9), None);
        let ended = said(1, 10);
        assert_eq!(
            ended.as_deref(),
            Some("the process ended while it ran, 10 times")
        );
        assert_eq!(said(14, 0), None, "what lost its lease is tried again");
        let begun = said(15, 0);
        assert_eq!(
            begun.as_deref(),
            Some("it was begun 14 times and did not finish")
        );
    }
}
