//! What stands in front of each object in the log (pure).

use super::SegmentId;
use crate::dicom::receive::HEAD_BYTES;

const MAGIC: [u8; 8] = *b"FRobject";
/// Longest AE title and transfer syntax UID, in bytes.
const TEXT_BYTES_MAX: usize = 64;
const AE_AT: usize = 46;
const SYNTAX_AT: usize = AE_AT + TEXT_BYTES_MAX;
const CHECKSUM_AT: usize = HEAD_BYTES - 4;

/// The head of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Length of the PS3.10 file that follows.
    pub file_bytes: u32,
    /// How many of them stand before the data set.
    pub meta_bytes: u32,
    /// CRC-32 of the file.
    pub checksum: u32,
    /// When it was received.
    pub received_at: i64,
    /// Who sent it; cut to 64 bytes.
    pub calling_ae: String,
    /// (0002,0010)
    pub transfer_syntax_uid: String,
}

impl Head {
    /// Writes it.
    pub fn write(&self, segment: SegmentId, into: &mut [u8]) {
        let Some(head) = into.first_chunk_mut::<HEAD_BYTES>() else {
            return;
        };
        head.fill(0);
        head[..8].copy_from_slice(&MAGIC);
        head[8..24].copy_from_slice(&segment);
        head[24..28].copy_from_slice(&self.file_bytes.to_le_bytes());
        head[28..32].copy_from_slice(&self.meta_bytes.to_le_bytes());
        head[32..36].copy_from_slice(&self.checksum.to_le_bytes());
        head[36..44].copy_from_slice(&self.received_at.to_le_bytes());
        head[44] = put_text(&self.calling_ae, &mut head[AE_AT..SYNTAX_AT]);
        head[45] = put_text(
            &self.transfer_syntax_uid,
            &mut head[SYNTAX_AT..][..TEXT_BYTES_MAX],
        );
        let checksum = crc32fast::hash(&head[..CHECKSUM_AT]);
        head[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads one, if there is one of this segment.
    #[must_use]
    pub fn read(bytes: &[u8], segment: SegmentId) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        if head[..8] != MAGIC || head[8..24] != segment {
            return None;
        }
        if number::<4, u32>(head, CHECKSUM_AT, u32::from_le_bytes)
            != crc32fast::hash(&head[..CHECKSUM_AT])
        {
            return None;
        }
        Some(Self {
            file_bytes: number(head, 24, u32::from_le_bytes),
            meta_bytes: number(head, 28, u32::from_le_bytes),
            checksum: number(head, 32, u32::from_le_bytes),
            received_at: number(head, 36, i64::from_le_bytes),
            calling_ae: text(&head[AE_AT..SYNTAX_AT], head[44])?,
            transfer_syntax_uid: text(&head[SYNTAX_AT..][..TEXT_BYTES_MAX], head[45])?,
        })
    }
}

fn number<const N: usize, T>(head: &[u8; HEAD_BYTES], at: usize, read: fn([u8; N]) -> T) -> T {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[at..at + N]);
    read(bytes)
}

fn put_text(text: &str, into: &mut [u8]) -> u8 {
    let text = crate::dicom::guard::cut(text.to_owned(), TEXT_BYTES_MAX);
    into[..text.len()].copy_from_slice(text.as_bytes());
    u8::try_from(text.len()).unwrap_or(0)
}

fn text(bytes: &[u8], length: u8) -> Option<String> {
    let bytes = bytes.get(..usize::from(length))?;
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            file_bytes: 132_270,
            meta_bytes: 360,
            checksum: 0xDEAD_BEEF,
            received_at: 1_700_000_000_123,
            calling_ae: "MR1".into(),
            transfer_syntax_uid: "1.2.840.10008.1.2.1".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = [0xFF; HEAD_BYTES];
        head().write([7; 16], &mut bytes);
        assert_eq!(Head::read(&bytes, [7; 16]), Some(head()));
        let long = Head {
            calling_ae: "ä".repeat(60),
            ..head()
        };
        long.write([7; 16], &mut bytes);
        let read = Head::read(&bytes, [7; 16]).unwrap();
        assert_eq!(read.calling_ae, "ä".repeat(32), "cut between characters");
    }

    #[test]
    fn nothing_else_is_taken_for_a_head() {
        let mut bytes = [0; HEAD_BYTES];
        head().write([7; 16], &mut bytes);
        assert_eq!(Head::read(&bytes, [8; 16]), None, "of another life");
        assert_eq!(Head::read(&bytes[..HEAD_BYTES - 1], [7; 16]), None);
        for at in [0, 9, 25, 29, 33, 40, 44, 45, 50, 120, HEAD_BYTES - 1] {
            let mut torn = bytes;
            torn[at] ^= 0x10;
            assert_eq!(Head::read(&torn, [7; 16]), None, "byte {at}");
        }
    }
}
