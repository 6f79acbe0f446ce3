//! The header of a DICOM file on disk (PS3.10 7.1), by the same bounded walk as at reception.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::extract;
use super::header::ObjectHeader;

/// Preamble and prefix.
const PREFIX_BYTES: usize = 132;
/// (0002,0000) itself: tag, VR, length, value.
const GROUP_LENGTH_BYTES: usize = 12;
/// Longest file meta group that is believed.
const META_BYTES_MAX: usize = 64 * 1024;
/// (0002,0010) Transfer Syntax UID, little endian, with its VR.
const TRANSFER_SYNTAX: [u8; 6] = [0x02, 0x00, 0x10, 0x00, b'U', b'I'];

/// Reads a file's header; `None` where it is no DICOM file.
///
/// # Errors
/// In words, where it is one and cannot be used.
pub fn read_header(path: &Path) -> Result<Option<ObjectHeader>, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut file = File::open(path).map_err(text)?;
    let length = file.metadata().map_err(text)?.len();
    let mut head = [0_u8; PREFIX_BYTES + GROUP_LENGTH_BYTES];
    if file.read_exact(&mut head).is_err() || &head[128..PREFIX_BYTES] != b"DICM" {
        return Ok(None);
    }
    let group = &head[PREFIX_BYTES..];
    if group[..8] != [0x02, 0, 0, 0, b'U', b'L', 4, 0] {
        return Err("the file meta group has no length".into());
    }
    let meta_bytes = u32::from_le_bytes([group[8], group[9], group[10], group[11]]) as usize;
    if meta_bytes > META_BYTES_MAX {
        return Err("the file meta group is too long".into());
    }
    let mut meta = vec![0; meta_bytes];
    file.read_exact(&mut meta)
        .map_err(|_| "the file is cut short".to_owned())?;
    let syntax = transfer_syntax(&meta).ok_or("the file names no transfer syntax")?;
    let start = file.stream_position().map_err(text)?;
    let data_set = DataSet {
        file: BufReader::new(file),
        start,
    };
    extract::header(data_set, length - start, &syntax)
        .map(Some)
        .map_err(|e| e.to_string())
}

fn transfer_syntax(meta: &[u8]) -> Option<String> {
    let at = meta
        .windows(TRANSFER_SYNTAX.len())
        .position(|w| w == TRANSFER_SYNTAX)?;
    let rest = &meta[at + TRANSFER_SYNTAX.len()..];
    let length = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
    let value = rest.get(2..2 + length)?;
    super::guard::uid(value).ok().map(str::to_owned)
}

/// The part of a file behind its meta group, as a stream of its own.
struct DataSet {
    file: BufReader<File>,
    start: u64,
}

impl Read for DataSet {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for DataSet {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at + self.start),
            other => other,
        };
        Ok(self.file.seek(to)? - self.start)
    }
}
