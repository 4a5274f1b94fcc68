//! Starts templates and workers, with a channel in the place of standard input.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{AccessFlags, access};

use crate::channel::Channel;
use crate::config::{Identity, UPGRADE_VARIABLE};
use crate::sys;

/// Variables that speak of the master alone: of descriptors that only it has, of messages that only it may send.
pub(crate) const MASTERS_OWN: [&str; 7] = [
    UPGRADE_VARIABLE,
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What is run. One and the same for all processes of a master: their first message says what they are.
#[derive(Debug, Clone)]
pub(crate) struct ProcessCommand {
    pub(crate) program: PathBuf,
    /// What process lists show in the place of the program.
    pub(crate) name: Option<&'static str>,
    pub(crate) arguments: Vec<OsString>,
    /// What it reads from the channel before the first message.
    pub(crate) boot: Option<String>,
    /// Added to the master's own.
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: Option<PathBuf>,
    /// Whom it runs as from the start.
    pub(crate) identity: Option<Identity>,
}

impl ProcessCommand {
    /// Starts it. Its pid, and the master's end of the channel.
    pub(crate) fn spawn(&self) -> io::Result<(i32, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        if let Some(boot) = &self.boot {
            sys::send_message(ours.as_fd(), boot.as_bytes(), &[])?;
        }
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(name) = self.name {
            command.arg0(name);
        }
        for name in MASTERS_OWN {
            command.env_remove(name);
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::from(copy(&theirs)?));
        sys::in_clean_state(&mut command);
        if let Some(identity) = &self.identity {
            sys::as_identity(&mut command, identity.clone());
        }
        // The handle is dropped without waiting: the loop reaps whatever ends.
        let child = command.spawn().map_err(|error| self.explain(error))?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok((pid, ours))
    }
}

impl ProcessCommand {
    /// The system tells of the program only, where it could not enter the directory.
    fn explain(&self, error: io::Error) -> io::Error {
        let directory = self.directory.as_deref().unwrap_or(Path::new("."));
        match access(directory, AccessFlags::X_OK) {
            Err(closed) => io::Error::new(
                error.kind(),
                format!(
                    "its directory (--chdir) {} can't be entered: {}",
                    directory.display(),
                    closed.desc()
                ),
            ),
            Ok(()) => error,
        }
    }
}

fn copy(channel: &Channel) -> io::Result<OwnedFd> {
    channel.as_fd().try_clone_to_owned()
}
