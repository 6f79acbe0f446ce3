//! What must hold before anything is loaded or written: the program begins anew, in the same process, with the
//! variables of the environment that can only be set from outside; and nobody else reads what it writes.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::Mode;

use crate::analysis::{TELEMETRY_OFF, is_silent};

/// glibc: blocks of so many bytes and more go back to the system when they are freed. A channel of the volumetry network is 20 MB.
///
/// glibc moves its threshold up to the size of what was freed last (mallopt(3), `M_MMAP_THRESHOLD`), and the network's
/// buffers, which come and go by the hundred, then stay behind as holes: 3.8 GB at the peak of a volumetry, 1.5 GB with this.
const MEMORY: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "8388608");

/// Sets what is missing, and does not come back then.
///
/// [`TELEMETRY_OFF`]: from 1.29 on, ONNX Runtime as Microsoft builds it for Linux sends what it runs, and on what, to
/// `mobile.events.data.microsoft.com`, from its loading on. Its API can turn off only what comes later; the variable all
/// of it (microsoft/onnxruntime, pull request 27379).
///
/// # Errors
/// Where ONNX Runtime would not be silent. Nothing may be loaded then; without the other one there is more memory.
pub(super) fn begin() -> Result<(), String> {
    let memory = !cfg!(target_env = "gnu") || std::env::var_os(MEMORY.0).is_some();
    if memory && is_silent() {
        return Ok(());
    }
    let silent = |cause: std::io::Error| {
        let (name, value) = TELEMETRY_OFF;
        if is_silent() {
            return Ok(());
        }
        Err(format!("could not begin anew with {name}={value}: {cause}"))
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(cause) => return silent(cause),
    };
    let mut again = Command::new(program);
    let mut arguments = std::env::args_os();
    if let Some(called) = arguments.next() {
        again.arg0(called);
    }
    if !memory {
        again.env(MEMORY.0, MEMORY.1);
    }
    again.args(arguments).env(TELEMETRY_OFF.0, TELEMETRY_OFF.1);
    silent(again.exec())
}

/// New files and folders are for our user and group: a data folder and its backups are full of patients.
pub(super) fn keep_to_ourselves() {
    let others = Mode::WGRP | Mode::RWXO;
    let before = rustix::process::umask(others);
    rustix::process::umask(before | others);
}
