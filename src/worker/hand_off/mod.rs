//! Connections move between workers through the hand-off queue, with the request that is under way on them.
//!
//! A request that is complete while all application threads of its worker are busy goes to a worker that has a free one;
//! a worker that ends passes its idle connections on. `departure` sends, `arrival` receives, `message` is what is sent.
//!
//! The queue is watched as a listener is (`listener.rs`): each message wakes one worker that waits. Woken is not yet
//! received, though: whoever has sent looks after a while whether something still waits, and nudges the others.

mod arrival;
mod departure;
mod message;
#[cfg(test)]
pub(super) mod tests;

use std::time::{Duration, Instant};

use crate::hand_off::HandOffQueue;

use message::Outgoing;

/// A request is handed over so many times, then it stays where it is.
const MOST_HOPS: u8 = 8;

/// When the queue was full: how long until a worker that drains tries again.
const RETRY: Duration = Duration::from_millis(2);

/// After sending: how long until the queue is looked at. Twice as long each time that something waits there.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What becomes of the connections of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// They stay.
    No,
    /// Others take them.
    HandOver,
    /// Nobody is left to take them.
    Close,
}

/// A worker's side of the queue.
#[derive(Debug)]
pub(super) struct HandOff {
    pub queue: HandOffQueue,
    outgoing: Outgoing,
    /// Somebody has shut the queue down: connections stay where they are.
    pub is_broken: bool,
    /// When a worker that drains looks again whether it can go on.
    retry_at: Option<Instant>,
    look: Option<Look>,
    /// A look has found something that waits.
    pub is_waited_for: bool,
}

/// When the queue is looked at, and how long that was put off.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    after: Duration,
}

impl HandOff {
    pub fn new(queue: HandOffQueue) -> Self {
        HandOff {
            queue,
            outgoing: Outgoing::default(),
            is_broken: false,
            retry_at: None,
            look: None,
            is_waited_for: false,
        }
    }

    /// When [`HandOff::on_time`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        [self.retry_at, self.look.map(|look| look.at)].into_iter().flatten().min()
    }

    /// True: what a draining worker could not do might be possible now.
    pub fn on_time(&mut self, now: Instant) -> bool {
        if let Some(look) = self.look.filter(|look| now >= look.at) {
            let after = (look.after * 2).min(LAST_LOOK);
            self.look = (!self.queue.is_empty()).then_some(Look { at: now + after, after });
            if self.look.is_some() {
                self.is_waited_for = true;
                self.queue.nudge();
            }
        }
        self.retry_at.take_if(|at| now >= *at).is_some()
    }

    /// A worker without successors that has nothing left to do asks whether it may end. What waits may be taken by
    /// another worker without a word to this one, so it looks again soon.
    pub fn may_end(&mut self, now: Instant) -> bool {
        let may_end = self.is_broken || self.queue.is_empty();
        if !may_end {
            self.retry_at.get_or_insert(now + RETRY);
        }
        may_end
    }

    fn break_down(&mut self, why: &str) {
        if !self.is_broken {
            log::error!("the hand-off queue can't be used any more: {why}; connections stay where they are");
        }
        self.is_broken = true;
    }
}
