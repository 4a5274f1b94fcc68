//! Does each worker's loop still turn? An idle worker says nothing by itself: after half of `--heartbeat-timeout` of
//! silence the master asks, and a worker that has not answered by the end of it is ended.
//!
//! A busy application is no reason: the relief thread drives the loop then, without the interpreter's lock. What does
//! not answer is stopped, hangs in the kernel, or has met a fault of ours. Decides without a system call, as
//! [`workers`](super::workers) does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::workers::ProcessId;

#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    /// `None`: nobody is asked.
    limit: Option<Duration>,
    all: BTreeMap<ProcessId, Beat>,
}

#[derive(Debug)]
struct Beat {
    heard: Instant,
    asked: bool,
}

/// What is to be done about a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Ask(ProcessId),
    /// It has not answered, and is not followed any more.
    Silent(ProcessId, Duration),
}

impl Heartbeats {
    /// These workers serve; others are of no interest.
    pub(crate) fn follow(
        &mut self,
        limit: Option<Duration>,
        serving: impl Iterator<Item = ProcessId>,
        now: Instant,
    ) {
        self.limit = limit;
        let mut before = std::mem::take(&mut self.all);
        let beat = |id| (id, before.remove(&id).unwrap_or(Beat { heard: now, asked: false }));
        self.all = serving.filter(|_| limit.is_some()).map(beat).collect();
    }

    /// It has answered: false if nobody has asked.
    pub(crate) fn heard(&mut self, id: ProcessId, now: Instant) -> bool {
        let Some(beat) = self.all.get_mut(&id) else { return false };
        beat.heard = now;
        std::mem::take(&mut beat.asked)
    }

    /// When [`Heartbeats::due`] has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let limit = self.limit?;
        self.all.values().map(|beat| beat.heard + if beat.asked { limit } else { limit / 2 }).min()
    }

    pub(crate) fn due(&mut self, now: Instant) -> Vec<Due> {
        let Some(limit) = self.limit else { return Vec::new() };
        let mut due = Vec::new();
        self.all.retain(|&id, beat| {
            let silence = now.saturating_duration_since(beat.heard);
            match beat.asked {
                false if silence >= limit / 2 => {
                    // If this process has slept, the worker still gets its half.
                    beat.heard = beat.heard.max(now.checked_sub(limit / 2).unwrap_or(beat.heard));
                    beat.asked = true;
                    due.push(Due::Ask(id));
                    true
                }
                true if silence >= limit => {
                    due.push(Due::Silent(id, silence));
                    false
                }
                _ => true,
            }
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const ONE: ProcessId = ProcessId(1);
    const TWO: ProcessId = ProcessId(2);

    fn following(ids: &[ProcessId]) -> (Heartbeats, Instant) {
        let now = Instant::now() + 10 * LIMIT;
        let mut heartbeats = Heartbeats::default();
        heartbeats.follow(Some(LIMIT), ids.iter().copied(), now);
        (heartbeats, now)
    }

    #[test]
    fn a_worker_that_answers_is_asked_again_and_again() {
        let (mut heartbeats, mut now) = following(&[ONE]);
        for _ in 0..3 {
            assert_eq!(heartbeats.deadline(), Some(now + LIMIT / 2));
            assert_eq!(heartbeats.due(now), []);
            now += LIMIT / 2;
            assert_eq!(heartbeats.due(now), [Due::Ask(ONE)]);
            assert_eq!(heartbeats.due(now), [], "once");
            assert!(heartbeats.heard(ONE, now));
            assert!(!heartbeats.heard(ONE, now), "nobody has asked");
        }
    }

    #[test]
    fn a_worker_that_does_not_answer_is_named_once() {
        let (mut heartbeats, now) = following(&[ONE, TWO]);
        assert_eq!(heartbeats.due(now + LIMIT / 2), [Due::Ask(ONE), Due::Ask(TWO)]);
        heartbeats.heard(TWO, now + LIMIT / 2);
        assert_eq!(heartbeats.deadline(), Some(now + LIMIT));
        assert_eq!(heartbeats.due(now + LIMIT), [Due::Silent(ONE, LIMIT), Due::Ask(TWO)]);
        assert!(!heartbeats.heard(ONE, now + LIMIT));
        assert!(!heartbeats.heard(ProcessId(3), now), "nobody of ours");
    }

    #[test]
    fn a_worker_has_half_of_the_time_to_answer_even_if_the_master_has_slept() {
        let (mut heartbeats, now) = following(&[ONE]);
        let late = now + 5 * LIMIT;
        assert_eq!(heartbeats.due(late), [Due::Ask(ONE)]);
        assert_eq!(heartbeats.due(late + LIMIT / 4), []);
        assert_eq!(heartbeats.due(late + LIMIT / 2), [Due::Silent(ONE, LIMIT)]);
    }

    #[test]
    fn who_does_not_serve_is_not_asked() {
        let (mut heartbeats, now) = following(&[ONE, TWO]);
        heartbeats.follow(Some(LIMIT), [TWO].into_iter(), now);
        assert_eq!(heartbeats.due(now + LIMIT / 2), [Due::Ask(TWO)]);
        heartbeats.follow(None, [TWO].into_iter(), now);
        assert_eq!((heartbeats.deadline(), heartbeats.due(now + LIMIT)), (None, vec![]));
    }
}
