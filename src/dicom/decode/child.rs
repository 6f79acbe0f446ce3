//! The child's side: `firstread decode-series`.

use super::confine::{confine, seal};
use super::frames::{Budget, FileSlices, slices_of};
use super::protocol::{Answer, DecodeLimits, DecodeReport, Request};
use super::{DecodeError, Decoded};
use crate::volume::{AssembleOptions, assemble, content};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Longest request read, bytes.
const REQUEST_MAX_BYTES: u64 = 64 << 20;
/// Stack of a decoding thread: the parser recurses once for each nested sequence.
const STACK_BYTES: usize = 16 << 20;
/// Open files the child may have.
const OPEN_FILES_MAX: u64 = 64;
/// Voxels turned to bytes at a time.
const VOXELS_A_WRITE: usize = 1 << 16;

/// Reads a request on standard input, answers on standard output.
///
/// Caps its own memory and CPU time, and gives up the network, before it opens a file.
/// The exit code is 0 whenever an answer could be written, be it good or bad.
#[must_use]
pub fn run() -> ExitCode {
    // A decoder's panic is an answer, not a message for the server's log.
    std::panic::set_hook(Box::new(|_| {}));
    let mut text = Vec::new();
    let read = io::stdin()
        .lock()
        .take(REQUEST_MAX_BYTES)
        .read_to_end(&mut text);
    let Ok(request) = read.and_then(|_| Ok(serde_json::from_slice::<Request>(&text)?)) else {
        return ExitCode::from(2);
    };
    let outcome = match cap(&request.limits) {
        Ok(()) => decode(&request.files, &request.limits),
        Err(error) => Err(DecodeError::Failed(format!(
            "the decoder could not limit itself: {error}"
        ))),
    };
    match answer(outcome) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Takes away what decoding does not need.
fn cap(limits: &DecodeLimits) -> io::Result<()> {
    let threads = u64::try_from(limits.threads.max(1)).unwrap_or(1);
    let cpu_s = limits.wall_time_s.saturating_mul(threads).saturating_add(1);
    for (resource, most) in [
        (Resource::As, limits.memory_mib.saturating_mul(1 << 20)),
        (Resource::Cpu, cpu_s),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, OPEN_FILES_MAX),
    ] {
        let both = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, both)?;
    }
    seal()?;
    confine()
}

fn answer(outcome: Result<Decoded, DecodeError>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (line, voxels) = match outcome {
        Ok(Decoded { volume, report }) => (
            Answer::Volume {
                dims: volume.dims,
                affine: volume.affine,
                report,
            },
            volume.data,
        ),
        Err(DecodeError::NotAVolume(reason)) => (Answer::NotAVolume(reason), Vec::new()),
        Err(DecodeError::Failed(reason)) => (Answer::Failed(reason), Vec::new()),
    };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    out.write_all(&line)?;
    let mut bytes = Vec::with_capacity(VOXELS_A_WRITE * size_of::<f32>());
    for part in voxels.chunks(VOXELS_A_WRITE) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|voxel| voxel.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    out.flush()
}

/// All files to one volume, in this process.
fn decode(files: &[PathBuf], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    if files.len() > limits.files_max {
        return Err(DecodeError::NotAVolume(format!(
            "the series has {} files, more than the limit of {}",
            files.len(),
            limits.files_max
        )));
    }
    let budget = Budget::new(limits.voxels_max.saturating_mul(2));
    let read = read_all(files, limits.threads, &budget)?;
    let acquired_in_3d = read.iter().any(|file| file.acquired_in_3d);
    let stated = read.iter().filter_map(|f| f.images_in_acquisition).max();
    let slices: Vec<_> = read.into_iter().flat_map(|file| file.slices).collect();
    let images = slices.len();
    if images == 0 {
        return Err(DecodeError::NotAVolume(
            "no object of the series holds a picture".into(),
        ));
    }
    let options = AssembleOptions {
        voxels_max: limits.voxels_max,
        acquired_in_3d,
    };
    let assembled = assemble(slices, &options)?;
    let mut report = DecodeReport {
        files: files.len(),
        images,
        slices: assembled.slices,
        partial: false,
        notes: assembled.notes,
    };
    if let Some(stated) = stated.and_then(|n| usize::try_from(n).ok())
        && stated > images
    {
        report.partial = true;
        report
            .notes
            .push(format!("{images} of {stated} images have arrived"));
    }
    content::check(&assembled.volume, &limits.content)?;
    Ok(Decoded {
        volume: assembled.volume,
        report,
    })
}

/// Every file's slices, in the order of `files`, read by several threads.
fn read_all(
    files: &[PathBuf],
    threads: usize,
    budget: &Budget,
) -> Result<Vec<FileSlices>, DecodeError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let work = || {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = files.get(index) else { break };
            let result = catch_unwind(AssertUnwindSafe(|| slices_of(path, budget)));
            let result = result.unwrap_or_else(|_| {
                Err(DecodeError::Failed("its pixels cannot be decoded".into()))
            });
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            done.push((index, result));
        }
        done
    };
    let threads = threads.clamp(1, files.len().max(1));
    let mut all = thread::scope(|scope| -> io::Result<Vec<_>> {
        let mut running = Vec::new();
        for _ in 0..threads {
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            running.push(builder.spawn_scoped(scope, work)?);
        }
        Ok(running
            .into_iter()
            .flat_map(|t| t.join().unwrap_or_default())
            .collect())
    })
    .map_err(|error| DecodeError::Failed(format!("the decoder could not start: {error}")))?;
    all.sort_by_key(|(index, _)| *index);
    all.into_iter()
        .map(|(index, result)| result.map_err(|error| of_file(index, files.len(), error)))
        .collect()
}

/// Says which of the files a failure is about.
fn of_file(index: usize, count: usize, error: DecodeError) -> DecodeError {
    match error {
        DecodeError::Failed(reason) => DecodeError::Failed(format!(
            "image {} of {count} could not be decoded: {reason}",
            index + 1
        )),
        refused @ DecodeError::NotAVolume(_) => refused,
    }
}
