//! The script's process: its exit, and how it is ended. TERM to the whole process group, KILL to it after a grace.
//!
//! The group's number is the script's process id, which is free again once the script is reaped. So signals are sent only
//! before that: a script that has been told to end stays a zombie until its group has been killed.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::sys::spawn::{Child, Exit};

/// From TERM to KILL.
pub const GRACE: Duration = Duration::from_secs(2);
/// The same for what is left of the process group, once the script itself has followed TERM.
pub const GROUP_GRACE: Duration = Duration::from_millis(250);
/// How often a process is asked for that we can't watch.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// TERM was sent.
    Ending {
        kill_at: Instant,
    },
    /// The script has followed, and is not reaped: its group gets KILL then.
    Ended {
        kill_at: Instant,
    },
    /// KILL was sent.
    Killed,
    Reaped,
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    state: State,
    next_poll: Instant,
}

impl Process {
    pub fn new(child: Child, now: Instant) -> Self {
        Process { child, state: State::Running, next_poll: now + POLL_INTERVAL }
    }

    pub fn id(&self) -> i32 {
        self.child.pid().as_raw()
    }

    pub fn exit_descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self.state {
            State::Reaped => None,
            _ => self.child.exit_fd(),
        }
    }

    #[cfg(test)]
    pub fn forget_exit_descriptor(&mut self) {
        self.child.forget_exit_fd();
    }

    /// Of the process and the children that it has waited for; known once it has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.child.cpu_time()
    }

    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Reaped
    }

    /// Tells the whole process group to end.
    pub fn end(&mut self, now: Instant) {
        if self.state == State::Running {
            self.child.signal_group(Signal::SIGTERM);
            // A stopped process would not see it.
            self.child.signal_group(Signal::SIGCONT);
            self.state = State::Ending { kill_at: now + GRACE };
        }
    }

    /// Whether and how the process has ended; says it once.
    pub fn poll_exit(&mut self, now: Instant) -> Option<Exit> {
        self.next_poll = now + POLL_INTERVAL;
        match self.state {
            State::Running | State::Killed => {
                let exit = self.child.wait(true)?;
                self.reaped();
                Some(exit)
            }
            State::Ending { kill_at } => {
                let exit = self.child.wait(false)?;
                match exit {
                    Exit::Unknown => self.reaped(),
                    _ => self.state = State::Ended { kill_at: kill_at.min(now + GROUP_GRACE) },
                }
                Some(exit)
            }
            State::Ended { .. } | State::Reaped => None,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let poll = self.child.exit_fd().is_none().then_some(self.next_poll);
        match self.state {
            State::Running => poll,
            // It is gone in a moment, also if its exit could not be watched.
            State::Killed => Some(self.next_poll),
            State::Ending { kill_at } => Some(poll.map_or(kill_at, |poll| poll.min(kill_at))),
            State::Ended { kill_at } => Some(kill_at),
            State::Reaped => None,
        }
    }

    /// Sends KILL if it is time. The exit is [`poll_exit`](Self::poll_exit)'s.
    pub fn on_deadline(&mut self, now: Instant) {
        match self.state {
            State::Ending { kill_at } if now >= kill_at => {
                self.child.signal_group(Signal::SIGKILL);
                self.next_poll = now + POLL_INTERVAL;
                self.state = State::Killed;
            }
            State::Ended { kill_at } if now >= kill_at => {
                self.child.signal_group(Signal::SIGKILL);
                self.child.wait(true);
                self.reaped();
            }
            _ => {}
        }
    }

    fn reaped(&mut self) {
        self.state = State::Reaped;
    }
}

impl Drop for Process {
    /// The worker goes away: nobody would end the script any more.
    fn drop(&mut self) {
        if self.state != State::Reaped {
            self.child.signal_group(Signal::SIGKILL);
            self.child.wait(true);
        }
    }
}
