//! A body that is collected before its request is handled: in memory, then in a file without a name.
//!
//! What bodies take of a worker's memory is counted, all of them together: past `--body-memory`, each goes to a file
//! however short it is, so that slow uploads on many connections can't fill the memory.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::config::LimitConfig;
use crate::gateway::Body;
use crate::protocol::BodyLength;

/// Bodies up to this length are not counted: a connection's head may take as much.
const UNCOUNTED_BYTES: u64 = 16 * 1024;

/// Reading a body's bytes right to their place pays from here on.
const DIRECT_FROM_BYTES: u64 = 16 * 1024;

/// Buffers from this size on are used again: memory that comes fresh from the kernel costs more than all of the reading.
const SPARE_FROM_BYTES: usize = 128 * 1024;

/// So much memory of past bodies is kept for the next ones.
const MOST_SPARE_BYTES: usize = 8 * 1024 * 1024;

/// Where and how the bodies of a worker are kept.
#[derive(Debug, Clone)]
pub(crate) struct Keeping {
    threshold: u64,
    dir: Arc<Path>,
    most_in_memory: u64,
    in_memory: Arc<AtomicU64>,
    spare: Arc<Spare>,
}

/// Empty buffers.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self, capacity: usize) -> Vec<u8> {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that was given back last is the most likely to be in the processor's cache.
        match buffers.iter().rposition(|buffer| buffer.capacity() >= capacity) {
            Some(found) => buffers.swap_remove(found),
            None => Vec::with_capacity(capacity),
        }
    }

    fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() < SPARE_FROM_BYTES {
            return;
        }
        buffer.clear();
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = buffers.iter().map(Vec::capacity).sum();
        if kept + buffer.capacity() <= MOST_SPARE_BYTES {
            buffers.push(buffer);
        }
    }
}

impl Keeping {
    pub fn new(limits: &LimitConfig) -> Self {
        Keeping {
            threshold: limits.spool_threshold_bytes,
            dir: limits.spool_dir.as_path().into(),
            most_in_memory: limits.body_memory_bytes,
            in_memory: Arc::default(),
            spare: Arc::default(),
        }
    }
}

/// What one body takes of [`Keeping::most_in_memory`], until it is dropped.
#[derive(Debug)]
struct Share {
    bytes: u64,
    of: Arc<AtomicU64>,
    spare: Arc<Spare>,
}

impl Share {
    /// False, and nothing changes: all is taken.
    fn grow(&mut self, to: u64, most: u64) -> bool {
        let more = to.saturating_sub(self.bytes);
        // Bodies come and grow on one thread at a time, under the lock of the state; they may be dropped on another.
        if self.of.load(Ordering::Relaxed).saturating_add(more) > most {
            return false;
        }
        self.of.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Grows with its chunks; past the threshold everything lies in a temporary file.
#[derive(Debug, Default)]
pub(crate) struct BodyBuffer {
    memory: Vec<u8>,
    /// The only chunk so far: a body that came in one piece is never copied.
    single: Option<Bytes>,
    file: Option<File>,
    length: u64,
    /// Zero if it was not told.
    announced: u64,
    share: Option<Share>,
}

impl BodyBuffer {
    /// For a body of which this was told.
    pub fn expecting(length: BodyLength) -> Self {
        let announced = match length {
            BodyLength::Known(length) => length,
            BodyLength::None | BodyLength::Unknown => 0,
        };
        BodyBuffer { announced, ..BodyBuffer::default() }
    }

    /// Fails when the file can't be made or written: a full disk, for one.
    pub fn push(&mut self, chunk: Bytes, keeping: &Keeping) -> io::Result<()> {
        let is_first = self.length == 0;
        self.length += chunk.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(&chunk);
        }
        if !self.fits(keeping) {
            let mut file = tempfile::tempfile_in(&keeping.dir)?;
            file.write_all(self.single.as_deref().unwrap_or(&self.memory))?;
            file.write_all(&chunk)?;
            (self.single, self.memory, self.share) = (None, Vec::new(), None);
            self.file = Some(file);
        } else if is_first {
            self.single = Some(chunk);
        } else {
            self.make_room(keeping);
            self.memory.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Where the next `left` bytes, which end the body, may be read to; the caller tells how many there were. `None`: they
    /// are to be pushed.
    pub fn room(&mut self, left: u64, keeping: &Keeping) -> Option<&mut Vec<u8>> {
        let is_known = self.length + left == self.announced;
        if self.file.is_some() || left < DIRECT_FROM_BYTES || !is_known || !self.fits(keeping) {
            return None;
        }
        self.make_room(keeping);
        Some(&mut self.memory)
    }

    /// What has been read to [`room`](Self::room) since [`grew`](Self::grew) was last called.
    pub fn unplaced(&self) -> &[u8] {
        self.memory.get(self.length as usize..).unwrap_or_default()
    }

    /// The first `count` of these bytes are the body's; the others are forgotten.
    pub fn grew(&mut self, count: u64) {
        self.length += count;
        self.memory.truncate(self.length as usize);
    }

    /// A body of `length` bytes, more than none, that lies in a file from its beginning on.
    pub fn spooled(file: File, length: u64) -> Self {
        BodyBuffer { file: Some(file), length, ..BodyBuffer::default() }
    }

    /// In bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn finish(mut self) -> Body {
        if let Some(file) = self.file.take() {
            return Body::File { file: Arc::new(file), length: self.length };
        }
        let memory = std::mem::take(&mut self.memory);
        match (self.single.take(), self.share.take()) {
            _ if self.length == 0 => Body::Empty,
            (Some(single), None) => Body::Memory(single),
            (None, None) => Body::Memory(memory.into()),
            (single, Some(share)) => Body::Memory(Bytes::from_owner(Counted { single, memory, share })),
        }
    }

    /// Whether what is here, and what was announced, may be in memory.
    fn fits(&mut self, keeping: &Keeping) -> bool {
        let wanted = self.length.max(self.announced);
        wanted <= keeping.threshold
            && (wanted <= UNCOUNTED_BYTES || {
                let share = self.share.get_or_insert_with(|| Share {
                    bytes: 0,
                    of: keeping.in_memory.clone(),
                    spare: keeping.spare.clone(),
                });
                share.grow(wanted, keeping.most_in_memory)
            })
    }

    /// For all that was announced: it has been counted.
    fn make_room(&mut self, keeping: &Keeping) {
        let announced = usize::try_from(self.announced).unwrap_or_default();
        if self.memory.capacity() == 0 && announced >= SPARE_FROM_BYTES {
            self.memory = keeping.spare.take(announced);
        }
        self.memory.reserve_exact(announced.saturating_sub(self.memory.len()));
        if let Some(first) = self.single.take() {
            self.memory.extend_from_slice(&first);
        }
    }
}

/// The bytes of a body, counted as long as anything of them is kept.
struct Counted {
    /// All of them, if they came in one piece.
    single: Option<Bytes>,
    memory: Vec<u8>,
    share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        self.single.as_deref().unwrap_or(&self.memory)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.share.spare.give(std::mem::take(&mut self.memory));
    }
}

impl From<Bytes> for BodyBuffer {
    fn from(body: Bytes) -> Self {
        BodyBuffer { length: body.len() as u64, single: Some(body), ..BodyBuffer::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn keeping(threshold: u64, most_in_memory: u64, dir: &Path) -> Keeping {
        Keeping {
            threshold,
            dir: dir.into(),
            most_in_memory,
            in_memory: Arc::default(),
            spare: Arc::default(),
        }
    }

    #[test]
    fn bodies_are_whole_in_memory_and_past_the_threshold_in_a_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let keeping = keeping(4, 1000, dir.path());
        for chunks in
            [&["a"][..], &["ab", "cd"], &["abcd", "e"], &["abcdef"], &["a", "b", "c", "d", "e", "f"]]
        {
            let whole = chunks.concat();
            let mut buffer = BodyBuffer::default();
            for chunk in chunks {
                buffer.push(Bytes::from_static(chunk.as_bytes()), &keeping).expect("room");
            }
            let body = buffer.finish();
            assert_eq!(body.len(), whole.len() as u64);
            match body {
                Body::Memory(bytes) => {
                    assert_eq!((bytes.as_ref(), whole.len() <= 4), (whole.as_bytes(), true))
                }
                Body::File { file, length } => {
                    let mut read = vec![0; length as usize];
                    file.read_exact_at(&mut read, 0).expect("the whole body");
                    assert_eq!((read.as_slice(), whole.len() > 4), (whole.as_bytes(), true));
                }
                Body::Empty => panic!("{chunks:?} is not empty"),
            }
        }
        assert!(BodyBuffer::default().finish().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_error() {
        let mut buffer = BodyBuffer::default();
        let keeping = keeping(2, 1000, Path::new("/nonexistent"));
        buffer.push(Bytes::from_static(b"abc"), &keeping).expect_err("no such directory");
    }

    #[test]
    fn bodies_in_memory_are_counted_until_the_last_use_of_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let keeping = keeping(100_000, 130_000, dir.path());
        let used = || keeping.in_memory.load(Ordering::Relaxed);
        let chunk = |length: usize| Bytes::from(vec![b'x'; length]);
        let mut first = BodyBuffer::expecting(BodyLength::Known(60_000));
        first.push(chunk(20_000), &keeping).expect("room");
        assert_eq!(used(), 60_000, "what was announced counts");
        let room = first.room(40_000, &keeping).expect("in memory");
        room.extend_from_slice(&chunk(40_000));
        first.grew(40_000);
        let mut second = BodyBuffer::expecting(BodyLength::Unknown);
        for _ in 0..7 {
            second.push(chunk(10_000), &keeping).expect("room");
        }
        assert_eq!(used(), 130_000);
        second.push(chunk(1), &keeping).expect("a file");
        assert_eq!(used(), 60_000, "it is in a file now");
        assert!(matches!(second.finish(), Body::File { length: 70_001, .. }));
        let mut third = BodyBuffer::expecting(BodyLength::Known(80_000));
        third.push(chunk(1), &keeping).expect("a file");
        assert!(third.room(79_999, &keeping).is_none());
        let mut small = BodyBuffer::default();
        small.push(chunk(16_384), &keeping).expect("room");
        assert!(matches!(small.finish(), Body::Memory(_)), "small ones do not count");
        let Body::Memory(bytes) = first.finish() else { panic!("in memory") };
        assert_eq!((bytes.len(), used()), (60_000, 60_000));
        let rest = bytes.slice(59_999..);
        drop(bytes);
        assert_eq!(used(), 60_000);
        drop(rest);
        assert_eq!(used(), 0);
    }

    #[test]
    fn buffers_of_large_bodies_are_used_again_up_to_a_limit() {
        let keeping = keeping(1 << 20, 1 << 30, Path::new("/nonexistent"));
        let collect = |length: usize| {
            let mut buffer = BodyBuffer::expecting(BodyLength::Known(length as u64));
            buffer.push(Bytes::from_static(b"x"), &keeping).expect("room");
            let room = buffer.room(length as u64 - 1, &keeping).expect("in memory");
            room.resize(length, b'y');
            buffer.grew(length as u64 - 1);
            let Body::Memory(bytes) = buffer.finish() else { panic!("in memory") };
            assert!(bytes.len() == length && bytes.starts_with(b"xy"));
            bytes
        };
        let first = collect(1 << 20);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(collect(900_000).as_ptr(), place);
        drop((0..20).map(|_| collect(1 << 20)).collect::<Vec<_>>());
        let kept: usize = keeping.spare.0.lock().expect("no panic").iter().map(Vec::capacity).sum();
        assert_eq!(kept, MOST_SPARE_BYTES);
    }

    #[test]
    fn what_is_read_to_its_place_follows_what_was_pushed() {
        let keeping = keeping(100_000, 100_000, Path::new("/nonexistent"));
        let mut buffer = BodyBuffer::expecting(BodyLength::Known(50_000));
        buffer.push(Bytes::from_static(b"begin"), &keeping).expect("room");
        for (left, count) in [(49_995, 9_995), (40_000, 40_000)] {
            let room = buffer.room(left, &keeping).expect("in memory");
            assert!(room.capacity() - room.len() >= count);
            room.extend_from_slice(&vec![b'x'; count]);
            buffer.grew(count as u64);
        }
        assert!(buffer.room(0, &keeping).is_none());
        let Body::Memory(bytes) = buffer.finish() else { panic!("in memory") };
        assert!(bytes.starts_with(b"beginxxx") && bytes.len() == 50_000);
    }
}
