//! Tests of the whole connection, and the transcript that they read.

mod deadlines;
mod fixtures;
mod repeats;
mod requests;
mod responses;
mod suspend;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use super::Connection;
use crate::protocol::{Event, Limits, Piece, RequestHead, RequestId, ResponseHead, ResponsePart, Version};

/// A connection, the clock it is told, and what happened so far in words.
pub(super) struct Peer {
    pub connection: Connection,
    pub now: Instant,
    /// Answer each request at its end, and each Reject, with an empty response.
    pub answers: bool,
    transcript: String,
    in_body: bool,
    output: Vec<u8>,
}

impl Peer {
    pub fn new(limits: Limits) -> Peer {
        let now = Instant::now();
        Peer {
            connection: Connection::new(Arc::new(limits), now),
            now,
            answers: true,
            transcript: String::new(),
            in_body: false,
            output: Vec::new(),
        }
    }

    /// A peer whose requests the test answers itself.
    pub fn unanswered(limits: Limits) -> Peer {
        Peer { answers: false, ..Peer::new(limits) }
    }

    pub fn feed(&mut self, bytes: &[u8]) -> &mut Peer {
        self.connection.receive(bytes, self.now);
        self.poll()
    }

    pub fn feed_in_steps(&mut self, bytes: &[u8], step: usize) -> &mut Peer {
        for piece in bytes.chunks(step.max(1)) {
            self.feed(piece);
        }
        self
    }

    pub fn eof(&mut self) -> &mut Peer {
        self.connection.receive_eof();
        self.poll()
    }

    pub fn poll(&mut self) -> &mut Peer {
        loop {
            let may_have_event = self.connection.may_have_event();
            let before = self.connection.output().len();
            let Some(event) = self.connection.poll_event().expect("poll_event never fails") else {
                assert!(may_have_event || self.connection.output().len() == before);
                return self;
            };
            assert!(may_have_event, "{event:?} comes although none was expected");
            self.note(event);
        }
    }

    fn note(&mut self, event: Event) {
        if self.in_body && !matches!(event, Event::Body { .. }) {
            self.transcript.push_str("\"\n");
            self.in_body = false;
        }
        match event {
            Event::Request { head, .. } => {
                self.transcript.push_str(&describe(&head));
                self.connection.recycle(head);
            }
            Event::Body { chunk, .. } => {
                assert!(!chunk.is_empty(), "a piece of a body is never empty");
                if !std::mem::replace(&mut self.in_body, true) {
                    self.transcript.push_str("body \"");
                }
                write!(self.transcript, "{}", chunk.escape_ascii()).expect("a string");
            }
            Event::BodyEnd { id } => {
                self.transcript.push_str("end\n");
                self.answer(id, 200);
            }
            Event::Abort { .. } => self.transcript.push_str("abort\n"),
            Event::Reject { id, error } => {
                writeln!(self.transcript, "reject {} {}", error.status(), error.reason()).expect("a string");
                self.answer(id, error.status());
            }
        }
    }

    fn answer(&mut self, id: RequestId, status: u16) {
        if self.answers {
            let mut head = ResponseHead::new(status);
            head.content_length = Some(0);
            self.connection.send(id, ResponsePart::Head(&head), self.now);
            self.connection.send(id, ResponsePart::End, self.now);
        }
    }

    /// A part of the response to the request under way.
    pub fn send(&mut self, part: ResponsePart<'_>) -> &mut Peer {
        let id = self.connection.id;
        self.connection.send(id, part, self.now);
        self
    }

    /// All that was written since the last call.
    pub fn written(&mut self) -> Vec<u8> {
        let output = self.connection.output();
        while let Some(piece) = output.front() {
            let length = match piece {
                Piece::Bytes(bytes) => {
                    self.output.extend_from_slice(bytes);
                    bytes.len() as u64
                }
                Piece::File { offset, length, .. } => {
                    self.output.extend_from_slice(format!("<file {offset} {length}>").as_bytes());
                    length
                }
            };
            output.consume(length);
        }
        std::mem::take(&mut self.output)
    }

    /// The events so far, one a line, and in the last line the state of the connection.
    pub fn transcript(&self) -> String {
        let mut transcript = self.transcript.clone();
        if self.in_body {
            transcript.push_str("\"\n");
        }
        transcript.push_str(self.state());
        transcript.push('\n');
        transcript
    }

    pub fn state(&self) -> &'static str {
        match &self.connection {
            connection if connection.wants_reset() => "reset",
            connection if connection.wants_linger() => "linger",
            connection if connection.wants_close() => "close",
            connection if connection.is_between_requests() => "idle",
            _ => "waiting",
        }
    }
}

fn describe(head: &RequestHead) -> String {
    let line = head.line.expect("HTTP has a request line");
    let version = match line.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let method = line.method.of(&head.bytes).escape_ascii();
    let mut text = format!("request {method} {} {version}\n", line.target.of(&head.bytes).escape_ascii());
    for (name, value) in head.iter() {
        writeln!(text, "  {}: {}", name.escape_ascii(), value.escape_ascii()).expect("a string");
    }
    text
}

/// The transcript of `bytes`, which must be the same however they are split. Only whether a closing connection should
/// linger depends on when the bytes came, so `close` stands for both.
pub(super) fn transcript(bytes: &[u8], limits: &Limits) -> String {
    let mut whole = Peer::new(limits.clone());
    let plain = |peer: &mut Peer| peer.transcript().replace("\nlinger\n", "\nclose\n");
    let expected = plain(whole.feed(bytes));
    for step in [1, 2, 3, 7, 64] {
        let mut split = Peer::new(limits.clone());
        let found = plain(split.feed_in_steps(bytes, step));
        assert_eq!(found, expected, "{:?} in steps of {step}", bytes.escape_ascii().to_string());
    }
    for at in 1..bytes.len().min(200) {
        let mut split = Peer::new(limits.clone());
        let found = plain(split.feed(&bytes[..at]).feed(&bytes[at..]));
        assert_eq!(found, expected, "{:?} split at {at}", bytes.escape_ascii().to_string());
    }
    expected
}
