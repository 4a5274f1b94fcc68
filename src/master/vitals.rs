//! Signs of life and causes of death: what the loop does with [`heartbeat`](super::heartbeat) and
//! [`deaths`](super::deaths).

use std::process::ExitStatus;
use std::time::Instant;

use super::heartbeat::Due;
use super::workers::{Action, ProcessId};
use super::{End, Master};
use crate::channel::ToProcess;
use crate::scoreboard::RequestView;
use crate::sys;

impl Master {
    /// After each turn of the loop: asks the workers that have been silent, and ends those that don't answer.
    pub(super) fn listen_to_hearts(&mut self, end: &mut Option<End>) {
        let now = Instant::now();
        let limit = self.plans.latest().and_then(|config| config.processes.heartbeat_timeout);
        self.hearts.follow(limit, self.workers.serving(), now);
        for due in self.hearts.due(now) {
            let actions = match due {
                Due::Ask(id) => self.tell(id, &ToProcess::Ping, &[]),
                Due::Silent(id, silence) => {
                    let pid = self.workers.pid_of(id);
                    let state = pid.and_then(sys::process_state).unwrap_or_default();
                    self.ask_for_stacks(id);
                    self.workers.on_silence(id, silence, &state, now)
                }
            };
            self.act(actions, end);
        }
    }

    /// A worker has answered.
    pub(super) fn on_alive(&mut self, id: ProcessId, now: Instant) -> Vec<Action> {
        match self.hearts.heard(id, now) {
            true => Vec::new(),
            // One that was told to leave meanwhile, or one that talks unasked.
            false => self.workers.on_message(id, crate::channel::ToMaster::Alive, now),
        }
    }

    /// The interpreter writes them to the log, if it still can.
    fn ask_for_stacks(&self, id: ProcessId) {
        let has_python = self.plans.latest().is_some_and(|config| config.python.is_some());
        if let Some(pid) = self.workers.pid_of(id).filter(|_| has_python) {
            sys::ask_for_stacks(pid);
        }
    }

    /// A process has ended: which requests it has taken with it, and why it ended, as far as that can be known.
    pub(super) fn log_death(&mut self, pid: i32, status: ExitStatus) {
        let id = self.workers.id_of(pid);
        let board = id.and_then(|id| self.boards.of(id));
        let unfinished = board.map(|board| board.running()).unwrap_or_default();
        if !unfinished.is_empty() {
            let all: Vec<_> = unfinished.iter().map(RequestView::describe).collect();
            log::error!("process {pid} has ended in the middle of: {}", all.join(", "));
        }
        // A stranger's end is nobody's concern here.
        let was_asked = id.is_none_or(|id| !self.workers.is_wanted(id));
        if let Some(why) = self.deaths.explain(pid, status, was_asked) {
            log::error!("process {pid} has ended: {why}");
        }
    }
}
