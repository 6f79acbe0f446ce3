//! The listener: who gets in, how many, and how it ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::association::{Association, Shared};
use super::link::{self, Link};
use super::settings::ReceiveSettings;
use super::spool::Spool;
use super::{AssociationId, ObjectSink, negotiate};
use crate::porch::{Places, Porch, Say};
use crate::tls::Live;

/// How many peers are told at one time that we are busy; more are just closed.
const BUSY_ANSWERS_MAX: usize = 32;
/// Connections beside those with a place: they wait to say what they want.
const WAITING_MAX: usize = 256;
/// How long a connection waits for others of its address to say what they want before it is told that we are busy.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

static LAST_ASSOCIATION: AtomicU64 = AtomicU64::new(0);

/// Where peers come in.
pub struct Doors {
    /// In the clear.
    pub plain: TcpListener,
    /// By TLS alone.
    pub tls: Option<(TcpListener, Arc<Live>)>,
}

impl From<TcpListener> for Doors {
    fn from(plain: TcpListener) -> Self {
        Self { plain, tls: None }
    }
}

/// Receives objects on `doors` into `sink` until `stop`.
///
/// Then nobody new is let in, idle associations are aborted, and objects under way get
/// `stop_timeout_seconds` to arrive.
///
/// # Errors
/// When the settings are wrong or the spool folder cannot be made. Nothing a peer does
/// ends the service.
pub async fn serve(
    doors: impl Into<Doors>,
    settings: ReceiveSettings,
    sink: Arc<dyn ObjectSink>,
    stop: CancellationToken,
) -> io::Result<()> {
    let bad = |problem| io::Error::new(io::ErrorKind::InvalidInput, problem);
    settings.check().map_err(bad)?;
    let spool = Spool::open(&settings, &*sink)?;
    let doors = doors.into();
    let mut door = Door {
        waiting: waiting(settings.associations_max),
        porch: Arc::new(Porch::before(settings.associations_max)),
        places: Arc::new(Semaphore::new(settings.associations_max)),
        busy: Arc::new(Busy {
            answers: Places::new(BUSY_ANSWERS_MAX),
            say: Say::default(),
        }),
        unlisted: Say::default(),
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
            accepted = doors.plain.accept() => door.accepted(accepted, None).await,
            accepted = by_tls(doors.tls.as_ref()) => {
                let tls = doors.tls.as_ref().map(|(_, live)| live.config());
                door.accepted(accepted, tls).await;
            }
            Some(_) = door.tasks.join_next() => {}
        }
    }
    drop(doors);
    door.close().await;
    Ok(())
}

/// Places to wait in. Whoever sends commands keeps one to its end, and may have all associations: of the room to wait
/// alone an address leaves a quarter.
fn waiting(associations_max: usize) -> Places {
    Places::leaving(associations_max + WAITING_MAX, WAITING_MAX / 4)
}

async fn by_tls(door: Option<&(TcpListener, Arc<Live>)>) -> io::Result<(TcpStream, SocketAddr)> {
    match door {
        Some((listener, _)) => listener.accept().await,
        None => std::future::pending().await,
    }
}

struct Door {
    shared: Arc<Shared>,
    /// For every connection, from the first moment to the last.
    waiting: Places,
    /// By address, for those that have not sent a command yet.
    porch: Arc<Porch>,
    /// For those that may have an association.
    places: Arc<Semaphore>,
    busy: Arc<Busy>,
    unlisted: Say,
    tasks: JoinSet<()>,
}

/// For those that find no place.
struct Busy {
    answers: Places,
    say: Say,
}

/// A connection that was let to the door.
struct Caller {
    stream: TcpStream,
    peer: IpAddr,
    tls: Option<Arc<ServerConfig>>,
}

impl Door {
    async fn accepted(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        tls: Option<Arc<ServerConfig>>,
    ) {
        match accepted {
            Ok((stream, peer)) => self.knock(Caller {
                stream,
                peer: peer.ip().to_canonical(),
                tls,
            }),
            Err(error) => {
                tracing::error!(%error, "could not accept a DICOM connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn knock(&mut self, caller: Caller) {
        let peer = caller.peer;
        if !self.shared.settings.admits_host(peer) {
            if let Some(more) = self.unlisted.now() {
                tracing::warn!(%peer, more, "DICOM connection refused: address not listed");
            }
            return;
        }
        let waiting = match self.waiting.take(peer) {
            Ok(waiting) => waiting,
            Err(why) => {
                self.busy.closed(peer, why);
                return;
            }
        };
        let _ = caller.stream.set_nodelay(true);
        link::acknowledge_at_once(&caller.stream);
        let shared = Arc::clone(&self.shared);
        let (porch, places) = (Arc::clone(&self.porch), Arc::clone(&self.places));
        let busy = Arc::clone(&self.busy);
        self.tasks.spawn(async move {
            let limit = Duration::from_secs(shared.settings.handshake_timeout_seconds);
            let entered = tokio::select! {
                () = shared.stop.cancelled() => return,
                entered = porch.enter(peer, limit.min(PATIENCE)) => entered,
            };
            // the shared place last: who stands on the porch for its address' sake holds none
            let place = entered.and_then(|porch| Some((porch, places.try_acquire_owned().ok()?)));
            if let Some(place) = place {
                attend(caller, shared, place).await;
            } else {
                turn_away(caller, &shared, &busy).await;
            }
            drop(waiting);
        });
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

impl Busy {
    fn closed(&self, peer: IpAddr, why: &'static str) {
        if let Some(more) = self.say.now() {
            tracing::warn!(%peer, why, more, "DICOM connection closed");
        }
    }
}

/// Tells a peer that it may try again later, as far as there is room to tell.
async fn turn_away(caller: Caller, shared: &Shared, busy: &Busy) {
    let peer = caller.peer;
    match busy.answers.take(peer) {
        Ok(_place) => {
            if let Some(more) = busy.say.now() {
                tracing::warn!(%peer, more, "DICOM association rejected: too many at one time, or too many of its address that say nothing");
            }
            negotiate::reject_busy(caller.stream, &shared.settings, caller.tls).await;
        }
        Err(why) => busy.closed(peer, why),
    }
}

/// Serves one connection. A panic ends this association and nothing else.
async fn attend(
    caller: Caller,
    shared: Arc<Shared>,
    (porch, place): (OwnedSemaphorePermit, OwnedSemaphorePermit),
) {
    let id: AssociationId = LAST_ASSOCIATION.fetch_add(1, Ordering::Relaxed) + 1;
    let touched = Arc::new(AtomicBool::new(false));
    let (sink, peer) = (Arc::clone(&shared.sink), caller.peer);
    let talk = talk(caller, id, shared, Arc::clone(&touched), porch);
    if AssertUnwindSafe(talk).catch_unwind().await.is_err() {
        tracing::error!(association = id, %peer, "DICOM association ended by a panic");
    }
    drop(place);
    if touched.load(Ordering::Relaxed) {
        sink.association_ended(id).await;
    }
}

async fn talk(
    caller: Caller,
    id: AssociationId,
    shared: Arc<Shared>,
    touched: Arc<AtomicBool>,
    porch: OwnedSemaphorePermit,
) {
    let (started, peer) = (Instant::now(), caller.peer);
    let established = tokio::select! {
        () = shared.stop.cancelled() => return,
        established = negotiate::establish(caller.stream, peer, &shared.settings, caller.tls) => established,
    };
    let link = match established {
        Ok(wire) => Link::new(wire),
        Err(reason) => {
            tracing::warn!(association = id, %peer, reason, "no DICOM association");
            return;
        }
    };
    let tls = link.is_tls();
    let mut association = Association::new(id, &link, shared, touched, porch);
    let end = association.run(link).await;
    let counts = &association.counts;
    tracing::info!(
        association = id,
        %peer,
        tls,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_may_have_all_associations_and_leaves_room_to_wait() {
        for associations_max in [8, 1000] {
            let waiting = waiting(associations_max);
            let [gateway, other]: [IpAddr; 2] =
                ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
            let taken: Vec<_> = (0..).map_while(|_| waiting.take(gateway).ok()).collect();
            assert_eq!(taken.len(), associations_max + WAITING_MAX * 3 / 4);
            let left: Vec<_> = (0..).map_while(|_| waiting.take(other).ok()).collect();
            assert_eq!(left.len(), WAITING_MAX / 4);
        }
    }
}
