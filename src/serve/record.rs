//! What the audit trail says of the server itself, and the task that sends the trail on.

use tracing::warn;

use super::{Part, Server, database};
use crate::atna::{Repository, Source};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::store::trail::{ActorKind, Deed};
use crate::store::{Store, StoreError};

/// Name of the machine.
fn node() -> String {
    let node = rustix::system::uname();
    node.nodename().to_string_lossy().into_owned()
}

async fn keep(
    store: &Store,
    clock: &SharedClock,
    action: &str,
    detail: String,
) -> Result<(), StoreError> {
    let deed = Deed {
        at_ms: clock.now_ms(),
        actor: "firstread".into(),
        kind: ActorKind::System,
        action: action.into(),
        subject: Some(node()),
        detail: Some(detail),
        ..Deed::default()
    };
    store.keep_deeds(&[deed]).await
}

/// Keeps that the server started.
///
/// # Errors
/// When the database fails: what cannot be kept is not done.
pub(super) async fn started(store: &Store, clock: &SharedClock, part: Part) -> Result<(), String> {
    let detail = format!("version {}, role {part}", env!("CARGO_PKG_VERSION"));
    let kept = keep(store, clock, "system.start", detail).await;
    kept.map_err(database)
}

/// Keeps that the server was stopped, and `why`, where it was not told to.
pub(super) async fn stopped(store: &Store, clock: &SharedClock, why: Option<&str>) {
    let detail = why.map_or_else(|| "as it was told".to_owned(), str::to_owned);
    let kept = keep(store, clock, "system.stop", detail).await;
    if let Err(error) = kept {
        warn!(%error, "the audit trail does not say that the server stopped");
    }
}

impl Server {
    /// Starts what sends the trail to the audit record repository, where there is one.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub(super) fn start_atna(
        &mut self,
        config: &Config,
        clock: &SharedClock,
    ) -> Result<(), String> {
        let settings = &config.atna;
        if !settings.on() {
            return Ok(());
        }
        settings.toward().connector("atna.", &settings.host)?;
        if !config.process.role.works() {
            return Ok(());
        }
        let repository = Repository {
            store: self.store.clone(),
            clock: clock.clone(),
            settings: settings.clone(),
            source: Source {
                id: settings.source_id.clone(),
                site: config.site.name.clone(),
                node: node(),
            },
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            repository.run(stop).await;
            Ok(())
        });
        Ok(())
    }
}
