//! From one generation to the next: the new one is ready before the old one drains.

use std::time::Instant;

use super::Workers;
use super::actions::{Action, ProcessId};
use super::slots::Generation;

impl Workers {
    /// Reload: load the applications anew. One more while one is under way is remembered, further ones are the same.
    pub(crate) fn reload(&mut self, now: Instant) -> Vec<Action> {
        if self.end.is_some() {
            log::warn!("no reload: forkhorn is ending");
        } else if self.next.is_some() {
            log::info!("a reload is under way: the next one follows");
            self.reload_again = true;
        } else {
            self.begin_reload();
        }
        self.settle(now, Vec::new())
    }

    fn begin_reload(&mut self) {
        let number = self.current.number.wrapping_add(1);
        // Also after a generation that could not be copied: the new code may be different.
        self.next = Some(Generation::new(number, self.settings.preload));
        log::info!("reload: generation {number} is started");
    }

    /// The next generation takes over as soon as all its workers are ready.
    pub(super) fn promote_if_ready(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_ready = |id: &ProcessId| self.processes.get(id).is_some_and(|process| process.is_ready());
        let wanted = usize::from(self.wanted);
        let complete = self.next.as_ref().is_some_and(|next| {
            let ready = next.slots.iter().filter(|slot| slot.worker.as_ref().is_some_and(is_ready));
            ready.count() >= wanted
        });
        if !complete {
            return;
        }
        let Some(next) = self.next.take() else { return };
        let old = std::mem::replace(&mut self.current, next);
        log::info!("generation {} serves, generation {} drains", self.current.number, old.number);
        self.dismiss_generation(old.number, now, actions);
        if std::mem::take(&mut self.reload_again) {
            self.begin_reload();
        }
    }

    /// The next generation does not come up: the old one goes on.
    pub(super) fn abandon_reload(&mut self, why: &str, now: Instant, actions: &mut Vec<Action>) {
        let Some(next) = self.next.take() else { return };
        log::error!("reload failed, generation {} goes on serving: {why}", self.current.number);
        self.dismiss_generation(next.number, now, actions);
        if std::mem::take(&mut self.reload_again) {
            self.begin_reload();
        }
    }

    fn dismiss_generation(&mut self, number: u32, now: Instant, actions: &mut Vec<Action>) {
        let all = self.processes.iter().filter(|(_, process)| process.generation() == number);
        for id in all.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.dismiss(id, now, actions);
        }
    }
}
