//! Decides which processes there should be. Makes no system call: facts and the time go in, actions come out.
//!
//! Neighbours: `mod.rs` tells the facts and executes the actions. This file holds the books; `workers/` has the slots and
//! how they are filled (`slots.rs`), a process as it is known (`process.rs`), and what follows from what processes say
//! (`facts.rs`), from their ends (`exits.rs`), from limits that a worker reaches (`recycle.rs`), from the load
//! (`scaling.rs`), and from the operator's wishes (`reload.rs`, `stop.rs`); `view.rs` tells what they say.

mod actions;
mod configure;
mod exits;
mod facts;
mod process;
mod recycle;
mod reload;
mod scaling;
mod silence;
mod slots;
mod stop;
mod summary;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

pub(crate) use actions::{Action, Order, ProcessId};
pub(crate) use exits::describe;
pub(crate) use facts::ForkReport;
pub(crate) use scaling::Load;
pub(crate) use summary::Summary;
pub(crate) use view::{PoolView, ProcessView, Stage, Tally};

use crate::cli::{PoolSize, Surge};
use actions::Failure;
use process::{Phase, Process, Step};
use recycle::Recycling;
use scaling::Scaling;
use slots::Generation;

/// After how long a process that still loads is mentioned in the log, again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a worker gets past `--graceful-timeout`, for the way.
const GRACE_MARGIN: Duration = Duration::from_secs(1);

/// A process that has closed its channel, or was told to stop, should be gone by then.
const SHORT: Duration = Duration::from_secs(2);

/// A template that has not forked for so long never will.
const LONGEST_FORK: Duration = Duration::from_secs(60);

/// As many workers may fail at the first start, one after the other, before forkhorn gives up.
const MAX_FIRST_FAILURES: u32 = 5;

/// More workers than this are a slip.
const MAX_WORKERS: u16 = 4096;

/// What of the configuration matters here. A reload may bring another.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) pool: PoolSize,
    /// A pool of variable size has a worker less after so long a calm.
    pub(crate) worker_idle_timeout: Duration,
    /// A pool of variable size has so many idle workers, if it may.
    pub(crate) spare_workers: u16,
    /// Workers are forked from a template, unless the application can't be copied.
    pub(crate) preload: bool,
    /// There are applications to load.
    pub(crate) applications: bool,
    pub(crate) graceful_timeout: Duration,
    /// Workers more than wanted during a reload.
    pub(crate) max_surge: Surge,
    /// A worker that uses more memory is replaced.
    pub(crate) max_memory_bytes: Option<u64>,
    /// A worker that has served for so long, and up to a tenth more, is replaced.
    pub(crate) max_lifetime: Option<Duration>,
    /// Any number: two masters should not have the same.
    pub(crate) seed: u64,
}

/// All processes that the master has started or had forked.
pub(crate) struct Workers {
    settings: Settings,
    /// Workers that there should be.
    wanted: u16,
    /// The generation that serves.
    current: Generation,
    /// The one that will, once its first worker is ready.
    next: Option<Generation>,
    /// The one that makes room for the current one, worker by worker.
    outgoing: Option<Generation>,
    /// The last number of a generation that has served.
    newest: u32,
    /// A reload was asked for while one was under way.
    reload_again: bool,
    /// A reload begins: the configuration is to be read.
    configuration_wanted: bool,
    /// What holds once the next generation has taken over.
    next_settings: Option<Settings>,
    /// What held before the current generation, and what TTIN and TTOU had added up to: for the case that it goes back.
    last_settings: Option<(Settings, i32)>,
    /// Some worker has been ready, so that the applications can be loaded in principle.
    ever_ready: bool,
    first_failures: u32,
    recycling: Recycling,
    scaling: Scaling,
    tally: Tally,
    /// Reloads that have begun.
    reloads_begun: u32,
    /// The one that is under way.
    reload: Option<u32>,
    /// What the processes of the next generation have said of their failure.
    reload_report: Option<String>,
    end: Option<End>,
    processes: BTreeMap<ProcessId, Process>,
    last_id: u32,
    /// Children that ended without being known, the latest last: a forked worker may end before the template's message
    /// about it is read.
    strangers: VecDeque<(i32, ExitStatus)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Requests are finished.
    Graceful,
    /// They are not.
    Fast,
    /// Requests are finished, and connections go to the workers of another master.
    Succeeded,
}

impl Workers {
    pub(crate) fn new(settings: Settings) -> Self {
        Workers {
            // One proves that the application loads, even where there may be none.
            wanted: settings.pool.min.clamp(1, MAX_WORKERS),
            scaling: Scaling::new(),
            current: Generation::new(0, settings.preload),
            next: None,
            outgoing: None,
            newest: 0,
            reload_again: false,
            configuration_wanted: false,
            next_settings: None,
            last_settings: None,
            ever_ready: false,
            first_failures: 0,
            recycling: Recycling::default(),
            tally: Tally::default(),
            reloads_begun: 0,
            reload: None,
            reload_report: None,
            settings,
            end: None,
            processes: BTreeMap::new(),
            last_id: 0,
            strangers: VecDeque::new(),
        }
    }

    /// The first start.
    pub(crate) fn start(&mut self, now: Instant) -> Vec<Action> {
        self.begin_measuring(now);
        self.settle(now, Vec::new())
    }

    /// When [`Workers::on_deadline`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let processes = self.processes.values().flat_map(|process| {
            let mention = (process.phase == Phase::Loading).then_some(process.mentioned + PATIENCE);
            [mention, process.next_step.map(|(at, _)| at)]
        });
        let generations = [Some(&self.current), self.next.as_ref()];
        let retries = generations.into_iter().flatten().flat_map(|generation| {
            let slots = generation.slots.iter().take(self.wanted.into()).map(|slot| slot.retry_at);
            slots.chain([generation.template_retry_at])
        });
        let others = retries
            .chain(self.recycling_deadlines())
            .chain([self.scaling.deadline()])
            .filter(|_| self.end.is_none());
        processes.chain(others).flatten().min()
    }

    /// Every process that runs.
    pub(crate) fn pids(&self) -> impl Iterator<Item = i32> {
        self.processes.values().filter_map(|process| process.pid)
    }

    /// It has not ended, as far as the books say.
    pub(crate) fn knows(&self, id: ProcessId) -> bool {
        self.processes.contains_key(&id)
    }

    /// Workers that accept requests.
    pub(crate) fn serving(&self) -> impl Iterator<Item = ProcessId> {
        let serving = self.processes.iter().filter(|(_, process)| process.is_serving());
        serving.map(|(&id, _)| id)
    }

    /// The process that runs as `pid`.
    pub(crate) fn id_of(&self, pid: i32) -> Option<ProcessId> {
        self.processes.iter().find(|(_, process)| process.pid == Some(pid)).map(|(&id, _)| id)
    }

    /// Something is due.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut given_up = Vec::new();
        for (&id, process) in &mut self.processes {
            if process.phase == Phase::Loading && now >= process.mentioned + PATIENCE {
                process.mentioned = now;
                let seconds = now.saturating_duration_since(process.since).as_secs();
                log::warn!("{} has not become ready for {seconds} s", process.name());
            }
            let Some((at, step)) = process.next_step else { continue };
            if now < at {
                continue;
            }
            match (step, process.pid) {
                (Step::Terminate, Some(pid)) => {
                    actions.push(Action::Kill { pid, signal: libc::SIGTERM });
                    process.next_step = Some((now + SHORT / 2, Step::Kill));
                }
                (Step::Kill, Some(pid)) => {
                    log::warn!("{} does not end by itself: killed", process.name());
                    actions.push(Action::Kill { pid, signal: libc::SIGKILL });
                    process.next_step = None;
                }
                (Step::GiveUp, _) | (_, None) => given_up.push(id),
            }
        }
        for id in given_up {
            self.give_up(id, now, &mut actions);
        }
        self.on_limits(now, &mut actions);
        self.settle(now, actions)
    }

    /// A worker that exists only on paper: its template does not answer.
    fn give_up(&mut self, id: ProcessId, now: Instant, actions: &mut Vec<Action>) {
        let template = self.processes.get(&id).and_then(|process| process.template);
        if let Some(template) = template.and_then(|id| self.processes.get_mut(&id))
            && let Some(pid) = template.pid
            && template.phase != Phase::Leaving
        {
            log::error!("{} does not answer: killed", template.name());
            actions.push(Action::Kill { pid, signal: libc::SIGKILL });
        }
        self.remove(id, &Failure::NotForked("its template did not answer".into()), now, actions);
    }

    /// Ends every fact: starts what is missing, drains what is too much, changes the generation or exits when it is
    /// time.
    fn settle(&mut self, now: Instant, mut actions: Vec<Action>) -> Vec<Action> {
        if self.end.is_some() {
            if self.processes.is_empty() {
                actions.push(Action::Exit(Ok(())));
            }
            return actions;
        }
        self.look_at_load(now, &mut actions);
        self.advance_reload(now, &mut actions);
        self.recycle(now, &mut actions);
        self.ask_for_configuration(&mut actions);
        actions
    }
}
