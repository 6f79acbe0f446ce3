//! Reports of storage commitment (PS3.4 J.3.3) on an association that the PACS opens for them.

use super::command::Request;

/// Longest data set of a report, bytes: it names one object.
pub const REPORT_BYTES_MAX: usize = 1 << 20;
/// "All complete" (PS3.4 J.3.3).
pub const ALL_COMMITTED: u16 = 1;
/// Transaction UID (0008,1195).
const TRANSACTION_UID: [u16; 2] = [0x0008, 0x1195];
/// Value representations whose length takes four bytes (PS3.5 7.1.2).
const LONG: [&[u8; 2]; 13] = [
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
];

/// What a PACS says of a request that we made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentReport {
    /// As we named the request.
    pub transaction_uid: String,
    /// Whether it keeps all that was asked for.
    pub all_kept: bool,
}

/// A report under way.
pub struct Arriving {
    pub context: u8,
    pub request: Request,
    pub explicit: bool,
    pub bytes: Vec<u8>,
}

impl Arriving {
    /// Takes what came; false where it is more than a report can be.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let fits = self.bytes.len() + bytes.len() <= REPORT_BYTES_MAX;
        if fits {
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    /// What it says; nothing where it names no transaction.
    pub fn read(&self) -> Option<CommitmentReport> {
        let value = transaction(&self.bytes, self.explicit)?;
        let uid = crate::dicom::guard::uid(value).ok()?;
        Some(CommitmentReport {
            transaction_uid: uid.to_owned(),
            all_kept: self.request.event_type == Some(ALL_COMMITTED),
        })
    }
}

/// The value of (0008,1195) at the top of a little-endian data set. Elements are in the order of their
/// tags, and those that may stand before it are short texts: a sequence ends the search.
fn transaction(mut rest: &[u8], explicit: bool) -> Option<&[u8]> {
    loop {
        let (tag, after) = rest.split_first_chunk::<4>()?;
        let tag = [
            u16::from_le_bytes([tag[0], tag[1]]),
            u16::from_le_bytes([tag[2], tag[3]]),
        ];
        if tag > TRANSACTION_UID {
            return None;
        }
        let (length, after) = if explicit {
            let (vr, after) = after.split_first_chunk::<2>()?;
            if LONG.contains(&vr) {
                let (length, after) = after.get(2..)?.split_first_chunk::<4>()?;
                (u32::from_le_bytes(*length), after)
            } else {
                let (length, after) = after.split_first_chunk::<2>()?;
                (u32::from(u16::from_le_bytes(*length)), after)
            }
        } else {
            let (length, after) = after.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*length), after)
        };
        let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        if tag == TRANSACTION_UID {
            return Some(value);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(explicit: bool, element: u16, vr: [u8; 2], value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![8, 0];
        bytes.extend(element.to_le_bytes());
        let length = u16::try_from(value.len()).unwrap();
        if explicit {
            bytes.extend(vr);
            bytes.extend(length.to_le_bytes());
        } else {
            bytes.extend(u32::from(length).to_le_bytes());
        }
        bytes.extend(value);
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], explicit: bool, expected: Option<(&str, bool)>) {
        let mut arriving = Arriving {
            context: 1,
            request: Request {
                event_type: Some(1),
                ..Request::default()
            },
            explicit,
            bytes: Vec::new(),
        };
        assert!(arriving.push(bytes));
        let read = arriving.read();
        let read = read
            .as_ref()
            .map(|r| (r.transaction_uid.as_str(), r.all_kept));
        assert_eq!(read, expected);
    }

    #[test]
    fn the_transaction_is_found_in_both_syntaxes() {
        for explicit in [true, false] {
            let mut bytes = element(explicit, 0x0054, *b"AE", b"PACS");
            bytes.extend(element(explicit, 0x1195, *b"UI", b"1.2.3\0"));
            bytes.extend(element(explicit, 0x1199, *b"UI", b""));
            check(&bytes, explicit, Some(("1.2.3", true)));
            for end in 0..30 {
                // every prefix is nothing, and none panics
                check(&bytes[..end.min(20)], explicit, None);
            }
            let late = element(explicit, 0x1199, *b"UI", b"");
            check(&late, explicit, None);
            let none = element(explicit, 0x1195, *b"UI", b"no uid");
            check(&none, explicit, None);
        }
        let endless = [8, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
        check(&endless, false, None);
        assert!(
            !Arriving {
                context: 1,
                request: Request::default(),
                explicit: true,
                bytes: vec![0; REPORT_BYTES_MAX],
            }
            .push(&[0])
        );
    }
}
