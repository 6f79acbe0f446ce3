//! Parsers of what comes from outside, fed with damaged input: none panics, hangs or grows.
//!
//! Seeds are real input, whatever lies in `tests/fuzz/TARGET/`, where every past crash stays, and the corpus of `fuzz/`.
//! A second each in every test run; `FIRSTREAD_FUZZ_SECONDS` asks for more. `scripts/fuzz` looks for longer and with open eyes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::parsers::{TARGETS, Target};

/// No input is made longer.
const BYTES_MAX: usize = 64 * 1024;
/// An input that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(2);
/// Resident memory that all targets together may add.
const GROWTH_MAX_MIB: u64 = 512;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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

/// What lies in a folder; nothing where there is none.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.filter(|entry| entry.path().is_file());
    files.map(|e| std::fs::read(e.path()).unwrap()).collect()
}

/// What libFuzzer found to reach different code.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let archive = root().join(format!("fuzz/corpus/{name}.tar.gz"));
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(folder.path());
    assert!(tar.status().unwrap().success());
    files(folder.path())
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
        seeds.extend(files(&root().join("tests/fuzz").join(target.name)));
        seeds.extend(corpus(target.name));
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
