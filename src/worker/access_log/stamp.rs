//! The time of a line, in UTC: a worker's application may change TZ.

use std::io::Write;
use std::time::{Duration, SystemTime};

/// The texts of the last second are kept: most lines are of the same second as the one before.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    second: u64,
    clf: String,
    date: String,
}

impl Stamps {
    /// `23/Nov/2026:08:00:01 +0000`, as in the common log format.
    pub fn clf(&mut self, out: &mut Vec<u8>) {
        self.refresh(now().as_secs());
        out.extend_from_slice(self.clf.as_bytes());
    }

    /// `2026-11-23T08:00:01.123Z`.
    pub fn iso(&mut self, out: &mut Vec<u8>) {
        let now = now();
        self.refresh(now.as_secs());
        // Writing to memory does not fail.
        let _ = write!(out, "{}.{:03}Z", self.date, now.subsec_millis());
    }

    /// `1795420801.123`.
    pub fn unix(out: &mut Vec<u8>) {
        let now = now();
        let _ = write!(out, "{}.{:03}", now.as_secs(), now.subsec_millis());
    }

    fn refresh(&mut self, second: u64) {
        if self.second == second && !self.clf.is_empty() {
            return;
        }
        self.second = second;
        // An IMF-fixdate has fixed places: `Mon, 23 Nov 2026 08:00:01 GMT` (RFC 9110 §5.6.7).
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        self.clf = format!("{day}/{month}/{year}:{time} +0000");
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let number = MONTHS.find(month).map_or(0, |at| at / 3 + 1);
        self.date = format!("{year}-{number:02}-{day}T{time}");
    }
}

/// Since 1970. A clock before that, or after the year 9999, can't be written down.
fn now() -> Duration {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_texts() {
        let mut stamps = Stamps::default();
        for (second, clf, date) in [
            (0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00"),
            (1_795_420_801, "23/Nov/2026:08:00:01 +0000", "2026-11-23T08:00:01"),
            (1_795_420_802, "23/Nov/2026:08:00:02 +0000", "2026-11-23T08:00:02"),
            (253_402_300_799, "31/Dec/9999:23:59:59 +0000", "9999-12-31T23:59:59"),
        ] {
            stamps.refresh(second);
            assert_eq!((stamps.clf.as_str(), stamps.date.as_str()), (clf, date));
        }
    }
}
