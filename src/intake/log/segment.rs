//! One file of the log.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::record::Head;
use super::{SegmentId, fresh_id};
use crate::dicom::receive::{BLOCK_BYTES, OBJECT_BYTES_MAX, ObjectBuffer, Pool, blocks_bytes};

const MAGIC: [u8; 8] = *b"FRlog 01";
/// Where records begin.
pub(super) const RECORDS_AT: u64 = BLOCK_BYTES as u64;
/// Most records in one write, as `pwritev` takes them.
pub(super) const WRITE_RECORDS_MAX: usize = 64;

/// A file of the log. What it is called at present stands in its first block.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    file: File,
    /// Records that have no file and row yet.
    unsettled: AtomicU64,
}

/// Where a record is.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) segment: Arc<Segment>,
    pub(super) id: SegmentId,
    pub(super) offset: u64,
    pub(super) file_bytes: u32,
    pub(super) received_at: i64,
}

impl Segment {
    /// Makes one, with its room on the disk.
    pub(super) fn create(path: PathBuf, bytes: u64) -> io::Result<Self> {
        let file = open_past_cache(&path, File::options().create_new(true))?;
        let room = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        match room {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                return Err(error.into());
            }
        }
        Ok(Self {
            path,
            file,
            unsettled: AtomicU64::new(0),
        })
    }

    /// One that an earlier process left, and its name; `None` if it holds nothing.
    pub(super) fn open(path: PathBuf) -> io::Result<Option<(Self, SegmentId)>> {
        let file = File::open(&path)?;
        let mut first = [0; 24];
        if file.read_exact_at(&mut first, 0).is_err() || first[..8] != MAGIC {
            return Ok(None);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&first[8..]);
        let segment = Self {
            path,
            file,
            unsettled: AtomicU64::new(0),
        };
        Ok(Some((segment, id)))
    }

    /// Begins it anew: nothing that is in it counts any more, durably.
    pub(super) fn begin(&self, pool: &Arc<Pool>) -> io::Result<SegmentId> {
        let id = fresh_id()?;
        let mut block = pool.take();
        let head = block.head();
        head.fill(0);
        head[..8].copy_from_slice(&MAGIC);
        head[8..24].copy_from_slice(&id);
        self.file.write_all_at(block.blocks(), 0)?;
        self.file.sync_data()?;
        Ok(id)
    }

    /// Writes records one behind the other. Nothing is durable yet.
    pub(super) fn write(&self, records: &[&[u8]], mut offset: u64) -> io::Result<()> {
        for some in records.chunks(WRITE_RECORDS_MAX) {
            let slices: Vec<IoSlice<'_>> = some.iter().map(|r| IoSlice::new(r)).collect();
            let all: usize = some.iter().map(|r| r.len()).sum();
            let written = rustix::io::pwritev(&self.file, &slices, offset)?;
            if written < all {
                // rare: a signal, or a disk that is nearly full
                let mut at = offset;
                for record in some {
                    self.file.write_all_at(record, at)?;
                    at += record.len() as u64;
                }
            }
            offset += all as u64;
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(super) fn expect_settling(&self, records: u64) {
        self.unsettled.fetch_add(records, Ordering::AcqRel);
    }

    /// Whether every record has its file and its row.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Place {
    /// Length of its file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.file_bytes)
    }

    /// Reads the file back; an error also where it is not what was written.
    ///
    /// # Errors
    /// When the disk fails, or gives something else back than it was given.
    pub fn read(&self, pool: &Arc<Pool>) -> io::Result<ObjectBuffer> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a damaged record of the log");
        let mut object = pool.take();
        let length = usize::try_from(self.file_bytes).map_err(|_| damaged())?;
        let blocks = object.blocks_for(length).ok_or_else(damaged)?;
        self.segment.file.read_exact_at(blocks, self.offset)?;
        let head = Head::read(blocks, self.id).ok_or_else(damaged)?;
        if head.file_bytes != self.file_bytes || head.checksum != crc32fast::hash(object.object()) {
            return Err(damaged());
        }
        Ok(object)
    }

    /// The object has its file and its row: its record is not needed any more.
    pub(super) fn settle(self) {
        self.segment.unsettled.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A record found in a segment, and whether its file is what was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub offset: u64,
    pub head: Head,
    pub sound: bool,
}

/// All records of a segment's bytes, in their order.
pub(super) fn scan(bytes: &[u8], id: SegmentId) -> Vec<Scanned> {
    let mut found = Vec::new();
    let mut at = BLOCK_BYTES;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(head) = Head::read(rest, id) else {
            // torn, or never written: what follows may still be whole
            at += BLOCK_BYTES;
            continue;
        };
        let length = usize::try_from(head.file_bytes).unwrap_or(usize::MAX);
        let file = rest
            .get(crate::dicom::receive::HEAD_BYTES..)
            .and_then(|rest| rest.get(..length))
            .filter(|_| length <= OBJECT_BYTES_MAX);
        let sound = file.is_some_and(|file| crc32fast::hash(file) == head.checksum);
        found.push(Scanned {
            offset: at as u64,
            head,
            sound,
        });
        at += if sound {
            blocks_bytes(length)
        } else {
            BLOCK_BYTES
        };
    }
    found
}

/// Opens for reading and writing past the page cache, where the file system has that.
fn open_past_cache(path: &Path, options: &mut std::fs::OpenOptions) -> io::Result<File> {
    let options = options.read(true).write(true);
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
    let opened = options.clone().custom_flags(direct).open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let _ = std::fs::remove_file(path);
            options.open(path)
        }
        opened => opened,
    }
}
