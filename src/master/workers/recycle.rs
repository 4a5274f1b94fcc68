//! Workers that have served enough: after so many requests, so long a time, or with so much memory. The successor is
//! ready before such a worker drains, and one of them at a time is replaced; the others go on serving until it is their
//! turn.

use std::fmt;
use std::time::{Duration, Instant};

use super::Workers;
use super::actions::{Action, Failure, ProcessId};
use super::exits::back_off;
use super::process::{Phase, Process};
use super::slots::Slot;
use crate::channel::Role;

/// How often memory is looked at.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// A worker that has reached --max-memory sooner was not leaking: the limit is too low, and replacing it does not help.
const SOON: Duration = Duration::from_secs(10);

/// Why a worker has served enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Requests(u64),
    Memory { bytes: u64 },
    Lifetime(Duration),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    reason: Reason,
    since: Instant,
}

/// How often a worker was replaced for which reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecycleCounts {
    pub(crate) for_requests: u64,
    pub(crate) for_memory: u64,
    pub(crate) for_lifetime: u64,
}

#[derive(Debug, Default)]
pub(super) struct Recycling {
    /// Who is being replaced: until it has ended, nobody else is.
    old: Option<ProcessId>,
    /// Successors that did not come up, or were no better, one after the other.
    failures: u32,
    retry_at: Option<Instant>,
    measure_at: Option<Instant>,
    pub(super) counts: RecycleCounts,
}

impl Workers {
    /// How much memory a worker uses.
    pub(crate) fn on_memory(&mut self, id: ProcessId, bytes: u64, now: Instant) -> Vec<Action> {
        if self.settings.max_memory_bytes.is_some_and(|limit| bytes > limit) {
            self.wish(id, Reason::Memory { bytes }, now);
        }
        self.settle(now, Vec::new())
    }

    pub(super) fn begin_measuring(&mut self, now: Instant) {
        self.recycling.measure_at = self.settings.max_memory_bytes.map(|_| now + MEASURE_EVERY);
    }

    /// When [`Workers::on_limits`] has something to do.
    pub(super) fn recycling_deadlines(&self) -> impl Iterator<Item = Option<Instant>> {
        let serving = self.processes.values().filter(|process| process.is_ready() && process.wish.is_none());
        let expiries = serving.map(|process| process.expires_at);
        expiries.chain([self.recycling.retry_at, self.recycling.measure_at])
    }

    /// Looks for workers that have served for long enough, and has the memory of the others measured.
    pub(super) fn on_limits(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.recycling.retry_at.take_if(|at| now >= *at);
        let measures = self.recycling.measure_at.is_some_and(|at| now >= at);
        if measures {
            self.recycling.measure_at = Some(now + MEASURE_EVERY);
        }
        for (&id, process) in &mut self.processes {
            let Phase::Ready { since } = process.phase else { continue };
            let Role::Worker { .. } = process.role else { continue };
            if process.wish.is_some() {
                continue;
            }
            if process.expires_at.is_some_and(|at| now >= at) {
                let reason = Reason::Lifetime(now.saturating_duration_since(since));
                process.wish = Some(Wish { reason, since: now });
            } else if let Some(pid) = process.pid.filter(|_| measures) {
                actions.push(Action::Measure { id, pid });
            }
        }
    }

    /// `--max-lifetime`, and up to a tenth more: workers that were started together are not replaced together.
    pub(super) fn lifetime(&self, id: ProcessId) -> Option<Duration> {
        let limit = self.settings.max_lifetime?;
        let mixed = (self.settings.seed ^ u64::from(id.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        Some(limit + limit.mul_f64(mixed as f64 / f64::from(u32::MAX) / 10.0))
    }

    pub(super) fn wish(&mut self, id: ProcessId, reason: Reason, now: Instant) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if process.phase != Phase::Leaving && process.wish.is_none() {
            process.wish = Some(Wish { reason, since: now });
        }
    }

    /// Starts a successor for the worker that has waited longest, unless somebody is being replaced.
    pub(super) fn recycle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.recycling.old.is_some_and(|id| !self.processes.contains_key(&id)) {
            self.recycling.old = None;
        }
        let is_reloading = self.next.is_some() || self.outgoing.is_some();
        if is_reloading || self.recycling.old.is_some() || self.recycling.retry_at.is_some() {
            return;
        }
        let slots = self.current.slots.iter().enumerate();
        let waiting = slots.filter_map(|(index, slot)| {
            let process = self.processes.get(&slot.worker?).filter(|process| process.is_ready())?;
            Some((process.wish?.since, slot.worker?, index))
        });
        let Some((_, old, index)) = waiting.min() else { return };
        let mut current = std::mem::take(&mut self.current);
        let successor = self.start_worker(&mut current, index, now, actions);
        if let Some(slot) = current.slots.get_mut(index)
            && successor.is_some()
        {
            slot.successor = successor;
            self.recycling.old = Some(old);
        }
        self.current = current;
    }

    /// A worker is ready: if it is somebody's successor, that one drains.
    pub(super) fn succeed(&mut self, id: ProcessId, now: Instant, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get(&id) else { return };
        let Some(slot) = self.slot_of_successor(id, process.role) else { return };
        slot.successor = None;
        let Some(old) = slot.worker.replace(id) else { return };
        let Some(process) = self.processes.get(&old) else { return };
        let Some(wish) = process.wish else { return };
        let count = self.recycling.counts.add(wish.reason);
        log::info!("{} is replaced: {}; {count} replaced for this so far", process.name(), wish.reason);
        let lived = match process.phase {
            Phase::Ready { since } => now.saturating_duration_since(since),
            Phase::Loading | Phase::Leaving => Duration::ZERO,
        };
        match wish.reason {
            Reason::Memory { .. } if lived < SOON => self.put_off(now),
            _ => self.recycling.failures = 0,
        }
        self.dismiss(old, now, actions);
    }

    pub(super) fn is_successor(&mut self, id: ProcessId, process: &Process) -> bool {
        self.slot_of_successor(id, process.role).is_some()
    }

    /// A successor did not come up: the worker that it was to replace goes on serving.
    pub(super) fn successor_failed(
        &mut self,
        id: ProcessId,
        process: &Process,
        failure: &Failure,
        now: Instant,
    ) {
        self.free_slot(id, process, |_| {});
        self.recycling.old = None;
        self.put_off(now);
        let delay = back_off(self.recycling.failures).as_secs();
        log::error!(
            "{} {failure}: the worker that it was to replace goes on serving; another attempt in {delay} s",
            process.name()
        );
    }

    fn put_off(&mut self, now: Instant) {
        self.recycling.failures = self.recycling.failures.saturating_add(1);
        let delay = back_off(self.recycling.failures);
        self.recycling.retry_at = (!delay.is_zero()).then_some(now + delay);
    }

    fn slot_of_successor(&mut self, id: ProcessId, role: Role) -> Option<&mut Slot> {
        let Role::Worker { slot, generation } = role else { return None };
        let slot = self.generation_mut(generation)?.slots.get_mut(usize::from(slot))?;
        (slot.successor == Some(id)).then_some(slot)
    }
}

impl RecycleCounts {
    fn add(&mut self, reason: Reason) -> u64 {
        let count = match reason {
            Reason::Requests(_) => &mut self.for_requests,
            Reason::Memory { .. } => &mut self.for_memory,
            Reason::Lifetime(_) => &mut self.for_lifetime,
        };
        *count += 1;
        *count
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Requests(count) => write!(f, "it has had {count} requests (--max-requests)"),
            Reason::Memory { bytes } => {
                write!(f, "it uses {} MiB of memory (--max-memory)", bytes.div_ceil(1 << 20))
            }
            Reason::Lifetime(time) => {
                write!(f, "it has served for {} s (--max-lifetime)", time.as_secs())
            }
        }
    }
}
