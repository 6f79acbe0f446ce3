//! No network, no other program and no other process for the process that decodes.
//!
//! Whoever finds a way to run code of their own in a decoder of pixels should find nothing there to talk to.
//! Linux's seccomp filter (`seccomp(2)`, mode 2) answers these system calls with `EPERM`, in every thread
//! that is started afterwards, and cannot be taken off again.
//!
//! A filter sees no paths, and `/proc/PID/mem` of any process of the same user can be opened and written. So decoders and
//! the process that starts them [`seal`] themselves. Not kept: what else the server's user may do with files. A decoder can
//! read all of them, and remove those that the user can; it can put nothing into one (`RLIMIT_FSIZE`). Processes of the same
//! user that never decode are not sealed, and nothing is where that user is root.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;
use std::io;

/// What a decoder has no use for: sockets, `io_uring` (which has its own way to them), programs, other processes.
const REFUSED: [i64; 23] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_io_uring_setup,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
];

/// `fcntl(2)`: who gets a signal when a pipe can be read. The crate `libc` does not have both everywhere.
const F_SETOWN: u32 = 8;
const F_SETOWN_EX: u32 = 15;

/// What is refused where an argument, of this number, is such a value.
fn refused_in_part() -> [(i64, u8, SeccompCmpOp, u32); 4] {
    [
        // `abort` is a signal to a thread of its own
        (libc::SYS_tgkill, 0, SeccompCmpOp::Ne, std::process::id()),
        // its own limits; 0 is itself
        (libc::SYS_prlimit64, 0, SeccompCmpOp::Ne, 0),
        (libc::SYS_fcntl, 1, SeccompCmpOp::Eq, F_SETOWN),
        (libc::SYS_fcntl, 1, SeccompCmpOp::Eq, F_SETOWN_EX),
    ]
}

/// Shuts this process's memory, environment and open files to others of its user (`PR_SET_DUMPABLE` in `prctl(2)`). It leaves
/// no core dump any more, which would hold the same.
///
/// # Errors
/// Where the kernel does not do so.
pub(super) fn seal() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)
}

/// Refuses the above to this thread and to those that it starts.
///
/// # Errors
/// Where the kernel knows no such filter, or not for this processor.
pub fn confine() -> io::Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let mut rules: BTreeMap<_, _> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    for (call, argument, is, value) in refused_in_part() {
        // process numbers and commands are of 32 bits: the kernel looks at no others
        let width = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(argument, width, is, u64::from(value));
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
        let of_call = rules.entry(call).or_default();
        of_call.push(rule.map_err(io::Error::other)?);
    }
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).map_err(io::Error::other)?;
    let program = BpfProgram::try_from(filter).map_err(io::Error::other)?;
    apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{
        PidfdFlags, Resource, Signal, dumpable_behavior, getpid, getppid, getrlimit, kill_process,
        pidfd_open, pidfd_send_signal, prlimit, setrlimit,
    };
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    #[test]
    fn files_can_be_read_and_nothing_else_be_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let confined = thread::spawn(move || {
            confine().unwrap();
            let refused = [
                TcpStream::connect(at).map(drop),
                UdpSocket::bind("127.0.0.1:0").map(drop),
                UnixStream::pair().map(drop),
                Command::new("/bin/true").status().map(drop),
                // a thread that is started afterwards
                thread::spawn(move || TcpStream::connect(at).map(drop))
                    .join()
                    .unwrap(),
            ];
            let read = std::fs::read("/proc/self/status");
            (refused.map(|r| r.map_err(|e| e.kind())), read.is_ok())
        });
        let (refused, read) = confined.join().unwrap();
        assert_eq!(refused, [Err(io::ErrorKind::PermissionDenied); 5]);
        assert!(read);
        assert!(TcpStream::connect(at).is_ok(), "this thread is as it was");
    }

    #[test]
    fn other_processes_are_out_of_reach() {
        let (own, parent) = (getpid(), getppid().unwrap());
        let limit = getrlimit(Resource::Core);
        // a signal that does nothing
        let signal = Signal::CONT;
        let handle = pidfd_open(own, PidfdFlags::empty()).unwrap();
        let confined = thread::spawn(move || {
            confine().unwrap();
            let refused = [
                kill_process(parent, signal),
                pidfd_send_signal(&handle, signal),
                pidfd_open(parent, PidfdFlags::empty()).map(drop),
                prlimit(Some(parent), Resource::Core, limit).map(drop),
            ];
            (refused, setrlimit(Resource::Core, limit))
        });
        let (refused, own_limit) = confined.join().unwrap();
        assert_eq!(refused, [Err(rustix::io::Errno::PERM); 4]);
        assert_eq!(own_limit, Ok(()));
    }

    #[test]
    fn no_signal_goes_elsewhere() {
        let of_others = (libc::SYS_tgkill, 0, SeccompCmpOp::Ne, std::process::id());
        assert!(refused_in_part().contains(&of_others));
        for call in [
            libc::SYS_tkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
        ] {
            assert!(REFUSED.contains(&call));
        }
    }

    #[test]
    fn a_sealed_process_stays_itself() {
        seal().unwrap();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert!(std::fs::read("/proc/self/status").is_ok());
        assert!(
            Command::new("/proc/self/exe")
                .arg("--list")
                .output()
                .is_ok()
        );
    }
}
