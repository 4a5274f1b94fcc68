//! One process that the master has started or had forked.

use std::time::Instant;

use super::actions::ProcessId;
use super::recycle::Wish;
use crate::channel::Role;

#[derive(Debug)]
pub(super) struct Process {
    pub(super) role: Role,
    /// `None` until the template has said that it forked it.
    pub(super) pid: Option<i32>,
    /// Who forks it, for a worker of a template.
    pub(super) template: Option<ProcessId>,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    /// When it was last mentioned as still loading.
    pub(super) mentioned: Instant,
    pub(super) next_step: Option<(Instant, Step)>,
    /// It said that it is ready before its template said that it exists.
    pub(super) ready_early: bool,
    /// Messages since it was told to leave.
    pub(super) late_messages: u8,
    /// When it has served for long enough.
    pub(super) expires_at: Option<Instant>,
    /// It serves, and waits for its turn to be replaced.
    pub(super) wish: Option<Wish>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Loading,
    Ready {
        since: Instant,
    },
    /// Its slot, if it had one, is another's.
    Leaving,
}

/// What is done to a process that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Terminate,
    Kill,
    /// Forget a worker that its template never spoke of.
    GiveUp,
}

impl Process {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    pub(super) fn is_worker(&self) -> bool {
        matches!(self.role, Role::Worker { .. })
    }

    /// A worker that accepts requests.
    pub(super) fn is_serving(&self) -> bool {
        self.is_ready() && self.is_worker()
    }

    pub(super) fn is_leaving_worker(&self) -> bool {
        self.phase == Phase::Leaving && self.pid.is_some() && self.is_worker()
    }

    pub(super) fn generation(&self) -> u32 {
        match self.role {
            Role::Template { generation } | Role::Worker { generation, .. } => generation,
        }
    }

    /// For the log: `worker 0 generation 0 (pid 4711)`.
    pub(super) fn name(&self) -> String {
        let name = match self.role {
            Role::Template { generation } => format!("template generation {generation}"),
            Role::Worker { slot, generation } => format!("worker {slot} generation {generation}"),
        };
        match self.pid {
            Some(pid) => format!("{name} (pid {pid})"),
            None => name,
        }
    }
}
