//! Waiting for conditions. No test waits for a time: it looks again and again until what it waits for is there, and
//! gives up at a deadline that a slow machine does not reach.

use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(3);

/// Looks until `condition` holds; fails with `what` at the deadline.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Looks until `look` finds something; fails with `what` at the deadline.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    match poll(DEADLINE, &mut look) {
        Some(found) => found,
        None => panic!("waited {} s in vain: {what}", DEADLINE.as_secs()),
    }
}

/// Looks for at most `limit`.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}
