//! How the C library keeps memory, settled before anything runs.

use std::os::unix::process::CommandExt;
use std::process::Command;

const SETTING: &str = "MALLOC_MMAP_THRESHOLD_";
/// Blocks from here on go back to the system when they are freed. A channel of the volumetry network is 20 MB.
const BYTES: &str = "8388608";

/// Starts this program again, in the same process, with glibc told to give large blocks back at once.
///
/// glibc moves its threshold up to the size of what was freed last (mallopt(3), `M_MMAP_THRESHOLD`), and the network's
/// buffers, which come and go by the hundred, then stay behind as holes: 3.8 GB at the peak of a volumetry, 1.5 GB
/// with this. It can only be said from outside the process. Does nothing where it has been said, or if it fails.
pub(super) fn give_back_large_blocks() {
    if !cfg!(target_env = "gnu") || std::env::var_os(SETTING).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut again = Command::new(program);
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Comes back only when it failed.
    let _ = again.args(arguments).env(SETTING, BYTES).exec();
}
