//! The folder beside the database.
//!
//! ```text
//! spool/                                 objects while they arrive; emptied at start-up
//! objects/STUDY/SERIES/SOP.dcm           what was acknowledged
//! quarantine/                            what was kept aside, with its reason in the database
//! pictures/STUDY/SERIES/PLANE.png        what the study page shows
//! results/STUDY/SOP.dcm                  our own objects, for the PACS
//! measurements/STUDY/NAME.nii.gz         label maps of measured studies
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::dicom::guard;

/// The data folder.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folders that are missing.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        let files = Self {
            root: root.to_path_buf(),
        };
        for folder in [
            files.spool(),
            files.objects(),
            files.quarantine(),
            files.pictures(),
        ] {
            std::fs::create_dir_all(folder)?;
        }
        Ok(files)
    }

    /// The data folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Objects while they arrive.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Acknowledged objects.
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

    /// Removes what an earlier process left half received: it was never acknowledged.
    ///
    /// # Errors
    /// When the spool cannot be read or a file cannot be removed.
    pub fn empty_spool(&self) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(self.spool())? {
            let path = entry?.path();
            if path.is_file() {
                std::fs::remove_file(path)?;
                removed += 1;
            }
        }
        Ok(removed)
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
fn make_folder_durably(folder: &Path) -> io::Result<()> {
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
