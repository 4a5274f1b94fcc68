//! What std's `Command` leaves to its user: the signal mask and dispositions, groups, and the death of the parent.

#![allow(unsafe_code, reason = "pre_exec runs between fork and exec")]

use std::io::{self, Write};
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

/// The child starts with no signal blocked or ignored, and outlives this process.
pub(crate) fn with_clean_signals(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes system calls and allocates nothing.
    unsafe { command.pre_exec(clean_signals) }
}

/// The child runs as `identity` from its first instruction on: nothing that user can write (a virtual environment's
/// `.pth` files, for one) is ever run as root.
pub(crate) fn as_identity(command: &mut Command, identity: Identity) -> &mut Command {
    // SAFETY: this process has one thread (the master starts none), so that the copy holds no lock that its thread
    // could wait for; reading the groups back may allocate.
    unsafe {
        command.pre_exec(move || {
            // Only a number comes back from here to the parent: say the rest now.
            drop_privileges(&identity).inspect_err(|error| {
                let _ = writeln!(io::stderr(), "forkhorn: {error}");
            })?;
            // A change of identity has cleared it.
            prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
        })
    }
}

fn clean_state() -> io::Result<()> {
    clean_signals()?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
}

fn clean_signals() -> io::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is valid for every signal; those that can't be changed (SIGKILL, SIGSTOP and the two of the C
        // library) answer EINVAL, which is fine.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask().map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use nix::unistd::Uid;

    use super::*;

    /// The lines of /proc/self/status as the child sees them.
    fn status_of(command: &mut Command) -> HashMap<String, String> {
        let output = command.output().expect("started");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let line = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        text.lines().filter_map(line).collect()
    }

    fn cat_status() -> Command {
        let mut command = Command::new("cat");
        command.arg("/proc/self/status");
        command
    }

    #[test]
    fn a_child_starts_with_no_signal_blocked_or_ignored() {
        let blocked = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGUSR1]);
        // The mask is this test's thread's alone.
        blocked.thread_block().expect("blocked");
        let inherited = status_of(&mut cat_status());
        assert_ne!(inherited["SigBlk"], "0000000000000000", "std does it by now: less to do here");
        let status = status_of(in_clean_state(&mut cat_status()));
        assert_eq!(status["SigBlk"], "0000000000000000");
        let ignored = u64::from_str_radix(&status["SigIgn"], 16).expect("a mask");
        let of_the_c_library = 1 << 31 | 1 << 32;
        assert_eq!(ignored & !of_the_c_library, 0);
    }

    #[test]
    fn a_child_is_someone_else_from_the_start() {
        if !Uid::effective().is_root() {
            return;
        }
        let identity = Identity { user_name: None, uid: 65534, gid: 65533, groups: vec![65533, 65532] };
        let status = status_of(as_identity(&mut cat_status(), identity));
        assert_eq!(status["Uid"], "65534 65534 65534 65534");
        assert_eq!(status["Gid"], "65533 65533 65533 65533");
        assert_eq!(status["Groups"], "65532 65533");
        assert_eq!(status["CapEff"], "0000000000000000");
        assert_eq!(status["CapPrm"], "0000000000000000");
    }

    #[test]
    fn a_child_that_can_not_become_someone_else_does_not_start() {
        if !Uid::effective().is_root() {
            return;
        }
        let one = Identity { user_name: None, uid: 65534, gid: 65534, groups: vec![65534] };
        let other = Identity { uid: 65533, ..one.clone() };
        let mut command = cat_status();
        as_identity(as_identity(&mut command, one), other);
        command.output().expect_err("the first identity can't be changed again");
    }
}
