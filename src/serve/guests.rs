//! Destinations that come and go while the server runs: FHIR subscriptions, and those that administrators make.
//!
//! The database is the truth; this looks at it, and tells the outbox and the couriers who there is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::alerts::Announcer;
use crate::clock::SharedClock;
use crate::hl7::Hl7Destination;
use crate::made::{self, Made, MadeResults};
use crate::secrets::Vault;
use crate::store::ris::ResultDestination;
use crate::store::{Store, StoreError};

/// How often it is looked who there is, where nobody says that someone came: another process may have added one.
const LOOK: Duration = Duration::from_secs(5);

/// What those that come need: the key of their secrets, who is told of them, destinations of results.
pub(super) type Comers<'a> = (&'a Arc<Vault>, &'a Arc<Notify>, &'a MadeResults);

/// Who keeps the list.
pub(super) struct Guests {
    pub store: Store,
    pub clock: SharedClock,
    /// Told when someone came or went.
    pub roll_call: Arc<Notify>,
    /// The data folder.
    pub data: PathBuf,
    /// Destinations of results in the settings file.
    pub fixed: Vec<ResultDestination>,
    /// Serves those that are alerted.
    pub announcer: Arc<Announcer>,
    /// Where those that get results go.
    pub made: MadeResults,
    /// The newest version that was taken up.
    pub seen: i64,
    /// Where the names go.
    pub names: watch::Sender<Vec<String>>,
}

/// Refuses settings that count on a destination which nobody made.
///
/// # Errors
/// Names it.
pub(super) async fn check(store: &Store, needed: &[String]) -> Result<(), String> {
    let made = store
        .made_destinations()
        .await
        .map_err(|e| format!("database: {e}"))?;
    let missing = needed.iter().find(|n| made.iter().all(|m| m.name != **n));
    missing.map_or(Ok(()), |name| {
        Err(format!(
            "alerts names {name:?}, which was not made on the page Destinations: make it first"
        ))
    })
}

/// As the database knows a destination of results.
pub(super) fn gets_results(destination: &Hl7Destination) -> ResultDestination {
    ResultDestination {
        name: destination.name.clone(),
        mapping: destination.mapping.as_str().to_owned(),
        only_moving_up: destination.tells_only_moving_up(),
        reached: destination.reached(),
    }
}

impl Guests {
    /// Keeps the list until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            match self.look().await {
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

    async fn look(&mut self) -> Result<Vec<String>, StoreError> {
        let now_ms = self.clock.now_ms();
        let version = self.store.made_version().await?;
        let made = self.store.made_destinations().await?;
        if version != self.seen {
            let (mut alerts, mut results, mut objects) = (Vec::new(), Vec::new(), Vec::new());
            for one in &made {
                let filled = one.filled.clone().unwrap_or_default();
                match made::read(&one.kind, &one.name, &filled, &self.data) {
                    Ok(Made::Alert(found)) => alerts.push(*found),
                    Ok(Made::Hl7(found)) => results.push(*found),
                    Ok(Made::Dicom(found)) => objects.push(*found),
                    Err(why) => warn!(destination = one.name, error = why, "does not work"),
                }
            }
            let known = results.iter().map(gets_results);
            let known: Vec<_> = self.fixed.iter().cloned().chain(known).collect();
            self.store.know_result_destinations(&known).await?;
            self.announcer.take_made(alerts);
            self.made.hl7.set(results);
            self.made.objects.set(objects);
            self.seen = version;
            info!(version, "destinations of the page are in force");
        }
        let subscriptions = self.store.subscriptions(None).await?;
        let live = subscriptions.into_iter().filter(|s| !s.is_over(now_ms));
        let names = live.map(|s| s.destination());
        Ok(names.chain(made.into_iter().map(|m| m.name)).collect())
    }
}
