//! What the books say, for those who ask how forkhorn is.

use std::process::ExitStatus;
use std::time::Instant;

use super::actions::{Failure, ProcessId};
use super::process::{Phase, Process};
use super::recycle::RecycleCounts;
use super::{End, Workers};
use crate::channel::Role;
use crate::cli::PoolSize;
use crate::process::WorkerExit;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessView {
    pub(crate) id: ProcessId,
    pub(crate) role: Role,
    pub(crate) pid: Option<i32>,
    pub(crate) stage: Stage,
    /// When it was started.
    pub(crate) since: Instant,
}

/// How far a process is, as the master sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Loading,
    Ready,
    Leaving,
}

/// All of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolView {
    pub(crate) generation: u32,
    /// Workers that there should be.
    pub(crate) wanted: u16,
    /// The limits within which that number moves.
    pub(crate) limits: PoolSize,
    pub(crate) is_reloading: bool,
    pub(crate) is_ending: bool,
    /// Some worker takes requests, or would be started for one.
    pub(crate) is_serving: bool,
    pub(crate) recycled: RecycleCounts,
}

/// What has happened since the master's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) worker_starts: u64,
    /// As they were told to, or had announced.
    pub(crate) left: u64,
    /// Ended by themselves with an exit status.
    pub(crate) exited: u64,
    /// Killed by a signal.
    pub(crate) killed: u64,
    /// Never came into being.
    pub(crate) not_started: u64,
    pub(crate) reloads: u64,
    pub(crate) failed_reloads: u64,
    /// The last reload that has ended: `Err` says why it failed.
    pub(crate) last_reload: Option<(Instant, Result<u32, String>)>,
}

impl Workers {
    pub(crate) fn views(&self) -> impl Iterator<Item = ProcessView> {
        self.processes.iter().map(|(&id, process)| ProcessView {
            id,
            role: process.role,
            pid: process.pid,
            stage: match process.phase {
                Phase::Loading => Stage::Loading,
                Phase::Ready { .. } => Stage::Ready,
                Phase::Leaving => Stage::Leaving,
            },
            since: process.since,
        })
    }

    pub(crate) fn pool_view(&self) -> PoolView {
        // A pool that may be empty starts a worker as soon as somebody asks.
        let wakes_up = self.ever_ready && self.end.is_none() && self.pool().min == 0;
        PoolView {
            generation: self.current.number,
            wanted: self.wanted,
            limits: self.pool(),
            is_reloading: self.is_reloading(),
            is_ending: self.end.is_some(),
            is_serving: self.end != Some(End::Fast) && (wakes_up || self.serving().next().is_some()),
            recycled: self.recycling.counts,
        }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A worker is off the books.
    pub(super) fn count_end(&mut self, process: &Process, failure: &Failure) {
        if matches!(process.role, Role::Template { .. }) {
            return;
        }
        let tally = &mut self.tally;
        let count = match failure {
            Failure::Ended(status) if is_as_told(*status) => &mut tally.left,
            Failure::Ended(status) if status.code().is_some() => &mut tally.exited,
            Failure::Ended(_) => &mut tally.killed,
            Failure::NotStarted(_) | Failure::NotForked(_) => &mut tally.not_started,
        };
        *count = count.saturating_add(1);
    }
}

fn is_as_told(status: ExitStatus) -> bool {
    let exit = status.code().and_then(WorkerExit::from_code);
    matches!(exit, Some(WorkerExit::Done | WorkerExit::Retired))
}
