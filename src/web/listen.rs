//! The listener of pages and API: who gets in, how many, in the clear or by TLS. A connection has its place from its
//! first moment on, so that one that says nothing, or shakes hands for long, is counted too.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_service::{ServiceFactoryExt as _, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Server};
use actix_web::{App, middleware, web};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::settings::WebSettings;
use super::{WebState, gate, routes};
use crate::dicom::receive::Network;
use crate::porch::{Porch, Say};
use crate::tls::Live;

/// How long open requests may go on after the server was told to stop.
const SHUTDOWN_SECONDS: u64 = 3;
/// A client that does not close its side in time is cut off.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What serves on `listener`, with `https` by TLS alone; idle connections end once `stop` is cancelled.
///
/// # Errors
/// When the listener or the certificate cannot be used.
pub(super) fn server(
    listener: TcpListener,
    https: Option<&Arc<Live>>,
    data: web::Data<WebState>,
    stop: CancellationToken,
) -> io::Result<Server> {
    let settings = data.settings.clone();
    let door = Arc::new(Door::new(&settings, https)?);
    let each = settings.connections_max / settings.threads.max(1) + 1;
    let server = Server::build()
        .workers(settings.threads)
        .max_concurrent_connections(each)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen("pages", listener, move || {
            let app = App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(settings.body_bytes_max))
                .configure(|config| routes::register(config, data.only_probes))
                .wrap(middleware::from_fn(gate::check))
                .wrap(middleware::from_fn(gate::protect));
            let stop = stop.clone();
            let pages = HttpService::<Guest, _, BoxBody>::build()
                .keep_alive(Duration::from_secs(settings.keep_alive_seconds))
                .client_request_timeout(Duration::from_secs(settings.header_timeout_seconds))
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .graceful_shutdown_signal(move || stop.clone().cancelled_owned())
                // host and scheme that it has are nobody's here: links are made of settings and `Host`
                .finish::<_, BoxBody>(map_config(app, |()| AppConfig::default()));
            let door = Arc::clone(&door);
            fn_service(move |stream| Arc::clone(&door).admit(stream)).and_then(pages)
        })?;
    Ok(server.run())
}

/// Where connections come in.
struct Door {
    porch: Porch,
    /// Whom their places are not counted for: many clients come by each.
    proxies: Vec<Network>,
    tls: Option<TlsAcceptor>,
    handshake_timeout: Duration,
    full: Say,
}

impl Door {
    fn new(settings: &WebSettings, https: Option<&Arc<Live>>) -> io::Result<Self> {
        let tls = https.map(|live| {
            let mut config = live.for_good().map_err(io::Error::other)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok::<_, io::Error>(TlsAcceptor::from(Arc::new(config)))
        });
        Ok(Self {
            porch: Porch::before(settings.connections_max),
            proxies: settings.trusted_proxies.clone(),
            tls: tls.transpose()?,
            handshake_timeout: Duration::from_secs(settings.header_timeout_seconds),
            full: Say::default(),
        })
    }

    /// Gives a connection its place and agrees on TLS with it, where that is spoken. The error ends the connection.
    async fn admit(
        self: Arc<Self>,
        stream: TcpStream,
    ) -> Result<(Guest, Protocol, Option<SocketAddr>), DispatchError> {
        let peer = stream.peer_addr().map_err(DispatchError::Io)?;
        let place = self.place(peer.ip().to_canonical());
        let place = place.map_err(DispatchError::Io)?;
        let stream = match &self.tls {
            None => Either::Left(stream),
            Some(tls) => {
                let shaken = timeout(self.handshake_timeout, tls.accept(stream)).await;
                let late = |_| DispatchError::Io(io::ErrorKind::TimedOut.into());
                Either::Right(Box::new(shaken.map_err(late)?.map_err(DispatchError::Io)?))
            }
        };
        let guest = Guest {
            stream,
            _place: place,
        };
        Ok((guest, Protocol::Http1, Some(peer)))
    }

    /// A place of this address; none is needed by a proxy.
    fn place(&self, peer: IpAddr) -> io::Result<Option<OwnedSemaphorePermit>> {
        if self.proxies.iter().any(|proxy| proxy.contains(peer)) {
            return Ok(None);
        }
        let place = self.porch.try_enter(peer);
        if place.is_none() {
            if let Some(more) = self.full.now() {
                tracing::warn!(%peer, more, "HTTP connections closed: too many of one address at one time (web.connections_max)");
            }
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(place)
    }
}

/// A connection that was let in; its place ends with it.
struct Guest {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_a_proxy_needs_none() {
        let settings = WebSettings {
            connections_max: 16,
            trusted_proxies: vec!["10.0.9.0/24".parse().unwrap()],
            ..WebSettings::default()
        };
        let door = Door::new(&settings, None).unwrap();
        let [client, other, proxy] =
            ["10.0.1.1", "10.0.1.2", "10.0.9.5"].map(|a| a.parse::<IpAddr>().unwrap());
        let held: Vec<_> = (0..12).map(|_| door.place(client).unwrap()).collect();
        assert!(door.place(client).is_err());
        assert!(door.place(other).is_ok());
        assert!((0..100).all(|_| door.place(proxy).is_ok_and(|p| p.is_none())));
        drop(held);
        assert!(door.place(client).is_ok());
    }
}
