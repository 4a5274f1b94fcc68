//! How a process that the master starts learns what it is: the channel on descriptor 0, and the first message on it.
//!
//! The master starts a template or a worker of an application as `python3 -c …` with `--env` in its environment, with
//! `--chdir` as its working directory and, if `--user` or `--group` are given, already as that user. The interpreter
//! first reads from the channel what it is to run (`master/bridge.rs`). That imports the bridge, `_forkhorn`, and ends
//! with `sys.exit(_forkhorn.main())`; `main` calls [`receive_start`] and gives back the exit status
//! ([`WorkerExit::code`]). A worker without Python is the forkhorn binary itself, as `forkhorn worker`.

mod memory;
mod privileges;
pub(crate) mod title;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::{prctl, signal::Signal};

use crate::channel::{Channel, ChannelError, Role, ToProcess};
use crate::config::{AccessLogConfig, Config};
use crate::hand_off::HandOffQueue;
use crate::logger;

pub use memory::{ProcessMemory, process_memory, resident_bytes};
pub use privileges::drop_privileges;

/// What a worker is given.
pub struct WorkerStart {
    pub config: Arc<Config>,
    /// 0 up to the number of workers.
    pub slot: u16,
    /// 0 at start, one more with each reload.
    pub generation: u32,
    /// In the order of `config.listeners`.
    pub listeners: Vec<OwnedFd>,
    pub hand_off: HandOffQueue,
    /// `None` if there is no access log.
    pub access_log: Option<OwnedFd>,
    /// The page of the scoreboard. `None` in a template.
    pub board: Option<OwnedFd>,
    pub channel: Channel,
    pub master_pid: i32,
}

impl WorkerStart {
    /// In a worker that a template has just forked: turns the template's start into the worker's.
    ///
    /// Waits until the master is the parent, and sees to it that the worker ends with the master. `channel` and `board`
    /// are the descriptors that came with [`ToProcess::Fork`]; the template's own end is closed.
    ///
    /// # Errors
    /// The master is gone, or the kernel refused. The worker must exit.
    pub fn into_worker(
        self,
        slot: u16,
        generation: u32,
        channel: OwnedFd,
        board: OwnedFd,
    ) -> io::Result<WorkerStart> {
        logger::rename(&worker_name(slot));
        title::show_role(Role::Worker { slot, generation }, &self.config);
        die_with_master(self.master_pid)?;
        Ok(WorkerStart { slot, generation, channel: Channel::new(channel), board: Some(board), ..self })
    }
}

/// How a template or a worker ends, as its exit status says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerExit {
    /// Drained, or told to stop, or gone with the master.
    Done,
    /// Something that forkhorn can't do: the log says what.
    Failed,
    /// An application can't be loaded; `LoadFailed` was sent.
    LoadFailed,
    /// Told by `CannotPreload` that workers must load for themselves.
    CannotPreload,
    /// It began to drain by itself, as `Retiring` said, and has finished.
    Retired,
    /// The first message did not come or could not be obeyed (privileges, for one).
    NotStarted,
}

impl WorkerExit {
    const ALL: [WorkerExit; 6] = [
        WorkerExit::Done,
        WorkerExit::Failed,
        WorkerExit::LoadFailed,
        WorkerExit::CannotPreload,
        WorkerExit::Retired,
        WorkerExit::NotStarted,
    ];

    /// The exit status.
    pub fn code(self) -> i32 {
        match self {
            WorkerExit::Done => 0,
            WorkerExit::Failed => 1,
            WorkerExit::LoadFailed => 3,
            // Numbers that an interpreter or a shell does not use by itself.
            WorkerExit::CannotPreload => 80,
            WorkerExit::Retired => 81,
            WorkerExit::NotStarted => 82,
        }
    }

    pub fn from_code(code: i32) -> Option<WorkerExit> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerExit::Done => "done",
            WorkerExit::Failed => "failed",
            WorkerExit::LoadFailed => "application not loaded",
            WorkerExit::CannotPreload => "application can't be copied",
            WorkerExit::Retired => "retired",
            WorkerExit::NotStarted => "not started",
        })
    }
}

/// Takes descriptor 0 as the channel (a copy above 2 with CLOEXEC, /dev/null in its place), waits for the first message
/// and obeys it: sets the logger up, drops privileges, and makes this process end with its master.
///
/// For [`Role::Template`] the `slot` of the result means nothing; see [`WorkerStart::into_worker`].
///
/// # Errors
/// One sentence for the operator; exit with [`WorkerExit::NotStarted`] then.
pub fn receive_start() -> io::Result<(Role, WorkerStart)> {
    let channel = take_channel()?;
    let (message, mut descriptors) = channel.receive::<ToProcess>().map_err(|error| match error {
        ChannelError::Io(error) => error,
        ChannelError::Closed => io::Error::other("the master ended before it said what to do"),
        ChannelError::Malformed(why) => io::Error::other(format!(
            "the master's first message is not understood ({why}): are the forkhorn binary and the bridge of one \
             version? This is {}",
            env!("CARGO_PKG_VERSION")
        )),
    })?;
    let ToProcess::Start { role, master_pid, config } = message else {
        return Err(io::Error::other("the master's first message is not a start"));
    };
    let (slot, generation, name) = match role {
        Role::Template { generation } => (0, generation, "template".to_owned()),
        Role::Worker { slot, generation } => (slot, generation, worker_name(slot)),
    };
    logger::init(&config, &name);
    title::show_role(role, &config);
    end_on_panic();
    let is_worker = matches!(role, Role::Worker { .. });
    let has_access_log = config.access_log != AccessLogConfig::Off;
    let expected = config.listeners.len() + 2 + usize::from(is_worker) + usize::from(has_access_log);
    if descriptors.len() != expected {
        return Err(io::Error::other("the master's first message came without its descriptors"));
    }
    let access_log = if has_access_log { descriptors.pop() } else { None };
    let board = if is_worker { descriptors.pop() } else { None };
    let (Some(receiving), Some(sending)) = (descriptors.pop(), descriptors.pop()) else {
        return Err(io::Error::other("the master's first message came without the hand-off queue"));
    };
    let hand_off = HandOffQueue::from_ends(sending, receiving);
    if let Some(identity) = &config.processes.identity {
        drop_privileges(identity)?;
    }
    die_with_master(master_pid)?;
    let config = Arc::new(*config);
    Ok((
        role,
        WorkerStart {
            config,
            slot,
            generation,
            listeners: descriptors,
            hand_off,
            access_log,
            board,
            channel,
            master_pid,
        },
    ))
}

/// A panic is a bug of ours: whatever it has left half done must serve nobody. The master replaces the process.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        log::error!("a bug in forkhorn, please report it: {panic}");
        std::process::abort();
    }));
}

fn worker_name(slot: u16) -> String {
    format!("worker {slot}")
}

fn take_channel() -> io::Result<Channel> {
    let stdin = io::stdin();
    if getsockopt(&stdin, sockopt::SockType) != Ok(SockType::SeqPacket) {
        return Err(io::Error::other(
            "descriptor 0 is not a channel: only forkhorn's master starts this process",
        ));
    }
    // Above 2 and with CLOEXEC: std sees to both.
    let channel = Channel::new(stdin.as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(channel)
}

/// The kernel kills this process when the master ends, however that happens.
///
/// Call it after privileges are dropped, which forgets the setting. A worker that was forked twice becomes the master's
/// child only when the process in between has ended, and the setting must come after that: waits for it.
///
/// # Errors
/// The master is not there any more.
pub fn die_with_master(master_pid: i32) -> io::Result<()> {
    /// The process in between has nothing left to do but to exit.
    const LONGEST_WAIT: Duration = Duration::from_secs(10);
    let is_child_of_master = || nix::unistd::getppid().as_raw() == master_pid;
    let start = Instant::now();
    while !is_child_of_master() {
        if start.elapsed() > LONGEST_WAIT {
            return Err(io::Error::other("the master is gone"));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended just before.
    match is_child_of_master() {
        true => Ok(()),
        false => Err(io::Error::other("the master is gone")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_read_back() {
        for exit in WorkerExit::ALL {
            assert_eq!(WorkerExit::from_code(exit.code()), Some(exit));
        }
        assert_eq!(WorkerExit::from_code(139), None);
    }
}
