//! A script's standard error output on its way to the log: line by line, bounded, unable to forge lines of its own.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};

use bytes::Bytes;

use super::label::Label;
use super::output::{Output, Read};
use crate::printable::printable;

/// A longer line is cut into lines of this length.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// Logged of one script; what comes after is read and dropped.
const MAX_LOGGED_BYTES: usize = 1024 * 1024;
/// Kept of the last output, for the report of a failure.
const TAIL_BYTES: usize = 4 * 1024;
/// Reads in a row, before the other scripts and connections have their turn.
const MAX_READS: usize = 4;
/// Waiting for the web server, if it wants them.
const MAX_EVENT_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Stderr {
    pipe: Output,
    /// Begins every line in the log.
    label: Label,
    line: Vec<u8>,
    logged_bytes: usize,
    tail: Vec<u8>,
    events: Option<VecDeque<Bytes>>,
    event_bytes: usize,
}

impl Stderr {
    /// `with_events`: [`next_event`](Self::next_event) gives the output again.
    pub fn new(pipe: OwnedFd, label: Label, with_events: bool) -> Self {
        Stderr {
            pipe: Output::new(pipe),
            label,
            line: Vec::new(),
            logged_bytes: 0,
            tail: Vec::new(),
            events: with_events.then(VecDeque::new),
            event_bytes: 0,
        }
    }

    /// The script's process is known now.
    pub fn rename(&mut self, script: &str) {
        self.label.rename(script);
    }

    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.descriptor()
    }

    pub fn set_ready(&mut self) {
        self.pipe.set_ready();
    }

    /// There is more to read at once, though epoll won't say so again.
    pub fn is_ready(&self) -> bool {
        self.pipe.is_ready()
    }

    /// Reads until nothing waits, or for as long as is fair.
    pub fn read(&mut self) {
        for _ in 0..MAX_READS {
            match self.pipe.read() {
                Read::Bytes(bytes) => self.take(bytes),
                Read::Wait => return,
                Read::End => return self.flush(),
            }
        }
    }

    /// The script has ended: logs what it left, and closes the pipe.
    pub fn finish(&mut self) {
        self.pipe.end_after_what_waits();
        // A pipe holds no more than its capacity, so that this ends.
        while let Read::Bytes(bytes) = self.pipe.read() {
            self.take(bytes);
        }
        self.flush();
        self.pipe.close();
    }

    /// The last output, for the report of a failure.
    pub fn tail(&self) -> &[u8] {
        &self.tail[self.tail.len().saturating_sub(TAIL_BYTES)..]
    }

    pub fn next_event(&mut self) -> Option<Bytes> {
        let bytes = self.events.as_mut()?.pop_front()?;
        self.event_bytes -= bytes.len();
        Some(bytes)
    }

    fn take(&mut self, bytes: Bytes) {
        self.tail.extend_from_slice(&bytes);
        if self.tail.len() > 4 * TAIL_BYTES {
            self.tail.drain(..self.tail.len() - TAIL_BYTES);
        }
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.take_line(piece);
        }
        if let Some(events) = &mut self.events
            && self.event_bytes + bytes.len() <= MAX_EVENT_BYTES
        {
            self.event_bytes += bytes.len();
            events.push_back(bytes);
        }
    }

    /// A line with its end, or a part of one.
    fn take_line(&mut self, mut piece: &[u8]) {
        while self.line.len() + piece.len() > MAX_LINE_BYTES {
            let (begin, rest) = piece.split_at(MAX_LINE_BYTES.saturating_sub(self.line.len()));
            self.line.extend_from_slice(begin);
            self.flush();
            piece = rest;
        }
        self.line.extend_from_slice(piece);
        if self.line.ends_with(b"\n") {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let line = self.line.trim_ascii_end();
        if !line.is_empty() && self.logged_bytes <= MAX_LOGGED_BYTES {
            self.logged_bytes += line.len();
            log::warn!(target: "script", request:% = self.label.id; "{}: {}", self.label, printable(line, MAX_LINE_BYTES));
            if self.logged_bytes > MAX_LOGGED_BYTES {
                log::warn!(target: "script", request:% = self.label.id; "{}: has written {MAX_LOGGED_BYTES} bytes to its standard error; the rest is dropped", self.label);
            }
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::spawn::{pipe, set_nonblocking};

    fn stderr(with_events: bool) -> (File, Stderr) {
        let (read, write) = pipe().expect("a pipe");
        set_nonblocking(read.as_fd()).expect("ours");
        (write.into(), Stderr::new(read, Label::default(), with_events))
    }

    /// Writes in pieces, and reads each at once.
    fn feed(writer: &mut File, stderr: &mut Stderr, pieces: &[&[u8]]) {
        for piece in pieces {
            for chunk in piece.chunks(32 * 1024) {
                writer.write_all(chunk).expect("the pipe has room");
                stderr.set_ready();
                stderr.read();
                assert!(stderr.line.len() <= MAX_LINE_BYTES);
            }
        }
    }

    #[test]
    fn line_waits_for_its_end_and_a_long_one_does_not() {
        let (mut writer, mut stderr) = stderr(false);
        feed(&mut writer, &mut stderr, &[b"one ", b"line\ntwo"]);
        assert_eq!(stderr.line, b"two");
        assert_eq!(stderr.logged_bytes, "one line".len());
        feed(&mut writer, &mut stderr, &[&[b'x'; 3 * MAX_LINE_BYTES]]);
        assert_eq!(stderr.line.len(), "two".len());
        stderr.finish();
        assert_eq!(stderr.logged_bytes, "one line".len() + "two".len() + 3 * MAX_LINE_BYTES);
        assert!(stderr.line.is_empty() && stderr.descriptor().is_none());
    }

    #[test]
    fn what_is_logged_and_kept_is_bounded_and_the_tail_is_the_last() {
        let (mut writer, mut stderr) = stderr(false);
        for _ in 0..200 {
            feed(&mut writer, &mut stderr, &[&[b'x'; 16 * 1024], b"\n"]);
            assert!(stderr.tail.len() <= 4 * TAIL_BYTES + 64 * 1024);
        }
        feed(&mut writer, &mut stderr, &[b"the last words\n"]);
        assert!(stderr.logged_bytes <= MAX_LOGGED_BYTES + MAX_LINE_BYTES, "{}", stderr.logged_bytes);
        assert!(stderr.tail().ends_with(b"the last words\n"));
        assert_eq!(stderr.tail().len(), TAIL_BYTES);
    }

    #[test]
    fn events_repeat_the_output_within_bounds() {
        let (mut writer, mut stderr) = stderr(true);
        feed(&mut writer, &mut stderr, &[b"one\n", b"two"]);
        assert_eq!(stderr.next_event().as_deref(), Some(b"one\n".as_slice()));
        assert_eq!(stderr.next_event().as_deref(), Some(b"two".as_slice()));
        assert_eq!(stderr.next_event(), None);
        for _ in 0..100 {
            feed(&mut writer, &mut stderr, &[&[b'x'; 8 * 1024]]);
        }
        let waiting: usize = std::iter::from_fn(|| stderr.next_event()).map(|bytes| bytes.len()).sum();
        assert_eq!(waiting, MAX_EVENT_BYTES);
        feed(&mut writer, &mut stderr, &[b"again"]);
        assert_eq!(stderr.next_event().as_deref(), Some(b"again".as_slice()));
    }
}
