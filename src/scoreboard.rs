//! The scoreboard: one page of shared memory per worker, on which it says what it does, and the master reads along.
//!
//! The master makes the page ([`BoardView::create`]) and sends it with the order that makes the worker; the worker writes
//! ([`Scoreboard`], in the `Core` of its loop). A page outlives its worker for a moment, so that the master can tell what
//! a dead one did last. A worker may be hostile: it can spoil its own page and no other, and the master believes none of
//! it beyond that ([`BoardView`]).
//!
//! Everything is a 64-bit word, written with relaxed atomics by whoever holds the worker's state, without a clock of its
//! own:
//!
//! | words | what |
//! | --- | --- |
//! | 0 | how many places for requests there are: written by the master |
//! | 1 … | state and heartbeat |
//! | 3 | how many workers there are, the [`Population`]: written by the master |
//! | 4 … | the [`Gauge`]s |
//! | 32 … | the [`Counter`]s |
//! | 128 … | the places for requests that are being answered: first those of application threads, then those of scripts |
//!
//! To add a counter, add a line to [`Counter`] in `counter.rs` with its metric and labels, and call
//! `core.board.count(Counter::…)` where it happens. JSON and the Prometheus text, and the sums that outlive a worker,
//! follow by themselves. A gauge is the same with `core.board.set(Gauge::…, value)`.

mod counter;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use counter::{Answerer, Counter, Family, Gauge, Type};
pub use view::{BoardView, Counters, RequestView};
pub use writer::{Place, Scoreboard};

use crate::config::{Config, MountTarget};

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoardState {
    /// It has not begun to accept.
    Starting,
    /// It accepts, and has nothing to do.
    Idle,
    /// It accepts, and answers requests.
    Busy,
    /// It finishes what runs.
    Draining,
}

impl BoardState {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            BoardState::Starting => "starting",
            BoardState::Idle => "idle",
            BoardState::Busy => "busy",
            BoardState::Draining => "draining",
        }
    }
}

/// How many workers there are: what the master lets each of them know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Population {
    /// Those that accept requests now.
    pub serving: u16,
    /// As many as there may be.
    pub most: u16,
}

impl Population {
    fn to_word(self) -> u64 {
        u64::from(self.serving) | u64::from(self.most) << 16
    }

    fn from_word(word: u64) -> Self {
        Population { serving: word as u16, most: (word >> 16) as u16 }
    }
}

/// What a request is answered by, as far as places go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    Thread,
    Script,
}

const PAGE_BYTES: usize = 4096;
const WORD_BYTES: usize = 8;

const LAYOUT: usize = 0;
const STATE: usize = 1;
const HEARTBEAT: usize = 2;
const POPULATION: usize = 3;
const GAUGES: usize = 4;
const COUNTERS: usize = 32;
const PLACES: usize = 128;

const _: () = assert!(GAUGES + Gauge::COUNT <= COUNTERS && COUNTERS + Counter::COUNT <= PLACES);

/// Words of one place: a sequence number, when the request began, its lengths, its text.
const PLACE_WORDS: usize = 48;
const TEXT: usize = 3;

/// What a place keeps of a request: its method and target, and its id.
pub const MAX_TEXT_BYTES: usize = 232;
pub const MAX_ID_BYTES: usize = 128;

const _: () = assert!(TEXT + (MAX_TEXT_BYTES + MAX_ID_BYTES) / WORD_BYTES == PLACE_WORDS);

/// In the lengths of a place: the request is being answered now.
const RUNNING: u64 = 1 << 63;

/// In the lengths of a place: the id is a number, not text.
const MADE_ID: u64 = 1 << 62;

/// In the word of the state; 0 means that the worker starts.
const SERVING: u64 = 1;
const DRAINING: u64 = 2;

/// How many requests a page has places for. Those beyond them are only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub threads: u8,
    pub scripts: u8,
}

impl Layout {
    const MOST_THREADS: u8 = 48;
    const MOST_SCRIPTS: u8 = 16;

    /// What a worker with this configuration may have to show.
    pub fn of(config: &Config) -> Self {
        let has_scripts = config.mounts.iter().any(|mount| matches!(mount.target, MountTarget::Cgi(_)));
        let threads = if config.applications.is_empty() { 0 } else { config.processes.threads };
        let scripts = if has_scripts { config.cgi.max_scripts } else { 0 };
        Layout {
            threads: threads.min(Self::MOST_THREADS.into()) as u8,
            scripts: scripts.min(Self::MOST_SCRIPTS.into()) as u8,
        }
    }

    fn places(self) -> usize {
        usize::from(self.threads) + usize::from(self.scripts)
    }

    fn bytes(self) -> usize {
        ((PLACES + self.places() * PLACE_WORDS) * WORD_BYTES).next_multiple_of(PAGE_BYTES)
    }

    fn to_word(self) -> u64 {
        u64::from_le_bytes([self.threads, self.scripts, 0, 0, 0, 0, 0, 0])
    }

    fn from_word(word: u64) -> Self {
        let [threads, scripts, ..] = word.to_le_bytes();
        Layout { threads: threads.min(Self::MOST_THREADS), scripts: scripts.min(Self::MOST_SCRIPTS) }
    }
}
