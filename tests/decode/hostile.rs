//! Whatever is in the files, the parent gets words and keeps its memory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstread::dicom::decode::{DecodeError, DecodeLimits, decode_series_with};

use super::common::BINARY;
use super::files;

/// A small cap, so that a bomb shows quickly.
fn small() -> DecodeLimits {
    DecodeLimits {
        memory_mib: 512,
        wall_time_s: 20,
        ..DecodeLimits::default()
    }
}

/// Peak resident memory of this process, MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[tokio::test]
async fn hostile_files_never_hurt_the_parent() {
    /// More than any answer needs.
    const GROWTH_MAX_MIB: u64 = 64;
    let Some(root) = super::real_study("hostile") else {
        return;
    };
    let mut all = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push(path);
            }
        }
    }
    all.sort();
    let before = peak_mib();
    let mut answers = std::collections::BTreeMap::<String, usize>::new();
    for path in &all {
        let file = as_stored(&std::fs::read(path).unwrap());
        let files = [file.path().to_owned()];
        let kind = match decode_series_with(Path::new(BINARY), &files, &small()).await {
            Ok(_) => "decoded".to_owned(),
            Err(DecodeError::NotAVolume(reason)) => format!("not a volume: {reason}"),
            Err(DecodeError::Failed(reason)) => format!("failed: {reason}"),
        };
        *answers.entry(kind.chars().take(90).collect()).or_default() += 1;
    }
    println!("{} files: {answers:#?}", all.len());
    assert!(peak_mib() < before + GROWTH_MAX_MIB);
}

/// A received file with the meta information that the server writes:
/// the collection's own often lacks its length, and then nothing behind it would be tried.
fn as_stored(file: &[u8]) -> tempfile::NamedTempFile {
    let mut syntax = b"1.2.840.10008.1.2".to_vec();
    let mut at = if file.get(128..132) == Some(b"DICM") {
        132
    } else {
        0
    };
    while let Some(head) = file.get(at..at + 12).filter(|head| head[..2] == [2, 0]) {
        let long = matches!(&head[4..6], b"OB" | b"UN" | b"SQ");
        let length = if long {
            u32::from_le_bytes([head[8], head[9], head[10], head[11]])
        } else {
            u16::from_le_bytes([head[6], head[7]]).into()
        };
        let start = at + if long { 12 } else { 8 };
        let end = (start + usize::try_from(length).unwrap()).min(file.len());
        if head[2..4] == [0x10, 0] {
            syntax = file[start..end].to_vec();
        }
        at = end;
    }
    stored(&syntax, &file[at..])
}

/// DICOM of the given transfer syntax and data set.
fn stored(syntax: &[u8], data_set: &[u8]) -> tempfile::NamedTempFile {
    let mut meta = Vec::new();
    let mut element = |tag: u16, vr: &[u8; 2], value: &[u8]| {
        let mut value = value.to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        meta.extend_from_slice(&2_u16.to_le_bytes());
        meta.extend_from_slice(&tag.to_le_bytes());
        meta.extend_from_slice(vr);
        if vr == b"OB" {
            meta.extend_from_slice(&[0; 2]);
            meta.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        } else {
            meta.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        }
        meta.extend_from_slice(&value);
    };
    element(1, b"OB", &[0, 1]);
    element(2, b"UI", b"1.2.840.10008.5.1.4.1.1.4\0");
    element(3, b"UI", b"1.2.3\0");
    element(0x10, b"UI", syntax);
    element(0x12, b"UI", b"1.2.3\0");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 128]).unwrap();
    file.write_all(b"DICM\x02\0\0\0UL\x04\0").unwrap();
    file.write_all(&u32::try_from(meta.len()).unwrap().to_le_bytes())
        .unwrap();
    file.write_all(&meta).unwrap();
    file.write_all(data_set).unwrap();
    file
}

async fn fails(data_set: &[u8]) -> String {
    let file = stored(b"1.2.840.10008.1.2.1", data_set);
    let files = [file.path().to_owned()];
    match decode_series_with(Path::new(BINARY), &files, &small()).await {
        Err(DecodeError::Failed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nesting_without_end_ends_the_child_only() {
    // (0008,1140) SQ of undefined length > item of undefined length > ..., 200,000 deep.
    let level = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff";
    let reason = fails(&level.repeat(200_000)).await;
    assert!(reason.contains("nested"), "{reason}");
}

#[tokio::test]
async fn a_length_without_data_is_no_allocation() {
    // (7FE0,0010) OW of almost 4 GiB, then nothing.
    let reason = fails(b"\xe0\x7f\x10\0OW\0\0\xf0\xff\xff\xff").await;
    println!("{reason}");
}

/// A file that is never to be read to its end: whoever opens it waits.
fn never(folder: &Path) -> PathBuf {
    let path = folder.join("never");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

#[tokio::test]
async fn time_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let limits = DecodeLimits {
        wall_time_s: 1,
        ..small()
    };
    let error = decode_series_with(Path::new(BINARY), &[never(folder.path())], &limits)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DecodeError::Failed("decoding took longer than its limit of 1 s".into())
    );
}

/// How many filters of system calls a process has, by its status (proc(5)): in a container every process has some.
fn filters(status: &str) -> u32 {
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("Seccomp_filters:"));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

/// Those of each decoder of this process.
fn filters_of_children() -> Vec<u32> {
    let ours = format!("PPid:\t{}\n", std::process::id());
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("status")).ok())
        .filter(|status| status.starts_with("Name:\tfirstread\n") && status.contains(&ours))
        .map(|status| filters(&status))
        .collect()
}

#[tokio::test]
async fn a_decoder_that_works_has_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = never(folder.path());
    let limits = small();
    let decoding =
        tokio::spawn(async move { decode_series_with(Path::new(BINARY), &[path], &limits).await });
    let ours = filters(&std::fs::read_to_string("/proc/self/status").unwrap());
    let seen = async {
        while !filters_of_children().iter().any(|theirs| *theirs > ours) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(15), seen).await;
    let theirs = filters_of_children();
    assert!(seen.is_ok(), "{theirs:?}, and we have {ours}");
    decoding.abort();
}

#[tokio::test]
async fn files_that_are_gone_or_are_none() {
    for path in ["/nonexistent", "/", "/dev/null", BINARY] {
        let error = decode_series_with(Path::new(BINARY), &[path.into()], &small())
            .await
            .unwrap_err();
        let DecodeError::Failed(reason) = error else {
            panic!("{path}: {error:?}");
        };
        assert!(
            reason.starts_with("image 1 of 1 could not be decoded"),
            "{reason}"
        );
    }
    assert!(files("t1_flair_study", "flair").is_none_or(|f| f.len() == 52));
}
