//! What templates and workers say, or fail to say. None of it is believed blindly: whoever says what it can't have to
//! say is killed, and counts as crashed.

use std::time::Instant;

use super::actions::{Action, Failure, ProcessId};
use super::process::{Phase, Step};
use super::recycle::Reason;
use super::{GRACE_MARGIN, SHORT, Workers};
use crate::channel::{Role, ToMaster};
use crate::config::StartupError;

/// What [`ToMaster::Forked`] says, and whether the kernel agrees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkReport {
    pub(crate) slot: u16,
    pub(crate) generation: u32,
    pub(crate) pid: i32,
    /// `pid` is a child of this process that has not been reaped.
    pub(crate) is_child: bool,
}

/// See [`ToMaster::LoadFailed`].
struct LoadFailure {
    application: String,
    report: String,
    advice: String,
}

impl Workers {
    /// It was started, and runs as `pid`.
    pub(crate) fn on_started(&mut self, id: ProcessId, pid: i32) -> Vec<Action> {
        let process = self.processes.get_mut(&id);
        let unwanted = process.is_none_or(|process| {
            process.pid = Some(pid);
            log::debug!("{} was started", process.name());
            if matches!(process.role, Role::Worker { .. }) {
                self.tally.worker_starts = self.tally.worker_starts.saturating_add(1);
            }
            process.next_step = None;
            process.phase == Phase::Leaving
        });
        if unwanted {
            vec![Action::Forget(id), Action::Kill { pid, signal: libc::SIGKILL }]
        } else {
            Vec::new()
        }
    }

    /// Any message but Forked, which is for [`Workers::on_forked`].
    pub(crate) fn on_message(&mut self, id: ProcessId, message: ToMaster, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(process) = self.processes.get(&id) else { return actions };
        let is_worker = matches!(process.role, Role::Worker { .. });
        match (message, is_worker, process.phase) {
            (_, _, Phase::Leaving) => self.late_message(id, &mut actions),
            (ToMaster::Loaded, false, Phase::Loading) => self.loaded(id, now),
            (ToMaster::CannotPreload { reasons }, false, Phase::Loading) => {
                self.cannot_preload(id, &reasons, now);
            }
            (ToMaster::LoadFailed { application, report, advice }, _, Phase::Loading) => {
                let failure = LoadFailure { application, report, advice };
                self.load_failed(id, &failure, now, &mut actions);
            }
            (ToMaster::ForkFailed { slot, generation, reason }, false, Phase::Ready { .. }) => {
                match self.unforked(id, slot, generation) {
                    Some(worker) => self.remove(worker, &Failure::NotForked(reason), now, &mut actions),
                    None => self.distrust(id, "it speaks of a worker that nobody asked for", &mut actions),
                }
            }
            (ToMaster::Ready, true, Phase::Loading) => self.ready(id, now, &mut actions),
            (ToMaster::WantsReplacement { requests }, true, Phase::Ready { .. }) => {
                self.wish(id, Reason::Requests(requests), now);
            }
            // The template's word about it is still on its way.
            (ToMaster::WantsReplacement { requests }, true, Phase::Loading) if process.ready_early => {
                self.wish(id, Reason::Requests(requests), now);
            }
            (ToMaster::Retiring { reason }, true, Phase::Ready { .. }) => self.retiring(id, &reason, now),
            _ => self.distrust(id, "its message makes no sense now", &mut actions),
        }
        self.settle(now, actions)
    }

    /// A template says that it has forked a worker.
    pub(crate) fn on_forked(&mut self, template: ProcessId, report: ForkReport, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let ForkReport { slot, generation, pid, is_child } = report;
        let is_known = self.processes.values().any(|process| process.pid == Some(pid));
        let id = self.unforked(template, slot, generation).filter(|_| !is_known);
        let Some(id) = id else {
            self.distrust(template, "it speaks of a worker that nobody asked for", &mut actions);
            return self.settle(now, actions);
        };
        if !is_child {
            match self.strangers.iter().rposition(|(stranger, _)| *stranger == pid) {
                Some(at) => {
                    let status = self.strangers.remove(at).map(|(_, status)| status).unwrap_or_default();
                    self.remove(id, &Failure::Ended(status), now, &mut actions);
                }
                None => self.distrust(template, "it speaks of a process that is not ours", &mut actions),
            }
            return self.settle(now, actions);
        }
        if let Some(process) = self.processes.get_mut(&id) {
            self.tally.worker_starts = self.tally.worker_starts.saturating_add(1);
            process.pid = Some(pid);
            process.next_step = None;
            if process.phase == Phase::Leaving {
                actions.push(Action::Kill { pid, signal: libc::SIGKILL });
            } else if process.ready_early {
                self.ready(id, now, &mut actions);
            }
        }
        self.settle(now, actions)
    }

    /// The worker that `template` was told to fork first, of those with this slot and generation.
    fn unforked(&self, template: ProcessId, slot: u16, generation: u32) -> Option<ProcessId> {
        let mut all = self.processes.iter();
        let found = all.find(|(_, process)| {
            process.template == Some(template)
                && process.pid.is_none()
                && process.role == Role::Worker { slot, generation }
        });
        found.map(|(&id, _)| id)
    }

    /// It has closed its channel: it is about to end, or should be.
    pub(crate) fn on_closed(&mut self, id: ProcessId, now: Instant) -> Vec<Action> {
        // One without a pid is left alone: its template's message about it may still be on its way. One that leaves has
        // the time it was given: an interpreter may have much to do at its exit.
        if let Some(process) = self.processes.get_mut(&id)
            && process.pid.is_some()
            && process.phase != Phase::Leaving
        {
            process.next_step = Some((now + SHORT, Step::Kill));
        }
        self.settle(now, vec![Action::Forget(id)])
    }

    /// It sends what is no message, or does not read what it is sent.
    pub(crate) fn on_misbehaviour(&mut self, id: ProcessId, why: &str, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.distrust(id, why, &mut actions);
        self.settle(now, actions)
    }

    /// Kills it. That it has ended is found out as for any other.
    fn distrust(&mut self, id: ProcessId, why: &str, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        log::error!("{} is killed: {why}", process.name());
        actions.push(Action::Forget(id));
        match process.pid {
            Some(pid) => actions.push(Action::Kill { pid, signal: libc::SIGKILL }),
            // The end of its channel ends it; its template will say which one it was.
            None => process.phase = Phase::Leaving,
        }
    }

    /// A process that was told to leave may not have heard of it yet, but not for long.
    fn late_message(&mut self, id: ProcessId, actions: &mut Vec<Action>) {
        const MOST: u8 = 8;
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.late_messages = process.late_messages.saturating_add(1);
        if process.late_messages > MOST {
            self.distrust(id, "it floods its channel", actions);
        }
    }

    fn loaded(&mut self, id: ProcessId, now: Instant) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.phase = Phase::Ready { since: now };
        log::info!("{} has loaded the application", process.name());
    }

    fn cannot_preload(&mut self, id: ProcessId, reasons: &[String], now: Instant) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.phase = Phase::Leaving;
        process.next_step = Some((now + SHORT, Step::Kill));
        log::warn!(
            "each worker loads the application itself, because a copy of what is loaded would not work \
             (--preload never loads so from the start, --preload always copies nevertheless):\n{}",
            reasons.join("\n")
        );
        let generation = process.generation();
        if let Some(generation) = self.generation_mut(generation) {
            generation.preload = false;
            generation.template = None;
        }
    }

    fn load_failed(&mut self, id: ProcessId, failure: &LoadFailure, now: Instant, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let LoadFailure { application, report, advice } = failure;
        let generation = process.generation();
        // It has said all, and exits.
        process.next_step = Some((now + SHORT, Step::Kill));
        actions.push(Action::Forget(id));
        log::error!("{} cannot load application '{application}':\n{report}", process.name());
        let last_line =
            report.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
        let reason = format!("cannot load application '{application}': {}", last_line.trim());
        self.reload_report = Some(report.clone());
        if self.reload_fails(generation, &format!("{reason} ({advice})"), now, actions) {
        } else if !self.ever_ready {
            let message = if advice.is_empty() { reason } else { format!("{reason}\n{advice}") };
            actions.push(Action::Exit(Err(StartupError::application(message))));
        } else if !advice.is_empty() {
            log::error!("{advice}");
        }
    }

    fn ready(&mut self, id: ProcessId, now: Instant, actions: &mut Vec<Action>) {
        let lifetime = self.lifetime(id);
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Role::Worker { slot, generation } = process.role else { return };
        let Some(pid) = process.pid else {
            process.ready_early = true;
            return;
        };
        process.phase = Phase::Ready { since: now };
        process.expires_at = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        self.ever_ready = true;
        log::info!("worker {slot} generation {generation} ready, pid {pid}");
        if let Some(generation) = self.generation_mut(generation) {
            generation.template_failures = 0;
        }
        self.succeed(id, now, actions);
    }

    fn retiring(&mut self, id: ProcessId, reason: &str, now: Instant) {
        let Some(mut process) = self.processes.remove(&id) else { return };
        process.phase = Phase::Leaving;
        process.next_step = Some((now + self.settings.graceful_timeout + GRACE_MARGIN, Step::Kill));
        log::warn!("{} leaves and is replaced: {reason}", process.name());
        self.free_slot(id, &process, |slot| slot.failures = 0);
        self.processes.insert(id, process);
    }
}
