//! What runs the networks does not tell its maker.
//!
//! From 1.29 on, ONNX Runtime as Microsoft builds it for Linux sends what it runs, and on what, to
//! `mobile.events.data.microsoft.com`, from its loading on. Its API can turn off only what comes later; a variable of
//! the environment, before the library is loaded, all of it (microsoft/onnxruntime, pull request 27379).

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::analysis::{TELEMETRY_OFF, is_silent};

/// Begins the program anew with the variable, in the same process, where it is not set.
///
/// # Errors
/// Where that cannot be done. Nothing may be loaded then.
pub fn keep() -> Result<(), String> {
    if is_silent() {
        return Ok(());
    }
    let (name, value) = TELEMETRY_OFF;
    let says = |cause: std::io::Error| format!("could not begin anew with {name}={value}: {cause}");
    let mut again = Command::new(std::env::current_exe().map_err(says)?);
    let mut arguments = std::env::args_os();
    if let Some(called) = arguments.next() {
        again.arg0(called);
    }
    Err(says(again.args(arguments).env(name, value).exec()))
}
