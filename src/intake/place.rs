//! Objects become files: out of the log, or moved from the spool.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tracing::warn;

use super::log::Place;
use crate::dicom::receive::{ObjectBuffer, Pool, hex};
use crate::store::files::{Files, make_folder_durably, move_into_place, sync_folder};
use crate::store::intake::QuarantineEntry;

/// Threads that read, write and sync objects of one batch: their syncs join in the disk's journal.
const THREADS: usize = 4;

/// An object's bytes, for who makes a file of them.
#[derive(Debug)]
pub enum Bytes {
    /// A synced file in the spool.
    Spooled(PathBuf),
    /// Read back from the log.
    Read(ObjectBuffer),
}

/// Reads records back and gives the digest of each data set.
pub async fn read_all(
    places: Vec<(Place, u32)>,
    pool: &Arc<Pool>,
) -> Vec<io::Result<(ObjectBuffer, String)>> {
    let pool = pool.clone();
    in_threads(places, move |(place, meta_bytes)| {
        let object = place.read(&pool)?;
        let meta_bytes = usize::try_from(*meta_bytes).unwrap_or(usize::MAX);
        let data = object.object().get(meta_bytes..).unwrap_or_default();
        let digest = hex(&Sha256::digest(data));
        Ok((object, digest))
    })
    .await
}

/// Makes files of objects, durably; gives the bytes back for the case that what follows fails.
pub async fn place_all(objects: Vec<(Bytes, PathBuf)>) -> Vec<io::Result<(Bytes, PathBuf)>> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    folders.extend(
        objects
            .iter()
            .filter_map(|(_, to)| to.parent().map(PathBuf::from)),
    );
    let mut placed = in_threads(objects, |(bytes, to)| place(bytes, to)).await;
    let synced = in_threads(folders.into_iter().collect(), |folder| sync_folder(folder)).await;
    if let Some(failed) = synced.into_iter().find_map(Result::err) {
        let kind = failed.kind();
        for p in &mut placed {
            *p = Err(kind.into());
        }
    }
    placed
}

fn place(bytes: &mut Bytes, to: &mut PathBuf) -> io::Result<(Bytes, PathBuf)> {
    let placed = match &bytes {
        Bytes::Spooled(from) => move_into_place(from, to),
        Bytes::Read(object) => write(object.object(), to),
    };
    placed?;
    let bytes = std::mem::replace(bytes, Bytes::Spooled(PathBuf::new()));
    Ok((bytes, std::mem::take(to)))
}

/// A file that is half written when we die has no row, and is written again from the log.
fn write(bytes: &[u8], to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        make_folder_durably(folder)?;
    }
    let mut file = std::fs::File::create(to)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_data()
}

/// Does the same to all, in a few blocking threads, in order.
async fn in_threads<T: Send + 'static, R: Send + 'static>(
    mut items: Vec<T>,
    work: impl Fn(&mut T) -> io::Result<R> + Clone + Send + 'static,
) -> Vec<io::Result<R>> {
    let count = items.len();
    let each = count.div_ceil(THREADS).max(1);
    let mut running = Vec::with_capacity(THREADS);
    while !items.is_empty() {
        let mut mine: Vec<T> = items.drain(..each.min(items.len())).collect();
        let work = work.clone();
        running.push(tokio::task::spawn_blocking(move || {
            mine.iter_mut().map(work).collect::<Vec<_>>()
        }));
    }
    let mut results = Vec::with_capacity(count);
    for task in running {
        match task.await {
            Ok(some) => results.extend(some),
            Err(e) => results.push(Err(io::Error::other(e))),
        }
    }
    // a part that broke gave less than it was given
    results.resize_with(count, || Err(io::Error::other("a writing task broke")));
    results
}

/// Keeps an object's bytes in quarantine; without them where that fails.
pub async fn to_quarantine(
    files: &Files,
    temp: &Path,
    mut entry: QuarantineEntry,
) -> QuarantineEntry {
    let name = temp
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let relative = format!("quarantine/{}-{name}.dcm", entry.received_at);
    let to = files.root().join(&relative);
    let folder = files.quarantine();
    let from = temp.to_path_buf();
    let moved = tokio::task::spawn_blocking(move || {
        std::fs::rename(&from, &to)?;
        sync_folder(&folder)
    });
    if let Ok(Ok(())) = moved.await {
        entry.path = Some(relative);
    } else {
        warn!("could not keep the bytes of a quarantined object");
    }
    entry
}

/// The same for an object that is in the log: what fails is tried again by the caller.
pub async fn write_quarantine(
    files: &Files,
    object: ObjectBuffer,
    mut entry: QuarantineEntry,
) -> io::Result<QuarantineEntry> {
    // the same object again after a crash is the same file again
    let digest = hex(&Sha256::digest(object.object())[..8]);
    let relative = format!("quarantine/{}-{digest}.dcm", entry.received_at);
    let to = files.root().join(&relative);
    let folder = files.quarantine();
    let written = tokio::task::spawn_blocking(move || {
        write(object.object(), &to)?;
        sync_folder(&folder)
    });
    written.await??;
    entry.path = Some(relative);
    Ok(entry)
}
