//! The places of the workers: each generation has its own, and fills them.

use std::time::Instant;

use super::actions::{Action, ProcessId};
use super::process::{Phase, Process, Step};
use super::{LONGEST_FORK, Workers};
use crate::channel::Role;

#[derive(Debug, Default)]
pub(super) struct Generation {
    pub(super) number: u32,
    /// Workers are forked from a template.
    pub(super) preload: bool,
    pub(super) template: Option<ProcessId>,
    pub(super) template_failures: u32,
    pub(super) template_retry_at: Option<Instant>,
    pub(super) slots: Vec<Slot>,
}

/// The place of a worker. It outlives its workers.
#[derive(Debug, Default, Clone)]
pub(super) struct Slot {
    pub(super) worker: Option<ProcessId>,
    /// Takes its place as soon as it is ready.
    pub(super) successor: Option<ProcessId>,
    /// Workers that ended at their start, one after the other.
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
}

impl Generation {
    pub(super) fn new(number: u32, preload: bool) -> Self {
        Generation {
            number,
            preload,
            template: None,
            template_failures: 0,
            template_retry_at: None,
            slots: Vec::new(),
        }
    }

    /// Slots that have a worker, ready or not.
    pub(super) fn filled(&self) -> usize {
        self.slots.iter().filter(|slot| slot.worker.is_some()).count()
    }
}

impl Workers {
    /// Gives a generation `wanted` slots, and starts at most `budget` of the workers that are missing in them.
    pub(super) fn fill(
        &mut self,
        generation: &mut Generation,
        (wanted, budget): (usize, usize),
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if generation.slots.len() < wanted {
            generation.slots.resize(wanted, Slot::default());
        }
        for slot in generation.slots.drain(wanted..) {
            self.dismiss_slot(&slot, now, actions);
        }
        let retries = generation.slots.iter_mut().map(|slot| &mut slot.retry_at);
        for retry_at in retries.chain([&mut generation.template_retry_at]) {
            *retry_at = retry_at.filter(|at| now < *at);
        }
        let is_due = |slot: &Slot| slot.worker.is_none() && slot.retry_at.is_none();
        let due = generation.slots.iter().enumerate().filter(|(_, slot)| is_due(slot)).take(budget);
        for index in due.map(|(index, _)| index).collect::<Vec<_>>() {
            let Some(id) = self.start_worker(generation, index, now, actions) else { break };
            if let Some(slot) = generation.slots.get_mut(index) {
                slot.worker = Some(id);
            }
        }
    }

    /// Has whoever is in the slot leave.
    pub(super) fn dismiss_slot(&mut self, slot: &Slot, now: Instant, actions: &mut Vec<Action>) {
        for id in [slot.successor, slot.worker].into_iter().flatten() {
            self.dismiss(id, now, actions);
        }
    }

    /// Starts a worker for one slot, or the template that it needs first: `None` then.
    pub(super) fn start_worker(
        &mut self,
        generation: &mut Generation,
        index: usize,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Option<ProcessId> {
        // Fewer than MAX_WORKERS.
        let slot = index as u16;
        let number = generation.number;
        let role = Role::Worker { slot, generation: number };
        match (generation.preload, generation.template) {
            (false, _) => {
                let id = self.add(role, None, now);
                actions.push(Action::StartWorker { id, slot, generation: number });
                Some(id)
            }
            (true, Some(template)) => {
                if !self.is_ready(template) {
                    return None;
                }
                let id = self.add(role, Some(template), now);
                actions.push(Action::Fork { template, id, slot, generation: number });
                Some(id)
            }
            (true, None) => {
                if generation.template_retry_at.is_none() {
                    let id = self.add(Role::Template { generation: number }, None, now);
                    generation.template = Some(id);
                    actions.push(Action::StartTemplate { id, generation: number });
                }
                None
            }
        }
    }

    pub(super) fn is_ready(&self, id: ProcessId) -> bool {
        self.processes.get(&id).is_some_and(Process::is_ready)
    }

    fn add(&mut self, role: Role, template: Option<ProcessId>, now: Instant) -> ProcessId {
        self.last_id = self.last_id.wrapping_add(1);
        let id = ProcessId(self.last_id);
        let next_step = template.map(|_| (now + LONGEST_FORK, Step::GiveUp));
        self.processes.insert(
            id,
            Process {
                role,
                pid: None,
                template,
                phase: Phase::Loading,
                since: now,
                mentioned: now,
                next_step,
                ready_early: false,
                late_messages: 0,
                expires_at: None,
                wish: None,
            },
        );
        id
    }

    pub(super) fn generation_mut(&mut self, number: u32) -> Option<&mut Generation> {
        let all = [Some(&mut self.current), self.next.as_mut(), self.outgoing.as_mut()];
        all.into_iter().flatten().find(|generation| generation.number == number)
    }

    /// The slot of a process that is gone, if it still has it. Its successor takes it, if there is one.
    pub(super) fn free_slot(&mut self, id: ProcessId, process: &Process, change: impl FnOnce(&mut Slot)) {
        let Role::Worker { slot, generation } = process.role else { return };
        let Some(generation) = self.generation_mut(generation) else { return };
        let Some(slot) = generation.slots.get_mut(usize::from(slot)) else { return };
        if slot.worker == Some(id) {
            slot.worker = slot.successor.take();
            change(slot);
        } else if slot.successor == Some(id) {
            slot.successor = None;
        }
    }
}
