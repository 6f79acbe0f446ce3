//! The server's side: starts the child, bounds it, and turns every end it can come to into words.

use super::confine::seal;
use super::protocol::{Answer, DecodeLimits, Decoded, Request};
use super::{DecodeError, SUBCOMMAND};
use crate::volume::Volume;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// Longest first line of an answer, bytes.
const ANSWER_MAX_BYTES: u64 = 1 << 20;
/// How much of the child's standard error is kept, bytes.
const COMPLAINT_MAX_BYTES: usize = 4096;
/// Voxel bytes read at a time.
const READ_BYTES: usize = 1 << 18;
/// This binary, even after an upgrade has replaced the file it was started from.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Decodes the files of one series to a volume, in a child process of this same binary.
///
/// Dropping the future kills the child.
/// # Errors
/// [`DecodeError::NotAVolume`] where the images are no volume that can be analysed,
/// [`DecodeError::Failed`] where one cannot be decoded or the child ran into a limit.
pub async fn decode_series(
    files: &[PathBuf],
    limits: &DecodeLimits,
) -> Result<Decoded, DecodeError> {
    decode_series_with(Path::new(OWN_PROGRAM), files, limits).await
}

/// [`decode_series`] with another binary than the one that runs: for tests.
///
/// # Errors
/// As [`decode_series`].
pub async fn decode_series_with(
    program: &Path,
    files: &[PathBuf],
    limits: &DecodeLimits,
) -> Result<Decoded, DecodeError> {
    let mut child = start(program)
        .map_err(|error| DecodeError::Failed(format!("the decoder could not start: {error}")))?;
    let wall_time = Duration::from_secs(limits.wall_time_s);
    let conversation = converse(&mut child, files, limits);
    if let Ok(outcome) = tokio::time::timeout(wall_time, conversation).await {
        return outcome;
    }
    // The child is killed on drop as well; here its end is awaited, so that none is left.
    let _ = child.kill().await;
    Err(DecodeError::Failed(format!(
        "decoding took longer than its limit of {} s",
        limits.wall_time_s
    )))
}

fn start(program: &Path) -> io::Result<Child> {
    // before there is anybody who could look
    seal()?;
    Command::new(program)
        .arg(SUBCOMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Asks, listens, and waits for the child's end.
async fn converse(
    child: &mut Child,
    files: &[PathBuf],
    limits: &DecodeLimits,
) -> Result<Decoded, DecodeError> {
    let broken = |error: io::Error| DecodeError::Failed(format!("the decoder broke off: {error}"));
    let request = serde_json::to_vec(&Request {
        files: files.to_vec(),
        limits: limits.clone(),
    })
    .map_err(|error| broken(error.into()))?;
    let (Some(mut input), Some(output), Some(complaint)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(broken(io::ErrorKind::BrokenPipe.into()));
    };
    let ask = async move {
        // A child that died early is judged by how it ended, not by the broken pipe.
        let _ = input.write_all(&request).await;
        let _ = input.shutdown().await;
    };
    let listen = read_answer(
        BufReader::with_capacity(READ_BYTES, output),
        limits.voxels_max,
    );
    let ((), heard, complaint) = tokio::join!(ask, listen, read_complaint(complaint));
    let status = child.wait().await.map_err(broken)?;
    match heard {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(DecodeError::Failed(why_it_died(status, &complaint, limits))),
        Err(error) => Err(broken(error)),
    }
}

/// The child's answer, or `None` where it died before it had given all of it.
async fn read_answer(
    mut output: impl AsyncBufReadExt + Unpin,
    voxels_max: usize,
) -> io::Result<Option<Result<Decoded, DecodeError>>> {
    let mut line = Vec::new();
    (&mut output)
        .take(ANSWER_MAX_BYTES)
        .read_until(b'\n', &mut line)
        .await?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    let (dims, affine, report) = match serde_json::from_slice(&line)? {
        Answer::Volume {
            dims,
            affine,
            report,
        } => (dims, affine, report),
        Answer::NotAVolume(reason) => return Ok(Some(Err(DecodeError::NotAVolume(reason)))),
        Answer::Failed(reason) => return Ok(Some(Err(DecodeError::Failed(reason)))),
    };
    let voxels = dims
        .iter()
        .try_fold(1_usize, |product, n| product.checked_mul(*n))
        .filter(|voxels| *voxels <= voxels_max)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let data = read_voxels(&mut output, voxels).await?;
    Ok(data.map(|data| {
        let volume = Volume { dims, affine, data };
        Ok(Decoded { volume, report })
    }))
}

/// Exactly `voxels` little-endian values, or `None` where fewer came.
async fn read_voxels(
    output: &mut (impl AsyncRead + Unpin),
    voxels: usize,
) -> io::Result<Option<Vec<f32>>> {
    let mut data = Vec::with_capacity(voxels);
    let mut bytes = vec![0; READ_BYTES];
    while data.len() < voxels {
        let wanted = ((voxels - data.len()) * size_of::<f32>()).min(READ_BYTES);
        match output.read_exact(&mut bytes[..wanted]).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let values = bytes[..wanted].chunks_exact(size_of::<f32>());
        data.extend(values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }
    Ok(Some(data))
}

/// The beginning of what the child wrote on standard error; the rest is read and dropped.
async fn read_complaint(mut complaint: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = complaint.read(&mut bytes).await {
        let room = COMPLAINT_MAX_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The reason for a child that ended without an answer.
fn why_it_died(status: ExitStatus, complaint: &str, limits: &DecodeLimits) -> String {
    /// SIGKILL and SIGXCPU: how the kernel ends a process over its CPU limit.
    const KILL: i32 = 9;
    const CPU_TIME: i32 = 24;
    let says = |part: &str| complaint.contains(part);
    if says("memory allocation of") || says("bad_alloc") {
        return format!(
            "ran out of its memory limit of {} MiB while decoding",
            limits.memory_mib
        );
    }
    if says("overflowed its stack") {
        return "an object's sequences are nested too deeply to be read".to_owned();
    }
    match status.signal() {
        Some(CPU_TIME) => "ran out of its time limit while decoding".to_owned(),
        Some(KILL) => "was killed while decoding (out of memory or time)".to_owned(),
        Some(signal) => format!("crashed while decoding (signal {signal})"),
        None => format!(
            "ended without an answer (exit code {})",
            status.code().unwrap_or(-1)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_no_decoder_is_a_reason() {
        let limits = DecodeLimits::default();
        for (program, part) in [
            ("/nonexistent", "could not start"),
            ("/bin/true", "ended without an answer"),
            ("/bin/echo", "broke off"),
        ] {
            let error = decode_series_with(Path::new(program), &[], &limits)
                .await
                .unwrap_err();
            assert!(error.to_string().contains(part), "{program}: {error}");
        }
    }

    #[test]
    fn deaths_have_reasons() {
        let limits = DecodeLimits::default();
        let died =
            |signal: i32, complaint| why_it_died(ExitStatus::from_raw(signal), complaint, &limits);
        assert!(died(6, "memory allocation of 99 bytes failed").contains("2048 MiB"));
        assert!(died(6, "thread 'x' has overflowed its stack").contains("nested"));
        assert!(died(24, "").contains("time limit"));
        assert!(died(11, "").contains("signal 11"));
    }

    #[tokio::test]
    async fn an_answer_larger_than_allowed_is_refused() {
        let line = br#"{"volume":{"dims":[9,9,9],"affine":[[1,0,0,0],[0,1,0,0],[0,0,1,0]],
            "report":{"files":1,"images":1,"slices":9,"partial":false,"notes":[]}}}"#;
        let mut text: Vec<u8> = line.iter().copied().filter(|b| *b != b'\n').collect();
        text.push(b'\n');
        assert!(read_answer(&text[..], 728).await.is_err());
        assert_eq!(read_answer(&text[..], 729).await.unwrap(), None);
    }
}
