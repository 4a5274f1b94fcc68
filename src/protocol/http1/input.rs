//! Bytes that came and were not parsed yet.

use bytes::{Buf, Bytes};

/// A drained buffer up to this size is kept for the next request: the usual head then costs no allocation. A larger one
/// is given back, so that idle connections cost next to nothing.
const KEPT_BYTES: usize = 4 * 1024;

/// Pieces of a body from this size on leave as the buffer itself, without a copy.
const TAKEN_FROM_BYTES: usize = 4 * 1024;

#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Everything before it has been parsed.
    start: usize,
    /// Where in the connection's input the unread bytes begin.
    offset: u64,
}

impl Input {
    pub fn push(&mut self, bytes: &[u8]) {
        // Moving the unread bytes pays only when at least as many have been parsed since the last move.
        let lacks_room = self.bytes.capacity() - self.bytes.len() < bytes.len();
        if lacks_room && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The first `count` unread bytes have been parsed.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.len());
        self.start += count;
        self.offset += count as u64;
        if self.is_empty() {
            self.release();
        }
    }

    /// `count` bytes that followed were read elsewhere; nothing is unread.
    pub fn pass(&mut self, count: u64) {
        self.offset += count;
    }

    /// Consumes up to `count` bytes and hands them out.
    pub fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.len());
        if count < TAKEN_FROM_BYTES || count < self.len() / 2 {
            let taken = Bytes::copy_from_slice(&self.unread()[..count]);
            self.consume(count);
            return taken;
        }
        let mut taken = Bytes::from(std::mem::take(&mut self.bytes));
        taken.advance(std::mem::take(&mut self.start));
        let rest = taken.split_off(count);
        self.bytes.extend_from_slice(&rest);
        self.offset += count as u64;
        taken
    }

    /// Forgets everything: no further byte of this connection will be parsed.
    pub fn discard(&mut self) {
        self.offset += self.len() as u64;
        self.bytes = Vec::new();
        self.start = 0;
    }

    fn release(&mut self) {
        self.start = 0;
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        for step in [1, 3, 5000, 9000] {
            let all: Vec<u8> = (0..40_000u32).map(|number| number as u8).collect();
            let mut input = Input::default();
            let mut left = Vec::new();
            for piece in all.chunks(7000) {
                input.push(piece);
                left.extend_from_slice(&input.take(step));
                left.extend(input.unread().first());
                input.consume(1);
            }
            while !input.is_empty() {
                left.extend_from_slice(&input.take(step));
            }
            assert!(left == all, "step {step}");
            assert_eq!(input.offset(), all.len() as u64);
        }
    }

    #[test]
    fn a_drained_buffer_keeps_little_memory() {
        let mut input = Input::default();
        input.push(&[b'x'; 100_000]);
        input.consume(100_000);
        assert_eq!(input.bytes.capacity(), 0);
        input.push(b"GET / HTTP/1.1\r\n");
        let before = input.bytes.capacity();
        input.consume(16);
        input.push(b"GET / HTTP/1.1\r\n");
        assert_eq!(input.bytes.capacity(), before, "a small buffer is used again");
    }
}
