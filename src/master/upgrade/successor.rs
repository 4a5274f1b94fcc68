//! The new master, as the old one sees it: a child that is given the listeners, and says when it is ready.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{FromSuccessor, Inherited, ToSuccessor};
use crate::channel::{Channel, ChannelError};
use crate::config::UPGRADE_VARIABLE;
use crate::hand_off::{self, HandOffQueue};
use crate::master::sockets::Listener;
use crate::sys;

/// A new master that was told to stop should be gone by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was started, so that it can be started again: the file by the name it was called, since another one may lie there
/// by then.
#[derive(Debug, Clone)]
pub(in crate::master) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be called at the start: PATH, the working directory and the file itself may change later.
    pub(in crate::master) fn at_start() -> Program {
        let mut words = std::env::args_os();
        let name = PathBuf::from(words.next().unwrap_or_default());
        let path = find(&name).or_else(|| std::env::current_exe().ok()).unwrap_or(name);
        Program { path, arguments: words.collect() }
    }

    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

/// Where a shell would have found the program. Symbolic links stay: the next version may be where they lead.
fn find(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok().filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())?;
    std::path::absolute(found).ok()
}

#[derive(Debug)]
pub(in crate::master) struct Successor {
    /// A child that has not been reaped.
    pub(in crate::master) pid: i32,
    channel: Channel,
    deadline: Instant,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Loading,
    /// It has been told to stop, and has until the deadline.
    GivenUp,
    Killed,
}

impl Successor {
    /// Starts the program, which finds its inheritance in a channel that it is told of by its environment.
    pub(super) fn start(
        program: &Program,
        listeners: &[Rc<Listener>],
        queue: &HandOffQueue,
        deadline: Instant,
    ) -> io::Result<Successor> {
        let (ours, theirs) = Channel::pair()?;
        let message = ToSuccessor::Inherit {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hand_off_version: hand_off::VERSION,
            listeners: listeners.iter().map(|listener| describe(listener)).collect(),
        };
        let mut descriptors: Vec<BorrowedFd<'_>> =
            listeners.iter().map(|listener| listener.descriptor.as_fd()).collect();
        descriptors.extend(queue.ends());
        ours.send(&message, &descriptors)?;
        // This process has one thread: nothing else is started before the descriptor is closed here.
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments);
        command.env(UPGRADE_VARIABLE, theirs.as_fd().as_raw_fd().to_string());
        // It is not the process that these are meant for; what they are about is passed on.
        command.env_remove("WATCHDOG_PID");
        sys::with_clean_signals(&mut command);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Successor { pid, channel: ours, deadline, state: State::Loading })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.channel.as_fd().as_raw_fd()
    }

    /// When [`Successor::advance`] wants to be called at the latest.
    pub(in crate::master) fn deadline(&self) -> Option<Instant> {
        (self.state != State::Killed).then_some(self.deadline)
    }

    /// Whether it is ready, and if so, whether connections can be handed over to it.
    ///
    /// # Errors
    /// Why it was given up, told once. Its end is still to come.
    pub(super) fn advance(&mut self, now: Instant) -> Result<Option<bool>, String> {
        match self.state {
            State::Killed => return Ok(None),
            State::GivenUp => {
                if now >= self.deadline {
                    self.state = State::Killed;
                    self.signal(Signal::SIGKILL);
                }
                return Ok(None);
            }
            State::Loading => {}
        }
        let why = match self.channel.try_receive::<FromSuccessor>() {
            Ok(Some((FromSuccessor::Ready { hand_over }, _))) => return Ok(Some(hand_over)),
            Ok(None) if now >= self.deadline => "the new master is not ready (--upgrade-timeout)".to_owned(),
            Ok(None) => return Ok(None),
            // Its end will say why.
            Err(ChannelError::Closed) => return Ok(None),
            Err(error) => format!("the new master can't be understood: {error}"),
        };
        self.give_up(&why);
        Err(why)
    }

    /// It is of no use: told to stop, killed if it does not.
    pub(super) fn give_up(&mut self, why: &str) {
        log::debug!("process {} is told to stop: {why}", self.pid);
        self.state = State::GivenUp;
        self.deadline = Instant::now() + PATIENCE;
        self.signal(Signal::SIGINT);
    }

    pub(super) fn was_given_up(&self) -> bool {
        self.state != State::Loading
    }

    pub(super) fn take_over(&self) -> io::Result<()> {
        self.channel.send(&ToSuccessor::TakeOver, &[])
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill(Pid::from_raw(self.pid), signal) {
            log::error!("cannot send {} to process {}: {error}", signal.as_str(), self.pid);
        }
    }
}

fn describe(listener: &Listener) -> Inherited {
    Inherited {
        given: listener.given.clone(),
        bound: listener.bound.clone(),
        name: listener.name.borrow().as_ref().map(|name| name.identity()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_does() {
        let sh = find(Path::new("sh")).expect("in PATH");
        assert!(sh.is_absolute() && sh.ends_with("sh"));
        assert_eq!(find(Path::new("/bin/sh")), Some("/bin/sh".into()));
        assert_eq!(find(Path::new("./not-there")), None);
        assert_eq!(find(Path::new("no-such-program-at-all")), None);
    }
}
