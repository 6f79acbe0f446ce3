//! Parsers of what comes from outside, fed with damaged input: none panics, hangs or grows.
//!
//! Seeds are real input and whatever lies in `tests/fuzz/TARGET/`, where every past crash stays.
//! A second each in CI; `scripts/fuzz MINUTES` runs them for longer and keeps what broke one.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use firstread::config::Config;
use firstread::dicom::{extract, receive};
use firstread::hl7::message::batch::{self, Content};
use firstread::hl7::mllp::Deframer;
use firstread::hl7::{Hl7Settings, inbound, message};
use firstread::volume::nifti;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// No input is made longer.
const BYTES_MAX: usize = 64 * 1024;
/// An input that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(2);
/// Resident memory that all targets together may add.
const GROWTH_MAX_MIB: u64 = 512;

struct Target {
    name: &'static str,
    feed: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

const TARGETS: [Target; 5] = [
    Target {
        name: "header",
        feed: header,
        seeds: || {
            vec![
                data_set("samples/one/t1_001.dcm"),
                data_set("samples/two/t1_001.dcm"),
            ]
        },
    },
    Target {
        name: "dimse",
        feed: dimse,
        seeds: || vec![c_store_rq()],
    },
    Target {
        name: "hl7",
        feed: hl7,
        seeds: || {
            let order = "MSH|^~\\&|RIS|H|FIRSTREAD|H|202611261200||ORM^O01^ORM_O01|1|P|2.5.1\r\
                PID|1||P1^^^H^MR||Doe^Jane\rORC|NW|A1|||||^^^^^S\rOBR|1|A1||MRB^MR Brain|||||||||||||||A1\r";
            let batch = format!("FHS|^~\\&|RIS\rBHS|^~\\&|RIS\r{order}{order}BTS|2\rFTS|1\r");
            vec![
                order.into(),
                batch.into(),
                format!("\x0b{order}\x1c\r").into(),
            ]
        },
    },
    Target {
        name: "nifti",
        feed: |bytes| drop(nifti::read(bytes, 1 << 20)),
        seeds: || vec![read("samples/golden_head.nii.gz"), small_nifti()],
    },
    Target {
        name: "config",
        feed: config,
        seeds: || vec![std::fs::read(root().join("config/firstread.toml")).unwrap()],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(root().join("tests").join(path)).unwrap()
}

/// A file from behind its meta information, cut before most of its pixels.
fn data_set(path: &str) -> Vec<u8> {
    let bytes = read(path);
    // (0002,0000) stands first and says how long the rest of the group is (PS3.10 7.1).
    let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap());
    bytes[144 + length as usize..]
        .iter()
        .copied()
        .take(4096)
        .collect()
}

fn header(bytes: &[u8]) {
    for syntax in [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.4.90",
    ] {
        drop(extract::header(
            Cursor::new(bytes),
            bytes.len() as u64,
            syntax,
        ));
    }
}

fn dimse(bytes: &[u8]) {
    if let Ok(request) = receive::Request::read(bytes) {
        drop(format!("{request:?}"));
    }
}

fn c_store_rq() -> Vec<u8> {
    let element = |element: u16, value: &[u8]| {
        let mut all = vec![0, 0];
        all.extend(element.to_le_bytes());
        all.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        all.extend(value);
        all
    };
    [
        element(0x0002, b"1.2.840.10008.5.1.4.1.1.4\0"),
        element(0x0100, &[1, 0]),
        element(0x0110, &[7, 0]),
        element(0x0700, &[0, 0]),
        element(0x0800, &[0, 0]),
        element(0x1000, b"1.2.3.4\0"),
    ]
    .concat()
}

fn hl7(bytes: &[u8]) {
    let settings = Hl7Settings::default();
    let one = |bytes: &[u8]| {
        if let Ok(message) = message::parse(bytes) {
            drop(inbound::read(&message, &settings));
        }
    };
    one(bytes);
    if let Content::Batch(batch) = batch::split(bytes) {
        for message in batch.messages {
            one(message);
        }
    }
    let (mut frames, mut came) = (Deframer::new(4096), BytesMut::from(bytes));
    while let Ok(Some(_)) = frames.next(&mut came) {}
}

fn config(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    drop(Config::read(Some(file.path())));
}

/// The header of a NIfTI of 4 x 4 x 4 voxels of 16 bit, and the voxels.
fn small_nifti() -> Vec<u8> {
    let mut bytes = vec![0; 352 + 128];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &348_i32.to_le_bytes());
    for (n, dim) in [3_i16, 4, 4, 4, 1, 1, 1, 1].iter().enumerate() {
        put(40 + 2 * n, &dim.to_le_bytes());
    }
    put(70, &4_i16.to_le_bytes());
    put(72, &16_i16.to_le_bytes());
    for n in 0..4 {
        put(76 + 4 * n, &1_f32.to_le_bytes());
    }
    put(108, &352_f32.to_le_bytes());
    put(344, b"n+1\0");
    bytes
}

/// Damages an input as wires, disks and attackers do.
fn damage(input: &mut Vec<u8>, other: &[u8], random: &mut ChaCha8Rng) {
    for _ in 0..=random.next_u32() % 4 {
        let at = |random: &mut ChaCha8Rng, len: usize| random.next_u32() as usize % len.max(1);
        let (from, len) = (at(random, input.len()), input.len());
        let until = (from + 1 + at(random, 32)).min(len);
        match random.next_u32() % 8 {
            0 if len > 0 => input[from] ^= 1 << (random.next_u32() % 8),
            1 if len > 0 => {
                input[from] = [0, 1, 0x7f, 0x80, 0xff, b'|', b'^', b'\r'][at(random, 8)];
            }
            2 if len > 0 => drop(input.drain(from..until)),
            3 => {
                let piece: Vec<u8> = input[from.min(len)..until].to_vec();
                input.splice(from.min(len)..from.min(len), piece);
            }
            4 => {
                let start = at(random, other.len());
                let end = (start + 1 + at(random, 64)).min(other.len());
                input.splice(
                    from.min(len)..from.min(len),
                    other[start..end].iter().copied(),
                );
            }
            5 if len >= from + 4 => {
                let value = [0, 1, 0xffff, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff][at(random, 6)];
                input[from..from + 4].copy_from_slice(&u32::to_le_bytes(value));
            }
            6 => input.truncate(from),
            7 if len >= from + 2 => {
                let value = [0, 1, 2, 8, 0x7fff, 0xffff][at(random, 6)];
                input[from..from + 2].copy_from_slice(&u16::to_le_bytes(value));
            }
            _ => {}
        }
    }
    input.truncate(BYTES_MAX);
}

fn kept(name: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/fuzz").join(name);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|entry| entry.path()).collect()
}

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

/// Feeds an input; keeps it where it breaks the target.
fn feed(target: &Target, input: &[u8]) {
    let began = Instant::now();
    let fed = catch_unwind(AssertUnwindSafe(|| (target.feed)(input)));
    let took = began.elapsed();
    if fed.is_err() || took > LONGEST {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{}-{}", target.name, std::process::id()));
        std::fs::write(&file, input).unwrap();
        panic!(
            "{} broke or hung ({took:?}) on {}",
            target.name,
            file.display()
        );
    }
}

#[test]
fn damaged_input_breaks_no_parser() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok().and_then(|n| n.parse().ok());
        given.unwrap_or(default)
    };
    let time = Duration::from_secs(number("FIRSTREAD_FUZZ_SECONDS", 1));
    let only = std::env::var("FIRSTREAD_FUZZ_TARGET").unwrap_or_default();
    let mut random = ChaCha8Rng::seed_from_u64(number("FIRSTREAD_FUZZ_SEED", 1));
    let before = peak_mib();
    for target in TARGETS.iter().filter(|t| only.is_empty() || t.name == only) {
        let mut seeds = (target.seeds)();
        seeds.extend(kept(target.name).iter().map(|f| std::fs::read(f).unwrap()));
        for seed in &seeds {
            feed(target, seed);
        }
        let (began, mut fed) = (Instant::now(), 0_u64);
        while began.elapsed() < time {
            let pick = |random: &mut ChaCha8Rng| random.next_u32() as usize % seeds.len();
            let (mut input, other) = (seeds[pick(&mut random)].clone(), pick(&mut random));
            damage(&mut input, &seeds[other], &mut random);
            feed(target, &input);
            fed += 1;
        }
        eprintln!("{}: {fed} inputs", target.name);
        assert!(fed >= 10, "{} is too slow to be worth it", target.name);
    }
    let grown = peak_mib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_MIB, "grew by {grown} MiB");
}
