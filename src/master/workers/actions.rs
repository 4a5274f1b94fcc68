//! What [`Workers`](super::Workers) wants to be done, and what may go wrong.

use std::fmt;
use std::process::ExitStatus;

use crate::config::StartupError;

/// A template or a worker as long as the master knows it. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcessId(pub(crate) u32);

/// For the loop to execute, in this order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Start an interpreter that loads the applications. `on_started` or `on_not_started` follows.
    StartTemplate {
        id: ProcessId,
        generation: u32,
    },
    /// Start a worker that loads the applications itself, or has none. The same follows.
    StartWorker {
        id: ProcessId,
        slot: u16,
        generation: u32,
    },
    /// Have a template fork a worker. `on_not_started` follows if it can't be told.
    Fork {
        template: ProcessId,
        id: ProcessId,
        slot: u16,
        generation: u32,
    },
    Tell(ProcessId, Order),
    /// Look how much memory it uses. `on_memory` follows if that can be told.
    Measure {
        id: ProcessId,
        pid: i32,
    },
    /// Read the configuration anew for the next generation. `on_configured` or `on_not_configured` follows.
    Configure {
        generation: u32,
    },
    /// Look what the workers have to do. `on_load` follows.
    LookAtLoad,
    /// `pid` is a child that has not been reaped.
    Kill {
        pid: i32,
        signal: i32,
    },
    /// Close its channel: nothing it says is of interest.
    Forget(ProcessId),
    /// How a reload has ended: the generation that serves, or why it failed. See [`Workers::next_reload`].
    ///
    /// [`Workers::next_reload`]: super::Workers::next_reload
    ReloadEnded {
        number: u32,
        result: Result<u32, String>,
    },
    /// The master is done.
    Exit(Result<(), StartupError>),
}

/// See [`ToProcess`](crate::channel::ToProcess).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Drain { hand_over: bool },
    Stop,
}

/// Why there is no process any more.
#[derive(Debug)]
pub(crate) enum Failure {
    Ended(ExitStatus),
    /// It was never started.
    NotStarted(String),
    /// Its template could not fork it, or ended first.
    NotForked(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Ended(status) => super::exits::describe(*status).fmt(f),
            Failure::NotStarted(why) => write!(f, "could not be started: {why}"),
            Failure::NotForked(why) => write!(f, "could not be forked: {why}"),
        }
    }
}
