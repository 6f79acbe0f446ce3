//! Syslog over TLS: the frame of a message (RFC 5424, with octet counting, RFC 5425 4.3) and the connection.
//!
//! Syslog has no answer to a message. What counts as one is the end of the connection: we say that we are done, and the
//! receiver must then say so too (RFC 5425 4.4), which it does once it has read everything before. That its machine
//! acknowledged the bytes is not enough: they may lie there unread, and be lost with the receiver.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::AtnaSettings;
use crate::clock::{UnixMillis, rfc3339};

/// Facility of security messages (RFC 5424 6.2.1), as PS3.15 A.6 asks.
const FACILITY: u8 = 10;
/// What the body is (PS3.15 A.6).
const MESSAGE_ID: &str = "DICOM+RFC3881";
/// From connection to greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For all messages of one connection to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// For the receiver to end the connection after us.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// The kernel gives up a connection whose other machine acknowledges nothing for so long: shorter than `END_TIMEOUT`,
/// so that a machine that is gone is told from a receiver that leaves the connection open.
const UNACKNOWLEDGED: Duration = Duration::from_secs(6);

/// A message with its header and length.
pub(super) struct Header<'a> {
    /// When.
    pub at_ms: UnixMillis,
    /// `EventOutcomeIndicator`
    pub outcome: u8,
    /// Name of the machine.
    pub node: &'a str,
    /// Name of the program.
    pub source: &'a str,
}

/// One message as it goes over the wire.
pub(super) fn frame(header: &Header<'_>, body: &str) -> Vec<u8> {
    // notice, warning or error (RFC 5424 6.2.1)
    let severity = match header.outcome {
        0 => 5,
        4 => 4,
        _ => 3,
    };
    let priority = FACILITY * 8 + severity;
    let (at, pid) = (rfc3339(header.at_ms), std::process::id());
    let (node, source) = (word(header.node, 255), word(header.source, 48));
    // the mark says that UTF-8 follows (RFC 5424 6.4)
    let message = format!("<{priority}>1 {at} {node} {source} {pid} {MESSAGE_ID} - \u{feff}{body}");
    format!("{} {message}", message.len()).into_bytes()
}

/// A word of the header: printable, without spaces (RFC 5424 6); "-" for none.
fn word(text: &str, most: usize) -> String {
    let word: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(most)
        .collect();
    if word.is_empty() { "-".into() } else { word }
}

/// Sends frames over a connection of their own, and waits until the receiver has them.
///
/// # Errors
/// In words; then any of them may have arrived, or none.
pub(super) async fn send(settings: &AtnaSettings, frames: &[u8]) -> Result<(), String> {
    let (config, name) = settings
        .toward()
        .connector("atna.", &settings.host)?
        .ok_or("TLS is off")?;
    let name = ServerName::try_from(name).map_err(|e| format!("atna.tls_name: {e}"))?;
    let host = settings.host.trim_matches(['[', ']']);
    let connecting = async {
        let stream = TcpStream::connect((host, settings.port))
            .await
            .map_err(|e| format!("could not reach it: {e}"))?;
        SockRef::from(&stream)
            .set_tcp_user_timeout(Some(UNACKNOWLEDGED))
            .map_err(|e| format!("could not set a limit: {e}"))?;
        let connector = TlsConnector::from(config);
        let shaken = connector.connect(name, stream).await;
        shaken.map_err(|e| format!("no TLS with it: {e}"))
    };
    let stream = in_time(CONNECT_TIMEOUT, "it did not answer", connecting).await?;
    deliver(stream, frames, END_TIMEOUT).await
}

async fn deliver(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    frames: &[u8],
    end_timeout: Duration,
) -> Result<(), String> {
    let (mut from, mut to) = tokio::io::split(stream);
    let broke = |e: io::Error| format!("the connection broke: {e}");
    let writing = async {
        to.write_all(frames).await.map_err(broke)?;
        to.flush().await.map_err(broke)
    };
    let early = async {
        match ended(&mut from).await {
            Ok(()) => "it ended the connection before it had everything".to_owned(),
            Err(e) => broke(e),
        }
    };
    let written = async {
        tokio::select! {
            biased;
            why = early => Err(why),
            written = writing => written,
        }
    };
    in_time(WRITE_TIMEOUT, "it takes nothing more", written).await?;
    to.shutdown().await.map_err(broke)?;
    let end = async { ended(&mut from).await.map_err(broke) };
    in_time(end_timeout, "it did not end the connection after us", end).await
}

/// Waits for the other side's end, and reads what it says before.
async fn ended(from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut said = [0; 256];
    loop {
        match from.read(&mut said).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // an end without TLS' own word for it
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

async fn in_time<T>(
    limit: Duration,
    late: &str,
    doing: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let done = tokio::time::timeout(limit, doing).await;
    done.map_err(|_| format!("{late} within {} s", limit.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_length_in_bytes() {
        let header = Header {
            at_ms: 1_795_680_000_123,
            outcome: 4,
            node: "mri 1",
            source: "",
        };
        let frame = String::from_utf8(frame(&header, "<ü/>")).unwrap();
        let (length, message) = frame.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        let pid = std::process::id();
        assert_eq!(
            message,
            format!("<84>1 2026-11-26T08:00:00.123Z mri1 - {pid} DICOM+RFC3881 - \u{feff}<ü/>")
        );
    }

    /// What the receiver does once it has read so much.
    enum Then {
        ReadsOnAndEnds,
        IsGone,
        Stays,
    }

    #[tokio::test]
    async fn only_an_end_after_everything_counts() {
        let check = async |reads: usize, then: Then, word: &str| {
            let (ours, mut theirs) = tokio::io::duplex(256);
            let (done, is_done) = tokio::sync::oneshot::channel::<()>();
            let peer = async move {
                let mut all = vec![0; reads];
                theirs.read_exact(&mut all).await.unwrap();
                match then {
                    Then::ReadsOnAndEnds => {
                        let mut rest = Vec::new();
                        theirs.read_to_end(&mut rest).await.unwrap();
                    }
                    Then::IsGone => {}
                    Then::Stays => assert!(is_done.await.is_ok()),
                }
            };
            let ours = async {
                let sent = deliver(ours, &[1; 1000], Duration::from_millis(50)).await;
                // nobody may wait for it any more
                let _ = done.send(());
                sent
            };
            let (sent, ()) = tokio::join!(ours, peer);
            match sent {
                Ok(()) => assert_eq!(word, ""),
                Err(why) => assert!(!word.is_empty() && why.contains(word), "{why}"),
            }
        };
        check(0, Then::ReadsOnAndEnds, "").await;
        check(100, Then::IsGone, "connection").await;
        // all is in what its machine keeps for it, and nobody knows whether it will be read
        check(800, Then::Stays, "did not end the connection").await;
        check(1000, Then::Stays, "did not end the connection").await;
    }
}
