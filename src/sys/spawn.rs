//! Processes that run another program, from their start (`start`) to their end: a pidfd, and waitid(2). Also the pipes to
//! them.
//!
//! Neighbour: `handler::cgi`, which decides what is started and when it is ended.

#![allow(unsafe_code, reason = "waitid, pidfds and a write that raises no SIGPIPE have no safe form")]

mod start;

pub(crate) use start::limit_cpu;

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};

use crate::config::ScriptLimits;

/// What is to be started.
pub(crate) struct Program<'a> {
    pub path: &'a CStr,
    /// The first element of argv.
    pub name: &'a CStr,
    /// The others.
    pub arguments: &'a [&'a CStr],
    /// `NAME=value`, all of it: nothing is inherited.
    pub environment: &'a [CString],
    pub directory: &'a CStr,
    pub limits: ScriptLimits,
    /// Descriptors 0, 1 and 2 of the process, each above 2 in ours (see [`pipe`]).
    pub standard: [BorrowedFd<'a>; 3],
}

/// A process that was started, and leads a process group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    exit: Option<OwnedFd>,
    cpu_time: Option<Duration>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Status(i32),
    Signal(i32),
    /// Somebody else has waited for it: SIGCHLD is ignored in this process, or an application waits for any child.
    Unknown,
}

/// Starts a process: default signals, an empty signal mask, a process group of its own, our umask, no core dumps, and no
/// descriptor but 0, 1 and 2.
///
/// # Errors
/// What execve(2), chdir(2) or clone(2) said; the program has not run then.
pub(crate) fn spawn(program: &Program<'_>) -> io::Result<Child> {
    let pid = start::start(program)?;
    Ok(Child { pid, exit: open_pidfd(pid.as_raw()), cpu_time: None })
}

impl Child {
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable once the process has ended. `None` where the kernel has no pidfd (before Linux 5.3), or where we have no
    /// descriptor left: then ask [`wait`](Self::wait) from time to time.
    pub fn exit_fd(&self) -> Option<BorrowedFd<'_>> {
        self.exit.as_ref().map(AsFd::as_fd)
    }

    #[cfg(test)]
    pub(crate) fn forget_exit_fd(&mut self) {
        self.exit = None;
    }

    /// How the process ended, if it has. Without `reap` it stays a zombie, so that its process group's number can't be
    /// given to anybody else.
    pub fn wait(&mut self, reap: bool) -> Option<Exit> {
        let keep = if reap { 0 } else { libc::WNOWAIT };
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        loop {
            // SAFETY: `info` and `usage` are valid for writes. The C library's waitid(3) has no fifth argument; the kernel's
            // has, and fills the beginning of the C library's structure, which musl only makes longer.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_waitid,
                    libc::P_PID,
                    self.pid.as_raw(),
                    info.as_mut_ptr(),
                    libc::WEXITED | libc::WNOHANG | keep,
                    usage.as_mut_ptr(),
                )
            };
            match Errno::result(result) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                // ECHILD: it was ours, and is gone.
                Err(_) => return Some(Exit::Unknown),
            }
        }
        // SAFETY: it was zeroed, and perhaps filled by waitid(2).
        let info = unsafe { info.assume_init() };
        // SAFETY: for WEXITED the kernel fills the fields of SIGCHLD; where it filled nothing they are zero.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid != 0 {
            // SAFETY: it was zeroed, for which all of its numbers are valid, and perhaps filled.
            let usage = unsafe { usage.assume_init() };
            self.cpu_time = Some(duration(usage.ru_utime) + duration(usage.ru_stime));
        }
        match (pid, info.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Status(status)),
            _ => Some(Exit::Signal(status)),
        }
    }

    /// What it and the children that it has waited for have used of a processor; known once [`wait`](Self::wait) has told
    /// the end.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.cpu_time
    }

    /// Sends a signal to the whole process group. Only while the process has not been reaped: after that the group's
    /// number may belong to somebody else.
    pub fn signal_group(&self, signal: Signal) {
        // ESRCH and EPERM: nobody is left, or somebody changed his user; there is nothing else to try.
        if let Err(error) = killpg(self.pid, signal) {
            log::debug!("signal {signal} to the process group {}: {error}", self.pid);
        }
    }
}

/// A pipe (read end, write end), closed on exec, both ends above 2.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    Ok((above_standard(read)?, above_standard(write)?))
}

/// Makes reads and writes on this end of a pipe return instead of wait; the other end is not touched.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    if !flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// A descriptor above 2: dup2(2) of the three standard descriptors can't overwrite it.
pub(crate) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    let raw = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl(2) has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Bytes that wait in a pipe.
pub(crate) fn available(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: FIONREAD writes one int, and `count` is one.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// write(2) that raises no SIGPIPE: an application in this process may have set that signal back to its default, and a
/// script that closes its input would then end the worker.
pub(crate) fn write_quietly(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    let mut pipe_signal = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are valid for writes; sigemptyset initialises the first before it is read.
    unsafe {
        libc::sigemptyset(pipe_signal.as_mut_ptr());
        libc::sigaddset(pipe_signal.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, pipe_signal.as_ptr(), before.as_mut_ptr());
    }
    let written = nix::unistd::write(fd, bytes);
    // SAFETY: pthread_sigmask has initialised `before`; it fails only for an unknown first argument.
    unsafe {
        if written == Err(Errno::EPIPE) && libc::sigismember(before.as_ptr(), libc::SIGPIPE) == 0 {
            // The signal was raised for this thread and is pending: take it away before it is unblocked.
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::sigtimedwait(pipe_signal.as_ptr(), ptr::null_mut(), &at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
    written
}

fn inherited_descriptors() -> io::Result<Vec<RawFd>> {
    let mut inherited = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if fd < 3 {
            continue;
        }
        // SAFETY: fcntl(2) with F_GETFD only asks; a descriptor that is gone by now gives EBADF.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags >= 0 && !FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
            inherited.push(fd);
        }
    }
    Ok(inherited)
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
}

/// A descriptor that is readable once the process has ended (pidfd_open(2)). `None` where the kernel has none.
pub(crate) fn open_pidfd(pid: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: takes two numbers; a pidfd is closed on exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, nobody else owns it.
        Ok(fd) if fd >= 0 => Some(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const IN_CHILD: &str = "FORKHORN_TEST_IN_CHILD";

    /// Runs a test of this file in a process of its own, for what would disturb the other tests.
    fn in_own_process(name: &str, test: impl FnOnce()) {
        if std::env::var_os(IN_CHILD).is_some() {
            return test();
        }
        let output = Command::new(std::env::current_exe().expect("the test program"))
            .args(["--exact", &format!("sys::spawn::tests::{name}"), "--nocapture"])
            .env(IN_CHILD, "1")
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    }

    fn start(script: &CStr) -> io::Result<Child> {
        let (input, _) = pipe()?;
        let (_, output) = pipe()?;
        spawn(&Program {
            path: script,
            name: script,
            arguments: &[],
            environment: &[],
            directory: c"/",
            limits: ScriptLimits::default(),
            standard: [input.as_fd(), output.as_fd(), output.as_fd()],
        })
    }

    fn wait(child: &mut Child) -> Exit {
        loop {
            if let Some(exit) = child.wait(true) {
                return exit;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn exit_is_told_and_a_second_wait_finds_nothing() {
        let mut child = start(c"/bin/false").expect("it starts");
        assert!(child.exit_fd().is_some());
        while child.wait(false).is_none() {
            std::thread::yield_now();
        }
        assert_eq!(child.wait(false), Some(Exit::Status(1)), "still a zombie");
        assert_eq!(child.wait(true), Some(Exit::Status(1)));
        assert_eq!(child.wait(true), Some(Exit::Unknown));
    }

    #[test]
    fn error_of_exec_comes_back() {
        assert_eq!(start(c"/nonexistent").expect_err("no such program").raw_os_error(), Some(libc::ENOENT));
        assert_eq!(start(c"/etc/passwd").expect_err("not executable").raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn ignored_sigchld_gives_an_unknown_exit_and_no_hang() {
        in_own_process("ignored_sigchld_gives_an_unknown_exit_and_no_hang", || {
            // SAFETY: this process runs this test only, and SIG_IGN is no function.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            let mut child = start(c"/bin/true").expect("it starts");
            assert_eq!(wait(&mut child), Exit::Unknown);
        });
    }

    #[test]
    fn write_to_a_closed_pipe_raises_no_signal() {
        in_own_process("write_to_a_closed_pipe_raises_no_signal", || {
            // SAFETY: this process runs this test only, and SIG_DFL is no function.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let (read, write) = pipe().expect("a pipe");
            drop(read);
            assert_eq!(write_quietly(write.as_fd(), b"x"), Err(Errno::EPIPE));
            assert_eq!(write_quietly(write.as_fd(), b"x"), Err(Errno::EPIPE));
        });
    }

    #[test]
    fn pipes_lie_above_the_standard_descriptors() {
        in_own_process("pipes_lie_above_the_standard_descriptors", || {
            // SAFETY: this process runs this test only; standard input is not used again.
            unsafe { libc::close(0) };
            let (read, write) = pipe().expect("a pipe");
            assert!(read.as_raw_fd() > 2 && write.as_raw_fd() > 2);
        });
    }

    #[test]
    fn inherited_descriptors_are_those_that_exec_does_not_close() {
        let (closed, _) = pipe().expect("a pipe");
        let (left_open, _keep) = nix::unistd::pipe().expect("a pipe");
        let inherited = inherited_descriptors().expect("/proc is there");
        assert!(inherited.contains(&left_open.as_raw_fd()));
        assert!(!inherited.contains(&closed.as_raw_fd()) && !inherited.iter().any(|&fd| fd < 3));
    }
}
