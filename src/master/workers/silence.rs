//! A worker whose loop does not turn.

use std::time::{Duration, Instant};

use super::actions::{Action, ProcessId};
use super::process::{Phase, Step};
use super::{SHORT, Workers};

impl Workers {
    /// It has not answered for so long, and gets TERM, then KILL. Another one takes its place at once. `state` says what
    /// the kernel knows of it.
    pub(crate) fn on_silence(
        &mut self,
        id: ProcessId,
        silence: Duration,
        state: &str,
        now: Instant,
    ) -> Vec<Action> {
        let Some(mut process) = self.processes.remove(&id) else { return Vec::new() };
        let mut actions = Vec::new();
        if let (Phase::Ready { .. }, Some(pid)) = (process.phase, process.pid) {
            log::error!(
                "{} has given no sign of life for {:.0} s (--heartbeat-timeout){}{state}: it is ended and replaced",
                process.name(),
                silence.as_secs_f64(),
                if state.is_empty() { "" } else { ", " }
            );
            process.phase = Phase::Leaving;
            process.next_step = Some((now + SHORT, Step::Kill));
            actions.push(Action::Kill { pid, signal: libc::SIGTERM });
            self.free_slot(id, &process, |_| {});
        }
        self.processes.insert(id, process);
        self.settle(now, actions)
    }

    /// It has a pid, and nobody has asked it to end.
    pub(crate) fn is_wanted(&self, id: ProcessId) -> bool {
        self.processes.get(&id).is_some_and(|process| process.phase != Phase::Leaving)
    }

    pub(crate) fn pid_of(&self, id: ProcessId) -> Option<i32> {
        self.processes.get(&id).and_then(|process| process.pid)
    }
}
