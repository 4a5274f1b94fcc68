//! The script's process: its exit, and how it is ended. TERM to the whole process group, KILL to it after a grace.
//!
//! The group's number is the script's process id, which is free again once the script is reaped. So signals are sent only
//! before that: a script that has been told to end stays a zombie until its group has been killed.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::warm::{Notice, WarmChild};
use crate::sys::spawn::{Child, Exit};

/// From TERM to KILL.
pub const GRACE: Duration = Duration::from_secs(2);
/// The same for what is left of the process group, once the script itself has followed TERM.
pub const GROUP_GRACE: Duration = Duration::from_millis(250);
/// From the request to a warm interpreter until the script runs.
const LONGEST_START: Duration = Duration::from_secs(5);
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

/// Whose child the script is.
#[derive(Debug)]
enum Origin {
    /// Ours.
    Classic(Child),
    /// A warm interpreter's.
    Warm(WarmChild),
}

#[derive(Debug)]
pub(super) struct Process {
    child: Origin,
    state: State,
    next_poll: Instant,
    /// A warm interpreter should have started the script by then.
    start_by: Option<Instant>,
}

impl Process {
    pub fn new(child: Child, now: Instant) -> Self {
        Process {
            child: Origin::Classic(child),
            state: State::Running,
            next_poll: now + POLL_INTERVAL,
            start_by: None,
        }
    }

    /// A script that a warm interpreter has been asked to run.
    pub fn warm(child: WarmChild, now: Instant) -> Self {
        Process {
            child: Origin::Warm(child),
            state: State::Running,
            next_poll: now + POLL_INTERVAL,
            start_by: Some(now + LONGEST_START),
        }
    }

    /// `None` as long as a warm interpreter has not started it.
    pub fn id(&self) -> Option<i32> {
        match &self.child {
            Origin::Classic(child) => Some(child.pid().as_raw()),
            Origin::Warm(child) => child.pid(),
        }
    }

    /// The request of a warm interpreter.
    pub fn warm_id(&self) -> Option<u32> {
        match &self.child {
            Origin::Classic(_) => None,
            Origin::Warm(child) => Some(child.id()),
        }
    }

    /// What the warm interpreter says about it. [`Notice::Lost`] and [`Notice::Failed`] of a script that has not been
    /// started are the caller's.
    pub fn on_notice(&mut self, notice: Notice) {
        let Origin::Warm(child) = &mut self.child else { return };
        match notice {
            Notice::Started(pid) => {
                child.on_started(pid);
                self.start_by = None;
                match self.state {
                    State::Running => {}
                    // It was told to end before there was anybody to tell.
                    State::Killed => self.signal_group(Signal::SIGKILL),
                    State::Ending { .. } | State::Ended { .. } | State::Reaped => {
                        self.signal_group(Signal::SIGTERM);
                        self.signal_group(Signal::SIGCONT);
                    }
                }
            }
            Notice::Exit(exit, cpu_time) => child.on_exit(exit, cpu_time),
            Notice::Running => child.on_running(),
            Notice::Ends { .. } | Notice::Failed(_) | Notice::Lost => {}
        }
    }

    /// A process says that its script has ended. False: it is not this one, or was told to end. The process goes on until
    /// the kernel says so, and so do its limits.
    pub fn on_ends(&mut self, pid: i32, cpu_time: Duration) -> bool {
        match &mut self.child {
            Origin::Warm(child) if self.state == State::Running => child.on_ends(pid, cpu_time),
            _ => false,
        }
    }

    /// Not started, and never will be.
    pub fn forget(&mut self) {
        self.reaped();
    }

    pub fn exit_descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self.state {
            State::Reaped => None,
            _ => self.exit_fd(),
        }
    }

    fn exit_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.child {
            Origin::Classic(child) => child.exit_fd(),
            Origin::Warm(child) => child.exit_fd(),
        }
    }

    fn wait(&mut self, reap: bool) -> Option<Exit> {
        match &mut self.child {
            Origin::Classic(child) => child.wait(reap),
            Origin::Warm(child) => child.wait(reap),
        }
    }

    fn signal_group(&self, signal: Signal) {
        match &self.child {
            Origin::Classic(child) => child.signal_group(signal),
            Origin::Warm(child) => child.signal_group(signal),
        }
    }

    /// After an exit that [`wait`](Self::wait) has not told: whether nothing is left to reap.
    fn is_gone(&self) -> bool {
        match &self.child {
            Origin::Classic(_) => true,
            Origin::Warm(child) => child.is_orphan(),
        }
    }

    #[cfg(test)]
    pub fn forget_exit_descriptor(&mut self) {
        if let Origin::Classic(child) = &mut self.child {
            child.forget_exit_fd();
        }
    }

    /// Of the process and the children that it has waited for; known once it has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        match &self.child {
            Origin::Classic(child) => child.cpu_time(),
            Origin::Warm(child) => child.cpu_time(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Reaped
    }

    /// The script has ended, and only its group's grace is not over.
    pub fn is_remnant(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Tells the whole process group to end.
    pub fn end(&mut self, now: Instant) {
        if self.state == State::Running {
            self.signal_group(Signal::SIGTERM);
            // A stopped process would not see it.
            self.signal_group(Signal::SIGCONT);
            self.state = State::Ending { kill_at: now + GRACE };
        }
    }

    /// Whether and how the process has ended; says it once.
    pub fn poll_exit(&mut self, now: Instant) -> Option<Exit> {
        self.next_poll = now + POLL_INTERVAL;
        match self.state {
            State::Running | State::Killed => {
                let exit = self.wait(true)?;
                self.reaped();
                Some(exit)
            }
            State::Ending { kill_at } => {
                let exit = self.wait(false)?;
                match exit {
                    Exit::Unknown if self.is_gone() => self.reaped(),
                    _ => self.state = State::Ended { kill_at: kill_at.min(now + GROUP_GRACE) },
                }
                Some(exit)
            }
            State::Ended { .. } | State::Reaped => None,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let poll = (self.exit_fd().is_none() && self.id().is_some()).then_some(self.next_poll);
        match self.state {
            State::Running => poll.or(self.start_by),
            // It is gone in a moment, also if its exit could not be watched.
            State::Killed => Some(self.next_poll),
            State::Ending { kill_at } => Some(poll.map_or(kill_at, |poll| poll.min(kill_at))),
            State::Ended { kill_at } => Some(kill_at),
            State::Reaped => None,
        }
    }

    /// Sends KILL if it is time. The exit is [`poll_exit`](Self::poll_exit)'s.
    pub fn on_deadline(&mut self, now: Instant) {
        if let Origin::Warm(child) = &self.child
            && self.start_by.is_some_and(|at| now >= at)
        {
            // It is seen to be gone then, and the script is started the classic way.
            child.give_up_interpreter();
            self.start_by = None;
        }
        match self.state {
            State::Ending { kill_at } if now >= kill_at => {
                self.signal_group(Signal::SIGKILL);
                self.next_poll = now + POLL_INTERVAL;
                self.state = State::Killed;
            }
            State::Ended { kill_at } if now >= kill_at => {
                self.signal_group(Signal::SIGKILL);
                self.wait(true);
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
            self.signal_group(Signal::SIGKILL);
            self.wait(true);
        }
    }
}
