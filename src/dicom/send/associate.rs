//! An association that we ask for, and DIMSE messages on it (PS3.7, PS3.8).

use std::time::Duration;

use dicom_dictionary_std::uids;
use dicom_ul::association::client::ClientAssociationOptions;
use dicom_ul::association::{AsyncClientAssociation, Error};
use dicom_ul::pdu::{
    PDataValue, PDataValueType, Pdu, PresentationContextNegotiated, PresentationContextResultReason,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{DestinationSettings, SendError};
use crate::dicom::guard;
use crate::dicom::receive::command::{COMMAND_BYTES_MAX, put, split_element, us};

/// Largest PDU that we accept, in bytes.
const PDU_BYTES_MAX: u32 = 65_536;
/// What stands before the bytes of a PDV (PS3.8 9.3.5.1), with room for the library's way of counting.
const PDV_HEADER_BYTES: usize = 16;
/// A peer that takes less at a time is none (PS3.8 D.1.1).
const PART_BYTES_MIN: usize = 512;
/// Longest data set of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long a peer may take to close its side.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// Command Data Set Type: none follows; anything else says that one does (PS3.7 E.1).
const NO_DATA_SET: u16 = 0x0101;
const DATA_SET: u16 = 0x0001;

/// An association, in the clear or by TLS.
enum Wire {
    Plain(Box<AsyncClientAssociation<TcpStream>>),
    Tls(Box<AsyncClientAssociation<TlsStream<TcpStream>>>),
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

/// An established association.
pub(in crate::dicom) struct Link {
    wire: Wire,
    answer_timeout: Duration,
}

/// A message of the peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::dicom) struct Message {
    /// (0000,0100)
    pub field: u16,
    /// (0000,0110) of a request, (0000,0120) of a response
    pub id: u16,
    /// (0000,0900); none in a request
    pub status: Option<u16>,
    /// (0000,0902), made safe
    pub comment: String,
    /// (0000,0002) as sent
    pub sop_class: Vec<u8>,
    /// (0000,1000) as sent
    pub sop_instance: Vec<u8>,
    /// (0000,1002)
    pub event: Option<u16>,
    /// (0000,1021): images that a retrieval sent.
    pub completed: Option<u16>,
    /// (0000,1022): images that it could not send.
    pub failed: Option<u16>,
    /// Its data set, in the context's transfer syntax.
    pub data_set: Vec<u8>,
    /// Presentation context it came in.
    pub context: u8,
}

impl Link {
    /// Asks for an association with one presentation context.
    pub async fn open(
        to: &DestinationSettings,
        calling_ae: &str,
        abstract_syntax: &'static str,
    ) -> Result<Self, SendError> {
        let options = ClientAssociationOptions::new()
            .calling_ae_title(calling_ae.to_owned())
            .called_ae_title(to.ae_title.clone())
            .max_pdu_length(PDU_BYTES_MAX)
            .strict(true)
            .with_presentation_context(
                abstract_syntax,
                vec![
                    uids::EXPLICIT_VR_LITTLE_ENDIAN,
                    uids::IMPLICIT_VR_LITTLE_ENDIAN,
                ],
            );
        let limit = Duration::from_secs(to.connect_timeout_seconds);
        let at = (to.host.clone(), to.port);
        let tls = to.connector().map_err(SendError::Unreachable)?;
        let asking = async {
            let wire = match tls {
                None => {
                    let mut plain = options.establish_async(at).await?;
                    let _ = plain.inner_stream().set_nodelay(true);
                    Wire::Plain(Box::new(plain))
                }
                Some((config, name)) => {
                    let options = options.tls_config(config).server_name(&name);
                    let mut tls = options.establish_tls_async(at).await?;
                    let _ = tls.inner_stream().get_ref().0.set_nodelay(true);
                    Wire::Tls(Box::new(tls))
                }
            };
            Ok(wire)
        };
        let wire = match tokio::time::timeout(limit, asking).await {
            Err(_) => {
                let seconds = to.connect_timeout_seconds;
                let why = format!("{}: no answer within {seconds} s", to.reached());
                return Err(SendError::Unreachable(why));
            }
            Ok(Err(error)) => return Err(describe(to, &error)),
            Ok(Ok(wire)) => wire,
        };
        Ok(Self {
            wire,
            answer_timeout: Duration::from_secs(to.answer_timeout_seconds),
        })
    }

    /// The one context, where the peer accepted it.
    pub fn context(&self) -> Option<&PresentationContextNegotiated> {
        let contexts = with!(&self.wire, a => a.presentation_contexts());
        contexts
            .iter()
            .find(|c| c.reason == PresentationContextResultReason::Acceptance)
    }

    /// Sends a command set, and the data set that it announces.
    pub async fn send(
        &mut self,
        context: u8,
        command: Vec<u8>,
        data_set: Option<&[u8]>,
    ) -> Result<(), SendError> {
        let limit = self.answer_timeout;
        let sending = async {
            // Not the library's writer: its drop blocks, and panics where there is one thread only.
            let taken = with!(&self.wire, a => a.acceptor_max_pdu_length());
            let most = match usize::try_from(taken).unwrap_or(0) {
                0 => PDU_BYTES_MAX as usize,
                taken => taken.min(PDU_BYTES_MAX as usize),
            };
            let part = most.saturating_sub(PDV_HEADER_BYTES).max(PART_BYTES_MIN);
            let mut parts = vec![(PDataValueType::Command, command.as_slice(), true)];
            let chunks = data_set.unwrap_or_default().chunks(part);
            let last = chunks.len();
            parts.extend(
                (1..)
                    .zip(chunks)
                    .map(|(n, c)| (PDataValueType::Data, c, n == last)),
            );
            for (value_type, bytes, is_last) in parts {
                let pdu = Pdu::PData {
                    data: vec![PDataValue {
                        presentation_context_id: context,
                        value_type,
                        is_last,
                        data: bytes.to_vec(),
                    }],
                };
                let sent = with!(&mut self.wire, a => a.send(&pdu).await);
                sent.map_err(|_| broken("the object could not be sent"))?;
            }
            Ok(())
        };
        tokio::time::timeout(limit, sending)
            .await
            .unwrap_or_else(|_| Err(broken("the peer did not take the object in time")))
    }

    /// Waits for a whole message.
    pub async fn receive(&mut self) -> Result<Message, SendError> {
        let limit = self.answer_timeout;
        self.receive_within(limit).await
    }

    /// [`Link::receive`] with another limit.
    pub async fn receive_within(&mut self, limit: Duration) -> Result<Message, SendError> {
        let mut command = Vec::new();
        let mut message: Option<Message> = None;
        let mut data_set = Vec::new();
        let receiving = async {
            loop {
                let pdu = with!(&mut self.wire, a => a.receive().await);
                let pdu = pdu.map_err(|_| broken("the peer closed the connection"))?;
                let Pdu::PData { data } = pdu else {
                    return Err(broken(match pdu {
                        Pdu::AbortRQ { .. } => "the peer aborted",
                        _ => "the peer sent something unexpected",
                    }));
                };
                for value in data {
                    let (part, bytes_max) = match value.value_type {
                        PDataValueType::Command => (&mut command, COMMAND_BYTES_MAX),
                        PDataValueType::Data => (&mut data_set, ANSWER_BYTES_MAX),
                    };
                    part.extend_from_slice(&value.data);
                    if part.len() > bytes_max {
                        return Err(broken("the peer's answer is too long"));
                    }
                    if !value.is_last {
                        continue;
                    }
                    if value.value_type == PDataValueType::Data {
                        if let Some(mut whole) = message.take() {
                            whole.data_set = std::mem::take(&mut data_set);
                            return Ok(whole);
                        }
                        return Err(broken("the peer sent data without a command"));
                    }
                    let (mut read, has_data) = read_message(&command)?;
                    read.context = value.presentation_context_id;
                    command.clear();
                    if !has_data {
                        return Ok(read);
                    }
                    message = Some(read);
                }
            }
        };
        tokio::time::timeout(limit, receiving)
            .await
            .unwrap_or_else(|_| Err(broken("the peer did not answer in time")))
    }

    /// Ends the association; what was answered counts, however this goes.
    pub async fn close(self) {
        let released = async { with!(self.wire, a => a.release().await) };
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, released).await;
    }
}

fn broken(why: &str) -> SendError {
    SendError::BrokenOff(why.to_owned())
}

/// In our words: the library's own may quote the whole exchange.
fn describe(to: &DestinationSettings, error: &Error) -> SendError {
    match error {
        Error::Rejected { association_rj, .. } => {
            SendError::Rejected(format!("{:?}", association_rj.source))
        }
        Error::NoAcceptedPresentationContexts { .. } => SendError::NotTaken("this kind of object"),
        Error::Connect { source, .. } | Error::ToAddress { source, .. } => {
            SendError::Unreachable(format!("{}: {source}", to.reached()))
        }
        Error::TlsHandshake { source, .. } => {
            SendError::Unreachable(format!("{}: no TLS: {source}", to.reached()))
        }
        Error::TlsNotSupported => {
            SendError::Unreachable(format!("{}: it speaks TLS alone: set tls", to.reached()))
        }
        Error::Aborted { .. } => SendError::BrokenOff("the peer aborted".into()),
        _ => SendError::BrokenOff(format!("{} did not associate", to.reached())),
    }
}

/// A command set of elements of group 0000; the group length is put before them.
pub(in crate::dicom) fn command(elements: &[(u16, &[u8])], has_data_set: bool) -> Vec<u8> {
    let mut all: Vec<(u16, Vec<u8>)> = elements.iter().map(|(e, v)| (*e, v.to_vec())).collect();
    let kind = if has_data_set { DATA_SET } else { NO_DATA_SET };
    all.push((0x0800, kind.to_le_bytes().to_vec()));
    all.sort_by_key(|(element, _)| *element);
    let mut body = Vec::with_capacity(256);
    for (element, value) in &all {
        put(&mut body, *element, value, 0);
    }
    let mut whole = Vec::with_capacity(body.len() + 12);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    put(&mut whole, 0x0000, &length.to_le_bytes(), 0);
    whole.extend_from_slice(&body);
    whole
}

/// Reads a command set; whether a data set follows.
fn read_message(mut rest: &[u8]) -> Result<(Message, bool), SendError> {
    let bad = || broken("the peer's answer cannot be read");
    let mut message = Message::default();
    let (mut field, mut kind) = (None, None);
    while !rest.is_empty() {
        let (element, value, after) = split_element(rest).map_err(|_| bad())?;
        rest = after;
        let trimmed = || value.trim_ascii_end().iter().copied().filter(|b| *b != 0);
        match element {
            0x0002 => message.sop_class = trimmed().collect(),
            0x0100 => field = us(value),
            0x0110 | 0x0120 => message.id = us(value).unwrap_or(0),
            0x0800 => kind = us(value),
            0x0900 => message.status = us(value),
            0x0902 => {
                let text = String::from_utf8_lossy(value);
                message.comment = guard::comment(text.trim_matches(['\0', ' ']));
            }
            0x1000 => message.sop_instance = trimmed().collect(),
            0x1002 => message.event = us(value),
            0x1021 => message.completed = us(value),
            0x1022 => message.failed = us(value),
            _ => {}
        }
    }
    message.field = field.ok_or_else(bad)?;
    let has_data = kind.ok_or_else(bad)? != NO_DATA_SET;
    Ok((message, has_data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_back() {
        let bytes = command(
            &[
                (0x0100, &0x8001_u16.to_le_bytes()),
                (0x0002, b"1.2.3"),
                (0x0120, &7_u16.to_le_bytes()),
                (0x0900, &0xA700_u16.to_le_bytes()),
                (0x0902, b"disk full"),
                (0x1000, b"1.2.3.4"),
            ],
            false,
        );
        let (message, has_data) = read_message(&bytes).unwrap();
        assert!(!has_data);
        assert_eq!(message.status, Some(0xA700));
        assert_eq!(message.field, 0x8001);
        assert_eq!(message.id, 7);
        assert_eq!(message.sop_class, b"1.2.3");
        assert_eq!(message.sop_instance, b"1.2.3.4");
        assert_eq!(message.comment.trim(), "disk full");
    }

    #[test]
    fn a_malformed_answer_is_an_error() {
        let whole = command(&[(0x0100, &0x8001_u16.to_le_bytes())], true);
        for end in 0..whole.len() {
            // no prefix panics; most are errors
            let _ = read_message(&whole[..end]);
        }
        assert!(read_message(&[0xFF; 40]).is_err());
        assert!(read_message(&[]).is_err());
        assert!(read_message(&whole).unwrap().1);
    }
}
