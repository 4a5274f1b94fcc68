//! The receiving side: connections that other workers have handed over.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::message::{self, Incoming, Malformed, PEEKED_BYTES};
use super::{Drain, HandOff};
use crate::gateway::{Endpoint, Peer};
use crate::protocol::{BodyLength, Event};
use crate::scoreboard::Counter;
use crate::sys;
use crate::worker::body::BodyBuffer;
use crate::worker::connection::{Connection, Fate};
use crate::worker::core::Core;
use crate::worker::flight::Step;
use crate::worker::protocol::Protocol;
use crate::worker::socket::Socket;
use crate::worker::state::{Phase, State};

/// Connections that are received in one turn: then the others are looked at first.
const MOST_ARRIVALS: usize = 16;

/// A connection that has just been received.
struct Arrival {
    socket: Socket,
    endpoint: Endpoint,
    protocol: Protocol,
    /// The request under way.
    event: Option<Event>,
    body: BodyBuffer,
    hops: u8,
    since: Option<Instant>,
}

/// What a look into the queue has found.
enum Found {
    Nothing,
    /// It waits until this process can open another descriptor.
    NoRoom(io::Error),
    /// Something that is no connection.
    Other,
    Connection(Box<Arrival>),
}

impl State {
    /// Something waits in the queue. One message is always taken: it has woken this worker and nobody else.
    pub fn receive_connections(&mut self) {
        if self.phase == Phase::Ended {
            // The relief thread has waited for this before the last request was answered: what it took would end with
            // this worker. The master wakes the others when this one is gone.
            return;
        }
        for _ in 0..MOST_ARRIVALS {
            match self.core.receive_connection() {
                Found::Nothing => return,
                Found::NoRoom(error) => return self.listeners.failed(&error, &mut self.core),
                Found::Other => {}
                Found::Connection(arrival) => self.settle_in(*arrival),
            }
            if self.running + self.core.ready.len() >= self.core.config.processes.threads.into()
                || self.connections.len() >= self.core.config.limits.max_connections
            {
                return;
            }
        }
    }

    /// Every worker is busy, and so the queue waits: its first request is answered 503 if it has waited for too long.
    pub fn refuse_late_arrival(&mut self) {
        let Some(limit) = self.core.config.limits.queue_timeout else { return };
        if self.phase != Phase::Ended && self.core.hand_off.first_waits_for(limit) {
            // Another worker may have been faster; then this is a later one, and waits here, or moves on.
            if let Found::Connection(arrival) = self.core.receive_connection() {
                self.settle_in(*arrival);
            }
            self.refuse_late();
        }
    }

    fn settle_in(&mut self, arrival: Arrival) {
        let Arrival { socket, endpoint, protocol, event, body, hops, since } = arrival;
        self.core.board.count(Counter::HandedIn);
        let key = self.connections.insert_with(|key| Connection::new(key, socket, protocol, endpoint));
        self.with_connection(key, |connection, core| connection.go_on(event, body, (hops, since), core));
    }
}

impl Connection {
    /// Goes on where the other worker has left off.
    fn go_on(
        &mut self,
        event: Option<Event>,
        body: BodyBuffer,
        (hops, since): (u8, Option<Instant>),
        core: &mut Core,
    ) -> Fate {
        match event {
            Some(Event::Request { id, head }) => {
                // Its client waits for the answer.
                self.expect_nothing();
                self.dispatch(id, head, core);
                if let Some(flight) = self.flight(id) {
                    flight.hops = hops;
                    flight.complete_at = since;
                    flight.told.began = since.unwrap_or(flight.told.began);
                    flight.told.bytes_in = body.len();
                    match &mut flight.step {
                        Step::Collecting(_, collected) | Step::ScriptQueued(_, collected, _) => {
                            *collected = body
                        }
                        Step::Script(key) => core.scripts.feed(*key, body.finish()),
                        Step::Application | Step::Answered => {}
                    }
                }
                self.body_end(id, core);
            }
            Some(Event::Reject { id, error }) => self.reject(id, error, core),
            _ => {}
        }
        match core.drain {
            Drain::Close => self.drain(core),
            Drain::No | Drain::HandOver => self.advance(core),
        }
    }
}

impl Core {
    fn receive_connection(&mut self) -> Found {
        let received = match self.hand_off.queue.receive(&mut self.read_buffer) {
            Ok(received) => received,
            Err(error) => return self.hand_off.not_received(error),
        };
        if received.length == 0 {
            self.hand_off.break_down("somebody has shut it down");
            return Found::Nothing;
        }
        if received.truncated {
            log::error!("a message of the hand-off queue is dropped: it is too long, or brings too much");
            return Found::Other;
        }
        let bytes = self.read_buffer.get(..received.length).unwrap_or_default();
        let incoming = Incoming::decode(bytes, received.descriptors);
        let arrival = incoming.and_then(|incoming| match incoming {
            Some(incoming) => arrival(incoming, self),
            None => Ok(None),
        });
        match arrival {
            Ok(Some(arrival)) => Found::Connection(Box::new(arrival)),
            Ok(None) => Found::Other,
            Err(why) => {
                log::error!("a message of the hand-off queue is not understood, and dropped: {why}");
                Found::Other
            }
        }
    }
}

impl HandOff {
    fn first_waits_for(&self, limit: Duration) -> bool {
        let mut bytes = [0; PEEKED_BYTES];
        let Ok(length) = self.queue.peek(&mut bytes) else { return false };
        let since = bytes.get(..length).and_then(message::complete_at);
        since.is_some_and(|since| since.elapsed() >= limit)
    }

    fn not_received(&mut self, error: io::Error) -> Found {
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::WouldBlock, _) => {}
            (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => return Found::NoRoom(error),
            _ => self.break_down(&error.to_string()),
        }
        Found::Nothing
    }
}

/// `Ok(None)`: its peer has left meanwhile.
fn arrival(incoming: Incoming<'_>, core: &Core) -> Result<Option<Arrival>, Malformed> {
    let Incoming { protocol, hops, since, state, body, unread, socket } = incoming;
    let Some((socket, endpoint)) = connection_of(socket)? else { return Ok(None) };
    let mut protocol = Protocol::new(protocol, core);
    let event = protocol.resume(state, core.now).map_err(|_| "its state is malformed")?;
    let announced = match &event {
        Some(Event::Request { head, .. }) => head.body,
        _ => BodyLength::Unknown,
    };
    let is_announced = match announced {
        BodyLength::None => body.len() == 0,
        BodyLength::Known(length) => body.len() == length,
        BodyLength::Unknown => event.is_some() || body.len() == 0,
    };
    if !is_announced {
        return Err("its body has not the announced length");
    }
    protocol.receive(unread, core.now);
    Ok(Some(Arrival { socket, endpoint, protocol, event, body, hops, since }))
}

/// The socket, and what it says of its ends: the message is not asked.
fn connection_of(socket: OwnedFd) -> Result<Option<(Socket, Endpoint)>, Malformed> {
    const NONE: Malformed = "it brings no stream socket";
    if getsockopt(&socket, sockopt::SockType) != Ok(SockType::Stream) {
        return Err(NONE);
    }
    sys::set_nonblocking(socket.as_fd()).map_err(|_| NONE)?;
    let reference = socket2::SockRef::from(&socket);
    let local = reference.local_addr().map_err(|_| NONE)?;
    if local.is_unix() {
        let stream = mio::net::UnixStream::from_std(UnixStream::from(socket));
        return Ok(Some((Socket::Unix(stream), Endpoint::new(Peer::Unix, None))));
    }
    let local = local.as_socket().ok_or(NONE)?;
    let Some(peer) = reference.peer_addr().ok().and_then(|peer| peer.as_socket()) else {
        return Ok(None);
    };
    let stream = mio::net::TcpStream::from_std(TcpStream::from(socket));
    Ok(Some((Socket::Tcp(stream), Endpoint::new(Peer::Ip(peer), Some(local)))))
}
