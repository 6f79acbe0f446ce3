//! Durable deliveries: one task a destination takes what is due, in order, and tries until it is settled.
//!
//! A delivery is a row, written in the transaction of the fact that caused it. It is sent at least once:
//! `kill -9` between sending and recording repeats it, with the same key. What is recorded as delivered
//! is never sent again. Each destination has its own task, so one that hangs delays no other.

pub mod http;
pub mod machine;
mod routes;
mod settings;
mod shared;

pub use routes::Routes;
pub use settings::OutboxSettings;
pub use shared::Shared;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::{SharedClock, UnixMillis};
use crate::store::outbox::{Batch, Claim};
use crate::store::{Store, StoreError};
use crate::telemetry;
use machine::{Outcome, RetryLimits, StormLimits};

/// How often an idle task looks for what is due: well below the 5 s within which an alert goes out.
const TICK: Duration = Duration::from_millis(500);
/// Wait before an outcome that could not be recorded is recorded again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);
/// Characters of a destination's own words that are kept.
const ANSWER_CHARS_MAX: usize = 300;

/// How long an attempt may go on after the server was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Sends, by whatever a destination understands. Only the outbox calls it.
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Sends a batch as one message. A repeat has the same key.
    async fn deliver(&self, destination: &str, batch: &Batch, now_ms: UnixMillis) -> Attempt;

    /// Whether a destination that came while the server runs is its own.
    fn serves(&self, _destination: &str) -> bool {
        false
    }
}

/// An attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What it came to.
    pub outcome: Outcome,
    /// What was said, as it went out; kept for the page of messages. `None` where nothing went out.
    pub message: Option<String>,
    /// What the destination calls it, to ask for an answer later.
    pub receipt: Option<String>,
    /// What the destination answered in its own words, where it did not take it. It may name a patient: never logged,
    /// and covered on the page of messages.
    pub answer: Option<String>,
}

impl Attempt {
    /// The same with the beginning of what the destination answered, in one line.
    #[must_use]
    pub fn with_answer(self, words: &str) -> Self {
        let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let line: String = line.chars().take(ANSWER_CHARS_MAX).collect();
        Self {
            answer: Some(line).filter(|line| !line.is_empty()),
            ..self
        }
    }
}

impl From<Outcome> for Attempt {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            message: None,
            receipt: None,
            answer: None,
        }
    }
}

/// What delivering needs.
#[derive(Clone)]
pub struct Outbox {
    /// Database.
    pub store: Store,
    /// Time.
    pub clock: SharedClock,
    /// Who sends.
    pub courier: Arc<dyn Courier>,
    /// Names of destinations that stay as long as the server runs.
    pub destinations: Vec<String>,
    /// Names of those that come and go.
    pub coming: watch::Receiver<Vec<String>>,
    /// How often and how patiently.
    pub retry: RetryLimits,
    /// When messages are bundled.
    pub storm: StormLimits,
    /// An attempt that takes longer has failed.
    pub attempt_timeout: Duration,
    /// Destinations that do not take what they are sent: shown on pages.
    pub failing: Arc<Shared<String>>,
}

impl Outbox {
    /// Delivers until told to stop. An attempt that does not end soon then is left to the next start.
    ///
    /// # Errors
    /// When the database fails at the start.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        self.store.know_destinations(&self.destinations).await?;
        let freed = self.store.release_deliveries(self.clock.now_ms()).await?;
        if freed > 0 {
            info!(freed, "repeats what an earlier process was sending");
        }
        self.note_failing().await;
        let mut tasks = JoinSet::new();
        for destination in self.destinations.clone() {
            self.spawn(destination, stop.child_token(), &mut tasks);
        }
        let mut coming = self.coming.clone();
        let mut guests: HashMap<String, CancellationToken> = HashMap::new();
        while !stop.is_cancelled() {
            let mut named = coming.borrow_and_update().clone();
            named.retain(|name| !self.destinations.contains(name));
            if let Err(e) = self.store.know_destinations(&named).await {
                error!(error = %e, "could not keep who came");
            }
            guests.retain(|name, token| {
                let stays = named.contains(name);
                if !stays {
                    token.cancel();
                }
                stays
            });
            for name in named {
                if !guests.contains_key(&name) {
                    let token = stop.child_token();
                    guests.insert(name.clone(), token.clone());
                    self.spawn(name, token, &mut tasks);
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = tasks.join_next() => {}
                changed = coming.changed() => if changed.is_err() {
                    stop.cancelled().await;
                },
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Serves a destination until `stop`, and a bounded time longer.
    fn spawn(&self, destination: String, stop: CancellationToken, tasks: &mut JoinSet<()>) {
        let outbox = self.clone();
        tasks.spawn(async move {
            let late = async {
                stop.cancelled().await;
                tokio::time::sleep(STOP_GRACE).await;
            };
            tokio::select! {
                () = late => {}
                () = outbox.serve(&destination, &stop) => {}
            }
        });
    }

    async fn serve(&self, destination: &str, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.deliver_next(destination).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(e) => error!(destination, error = %e, "could not look for deliveries"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Takes the next due delivery of a destination and tries it once; `false` where none is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deliver_next(&self, destination: &str) -> Result<bool, StoreError> {
        let now_ms = self.clock.now_ms();
        let claim = self
            .store
            .claim_delivery(destination, now_ms, &self.retry, &self.storm)
            .await?;
        let batch = match claim {
            Claim::Batch(batch) => batch,
            Claim::Settled => return Ok(true),
            Claim::Nothing => return Ok(false),
        };
        let sent = self.courier.deliver(destination, &batch, now_ms);
        let attempt = tokio::time::timeout(self.attempt_timeout, sent)
            .await
            .unwrap_or_else(|_| {
                let seconds = self.attempt_timeout.as_secs();
                Outcome::Later(format!("did not answer within {seconds} s")).into()
            });
        let outcome = match &attempt.outcome {
            Outcome::Delivered => "delivered",
            Outcome::Later(_) => "later",
            Outcome::Never(_) => "never",
        };
        telemetry::attempt(destination, outcome);
        match &attempt.outcome {
            Outcome::Delivered => info!(
                destination,
                delivery.id = batch.id,
                alerts = batch.alerts.len(),
                attempt = batch.attempts,
                "delivered"
            ),
            Outcome::Later(why) | Outcome::Never(why) => warn!(
                destination,
                delivery.id = batch.id,
                attempt = batch.attempts,
                error = why,
                "could not deliver"
            ),
        }
        self.record(destination, &batch, attempt).await;
        Ok(true)
    }

    /// Records an outcome however long the database is away: sending again is the worse choice.
    async fn record(&self, destination: &str, batch: &Batch, attempt: Attempt) {
        let jitter = jitter();
        loop {
            let recorded = self
                .store
                .settle_delivery(batch, &attempt, self.clock.now_ms(), &self.retry, jitter)
                .await;
            // What arrived where nothing failed changes no warning.
            let calm = attempt.outcome == Outcome::Delivered && self.failing.get().is_empty();
            match recorded {
                Ok(()) if calm => return,
                Ok(()) => return self.note_failing().await,
                Err(e) => {
                    error!(destination, delivery.id = batch.id, error = %e, "could not record a delivery");
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
            }
        }
    }
}

// It is a warning only: where it cannot be read it stays as it was.
impl Outbox {
    async fn note_failing(&self) {
        if let Ok(failing) = self.store.failing_destinations().await {
            self.failing.set(failing);
        }
    }
}

/// 0 to 1, at random; the middle where the machine has no randomness.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}
