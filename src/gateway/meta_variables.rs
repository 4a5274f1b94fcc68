//! Meta-variables (RFC 3875 §4.1): one arena of bytes, and names that are numbers where we know them.
//!
//! The bridge to Python keeps one string object per known name, so a known name costs no hashing there.

use std::fmt::Display;
use std::io::Write;
use std::ops::Range;

pub use super::known_name::KnownName;

/// The name of a meta-variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    Known(KnownName),
    Other(&'a [u8]),
}

impl<'a> Name<'a> {
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Name::Known(known) => known.as_str().as_bytes(),
            Name::Other(bytes) => bytes,
        }
    }
}

/// Bytes of the arena. A head is far smaller than 4 GiB.
pub(super) type Stored = Range<u32>;

/// The same, as a value that is copied and compared at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    start: u32,
    end: u32,
}

impl From<Stored> for Place {
    fn from(stored: Stored) -> Self {
        Place { start: stored.start, end: stored.end }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoredName {
    Known(KnownName),
    Other(Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    name: StoredName,
    value: Place,
    /// The values of all fields of this name are in `value`.
    is_joined: bool,
}

/// The meta-variables of one request, each name once, in the order in which they were set.
///
/// Values are bytes without NUL. Cleared and filled again, it costs no allocation.
#[derive(Debug)]
pub struct MetaVariables {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Where in `entries` a known name is, or [`ABSENT`].
    places: [u32; KnownName::COUNT],
    origin: Option<Origin>,
}

/// Variables that a request shares with others: where two requests have the same origin, the first `variables` of each
/// are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    number: u64,
    pub variables: usize,
}

impl Origin {
    #[cfg(test)]
    pub fn numbered(number: u64) -> Self {
        Origin { number, variables: 0 }
    }
}

const ABSENT: u32 = u32::MAX;

impl Default for MetaVariables {
    fn default() -> Self {
        MetaVariables {
            bytes: Vec::new(),
            entries: Vec::new(),
            places: [ABSENT; KnownName::COUNT],
            origin: None,
        }
    }
}

impl Clone for MetaVariables {
    fn clone(&self) -> Self {
        let MetaVariables { bytes, entries, places, origin } = self;
        MetaVariables { bytes: bytes.clone(), entries: entries.clone(), places: *places, origin: *origin }
    }

    /// Uses the buffers that are there.
    fn clone_from(&mut self, from: &Self) {
        self.bytes.clone_from(&from.bytes);
        self.entries.clone_from(&from.entries);
        self.places = from.places;
        self.origin = from.origin;
    }
}

impl MetaVariables {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.places = [ABSENT; KnownName::COUNT];
        self.origin = None;
    }

    /// Set by whoever copies these variables for other requests, with a number that no others have. It lasts as long as
    /// variables are only added.
    pub(super) fn set_origin(&mut self, number: u64) {
        self.origin = Some(Origin { number, variables: self.entries.len() });
    }

    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends; the caller knows that the name is not there yet.
    pub fn push(&mut self, name: KnownName, value: &[u8]) {
        let value = self.store(value);
        self.push_stored(name, value);
    }

    /// The same for a number or an address.
    pub fn push_display(&mut self, name: KnownName, value: impl Display) {
        let start = self.end();
        // Writing to a Vec does not fail.
        let _ = write!(self.bytes, "{value}");
        self.push_stored(name, start..self.end());
    }

    /// Sets a variable, in place of a former value if there is one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.origin = None;
        match KnownName::of(name) {
            Some(known) => self.set_known(known, value),
            None => {
                let value = self.store(value).into();
                match self.other_place(name) {
                    Some(entry) => entry.value = value,
                    None => {
                        let name = StoredName::Other(self.store(name).into());
                        self.entries.push(Entry { name, value, is_joined: false });
                    }
                }
            }
        }
    }

    pub fn set_known(&mut self, name: KnownName, value: &[u8]) {
        self.origin = None;
        let value = self.store(value);
        match self.entries.get_mut(self.places[name.index()] as usize) {
            Some(entry) => entry.value = value.into(),
            None => self.push_stored(name, value),
        }
    }

    pub fn remove(&mut self, name: &[u8]) {
        if let Some(index) = self.position(name) {
            self.origin = None;
            self.entries.remove(index);
            self.places = [ABSENT; KnownName::COUNT];
            for (place, entry) in self.entries.iter().enumerate() {
                if let StoredName::Known(known) = entry.name {
                    self.places[known.index()] = place as u32;
                }
            }
        }
    }

    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.position(name).map(|index| self.at(self.entries[index].value))
    }

    pub fn known(&self, name: KnownName) -> Option<&[u8]> {
        let entry = self.entries.get(self.places[name.index()] as usize)?;
        Some(self.at(entry.value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Name<'_>, &[u8])> {
        self.iter_from(0)
    }

    /// Without the first so many.
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = (Name<'_>, &[u8])> {
        let entries = self.entries.get(first..).unwrap_or_default();
        entries.iter().map(|entry| (self.name(entry), self.at(entry.value)))
    }

    /// How many variables, from the first on, surely are what they were in `before`. Only what both arenas begin with is
    /// compared, at once: most requests of a connection differ in few variables.
    pub fn unchanged_since(&self, before: &MetaVariables) -> usize {
        let same_bytes = common_prefix(&self.bytes, &before.bytes) as u32;
        let is_same = |(entry, old): &(&Entry, &Entry)| {
            let ends = match entry.name {
                StoredName::Known(_) => entry.value.end,
                StoredName::Other(name) => entry.value.end.max(name.end),
            };
            ends <= same_bytes && entry == old
        };
        self.entries.iter().zip(&before.entries).take_while(is_same).count()
    }

    /// Appends a field of an HTTP request under its name of RFC 3875 §4.1.18: `HTTP_`, then the name in upper case with
    /// `_` for `-`. The caller has seen to it that the name consists of letters, digits and hyphens.
    pub(super) fn push_field(&mut self, field: &[u8], value: &[u8]) -> Pushed {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"HTTP_");
        self.bytes.extend(field.iter().map(|byte| match byte {
            b'-' => b'_',
            byte => byte.to_ascii_uppercase(),
        }));
        match KnownName::of(&self.bytes[start..]) {
            Some(known) => {
                self.bytes.truncate(start);
                self.push_once(StoredName::Known(known), value)
            }
            None => {
                let name = Place { start: start as u32, end: self.end() };
                self.push_once(StoredName::Other(name), value)
            }
        }
    }

    /// Appends a name-value pair as it is; `known` is what [`KnownName::of`] says of the name.
    pub(super) fn push_pair(&mut self, known: Option<KnownName>, name: &[u8], value: &[u8]) -> Pushed {
        match known {
            Some(known) => self.push_once(StoredName::Known(known), value),
            None => {
                let name = StoredName::Other(self.store(name).into());
                self.push_once(name, value)
            }
        }
    }

    fn push_once(&mut self, name: StoredName, value: &[u8]) -> Pushed {
        let found = match &name {
            StoredName::Known(known) => {
                let place = self.places[known.index()];
                (place != ABSENT).then_some(place as usize)
            }
            StoredName::Other(stored) => self.other_position(self.at(*stored)),
        };
        if let Some(index) = found {
            return match self.entries[index].is_joined {
                true => Pushed::Joined,
                false => Pushed::Again(index),
            };
        }
        let value = self.store(value).into();
        if let StoredName::Known(known) = name {
            self.places[known.index()] = self.entries.len() as u32;
        }
        self.entries.push(Entry { name, value, is_joined: false });
        Pushed::First
    }

    /// Appends more values to the variable that [`Pushed::Again`] told. Called once per name with all of them: a value that
    /// grew field by field would have to be copied as often.
    pub(super) fn join<'a>(
        &mut self,
        index: usize,
        separator: &[u8],
        values: impl Iterator<Item = &'a [u8]>,
    ) {
        self.origin = None;
        let old = self.entries[index].value;
        let start = self.end();
        self.bytes.extend_from_within(old.start as usize..old.end as usize);
        for value in values {
            self.bytes.extend_from_slice(separator);
            self.bytes.extend_from_slice(value);
        }
        let value = start..self.end();
        let entry = &mut self.entries[index];
        entry.value = value.into();
        entry.is_joined = true;
    }

    /// The arena, for a value that is made in place: what `fill` appends to it becomes one stored value.
    pub(super) fn store_with<E>(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Stored, E> {
        let start = self.bytes.len();
        match fill(&mut self.bytes) {
            Ok(()) => Ok(start as u32..self.end()),
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// Appends a variable whose value is in the arena already; the name is not there yet.
    pub(super) fn push_stored(&mut self, name: KnownName, value: Stored) {
        self.places[name.index()] = self.entries.len() as u32;
        self.entries.push(Entry { name: StoredName::Known(name), value: value.into(), is_joined: false });
    }

    pub(super) fn slice(&self, range: &Stored) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    fn at(&self, place: Place) -> &[u8] {
        &self.bytes[place.start as usize..place.end as usize]
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        match KnownName::of(name) {
            Some(known) => {
                let place = self.places[known.index()];
                (place != ABSENT).then_some(place as usize)
            }
            None => self.other_position(name),
        }
    }

    fn other_position(&self, name: &[u8]) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| matches!(&entry.name, StoredName::Other(other) if self.at(*other) == name))
    }

    fn other_place(&mut self, name: &[u8]) -> Option<&mut Entry> {
        let index = self.other_position(name)?;
        self.entries.get_mut(index)
    }

    fn name(&self, entry: &Entry) -> Name<'_> {
        match &entry.name {
            StoredName::Known(known) => Name::Known(*known),
            StoredName::Other(place) => Name::Other(self.at(*place)),
        }
    }

    fn store(&mut self, bytes: &[u8]) -> Stored {
        let start = self.end();
        self.bytes.extend_from_slice(bytes);
        start..self.end()
    }

    #[cfg(test)]
    pub(super) fn arena_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn end(&self) -> u32 {
        self.bytes.len() as u32
    }
}

/// What came of a field or a name-value pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    First,
    /// The name is there, at this index: the caller decides.
    Again(usize),
    /// The name is there, and this value with it: [`MetaVariables::join`] has been called for the name.
    Joined,
}

/// How many bytes both begin with, in whole words.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (a, _) = a.as_chunks::<8>();
    let (b, _) = b.as_chunks::<8>();
    8 * a.iter().zip(b).take_while(|(a, b)| u64::from_ne_bytes(**a) == u64::from_ne_bytes(**b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(meta: &MetaVariables) -> Vec<(&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).expect("UTF-8");
        meta.iter().map(|(name, value)| (text(name.as_bytes()), text(value))).collect()
    }

    #[test]
    fn setting_a_name_again_replaces_its_value_in_place() {
        let mut meta = MetaVariables::default();
        meta.push(KnownName::PathInfo, b"/a");
        meta.set(b"HTTP_X_ONE", b"1");
        meta.push_display(KnownName::ServerPort, 80);
        meta.set(b"PATH_INFO", b"/b");
        meta.set(b"HTTP_X_ONE", b"2");
        assert_eq!(all(&meta), [("PATH_INFO", "/b"), ("HTTP_X_ONE", "2"), ("SERVER_PORT", "80")]);
        meta.remove(b"PATH_INFO");
        assert_eq!(meta.known(KnownName::PathInfo), None);
        assert_eq!(meta.get(b"HTTP_X_ONE"), Some(b"2".as_slice()));
        assert_eq!(meta.known(KnownName::ServerPort), Some(b"80".as_slice()));
        meta.set_known(KnownName::PathInfo, b"/c");
        assert_eq!(all(&meta), [("HTTP_X_ONE", "2"), ("SERVER_PORT", "80"), ("PATH_INFO", "/c")]);
        meta.clear();
        assert!(meta.is_empty() && meta.known(KnownName::ServerPort).is_none());
    }

    #[test]
    fn fields_get_their_names_and_repeated_ones_are_joined_once() {
        let mut meta = MetaVariables::default();
        assert_eq!(meta.push_field(b"accept-Language", b"de"), Pushed::First);
        assert_eq!(meta.push_field(b"X-Other", b"1"), Pushed::First);
        assert_eq!(meta.push_field(b"Accept-Language", b"en"), Pushed::Again(0));
        meta.join(0, b", ", [b"en".as_slice(), b"fr"].into_iter());
        assert_eq!(meta.push_field(b"ACCEPT-LANGUAGE", b"fr"), Pushed::Joined);
        assert_eq!(meta.push_field(b"x-other", b"2"), Pushed::Again(1));
        assert_eq!(meta.push_pair(None, b"HTTP_X_OTHER", b"2"), Pushed::Again(1));
        assert_eq!(all(&meta), [("HTTP_ACCEPT_LANGUAGE", "de, en, fr"), ("HTTP_X_OTHER", "1")]);
    }

    #[test]
    fn a_refused_value_leaves_nothing_behind() {
        let mut meta = MetaVariables::default();
        let refused = meta.store_with(|bytes| {
            bytes.extend_from_slice(b"half");
            Err("why")
        });
        assert_eq!((refused, meta.bytes.len()), (Err("why"), 0));
    }

    #[test]
    fn what_is_told_to_be_the_same_is_the_same() {
        let meta = |path: &[u8], other: &[u8], port: &[u8]| {
            let mut meta = MetaVariables::default();
            meta.push(KnownName::RequestMethod, b"GET");
            meta.push(KnownName::PathInfo, path);
            meta.set(b"HTTP_X_OTHER", other);
            meta.push(KnownName::RemotePort, port);
            meta
        };
        let before = meta(b"/a/long/path", b"a value", b"40000");
        for (path, other, port) in [
            (b"/a/long/path".as_slice(), b"a value".as_slice(), b"40000".as_slice()),
            (b"/a/long/path", b"a value", b"40001"),
            (b"/a/long/path", b"another", b"40000"),
            (b"/b/long/path", b"a value", b"40000"),
            (b"/a/long", b"a value", b"40000"),
            (b"", b"", b""),
        ] {
            let now = meta(path, other, port);
            for ((name, value), (old_name, old)) in
                now.iter().zip(before.iter()).take(now.unchanged_since(&before))
            {
                assert_eq!((name, value), (old_name, old));
            }
            let mut none = MetaVariables::default();
            assert_eq!(now.unchanged_since(&none), 0);
            none.clear();
        }
        let same = before.unchanged_since(&before);
        assert!(same >= 2, "{same} of 4: the last bytes may be less than a word");
    }
}
