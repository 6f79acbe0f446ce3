//! Looks whether work is stuck, and what the network says of late: pages, metrics and log tell it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::clock::SharedClock;
use crate::store::{Store, StoreError};
use crate::telemetry;
use crate::web::{Health, Watched};

/// How often it is looked whether work is stuck.
const LOOK: Duration = Duration::from_secs(30);
/// Looks between two at what the network says: that takes a walk over a month of studies.
const SAID_LOOKS: u32 = 10;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Looks until told to stop.
pub(super) async fn run(store: Store, clock: SharedClock, health: Health, stop: CancellationToken) {
    let mut looks = 0_u32;
    loop {
        let said = looks.is_multiple_of(SAID_LOOKS);
        match look(&store, &clock, health.watched(), said).await {
            Ok(watched) => {
                let before = health.watched().stuck.all();
                if watched.stuck.all() > before {
                    let stuck = watched.stuck;
                    error!(
                        jobs = stuck.jobs,
                        series = stuck.series,
                        deliveries = stuck.deliveries,
                        "work is stuck"
                    );
                }
                health.set_watched(watched);
            }
            Err(e) => warn!(error = %e, "could not look whether work is stuck"),
        }
        telemetry::upkeep();
        looks = looks.wrapping_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look(
    store: &Store,
    clock: &SharedClock,
    mut watched: Watched,
    said: bool,
) -> Result<Watched, StoreError> {
    let now_ms = clock.now_ms();
    watched.stuck = store.stuck(now_ms).await?;
    if said {
        watched.day = store.said_since(now_ms - DAY_MS).await?;
        watched.month = store.said_since(now_ms - 30 * DAY_MS).await?;
    }
    Ok(watched)
}
