//! What waits to be written to a peer: bytes and pieces of files, in order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

/// Bodies at least this long are held by reference; shorter ones are cheaper to copy.
const SHARE_FROM_BYTES: usize = 16 * 1024;

/// What an idle connection keeps of its buffer.
const KEPT_BYTES: usize = 4 * 1024;

/// The first piece that waits.
#[derive(Debug)]
pub enum Piece<'a> {
    Bytes(&'a [u8]),
    File { file: &'a Arc<File>, offset: u64, length: u64 },
}

#[derive(Debug)]
enum Queued {
    /// So many bytes of `copied`.
    Copied(usize),
    Shared(Bytes),
    File {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
}

/// A queue of bytes to write. Small pieces are copied into one buffer that is kept, so that a usual response costs no
/// allocation and one write.
#[derive(Debug, Default)]
pub struct Output {
    /// Everything before `written` has been written.
    copied: Vec<u8>,
    written: usize,
    queue: VecDeque<Queued>,
    bytes: u64,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// One piece waits, and no other behind it.
    pub fn is_single(&self) -> bool {
        self.queue.len() == 1
    }

    /// Bytes that wait, those in files included.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Appends a copy.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.copy_with(|copied| copied.extend_from_slice(bytes));
    }

    /// Appends what `append` appends to the buffer it is given: many small pieces cost less so.
    pub fn copy_with(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let before = self.copied.len();
        append(&mut self.copied);
        let more = self.copied.len().saturating_sub(before);
        if more == 0 {
            return;
        }
        self.bytes += more as u64;
        match self.queue.back_mut() {
            Some(Queued::Copied(length)) => *length += more,
            _ => self.queue.push_back(Queued::Copied(more)),
        }
    }

    /// Overwrites bytes that were appended by [`copy`](Self::copy): those that begin `from_end` bytes before the end of
    /// what waits. False, and nothing changes, unless all from there to the end still waits and was copied. A record
    /// can so grow after its header was appended, as long as no byte of it has been written.
    #[must_use]
    pub fn amend(&mut self, from_end: usize, bytes: &[u8]) -> bool {
        match self.queue.back() {
            Some(&Queued::Copied(length)) if from_end <= length && bytes.len() <= from_end => {
                let start = self.copied.len() - from_end;
                self.copied[start..start + bytes.len()].copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }

    /// Appends without a copy, where that pays.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_FROM_BYTES {
            return self.copy(&bytes);
        }
        self.bytes += bytes.len() as u64;
        self.queue.push_back(Queued::Shared(bytes));
    }

    /// Appends a piece of a file.
    pub fn file(&mut self, file: Arc<File>, offset: u64, length: u64) {
        if length > 0 {
            self.bytes += length;
            self.queue.push_back(Queued::File { file, offset, length });
        }
    }

    /// The piece to write next.
    pub fn front(&self) -> Option<Piece<'_>> {
        Some(match self.queue.front()? {
            Queued::Copied(length) => Piece::Bytes(&self.copied[self.written..self.written + length]),
            Queued::Shared(bytes) => Piece::Bytes(bytes),
            Queued::File { file, offset, length } => Piece::File { file, offset: *offset, length: *length },
        })
    }

    /// Fills `slices` with the pieces in memory that come next, up to the first piece of a file; the number filled, and
    /// whether a piece of a file follows them.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, bool) {
        let mut copied = self.written;
        let mut filled = 0;
        for (slot, queued) in slices.iter_mut().zip(&self.queue) {
            *slot = match queued {
                Queued::Copied(length) => {
                    copied += length;
                    IoSlice::new(&self.copied[copied - length..copied])
                }
                Queued::Shared(bytes) => IoSlice::new(bytes),
                Queued::File { .. } => break,
            };
            filled += 1;
        }
        (filled, matches!(self.queue.get(filled), Some(Queued::File { .. })))
    }

    /// `count` bytes from the front have been written.
    pub fn consume(&mut self, count: u64) {
        let mut left = count.min(self.bytes);
        self.bytes -= left;
        while left > 0 {
            let Some(front) = self.queue.front_mut() else { break };
            let available = match front {
                Queued::Copied(length) => *length as u64,
                Queued::Shared(bytes) => bytes.len() as u64,
                Queued::File { length, .. } => *length,
            };
            let taken = left.min(available);
            left -= taken;
            match front {
                Queued::Copied(length) => {
                    *length -= taken as usize;
                    self.written += taken as usize;
                }
                Queued::Shared(bytes) => drop(bytes.split_to(taken as usize)),
                Queued::File { offset, length, .. } => {
                    *offset += taken;
                    *length -= taken;
                }
            }
            if taken == available {
                self.queue.pop_front();
            }
        }
        if self.queue.is_empty() {
            self.reset();
        }
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
        self.reset();
    }

    fn reset(&mut self) {
        self.copied.clear();
        self.written = 0;
        // Ten thousand idle connections are to cost little: only a usual small response finds its buffer again.
        self.copied.shrink_to(KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(output: &mut Output, step: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = output.front() {
            let Piece::Bytes(bytes) = piece else { panic!("no file was queued") };
            let taken = bytes.len().min(step as usize);
            all.extend_from_slice(&bytes[..taken]);
            output.consume(taken as u64);
        }
        assert!(output.is_empty());
        assert_eq!(output.len(), 0);
        all
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_step() {
        for step in [1, 2, 7, 100_000] {
            let mut output = Output::default();
            output.copy(b"head ");
            output.copy(b"more ");
            output.share(Bytes::from(vec![b'x'; SHARE_FROM_BYTES]));
            output.copy(b" tail");
            let expected = [b"head more ".as_slice(), &vec![b'x'; SHARE_FROM_BYTES], b" tail"].concat();
            assert_eq!(output.len(), expected.len() as u64);
            assert_eq!(drained(&mut output, step), expected);
        }
    }

    #[test]
    fn only_copied_bytes_that_still_wait_can_be_amended() {
        let mut output = Output::default();
        assert!(!output.amend(0, b""), "nothing waits");
        output.copy(b"header");
        output.copy(b" content");
        assert!(output.amend(14, b"HEAD"));
        assert!(!output.amend(15, b"x"), "starts before the first byte");
        assert!(!output.amend(2, b"xyz"), "reaches past the end");
        output.consume(1);
        assert!(!output.amend(14, b"head"), "its first byte has been written");
        assert!(output.amend(13, b"ead"));
        output.share(Bytes::from(vec![b'x'; SHARE_FROM_BYTES]));
        assert!(!output.amend(4, b"xxxx"), "shared bytes are not ours");
        output.copy(b"after");
        assert!(output.amend(5, b"A"));
        assert!(!output.amend(6, b"A"), "its first byte is shared");
        let all = drained(&mut output, 1000);
        assert!(all.starts_with(b"eader contentx") && all.ends_with(b"xAfter"));
    }

    #[test]
    fn slices_stop_at_a_file() {
        let file = Arc::new(tempfile::tempfile().expect("a temporary file"));
        let mut output = Output::default();
        output.copy(b"head");
        output.share(Bytes::from(vec![b'x'; SHARE_FROM_BYTES]));
        output.copy(b"tail");
        output.file(file, 10, 20);
        output.copy(b"after");
        let mut slices = [IoSlice::new(b""); 8];
        assert_eq!(output.slices(&mut slices), (3, true));
        assert_eq!(&*slices[0], b"head");
        assert_eq!(&*slices[2], b"tail");
        output.consume(4 + SHARE_FROM_BYTES as u64 + 4 + 5);
        assert!(matches!(output.front(), Some(Piece::File { offset: 15, length: 15, .. })));
        output.consume(15);
        assert_eq!((output.slices(&mut [IoSlice::new(b"")]), output.is_single()), ((1, false), true));
        assert!(matches!(output.front(), Some(Piece::Bytes(b"after"))));
    }
}
