//! What std's `Command` leaves to its user: the signal mask and dispositions, groups, and the death of the parent.

#![allow(unsafe_code, reason = "pre_exec runs between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};

use crate::config::Identity;
use crate::process::drop_privileges;

/// The child starts with no signal blocked or ignored, whatever this process blocks or was started with, in a process
/// group of its own (Ctrl-C is for the master alone), and is killed if this process ends.
pub(crate) fn in_clean_state(command: &mut Command) -> &mut Command {
    command.process_group(0);
    // SAFETY: the closure makes system calls and allocates nothing.
    unsafe { command.pre_exec(clean_state) }
}

/// The child runs as `identity` from its first instruction on: nothing that user can write (a virtual environment's
/// `.pth` files, for one) is ever run as root.
pub(crate) fn as_identity(command: &mut Command, identity: Identity) -> &mut Command {
    // SAFETY: this process has one thread (the master starts none), so that the copy holds no lock that its thread
    // could wait for; reading the groups back may allocate.
    unsafe {
        command.pre_exec(move || {
            drop_privileges(&identity)?;
            // A change of identity has cleared it.
            prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
        })
    }
}

fn clean_state() -> io::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is valid for every signal; those that can't be changed (SIGKILL, SIGSTOP and the two of the C
        // library) answer EINVAL, which is fine.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask()?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
}
