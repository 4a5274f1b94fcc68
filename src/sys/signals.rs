//! Dispositions that can't be left as the parent set them.

#![allow(unsafe_code, reason = "signal(2), kill(2) with a real-time signal")]

use std::io;

/// A write past the limit of a file's size (RLIMIT_FSIZE) fails with EFBIG instead of ending the process. CPython does the
/// same; scripts start with default dispositions.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler.
    match unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Real-time signal, counted from SIGRTMIN, at which the bridge has the interpreter write all Python stacks to the log.
pub const LOG_STACKS_OFFSET: i32 = 12;

/// Asks a worker with an interpreter in it, a child that has not been reaped, for its stacks.
pub(crate) fn ask_for_stacks(pid: i32) {
    // SAFETY: the call takes numbers only. `pid` is a child, so that the number is not another's.
    unsafe { libc::kill(pid, libc::SIGRTMIN() + LOG_STACKS_OFFSET) };
}

/// Takes back an inherited SIG_IGN of SIGCHLD, with which the kernel would reap children unseen.
pub(crate) fn heed_children() -> io::Result<()> {
    // SAFETY: the default disposition installs no handler.
    match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
