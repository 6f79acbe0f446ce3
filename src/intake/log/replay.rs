//! Taking over what a process that died had acknowledged.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{error, warn};

use super::record::Head;
use super::segment::{Place, Segment, scan};
use super::{DAMAGED, LogFolder, logs_in};

const SEGMENT: &str = "segment";

/// The log of a process that is dead, locked by us.
#[derive(Debug)]
pub struct Left {
    folder: LogFolder,
    /// Its objects.
    pub found: Vec<Found>,
    /// Records that are damaged although later ones are whole.
    damaged: usize,
}

/// An object in it.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub place: Place,
    /// What stands in front of it.
    pub head: Head,
}

/// Looks for logs below `logs` whose process is dead.
///
/// # Errors
/// When the folder or a segment cannot be read. The logs taken over so far are free again then.
pub fn take_over(logs: &Path) -> io::Result<Vec<Left>> {
    let mut all = Vec::new();
    for path in logs_in(logs)? {
        if let Some(folder) = LogFolder::of_dead(path) {
            all.push(Left::read(folder)?);
        }
    }
    Ok(all)
}

/// Segments of a log.
pub(super) fn segments_of(folder: &LogFolder) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder.path)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|e| e == SEGMENT));
    Ok(paths)
}

impl Left {
    fn read(folder: LogFolder) -> io::Result<Self> {
        let mut left = Self {
            folder,
            found: Vec::new(),
            damaged: 0,
        };
        for path in segments_of(&left.folder)? {
            left.read_segment(&path)?;
        }
        left.found.sort_by_key(|found| found.head.received_at);
        Ok(left)
    }

    fn read_segment(&mut self, path: &Path) -> io::Result<()> {
        let Some((segment, id)) = Segment::open(path.to_path_buf())? else {
            return Ok(());
        };
        let segment = Arc::new(segment);
        let mut bytes = Vec::new();
        segment.file().read_to_end(&mut bytes)?;
        let records = scan(&bytes, id);
        // the last records of a crash may be torn: nobody was told that they are ours
        let whole_until = records.iter().rposition(|r| r.sound).map_or(0, |at| at + 1);
        let torn = records.len() - whole_until;
        if torn > 0 {
            warn!(
                torn,
                "the object log ends in records that were never acknowledged"
            );
        }
        for record in records.into_iter().take(whole_until) {
            if record.sound {
                self.found.push(Found {
                    place: Place {
                        segment: Arc::clone(&segment),
                        id,
                        offset: record.offset,
                        file_bytes: record.head.file_bytes,
                        received_at: record.head.received_at,
                    },
                    head: record.head,
                });
            } else {
                self.damaged += 1;
            }
        }
        Ok(())
    }

    /// One of its objects cannot be read.
    pub fn note_damaged(&mut self) {
        self.damaged += 1;
    }

    /// Everything in it has its file and its row. What is damaged is put aside for an administrator.
    pub fn finish(self) {
        let path = self.folder.path.clone();
        let outcome = if self.damaged == 0 {
            self.folder.remove()
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let aside = path.with_file_name(format!("{DAMAGED}{name}"));
            error!(
                damaged = self.damaged,
                aside = %aside.display(),
                "the object log holds damaged records; it is kept aside"
            );
            std::fs::rename(&path, aside)
        };
        if let Err(e) = outcome {
            warn!(error = %e, "could not put away a log that was taken over");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use tokio::sync::{mpsc, oneshot};

    use super::super::{Append, Backlog, Entry, Log, LogLimits, Logged, Unrecorded, left_behind};
    use super::*;
    use crate::dicom::receive::Pool;

    const LIMITS: LogLimits = LogLimits {
        segment_bytes: 1 << 20,
        segments_max: 4,
        reserve_bytes: 0,
    };

    fn entry(received_at: i64) -> Entry {
        Entry {
            header: crate::dicom::header::ObjectHeader::default(),
            association: None,
            calling_ae: "MR".into(),
            received_at,
            meta_bytes: 3,
            verdict: None,
            share: None,
        }
    }

    /// Appends objects and gives what the recorder would get.
    fn append(log: &Log, pool: &Arc<Pool>, objects: &[Vec<u8>]) {
        for (n, bytes) in objects.iter().enumerate() {
            let mut object = pool.take();
            assert!(object.push(bytes).is_empty());
            let (durable, told) = oneshot::channel();
            assert!(log.append(Append {
                checksum: crc32fast::hash(bytes),
                object,
                entry: entry(i64::try_from(n).unwrap()),
                durable,
            }));
            told.blocking_recv().unwrap().unwrap();
        }
    }

    fn objects(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|n| vec![u8::try_from(n % 251).unwrap(); 1000 + n * 777])
            .collect()
    }

    fn start(folder: &Path, pool: &Arc<Pool>) -> (Log, mpsc::Receiver<Logged>) {
        start_telling(folder, pool, &Backlog::default())
    }

    fn start_telling(
        folder: &Path,
        pool: &Arc<Pool>,
        backlog: &Backlog,
    ) -> (Log, mpsc::Receiver<Logged>) {
        let (to, logged) = mpsc::channel(1000);
        let log = Log::start(folder, LIMITS, pool, backlog.clone(), &to, |l| l).unwrap();
        (log, logged)
    }

    /// A copy of the log's files as a crash leaves them.
    fn crashed(logs: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let run = std::fs::read_dir(logs).unwrap().next().unwrap().unwrap();
        let to = copy.path().join("run");
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(run.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        copy
    }

    fn read_all(logs: &Path, pool: &Arc<Pool>) -> (Vec<Vec<u8>>, usize) {
        let left = take_over(logs).unwrap();
        let damaged = left.iter().map(|l| l.damaged).sum();
        let found = left.iter().flat_map(|l| &l.found);
        let objects = found
            .map(|f| f.place.read(pool).unwrap().object().to_vec())
            .collect();
        (objects, damaged)
    }

    fn segments(logs: &Path) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(logs.join("run"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn everything_acknowledged_is_found_over_several_segments() {
        let (folder, pool) = (tempfile::tempdir().unwrap(), Arc::<Pool>::default());
        let backlog = Backlog::default();
        let (log, mut logged) = start_telling(folder.path(), &pool, &backlog);
        let sent = objects(70);
        append(&log, &pool, &sent);
        assert!(
            take_over(folder.path()).unwrap().is_empty(),
            "its process lives"
        );
        let copy = crashed(folder.path());
        assert!(segments(copy.path()).len() > 1);
        let lies = backlog.unrecorded();
        assert_eq!((lies.objects, lies.oldest_ms), (70, Some(0)));
        assert_eq!(lies.bytes, log.waiting_bytes());
        assert_eq!(left_behind(copy.path()).unwrap(), lies, "by heads alone");
        assert_eq!(left_behind(folder.path()).unwrap().objects, 0, "it lives");
        assert_eq!(read_all(copy.path(), &pool), (sent, 0));
        // settled: nothing is left, neither for a restart nor behind a clean end
        while let Ok(l) = logged.try_recv() {
            log.settled(l.place);
        }
        assert_eq!(backlog.unrecorded(), Unrecorded::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(log.end());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_tail_ends_the_log_and_nothing_before_it() {
        let (folder, pool) = (tempfile::tempdir().unwrap(), Arc::<Pool>::default());
        let (log, _logged) = start(folder.path(), &pool);
        let sent = objects(5);
        append(&log, &pool, &sent);
        let copy = crashed(folder.path());
        let last = segments(copy.path())[0].clone();
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&last)
            .unwrap();
        let mut bytes = std::fs::read(&last).unwrap();
        let id: [u8; 16] = bytes[8..24].try_into().unwrap();
        let records = scan(&bytes, id);
        assert_eq!(records.len(), 5);
        // half of the last record did not reach the disk
        let at = records[4].offset + 600;
        file.write_all_at(&[0xEE; 500], at).unwrap();
        assert_eq!(read_all(copy.path(), &pool), (sent[..4].to_vec(), 0));
        // neither did its head
        bytes = vec![0; 4096];
        file.write_all_at(&bytes, records[4].offset).unwrap();
        assert_eq!(read_all(copy.path(), &pool), (sent[..4].to_vec(), 0));
        // cut off in the middle of it
        file.set_len(at).unwrap();
        assert_eq!(read_all(copy.path(), &pool), (sent[..4].to_vec(), 0));
    }

    #[test]
    fn a_damaged_record_hides_no_later_one_and_is_kept_aside() {
        let (folder, pool) = (tempfile::tempdir().unwrap(), Arc::<Pool>::default());
        let (log, _logged) = start(folder.path(), &pool);
        let sent = objects(4);
        append(&log, &pool, &sent);
        let copy = crashed(folder.path());
        let path = segments(copy.path())[0].clone();
        let bytes = std::fs::read(&path).unwrap();
        let records = scan(&bytes, bytes[8..24].try_into().unwrap());
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0xEE], records[1].offset + 300).unwrap();
        let mut left = take_over(copy.path()).unwrap();
        let only = left.pop().unwrap();
        assert_eq!((only.found.len(), only.damaged), (3, 1));
        only.finish();
        let kept: Vec<String> = std::fs::read_dir(copy.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(kept, [".damaged-run"]);
    }

    #[test]
    fn a_segment_begun_anew_holds_nothing_of_its_earlier_life() {
        let (folder, pool) = (tempfile::tempdir().unwrap(), Arc::<Pool>::default());
        let (log, mut logged) = start(folder.path(), &pool);
        append(&log, &pool, &objects(6));
        for _ in 0..6 {
            log.settled(logged.blocking_recv().unwrap().place);
        }
        // the log is tidied once a second while nothing comes
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        assert_eq!(read_all(crashed(folder.path()).path(), &pool).0.len(), 0);
        let sent = vec![vec![9; 50]];
        append(&log, &pool, &sent);
        assert_eq!(read_all(crashed(folder.path()).path(), &pool), (sent, 0));
    }

    #[test]
    fn a_full_log_refuses_and_goes_on_once_there_is_room() {
        let (folder, pool) = (tempfile::tempdir().unwrap(), Arc::<Pool>::default());
        let (to, mut logged) = mpsc::channel(1000);
        let limits = LogLimits {
            reserve_bytes: u64::MAX / 2,
            ..LIMITS
        };
        let backlog = Backlog::default();
        let log = Log::start(folder.path(), limits, &pool, backlog, &to, |l: Logged| l).unwrap();
        let (durable, told) = oneshot::channel();
        assert!(log.append(Append {
            checksum: 0,
            object: pool.take(),
            entry: entry(0),
            durable,
        }));
        assert_eq!(
            told.blocking_recv().unwrap(),
            Err(super::super::NotLogged::Full)
        );
        assert!(logged.try_recv().is_err(), "nothing of it goes on");
    }

    #[tokio::test]
    async fn a_lane_that_breaks_is_told_of_and_its_log_stays() {
        let (folder, pool) = (tempfile::tempdir().unwrap(), Arc::<Pool>::default());
        let (to, _logged) = mpsc::channel::<Logged>(1);
        let broken = |_: Logged| -> Logged { panic!("broken on purpose") };
        let backlog = Backlog::default();
        let log = Log::start(folder.path(), LIMITS, &pool, backlog, &to, broken).unwrap();
        let soon = std::time::Duration::from_secs(5);
        let early = tokio::time::timeout(soon / 50, log.broken()).await;
        assert!(early.is_err(), "all lanes go on");
        let (durable, told) = oneshot::channel();
        let mut object = pool.take();
        assert!(object.push(&[7; 100]).is_empty());
        assert!(log.append(Append {
            checksum: crc32fast::hash(object.object()),
            object,
            entry: entry(0),
            durable,
        }));
        assert!(told.await.is_err(), "nobody says that it is ours");
        tokio::time::timeout(soon, log.broken()).await.unwrap();
        // what it wrote is for the next process
        log.end().await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
