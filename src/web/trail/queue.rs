//! One task adds to the trail what all requests bring, together: they share one transaction and one sync.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::WebState;
use crate::store::trail::Deed;

/// Requests that wait for their entry.
const WAITING_MAX: usize = 1024;
/// Entries written in one go.
const BATCH_MAX: usize = 128;
/// How long a request waits.
const WAIT: Duration = Duration::from_secs(10);

type Waiting = (Deed, oneshot::Sender<bool>);

/// Where requests hand in what is to be kept.
#[derive(Clone)]
pub(in crate::web) struct TrailDesk {
    queue: mpsc::Sender<Waiting>,
    /// Taken by the one task that writes.
    taken: Arc<Mutex<Option<mpsc::Receiver<Waiting>>>>,
}

impl Default for TrailDesk {
    fn default() -> Self {
        let (queue, taken) = mpsc::channel(WAITING_MAX);
        Self {
            queue,
            taken: Arc::new(Mutex::new(Some(taken))),
        }
    }
}

impl TrailDesk {
    /// Waits until it is kept; false where it cannot be.
    pub async fn keep(&self, deed: Deed) -> bool {
        let kept = async {
            let (done, kept) = oneshot::channel();
            self.queue.send((deed, done)).await.ok()?;
            kept.await.ok()
        };
        matches!(tokio::time::timeout(WAIT, kept).await, Ok(Some(true)))
    }
}

/// Writes until told to stop, which is when nothing is answered any more.
pub(in crate::web) async fn write(state: WebState, stop: CancellationToken) {
    let taken = {
        let slot = &state.trail.taken;
        slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    };
    let Some(mut waiting) = taken else { return };
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = waiting.recv_many(&mut batch, BATCH_MAX) => keep(&state, &mut batch).await,
        }
    }
    while let Ok(last) = waiting.try_recv() {
        batch.push(last);
    }
    keep(&state, &mut batch).await;
}

async fn keep(state: &WebState, batch: &mut Vec<Waiting>) {
    let (deeds, waiting): (Vec<Deed>, Vec<_>) = batch.drain(..).unzip();
    let kept = state.store.keep_deeds(&deeds).await;
    if let Err(error) = &kept {
        tracing::error!(%error, n = deeds.len(), "could not add to the audit trail");
    }
    for done in waiting {
        let _ = done.send(kept.is_ok());
    }
}
