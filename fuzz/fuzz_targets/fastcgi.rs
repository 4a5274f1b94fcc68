//! Any bytes, in any split, give events or a `ProtocolError`: never a panic, never events out of order, never more memory
//! than the limits allow, and every split gives the same events.

#![no_main]

#[path = "../common.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forkhorn::protocol::fastcgi::{Connection, client};
use forkhorn::protocol::{BodyLength, Event, Limits, Piece, RequestId, ResponseHead, ResponsePart};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_head_bytes: 256,
    max_fields: 8,
    max_uri_bytes: 32,
    max_body_bytes: 128,
    max_requests: 4,
    head_timeout: Duration::from_secs(1),
    body_timeout: Duration::from_secs(2),
    min_rate: NonZeroU64::new(7),
    keep_alive_timeout: Duration::from_secs(3),
};

/// What a connection may hold by these limits: buffers grow by doubling, and requests, events and unsent refusals have
/// their own share.
const MOST_HELD_BYTES: usize = 64 * 1024;

/// The bits of the manners that say how answers end: BROKEN of them breaks off, all of them leave it open.
const ENDING: u8 = 0x18;
const BROKEN: u8 = 0x10;

// The first two bytes choose the split and the caller's manners, the rest is the peer's.
fuzz_target!(|data: &[u8]| {
    let [step, manners, stream @ ..] = data else { return };
    let step = usize::from(*step) + 1;
    let whole = watch(stream, stream.len().max(1));
    assert_eq!(whole, watch(stream, step), "the split of the input changed its events");
    serve(stream, step, *manners);
});

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request(RequestId, Vec<(Vec<u8>, Vec<u8>)>, BodyLength),
    Body(RequestId, Vec<u8>),
    BodyEnd(RequestId),
    Abort(RequestId),
    Reject(RequestId, u16),
    Error(u16),
}

/// The events of a stream that nobody answers, pieces of a body joined, and what the protocol answers by itself.
fn watch(stream: &[u8], step: usize) -> (Vec<Seen>, Vec<u8>) {
    let now = Instant::now();
    let mut connection = Connection::new(Arc::new(LIMITS), now);
    let mut order = Order::default();
    let (mut seen, mut written) = (Vec::new(), Vec::new());
    'stream: for piece in stream.chunks(step) {
        connection.receive(piece, now);
        loop {
            match connection.poll_event() {
                Ok(Some(event)) => {
                    order.check(&event);
                    join(&mut seen, event);
                }
                Ok(None) => break,
                Err(error) => {
                    seen.push(Seen::Error(error.status()));
                    assert!(connection.wants_close());
                    break 'stream;
                }
            }
        }
        drain(&mut connection, &mut written);
    }
    drain(&mut connection, &mut written);
    (seen, written)
}

fn join(seen: &mut Vec<Seen>, event: Event) {
    let event = match event {
        Event::Request { id, head } => {
            let pairs = head.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            Seen::Request(id, pairs, head.body)
        }
        Event::Body { id, chunk } => Seen::Body(id, chunk.to_vec()),
        Event::BodyEnd { id } => Seen::BodyEnd(id),
        Event::Abort { id } => Seen::Abort(id),
        Event::Reject { id, error } => Seen::Reject(id, error.status()),
    };
    match (seen.last_mut(), event) {
        (Some(Seen::Body(id, all)), Seen::Body(next, more)) if *id == next => all.extend(more),
        (_, event) => seen.push(event),
    }
}

/// Answers requests in the way that `manners` says, while memory is counted, and reads the answers as a web server does.
fn serve(stream: &[u8], step: usize, manners: u8) {
    let begun = Instant::now();
    let mut now = begun;
    let mut connection = Connection::new(Arc::new(LIMITS), now);
    let mut order = Order::default();
    let mut answers = client::Decoder::default();
    let held_before = common::held();
    for piece in stream.chunks(step) {
        connection.receive(piece, now);
        loop {
            match connection.poll_event() {
                Ok(Some(event)) => {
                    order.check(&event);
                    answer(&mut connection, event, manners, now);
                }
                Ok(None) => break,
                Err(_) => return assert!(connection.wants_close()),
            }
        }
        let mut written = Vec::new();
        drain(&mut connection, &mut written);
        answers.receive(&written);
        let ends_with_zeros = written.ends_with(&[0; 8]);
        drop(written);
        loop {
            match answers.poll_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // A header of no version breaks an answer off where the end of the connection would not.
                Err(error) => {
                    let is_broken = manners & ENDING == BROKEN && ends_with_zeros;
                    return assert!(
                        is_broken && connection.wants_close(),
                        "answers are valid records: {error}"
                    );
                }
            }
        }
        assert!(answers.is_between_records(), "output holds whole records");
        let held = common::held().saturating_sub(held_before);
        assert!(held <= MOST_HELD_BYTES + 2 * step, "{held} bytes are held");
        if manners & 0x40 != 0
            && let Some(deadline) = connection.deadline()
        {
            now = now.max(deadline);
            connection.on_deadline(now);
        }
    }
    if manners & 0x80 != 0 {
        connection.drain();
    }
    connection.receive_eof();
    while let Ok(Some(event)) = connection.poll_event() {
        order.check(&event);
    }
    assert!(connection.wants_close(), "the end of the input ends the connection");
}

fn answer(connection: &mut Connection, event: Event, manners: u8, now: Instant) {
    let (id, is_complete) = match event {
        Event::Request { id, head } => {
            connection.recycle(head);
            (id, false)
        }
        Event::BodyEnd { id } | Event::Reject { id, .. } => (id, true),
        Event::Body { id, .. } | Event::Abort { id } => (id, false),
    };
    if !is_complete && manners & 1 != 0 {
        return;
    }
    let mut head = ResponseHead::new(200);
    head.has_body = manners & 2 == 0;
    connection.send(id, ResponsePart::Head(&head), now);
    connection.send(id, ResponsePart::Body(b"body"), now);
    if manners & 4 != 0 {
        connection.send_stderr(id, b"trouble");
    }
    connection.send(id, ResponsePart::Body(b"more"), now);
    match manners & ENDING {
        BROKEN => connection.send(id, ResponsePart::Broken, now),
        ENDING => {}
        _ => connection.send(id, ResponsePart::End, now),
    }
}

fn drain(connection: &mut Connection, written: &mut Vec<u8>) {
    let output = connection.output();
    while let Some(Piece::Bytes(bytes)) = output.front() {
        written.extend_from_slice(bytes);
        let count = bytes.len() as u64;
        output.consume(count);
    }
}

/// The order that `Event` promises.
#[derive(Default)]
struct Order {
    /// Bytes of the body that may still come.
    open: BTreeMap<RequestId, u64>,
    over: BTreeSet<RequestId>,
}

impl Order {
    fn check(&mut self, event: &Event) {
        match event {
            Event::Request { id, head } => {
                assert!(!self.over.contains(id));
                let length = common::longest_body(head, &LIMITS);
                assert!(self.open.insert(*id, length).is_none());
            }
            Event::Body { id, chunk } => {
                let left = self.open.get_mut(id).expect("a body has a request");
                assert!(!chunk.is_empty());
                *left = left.checked_sub(chunk.len() as u64).expect("no more than was announced");
            }
            Event::BodyEnd { id } => {
                assert!(self.open.remove(id).is_some());
                self.open.insert(*id, 0);
            }
            Event::Abort { id } | Event::Reject { id, .. } => {
                self.open.remove(id);
                assert!(self.over.insert(*id), "nothing follows an abort or a rejection");
            }
        }
    }
}
