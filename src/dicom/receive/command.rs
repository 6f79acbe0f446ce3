//! DIMSE command sets (PS3.7 Annex E): always implicit VR little endian, group 0000.

use crate::dicom::guard;

use super::status::Answer;

/// Longest command set we collect, in bytes. A C-STORE-RQ has about 200.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// C-STORE-RQ.
pub const STORE: u16 = 0x0001;
/// N-EVENT-REPORT-RQ.
pub const EVENT_REPORT: u16 = 0x0100;
/// C-ECHO-RQ.
pub const ECHO: u16 = 0x0030;
/// C-CANCEL-RQ; never answered.
pub const CANCEL: u16 = 0x0FFF;
/// Set in every response.
const RESPONSE: u16 = 0x8000;
/// Command Data Set Type: none follows.
const NO_DATA_SET: u16 = 0x0101;

/// A request, as far as we read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// (0000,0100) Command Field
    pub field: u16,
    /// (0000,0110) Message ID; for C-CANCEL that of the request to cancel
    pub message_id: u16,
    /// (0000,0002) Affected SOP Class UID, or (0000,0003) Requested; as sent, bounded
    pub sop_class: Vec<u8>,
    /// (0000,1000) Affected SOP Instance UID, or (0000,1001) Requested; as sent, bounded
    pub sop_instance: Vec<u8>,
    /// (0000,1002) Event Type ID
    pub event_type: Option<u16>,
    /// Whether a data set follows, by (0000,0800)
    pub has_data_set: bool,
}

/// Why a command set is none. The association cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// An element runs past the end.
    #[error("command set cut short")]
    CutShort,
    /// An element outside of group 0000.
    #[error("foreign element in a command set")]
    ForeignGroup,
    /// An element without which no answer is possible.
    #[error("command set without {0}")]
    Missing(&'static str),
    /// A response, and we never ask.
    #[error("a response that was not asked for")]
    Response,
}

impl Request {
    /// Reads a complete command set.
    ///
    /// # Errors
    /// When it is malformed, or cannot be answered.
    pub fn read(mut rest: &[u8]) -> Result<Self, BadCommand> {
        let mut request = Self::default();
        let (mut field, mut message_id, mut data_set_type) = (None, None, None);
        while !rest.is_empty() {
            let (element, value, after) = split_element(rest)?;
            rest = after;
            match element {
                0x0100 => field = us(value),
                0x0110 | 0x0120 => message_id = us(value),
                0x0800 => data_set_type = us(value),
                0x0002 | 0x0003 => request.sop_class = bounded(value),
                0x1002 => request.event_type = us(value),
                0x1000 | 0x1001 => request.sop_instance = bounded(value),
                _ => {}
            }
        }
        request.field = field.ok_or(BadCommand::Missing("a command field"))?;
        if request.field & RESPONSE != 0 {
            return Err(BadCommand::Response);
        }
        request.message_id = message_id.ok_or(BadCommand::Missing("a message id"))?;
        request.has_data_set =
            data_set_type.ok_or(BadCommand::Missing("a data set type"))? != NO_DATA_SET;
        Ok(request)
    }

    /// The command set that answers this request.
    #[must_use]
    pub fn response(&self, answer: &Answer) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        if !self.sop_class.is_empty() {
            put(&mut body, 0x0002, &self.sop_class, 0);
        }
        put(&mut body, 0x0100, &(self.field | RESPONSE).to_le_bytes(), 0);
        put(&mut body, 0x0120, &self.message_id.to_le_bytes(), 0);
        put(&mut body, 0x0800, &NO_DATA_SET.to_le_bytes(), 0);
        put(&mut body, 0x0900, &answer.status.to_le_bytes(), 0);
        if let Some(comment) = &answer.comment {
            put(&mut body, 0x0902, guard::comment(comment).as_bytes(), b' ');
        }
        if !self.sop_instance.is_empty() {
            put(&mut body, 0x1000, &self.sop_instance, 0);
        }
        if let Some(event) = self.event_type {
            put(&mut body, 0x1002, &event.to_le_bytes(), 0);
        }
        let mut command = Vec::with_capacity(body.len() + 12);
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        put(&mut command, 0x0000, &length.to_le_bytes(), 0);
        command.extend_from_slice(&body);
        command
    }
}

/// Element number, value and what is behind it.
pub(in crate::dicom) fn split_element(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), BadCommand> {
    let (header, rest) = bytes.split_first_chunk::<8>().ok_or(BadCommand::CutShort)?;
    let [g0, g1, e0, e1, l0, l1, l2, l3] = *header;
    if [g0, g1] != [0, 0] {
        return Err(BadCommand::ForeignGroup);
    }
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let (value, rest) = rest.split_at_checked(length).ok_or(BadCommand::CutShort)?;
    Ok((u16::from_le_bytes([e0, e1]), value, rest))
}

pub(in crate::dicom) fn us(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

/// Long enough to see that a UID is too long, short enough to send back.
fn bounded(value: &[u8]) -> Vec<u8> {
    let end = value
        .iter()
        .rposition(|b| !matches!(b, 0 | b' '))
        .map_or(0, |last| last + 1);
    value[..end.min(guard::UID_CHARS_MAX + 2)].to_vec()
}

pub(in crate::dicom) fn put(command: &mut Vec<u8>, element: u16, value: &[u8], padding: u8) {
    let odd = value.len() % 2;
    let length = u32::try_from(value.len() + odd).unwrap_or(u32::MAX);
    command.extend_from_slice(&[0, 0]);
    command.extend_from_slice(&element.to_le_bytes());
    command.extend_from_slice(&length.to_le_bytes());
    command.extend_from_slice(value);
    command.extend(std::iter::repeat_n(padding, odd));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Vec<u8> {
        let mut command = Vec::new();
        put(&mut command, 0x0000, &[0; 4], 0);
        put(&mut command, 0x0002, b"1.2.840.10008.5.1.4.1.1.4", 0);
        put(&mut command, 0x0100, &STORE.to_le_bytes(), 0);
        put(&mut command, 0x0110, &7u16.to_le_bytes(), 0);
        put(&mut command, 0x0800, &1u16.to_le_bytes(), 0);
        put(&mut command, 0x1000, b"1.2.3", 0);
        command
    }

    #[test]
    fn reads_a_store_request() {
        let request = Request::read(&store()).unwrap();
        assert_eq!(request.field, STORE);
        assert_eq!(request.message_id, 7);
        assert_eq!(request.sop_class, b"1.2.840.10008.5.1.4.1.1.4");
        assert_eq!(request.sop_instance, b"1.2.3");
        assert!(request.has_data_set);
    }

    #[test]
    fn a_response_fits_its_request() {
        let request = Request::read(&store()).unwrap();
        let response = request.response(&Answer::out_of_resources("disk full"));
        let mut rest = response.as_slice();
        let mut elements = Vec::new();
        while !rest.is_empty() {
            let (element, value, after) = split_element(rest).unwrap();
            assert!(value.len().is_multiple_of(2));
            elements.push((element, value.to_vec()));
            rest = after;
        }
        let numbers: Vec<u16> = elements.iter().map(|(element, _)| *element).collect();
        assert_eq!(numbers, [0, 2, 0x100, 0x120, 0x800, 0x900, 0x902, 0x1000]);
        assert_eq!(us(&elements[2].1), Some(0x8001));
        assert_eq!(us(&elements[3].1), Some(7));
        assert_eq!(us(&elements[5].1), Some(0xA700));
        assert_eq!(elements[6].1, b"disk full ");
        let length = u32::from_le_bytes(*elements[0].1.first_chunk().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), response.len() - 12);
    }

    #[test]
    fn malformed_commands_are_refused() {
        let whole = store();
        for end in 1..whole.len() {
            // every prefix is an error; none panics
            assert!(Request::read(&whole[..end]).is_err() || end >= 12);
        }
        assert_eq!(
            Request::read(&[]),
            Err(BadCommand::Missing("a command field"))
        );
        let mut huge = whole.clone();
        huge[4..8].copy_from_slice(&[0xFF; 4]);
        assert_eq!(Request::read(&huge), Err(BadCommand::CutShort));
        let mut foreign = whole.clone();
        foreign[0] = 8;
        assert_eq!(Request::read(&foreign), Err(BadCommand::ForeignGroup));
        let mut response = Vec::new();
        put(&mut response, 0x0100, &0x8001u16.to_le_bytes(), 0);
        assert_eq!(Request::read(&response), Err(BadCommand::Response));
    }
}
