//! A peer that reads more slowly than we write: how long it may take.
//!
//! What the kernel has taken from us is not yet read, and there may be megabytes of it. So a peer is judged by what it has
//! taken from the kernel, which knows.

use std::time::{Duration, Instant};

use super::core::Core;
use crate::config::LimitConfig;

/// Counted from the moment at which the output could not be written for the first time; forgotten once all is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlowReader {
    since: Instant,
    /// When it was last seen to have taken something.
    progress_at: Instant,
    /// What the kernel had of us then, and has been given since.
    given: u64,
    /// What the peer has taken of that.
    taken: u64,
}

/// Why a peer is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSlow {
    Stopped,
    BelowRate,
}

impl TooSlow {
    pub fn text(self) -> &'static str {
        match self {
            TooSlow::Stopped => "the peer has not read for --send-timeout",
            TooSlow::BelowRate => "the peer reads more slowly than --min-rate",
        }
    }
}

impl SlowReader {
    /// `unread` bytes are with the kernel.
    pub fn new(now: Instant, unread: u64) -> Self {
        SlowReader { since: now, progress_at: now, given: unread, taken: 0 }
    }

    /// The kernel has taken `count` bytes more, so there was room: the peer reads.
    pub fn wrote(&mut self, count: u64, now: Instant) {
        self.given += count;
        self.progress_at = now;
    }

    /// When to look again.
    pub fn look_at(&self, limits: &LimitConfig) -> Option<Instant> {
        self.progress_at.checked_add(limits.send_timeout)
    }

    /// Nothing could be written until now; `unread` bytes are with the kernel.
    pub fn look(&mut self, now: Instant, unread: u64, limits: &LimitConfig) -> Option<TooSlow> {
        let taken = self.given.saturating_sub(unread);
        let has_taken = taken > self.taken;
        self.taken = self.taken.max(taken);
        if has_taken {
            self.progress_at = now;
        } else if now.saturating_duration_since(self.progress_at) >= limits.send_timeout {
            return Some(TooSlow::Stopped);
        }
        let rate = limits.min_rate?;
        let earned = Duration::from_millis(self.taken.saturating_mul(1000) / rate.get());
        let is_below = now.saturating_duration_since(self.since) > limits.send_timeout + earned;
        is_below.then_some(TooSlow::BelowRate)
    }

    /// It has taken something, and was to take more by now.
    pub fn is_past_head_start(&self, core: &Core) -> bool {
        core.now.saturating_duration_since(self.since) >= core.config.limits.send_timeout
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::worker::tests::config;

    /// Twenty seconds, and a hundred bytes in a second.
    fn limits() -> LimitConfig {
        let mut limits = config(&[]).limits.clone();
        limits.send_timeout = Duration::from_secs(20);
        limits.min_rate = NonZeroU64::new(100);
        limits
    }

    #[test]
    fn a_peer_is_judged_by_what_it_takes_from_the_kernel() {
        let (limits, start) = (limits(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reader = SlowReader::new(start, 10_000);
        assert_eq!(reader.look_at(&limits), Some(at(20)));
        // Nothing could be written, but the kernel has less: it reads.
        assert_eq!(reader.look(at(20), 9_000, &limits), None);
        assert_eq!(reader.look_at(&limits), Some(at(40)));
        assert_eq!(reader.look(at(40), 9_000, &limits), Some(TooSlow::Stopped));
    }

    #[test]
    fn a_peer_that_reads_a_little_now_and_then_is_below_the_rate_in_the_end() {
        let (limits, start) = (limits(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reader = SlowReader::new(start, 10_000);
        for (second, unread, outcome) in
            [(10, 9_990, None), (20, 9_000, None), (30, 8_999, None), (31, 8_990, Some(TooSlow::BelowRate))]
        {
            assert_eq!(reader.look(at(second), unread, &limits), outcome, "second {second}");
        }
        let mut fast = SlowReader::new(start, 10_000);
        for second in (10..1000).step_by(10) {
            fast.wrote(1_000, at(second));
            assert_eq!(fast.look(at(second), 10_000, &limits), None);
        }
        let any = LimitConfig { min_rate: None, ..limits };
        let mut slow = SlowReader::new(start, 10_000);
        for second in (10..1000).step_by(10) {
            assert_eq!(slow.look(at(second), 10_000 - second, &any), None);
        }
    }
}
