//! A process has ended: what follows, and how the log says it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::actions::{Action, Failure, ProcessId};
use super::process::{Phase, Process};
use super::slots::Slot;
use super::{MAX_FIRST_FAILURES, Workers};
use crate::channel::Role;
use crate::config::StartupError;
use crate::process::WorkerExit;

/// A worker that ends sooner after it was ready counts as failed at its start.
const YOUNG: Duration = Duration::from_secs(1);

const MAX_STRANGERS: usize = 64;

impl Workers {
    /// A child was reaped, ours or one that was left to us.
    pub(crate) fn on_exit(&mut self, pid: i32, status: ExitStatus, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let found = self.processes.iter().find(|(_, process)| process.pid == Some(pid));
        match found.map(|(&id, _)| id) {
            Some(id) => self.remove(id, &Failure::Ended(status), now, &mut actions),
            None => {
                self.strangers.push_back((pid, status));
                if self.strangers.len() > MAX_STRANGERS {
                    self.strangers.pop_front();
                }
            }
        }
        self.settle(now, actions)
    }

    /// The process can't be started: the fault lies with forkhorn's surroundings, not with the application.
    pub(crate) fn on_not_started(&mut self, id: ProcessId, why: String, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.remove(id, &Failure::NotStarted(why), now, &mut actions);
        self.settle(now, actions)
    }

    /// Takes a process off the books, and decides what that means.
    pub(super) fn remove(
        &mut self,
        id: ProcessId,
        failure: &Failure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(process) = self.processes.remove(&id) else { return };
        actions.push(Action::Forget(id));
        self.count_end(&process, failure);
        if process.phase == Phase::Leaving {
            match failure {
                Failure::Ended(status) if !status.success() && !is_retired(*status) => {
                    log::info!("{} has left: it {failure}", process.name());
                }
                _ => log::info!("{} has left", process.name()),
            }
            // Only one that was to be killed before it was known to exist still has its slot.
            self.free_slot(id, &process, |slot| slot.fail(now));
        } else {
            match process.role {
                Role::Template { .. } => self.template_failed(id, &process, failure, now, actions),
                Role::Worker { .. } => self.worker_failed(id, &process, failure, now, actions),
            }
        }
        if matches!(process.role, Role::Template { .. }) {
            self.drop_unforked(id, actions);
        }
    }

    /// What a template was still to fork is gone with it. A worker that it forked without saying so sees the end of its
    /// channel and exits.
    fn drop_unforked(&mut self, template: ProcessId, actions: &mut Vec<Action>) {
        let unforked = self
            .processes
            .iter()
            .filter(|(_, process)| process.template == Some(template) && process.pid.is_none());
        for id in unforked.map(|(&id, _)| id).collect::<Vec<_>>() {
            // Not the worker's fault: its slot is filled again as soon as there is a template.
            if let Some(process) = self.processes.remove(&id) {
                actions.push(Action::Forget(id));
                self.free_slot(id, &process, |_| {});
            }
        }
    }

    fn template_failed(
        &mut self,
        id: ProcessId,
        process: &Process,
        failure: &Failure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let was_loading = process.phase == Phase::Loading;
        let what = format!("{} {failure}", process.name());
        if was_loading && self.reload_fails(process.generation(), &what, now, actions) {
            return;
        }
        if !self.ever_ready {
            self.first_failures += 1;
            if was_loading || self.first_failures >= MAX_FIRST_FAILURES {
                return actions.push(Action::Exit(Err(first_failure(process, failure, was_loading))));
            }
        }
        let Some(generation) = self.generation_mut(process.generation()) else { return };
        if generation.template == Some(id) {
            generation.template = None;
        }
        generation.template_failures = generation.template_failures.saturating_add(1);
        let delay = back_off(generation.template_failures);
        generation.template_retry_at = Some(now + delay);
        let delay = delay.as_secs();
        log::error!(
            "{} {failure}: if a worker is missing, another template is started in {delay} s",
            process.name()
        );
    }

    fn worker_failed(
        &mut self,
        id: ProcessId,
        process: &Process,
        failure: &Failure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let name = process.name();
        let is_loading = process.phase == Phase::Loading;
        if is_loading && self.reload_fails(process.generation(), &format!("{name} {failure}"), now, actions) {
            return;
        }
        if self.is_successor(id, process) {
            return self.successor_failed(id, process, failure, now);
        }
        if is_loading && !self.ever_ready {
            self.first_failures += 1;
            let hopeless = matches!(failure, Failure::Ended(status) if is_not_started(*status));
            if hopeless || self.first_failures >= MAX_FIRST_FAILURES {
                let loads = self.settings.applications && !self.current.preload;
                return actions.push(Action::Exit(Err(first_failure(process, failure, loads))));
            }
        }
        if self.outgoing.as_ref().is_some_and(|outgoing| outgoing.number == process.generation()) {
            self.free_slot(id, process, |_| {});
            return log::warn!("{name} {failure}: a worker of the next generation takes its place");
        }
        let young = match process.phase {
            Phase::Ready { since } => now.saturating_duration_since(since) < YOUNG,
            Phase::Loading => true,
            Phase::Leaving => false,
        };
        let mut delay = Duration::ZERO;
        self.free_slot(id, process, |slot| {
            match young {
                true => slot.fail(now),
                false => slot.failures = 0,
            }
            delay = back_off(slot.failures);
        });
        if delay.is_zero() {
            log::warn!("{name} {failure}: replaced");
        } else {
            log::error!("{name} {failure}: replaced in {} s", delay.as_secs());
        }
    }
}

impl Slot {
    fn fail(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + back_off(self.failures));
    }
}

/// The first failure is made good at once, the others after 1, 2, 4 … 32 s.
pub(super) fn back_off(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => Duration::from_secs(1 << (more - 2).min(5)),
    }
}

fn first_failure(process: &Process, failure: &Failure, loads: bool) -> StartupError {
    let not_started = match failure {
        Failure::Ended(status) => is_not_started(*status),
        Failure::NotStarted(_) | Failure::NotForked(_) => true,
    };
    match loads && !not_started {
        true => StartupError::application(format!(
            "cannot load the application: {} {failure} while it loaded{}",
            process.name(),
            if is_of_its_own(failure) {
                ": the application has ended the process (os._exit), or what --python names is no Python"
            } else {
                ""
            }
        )),
        false => StartupError::other(format!("cannot serve: {} {failure}", process.name())),
    }
}

/// An exit status that is none of ours.
fn is_of_its_own(failure: &Failure) -> bool {
    match failure {
        Failure::Ended(status) => status.code().is_some_and(|code| WorkerExit::from_code(code).is_none()),
        Failure::NotStarted(_) | Failure::NotForked(_) => false,
    }
}

fn is_not_started(status: ExitStatus) -> bool {
    status.code().and_then(WorkerExit::from_code) == Some(WorkerExit::NotStarted)
}

fn is_retired(status: ExitStatus) -> bool {
    status.code().and_then(WorkerExit::from_code) == Some(WorkerExit::Retired)
}

/// `was killed by signal 9 (SIGKILL)`, `exited with status 1 (failed)`.
pub(crate) fn describe(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return match WorkerExit::from_code(code) {
            Some(exit) => format!("exited with status {code} ({exit})"),
            None => format!("exited with status {code}"),
        };
    }
    let Some(signal) = status.signal() else { return "ended".into() };
    let core = if status.core_dumped() { ", core dumped" } else { "" };
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => format!("was killed by signal {signal} ({}{core})", known.as_str()),
        Err(_) => format!("was killed by signal {signal}{core}"),
    }
}
