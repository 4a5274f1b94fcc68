//! The id of a request, by which its log lines, the application's own and those of the web server in front are found.
//!
//! Either it is made here: a number that no other request of any worker has, which becomes text only where somebody
//! reads it. Or it is taken from the front: it is then the value of UNIQUE_ID, the meta-variable in which Apache's
//! mod_unique_id has always given it to scripts.

use std::fmt;

use super::{KnownName, Request};

/// The longest id that is taken from a front, in bytes.
const LONGEST: usize = 128;

/// The number of a request; 0 is none. Its text is 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UniqueId(u64);

impl UniqueId {
    /// What a few bytes of shared memory can hold.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    pub const fn from_bits(bits: u64) -> Self {
        UniqueId(bits)
    }

    /// That of no request.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Makes the ids of one worker.
#[derive(Debug)]
pub struct UniqueIds {
    count: u64,
}

impl UniqueIds {
    /// `start` is random, and so far from that of every other worker, past and present, that their counts don't meet.
    pub fn new(start: u64) -> Self {
        UniqueIds { count: start }
    }

    /// The next id: different from all before it, and without a pattern that tells how many requests there are.
    pub fn make(&mut self) -> UniqueId {
        self.count = self.count.wrapping_add(1);
        match scramble(self.count) {
            0 => self.make(),
            bits => UniqueId(bits),
        }
    }
}

/// A permutation of all numbers, so that different counts stay different (the last step of SplitMix64).
fn scramble(count: u64) -> u64 {
    let mixed = (count ^ (count >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Whether a front's id may be taken: it can't forge anything, wherever it is written.
pub(super) fn is_acceptable(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-+/=:@".contains(byte))
}

/// A request's id as text: printable ASCII without spaces, quotes and backslashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdText<'a> {
    Made(UniqueId),
    Taken(&'a [u8]),
}

impl fmt::Display for IdText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdText::Made(id) => id.fmt(f),
            IdText::Taken(text) => f.write_str(std::str::from_utf8(text).unwrap_or_default()),
        }
    }
}

impl Request {
    /// The id, taken or made.
    pub fn id_text(&self) -> IdText<'_> {
        match self.meta.known(KnownName::UniqueId) {
            Some(taken) => IdText::Taken(taken),
            None => IdText::Made(self.id),
        }
    }

    /// Sees to it that there is a UNIQUE_ID among the meta-variables.
    pub fn tell_id(&mut self) {
        if self.meta.known(KnownName::UniqueId).is_none() {
            self.meta.push_display(KnownName::UniqueId, self.id);
        }
    }

    /// The field behind the meta-variable `name` is that of the front's request ids. What it says is the id, if it is
    /// acceptable; else it is overwritten with the id that was made.
    pub fn take_id_from(&mut self, name: &[u8]) {
        match self.meta.get(name).filter(|id| is_acceptable(id)) {
            Some(taken) => {
                let taken = taken.to_vec();
                self.meta.set_known(KnownName::UniqueId, &taken);
            }
            None => {
                self.tell_id();
                let id = self.id_text().to_string();
                self.meta.set(name, id.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_worker_and_of_its_successors_differ() {
        let (mut one, mut other) = (UniqueIds::new(7), UniqueIds::new(7_000_000));
        let mut seen: Vec<u64> =
            (0..1000).flat_map(|_| [one.make().to_bits(), other.make().to_bits()]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 2000);
        assert!(seen.iter().all(|bits| *bits != 0));
        // The count whose id would be 0 is passed over.
        assert!(!UniqueIds::new(u64::MAX).make().is_none());
        assert_eq!(UniqueId::from_bits(0xab).to_string(), "00000000000000ab");
    }

    #[test]
    fn a_front_s_id_is_taken_only_if_it_can_forge_nothing() {
        let longest = [b'a'; LONGEST];
        for id in [b"a".as_slice(), b"Root=1-67891233-abcdef:x/y+z.@_", &longest] {
            assert!(is_acceptable(id), "{}", id.escape_ascii());
        }
        let too_long = [b'a'; LONGEST + 1];
        for id in [b"".as_slice(), b"a b", b"a\"", b"a\\", b"a\n", b"a]", b"a,b", b"\xff", b"{a}", &too_long]
        {
            assert!(!is_acceptable(id), "{}", id.escape_ascii());
        }
    }

    #[test]
    fn the_named_field_tells_the_id_and_is_corrected_where_it_does_not() {
        let name = b"HTTP_X_REQUEST_ID";
        for (field, before, expected) in [
            (Some("from-front"), None, "from-front"),
            (Some("from-front"), Some("unique"), "from-front"),
            (Some("bad id"), None, "0000000000000009"),
            (Some("bad id"), Some("unique"), "unique"),
            (None, None, "0000000000000009"),
        ] {
            let mut request = Request { id: UniqueId::from_bits(9), ..Request::default() };
            if let Some(field) = field {
                request.meta.set(name, field.as_bytes());
            }
            if let Some(before) = before {
                request.meta.set(b"UNIQUE_ID", before.as_bytes());
            }
            request.take_id_from(name);
            assert_eq!(request.id_text().to_string(), expected);
            for name in [name.as_slice(), b"UNIQUE_ID"] {
                assert_eq!(request.meta.get(name), Some(expected.as_bytes()), "{field:?} {before:?}");
            }
        }
    }
}
