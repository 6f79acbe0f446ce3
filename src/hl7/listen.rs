//! The listener: who gets in, how many, and how it ends.

use std::io;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::mllp::{self, Deframer, FrameError};
use super::receive::Receiver;
use crate::porch::{Places, Say};
use crate::tls::Live;

/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a sender may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may be agreeing on TLS at one time.
const SHAKING_MAX: usize = 64;
/// How long an answer may take to be sent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a message under way may still be answered once the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Room that is made for what comes, in bytes.
const READ_BYTES: usize = 16_384;

/// Takes messages on `listener` until `stop`. Nothing a peer does ends the service.
/// With `tls` it speaks TLS alone.
pub async fn serve(
    listener: TcpListener,
    receiver: Receiver,
    tls: Option<Arc<Live>>,
    stop: CancellationToken,
) {
    let places = Arc::new(Places::new(receiver.settings.connections_max));
    let shaking = Arc::new(Places::new(SHAKING_MAX));
    let (unlisted, full) = (Say::default(), Say::default());
    let mut tasks = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    error!(%error, "could not accept an HL7 connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = tasks.join_next() => continue,
        };
        if !receiver.settings.admits(peer) {
            if let Some(more) = unlisted.now() {
                warn!(%peer, more, "HL7 connection refused: address not listed");
            }
            continue;
        }
        // by TLS a place is taken only once it is agreed on
        let (room, wanted) = match &tls {
            None => (&places, None),
            Some(tls) => (&shaking, Some(tls.acceptor())),
        };
        let room = match room.take(peer) {
            Ok(room) => room,
            Err(why) => {
                if let Some(more) = full.now() {
                    warn!(%peer, why, more, "HL7 connection closed");
                }
                continue;
            }
        };
        let (receiver, stop) = (receiver.clone(), stop.clone());
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _ = stream.set_nodelay(true);
            let meet = async {
                let Some(tls) = wanted else {
                    let talked = talk(stream, peer, &receiver, &stop).await;
                    drop(room);
                    return talked;
                };
                let shaken = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await;
                let stream = shaken.map_err(|_| io::Error::other("no TLS within 10 s"))??;
                let _place = places.take(peer).map_err(io::Error::other)?;
                drop(room);
                talk(stream, peer, &receiver, &stop).await
            };
            // a panic ends this connection and nothing else
            let talk = AssertUnwindSafe(meet);
            match talk.catch_unwind().await {
                Ok(Ok(messages)) => info!(%peer, messages, "HL7 connection over"),
                Ok(Err(error)) => warn!(%peer, %error, "HL7 connection broken off"),
                Err(_) => error!(%peer, "HL7 connection ended by a panic"),
            }
        });
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, all).await.is_err() {
        warn!("HL7 connections cut off");
    }
    tasks.shutdown().await;
}

/// Answers one message after the other; gives how many there were.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: IpAddr,
    receiver: &Receiver,
    stop: &CancellationToken,
) -> io::Result<u64> {
    let settings = &receiver.settings;
    let first = Duration::from_secs(settings.first_message_timeout_seconds);
    let idle = Duration::from_secs(settings.idle_timeout_seconds);
    let whole = Duration::from_secs(settings.message_timeout_seconds);
    let mut deframer = Deframer::new(settings.message_bytes_max);
    let mut came = BytesMut::new();
    let mut messages = 0;
    // the last message's end; bytes between two messages do not put it off
    let mut quiet = Instant::now();
    let mut begun: Option<Instant> = None;
    loop {
        match deframer.next(&mut came) {
            Ok(Some(message)) => {
                begun = None;
                for answer in receiver.take(&message).await {
                    send(&mut stream, &answer).await?;
                }
                messages += 1;
                quiet = Instant::now();
                continue;
            }
            Ok(None) => {}
            Err(FrameError::TooLarge(head)) => {
                warn!(%peer, "HL7 message is too large");
                send(&mut stream, &receiver.refuse_large(&head)).await?;
                return Ok(messages);
            }
            Err(FrameError::NotFramed) => {
                return Err(io::Error::other("what comes is no HL7 in MLLP frames"));
            }
        }
        if stop.is_cancelled() {
            return Ok(messages);
        }
        let deadline = match (came.is_empty(), messages) {
            (false, _) => *begun.get_or_insert_with(Instant::now) + whole,
            (true, 0) => quiet + first,
            (true, _) => quiet + idle,
        };
        came.reserve(READ_BYTES);
        let read = tokio::select! {
            () = stop.cancelled(), if came.is_empty() => return Ok(messages),
            read = timeout_at(deadline, stream.read_buf(&mut came)) => read,
        };
        match read {
            // closed, or quiet for long, between two messages
            Ok(Ok(0)) | Err(_) if came.is_empty() => return Ok(messages),
            Ok(Ok(0)) => return Err(io::Error::other("closed in the middle of a message")),
            Ok(Ok(_)) => {}
            // many end TLS by closing the connection
            Ok(Err(error)) if came.is_empty() && error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(messages);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(io::Error::other(
                    "a message did not come to its end in time",
                ));
            }
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, answer: &str) -> io::Result<()> {
    let framed = mllp::frame(answer);
    let written = async {
        stream.write_all(&framed).await?;
        stream.flush().await
    };
    timeout(ANSWER_TIMEOUT, written)
        .await
        .map_err(|_| io::Error::other("an answer was not taken in time"))?
}
