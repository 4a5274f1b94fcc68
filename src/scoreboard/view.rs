//! The master's side of a worker's page: reads, and believes nothing.
//!
//! Every value is limited before anything is computed with it, counters never go backwards, lengths and texts are
//! checked. What is left to a hostile worker is to lie about itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{
    BoardState, COUNTERS, Counter, DRAINING, GAUGES, Gauge, HEARTBEAT, LAYOUT, Layout, MADE_ID, MAX_ID_BYTES,
    MAX_TEXT_BYTES, PLACE_WORDS, PLACES, POPULATION, Population, RUNNING, Runner, SERVING, STATE, WORD_BYTES,
};
use crate::gateway::UniqueId;
use crate::sys::{self, SharedWords};

/// No counter is believed to be higher: 4096 workers' sums stay below 2^64, and one worker's within JSON's numbers.
const MOST_COUNTED: u64 = 1 << 52;

/// No gauge is believed to be higher.
const MOST_MEASURED: u64 = 1 << 40;

/// Attempts at a text that the worker writes at the same time.
const READINGS: usize = 4;

/// A worker's page, as the master reads it.
#[derive(Debug)]
pub struct BoardView {
    words: SharedWords,
    layout: Layout,
    /// What was read last.
    seen: Counters,
}

/// All counters of a worker, or the sums of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters([u64; Counter::COUNT]);

/// A request that is being answered, or was the last one in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestView {
    /// It is being answered.
    pub running: bool,
    pub runner: Runner,
    /// Since it was begun.
    pub age: Duration,
    /// Method and target, printable.
    pub text: String,
    /// Printable; empty if it has none.
    pub id: String,
}

impl BoardView {
    /// A fresh page, and the descriptor for its worker.
    pub fn create(layout: Layout) -> io::Result<(Self, OwnedFd)> {
        let page = sys::sealed_memory(c"forkhorn-scoreboard", layout.bytes())?;
        let words = SharedWords::map(page.as_fd())?;
        if let Some(word) = words.get(LAYOUT) {
            word.store(layout.to_word(), Ordering::Relaxed);
        }
        Ok((BoardView { words, layout, seen: Counters::default() }, page))
    }

    /// Lets the worker know.
    pub fn tell_population(&self, population: Population) {
        if let Some(word) = self.words.get(POPULATION) {
            word.store(population.to_word(), Ordering::Relaxed);
        }
    }

    /// What the worker says that it does.
    pub fn state(&self) -> BoardState {
        match self.word(STATE) {
            SERVING if self.gauge(Gauge::BusyThreads) + self.gauge(Gauge::Scripts) > 0 => BoardState::Busy,
            SERVING => BoardState::Idle,
            DRAINING => BoardState::Draining,
            _ => BoardState::Starting,
        }
    }

    /// How long ago the loop made its last turn. A worker that waits for events makes none: silence says nothing as long
    /// as it has nothing to do. `None`: none yet.
    pub fn heartbeat_age(&self) -> Option<Duration> {
        match self.word(HEARTBEAT) {
            0 => None,
            at => Some(age(at)),
        }
    }

    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.word(GAUGES + gauge as usize).min(MOST_MEASURED)
    }

    /// All counters, none of them lower than at the last look.
    pub fn counters(&mut self) -> &Counters {
        for (index, seen) in self.seen.0.iter_mut().enumerate() {
            let said = self.words.get(COUNTERS + index).map_or(0, |word| word.load(Ordering::Relaxed));
            *seen = (*seen).max(said.min(MOST_COUNTED));
        }
        &self.seen
    }

    /// The requests that are being answered, the oldest first.
    pub fn running(&self) -> Vec<RequestView> {
        let mut all: Vec<_> = self.requests().filter(|request| request.running).collect();
        all.sort_by_key(|request| std::cmp::Reverse(request.age));
        all
    }

    /// What a worker that has died did last: the requests that were being answered, else the one that was begun last.
    pub fn last(&self) -> Vec<RequestView> {
        let running = self.running();
        if !running.is_empty() {
            return running;
        }
        self.requests().min_by_key(|request| request.age).into_iter().collect()
    }

    fn requests(&self) -> impl Iterator<Item = RequestView> {
        (0..self.layout.places()).filter_map(|index| self.request(index))
    }

    fn request(&self, index: usize) -> Option<RequestView> {
        let start = PLACES + index * PLACE_WORDS;
        let [sequence, began, lengths, words @ ..] = self.words.get(start..start + PLACE_WORDS)? else {
            return None;
        };
        let runner = if index < self.layout.threads.into() { Runner::Thread } else { Runner::Script };
        for _ in 0..READINGS {
            let number = sequence.load(Ordering::Acquire);
            let (began, lengths) = (began.load(Ordering::Relaxed), lengths.load(Ordering::Relaxed));
            let text = read_bytes(words, lengths & 0xffff, MAX_TEXT_BYTES);
            let ids = words.get(MAX_TEXT_BYTES / WORD_BYTES..).unwrap_or_default();
            let id = match lengths & MADE_ID {
                0 => read_bytes(ids, lengths >> 16 & 0xffff, MAX_ID_BYTES),
                _ => made_id(ids),
            };
            fence(Ordering::Acquire);
            if number % 2 == 0 && number == sequence.load(Ordering::Relaxed) {
                let running = lengths & RUNNING != 0;
                return (number > 0).then(|| RequestView { running, runner, age: age(began), text, id });
            }
        }
        // The worker is writing, was killed while it wrote, or plays tricks.
        None
    }

    fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

impl Counters {
    pub fn of(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or_default()
    }

    /// Adds those of another worker.
    pub fn add(&mut self, other: &Counters) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Counters([0; Counter::COUNT])
    }
}

impl RequestView {
    /// For the log: `GET /slow (1.2 s, id 4f0a)`.
    pub fn describe(&self) -> String {
        let id = if self.id.is_empty() { String::new() } else { format!(", id {}", self.id) };
        format!("{} ({:.1} s{id})", self.text, self.age.as_secs_f64())
    }
}

/// Since a time of CLOCK_MONOTONIC in microseconds; nothing if that is to come.
fn age(at: u64) -> Duration {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    now.saturating_sub(Duration::from_micros(at))
}

fn made_id(words: &[AtomicU64]) -> String {
    let bits = words.first().map_or(0, |word| word.load(Ordering::Relaxed));
    UniqueId::from_bits(bits).to_string()
}

fn read_bytes(words: &[AtomicU64], length: u64, most: usize) -> String {
    let length = usize::try_from(length).unwrap_or(most).min(most);
    let words = words.iter().take(length.div_ceil(WORD_BYTES));
    let mut bytes: Vec<u8> = words.flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
    bytes.truncate(length);
    bytes.escape_ascii().to_string()
}
