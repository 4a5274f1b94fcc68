//! The worker's side of its page: writes, and only with what the loop knows anyway.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::counter::BOUNDS_MICROS;
use super::{
    COUNTERS, Counter, DRAINING, GAUGES, Gauge, HEARTBEAT, LAYOUT, Layout, MADE_ID, MAX_ID_BYTES,
    MAX_TEXT_BYTES, PLACE_WORDS, PLACES, POPULATION, Population, RUNNING, Runner, SERVING, STATE, TEXT,
    WORD_BYTES,
};
use crate::gateway::{IdText, Origin};
use crate::sys::SharedWords;

/// A worker's page. `&mut self` sees to it that there is one writer: adding is a load and a store then.
#[derive(Debug)]
pub struct Scoreboard {
    words: SharedWords,
    layout: Layout,
    /// One bit for each place: taken.
    taken: u64,
    /// What the text of each place comes from, if others may come from the same.
    shown: [Option<Origin>; u64::BITS as usize],
    /// An instant, and what CLOCK_MONOTONIC said then, in microseconds.
    base: (Instant, u64),
    /// The same for the last heartbeat: what begins in its turn begins then.
    beat: (Instant, u64),
}

/// Where the page shows a request, if there was a place left. To be given back to [`Scoreboard::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Place(Option<u8>);

impl Scoreboard {
    /// The page that came from the master.
    pub fn open(page: &OwnedFd) -> io::Result<Self> {
        let words = SharedWords::map(page.as_fd())?;
        let layout = Layout::from_word(words.get(LAYOUT).map_or(0, |word| word.load(Ordering::Relaxed)));
        if words.len() * WORD_BYTES < layout.bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the scoreboard's page is too short"));
        }
        let micros = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_micros() as u64;
        let base = (Instant::now(), micros);
        Ok(Scoreboard { words, layout, taken: 0, shown: [None; u64::BITS as usize], base, beat: base })
    }

    /// How many workers there are, as the master says.
    pub fn population(&self) -> Population {
        Population::from_word(self.word(POPULATION).map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    /// The loop has made a turn.
    #[inline]
    pub fn beat(&mut self, now: Instant) {
        self.beat = (now, self.micros(now));
        self.store(HEARTBEAT, self.beat.1);
    }

    /// The worker accepts connections.
    pub fn serves(&mut self) {
        self.store(STATE, SERVING);
    }

    /// The worker finishes what runs.
    pub fn drains(&mut self) {
        self.store(STATE, DRAINING);
    }

    #[inline]
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    #[inline]
    pub fn add(&mut self, counter: Counter, more: u64) {
        self.bump(COUNTERS + counter as usize, more);
    }

    #[inline]
    pub fn set(&mut self, gauge: Gauge, value: usize) {
        self.store(GAUGES + gauge as usize, value as u64);
    }

    /// An application thread takes a request that has waited for so long.
    pub fn waited(&mut self, time: Duration) {
        let micros = micros(time);
        self.observe(Counter::QueueUpTo1ms, micros);
        let longest = GAUGES + Gauge::LongestQueue as usize;
        if self.word(longest).is_some_and(|word| word.load(Ordering::Relaxed) < micros) {
            self.store(longest, micros);
        }
    }

    /// A request comes back from the application.
    pub fn ran(&mut self, time: Duration) {
        self.observe(Counter::RunUpTo1ms, micros(time));
    }

    /// `first` is the first bucket of a histogram.
    fn observe(&mut self, first: Counter, micros: u64) {
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_MICROS.len());
        self.bump(COUNTERS + first.plus(bucket), 1);
        self.bump(COUNTERS + first.plus(BOUNDS_MICROS.len() + 1), micros);
    }

    /// Shows a request that is being answered from now on: its method and target, and its id.
    pub fn begin(&mut self, runner: Runner, now: Instant, text: &[u8], id: IdText<'_>) -> Place {
        self.begin_again(runner, now, (text, None), id)
    }

    /// The same for a request whose method and target mostly stand there already: those of requests with the same origin
    /// are the same.
    pub fn begin_again(
        &mut self,
        runner: Runner,
        now: Instant,
        (text, origin): (&[u8], Option<Origin>),
        id: IdText<'_>,
    ) -> Place {
        let (threads, all) = (u32::from(self.layout.threads), self.layout.places() as u32);
        let (first, end) = match runner {
            Runner::Thread => (0, threads),
            Runner::Script => (threads, all),
        };
        let free = first + (!(self.taken >> first)).trailing_zeros();
        if free >= end {
            return Place(None);
        }
        self.taken |= 1 << free;
        let since = if now == self.beat.0 { self.beat.1 } else { self.micros(now) };
        let text = text.get(..MAX_TEXT_BYTES).unwrap_or(text);
        let (marks, id) = match &id {
            IdText::Made(number) => (RUNNING | MADE_ID, &number.to_bits().to_ne_bytes()[..]),
            IdText::Taken(taken) => (RUNNING, taken.get(..MAX_ID_BYTES).unwrap_or(taken)),
        };
        let is_there = match self.shown.get_mut(free as usize) {
            Some(shown) => std::mem::replace(shown, origin) == origin && origin.is_some(),
            None => false,
        };
        if let Some(place) = self.place(free as usize) {
            let [sequence, began, lengths, words @ ..] = place else { return Place(None) };
            // A reader that finds an odd number, or another one afterwards, has read while we wrote.
            let number = sequence.load(Ordering::Relaxed);
            sequence.store(number.wrapping_add(1), Ordering::Relaxed);
            fence(Ordering::Release);
            began.store(since, Ordering::Relaxed);
            lengths.store(marks | text.len() as u64 | (id.len() as u64) << 16, Ordering::Relaxed);
            if !is_there {
                write_bytes(words, text);
            }
            write_bytes(words.get(MAX_TEXT_BYTES / WORD_BYTES..).unwrap_or_default(), id);
            sequence.store(number.wrapping_add(2), Ordering::Release);
        }
        Place(Some(free as u8))
    }

    /// The request is over. What it was stays readable until the place is taken again.
    pub fn end(&mut self, place: &mut Place) {
        let Some(index) = place.0.take() else { return };
        self.taken &= !(1 << index);
        if let Some([_, _, lengths, ..]) = self.place(index.into()) {
            lengths.store(lengths.load(Ordering::Relaxed) & !RUNNING, Ordering::Relaxed);
        }
    }

    fn place(&self, index: usize) -> Option<&[AtomicU64]> {
        let start = PLACES + index * PLACE_WORDS;
        self.words.get(start..start + PLACE_WORDS)
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.words.get(index)
    }

    #[inline]
    fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    fn bump(&self, index: usize, more: u64) {
        if let Some(word) = self.word(index) {
            word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// On CLOCK_MONOTONIC, as the master reads it.
    fn micros(&self, now: Instant) -> u64 {
        let (base, at_base) = self.base;
        at_base.wrapping_add(micros(now.saturating_duration_since(base)))
    }
}

/// Without the 128 bits of `Duration::as_micros`.
fn micros(time: Duration) -> u64 {
    time.as_secs().wrapping_mul(1_000_000).wrapping_add(u64::from(time.subsec_micros()))
}

fn write_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
    let mut last = [0; WORD_BYTES];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    for (word, chunk) in words.iter().zip(whole.iter().chain([&last])) {
        word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
    }
}

const _: () = assert!(TEXT == 3, "the pattern of `begin`");
