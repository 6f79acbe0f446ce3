//! Data sets: made by hand, and the reference files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::MR;

/// A small MR object in explicit VR little endian, with a value of `filler` bytes in it.
pub fn mr(instance: &str, filler: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(filler + 512);
    put(&mut bytes, (8, 0x16), "UI", MR.as_bytes());
    put(&mut bytes, (8, 0x18), "UI", instance.as_bytes());
    put(&mut bytes, (8, 0x60), "CS", b"MR");
    put(&mut bytes, (0x10, 0x10), "PN", b"Test^Person");
    put(&mut bytes, (0x10, 0x20), "LO", b"T1");
    put(&mut bytes, (0x20, 0x0D), "UI", b"1.2.3");
    put(&mut bytes, (0x20, 0x0E), "UI", b"1.2.3.1");
    put(
        &mut bytes,
        (0x7FE0, 0x10),
        "OW",
        &vec![0x5A; filler + filler % 2],
    );
    bytes
}

pub fn put(bytes: &mut Vec<u8>, tag: (u16, u16), vr: &str, value: &[u8]) {
    bytes.extend(tag.0.to_le_bytes());
    bytes.extend(tag.1.to_le_bytes());
    bytes.extend(vr.as_bytes());
    let padded = value.len() + value.len() % 2;
    if vr == "OW" {
        bytes.extend([0, 0]);
        bytes.extend(u32::try_from(padded).unwrap().to_le_bytes());
    } else {
        bytes.extend(u16::try_from(padded).unwrap().to_le_bytes());
    }
    bytes.extend(value);
    if value.len() % 2 == 1 {
        bytes.push(if vr == "UI" { 0 } else { b' ' });
    }
}

/// The unpacked folder of a reference archive; `None`, and a word about it, without the data.
pub fn reference(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FIRSTREAD_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let archive = root.join("dicom").join(format!("{name}.tar.xz"));
    if !archive.exists() {
        eprintln!("skipped: {} is not there", archive.display());
        return None;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reference");
    let folder = cache.join(name);
    if !folder.exists() {
        // tests run at the same time: unpack aside, then move into place
        fs::create_dir_all(&cache).unwrap();
        let aside = tempfile::tempdir_in(&cache).unwrap();
        let tar = Command::new("tar")
            .arg("-xJf")
            .arg(&archive)
            .current_dir(aside.path())
            .status();
        assert!(
            tar.unwrap().success(),
            "could not unpack {}",
            archive.display()
        );
        let _ = fs::rename(aside.path(), &folder);
    }
    Some(folder)
}

/// All files below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A file's transfer syntax and data set, without preamble and meta if it has any.
pub fn data_set(path: &Path) -> (String, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let start = if bytes.get(128..132) == Some(b"DICM") {
        132
    } else {
        0
    };
    let mut syntax = "1.2.840.10008.1.2.1".to_owned();
    let mut rest = &bytes[start..];
    // group 0002, explicit VR little endian, as far as it makes sense
    while let [2, 0, e0, e1, v0, v1, l0, l1, ..] = *rest {
        let long = matches!([v0, v1], [b'O', b'B'] | [b'U', b'N']);
        let (head, length) = if long && rest.len() >= 12 {
            (
                12,
                u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize,
            )
        } else {
            (8, usize::from(u16::from_le_bytes([l0, l1])))
        };
        let Some(value) = rest.get(head..head + length) else {
            break;
        };
        if [e0, e1] == [0x10, 0] {
            let text = String::from_utf8_lossy(value);
            text.trim_end_matches(['\0', ' ']).clone_into(&mut syntax);
        }
        rest = &rest[head + length..];
    }
    (syntax, rest.to_vec())
}
