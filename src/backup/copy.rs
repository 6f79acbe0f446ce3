//! Copying the data folder while others write into it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Never copied: what was not acknowledged, and the database, of which there is a copy of its own.
const LEFT_OUT: [&str; 5] = [
    "spool",
    "retention.lock",
    "firstread.db",
    "firstread.db-wal",
    "firstread.db-shm",
];
/// The object log, which is copied before the database.
const LOG: &str = "log";
/// Folders of files that never change once they are there.
const UNCHANGING: [&str; 3] = ["objects", "results", "quarantine"];

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files that are there now.
    pub files: u64,
    /// Their length in all.
    pub bytes: u64,
    /// Of those, files that had been there before.
    pub kept: u64,
}

impl Copied {
    /// With what was copied before.
    pub(super) fn and(self, before: Self) -> Self {
        Self {
            files: self.files + before.files,
            bytes: self.bytes + before.bytes,
            kept: self.kept + before.kept,
        }
    }
}

/// Copies the object log alone. That of an earlier backup goes: what it holds was recorded since.
pub(super) fn log(from: &Path, to: &Path) -> io::Result<Copied> {
    let (from, to) = (from.join(LOG), to.join(LOG));
    match fs::remove_dir_all(&to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut copied = Copied::default();
    tree(&from, &to, false, &mut copied)?;
    Ok(copied)
}

/// Copies the rest of a data folder, durably, and makes durable what was copied before.
pub(super) fn all_but_log(from: &Path, to: &Path) -> io::Result<Copied> {
    folder(from, to, &[LOG])
}

/// Copies a data folder into another, durably.
pub(super) fn data_folder(from: &Path, to: &Path) -> io::Result<Copied> {
    folder(from, to, &[])
}

fn folder(from: &Path, to: &Path, without: &[&str]) -> io::Result<Copied> {
    let mut copied = Copied::default();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy().into_owned();
        if LEFT_OUT.contains(&text.as_str()) || without.contains(&text.as_str()) {
            continue;
        }
        let unchanging = UNCHANGING.contains(&text.as_str());
        tree(&entry.path(), &to.join(&name), unchanging, &mut copied)?;
    }
    rustix::fs::syncfs(File::open(to)?)?;
    Ok(copied)
}

fn tree(from: &Path, to: &Path, unchanging: bool, copied: &mut Copied) -> io::Result<()> {
    let meta = match fs::symlink_metadata(from) {
        // It was replaced or removed since it was listed.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if meta.is_dir() {
        fs::create_dir_all(to)?;
        let entries = match fs::read_dir(from) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            tree(
                &entry.path(),
                &to.join(entry.file_name()),
                unchanging,
                copied,
            )?;
        }
        return Ok(());
    }
    if !meta.is_file() {
        return Ok(());
    }
    let there = fs::metadata(to).is_ok_and(|there| there.len() == meta.len());
    if unchanging && there {
        copied.kept += 1;
    } else {
        // Under another name until it is whole: a copy that was broken off is no copy.
        let part = to.with_extension("part");
        match fs::copy(from, &part) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !from.exists() => return Ok(()),
            done => done?,
        };
        fs::rename(&part, to)?;
    }
    copied.files += 1;
    copied.bytes += meta.len();
    Ok(())
}

/// Writes a file that is there wholly or not at all, also after a power cut.
pub(super) fn write_durably(to: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = to.with_extension("part");
    let mut file = File::create(&part)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&part, to)?;
    match to.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_copied_by_itself_and_nothing_of_an_earlier_one_stays() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let segment = |run: &str| from.path().join("log").join(run).join("0.segment");
        assert_eq!(log(from.path(), to.path()).unwrap().files, 0, "none yet");
        fs::create_dir_all(segment("a").parent().unwrap()).unwrap();
        fs::write(segment("a"), "one").unwrap();
        fs::write(from.path().join("links.key"), "key").unwrap();
        assert_eq!(log(from.path(), to.path()).unwrap().bytes, 3);
        assert_eq!(all_but_log(from.path(), to.path()).unwrap().bytes, 3);
        fs::rename(from.path().join("log/a"), from.path().join("log/b")).unwrap();
        log(from.path(), to.path()).unwrap();
        let there = |run: &str| to.path().join("log").join(run).exists();
        assert!(there("b") && !there("a"));
        let back = tempfile::tempdir().unwrap();
        assert_eq!(data_folder(to.path(), back.path()).unwrap().files, 2);
    }

    #[test]
    fn what_never_changes_is_copied_once() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |path: &str, text: &str| {
            let path = from.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("objects/1/2/3.dcm", "image");
        write("measurements/1/volumes.nii.gz", "old");
        write("links.key", "key");
        write("spool/ab/1.part", "half");
        write("firstread.db", "database");
        let first = data_folder(from.path(), to.path()).unwrap();
        assert_eq!((first.files, first.bytes, first.kept), (3, 11, 0));
        write("measurements/1/volumes.nii.gz", "new");
        write("objects/1/2/4.dcm", "image 2");
        let second = data_folder(from.path(), to.path()).unwrap();
        assert_eq!((second.files, second.kept), (4, 1));
        let read = |path: &str| fs::read_to_string(to.path().join(path));
        assert_eq!(read("measurements/1/volumes.nii.gz").unwrap(), "new");
        assert!(read("spool/ab/1.part").is_err() && read("firstread.db").is_err());
    }
}
