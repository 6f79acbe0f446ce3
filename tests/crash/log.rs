//! The object log under a whole server: torn by a crash, on a full disk, taken over by another.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{TestServer, dicom_files, sample, study_uid, tag};

const BLOCK_BYTES: usize = 4096;
const RECORD: &[u8] = b"FRobject";

/// The data set of a PS3.10 file: what follows the group of file meta information.
pub fn data_set(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let length: [u8; 4] = bytes[140..144].try_into().unwrap();
    let at = 144 + usize::try_from(u32::from_le_bytes(length)).unwrap();
    bytes[at..].to_vec()
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for run in std::fs::read_dir(data.join("log")).into_iter().flatten() {
        for file in std::fs::read_dir(run.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "segment") {
                found.push(path);
            }
        }
    }
    found
}

/// Adds to each log of a process that was killed what a write under way leaves: the head of a record
/// that is not all there, and noise.
pub fn tear(data: &Path) {
    for path in segments(data) {
        let bytes = std::fs::read(&path).unwrap();
        let blocks = || bytes.chunks_exact(BLOCK_BYTES).enumerate();
        let records = blocks().filter(|(_, block)| block.starts_with(RECORD));
        // of this life of the segment
        let mut ours = records.filter(|(_, block)| block[8..24] == bytes[8..24]);
        let Some((last, block)) = ours.next_back() else {
            continue;
        };
        let length: [u8; 4] = block[24..28].try_into().unwrap();
        let length = 256 + usize::try_from(u32::from_le_bytes(length)).unwrap();
        let at = (last + length.div_ceil(BLOCK_BYTES)) * BLOCK_BYTES;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let mut torn = block.to_vec();
        torn.extend([0xEE; 1000]);
        file.write_all_at(&torn, at as u64).unwrap();
        eprintln!("torn at {at}: {}", path.display());
    }
}

/// After a start only the log of the process that runs is there, and none was put aside as damaged.
pub fn nothing_is_left_over(data: &Path) {
    let logs = std::fs::read_dir(data.join("log")).unwrap().count();
    assert_eq!(logs, 1, "one log, of the process that runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_reception_resumes_by_itself() {
    let small = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let mounted = Command::new("mount")
            .args(arguments)
            .arg(small.path())
            .output();
        mounted.is_ok_and(|o| o.status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=100m", "tmpfs"]) {
        eprintln!("skipped: may not mount a small disk");
        return;
    }
    let settings = [(
        "FIRSTREAD_DICOM__DISK_RESERVE_BYTES".to_owned(),
        (4 << 20).to_string(),
    )];
    let server = TestServer::start_in_with(small.path(), "", &settings);
    let files = dicom_files(&sample("one"));
    assert!(server.send(&files[..1]).0, "there is room");
    let ballast = small.path().join("ballast");
    // all of it: writing ends when nothing more fits
    let _ = std::fs::write(&ballast, vec![1; 100 << 20]);
    let (all, said) = server.send(&files[1..2]);
    let refused = said.contains("0xa700")
        || said.contains("OutOfResources")
        || said.contains("Out Of Resources");
    assert!(!all || refused, "{said}");
    assert!(refused, "{said}");
    std::fs::remove_file(&ballast).unwrap();
    let (all, said) = server.send(&files[1..]);
    assert!(all, "by itself: {said}");
    let uid = study_uid(&files[0]);
    server.wait_for(&uid, |i| i["images"] == files.len()).await;
    drop(server);
    let unmounted = Command::new("umount").arg("-l").arg(small.path()).status();
    assert!(unmounted.unwrap().success());
}

/// What a receiver had acknowledged when it died is recorded by another one on the same folder, while
/// that one runs.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_receiver_that_died_is_taken_over() {
    let files = dicom_files(&sample("one"));
    let uid = study_uid(&files[0]);
    let (theirs, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut dead = TestServer::start_in(theirs.path(), "");
    let server = TestServer::start_in(data.path(), "");
    assert!(dead.send(&files).0);
    dead.kill();
    let segment = segments(theirs.path()).remove(0);
    // as if both had one folder; others look at it once it has its name
    let hidden = data.path().join("log/.copy");
    std::fs::create_dir(&hidden).unwrap();
    for file in std::fs::read_dir(segment.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), hidden.join(file.file_name())).unwrap();
    }
    std::fs::rename(&hidden, data.path().join("log/00dead00")).unwrap();
    server.wait_for(&uid, |i| i["images"] == files.len()).await;
    for file in &files {
        let series = tag(file, "0020,000e");
        let kept = format!("objects/{uid}/{series}/{}.dcm", tag(file, "0008,0018"));
        let on_disk = std::fs::read(data.path().join(kept)).unwrap();
        assert!(on_disk.ends_with(&data_set(file)));
    }
    let began = Instant::now();
    while data.path().join("log/00dead00").exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "put away");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.wait_until_ranked(&uid).await;
}
