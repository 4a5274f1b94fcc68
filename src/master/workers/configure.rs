//! A reload begins with the configuration, read anew: what it changes here, and what is asked about generations.

use std::time::Instant;

use super::actions::{Action, ProcessId};
use super::slots::Generation;
use super::{Settings, Workers};

impl Workers {
    /// The configuration for the next generation was read, and all that it names is there.
    pub(crate) fn on_configured(&mut self, settings: Settings, now: Instant) -> Vec<Action> {
        let number = self.next_number();
        // Also after a generation that could not be copied: the new code may be different.
        self.next = Some(Generation::new(number, settings.preload));
        self.next_settings = Some(settings);
        // It has to prove itself, even where no worker is needed now.
        self.want(self.wanted.max(1));
        log::info!("reload: generation {number} is started");
        self.settle(now, Vec::new())
    }

    /// It is wrong, or names what can't be had: nothing changes.
    pub(crate) fn on_not_configured(&mut self, why: &str, now: Instant) -> Vec<Action> {
        log::error!("reload refused, generation {} goes on serving: {why}", self.current.number);
        let mut actions = Vec::new();
        self.reload_ended(Err(why.to_owned()), now, &mut actions);
        self.settle(now, actions)
    }

    pub(super) fn next_number(&self) -> u32 {
        self.newest.wrapping_add(1)
    }

    /// What is due before the next generation can be started.
    pub(super) fn ask_for_configuration(&mut self, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.configuration_wanted) {
            actions.push(Action::Configure { generation: self.next_number() });
        }
    }

    /// The next generation has taken over: its configuration holds. A number of workers that was changed by TTIN or TTOU
    /// stays, unless the configuration has a new one.
    pub(super) fn adopt_settings(&mut self, now: Instant) {
        let Some(settings) = self.next_settings.take() else { return };
        let is_new_pool = settings.pool != self.settings.pool;
        let before = std::mem::replace(&mut self.settings, settings);
        self.last_settings = Some((before, self.scaling.shift));
        if is_new_pool {
            self.scaling.shift = 0;
        }
        self.want(self.wanted.max(1));
        self.begin_measuring(now);
    }

    /// The generation before takes over again.
    pub(super) fn restore_settings(&mut self) {
        if let Some((settings, shift)) = self.last_settings.take() {
            self.settings = settings;
            self.scaling.shift = shift;
            self.want(self.wanted.max(1));
        }
    }

    /// Processes of this generation may be started.
    pub(crate) fn is_current(&self, number: u32) -> bool {
        let others = [&self.next, &self.outgoing].into_iter().flatten();
        others.chain([&self.current]).any(|generation| generation.number == number)
    }

    pub(crate) fn has_process_of(&self, number: u32) -> bool {
        self.processes.values().any(|process| process.generation() == number)
    }

    pub(crate) fn generation_of(&self, id: ProcessId) -> Option<u32> {
        self.processes.get(&id).map(|process| process.generation())
    }
}
