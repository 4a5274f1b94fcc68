//! Signals as events: blocked for the process, read from a descriptor by the loop.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the operator, or the end of a child, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// HUP.
    Reload,
    /// TERM: finish what runs, then exit.
    StopGracefully,
    /// INT, QUIT: exit now.
    StopFast,
    /// USR1: open the access log anew.
    ReopenLogs,
    /// TTIN.
    OneMore,
    /// TTOU.
    OneLess,
    /// USR2.
    Upgrade,
    /// CHLD.
    Reap,
}

const ALL: [(Signal, Wish); 9] = [
    (Signal::SIGHUP, Wish::Reload),
    (Signal::SIGTERM, Wish::StopGracefully),
    (Signal::SIGINT, Wish::StopFast),
    (Signal::SIGQUIT, Wish::StopFast),
    (Signal::SIGUSR1, Wish::ReopenLogs),
    (Signal::SIGTTIN, Wish::OneMore),
    (Signal::SIGTTOU, Wish::OneLess),
    (Signal::SIGUSR2, Wish::Upgrade),
    (Signal::SIGCHLD, Wish::Reap),
];

/// The signals of the master. From its creation on none of them interrupts or ends the process, whatever it was started
/// with (nohup, or init in a container, which has no default actions).
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for (signal, _) in ALL {
            set.add(signal);
        }
        // A SIGCHLD that is ignored, as some parents leave it, would let the kernel reap in our place.
        crate::sys::heed_children()?;
        crate::sys::survive_file_size_limit()?;
        set.thread_block()?;
        let descriptor = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { descriptor })
    }

    /// The next one, if one has come.
    pub(crate) fn next(&self) -> Option<Wish> {
        loop {
            let info = self.descriptor.read_signal().ok().flatten()?;
            let number = i32::try_from(info.ssi_signo).ok()?;
            if let Some((_, wish)) = ALL.iter().find(|(signal, _)| *signal as i32 == number) {
                return Some(*wish);
            }
        }
    }
}

impl std::os::fd::AsRawFd for Signals {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.descriptor)
    }
}
