//! Tables whose keys are never mistaken for a later entry's, and the mio tokens made of them.
//!
//! An event can arrive for a descriptor that was closed a moment ago in the same batch, and its slot may already hold
//! another connection: every key carries a generation.

use mio::Token;
use slab::Slab;

use crate::handler::cgi::WarmSource;

/// Which entry of a [`Keyed`] table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct Keyed<T> {
    entries: Slab<(u32, T)>,
    next_generation: u32,
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Keyed { entries: Slab::new(), next_generation: 0 }
    }
}

impl<T> Keyed<T> {
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let slot = self.entries.vacant_entry();
        let key = Key { index: slot.key() as u32, generation: self.next_generation };
        self.next_generation = self.next_generation.wrapping_add(1);
        slot.insert((key.generation, make(key)));
        key
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        self.entries.try_remove(key.index as usize).map(|(_, value)| value)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.entries
            .iter()
            .map(|(index, (generation, _))| Key { index: index as u32, generation: *generation })
            .collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries
            .iter()
            .map(|(index, (generation, value))| (Key { index: index as u32, generation: *generation }, value))
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, (_, value))| value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|(_, (_, value))| value)
    }
}

/// What an event of the poll is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The master's channel.
    Channel,
    /// Somebody wants the thread that waits to look at the state again.
    Waker,
    /// The interpreter has noted a signal.
    Signals,
    /// The hand-off queue.
    HandOff,
    Listener(u32),
    Connection(Key),
    /// A descriptor of a script; which one is the script's business.
    Script(Key, u8),
    /// A descriptor of a warm interpreter.
    Warm(WarmSource),
}

const KIND_BITS: u32 = 3;
const INDEX_BITS: u32 = 29;

impl Source {
    /// 3 bits of kind, 29 of index, 32 of generation; a script's kind says which of its descriptors.
    pub fn token(self) -> Token {
        let (kind, index, generation) = match self {
            Source::Channel => (0, 0, 0),
            Source::Waker => (0, 1, 0),
            Source::Signals => (0, 2, 0),
            Source::HandOff => (0, 3, 0),
            Source::Listener(index) => (1, index, 0),
            Source::Connection(key) => (2, key.index, key.generation),
            Source::Script(key, which) => (3 + u64::from(which & 3), key.index, key.generation),
            Source::Warm(WarmSource::Channel(number)) => (7, number, 0),
            Source::Warm(WarmSource::Output(number)) => (7, number, 1),
            Source::Warm(WarmSource::Report) => (7, 0, 2),
        };
        Token((kind | u64::from(index) << KIND_BITS | u64::from(generation) << 32) as usize)
    }

    pub fn of(token: Token) -> Source {
        let bits = token.0 as u64;
        let index = (bits >> KIND_BITS) as u32 & ((1 << INDEX_BITS) - 1);
        let key = Key { index, generation: (bits >> 32) as u32 };
        match bits & ((1 << KIND_BITS) - 1) {
            0 if index == 0 => Source::Channel,
            0 if index == 1 => Source::Waker,
            0 if index == 2 => Source::Signals,
            0 => Source::HandOff,
            1 => Source::Listener(index),
            2 => Source::Connection(key),
            7 => Source::Warm(match key.generation {
                0 => WarmSource::Channel(index),
                1 => WarmSource::Output(index),
                _ => WarmSource::Report,
            }),
            kind => Source::Script(key, (kind - 3) as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_give_their_source_back() {
        let key = Key { index: (1 << INDEX_BITS) - 1, generation: u32::MAX };
        for source in [
            Source::Channel,
            Source::Waker,
            Source::Signals,
            Source::HandOff,
            Source::Listener(7),
            Source::Connection(key),
            Source::Script(key, 0),
            Source::Script(key, 3),
            Source::Warm(WarmSource::Channel(7)),
            Source::Warm(WarmSource::Output((1 << INDEX_BITS) - 1)),
            Source::Warm(WarmSource::Report),
        ] {
            assert_eq!(Source::of(source.token()), source);
        }
    }

    #[test]
    fn a_key_of_a_removed_entry_finds_nothing_in_the_reused_slot() {
        let mut table = Keyed::default();
        let first = table.insert_with(|_| "first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert_with(|_| "second");
        assert_eq!(first.index, second.index);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut "second"));
    }
}
