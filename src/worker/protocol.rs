//! Which of the two protocols a connection speaks; the same verbs for both.

use std::time::Instant;

use crate::config::ListenerProtocol;
use crate::protocol::{
    BodyAhead, Event, Output, ProtocolError, RequestHead, RequestId, ResponsePart, fastcgi, http1,
};

use super::core::Core;

#[derive(Debug)]
pub(crate) enum Protocol {
    Http(Box<http1::Connection>),
    FastCgi(Box<fastcgi::Connection>),
}

macro_rules! either {
    ($self:ident, $connection:ident => $call:expr) => {
        match $self {
            Protocol::Http($connection) => $call,
            Protocol::FastCgi($connection) => $call,
        }
    };
}

impl Protocol {
    /// For a connection that has just been accepted, or received.
    pub fn new(which: ListenerProtocol, core: &Core) -> Self {
        match which {
            ListenerProtocol::Http => {
                Protocol::Http(Box::new(http1::Connection::new(core.limits.clone(), core.now)))
            }
            ListenerProtocol::FastCgi => {
                let mut connection = fastcgi::Connection::new(core.limits.clone(), core.now);
                connection.set_capabilities(capabilities(core));
                Protocol::FastCgi(Box::new(connection))
            }
        }
    }

    pub fn kind(&self) -> ListenerProtocol {
        match self {
            Protocol::Http(_) => ListenerProtocol::Http,
            Protocol::FastCgi(_) => ListenerProtocol::FastCgi,
        }
    }

    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        either!(self, connection => connection.receive(bytes, now))
    }

    /// The bytes of a body that come next from the peer. Who reads so many of them or less to elsewhere than
    /// [`receive`](Self::receive) tells [`body_received`](Self::body_received).
    pub fn body_ahead(&self) -> Option<BodyAhead> {
        either!(self, connection => connection.body_ahead())
    }

    pub fn body_received(&mut self, count: u64, now: Instant) {
        either!(self, connection => connection.body_received(count, now))
    }

    /// Part of a request has come, and the peer owes the rest.
    pub fn awaits_rest(&self) -> bool {
        either!(self, connection => connection.awaits_rest())
    }

    pub fn receive_eof(&mut self) {
        either!(self, connection => connection.receive_eof())
    }

    pub fn poll_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        either!(self, connection => connection.poll_event())
    }

    /// False: [`poll_event`](Self::poll_event) would give `None`, and need not be called.
    pub fn may_have_event(&self) -> bool {
        match self {
            Protocol::Http(connection) => connection.may_have_event(),
            Protocol::FastCgi(_) => true,
        }
    }

    pub fn send(&mut self, id: RequestId, part: ResponsePart<'_>, now: Instant) {
        either!(self, connection => connection.send(id, part, now))
    }

    /// FCGI_STDERR; HTTP has no such stream.
    pub fn send_stderr(&mut self, id: RequestId, bytes: &[u8]) {
        if let Protocol::FastCgi(connection) = self {
            connection.send_stderr(id, bytes);
        }
    }

    pub fn output(&mut self) -> &mut Output {
        either!(self, connection => connection.output())
    }

    pub fn recycle(&mut self, head: RequestHead) {
        either!(self, connection => connection.recycle(head))
    }

    /// The caller has stopped reading, or reads again: the peer's silence meanwhile is no fault of its own.
    pub fn pause_reading(&mut self, paused: bool, now: Instant) {
        match self {
            Protocol::Http(connection) => connection.pause_reading(paused, now),
            Protocol::FastCgi(connection) if !paused => connection.receive(&[], now),
            Protocol::FastCgi(_) => {}
        }
    }

    /// FastCGI takes in what comes: the number of its requests is limited, and so is each of them.
    pub fn wants_input(&self) -> bool {
        match self {
            Protocol::Http(connection) => connection.wants_input(),
            Protocol::FastCgi(_) => true,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        either!(self, connection => connection.deadline())
    }

    pub fn on_deadline(&mut self, now: Instant) {
        either!(self, connection => connection.on_deadline(now))
    }

    /// No request is under way, and no byte of a next one has come.
    pub fn is_idle(&self) -> bool {
        either!(self, connection => connection.is_idle())
    }

    pub fn wants_close(&self) -> bool {
        either!(self, connection => connection.wants_close())
    }

    /// The peer may still be sending: half-close, and read on for a while (RFC 9112 §9.6).
    pub fn wants_linger(&self) -> bool {
        match self {
            Protocol::Http(connection) => connection.wants_linger(),
            Protocol::FastCgi(_) => false,
        }
    }

    /// Only a reset shows that the response is broken.
    pub fn wants_reset(&self) -> bool {
        match self {
            Protocol::Http(connection) => connection.wants_reset(),
            Protocol::FastCgi(_) => false,
        }
    }

    pub fn suspend(&self, request: Option<(RequestId, &RequestHead)>, state: &mut Vec<u8>) -> bool {
        either!(self, connection => connection.suspend(request, state))
    }

    pub fn resume(&mut self, state: &[u8], now: Instant) -> Result<Option<Event>, ProtocolError> {
        either!(self, connection => connection.resume(state, now))
    }

    /// FastCGI reads all records that have come before it is asked for the next event.
    pub fn has_unread(&self) -> bool {
        match self {
            Protocol::Http(connection) => connection.has_unread(),
            Protocol::FastCgi(_) => false,
        }
    }

    pub fn unread(&self) -> &[u8] {
        either!(self, connection => connection.unread())
    }

    pub fn drain(&mut self) {
        either!(self, connection => connection.drain())
    }
}

/// What all workers together accept.
fn capabilities(core: &Core) -> fastcgi::Capabilities {
    let workers = core.board.population().most;
    let connections = core.config.limits.max_connections.saturating_mul(workers.max(1).into());
    let requests = connections.saturating_mul(core.limits.max_requests);
    fastcgi::Capabilities {
        max_connections: u32::try_from(connections).unwrap_or(u32::MAX),
        max_requests: u32::try_from(requests).unwrap_or(u32::MAX),
    }
}
