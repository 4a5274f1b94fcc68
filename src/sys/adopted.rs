//! A process that another one has forked for us: seen and signalled through its pidfd, reaped by its parent.

#![allow(unsafe_code, reason = "pidfd_send_signal has no safe form")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::spawn::open_pidfd;

/// PIDFD_SIGNAL_PROCESS_GROUP, from Linux 6.9 on.
const TO_THE_GROUP: libc::c_uint = 1 << 2;

/// A process that leads a process group of its own, and is another's child.
#[derive(Debug)]
pub(crate) struct Adopted {
    pid: Pid,
    exit: Option<OwnedFd>,
}

impl Adopted {
    /// `pid` must not have been reaped yet.
    pub fn new(pid: Pid) -> Self {
        Adopted { pid, exit: open_pidfd(pid.as_raw()) }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable once the process has ended. `None` where there was no descriptor left for it.
    pub fn exit_fd(&self) -> Option<BorrowedFd<'_>> {
        self.exit.as_ref().map(AsFd::as_fd)
    }

    /// `None`: it can't be told.
    pub fn has_ended(&self) -> Option<bool> {
        let exit = self.exit.as_ref()?;
        let mut poll_fd = [PollFd::new(exit.as_fd(), PollFlags::POLLIN)];
        poll(&mut poll_fd, PollTimeout::ZERO).ok().map(|ready| ready > 0)
    }

    /// Sends a signal to the whole process group. The caller knows that nobody has reaped the process.
    pub fn signal_group(&self, signal: Signal) {
        if let Err(error) = killpg(self.pid, signal) {
            log::debug!("signal {signal} to the process group {}: {error}", self.pid);
        }
    }

    /// The same where somebody may have reaped it, so that its number may be another's by now.
    pub fn signal_group_if_it_is_there(&self, signal: Signal) {
        let Some(exit) = &self.exit else { return };
        if send(exit, signal as i32, TO_THE_GROUP) != 0 && send(exit, 0, 0) == 0 {
            // An older kernel. The process is there, if only as a zombie, and so is its number.
            self.signal_group(signal);
        }
    }
}

fn send(pidfd: &OwnedFd, signal: i32, flags: libc::c_uint) -> libc::c_long {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and the call accepts a null siginfo_t.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, flags) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use super::*;

    #[test]
    fn group_gets_signals_before_and_after_its_leader_is_reaped() {
        for may_be_reaped in [false, true] {
            let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().expect("sleep starts");
            let adopted = Adopted::new(Pid::from_raw(child.id() as i32));
            assert_eq!(adopted.has_ended(), Some(false));
            match may_be_reaped {
                false => adopted.signal_group(Signal::SIGTERM),
                true => adopted.signal_group_if_it_is_there(Signal::SIGTERM),
            }
            let status = child.wait().expect("it ends");
            assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
            assert_eq!(adopted.has_ended(), Some(true));
            // Reaped, and nobody is left: nothing happens.
            adopted.signal_group_if_it_is_there(Signal::SIGKILL);
        }
    }
}
