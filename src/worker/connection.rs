//! Step 2 of a request's way: socket, protocol and handlers joined. [`Connection::advance`] is the join.
//!
//! What answers lies in `dispatch.rs` (from an event to a handler) and `answer.rs` (from a handler to the protocol).

use std::time::{Duration, Instant};

use crate::gateway::{Endpoint, Peer};
use crate::protocol::{Event, RequestId};
use crate::scoreboard::Counter;

use super::core::Core;
use super::flight::{Flight, Step, What};
use super::hand_off::Drain;
use super::keyed::{Key, Source};
use super::overload::HALF_CLOSED_GRACE;
use super::protocol::Protocol;
use super::reader::SlowReader;
use super::socket::{Socket, Written};
use super::timers::Timed;

/// Reads of one turn: then the other connections are looked at first.
const READS_PER_TURN: usize = 16;

/// After the half-close, the peer has so long to read the response and close (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Timers are not finer than this.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Keep,
    Close,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub key: Key,
    /// `None` once nothing can be read or written; the entry stays while an application still holds a request.
    pub(super) socket: Option<Socket>,
    pub protocol: Protocol,
    pub endpoint: Endpoint,
    /// Almost always at most one; FastCGI may interleave more.
    pub flights: Vec<Flight>,
    /// The buffer of [`Flight::what`], from the last request for the next.
    pub spare_what: What,
    /// The note of [`Timers`](super::timers::Timers).
    pub timer: Option<Instant>,
    registered: bool,
    /// An event said that there is something to read, and no read has found the end of it.
    pub(super) readable: bool,
    /// Since when the peer's sending side is closed, as an event or a read has told. A short read is not the end then.
    half_closed_since: Option<Instant>,
    /// The last read has brought much of a body, but not its end.
    pub(super) more_is_near: bool,
    /// The end of the peer's bytes has been read.
    is_at_eof: bool,
    /// A script takes its input more slowly than the peer sends it: nothing is read meanwhile.
    paused: bool,
    /// The kernel acknowledges at once, until something is written.
    pub(super) asked_for_rest: bool,
    /// A request has come.
    has_served: bool,
    /// The output could not be written.
    slow_reader: Option<SlowReader>,
    state: SocketState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketState {
    Open,
    /// Our side is closed, what still comes is thrown away.
    Lingering(Instant),
}

impl Connection {
    pub fn new(key: Key, socket: Socket, protocol: Protocol, endpoint: Endpoint) -> Self {
        Connection {
            key,
            socket: Some(socket),
            protocol,
            endpoint,
            flights: Vec::new(),
            spare_what: What::default(),
            timer: None,
            registered: false,
            readable: true,
            half_closed_since: None,
            more_is_near: false,
            is_at_eof: false,
            paused: false,
            asked_for_rest: false,
            has_served: false,
            slow_reader: None,
            state: SocketState::Open,
        }
    }

    /// Nothing is expected from the peer now: the poll tells if there is something all the same, from when the connection
    /// is added to it.
    pub fn expect_nothing(&mut self) {
        self.readable = self.registered && self.readable;
    }

    /// The poll has an event for this connection.
    pub fn on_event(&mut self, event: &mio::event::Event, core: &mut Core) -> Fate {
        if event.is_readable() || event.is_read_closed() {
            self.readable = true;
        }
        if event.is_read_closed() {
            self.half_closed_since.get_or_insert(core.now);
        }
        if event.is_error() || (event.is_read_closed() && event.is_write_closed()) {
            // Both directions are shut: nobody can read an answer any more.
            self.die(core);
        }
        self.advance(core)
    }

    /// Goes on as far as it can without waiting: bytes in, events, bytes out.
    pub fn advance(&mut self, core: &mut Core) -> Fate {
        if core.drain == Drain::HandOver && self.leaves(core) {
            return self.rest(core);
        }
        let mut has_read = false;
        for _ in 0..READS_PER_TURN {
            // A peer that sends requests and reads no answers waits until it has read some.
            while self.protocol.may_have_event() && self.backlog() < core.config.limits.max_output_bytes {
                match self.protocol.poll_event() {
                    Ok(Some(event)) => self.on_protocol_event(event, core),
                    Ok(None) => break,
                    Err(error) => {
                        log::debug!("{}: {error}; connection closed", self.peer());
                        self.die(core);
                        break;
                    }
                }
            }
            if !self.may_read(core) {
                if has_read && !self.readable {
                    self.ask_for_rest();
                }
                return self.settle(core);
            }
            self.read(core);
            has_read = true;
        }
        core.revisit.push_back(self.key);
        self.settle(core)
    }

    /// As [`advance`](Self::advance), after a response: mostly nothing more has come yet, and only its end is left to see to.
    pub fn after_response(&mut self, core: &mut Core) -> Fate {
        if self.protocol.has_unread() {
            // A client that sends on and on, without waiting for answers, has its turn after the others.
            core.revisit.push_back(self.key);
            return self.settle(core);
        }
        if self.readable || self.protocol.may_have_event() || core.drain == Drain::HandOver {
            return self.advance(core);
        }
        self.settle(core)
    }

    pub(super) fn on_protocol_event(&mut self, event: Event, core: &mut Core) {
        match event {
            Event::Request { id, head } => {
                self.has_served = true;
                self.dispatch(id, head, core);
            }
            Event::Body { id, chunk } => self.body(id, chunk, core),
            Event::BodyEnd { id } => self.body_end(id, core),
            Event::Abort { id } => self.abort(id, core),
            Event::Reject { id, error } => self.reject(id, error, core),
        }
    }

    fn may_read(&mut self, core: &Core) -> bool {
        if !self.readable
            || self.is_at_eof
            || self.socket.is_none()
            || self.backlog() >= core.config.limits.max_output_bytes
        {
            return false;
        }
        match self.state {
            SocketState::Lingering(_) => true,
            SocketState::Open => {
                let paused = self.input_blocked(core);
                if paused != self.paused {
                    self.paused = paused;
                    self.protocol.pause_reading(paused, core.now);
                }
                !paused && self.protocol.wants_input()
            }
        }
    }

    /// A script takes its input more slowly than it comes.
    fn input_blocked(&self, core: &Core) -> bool {
        self.flights.iter().any(|flight| match flight.step {
            Step::Script(key) => !core.scripts.wants_input(key),
            _ => false,
        })
    }

    pub(super) fn on_eof(&mut self, core: &mut Core) {
        self.readable = false;
        if matches!(self.state, SocketState::Lingering(_)) {
            self.socket = None;
            return;
        }
        self.is_at_eof = true;
        self.half_closed_since.get_or_insert(core.now);
        self.protocol.receive_eof();
    }

    /// Writes what waits and decides what becomes of the connection.
    pub fn settle(&mut self, core: &mut Core) -> Fate {
        self.write(core);
        self.close_if_done(core);
        if core.drain == Drain::HandOver {
            self.leaves(core);
        }
        self.rest(core)
    }

    /// Waits for what comes next, or ends.
    fn rest(&mut self, core: &mut Core) -> Fate {
        if self.socket.is_none() || !self.ensure_registered(core) {
            self.flights.retain(|flight| !flight.is_over());
            return if self.flights.is_empty() { Fate::Close } else { Fate::Keep };
        }
        self.arm(core);
        Fate::Keep
    }

    /// Writes what waits, as far as the peer takes it.
    pub fn write(&mut self, core: &mut Core) {
        let output = self.protocol.output();
        let Some(socket) = self.socket.as_mut().filter(|_| !output.is_empty()) else {
            self.slow_reader = None;
            return;
        };
        let before = output.len();
        let written = socket.write_output(output);
        let count = before.saturating_sub(output.len());
        self.asked_for_rest &= count == 0;
        core.board.add(Counter::BytesOut, count);
        if let Some(reader) = self.slow_reader.as_mut().filter(|_| count > 0) {
            reader.wrote(count, core.now);
        }
        match written {
            Ok(Written::All) => self.slow_reader = None,
            Ok(Written::Yielded) => core.revisit.push_back(self.key),
            Ok(Written::Blocked) => match &self.slow_reader {
                None => self.slow_reader = Some(SlowReader::new(core.now, socket.unread_by_peer())),
                Some(reader) if count > 0 && reader.is_past_head_start(core) => self.judge_reader(core),
                Some(_) => {}
            },
            Err(error) => {
                log::debug!("{}: writing failed: {error}", self.peer());
                self.die(core);
            }
        }
        self.resume_scripts(core);
    }

    /// Cuts a peer off that reads too slowly.
    fn judge_reader(&mut self, core: &mut Core) {
        let (Some(reader), Some(socket)) = (&mut self.slow_reader, &self.socket) else { return };
        if let Some(why) = reader.look(core.now, socket.unread_by_peer(), &core.config.limits) {
            log::debug!("{}: {}; connection closed", self.peer(), why.text());
            core.board.count(Counter::SlowReader);
            self.die(core);
        }
    }

    fn close_if_done(&mut self, core: &mut Core) {
        let Some(socket) = &mut self.socket else { return };
        if !self.protocol.output().is_empty() {
            return;
        }
        match self.state {
            SocketState::Lingering(_) => {}
            SocketState::Open if self.is_at_eof && self.flights.is_empty() => self.socket = None,
            _ if !self.protocol.wants_close() => {}
            SocketState::Open if self.protocol.wants_linger() => {
                socket.shutdown_write();
                self.state = SocketState::Lingering(core.now);
                self.readable = true;
                core.revisit.push_back(self.key);
            }
            _ => {
                if self.protocol.wants_reset() {
                    socket.reset_on_close();
                }
                self.socket = None;
            }
        }
    }

    /// Nothing can be read or written any more: whoever still works for this connection is told.
    pub fn die(&mut self, core: &mut Core) {
        self.socket = None;
        self.protocol.output().clear();
        let running: Vec<RequestId> = self.flights.iter().map(|flight| flight.id).collect();
        for id in running {
            self.abort(id, core);
        }
    }

    /// A connection is added to the poll only when it has to wait: one that is accepted, answered and closed at once
    /// never is.
    fn ensure_registered(&mut self, core: &mut Core) -> bool {
        if self.registered {
            return true;
        }
        let Some(socket) = &mut self.socket else { return false };
        match socket.register(&core.registry, Source::Connection(self.key).token()) {
            Ok(()) => {
                self.registered = true;
                true
            }
            Err(error) => {
                log::error!("{}: the connection can't be watched: {error}", self.peer());
                self.die(core);
                false
            }
        }
    }

    pub fn arm(&mut self, core: &mut Core) {
        let Some(deadline) = self.deadline(core) else { return };
        if self.timer.is_some_and(|at| at <= deadline) {
            return;
        }
        // Never in the present turn: a deadline that its owner fails to clear must not hold the loop.
        let deadline = deadline.max(core.now + SHORTEST_TIMER);
        core.timers.arm(Timed::Connection(self.key), Some(deadline), &mut self.timer);
    }

    fn deadline(&self, core: &Core) -> Option<Instant> {
        let of_socket = match self.state {
            SocketState::Open if self.paused => None,
            SocketState::Open => self.protocol.deadline(),
            SocketState::Lingering(since) => return Some(since + LINGER),
        };
        let of_applications = self.overdue_at(core);
        let first = earlier(of_socket, of_applications);
        if self.slow_reader.is_none() && self.half_closed_since.is_none() {
            return first;
        }
        let of_write = self.slow_reader.and_then(|reader| reader.look_at(&core.config.limits));
        let of_half_close = self
            .half_closed_since
            .filter(|_| !self.flights.is_empty())
            .map(|since| since + HALF_CLOSED_GRACE);
        earlier(first, earlier(of_write, of_half_close))
    }

    /// The note in [`Connection::timer`] has been cleared by the caller.
    pub fn on_timer(&mut self, core: &mut Core) -> Fate {
        let now = core.now;
        if let SocketState::Lingering(since) = self.state {
            if now >= since + LINGER {
                self.socket = None;
            }
            return self.settle(core);
        }
        if self.slow_reader.and_then(|reader| reader.look_at(&core.config.limits)).is_some_and(|at| now >= at)
        {
            self.judge_reader(core);
        }
        if self.half_closed_since.is_some_and(|since| now >= since + HALF_CLOSED_GRACE)
            && !self.flights.is_empty()
        {
            log::debug!("{}: the client has left", self.peer());
            self.die(core);
        }
        self.see_to_overdue(core);
        if !self.paused && self.protocol.deadline().is_some_and(|deadline| now >= deadline) {
            self.protocol.on_deadline(now);
        }
        self.advance(core)
    }

    /// The worker ends: no further request on this connection, if it can be helped.
    pub fn drain(&mut self, core: &mut Core) -> Fate {
        self.protocol.drain();
        self.advance(core)
    }

    /// Whether the socket is such that another process can go on with it: open in both directions.
    pub fn is_movable(&self) -> bool {
        self.socket.is_some()
            && self.state == SocketState::Open
            && self.half_closed_since.is_none()
            && !self.is_at_eof
            && !self.paused
    }

    /// When an idle connection that has answered a request will be closed; `None`: it is not idle. A new one is not: its
    /// client has no reason to expect its end.
    pub fn idles_until(&self) -> Option<Instant> {
        let is_idle = self.has_served && self.flights.is_empty() && self.state == SocketState::Open;
        if is_idle && self.protocol.is_idle() { self.protocol.deadline() } else { None }
    }

    /// What comes is still given to the protocol.
    pub(super) fn is_open(&self) -> bool {
        self.state == SocketState::Open
    }

    /// As far as an event or a read has told.
    pub fn half_closed_since(&self) -> Option<Instant> {
        self.half_closed_since
    }

    /// It waits for its next request once the response is written.
    pub fn is_kept(&self) -> bool {
        self.socket.is_some() && !self.is_at_eof && !self.protocol.wants_close()
    }

    pub fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    /// The poll tells what happens to it.
    pub fn is_watched(&self) -> bool {
        self.registered
    }

    /// Another process has the socket now: it is closed here, but not shut down.
    pub fn forget_socket(&mut self, core: &mut Core) {
        let Some(mut socket) = self.socket.take() else { return };
        // Closing alone would not end the watch: the other process keeps the same open file description.
        if self.registered
            && let Err(error) = socket.deregister(&core.registry)
        {
            log::error!("{}: the connection can't be left: {error}", self.peer());
        }
        self.registered = false;
    }

    pub fn peer(&self) -> String {
        match self.endpoint.peer {
            Peer::Ip(address) => address.to_string(),
            Peer::Unix => "unix peer".to_owned(),
        }
    }

    pub fn flight(&mut self, id: RequestId) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.id == id)
    }
}

/// The first of both, as far as there are any. Asked for with each request, where an iterator over them costs more.
pub(super) fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
