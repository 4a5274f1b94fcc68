//! Step 2, its reading side: bytes from the socket to the protocol, and those of a body right to their place.
//!
//! HTTP sends a body in one run. FastCGI divides it into records, whose headers stand between the runs; web servers make
//! all records of a body but the last equally long. So one read fills many runs, on the assumption that they go on as
//! they began, and then the headers are read and tell whether that was right. What was not where it was assumed to be
//! goes the usual way, through the protocol.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::protocol::{BodyAhead, RequestId};
use crate::scoreboard::Counter;
use crate::sys::MOST_RUNS;

use super::body::BodyBuffer;
use super::connection::Connection;
use super::core::Core;
use super::flight::{Flight, Step};

/// Read while a head is awaited. Short, so that a long body behind it is not read to a buffer and copied from there.
const HEAD_READ_BYTES: usize = 16 * 1024;

/// Bytes of a body that are read right to their place at once.
const LONGEST_DIRECT_READ: u64 = 1 << 20;

/// Shorter runs are cheaper to copy.
const SHORTEST_RUN: u64 = 2 * 1024;

/// A record's header and its padding, which makes its length a multiple of eight.
const LONGEST_GAP: usize = 16;

/// What is read behind the last run: in FastCGI the end of the body follows, and a read that finds less than it has room
/// for is known to have emptied the socket.
const TAIL_BYTES: usize = 64;

/// A read of so much tells of a sender on this machine, or as near: the next piece is a few microseconds away.
const MUCH_BYTES: usize = 32 * 1024;

/// So long the next piece is looked for before the worker sleeps: about what it takes to fall asleep and be woken.
const WORTH_A_LOOK: Duration = Duration::from_micros(15);

/// Pauses of the processor between two looks.
const PAUSES: usize = 16;

impl Connection {
    pub(super) fn read(&mut self, core: &mut Core) {
        if let Some(ahead) = self.protocol.body_ahead()
            && self.read_body(&ahead, core)
        {
            return;
        }
        let whole = core.read_buffer.len();
        // What is left of a request that has been answered is thrown away: in large pieces, as the peer may be waiting for
        // the end of it, and the connection closes two seconds later.
        let awaits_head = self.flights.is_empty() && self.is_open() && !self.protocol.awaits_rest();
        let most = if awaits_head { whole.min(HEAD_READ_BYTES) } else { whole };
        let Some(socket) = &mut self.socket else { return };
        let read = socket.read(&mut core.read_buffer[..most]);
        let count = self.note_read(read, most, core);
        if count > 0 && self.is_open() {
            self.protocol.receive(&core.read_buffer[..count], core.now);
        }
    }

    /// The peer may send no more of a request before it knows that what it has sent has come: Nagle's algorithm holds a
    /// short segment back as long as another one is not acknowledged (RFC 896). nginx does not switch it off, and writes
    /// the end of a body apart. The kernel, where it has seen questions and answers by turns, acknowledges after up to
    /// 40 ms, because an answer could take the acknowledgement along; but none will come before the rest has.
    pub(super) fn ask_for_rest(&mut self) {
        if !self.asked_for_rest
            && self.protocol.awaits_rest()
            && let Some(socket) = &self.socket
        {
            self.asked_for_rest = true;
            socket.acknowledge();
        }
    }

    /// False, and nothing is read: the body has to come the usual way.
    fn read_body(&mut self, ahead: &BodyAhead, core: &mut Core) -> bool {
        let Some(runs) = Runs::of(ahead) else { return false };
        let Some(body) = collected(&mut self.flights, ahead.id) else { return false };
        let (Some(room), Some(socket)) = (body.room(ahead.left, &core.keeping), &mut self.socket) else {
            return false;
        };
        let mut between = [0; LONGEST_GAP * MOST_RUNS + TAIL_BYTES];
        let between = &mut between[..runs.bytes_between()];
        let mut append = || socket.append_runs(room, runs.lengths(), (&mut *between, runs.gap));
        let read = if self.more_is_near { look_for_more(append) } else { append() };
        let most = runs.bytes() + between.len();
        let count = self.note_read(read, most, core);
        // Whoever sends to a worker that sleeps pays for waking it, and that with each piece: the next one is late then,
        // and finds it asleep again.
        self.more_is_near = count >= MUCH_BYTES && (count as u64) < ahead.left;
        self.readable |= self.more_is_near;
        self.place(ahead.id, runs.pieces(count), between, core);
        true
    }

    /// How many bytes there were.
    fn note_read(&mut self, read: io::Result<Option<usize>>, most: usize, core: &mut Core) -> usize {
        match read {
            Ok(Some(0)) => self.on_eof(core),
            Ok(Some(count)) => {
                core.board.add(Counter::BytesIn, count as u64);
                // Edge-triggered: a short read has emptied the socket, unless the end of the stream waits behind it.
                self.readable = count == most || self.half_closed_since().is_some();
                return count;
            }
            Ok(None) => self.readable = false,
            Err(error) => {
                log::debug!("{}: reading failed: {error}", self.peer());
                self.die(core);
            }
        }
        0
    }

    /// Tells the protocol what has been read, and gives it the bytes that are none of the body.
    fn place(&mut self, id: RequestId, pieces: impl Iterator<Item = Piece>, between: &[u8], core: &Core) {
        let Some(body) = collected(&mut self.flights, id) else { return };
        let mut elsewhere = Vec::new();
        let mut kept = 0;
        for piece in pieces {
            let ahead = self.protocol.body_ahead().filter(|ahead| ahead.id == id);
            match (piece, ahead) {
                (Piece::Between(range), None) if elsewhere.is_empty() => {
                    self.protocol.receive(&between[range], core.now);
                }
                (Piece::Run(range), Some(ahead)) if elsewhere.is_empty() => {
                    let count = ahead.run.min(range.len() as u64);
                    self.protocol.body_received(count, core.now);
                    kept += count;
                    let rest = body.unplaced().get(range).and_then(|run| run.get(count as usize..));
                    elsewhere.extend_from_slice(rest.unwrap_or_default());
                }
                (Piece::Between(range), _) => elsewhere.extend_from_slice(&between[range]),
                (Piece::Run(range), _) => {
                    elsewhere.extend_from_slice(body.unplaced().get(range).unwrap_or_default());
                }
            }
        }
        body.grew(kept);
        if let Some(flight) = self.flight(id) {
            flight.told.bytes_in += kept;
        }
        if !elsewhere.is_empty() {
            self.protocol.receive(&elsewhere, core.now);
        }
    }
}

/// Reads as soon as there is something, for a moment.
fn look_for_more(mut read: impl FnMut() -> io::Result<Option<usize>>) -> io::Result<Option<usize>> {
    let began = Instant::now();
    loop {
        match read() {
            Ok(None) if began.elapsed() < WORTH_A_LOOK => (0..PAUSES).for_each(|_| std::hint::spin_loop()),
            result => return result,
        }
    }
}

/// The body of a request that is being collected.
fn collected(flights: &mut [Flight], id: RequestId) -> Option<&mut BodyBuffer> {
    match &mut flights.iter_mut().find(|flight| flight.id == id)?.step {
        Step::Collecting(_, body) => Some(body),
        _ => None,
    }
}

/// How the next bytes are assumed to lie.
#[derive(Debug, Clone, Copy)]
struct Runs {
    first: usize,
    gap: usize,
    /// Of those after the first; the last may be shorter.
    each: usize,
    /// Of all but the first together.
    others: usize,
}

/// Where a part of what was read lies.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// Among the bytes that were appended to the body.
    Run(Range<usize>),
    Between(Range<usize>),
}

impl Runs {
    /// `None`: a read to the usual buffer is cheaper.
    fn of(ahead: &BodyAhead) -> Option<Runs> {
        let first = ahead.run.min(LONGEST_DIRECT_READ);
        let runs = |gap, each, others| Runs { first: first as usize, gap, each, others };
        let Some((gap, each)) = ahead.then else { return Some(runs(0, 0, 0)) };
        if gap > LONGEST_GAP || (each as u64) < SHORTEST_RUN {
            return None;
        }
        let rest = (ahead.left - ahead.run).min(LONGEST_DIRECT_READ - first);
        // Whole runs only, unless the body ends.
        let most = (MOST_RUNS - 1) * each;
        Some(runs(gap, each, rest.min(most as u64) as usize))
    }

    fn count_of_others(&self) -> usize {
        if self.others == 0 { 0 } else { self.others.div_ceil(self.each) }
    }

    fn bytes(&self) -> usize {
        self.first + self.others
    }

    fn bytes_between(&self) -> usize {
        self.gap * self.count_of_others() + TAIL_BYTES
    }

    fn lengths(self) -> impl Iterator<Item = usize> + Clone {
        let others =
            (0..self.count_of_others()).map(move |index| self.each.min(self.others - index * self.each));
        std::iter::once(self.first).chain(others)
    }

    /// What the first `count` bytes are, in their order.
    fn pieces(self, count: usize) -> impl Iterator<Item = Piece> {
        let (last, most_between) = (self.count_of_others(), self.bytes_between());
        let (mut left, mut appended, mut passed) = (count, 0, 0);
        self.lengths()
            .enumerate()
            .flat_map(move |(index, length)| {
                let run = appended..appended + length.min(left);
                (appended, left) = (run.end, left - run.len());
                let gap = if index == last { most_between - passed } else { self.gap };
                let between = passed..passed + gap.min(left);
                (passed, left) = (between.end, left - between.len());
                [Piece::Run(run), Piece::Between(between)]
            })
            .filter(|piece| !matches!(piece, Piece::Run(range) | Piece::Between(range) if range.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use socket2::SockRef;

    use super::*;
    use crate::worker::hand_off::tests::Parts;
    use crate::worker::tests::until;

    fn ahead(run: u64, left: u64, then: Option<(usize, usize)>) -> BodyAhead {
        BodyAhead { id: RequestId(1), run, left, then }
    }

    #[test]
    fn runs_are_assumed_to_go_on_to_the_end_of_the_body() {
        let long = 2 * LONGEST_DIRECT_READ;
        for (what, ahead, expected) in [
            ("HTTP", ahead(5000, 5000, None), Some((vec![5000], TAIL_BYTES))),
            ("HTTP, long", ahead(long, long, None), Some((vec![1 << 20], TAIL_BYTES))),
            ("the last record", ahead(100, 100, Some((8, 3000))), Some((vec![100], TAIL_BYTES))),
            ("two more", ahead(100, 6100, Some((8, 3000))), Some((vec![100, 3000, 3000], 16 + TAIL_BYTES))),
            ("a short last", ahead(7, 3027, Some((10, 3000))), Some((vec![7, 3000, 20], 20 + TAIL_BYTES))),
            ("short records", ahead(7, 30_000, Some((8, 100))), None),
            ("long padding", ahead(7, 30_000, Some((17, 30_000))), None),
        ] {
            let runs = Runs::of(&ahead).map(|runs| (runs.lengths().collect(), runs.bytes_between()));
            assert_eq!(runs, expected, "{what}");
        }
        for (run, left, each) in
            [(1, long, 65_535), (65_535, long, 65_535), (9, long, 2048), (long, long, 9000)]
        {
            let runs = Runs::of(&ahead(run, left, Some((8, each)))).expect("long runs");
            let lengths: Vec<usize> = runs.lengths().collect();
            assert!(lengths.len() <= MOST_RUNS && lengths.iter().sum::<usize>() == runs.bytes());
            assert!(runs.bytes() as u64 <= LONGEST_DIRECT_READ, "{run} {each}");
            assert!(lengths[1..].iter().rev().skip(1).all(|&length| length == each));
        }
    }

    #[test]
    fn pieces_are_what_was_read_in_its_order() {
        let runs = Runs::of(&ahead(3, 4103, Some((8, 2050)))).expect("long runs");
        let pieces = |count| {
            let piece = |piece| match piece {
                Piece::Run(range) => ('r', range.start, range.end),
                Piece::Between(range) => ('b', range.start, range.end),
            };
            runs.pieces(count).map(piece).collect::<Vec<_>>()
        };
        assert_eq!(pieces(0), []);
        assert_eq!(pieces(2), [('r', 0, 2)]);
        assert_eq!(pieces(4), [('r', 0, 3), ('b', 0, 1)]);
        assert_eq!(pieces(11), [('r', 0, 3), ('b', 0, 8)]);
        assert_eq!(pieces(12), [('r', 0, 3), ('b', 0, 8), ('r', 3, 4)]);
        let all = [('r', 0, 3), ('b', 0, 8), ('r', 3, 2053), ('b', 8, 16), ('r', 2053, 4103), ('b', 16, 80)];
        assert_eq!(pieces(4103 + 80), all);
        assert_eq!(pieces(1 << 30), all, "no more than was asked for");
    }

    #[test]
    fn the_kernel_is_asked_to_acknowledge_at_once_while_the_rest_of_a_request_is_missing() {
        for (sent, is_asked) in [
            ("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf!", true),
            ("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789", false),
        ] {
            let mut parts = Parts::new(b"");
            parts.client.write_all(sent.as_bytes()).expect("taken");
            let is_quick = |parts: &Parts| {
                let socket = parts.connection.socket().expect("open");
                SockRef::from(socket).tcp_quickack().expect("TCP")
            };
            SockRef::from(parts.connection.socket().expect("open")).set_tcp_quickack(false).expect("TCP");
            assert!(!parts.connection.asked_for_rest && !is_quick(&parts), "nothing has been read");
            until(|| {
                parts.connection.readable = true;
                parts.connection.advance(&mut parts.core);
                let has_come = !parts.core.ready.is_empty() || !parts.connection.flights.is_empty();
                has_come.then_some(())
            });
            assert_eq!((parts.connection.asked_for_rest, is_quick(&parts)), (is_asked, is_asked), "{sent}");
        }
    }

    #[test]
    fn the_next_piece_is_looked_for_and_not_for_long() {
        // Where the processor is taken away for long, the first look is the last one: then again.
        let found = until(|| {
            let mut looks = 0;
            let second = || {
                looks += 1;
                Ok((looks == 2).then_some(7))
            };
            look_for_more(second).expect("no error")
        });
        assert_eq!(found, 7);
        assert!(matches!(look_for_more(|| Ok(None)), Ok(None)), "it ends");
        assert!(look_for_more(|| Err(io::ErrorKind::ConnectionReset.into())).is_err());
    }

    #[test]
    fn only_a_sender_of_much_is_taken_to_be_near() {
        const HEAD: &[u8] = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n";
        let mut parts = Parts::new(b"");
        parts.client.write_all(HEAD).expect("taken");
        let mut sent = 0;
        for (more, is_near) in [(HEAD_READ_BYTES, false), (1000, false), (4 * MUCH_BYTES, true)] {
            // What comes with the head is read with it, and not to its place.
            parts.client.write_all(&vec![b'x'; more]).expect("taken");
            sent += more as u64;
            let mut was_near = false;
            until(|| {
                parts.connection.readable = true;
                parts.connection.read(&mut parts.core);
                while let Some(event) = parts.connection.protocol.poll_event().expect("valid") {
                    parts.connection.on_protocol_event(event, &mut parts.core);
                }
                was_near |= parts.connection.more_is_near;
                let flight = parts.connection.flights.first()?;
                (flight.told.bytes_in == sent).then_some(())
            });
            assert_eq!(was_near, is_near, "{more} bytes more");
        }
        // It looks for a moment, and then waits for an event.
        (parts.connection.readable, parts.connection.more_is_near) = (true, true);
        parts.connection.advance(&mut parts.core);
        assert!(!parts.connection.readable && !parts.connection.more_is_near);
        assert!(parts.connection.asked_for_rest);
    }
}
