//! Copying the data folder while others write into it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Never copied: what was not acknowledged, the database, of which there is a copy of its own, and a password.
const LEFT_OUT: [&str; 6] = [
    crate::secrets::FIRST_PASSWORD,
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
/// File systems that keep the time of a file less exactly than others are off by up to so much.
const COARSE_TIME: Duration = Duration::from_secs(2);

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files that are there now.
    pub files: u64,
    /// Their length in all.
    pub bytes: u64,
    /// Of those, files that had been there before.
    pub kept: u64,
    /// What is there beside them.
    pub left_over: LeftOver,
}

/// Files of earlier backups that the data folder has no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOver {
    /// How many.
    pub files: u64,
    /// Their length in all.
    pub bytes: u64,
}

/// Copies a data folder into a backup, and notes each file of it, and what the backup has beside: paths relative
/// to the folder, each with a zero byte behind it, as no path has one.
pub(super) struct Copying {
    from: PathBuf,
    to: PathBuf,
    /// Files.
    listed: BufWriter<File>,
    /// Files and whole folders.
    left_over: BufWriter<File>,
    copied: Copied,
}

impl Copying {
    /// Begins, with two lists.
    pub fn begin(from: &Path, to: &Path, listed: &Path, left_over: &Path) -> io::Result<Self> {
        Ok(Self {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            listed: BufWriter::new(File::create(listed)?),
            left_over: BufWriter::new(File::create(left_over)?),
            copied: Copied::default(),
        })
    }

    /// Copies the object log alone. That of an earlier backup goes: what it holds was recorded since.
    pub fn log(&mut self) -> io::Result<()> {
        match fs::remove_dir_all(self.to.join(LOG)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.tree(&self.from.join(LOG), Path::new(LOG), false)
    }

    /// Copies the rest, and makes all of it durable.
    pub fn all_but_log(mut self) -> io::Result<Copied> {
        let mut names: HashSet<OsString> = LEFT_OUT.iter().map(OsString::from).collect();
        names.insert(LOG.into());
        let before = names.clone();
        for entry in fs::read_dir(&self.from)? {
            let name = entry?.file_name();
            if before.contains(&name) {
                continue;
            }
            let unchanging = UNCHANGING.iter().any(|u| name == *u);
            // images may lie on another disk, by a link
            let from = fs::canonicalize(self.from.join(&name));
            let from = from.unwrap_or_else(|_| self.from.join(&name));
            self.tree(&from, Path::new(&name), unchanging)?;
            names.insert(name);
        }
        self.beside(Path::new(""), &names)?;
        self.listed.flush()?;
        self.left_over.flush()?;
        rustix::fs::syncfs(File::open(&self.to)?)?;
        Ok(self.copied)
    }

    fn tree(&mut self, from: &Path, relative: &Path, unchanging: bool) -> io::Result<()> {
        let to = self.to.join(relative);
        let meta = match fs::symlink_metadata(from) {
            // It was replaced or removed since it was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            meta => meta?,
        };
        if meta.is_dir() {
            fs::create_dir_all(&to)?;
            let entries = match fs::read_dir(from) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            let mut names = HashSet::new();
            for entry in entries {
                let name = entry?.file_name();
                self.tree(&from.join(&name), &relative.join(&name), unchanging)?;
                names.insert(name);
            }
            return self.beside(relative, &names);
        }
        if !meta.is_file() {
            return Ok(());
        }
        if unchanging && is_copy(&to, &meta) {
            self.copied.kept += 1;
        } else if !copy(from, &to, &meta)? {
            return Ok(());
        }
        self.copied.files += 1;
        self.copied.bytes += meta.len();
        note(&mut self.listed, relative)
    }

    /// Notes what a folder of the backup has beside these names.
    fn beside(&mut self, relative: &Path, names: &HashSet<OsString>) -> io::Result<()> {
        for entry in fs::read_dir(self.to.join(relative))? {
            let entry = entry?;
            if !names.contains(&entry.file_name()) {
                measure(&entry.path(), &mut self.copied.left_over)?;
                note(&mut self.left_over, &relative.join(entry.file_name()))?;
            }
        }
        Ok(())
    }
}

/// Whether a file of the backup is a copy of this one: images are never changed, but one that was removed by retention
/// and sent again may be another of the same name and length.
fn is_copy(to: &Path, from: &Metadata) -> bool {
    let Ok(there) = fs::metadata(to) else {
        return false;
    };
    let older = match (there.modified(), from.modified()) {
        (Ok(there), Ok(from)) => there + COARSE_TIME < from,
        _ => false,
    };
    there.len() == from.len() && !older
}

/// Copies a file, with its time; false where it is not there any more.
fn copy(from: &Path, to: &Path, meta: &Metadata) -> io::Result<bool> {
    // Under another name until it is whole: a copy that was broken off is no copy.
    let part = to.with_extension("part");
    match fs::copy(from, &part) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !from.exists() => return Ok(false),
        done => done?,
    };
    // one that cannot have it is younger than what it is a copy of, as it should be
    if let Ok(modified) = meta.modified() {
        let _ = File::open(&part)?.set_modified(modified);
    }
    fs::rename(&part, to)?;
    Ok(true)
}

fn measure(path: &Path, found: &mut LeftOver) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            measure(&entry?.path(), found)?;
        }
    } else {
        found.files += 1;
        found.bytes += meta.len();
    }
    Ok(())
}

fn note(list: &mut BufWriter<File>, relative: &Path) -> io::Result<()> {
    list.write_all(relative.as_os_str().as_bytes())?;
    list.write_all(&[0])
}

/// Does something with each path of a list.
fn for_each(list: &Path, mut what: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for path in BufReader::new(File::open(list)?).split(0) {
        let path = PathBuf::from(OsString::from_vec(path?));
        // a list from elsewhere must not lead out of the folder
        let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
        if !inside || path.as_os_str().is_empty() {
            let said = format!(
                "{}: {} leads out of the backup",
                list.display(),
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, said));
        }
        what(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    }
    Ok(())
}

/// Copies the files of a list, durably.
pub(super) fn listed(from: &Path, to: &Path, list: &Path) -> io::Result<()> {
    let mut made = PathBuf::new();
    for_each(list, |path| {
        let parent = path.parent().unwrap_or(Path::new(""));
        if made != parent {
            fs::create_dir_all(to.join(parent))?;
            made = parent.to_path_buf();
        }
        let meta = fs::metadata(from.join(path))?;
        let copied = copy(&from.join(path), &to.join(path), &meta)?;
        copied.then_some(()).ok_or(io::ErrorKind::NotFound.into())
    })?;
    rustix::fs::syncfs(File::open(to)?)?;
    Ok(())
}

/// Copies everything: a backup of a version that made no list.
pub(super) fn all(from: &Path, to: &Path) -> io::Result<()> {
    let nowhere = Path::new("/dev/null");
    let mut copying = Copying::begin(from, to, nowhere, nowhere)?;
    copying.log()?;
    copying.all_but_log().map(drop)
}

/// Removes files and folders of a list.
pub(super) fn remove(from: &Path, list: &Path) -> io::Result<()> {
    for_each(list, |path| {
        let path = from.join(path);
        let removed = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(e) => Err(e),
        };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    })
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
    use std::time::SystemTime;

    use super::*;

    /// A data folder and a backup.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::create_dir(place.at("data")).unwrap();
            fs::create_dir(place.at("copy")).unwrap();
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.at("data").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn copied(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.at("copy").join(path)).ok()
        }

        fn back_up(&self) -> Copied {
            let (listed, beside) = (self.at("listed"), self.at("beside"));
            let copying = Copying::begin(&self.at("data"), &self.at("copy"), &listed, &beside);
            let mut copying = copying.unwrap();
            copying.log().unwrap();
            copying.all_but_log().unwrap()
        }

        fn list(&self, name: &str) -> Vec<PathBuf> {
            let mut all = Vec::new();
            for_each(&self.at(name), |path| {
                all.push(path.to_path_buf());
                Ok(())
            })
            .unwrap();
            all.sort();
            all
        }
    }

    #[test]
    fn nothing_of_an_earlier_log_stays() {
        let place = Place::new();
        assert_eq!(place.back_up(), Copied::default(), "nothing yet");
        place.write("log/a/0.segment", "one");
        place.write("links.key", "key");
        assert_eq!(place.back_up().bytes, 6);
        let log = place.at("data/log");
        fs::rename(log.join("a"), log.join("b")).unwrap();
        let again = place.back_up();
        assert_eq!((again.files, again.left_over.files), (2, 0));
        assert_eq!(place.copied("log/b/0.segment").unwrap(), "one");
        assert!(place.copied("log/a/0.segment").is_none());
        all(&place.at("copy"), &place.at("back")).unwrap();
        assert!(place.at("back/log/b/0.segment").exists() && place.at("back/links.key").exists());
    }

    #[test]
    fn what_never_changes_is_copied_once() {
        let place = Place::new();
        place.write("objects/1/2/3.dcm", "image");
        place.write("measurements/1/volumes.nii.gz", "old");
        place.write("links.key", "key");
        place.write("spool/ab/1.part", "half");
        place.write(crate::secrets::FIRST_PASSWORD, "secret");
        place.write("firstread.db", "database");
        let first = place.back_up();
        assert_eq!((first.files, first.bytes, first.kept), (3, 11, 0));
        place.write("measurements/1/volumes.nii.gz", "new");
        place.write("objects/1/2/4.dcm", "image 2");
        let second = place.back_up();
        assert_eq!((second.files, second.kept), (4, 1));
        let volumes = place.copied("measurements/1/volumes.nii.gz");
        assert_eq!(volumes.unwrap(), "new");
        assert!(
            place.copied("spool/ab/1.part").is_none() && place.copied("firstread.db").is_none()
        );
    }

    #[test]
    fn an_image_that_came_again_is_copied_again_though_it_is_as_long() {
        let place = Place::new();
        place.write("objects/1/2/3.dcm", "image 1");
        place.back_up();
        place.write("objects/1/2/3.dcm", "image 2");
        let later = SystemTime::now() + Duration::from_hours(1);
        let image = File::open(place.at("data/objects/1/2/3.dcm")).unwrap();
        image.set_modified(later).unwrap();
        assert_eq!(place.back_up().kept, 0);
        assert_eq!(place.copied("objects/1/2/3.dcm").unwrap(), "image 2");
        assert_eq!(place.back_up().kept, 1, "and once");
    }

    #[test]
    fn what_the_data_folder_has_no_more_is_listed_not_restored_and_removed_when_asked() {
        let place = Place::new();
        for path in [
            "objects/1/2/3.dcm",
            "objects/1/2/4.dcm",
            "objects/5/6/7.dcm",
            "objects/5/6/8.dcm",
        ] {
            place.write(path, "image");
        }
        place.write("pictures/1/odd \n name.png", "picture");
        assert_eq!(place.back_up().left_over, LeftOver::default());
        fs::remove_dir_all(place.at("data/objects/5")).unwrap();
        fs::remove_file(place.at("data/objects/1/2/4.dcm")).unwrap();
        fs::write(place.at("copy/objects/1/2/9.part"), "broken off").unwrap();
        let beside = place.back_up().left_over;
        assert_eq!((beside.files, beside.bytes), (4, 25));
        let paths = ["objects/1/2/4.dcm", "objects/1/2/9.part", "objects/5"];
        assert_eq!(place.list("beside"), paths.map(PathBuf::from));
        let paths = ["objects/1/2/3.dcm", "pictures/1/odd \n name.png"];
        assert_eq!(place.list("listed"), paths.map(PathBuf::from));
        fs::create_dir(place.at("back")).unwrap();
        listed(&place.at("copy"), &place.at("back"), &place.at("listed")).unwrap();
        assert!(place.at("back/pictures/1/odd \n name.png").exists());
        assert!(!place.at("back/objects/5").exists());
        assert!(place.copied("objects/5/6/7.dcm").is_some(), "nobody asked");
        remove(&place.at("copy"), &place.at("beside")).unwrap();
        assert!(!place.at("copy/objects/5").exists());
        assert!(place.copied("objects/1/2/4.dcm").is_none());
        assert!(place.copied("objects/1/2/3.dcm").is_some());
        assert_eq!(place.back_up().left_over, LeftOver::default());
    }

    #[test]
    fn images_on_another_disk_by_a_link_are_copied() {
        let place = Place::new();
        fs::create_dir_all(place.at("disk/1/2")).unwrap();
        fs::write(place.at("disk/1/2/3.dcm"), "image").unwrap();
        std::os::unix::fs::symlink(place.at("disk"), place.at("data/objects")).unwrap();
        assert_eq!(place.back_up().files, 1);
        assert_eq!(place.copied("objects/1/2/3.dcm").unwrap(), "image");
    }

    #[test]
    fn a_list_that_leads_out_of_the_backup_does_nothing() {
        let place = Place::new();
        fs::write(place.at("victim"), "not ours").unwrap();
        for bad in ["../victim", "/etc/hostname", "a/../../victim", ""] {
            fs::write(place.at("list"), format!("{bad}\0")).unwrap();
            assert!(
                remove(&place.at("copy"), &place.at("list")).is_err(),
                "{bad}"
            );
            let copied = listed(&place.at("copy"), &place.at("data"), &place.at("list"));
            assert!(copied.is_err(), "{bad}");
        }
        assert!(place.at("victim").exists());
        fs::write(place.at("list"), "gone.dcm\0").unwrap();
        let missing = listed(&place.at("copy"), &place.at("data"), &place.at("list"));
        assert!(missing.unwrap_err().to_string().contains("gone.dcm"));
    }
}
