//! The places of the workers: each generation has its own, and fills them.

use std::time::Instant;

use super::actions::{Action, ProcessId};
use super::process::{Phase, Process, Step};
use super::{LONGEST_FORK, Workers};
use crate::channel::Role;

#[derive(Debug)]
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
}

impl Workers {
    pub(super) fn fill(&mut self, generation: &mut Generation, now: Instant, actions: &mut Vec<Action>) {
        let wanted = usize::from(self.wanted);
        if generation.slots.len() < wanted {
            generation.slots.resize(wanted, Slot::default());
        }
        for slot in generation.slots.drain(wanted..) {
            if let Some(id) = slot.worker {
                self.dismiss(id, now, actions);
            }
        }
        let retries = generation.slots.iter_mut().map(|slot| &mut slot.retry_at);
        for retry_at in retries.chain([&mut generation.template_retry_at]) {
            *retry_at = retry_at.filter(|at| now < *at);
        }
        for index in 0..generation.slots.len() {
            let slot = generation.slots.get(index);
            let due = slot.is_some_and(|slot| slot.worker.is_none() && slot.retry_at.is_none());
            if due && !self.fill_slot(generation, index, now, actions) {
                break;
            }
        }
    }

    /// Starts the worker of one slot, or the template that it needs first: false then.
    fn fill_slot(
        &mut self,
        generation: &mut Generation,
        index: usize,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        // Fewer than MAX_WORKERS.
        let slot = index as u16;
        let number = generation.number;
        let role = Role::Worker { slot, generation: number };
        let id = match (generation.preload, generation.template) {
            (false, _) => {
                let id = self.add(role, None, now);
                actions.push(Action::StartWorker { id, slot, generation: number });
                id
            }
            (true, Some(template)) => {
                let loaded = self.processes.get(&template).is_some_and(|process| process.is_ready());
                if !loaded {
                    return false;
                }
                let id = self.add(role, Some(template), now);
                actions.push(Action::Fork { template, id, slot, generation: number });
                id
            }
            (true, None) => {
                if generation.template_retry_at.is_none() {
                    let id = self.add(Role::Template { generation: number }, None, now);
                    generation.template = Some(id);
                    actions.push(Action::StartTemplate { id, generation: number });
                }
                return false;
            }
        };
        if let Some(slot) = generation.slots.get_mut(index) {
            slot.worker = Some(id);
        }
        true
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
            },
        );
        id
    }

    pub(super) fn generation_mut(&mut self, number: u32) -> Option<&mut Generation> {
        if self.current.number == number {
            return Some(&mut self.current);
        }
        self.next.as_mut().filter(|next| next.number == number)
    }
}
