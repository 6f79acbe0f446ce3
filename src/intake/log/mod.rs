//! The object log: where an object is durable when its sender hears success.
//!
//! A file and a row for each object, synced, cost several times what receiving it costs. So objects of
//! all associations are first appended to a few files, *segments*, and one sync makes a whole batch of them
//! durable. There are several *lanes*, each with a thread and a segment of its own, because a disk has
//! many writes in hand as fast as one: on a busy machine one lane reached 0.26 of the rate of eight. Behind the answer the recorder makes files and rows of them; once it has done so for
//! all of a segment, the segment is begun anew.
//!
//! ```text
//! log/RUN/lock              locked while the process lives that writes there
//! log/RUN/LANE-N.segment    one block with the segment's name, then records, each in whole blocks:
//!                           head (`record`), PS3.10 file, filled up with whatever lay there
//! ```
//!
//! A record carries the name of its segment, which changes each time the segment is begun anew, and
//! checksums of head and file: what is left of an earlier life, or torn by a crash, is never taken for an object.
//! A process that starts takes over the logs of those that died (`replay`); several receivers can share a folder.

mod backlog;
mod record;
mod replay;
mod segment;
mod writer;

pub use backlog::{Backlog, Unrecorded, left_behind};
pub use replay::{Found, take_over};
pub use segment::Place;
pub use writer::{Append, Entry, Log, LogLimits, Logged, NotLogged};

use std::path::{Path, PathBuf};

use crate::dicom::receive::hex;

/// Name of a segment while it holds what it holds.
type SegmentId = [u8; 16];

fn fresh_id() -> std::io::Result<SegmentId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(std::io::Error::other)?;
    Ok(id)
}

/// A folder of segments that this process holds the lock of.
#[derive(Debug)]
pub struct LogFolder {
    path: PathBuf,
    /// The lock lasts as long as the file is open.
    _lock: std::fs::File,
}

const LOCK: &str = "lock";

/// Folders of logs below `logs` in which objects may be: not those that are begun and not locked yet, or put aside as damaged.
fn logs_in(logs: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(logs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && path.is_dir() {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// What a log's folder begins with once it is put aside.
const DAMAGED: &str = ".damaged-";

/// How many logs were put aside below `logs` because records in them are damaged.
///
/// # Errors
/// When the folder cannot be read.
pub fn put_aside(logs: &Path) -> std::io::Result<u64> {
    let mut count = 0;
    match std::fs::read_dir(logs) {
        Ok(entries) => {
            for entry in entries {
                count += u64::from(entry?.file_name().to_string_lossy().starts_with(DAMAGED));
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    Ok(count)
}

impl LogFolder {
    /// A new one below `logs`.
    fn make(logs: &Path) -> std::io::Result<Self> {
        let name = hex(&fresh_id()?);
        // nobody takes over what begins with a dot: it is not locked yet
        let unlocked = logs.join(format!(".{name}"));
        std::fs::create_dir_all(&unlocked)?;
        let lock = std::fs::File::create(unlocked.join(LOCK))?;
        lock.try_lock().map_err(std::io::Error::other)?;
        let path = logs.join(name);
        std::fs::rename(&unlocked, &path)?;
        crate::store::files::sync_folder(logs)?;
        Ok(Self { path, _lock: lock })
    }

    /// That of a process which is dead. `None` while it lives.
    fn of_dead(path: PathBuf) -> Option<Self> {
        let lock = std::fs::File::open(path.join(LOCK)).ok()?;
        lock.try_lock().ok()?;
        Some(Self { path, _lock: lock })
    }

    /// Removes it: nothing in it is needed.
    fn remove(&self) -> std::io::Result<()> {
        std::fs::remove_dir_all(&self.path)
    }
}
