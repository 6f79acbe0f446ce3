//! One answer to a query: the values of its top level, as text.

use std::collections::HashMap;
use std::io::Cursor;

use dicom_core::Tag;

use crate::dicom::charset::{CharacterSet, Kind};
use crate::dicom::guard;
use crate::dicom::walk::{Encoding, Value, Visitor, walk};

/// Longest text that is kept, bytes.
const TEXT_BYTES_MAX: usize = 1024;
const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// The values of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer(HashMap<Tag, Vec<u8>>);

impl Visitor for Answer {
    fn wants(&self, path: &[Tag], tag: Tag) -> bool {
        path.is_empty() && matches!(tag.0, 0x0008 | 0x0010 | 0x0018 | 0x0020)
    }

    fn value(&mut self, _: &[Tag], tag: Tag, value: Value<'_>) {
        self.0.insert(tag, value.bytes.to_vec());
    }

    fn pixel_data(&mut self) {}
}

impl Answer {
    /// `None` for what is no sound data set.
    pub fn read(bytes: &[u8], transfer_syntax_uid: &str) -> Option<Self> {
        let encoding = Encoding::of(transfer_syntax_uid.trim_end_matches('\0'));
        let mut answer = Self::default();
        let length = u64::try_from(bytes.len()).ok()?;
        walk(Cursor::new(bytes), length, encoding, &mut answer).ok()?;
        Some(answer)
    }

    /// Empty where there is none.
    pub fn text(&self, tag: Tag) -> String {
        let set = self.0.get(&CHARACTER_SET);
        let set = CharacterSet::declared(set.map_or(&[][..], Vec::as_slice));
        let raw = self.0.get(&tag).map(|bytes| set.decode(bytes, Kind::Text));
        let text = raw.unwrap_or_default();
        let trimmed = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        let printable = trimmed
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c });
        guard::cut(printable.collect(), TEXT_BYTES_MAX)
    }

    /// `None` where there is none.
    pub fn known(&self, tag: Tag) -> Option<String> {
        Some(self.text(tag)).filter(|text| !text.is_empty())
    }

    /// The parts of several values.
    pub fn list(&self, tag: Tag) -> Vec<String> {
        let text = self.text(tag);
        let parts = text.split('\\').map(str::trim);
        parts.filter(|p| !p.is_empty()).map(str::to_owned).collect()
    }

    /// A sound UID.
    pub fn uid(&self, tag: Tag) -> Option<String> {
        guard::uid(self.0.get(&tag)?).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPLICIT: &str = "1.2.840.10008.1.2";

    fn element(tag: (u16, u16), value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&tag.0.to_le_bytes());
        bytes.extend_from_slice(&tag.1.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(value);
        bytes
    }

    #[test]
    fn values_are_read_as_text() {
        let mut bytes = element((0x0008, 0x0005), b"ISO_IR 100");
        bytes.extend(element((0x0008, 0x0061), b"MR\\ SR \\"));
        bytes.extend(element((0x0008, 0x1030), b"Sch\xe4del "));
        bytes.extend(element((0x0020, 0x000D), b"1.2.3\0"));
        let answer = Answer::read(&bytes, IMPLICIT).unwrap();
        assert_eq!(answer.text(Tag(0x0008, 0x1030)), "Schädel");
        assert_eq!(answer.list(Tag(0x0008, 0x0061)), ["MR", "SR"]);
        assert_eq!(answer.uid(Tag(0x0020, 0x000D)).as_deref(), Some("1.2.3"));
        assert_eq!(answer.known(Tag(0x0010, 0x0020)), None);
    }

    #[test]
    fn what_is_no_data_set_is_no_answer() {
        let whole = element((0x0020, 0x000D), b"../etc/passwd.");
        assert_eq!(
            Answer::read(&whole, IMPLICIT)
                .unwrap()
                .uid(Tag(0x0020, 0x000D)),
            None
        );
        for end in 1..whole.len() {
            assert!(Answer::read(&whole[..end], IMPLICIT).is_none(), "{end}");
        }
        assert!(Answer::read(&[0xFF; 64], IMPLICIT).is_none());
        assert!(Answer::read(&[], IMPLICIT).is_none());
    }
}
