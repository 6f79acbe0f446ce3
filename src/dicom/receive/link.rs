//! PDUs of an established association, read without delay and without trust.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use dicom_ul::association::{Association as _, AsyncAssociation as _, AsyncServerAssociation};
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, PDU_HEADER_SIZE, PDataValue, PDataValueType, Pdu,
    PresentationContextNegotiated,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How much is asked of the socket at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// What came over the association.
#[derive(Debug)]
pub enum Received {
    /// P-DATA-TF: its PDVs, see [`Pdvs`].
    Data(Bytes),
    /// A-RELEASE-RQ
    Release,
    /// A-ABORT
    Abort,
    /// Anything that has no place here.
    Unexpected,
}

/// Why nothing comes any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer is gone.
    #[error("connection closed by the peer")]
    Closed,
    /// The socket failed.
    #[error("connection lost")]
    Lost(#[source] io::Error),
    /// A PDU over the limit we announced.
    #[error("a PDU of {0} bytes")]
    TooLarge(u32),
    /// An answer could not be sent.
    #[error("answer not delivered")]
    NotSent,
}

/// An association, in the clear or by TLS.
pub enum Wire {
    Plain(Box<AsyncServerAssociation<TcpStream>>),
    Tls(Box<AsyncServerAssociation<TlsStream<TcpStream>>>),
}

/// The same with either.
macro_rules! with {
    ($wire:expr, $association:ident => $what:expr) => {
        match $wire {
            Wire::Plain($association) => $what,
            Wire::Tls($association) => $what,
        }
    };
}

/// An association's wire.
pub struct Link {
    wire: Wire,
    pdu_bytes_max: u32,
}

impl Link {
    pub fn new(wire: Wire) -> Self {
        let pdu_bytes_max = with!(&wire, a => a.acceptor_max_pdu_length());
        Self {
            wire,
            pdu_bytes_max,
        }
    }

    /// What was agreed on.
    pub fn contexts(&self) -> &[PresentationContextNegotiated] {
        with!(&self.wire, a => a.presentation_contexts())
    }

    /// The AE title that the peer gave.
    pub fn peer_ae_title(&self) -> &str {
        with!(&self.wire, a => a.peer_ae_title())
    }

    /// Whether it is by TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }

    /// Waits for the next PDU. Can be dropped and called again without losing bytes.
    pub async fn next(&mut self) -> Result<Received, LinkError> {
        match &mut self.wire {
            Wire::Plain(association) => {
                let (stream, buffer) = association.get_mut();
                read_pdu(&mut Prompt(stream), buffer, self.pdu_bytes_max).await
            }
            Wire::Tls(association) => {
                let (stream, buffer) = association.get_mut();
                read_pdu(&mut Prompt(stream), buffer, self.pdu_bytes_max).await
            }
        }
    }

    /// Sends a command set in one PDU.
    pub async fn send_command(&mut self, context: u8, command: Vec<u8>) -> Result<(), LinkError> {
        let pdu = Pdu::PData {
            data: vec![PDataValue {
                presentation_context_id: context,
                value_type: PDataValueType::Command,
                is_last: true,
                data: command,
            }],
        };
        self.send(&pdu).await
    }

    /// Answers a release and closes.
    pub async fn release(mut self) -> Result<(), LinkError> {
        self.send(&Pdu::ReleaseRP).await?;
        self.close().await
    }

    /// Tells the peer that it is over, and closes.
    pub async fn abort(mut self, reason: AbortRQServiceProviderReason) -> Result<(), LinkError> {
        let source = AbortRQSource::ServiceProvider(reason);
        self.send(&Pdu::AbortRQ { source }).await?;
        self.close().await
    }

    async fn send(&mut self, pdu: &Pdu) -> Result<(), LinkError> {
        let sent = with!(&mut self.wire, a => a.send(pdu).await);
        sent.map_err(|_| LinkError::NotSent)
    }

    async fn close(&mut self) -> Result<(), LinkError> {
        let closed = with!(&mut self.wire, a => a.inner_stream().shutdown().await);
        closed.map_err(LinkError::Lost)
    }
}

/// Reads until a PDU is complete.
async fn read_pdu<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    pdu_bytes_max: u32,
) -> Result<Received, LinkError> {
    loop {
        if let Some(pdu) = take_pdu(buffer, pdu_bytes_max)? {
            return Ok(pdu);
        }
        buffer.reserve(READ_BYTES);
        match stream.read_buf(buffer).await {
            Ok(0) => return Err(LinkError::Closed),
            Ok(_) => {}
            // many end TLS by closing the connection
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(LinkError::Closed);
            }
            Err(error) => return Err(LinkError::Lost(error)),
        }
    }
}

/// Takes a complete PDU off the front of the buffer.
fn take_pdu(buffer: &mut BytesMut, pdu_bytes_max: u32) -> Result<Option<Received>, LinkError> {
    const HEADER: usize = PDU_HEADER_SIZE as usize;
    let Some(&[kind, _, l0, l1, l2, l3]) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if length > pdu_bytes_max {
        return Err(LinkError::TooLarge(length));
    }
    let whole = HEADER + usize::try_from(length).unwrap_or(usize::MAX);
    if buffer.len() < whole {
        return Ok(None);
    }
    let mut pdu = buffer.split_to(whole).freeze();
    Ok(Some(match kind {
        0x04 => Received::Data(pdu.split_off(HEADER)),
        0x05 => Received::Release,
        0x07 => Received::Abort,
        _ => Received::Unexpected,
    }))
}

/// A presentation data value (PS3.8 9.3.5.1).
#[derive(Debug, PartialEq, Eq)]
pub struct Pdv<'a> {
    pub context: u8,
    pub is_command: bool,
    pub is_last: bool,
    pub bytes: &'a [u8],
}

/// The values of one P-DATA-TF; `Err` once, at a malformed one.
pub struct Pdvs<'a>(pub &'a [u8]);

/// A PDV that runs past its PDU, or has no header.
#[derive(Debug, PartialEq, Eq)]
pub struct MalformedPdv;

impl<'a> Iterator for Pdvs<'a> {
    type Item = Result<Pdv<'a>, MalformedPdv>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let pdv = split_pdv(self.0);
        self.0 = pdv.as_ref().map_or(&[], |(_, rest)| rest);
        Some(pdv.map(|(pdv, _)| pdv).ok_or(MalformedPdv))
    }
}

fn split_pdv(bytes: &[u8]) -> Option<(Pdv<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (item, rest) = rest.split_at_checked(length)?;
    let (&[context, control], bytes) = item.split_first_chunk::<2>()?;
    let pdv = Pdv {
        context,
        is_command: control & 1 != 0,
        is_last: control & 2 != 0,
        bytes,
    };
    Some((pdv, rest))
}

/// Acknowledges at once whatever arrives.
///
/// Scanners and dcmtk leave Nagle's algorithm on and write a PDU in two pieces: the second
/// waits for the acknowledgement of the first, which Linux delays by 40 ms. That makes 20
/// objects a second. `TCP_QUICKACK` does not last, so it is set again before each read.
struct Prompt<'a, S>(&'a mut S);

/// What has a TCP connection under it.
trait OverTcp {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl<S: OverTcp + AsyncRead + Unpin> AsyncRead for Prompt<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut *self.get_mut().0;
        acknowledge_at_once(stream.tcp());
        Pin::new(stream).poll_read(cx, buf)
    }
}

/// Sets `TCP_QUICKACK`, where there is such a thing.
pub fn acknowledge_at_once(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pdvs_are_taken_apart() {
        let bytes = [0, 0, 0, 3, 1, 3, 0xAA, 0, 0, 0, 2, 5, 0];
        let pdvs: Vec<_> = Pdvs(&bytes).collect();
        assert_eq!(
            pdvs,
            [
                Ok(Pdv {
                    context: 1,
                    is_command: true,
                    is_last: true,
                    bytes: &[0xAA]
                }),
                Ok(Pdv {
                    context: 5,
                    is_command: false,
                    is_last: false,
                    bytes: &[]
                }),
            ]
        );
    }

    #[test]
    fn malformed_pdvs_end_the_list() {
        for bytes in [
            &[0, 0, 0][..],
            &[0, 0, 0, 1, 1],
            &[0, 0, 0, 9, 1, 3],
            &[0xFF; 6],
        ] {
            assert_eq!(Pdvs(bytes).collect::<Vec<_>>(), [Err(MalformedPdv)]);
        }
    }

    #[test]
    fn pdus_are_bounded() {
        let mut buffer = BytesMut::from(&[4, 0, 0, 0, 0, 9][..]);
        assert!(matches!(take_pdu(&mut buffer, 9), Ok(None)));
        assert!(matches!(
            take_pdu(&mut buffer, 8),
            Err(LinkError::TooLarge(9))
        ));
        let mut buffer = BytesMut::from(&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0, 7][..]);
        assert!(matches!(
            take_pdu(&mut buffer, 9),
            Ok(Some(Received::Release))
        ));
        assert_eq!(&buffer[..], [7]);
    }
}
