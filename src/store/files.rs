//! The folder beside the database.
//!
//! ```text
//! spool/RUN/                             large objects while they arrive, a folder for each process
//! spool/RUN/lock                         locked while that process lives
//! log/                                   what was acknowledged and has no file and row yet
//! objects/STUDY/SERIES/SOP.dcm           what was acknowledged and recorded
//! quarantine/                            what was kept aside, with its reason in the database
//! pictures/STUDY/SERIES/PLANE.png        what the study page shows
//! results/STUDY/SOP.dcm                  our own objects, for the PACS
//! measurements/STUDY/NAME.nii.gz         label maps of measured studies
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::dicom::guard;

/// Of the name of a process' run.
const RUN_BYTES: usize = 8;
/// In each folder of the spool.
const LOCK_FILE: &str = "lock";

/// The data folder.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
    run: String,
    /// Held as long as the process lives, however it ends.
    _lock: Arc<File>,
}

impl Files {
    /// Makes the folders that are missing, and one in the spool for this process alone.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["spool", "objects", "quarantine", "pictures"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let mut bytes = [0; RUN_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let run = crate::secrets::hex(&bytes);
        // Under a hidden name until it is locked: a folder with a lock that is free is removed by others.
        let hidden = root.join("spool").join(format!(".{run}"));
        std::fs::create_dir(&hidden)?;
        let lock = File::create_new(hidden.join(LOCK_FILE))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::rename(&hidden, root.join("spool").join(&run))?;
        Ok(Self {
            root: root.to_path_buf(),
            run,
            _lock: Arc::new(lock),
        })
    }

    /// The name of this process' run: no other has it.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether a process on this machine has ended: its lock is free, or its folder is not there any more.
    #[must_use]
    pub fn has_ended(&self, run: &str) -> bool {
        let safe = !run.is_empty() && run.bytes().all(|b| b.is_ascii_hexdigit());
        safe && run != self.run && is_free(&self.root.join("spool").join(run))
    }

    /// The data folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Objects while this process receives them.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool").join(&self.run)
    }

    /// Logs of acknowledged objects, one for each receiver.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Recorded objects.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// Objects kept aside.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Pictures of screened series.
    #[must_use]
    pub fn pictures(&self) -> PathBuf {
        self.root.join("pictures")
    }

    /// Where an object lives, relative to the data folder. `None` unless all three are UIDs:
    /// nothing from the wire becomes a path otherwise.
    #[must_use]
    pub fn object_path(study_uid: &str, series_uid: &str, sop_uid: &str) -> Option<String> {
        let safe = [study_uid, series_uid, sop_uid]
            .iter()
            .all(|uid| is_uid(uid));
        safe.then(|| format!("objects/{study_uid}/{series_uid}/{sop_uid}.dcm"))
    }

    /// Where a series' pictures live. `None` unless both are UIDs.
    #[must_use]
    pub fn picture_folder(&self, study_uid: &str, series_uid: &str) -> Option<PathBuf> {
        let safe = is_uid(study_uid) && is_uid(series_uid);
        safe.then(|| self.pictures().join(study_uid).join(series_uid))
    }

    /// Keeps a finished object of ours durably; gives its path relative to the data folder.
    ///
    /// # Errors
    /// When it cannot be written, or the names are no UIDs.
    pub fn save_result(&self, study_uid: &str, sop_uid: &str, bytes: &[u8]) -> io::Result<String> {
        if !is_uid(study_uid) || !is_uid(sop_uid) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let path = format!("results/{study_uid}/{sop_uid}.dcm");
        let unfinished = self.spool().join(format!("{sop_uid}.result"));
        let mut file = std::fs::File::create(&unfinished)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        let target = self.root.join(&path);
        move_into_place(&unfinished, &target)?;
        if let Some(folder) = target.parent() {
            sync_folder(folder)?;
        }
        Ok(path)
    }

    /// Where a study's label maps live. `None` unless it is a UID.
    #[must_use]
    pub fn measurement_folder(&self, study_uid: &str) -> Option<PathBuf> {
        is_uid(study_uid).then(|| self.root.join("measurements").join(study_uid))
    }

    /// The folder of a study's objects. `None` unless it is a UID.
    #[must_use]
    pub fn study_folder(&self, study_uid: &str) -> Option<PathBuf> {
        is_uid(study_uid).then(|| self.objects().join(study_uid))
    }

    /// Removes the files of a study's objects but for those of `keep` (paths relative to the data folder), durably;
    /// gives whether there were any. A UID that is none has no files.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear_study(&self, study_uid: &str, keep: &HashSet<String>) -> io::Result<bool> {
        let Some(folder) = self.study_folder(study_uid) else {
            return Ok(false);
        };
        let removed = if keep.is_empty() {
            match std::fs::remove_dir_all(&folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => false,
                done => done.map(|()| true)?,
            }
        } else {
            clear(&folder, &format!("objects/{study_uid}"), keep)?
        };
        if removed {
            sync_folder(&self.objects())?;
        }
        Ok(removed)
    }

    /// A lock in the data folder that one process of this machine has at a time; `None` where another has it.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn alone(&self, name: &str) -> io::Result<Option<File>> {
        let file = lock_file(&self.root, name)?;
        Ok(flock(&file, FlockOperation::NonBlockingLockExclusive)
            .is_ok()
            .then_some(file))
    }

    /// Removes what processes that are gone left half received: it was never acknowledged. Gives
    /// how many objects that were. `living` are runs that other processes are known by.
    ///
    /// # Errors
    /// When the spool cannot be read or something cannot be removed.
    pub fn sweep_spool(&self, living: &[String]) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(self.root.join("spool"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_file() {
                // As versions before 0.2 left it.
                std::fs::remove_file(&path)?;
                removed += 1;
            } else if !name.starts_with('.')
                && *name != self.run
                && !living.iter().any(|run| *run == *name)
                && is_free(&path)
            {
                removed += std::fs::read_dir(&path)?.count().saturating_sub(1);
                std::fs::remove_dir_all(&path)?;
            }
        }
        Ok(removed)
    }
}

/// Waits for a lock in a data folder that one process of this machine has at a time.
///
/// # Errors
/// When its file cannot be made or locked.
pub fn wait_alone(data: &Path, name: &str) -> io::Result<File> {
    let file = lock_file(data, name)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn lock_file(data: &Path, name: &str) -> io::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(data.join(name))
}

/// Removes the files of a folder, and of those in it, that are not to be kept; gives whether there were any.
fn clear(folder: &Path, relative: &str, keep: &HashSet<String>) -> io::Result<bool> {
    let mut removed = false;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let relative = format!("{relative}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            removed |= clear(&entry.path(), &relative, keep)?;
            match std::fs::remove_dir(entry.path()) {
                Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(e),
                _ => {}
            }
        } else if !keep.contains(&relative) {
            std::fs::remove_file(entry.path())?;
            removed = true;
        }
    }
    Ok(removed)
}

/// Whether nobody holds the lock of a folder in the spool.
fn is_free(folder: &Path) -> bool {
    match File::open(folder.join(LOCK_FILE)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether a text is a UID and thus safe as one component of a path.
#[must_use]
pub fn is_uid(text: &str) -> bool {
    guard::uid(text.as_bytes()).is_ok_and(|uid| uid == text)
}

/// Moves `from` to `to` so that the move survives a power cut once [`sync_folder`] ran on the
/// folder of `to`.
///
/// # Errors
/// When the folder cannot be made or the file cannot be moved.
pub fn move_into_place(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        make_folder_durably(folder)?;
    }
    std::fs::rename(from, to)
}

/// A new folder's own entry must be synced too, or the files in it are unreachable after a power cut.
pub(crate) fn make_folder_durably(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder_durably(parent)?;
        match std::fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

/// Makes renames in a folder durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let open = || Files::open(root.path()).unwrap();
        let (ours, living, dead) = (open(), open(), open());
        for files in [&ours, &living, &dead] {
            std::fs::write(files.spool().join("1.part"), "half").unwrap();
        }
        let (gone, known) = (dead.run().to_owned(), vec![living.run().to_owned()]);
        assert!(!ours.has_ended(&gone));
        drop(dead);
        assert!(ours.has_ended(&gone) && !ours.has_ended(living.run()));
        assert!(!ours.has_ended(ours.run()) && !ours.has_ended("../objects"));
        // One that is known by other means, as on another machine, is left alone.
        assert_eq!(ours.sweep_spool(std::slice::from_ref(&gone)).unwrap(), 0);
        assert_eq!(ours.sweep_spool(&known).unwrap(), 1);
        assert_eq!(ours.sweep_spool(&[]).unwrap(), 0, "it lives");
        assert!(living.spool().join("1.part").exists());
    }

    #[test]
    fn of_a_study_what_is_kept_stays_and_nothing_of_others_goes() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::open(root.path()).unwrap();
        let write = |path: &str| {
            let path = files.objects().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "image").unwrap();
        };
        for path in [
            "1.2/1.3/1.4.dcm",
            "1.2/1.3/1.5.dcm",
            "1.2/1.6/1.7.dcm",
            "1.2/x",
            "1.22/1/1.dcm",
        ] {
            write(path);
        }
        let there = |path: &str| files.objects().join(path).exists();
        let keep = HashSet::from(["objects/1.2/1.3/1.4.dcm".to_owned()]);
        assert!(files.clear_study("1.2", &keep).unwrap());
        assert!(there("1.2/1.3/1.4.dcm") && !there("1.2/1.3/1.5.dcm"));
        assert!(!there("1.2/1.6") && !there("1.2/x") && there("1.22/1/1.dcm"));
        assert!(
            !files.clear_study("1.2", &keep).unwrap(),
            "nothing is left to do"
        );
        assert!(files.clear_study("1.2", &HashSet::new()).unwrap());
        assert!(!there("1.2") && there("1.22/1/1.dcm"));
        for nothing in ["1.2", "..", "", "1.2/../1.22"] {
            assert!(
                !files.clear_study(nothing, &HashSet::new()).unwrap(),
                "{nothing}"
            );
        }
        assert!(there("1.22/1/1.dcm"));
    }

    #[test]
    fn only_uids_become_paths() {
        assert!(Files::object_path("1.2", "1.3", "1.4").is_some());
        for bad in [
            "",
            "..",
            "1..2",
            "../1",
            "1/2",
            "1.2.",
            ".1",
            "a",
            &"1".repeat(65),
        ] {
            assert!(Files::object_path("1.2", "1.3", bad).is_none(), "{bad}");
        }
    }
}
