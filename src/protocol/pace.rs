//! How fast a body has to come: a peer that sends a byte now and then keeps every other time-out, and would hold its
//! connection for ever.

use std::time::{Duration, Instant};

use super::Limits;

/// What has come of a body since it began, or since the reader went on after a stop of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    pub fn begin(now: Instant) -> Self {
        Pace { began: now, bytes: 0 }
    }

    pub fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// When the body is too slow if nothing more comes: after [`Limits::body_timeout`], and a second more for each
    /// [`Limits::min_rate`] bytes that came.
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let rate = limits.min_rate?;
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / rate.get());
        self.began.checked_add(limits.body_timeout)?.checked_add(earned)
    }
}
