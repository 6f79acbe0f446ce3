//! The listener: who gets in, how many, and how it ends.

use std::io;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::association::{Association, Shared};
use super::link::{self, Link};
use super::settings::ReceiveSettings;
use super::spool::Spool;
use super::{AssociationId, ObjectSink, negotiate};

/// How many peers are told at one time that we are busy; more are just closed.
const BUSY_ANSWERS_MAX: usize = 32;
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

static LAST_ASSOCIATION: AtomicU64 = AtomicU64::new(0);

/// Receives objects on `listener` into `sink` until `stop`.
///
/// Then nobody new is let in, idle associations are aborted, and objects under way get
/// `stop_timeout_seconds` to arrive.
///
/// # Errors
/// When the settings are wrong or the spool folder cannot be made. Nothing a peer does
/// ends the service.
pub async fn serve(
    listener: TcpListener,
    settings: ReceiveSettings,
    sink: Arc<dyn ObjectSink>,
    stop: CancellationToken,
) -> io::Result<()> {
    let bad = |problem| io::Error::new(io::ErrorKind::InvalidInput, problem);
    settings.check().map_err(bad)?;
    let spool = Spool::open(&settings, !sink.syncs_objects())?;
    let mut door = Door {
        places: Arc::new(Semaphore::new(settings.associations_max)),
        busy_answers: Arc::new(Semaphore::new(BUSY_ANSWERS_MAX)),
        tasks: JoinSet::new(),
        shared: Arc::new(Shared {
            spool: Arc::new(spool),
            sink,
            stop: stop.clone(),
            settings,
        }),
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => door.knock(stream, peer.ip()),
                Err(error) => {
                    tracing::error!(%error, "could not accept a DICOM connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = door.tasks.join_next() => {}
        }
    }
    drop(listener);
    door.close().await;
    Ok(())
}

struct Door {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    busy_answers: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Door {
    fn knock(&mut self, stream: TcpStream, peer: IpAddr) {
        let peer = peer.to_canonical();
        if !self.shared.settings.admits_host(peer) {
            tracing::warn!(%peer, "DICOM connection refused: address not listed");
            return;
        }
        let _ = stream.set_nodelay(true);
        link::acknowledge_at_once(&stream);
        let shared = Arc::clone(&self.shared);
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.tasks.spawn(attend(stream, peer, shared, place));
        } else if let Ok(place) = Arc::clone(&self.busy_answers).try_acquire_owned() {
            tracing::warn!(%peer, "DICOM association rejected: too many at one time");
            self.tasks.spawn(async move {
                negotiate::reject_busy(stream, &shared.settings).await;
                drop(place);
            });
        } else {
            tracing::warn!(%peer, "DICOM connection closed: too many at one time");
        }
    }

    /// Waits for objects under way, then ends what is left.
    async fn close(mut self) {
        let limit = Duration::from_secs(self.shared.settings.stop_timeout_seconds);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "DICOM associations cut off");
        }
        self.tasks.shutdown().await;
    }
}

/// Serves one connection. A panic ends this association and nothing else.
async fn attend(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>, place: OwnedSemaphorePermit) {
    let id: AssociationId = LAST_ASSOCIATION.fetch_add(1, Ordering::Relaxed) + 1;
    let touched = Arc::new(AtomicBool::new(false));
    let sink = Arc::clone(&shared.sink);
    let talk = talk(stream, peer, id, shared, Arc::clone(&touched));
    if AssertUnwindSafe(talk).catch_unwind().await.is_err() {
        tracing::error!(association = id, %peer, "DICOM association ended by a panic");
    }
    drop(place);
    if touched.load(Ordering::Relaxed) {
        sink.association_ended(id).await;
    }
}

async fn talk(
    stream: TcpStream,
    peer: IpAddr,
    id: AssociationId,
    shared: Arc<Shared>,
    touched: Arc<AtomicBool>,
) {
    let started = Instant::now();
    let established = tokio::select! {
        () = shared.stop.cancelled() => return,
        established = negotiate::establish(stream, peer, &shared.settings) => established,
    };
    let established = match established {
        Ok(established) => established,
        Err(reason) => {
            tracing::warn!(association = id, %peer, reason, "no DICOM association");
            return;
        }
    };
    let mut association = Association::new(id, &established, shared, touched);
    let end = association.run(Link::new(established)).await;
    let counts = &association.counts;
    tracing::info!(
        association = id,
        %peer,
        calling_ae = %association.calling_ae,
        stored = counts.stored,
        kept_aside = counts.kept_aside,
        refused = counts.refused,
        echoed = counts.echoed,
        bytes = counts.stored_bytes,
        seconds = started.elapsed().as_secs_f32(),
        %end,
        "DICOM association over"
    );
}
