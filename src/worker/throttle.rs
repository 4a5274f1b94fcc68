//! Log lines that an overload would repeat without end: the first at once, then one for each interval, with the number
//! of those that were left out.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    again_at: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    pub fn new(interval: Duration) -> Self {
        Throttle { interval, again_at: None, left_out: 0 }
    }

    /// `Some`: say it, and how many were left out since the last one that was said.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.again_at.is_some_and(|at| now < at) {
            self.left_out += 1;
            return None;
        }
        self.again_at = now.checked_add(self.interval);
        Some(std::mem::take(&mut self.left_out))
    }

    /// So many more were left out.
    pub fn leave_out(&mut self, count: u64) {
        self.left_out += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_an_interval_is_said_and_the_others_are_counted() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut throttle = Throttle::new(second);
        assert_eq!(throttle.admit(now), Some(0));
        assert_eq!(throttle.admit(now), None);
        assert_eq!(throttle.admit(now + second / 2), None);
        throttle.leave_out(3);
        assert_eq!(throttle.admit(now + second), Some(5));
        assert_eq!(throttle.admit(now + second * 3), Some(0));
    }
}
