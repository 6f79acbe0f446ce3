//! Looks whether work is stuck, and what the network says of late: pages, metrics and log tell it.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::clock::{SharedClock, UnixMillis};
use crate::intake::{Unrecorded, left_behind, put_aside};
use crate::store::watch::{Stuck, lies_long};
use crate::store::{Store, StoreError};
use crate::telemetry;
use crate::web::{Health, Watched};

/// How often it is looked whether work is stuck.
const LOOK: Duration = Duration::from_secs(30);
/// Looks between two at what the network says: that takes a walk over a month of studies.
const SAID_LOOKS: u32 = 10;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Who looks.
pub(super) struct Watch {
    pub store: Store,
    pub clock: SharedClock,
    pub health: Health,
    /// Where object logs lie.
    pub logs: PathBuf,
    /// Whether this process takes over those of dead receivers.
    pub takes_over: bool,
}

impl Watch {
    /// Looks until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut looks = 0_u32;
        loop {
            let before = self.health.watched().stuck;
            let watched = self.look(looks.is_multiple_of(SAID_LOOKS)).await;
            tell(before, watched.stuck);
            self.health.set_watched(watched);
            telemetry::upkeep();
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// What lies in logs is known without the database, and lies there when that does not answer.
    async fn look(&self, said: bool) -> Watched {
        let now_ms = self.clock.now_ms();
        let mut watched = self.health.watched();
        let (left, damaged_logs) = self.lying().await;
        watched.left = left;
        let here = [self.health.backlog.unrecorded(), watched.left];
        let old = |lies: &Unrecorded| lies.oldest_ms.is_some_and(|at| lies_long(at, now_ms));
        let logs = here.iter().filter(|lies| old(lies)).count() as u64;
        match self.ask(&mut watched, now_ms, said).await {
            Ok(()) => watched.stuck.logs += logs,
            Err(e) => {
                warn!(error = %e, "could not look whether work is stuck");
                watched.stuck.logs = logs;
            }
        }
        watched.stuck.damaged_logs = damaged_logs;
        watched
    }

    async fn ask(
        &self,
        watched: &mut Watched,
        now_ms: UnixMillis,
        said: bool,
    ) -> Result<(), StoreError> {
        let stuck = self.store.stuck(now_ms).await?;
        if said {
            watched.day = self.store.said_since(now_ms - DAY_MS).await?;
            watched.month = self.store.said_since(now_ms - 30 * DAY_MS).await?;
        }
        watched.stuck = stuck;
        Ok(())
    }

    /// What lies in logs of dead receivers that this process does not take over, and how many logs are put aside.
    async fn lying(&self) -> (Unrecorded, u64) {
        let (logs, takes_over) = (self.logs.clone(), self.takes_over);
        let look = move || {
            let left = if takes_over {
                Unrecorded::default()
            } else {
                left_behind(&logs)?
            };
            Ok((left, put_aside(&logs)?))
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let looked = looked.map_err(std::io::Error::other).flatten();
        looked.unwrap_or_else(|e: std::io::Error| {
            warn!(error = %e, "could not look for logs of receivers that died");
            (Unrecorded::default(), 0)
        })
    }
}

/// Says what has become stuck.
fn tell(before: Stuck, stuck: Stuck) {
    if stuck.all() > before.all() {
        error!(
            jobs = stuck.jobs,
            series = stuck.series,
            deliveries = stuck.deliveries,
            logs = stuck.logs,
            damaged_logs = stuck.damaged_logs,
            "work is stuck"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sea_orm::ConnectionTrait as _;

    use super::*;
    use crate::clock::ManualClock;

    const MINUTE_MS: i64 = 60_000;

    /// Objects that lie long are stuck, whoever is to record them, and whether the database answers or not.
    #[tokio::test]
    async fn what_lies_long_in_a_log_is_stuck() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(None, data.path()).await.unwrap();
        let now_ms = 1_000 * MINUTE_MS;
        let clock = Arc::new(ManualClock::at(now_ms));
        let watch = Watch {
            store: store.clone(),
            clock: clock.clone(),
            health: Health::default(),
            logs: data.path().join("log"),
            takes_over: false,
        };
        let logs = async || watch.look(false).await.stuck.logs;
        assert_eq!(logs().await, 0, "nothing lies there");
        watch.health.backlog.add(now_ms - 4 * MINUTE_MS, 4096);
        assert_eq!(logs().await, 0, "not for long");
        clock.advance_ms(2 * MINUTE_MS);
        assert_eq!(logs().await, 1);
        let file = data.path().join("firstread.db");
        let db = sea_orm::Database::connect(format!("sqlite://{}", file.display()));
        let db = db.await.unwrap();
        let broken = db.execute_unprepared("ALTER TABLE job RENAME TO no_job");
        broken.await.unwrap();
        assert!(store.stuck(now_ms).await.is_err());
        assert_eq!(logs().await, 1, "also where the database fails");
        watch.health.backlog.take(now_ms - 4 * MINUTE_MS, 4096);
        assert_eq!(logs().await, 0);
    }

    #[tokio::test]
    async fn a_log_that_was_put_aside_is_told_until_somebody_removes_it() {
        let data = tempfile::tempdir().unwrap();
        let watch = Watch {
            store: Store::open(None, data.path()).await.unwrap(),
            clock: Arc::new(ManualClock::at(0)),
            health: Health::default(),
            logs: data.path().join("log"),
            takes_over: true,
        };
        let damaged = async || watch.look(false).await.stuck.damaged_logs;
        assert_eq!(damaged().await, 0, "no log");
        let aside = watch.logs.join(".damaged-0123");
        std::fs::create_dir_all(&aside).unwrap();
        std::fs::create_dir(watch.logs.join(".begun")).unwrap();
        assert_eq!(damaged().await, 1);
        std::fs::remove_dir(&aside).unwrap();
        assert_eq!(damaged().await, 0);
    }
}
