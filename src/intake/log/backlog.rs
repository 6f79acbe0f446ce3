//! What lies in the log without file and row: told by who appends and who records, asked by who watches.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::Head;
use super::replay::segments_of;
use super::segment::{RECORDS_AT, Segment};
use super::{LogFolder, logs_in};
use crate::clock::UnixMillis;
use crate::dicom::receive::{BLOCK_BYTES, HEAD_BYTES, blocks_bytes};

/// Acknowledged objects without file and row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unrecorded {
    /// How many.
    pub objects: u64,
    /// What they take in the log, in bytes.
    pub bytes: u64,
    /// When the oldest was received.
    pub oldest_ms: Option<UnixMillis>,
}

impl Unrecorded {
    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
            oldest_ms: self.oldest_ms.into_iter().chain(other.oldest_ms).min(),
        }
    }
}

/// What lies in the log of this process. A clone is the same thing; where nothing is received it stays empty.
#[derive(Debug, Clone, Default)]
pub struct Backlog(Arc<Mutex<Lying>>);

#[derive(Debug, Default)]
struct Lying {
    bytes: u64,
    /// How many were received at each moment.
    since: BTreeMap<UnixMillis, u64>,
}

impl Backlog {
    /// What lies there now.
    #[must_use]
    pub fn unrecorded(&self) -> Unrecorded {
        let lying = self.lying();
        Unrecorded {
            objects: lying.since.values().sum(),
            bytes: lying.bytes,
            oldest_ms: lying.since.first_key_value().map(|(at, _)| *at),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lying().bytes
    }

    /// An object is in the log.
    pub(crate) fn add(&self, received_at: UnixMillis, bytes: u64) {
        let mut lying = self.lying();
        lying.bytes += bytes;
        *lying.since.entry(received_at).or_default() += 1;
    }

    /// It has its file and its row.
    pub(crate) fn take(&self, received_at: UnixMillis, bytes: u64) {
        let mut lying = self.lying();
        lying.bytes = lying.bytes.saturating_sub(bytes);
        if let Some(objects) = lying.since.get_mut(&received_at) {
            *objects -= 1;
            if *objects == 0 {
                lying.since.remove(&received_at);
            }
        }
    }

    fn lying(&self) -> MutexGuard<'_, Lying> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lies in logs whose process is dead: a receiver takes it over within seconds, where there is one. Of what was
/// received in the last second before its process died some may be recorded.
///
/// # Errors
/// When the folder or a segment cannot be read.
pub fn left_behind(logs: &Path) -> io::Result<Unrecorded> {
    let mut found = Unrecorded::default();
    for path in logs_in(logs)? {
        let Some(folder) = LogFolder::of_dead(path) else {
            continue;
        };
        for path in segments_of(&folder)? {
            if let Some((segment, id)) = Segment::open(path)? {
                found = found.and(heads(&segment, id)?);
            }
        }
    }
    Ok(found)
}

/// What the heads of a segment say; nothing else of it is read.
fn heads(segment: &Segment, id: super::SegmentId) -> io::Result<Unrecorded> {
    let length = segment.file().metadata()?.len();
    let (mut found, mut at) = (Unrecorded::default(), RECORDS_AT);
    let mut bytes = [0; HEAD_BYTES];
    while at + HEAD_BYTES as u64 <= length {
        segment.file().read_exact_at(&mut bytes, at)?;
        let head = Head::read(&bytes, id);
        let Some(head) = head else {
            at += BLOCK_BYTES as u64;
            continue;
        };
        let bytes = blocks_bytes(usize::try_from(head.file_bytes).unwrap_or(0)) as u64;
        found = found.and(Unrecorded {
            objects: 1,
            bytes,
            oldest_ms: Some(head.received_at),
        });
        at += bytes;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lies(objects: u64, bytes: u64, oldest_ms: Option<i64>) -> Unrecorded {
        Unrecorded {
            objects,
            bytes,
            oldest_ms,
        }
    }

    #[test]
    fn the_oldest_is_told_whatever_the_order() {
        let backlog = Backlog::default();
        assert_eq!(backlog.unrecorded(), lies(0, 0, None));
        for (at, bytes) in [(30, 3), (10, 1), (20, 2), (10, 1)] {
            backlog.clone().add(at, bytes);
        }
        assert_eq!(backlog.unrecorded(), lies(4, 7, Some(10)));
        backlog.take(10, 1);
        backlog.take(30, 3);
        assert_eq!(backlog.unrecorded(), lies(2, 3, Some(10)));
        backlog.take(10, 1);
        assert_eq!(backlog.unrecorded(), lies(1, 2, Some(20)));
        backlog.take(20, 2);
        assert_eq!(backlog.unrecorded(), lies(0, 0, None));
        let both = lies(1, 2, None).and(lies(3, 4, Some(5)));
        assert_eq!(both, lies(4, 6, Some(5)));
        assert_eq!(lies(0, 0, Some(7)).and(both).oldest_ms, Some(5));
    }
}
