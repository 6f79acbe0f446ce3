//! Sends entries of the trail that were not sent yet, oldest first, for as long as the server runs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::AtnaSettings;
use super::message::{Source, message, outcome};
use super::syslog::{Header, frame, send};
use crate::clock::SharedClock;
use crate::store::trail::{Entry, Wanted};
use crate::store::turns::Duty;
use crate::store::{Store, StoreError};

/// Entries of one connection.
const BATCH_MAX: usize = 250;
/// How often it is looked for new ones.
const POLL: Duration = Duration::from_secs(2);
/// Longest pause after a failure; each doubles it.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// What is under way when the server stops may take so long.
const LAST: Duration = Duration::from_secs(2);

/// Sends the trail on.
pub struct Repository {
    /// Database.
    pub store: Store,
    /// Time.
    pub clock: SharedClock,
    /// Where it is.
    pub settings: AtnaSettings,
    /// Who reports.
    pub source: Source,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// There is more.
    More,
    /// All is sent, or another process sends.
    Rest,
    /// It did not take them.
    Trouble,
}

impl Repository {
    /// Sends until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = POLL;
        loop {
            let sending = self.step();
            let late = async {
                stop.cancelled().await;
                tokio::time::sleep(LAST).await;
            };
            let came = tokio::select! {
                came = sending => came,
                () = late => return,
            };
            pause = match came {
                Ok(Came::More) => Duration::ZERO,
                Ok(Came::Rest) => POLL,
                Ok(Came::Trouble) => (pause * 2).clamp(POLL, PAUSE_MAX),
                Err(error) => {
                    error!(%error, "could not look how far the audit trail was sent");
                    (pause * 2).clamp(POLL, PAUSE_MAX)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends the next entries and notes what came of it. One process does so at a time.
    async fn step(&self) -> Result<Came, StoreError> {
        let Some(turn) = self.store.turn(Duty::AuditRecords).await? else {
            return Ok(Came::Rest);
        };
        let came = self.next().await;
        turn.end().await?;
        came
    }

    async fn next(&self) -> Result<Came, StoreError> {
        let before = self.store.trail_sent().await?;
        let mut entries = self
            .store
            .trail_after(&Wanted::default(), before.seq)
            .await?;
        let more = entries.len() > BATCH_MAX;
        entries.truncate(BATCH_MAX);
        let Some(last) = entries.last().map(|e| e.seq) else {
            return Ok(Came::Rest);
        };
        let sent = match self.frames(&entries) {
            Ok(frames) => send(&self.settings, &frames).await,
            Err(e) => Err(format!("could not word a message: {e}")),
        };
        let now_ms = self.clock.now_ms();
        match sent {
            Ok(()) => {
                self.store.trail_was_sent(last, now_ms).await?;
                if before.problem.is_some() {
                    info!(last, "the audit record repository takes the trail again");
                }
                Ok(if more { Came::More } else { Came::Rest })
            }
            Err(why) => {
                let known = before.problem.is_some_and(|(said, _)| said == why);
                self.store.trail_not_sent(&why, now_ms).await?;
                if !known {
                    let waiting = before.waiting;
                    warn!(
                        why,
                        waiting, "the audit record repository does not take the trail; it waits"
                    );
                }
                Ok(Came::Trouble)
            }
        }
    }

    fn frames(&self, entries: &[Entry]) -> Result<Vec<u8>, askama::Error> {
        let mut all = Vec::new();
        for entry in entries {
            let header = Header {
                at_ms: entry.at_ms,
                outcome: outcome(entry).0,
                node: &self.source.node,
                source: &self.source.id,
            };
            all.extend(frame(&header, &message(entry, &self.source)?));
        }
        Ok(all)
    }
}
