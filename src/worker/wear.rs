//! How many requests this worker has had, and how many it should have: then it asks the master for a successor.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use crate::config::RecyclingConfig;

#[derive(Debug)]
pub(super) struct Wear {
    requests: u64,
    limit: u64,
    is_told: bool,
}

impl Wear {
    /// The limit is this worker's own: between `--max-requests` and `--max-requests-jitter` more.
    pub fn new(config: &RecyclingConfig) -> Self {
        // Workers are copies of one process: all that a copy knows of chance is its number, and the time.
        let mut hasher = DefaultHasher::new();
        (std::process::id(), SystemTime::now()).hash(&mut hasher);
        let chance = hasher.finish();
        let jitter = match config.requests_jitter.checked_add(1) {
            Some(choices) => chance % choices,
            None => chance,
        };
        let limit = config.max_requests.map_or(u64::MAX, |most| most.saturating_add(jitter));
        Wear { requests: 0, limit, is_told: false }
    }

    /// One more request has been answered.
    pub fn count(&mut self) {
        self.requests += 1;
    }

    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// True once: the limit is reached.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.requests >= self.limit && !self.is_told;
        self.is_told |= is_due;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wear(max_requests: Option<u64>, requests_jitter: u64) -> Wear {
        Wear::new(&RecyclingConfig { max_requests, requests_jitter, ..RecyclingConfig::default() })
    }

    #[test]
    fn the_limit_lies_within_its_jitter_and_varies() {
        let limits: Vec<u64> = (0..200).map(|_| wear(Some(1000), 100).limit).collect();
        assert!(limits.iter().all(|limit| (1000..=1100).contains(limit)), "{limits:?}");
        assert!(limits.iter().any(|limit| *limit != limits[0]));
        assert_eq!(wear(Some(7), 0).limit, 7);
        assert_eq!(wear(Some(u64::MAX), u64::MAX).limit, u64::MAX);
        assert_eq!(wear(None, 5).limit, u64::MAX);
    }

    #[test]
    fn a_worker_asks_once() {
        let mut wear = wear(Some(2), 0);
        wear.count();
        assert!(!wear.is_due());
        wear.count();
        assert!(wear.is_due() && !wear.is_due());
        wear.count();
        assert!(!wear.is_due());
        assert_eq!(wear.requests(), 3);
    }
}
