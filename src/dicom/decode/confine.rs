//! No network and no other program for the process that decodes.
//!
//! Whoever finds a way to run code of their own in a decoder of pixels should find nothing there to talk to.
//! Linux's seccomp filter (`seccomp(2)`, mode 2) answers these system calls with `EPERM`, in every thread
//! that is started afterwards, and cannot be taken off again.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use std::collections::BTreeMap;
use std::io;

/// What a decoder has no use for: sockets, `io_uring` (which has its own way to them), programs, other processes.
const REFUSED: [i64; 18] = [
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
    libc::SYS_pidfd_getfd,
    libc::SYS_kill,
];

/// Refuses the above to this thread and to those that it starts.
///
/// # Errors
/// Where the kernel knows no such filter, or not for this processor.
pub fn confine() -> io::Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let rules: BTreeMap<_, _> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).map_err(io::Error::other)?;
    let program = BpfProgram::try_from(filter).map_err(io::Error::other)?;
    apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
