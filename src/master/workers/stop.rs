//! The ends: of one process, and of all.

use std::time::Instant;

use super::actions::{Action, Order, ProcessId};
use super::process::{Phase, Process, Step};
use super::{End, GRACE_MARGIN, LONGEST_FORK, SHORT, Workers};
use crate::channel::Role;

impl Workers {
    /// Graceful stop: requests are finished. The second time, fast.
    pub(crate) fn stop_gracefully(&mut self, now: Instant) -> Vec<Action> {
        if self.end.is_some() {
            return self.stop_fast(now);
        }
        log::info!("graceful stop");
        self.end = Some(End::Graceful);
        let mut actions = Vec::new();
        for id in self.processes.keys().copied().collect::<Vec<_>>() {
            if self.processes.get(&id).is_some_and(Process::is_leaving_worker) {
                // It was told that others take its connections.
                actions.push(Action::Tell(id, Order::Drain { hand_over: false }));
            }
            self.dismiss(id, now, &mut actions);
        }
        self.settle(now, actions)
    }

    /// Another master has taken over: as a graceful stop, but connections go to its workers if they can take them.
    pub(crate) fn make_way(&mut self, hand_over: bool, now: Instant) -> Vec<Action> {
        if !hand_over {
            return self.stop_gracefully(now);
        }
        self.end = Some(End::Succeeded);
        let mut actions = Vec::new();
        for id in self.processes.keys().copied().collect::<Vec<_>>() {
            self.dismiss(id, now, &mut actions);
        }
        self.settle(now, actions)
    }

    /// Fast stop: requests are broken off. The second time, at once.
    pub(crate) fn stop_fast(&mut self, now: Instant) -> Vec<Action> {
        let at_once = self.end == Some(End::Fast);
        log::info!("{}", if at_once { "stop at once" } else { "fast stop" });
        self.end = Some(End::Fast);
        let mut actions = Vec::new();
        for (&id, process) in &mut self.processes {
            process.phase = Phase::Leaving;
            match process.pid {
                Some(pid) if at_once => actions.push(Action::Kill { pid, signal: libc::SIGKILL }),
                Some(_) => {
                    actions.push(Action::Tell(id, Order::Stop));
                    process.next_step = Some((now + SHORT / 2, Step::Terminate));
                }
                None => {
                    actions.push(Action::Forget(id));
                    process.next_step = Some((now + SHORT, Step::GiveUp));
                }
            }
        }
        self.settle(now, actions)
    }

    /// Has one process leave: a worker that serves may finish what runs, all others have nothing to finish.
    pub(super) fn dismiss(&mut self, id: ProcessId, now: Instant, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let was = std::mem::replace(&mut process.phase, Phase::Leaving);
        match (was, process.role, process.pid) {
            (Phase::Leaving, ..) => {}
            (_, _, None) => {
                actions.push(Action::Forget(id));
                process.next_step = Some((now + LONGEST_FORK, Step::GiveUp));
            }
            (Phase::Loading, _, Some(pid)) => actions.push(Action::Kill { pid, signal: libc::SIGKILL }),
            (Phase::Ready { .. }, Role::Template { .. }, Some(_)) => {
                actions.push(Action::Tell(id, Order::Stop));
                process.next_step = Some((now + SHORT, Step::Kill));
            }
            (Phase::Ready { .. }, Role::Worker { .. }, Some(_)) => {
                actions.push(Action::Tell(
                    id,
                    Order::Drain { hand_over: self.end.is_none_or(|end| end == End::Succeeded) },
                ));
                let grace = self.settings.graceful_timeout + GRACE_MARGIN;
                process.next_step = Some((now + grace, Step::Kill));
            }
        }
    }
}
