//! The one disposition that can't be left as the parent set it.

#![allow(unsafe_code, reason = "signal(2)")]

use std::io;

/// Takes back an inherited SIG_IGN of SIGCHLD, with which the kernel would reap children unseen.
pub(crate) fn heed_children() -> io::Result<()> {
    // SAFETY: the default disposition installs no handler.
    match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
