//! Answers machines that watch while the server starts: an upgrade of the schema may take a while, and
//! whoever asks must be able to tell that from a server that does not work.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::tls::Live;

/// A client that takes longer is cut off: there is one at a time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of a request that is read: its first line says all.
const HEAD_BYTES_MAX: usize = 2048;

/// Answers until told to stop, with `https` by TLS alone.
pub async fn answer_while_starting(
    listener: TcpListener,
    https: Option<Arc<Live>>,
    stop: CancellationToken,
) {
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(e) => return warn!(error = %e, "nobody is told that the server is starting"),
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let answered = async {
                    match &https {
                        None => answer(stream).await,
                        Some(live) => answer(live.acceptor().accept(stream).await?).await,
                    }
                };
                let _ = tokio::time::timeout(PATIENCE, answered).await;
            }
            Err(_) => tokio::time::sleep(PATIENCE).await,
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    while head.len() < HEAD_BYTES_MAX && !head.contains(&b'\n') {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let said = if head.starts_with(b"GET /healthz ") {
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n"
            .to_owned()
    } else {
        let body = "{\"status\":503,\"code\":\"starting\",\"detail\":\"not ready: starting\"}\n";
        format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
             retry-after: 1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    stream.write_all(said.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(answer_while_starting(listener, None, stop.clone()));
        // One that says nothing holds others up for a moment only.
        let silent = TcpStream::connect(at).await.unwrap();
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        drop(silent);
        stop.cancel();
        task.await.unwrap();
        said
    }

    #[tokio::test]
    async fn a_start_is_told_from_a_failure() {
        assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"));
        let said = ask("/readyz").await;
        assert!(said.starts_with("HTTP/1.1 503") && said.contains("\"code\":\"starting\""));
    }
}
