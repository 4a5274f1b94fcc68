//! Any bytes, in any split, give events: never a panic or an error, never events out of order, never more memory than the
//! limits allow, and every split gives the same events.

#![no_main]

#[path = "../common.rs"]
mod common;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forkhorn::protocol::http1::Connection;
use forkhorn::protocol::{BodyLength, Event, Limits, Piece, RequestId, ResponseHead, ResponsePart};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_head_bytes: 256,
    max_fields: 8,
    max_uri_bytes: 32,
    max_body_bytes: 128,
    max_requests: 1,
    head_timeout: Duration::from_secs(1),
    body_timeout: Duration::from_secs(2),
    min_rate: NonZeroU64::new(7),
    keep_alive_timeout: Duration::from_secs(3),
};

/// Twice what a connection reads ahead (buffers grow by doubling), and the small change of one request.
const MOST_HELD_BYTES: usize = 2 * (64 * 1024 + 256) + 16 * 1024;

/// How often a stream is fed again to see that memory stays bounded.
const REPEATED_BYTES: usize = 256 * 1024;

// The first two bytes choose the split and the caller's manners, the rest is the peer's.
fuzz_target!(|data: &[u8]| {
    let [step, manners, stream @ ..] = data else { return };
    let step = usize::from(*step) + 1;
    let whole = watch(stream, stream.len().max(1));
    assert_eq!(whole, watch(stream, step), "the split of the input changed its events");
    serve(stream, step, Manners(*manners));
});

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request(RequestId, Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, BodyLength),
    Body(RequestId, Vec<u8>),
    BodyEnd(RequestId),
    Abort(RequestId),
    Reject(RequestId, u16),
    Closed,
}

/// The events of a stream whose requests are answered when they are complete, pieces of a body joined.
fn watch(stream: &[u8], step: usize) -> Vec<Seen> {
    let now = Instant::now();
    let mut connection = Connection::new(Arc::new(LIMITS), now);
    let mut order = Order::default();
    let mut seen = Vec::new();
    for piece in stream.chunks(step) {
        connection.receive(piece, now);
        poll(&mut connection, |connection, event| {
            order.check(&event);
            if let Event::BodyEnd { id } | Event::Reject { id, .. } = event {
                answer(connection, id, Manners(0), now);
            }
            join(&mut seen, event);
        });
    }
    if connection.wants_close() {
        seen.push(Seen::Closed);
    }
    connection.receive_eof();
    poll(&mut connection, |_, event| {
        order.check(&event);
        join(&mut seen, event);
    });
    assert!(connection.wants_close(), "the end of the input ends the connection");
    seen
}

fn poll(connection: &mut Connection, mut each: impl FnMut(&mut Connection, Event)) {
    while let Some(event) = connection.poll_event().expect("what the peer does wrong is an event") {
        each(connection, event);
    }
}

fn join(seen: &mut Vec<Seen>, event: Event) {
    let event = match event {
        Event::Request { id, head } => {
            let fields = head.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            Seen::Request(id, head.target().unwrap_or_default().to_vec(), fields, head.body)
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

/// How a caller treats its connection.
#[derive(Clone, Copy)]
struct Manners(u8);

impl Manners {
    fn has(self, bit: u8) -> bool {
        self.0 >> bit & 1 != 0
    }

    fn answers_early(self) -> bool {
        self.has(0)
    }

    fn forgets_the_end(self) -> bool {
        self.has(1)
    }

    fn knows_the_length(self) -> bool {
        self.has(2)
    }

    fn breaks_off(self) -> bool {
        self.has(3)
    }

    fn is_slow(self) -> bool {
        self.has(4)
    }

    fn drains(self) -> bool {
        self.has(5)
    }

    fn repeats(self) -> bool {
        self.has(6)
    }

    fn says_no_body(self) -> bool {
        self.has(7)
    }
}

/// Answers in the way that `manners` says, while memory is counted.
fn serve(stream: &[u8], step: usize, manners: Manners) {
    let mut now = Instant::now();
    let held_before = common::held();
    let mut connection = Connection::new(Arc::new(LIMITS), now);
    let mut order = Order::default();
    let rounds = if manners.repeats() { REPEATED_BYTES / stream.len().max(1) } else { 1 };
    for piece in (0..rounds).flat_map(|_| stream.chunks(step)) {
        if !connection.wants_input() {
            break;
        }
        connection.receive(piece, now);
        poll(&mut connection, |connection, event| {
            order.check(&event);
            match event {
                Event::Request { id, head } => {
                    connection.recycle(head);
                    if manners.answers_early() {
                        answer(connection, id, manners, now);
                    }
                }
                Event::BodyEnd { id } | Event::Reject { id, .. } => answer(connection, id, manners, now),
                Event::Body { .. } | Event::Abort { .. } => {}
            }
        });
        write(&mut connection);
        let held = common::held().saturating_sub(held_before);
        assert!(held <= MOST_HELD_BYTES + 2 * step, "{held} bytes are held");
        if manners.is_slow()
            && let Some(deadline) = connection.deadline()
        {
            now = now.max(deadline);
            connection.on_deadline(now);
        }
    }
    if manners.drains() {
        connection.drain();
        assert!(!connection.is_idle(), "an idle connection is closed");
    }
    connection.receive_eof();
    poll(&mut connection, |_, event| order.check(&event));
    assert!(!connection.wants_input() && !connection.wants_linger());
}

fn answer(connection: &mut Connection, id: RequestId, manners: Manners, now: Instant) {
    let mut head = ResponseHead::new(200);
    head.has_body = !manners.says_no_body();
    head.content_length = manners.knows_the_length().then_some(8);
    connection.send(id, ResponsePart::Head(&head), now);
    connection.send(id, ResponsePart::Body(b"body"), now);
    connection.send(id, ResponsePart::Body(b""), now);
    connection.send(id, ResponsePart::Body(b"more"), now);
    match (manners.breaks_off(), manners.forgets_the_end()) {
        (true, _) => connection.send(id, ResponsePart::Broken, now),
        (false, true) => {}
        (false, false) => connection.send(id, ResponsePart::End, now),
    }
}

fn write(connection: &mut Connection) {
    let output = connection.output();
    while let Some(Piece::Bytes(bytes)) = output.front() {
        let count = bytes.len() as u64;
        output.consume(count);
    }
}

/// The order that `Event` promises; one request at a time, whose id is never that of an earlier one.
#[derive(Default)]
struct Order {
    next: u32,
    /// The request under way, and bytes of its body that may still come.
    open: Option<(RequestId, u64)>,
    over: bool,
}

impl Order {
    fn check(&mut self, event: &Event) {
        assert!(!self.over, "nothing follows an abort or a rejection");
        match event {
            Event::Request { id, head } => {
                assert!(id.0 >= self.next);
                self.next = id.0 + 1;
                assert!(head.target().is_some_and(|target| target.len() <= LIMITS.max_uri_bytes));
                let length = common::longest_body(head, &LIMITS);
                self.open = Some((*id, length));
            }
            Event::Body { id, chunk } => {
                let (open, left) = self.open.as_mut().expect("a body has a request");
                assert!(open == id && !chunk.is_empty());
                *left = left.checked_sub(chunk.len() as u64).expect("no more than was announced");
            }
            Event::BodyEnd { id } => {
                let (open, left) = self.open.as_mut().expect("the end of a body has a request");
                assert!(open == id);
                *left = 0;
            }
            Event::Abort { .. } | Event::Reject { .. } => self.over = true,
        }
    }
}
