//! Tests of the connection. Records are encoded here by hand, so that an error of the codec can't hide another.

mod answers;
mod deadlines;
mod input;
mod repeats;
mod suspend;
mod web_servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Connection;
use super::request::wire_id;
use crate::protocol::{
    BodyAhead, BodyLength, Event, Limits, Piece, ProtocolError, RequestId, ResponseHead, ResponsePart,
};

/// An event without its serial number, for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Request(u16, Vec<(String, String)>, BodyLength),
    Body(u16, Vec<u8>),
    BodyEnd(u16),
    Abort(u16),
    Reject(u16, u16),
    /// The connection is of no more use.
    Error(u16),
}

fn record(record_type: u8, id: u16, content: &[u8]) -> Vec<u8> {
    padded(record_type, id, content, 0)
}

/// The padding looks like the beginning of a request: it must never be read as one.
fn padded(record_type: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let [length_high, length_low] = (content.len() as u16).to_be_bytes();
    let mut bytes = vec![1, record_type, high, low, length_high, length_low, padding, 0];
    bytes.extend_from_slice(content);
    let forged = [1, 1, high, low, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0];
    bytes.extend(forged.iter().cycle().take(padding.into()));
    bytes
}

fn begin(id: u16, keep_conn: bool) -> Vec<u8> {
    record(1, id, &[0, 1, keep_conn.into(), 0, 0, 0, 0, 0])
}

fn abort(id: u16) -> Vec<u8> {
    record(2, id, b"")
}

/// The whole stream in one record, and its end.
fn params(id: u16, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (name, value) in pairs {
        for length in [name.len(), value.len()] {
            assert!(length < 128, "this helper makes short pairs");
            stream.push(length as u8);
        }
        stream.extend_from_slice(name.as_bytes());
        stream.extend_from_slice(value.as_bytes());
    }
    let mut bytes = if stream.is_empty() { Vec::new() } else { record(4, id, &stream) };
    bytes.extend(record(4, id, b""));
    bytes
}

/// STDIN in one record, or its end if `bytes` is empty.
fn stdin(id: u16, bytes: &[u8]) -> Vec<u8> {
    record(5, id, bytes)
}

/// A request without a body, on a kept connection.
fn get(id: u16) -> Vec<u8> {
    [begin(id, true), params(id, &[("M", "GET")]), stdin(id, b"")].concat()
}

fn got(id: u16) -> [Seen; 2] {
    [request(id, &[("M", "GET")], BodyLength::None), Seen::BodyEnd(id)]
}

fn request(id: u16, pairs: &[(&str, &str)], body: BodyLength) -> Seen {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Seen::Request(id, pairs, body)
}

fn body(id: u16, bytes: &[u8]) -> Seen {
    Seen::Body(id, bytes.to_vec())
}

fn limits() -> Limits {
    Limits {
        max_head_bytes: 200,
        max_fields: 5,
        max_uri_bytes: 20,
        max_body_bytes: 50,
        max_requests: 3,
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(20),
        min_rate: None,
        keep_alive_timeout: Duration::from_secs(30),
    }
}

/// A connection, its time, and what has been seen of it.
struct Peer {
    connection: Connection,
    start: Instant,
    now: Instant,
    ids: Vec<RequestId>,
}

impl Peer {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        Peer { connection: Connection::new(Arc::new(limits), now), start: now, now, ids: Vec::new() }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    /// Feeds bytes `step` at a time and polls after each step. Pieces of a body are joined.
    fn feed(&mut self, bytes: &[u8], step: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            self.connection.receive(piece, self.now);
            self.poll(&mut seen);
        }
        seen
    }

    /// As [`feed`](Self::feed), but bytes of a body do not pass through the connection where it says that they need not.
    fn feed_beside(&mut self, bytes: &[u8], step: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        for mut piece in bytes.chunks(step.max(1)) {
            while !piece.is_empty() {
                let Some(ahead) = self.connection.body_ahead() else {
                    // At most a header at once: what comes behind it may be a body.
                    let count = piece.len().min(8);
                    seen.extend(self.feed_whole(&piece[..count]));
                    piece = &piece[count..];
                    continue;
                };
                let count = piece.len().min(ahead.run as usize);
                self.connection.body_received(count as u64, self.now);
                seen.push(body(wire_id(ahead.id), &piece[..count]));
                piece = &piece[count..];
                self.poll(&mut seen);
            }
        }
        seen.into_iter().fold(Vec::new(), |mut all, event| {
            match (all.last_mut(), event) {
                (Some(Seen::Body(id, whole)), Seen::Body(next, more)) if *id == next => whole.extend(more),
                (Some(Seen::Error(before)), Seen::Error(again)) if *before == again => {}
                (_, event) => all.push(event),
            }
            all
        })
    }

    fn feed_whole(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.feed(bytes, bytes.len())
    }

    fn poll(&mut self, seen: &mut Vec<Seen>) {
        loop {
            match self.connection.poll_event() {
                Ok(Some(event)) => {
                    let event = self.see(event);
                    match (seen.last_mut(), event) {
                        (Some(Seen::Body(id, all)), Seen::Body(next, more)) if *id == next => {
                            all.extend(more)
                        }
                        (_, event) => seen.push(event),
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(self.connection.wants_close());
                    if !matches!(seen.last(), Some(Seen::Error(_))) {
                        seen.push(Seen::Error(error.status()));
                    }
                    break;
                }
            }
        }
    }

    fn see(&mut self, event: Event) -> Seen {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match event {
            Event::Request { id, head } => {
                self.ids.push(id);
                let pairs = head.iter().map(|(name, value)| (text(name), text(value))).collect();
                let seen = Seen::Request(wire_id(id), pairs, head.body);
                self.connection.recycle(head);
                seen
            }
            Event::Body { id, chunk } => {
                assert!(!chunk.is_empty());
                Seen::Body(wire_id(id), chunk.to_vec())
            }
            Event::BodyEnd { id } => Seen::BodyEnd(wire_id(id)),
            Event::Abort { id } => Seen::Abort(wire_id(id)),
            Event::Reject { id, error } => {
                self.ids.push(id);
                Seen::Reject(wire_id(id), error.status())
            }
        }
    }

    /// The last request with this number.
    fn id(&self, wire: u16) -> RequestId {
        *self.ids.iter().rev().find(|id| wire_id(**id) == wire).expect("a request with this number was seen")
    }

    fn send(&mut self, wire: u16, part: ResponsePart<'_>) {
        let id = self.id(wire);
        self.connection.send(id, part, self.now);
    }

    fn answer(&mut self, wire: u16, status: u16, body: &[u8]) {
        self.send(wire, ResponsePart::Head(&ResponseHead::new(status)));
        self.send(wire, ResponsePart::Body(body));
        self.send(wire, ResponsePart::End);
    }

    fn written(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let output = self.connection.output();
        while let Some(piece) = output.front() {
            let Piece::Bytes(bytes) = piece else { panic!("no file was sent") };
            all.extend_from_slice(bytes);
            let count = bytes.len() as u64;
            output.consume(count);
        }
        all
    }
}

fn end_request(id: u16, app_status: u8, protocol_status: u8) -> Vec<u8> {
    record(3, id, &[0, 0, 0, app_status, protocol_status, 0, 0, 0])
}

fn small_answer(id: u16, content: &[u8]) -> Vec<u8> {
    [record(6, id, content), record(6, id, b""), end_request(id, 0, 0)].concat()
}

#[test]
fn errors_are_the_same_each_time_they_are_asked_for() {
    let mut peer = Peer::new(limits());
    peer.connection.receive(b"GET / HTTP/1.1\r\n", peer.now);
    let expected = ProtocolError::new(400, "FastCGI record version is not 1").at(0);
    for _ in 0..2 {
        assert_eq!(peer.connection.poll_event().expect_err("not FastCGI"), expected);
    }
    assert!(peer.connection.wants_close());
    assert_eq!(peer.feed_whole(&get(1)), [Seen::Error(400)]);
}
