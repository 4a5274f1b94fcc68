//! Which modules the next warm interpreter loads before it serves: those that were named, and those that scripts load
//! again and again.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A module is worth it when so many of the runs that were looked at have loaded it.
const AGAIN_AND_AGAIN: u32 = 3;
/// Runs of a fresh interpreter that are looked at; after them, one in [`SAMPLE_EVERY`].
const FIRST_SAMPLES: u32 = 12;
const SAMPLE_EVERY: u32 = 32;
const MAX_KNOWN: usize = 2048;
const MAX_LOADED: usize = 400;
const MAX_NAME_BYTES: usize = 128;
/// From one renewal for the sake of modules to the next; doubled each time.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) struct Learning {
    is_on: bool,
    /// To be loaded, in this order.
    names: Vec<String>,
    counts: HashMap<String, u32>,
    refused: HashSet<String>,
    runs: u32,
    interval: Duration,
    /// Something was learned; the interpreter that has it may be started then.
    renew_at: Option<Instant>,
    next_renewal: Option<Instant>,
}

impl Learning {
    pub fn new(is_on: bool, named: Vec<String>) -> Self {
        Learning {
            is_on,
            names: named,
            counts: HashMap::new(),
            refused: HashSet::new(),
            runs: 0,
            interval: FIRST_INTERVAL,
            renew_at: None,
            next_renewal: None,
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the next run is to tell what it loads.
    pub fn wants_report(&mut self) -> bool {
        self.runs = self.runs.wrapping_add(1);
        self.is_on && (self.runs <= FIRST_SAMPLES || self.runs.is_multiple_of(SAMPLE_EVERY))
    }

    /// A fresh interpreter begins to serve.
    pub fn begin(&mut self) {
        self.runs = 0;
    }

    /// What a run has loaded, in its order. Its script may have written it: only names are taken.
    pub fn on_report<'a>(&mut self, loaded: impl Iterator<Item = &'a [u8]>, now: Instant) {
        if !self.is_on {
            return;
        }
        for name in loaded.take(MAX_KNOWN) {
            let Some(name) = checked(name).filter(|name| !self.refused.contains(*name)) else { continue };
            if self.counts.len() >= MAX_KNOWN && !self.counts.contains_key(name) {
                continue;
            }
            let count = self.counts.entry(name.to_owned()).or_default();
            *count = count.saturating_add(1);
            if *count == AGAIN_AND_AGAIN
                && self.names.len() < MAX_LOADED
                && !self.names.iter().any(|known| known == name)
            {
                self.names.push(name.to_owned());
                self.renew_at = self.renew_at.or(self.next_renewal.filter(|at| *at > now)).or(Some(now));
            }
        }
    }

    /// This module must not be loaded before it is needed.
    pub fn refuse(&mut self, name: &str) {
        self.names.retain(|known| known != name);
        self.refused.insert(name.to_owned());
    }

    pub fn renew_at(&self) -> Option<Instant> {
        self.renew_at
    }

    /// An interpreter is started with all the names there are.
    pub fn renewed(&mut self, now: Instant) {
        if self.renew_at.take().is_some() {
            self.next_renewal = now.checked_add(self.interval);
            self.interval = (self.interval * 2).min(LONGEST_INTERVAL);
        }
    }
}

/// A module's name as Python writes it (`os.path`), or a file's as Perl does (`CGI/Util.pm`).
fn checked(name: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._/-".contains(byte);
    let name = str::from_utf8(name).ok().filter(|name| name.bytes().all(|byte| is_plain(&byte)))?;
    let first = name.bytes().next()?;
    let is_inside = !name.split('/').any(|part| part.is_empty() || part == ".." || part == ".");
    (name.len() <= MAX_NAME_BYTES && (first.is_ascii_alphabetic() || first == b'_') && is_inside)
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(learning: &mut Learning, names: &[&str], now: Instant) {
        learning.on_report(names.iter().map(|name| name.as_bytes()), now);
    }

    #[test]
    fn what_is_loaded_again_and_again_is_loaded_by_the_next_one() {
        let now = Instant::now();
        let mut learning = Learning::new(true, vec!["named".into()]);
        for _ in 0..2 {
            report(&mut learning, &["json", "re"], now);
        }
        assert_eq!((learning.names(), learning.renew_at()), (&["named".to_owned()][..], None));
        report(&mut learning, &["json", "named"], now);
        assert_eq!(learning.names(), ["named", "json"]);
        assert_eq!(learning.renew_at(), Some(now));
        learning.renewed(now);
        assert_eq!(learning.renew_at(), None);
        report(&mut learning, &["re"], now);
        assert_eq!(learning.names(), ["named", "json", "re"]);
        assert_eq!(learning.renew_at(), Some(now + FIRST_INTERVAL), "not one after the other");
    }

    #[test]
    fn what_was_refused_is_never_loaded_again_and_without_learning_nothing_is() {
        let now = Instant::now();
        let mut learning = Learning::new(true, vec!["bad".into()]);
        learning.refuse("bad");
        let mut off = Learning::new(false, Vec::new());
        assert!(!off.wants_report());
        for _ in 0..5 {
            report(&mut learning, &["bad"], now);
            report(&mut off, &["json"], now);
        }
        assert!(learning.names().is_empty() && off.names().is_empty());
    }

    #[test]
    fn names_are_checked_and_their_number_is_bounded() {
        let now = Instant::now();
        for name in ["", "../x", "a b", "a;b", "/etc/x.pm", "a//b", "a/../b", ".x", "1x", "-x", "naïve"] {
            assert_eq!(checked(name.as_bytes()), None, "{name}");
        }
        assert_eq!(checked(&[b'x'; MAX_NAME_BYTES + 1]), None);
        for name in ["json", "os.path", "_socket", "CGI/Util.pm", "a-b.pl"] {
            assert_eq!(checked(name.as_bytes()), Some(name));
        }
        let mut learning = Learning::new(true, Vec::new());
        for round in 0..5 {
            for number in 0..3 * MAX_KNOWN {
                report(&mut learning, &[&format!("m{number}")], now);
            }
            assert!(learning.counts.len() <= MAX_KNOWN && learning.names.len() <= MAX_LOADED, "{round}");
        }
        assert_eq!(learning.names.len(), MAX_LOADED);
    }

    #[test]
    fn first_runs_are_looked_at_and_then_few() {
        let mut learning = Learning::new(true, Vec::new());
        assert!((0..FIRST_SAMPLES).all(|_| learning.wants_report()));
        assert_eq!((0..320).filter(|_| learning.wants_report()).count(), 10);
        learning.begin();
        assert!(learning.wants_report());
    }
}
