//! The Date field (RFC 9110 §6.6.1), formatted once a second for all connections of a worker.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// Length of an IMF-fixdate, RFC 9110 §5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const DATE_BYTES: usize = 29;

/// The present second as an IMF-fixdate. Its owner passes it to [`Connection::set_date`](super::Connection::set_date).
#[derive(Debug, Clone)]
pub struct DateCache {
    second: u64,
    text: [u8; DATE_BYTES],
}

impl DateCache {
    pub fn new(now: SystemTime) -> Self {
        let second = unix_second(now);
        DateCache { second, text: imf_fixdate(now) }
    }

    /// The date that was asked for last.
    pub fn last(&self) -> &[u8; DATE_BYTES] {
        &self.text
    }

    /// The date of `now`; formatted anew only when the second has changed.
    pub fn at(&mut self, now: SystemTime) -> &[u8; DATE_BYTES] {
        if unix_second(now) != self.second {
            *self = DateCache::new(now);
        }
        &self.text
    }
}

fn unix_second(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// `httpdate` knows the years 1970 to 9999; a clock outside them gives their first second.
fn imf_fixdate(now: SystemTime) -> [u8; DATE_BYTES] {
    const LAST_SECOND: u64 = 253_402_300_799;
    let known = (UNIX_EPOCH..=UNIX_EPOCH + std::time::Duration::from_secs(LAST_SECOND)).contains(&now);
    let mut text = [b' '; DATE_BYTES];
    // Writing into a slice that is too short gives an error and no harm; an IMF-fixdate always fits.
    let _ = write!(text.as_mut_slice(), "{}", HttpDate::from(if known { now } else { UNIX_EPOCH }));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_date_follows_the_clock_by_seconds() {
        let then = UNIX_EPOCH + Duration::from_millis(784_111_777_900);
        let mut cache = DateCache::new(then);
        assert_eq!(cache.at(then), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.at(then + Duration::from_millis(99)), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.at(then + Duration::from_millis(100)), b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(
            cache.at(then - Duration::from_secs(1)),
            b"Sun, 06 Nov 1994 08:49:36 GMT",
            "clocks go back too"
        );
    }

    #[test]
    fn a_clock_outside_the_known_years_does_no_harm() {
        for now in [UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + Duration::from_secs(400_000_000_000)] {
            assert_eq!(DateCache::new(now).at(now), b"Thu, 01 Jan 1970 00:00:00 GMT");
        }
    }
}
