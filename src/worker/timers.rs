//! Deadlines of connections and scripts: a heap with at most one early entry per key.
//!
//! Deadlines mostly move later (each request of a kept connection pushes its idle time on), so an entry stays in the
//! heap until it is due and is then compared with the true deadline. A request costs no heap operation that way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::keyed::Key;

/// Entries of no use that are not worth the search for them.
const MOST_STALE: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timed {
    Connection(Key),
    Script(Key),
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    of: Timed,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
}

impl Timers {
    /// Wants `of` to be due at `deadline`. `armed` is the caller's note of its earliest entry in the heap.
    pub fn arm(&mut self, of: Timed, deadline: Option<Instant>, armed: &mut Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if armed.is_none_or(|at| deadline < at) {
            *armed = Some(deadline);
            self.heap.push(Reverse(Entry { at: deadline, of }));
        }
    }

    /// The next entry that is due; the owner clears its note, acts if its true deadline has come, and arms again.
    pub fn due(&mut self, now: Instant) -> Option<Timed> {
        match self.heap.peek() {
            Some(Reverse(entry)) if entry.at <= now => self.heap.pop().map(|Reverse(entry)| entry.of),
            _ => None,
        }
    }

    /// Forgets the entries that `is_awaited` says nobody waits for, once they may be most of all: `owners` counts who
    /// may have one. A connection that ends leaves its entries behind, and connections may come and go by thousands
    /// before such an entry is due.
    pub fn tidy(&mut self, owners: usize, is_awaited: impl Fn(Timed, Instant) -> bool) {
        if self.heap.len() > MOST_STALE + 4 * owners {
            self.heap.retain(|Reverse(entry)| is_awaited(entry.of, entry.at));
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::worker::keyed::Keyed;

    #[test]
    fn later_deadlines_cost_no_entry_and_earlier_ones_come_first() {
        let now = Instant::now();
        let at = |seconds| Some(now + Duration::from_secs(seconds));
        let key = Keyed::default().insert_with(|_| ());
        let (mut timers, mut armed) = (Timers::default(), None);
        for (deadline, entries) in
            [(at(30), 1), (at(60), 1), (at(75), 1), (at(10), 2), (None, 2), (at(20), 2)]
        {
            timers.arm(Timed::Connection(key), deadline, &mut armed);
            assert_eq!(timers.heap.len(), entries);
        }
        assert_eq!(timers.next(), at(10));
        assert_eq!(timers.due(now + Duration::from_secs(9)), None);
        assert_eq!(timers.due(now + Duration::from_secs(10)), Some(Timed::Connection(key)));
        assert_eq!(timers.next(), at(30));
    }

    #[test]
    fn entries_of_connections_that_ended_do_not_pile_up() {
        let now = Instant::now();
        let mut keys = Keyed::default();
        let mut timers = Timers::default();
        for second in 0..100_000 {
            let key = keys.insert_with(|_| ());
            let mut armed = None;
            timers.arm(Timed::Connection(key), Some(now + Duration::from_secs(second)), &mut armed);
            keys.remove(key);
            timers.tidy(
                keys.len(),
                |timed, _| matches!(timed, Timed::Connection(key) if keys.get(key).is_some()),
            );
            assert!(timers.heap.len() <= MOST_STALE + 1);
        }
        let kept = keys.insert_with(|_| ());
        for second in 0..10_000 {
            timers.arm(Timed::Connection(kept), Some(now + Duration::from_secs(second)), &mut None);
            timers.tidy(1, |timed, at| timed == Timed::Connection(kept) && at == now);
        }
        assert_eq!(timers.due(now), Some(Timed::Connection(kept)));
    }
}
