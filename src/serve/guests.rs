//! Destinations that come and go while the server runs: FHIR subscriptions.
//!
//! The database is the truth; this looks at it, and tells the outbox and the couriers who there is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::clock::SharedClock;
use crate::store::{Store, StoreError};

/// How often it is looked who there is, where nobody says that someone came: another process may have added one.
const LOOK: Duration = Duration::from_secs(5);

/// Who keeps the list.
pub(super) struct Guests {
    pub store: Store,
    pub clock: SharedClock,
    /// Told when someone came or went.
    pub roll_call: Arc<Notify>,
    /// Where the names go.
    pub names: watch::Sender<Vec<String>>,
}

impl Guests {
    /// Keeps the list until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            match self.names().await {
                Ok(names) => {
                    self.names.send_if_modified(|known| {
                        let changed = *known != names;
                        *known = names;
                        changed
                    });
                }
                Err(e) => error!(error = %e, "could not look for destinations"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.roll_call.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        let now_ms = self.clock.now_ms();
        let subscriptions = self.store.subscriptions(None).await?;
        let live = subscriptions.into_iter().filter(|s| !s.is_over(now_ms));
        Ok(live.map(|s| s.destination()).collect())
    }
}
