//! One connection: the verbs of [`protocol`](crate::protocol), its states, persistence and deadlines.
//!
//! Reading (`reading`) and responding (`responding`) go on side by side, each in its own state; the end of a response
//! joins them before the next request:
//!
//! | reading | means | responding | means |
//! | --- | --- | --- | --- |
//! | `Head` | no request, or part of a head | `Nothing` | no request |
//! | `Body` | a request's body comes in | `Awaited` | `Request` or `Reject` went out |
//! | `BodyEnd` | its end is to be told | `Body` | a response's head was sent |
//! | `Done` | nothing is read until the response ends | | |
//! | `Discard` | the response ended before the body | | |
//! | `Stopped` | no further byte is ever parsed | | |

mod reading;
mod responding;
mod suspend;

use std::sync::Arc;
use std::time::Instant;

use super::body::Body;
use super::date::DATE_BYTES;
use super::head::{HeadSearch, Terms};
use super::input::Input;
use super::response::{Content, Framing};
use crate::protocol::pace::Pace;
use crate::protocol::{
    BodyAhead, Event, Limits, Output, ProtocolError, RequestHead, RequestId, ResponsePart,
};

/// Unparsed bytes beyond a head's that are buffered before [`Connection::wants_input`] says no.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Buffers of a head up to these capacities are used again.
const MAX_KEPT_HEAD_BYTES: usize = 8 * 1024;
const MAX_KEPT_FIELDS: usize = 128;

/// An HTTP/1.1 connection, server side.
///
/// Feed it with [`receive`](Self::receive), then call [`poll_event`](Self::poll_event) until it gives `None`; do the
/// same after every [`send`](Self::send) of `End` (a pipelined request may wait) and after
/// [`on_deadline`](Self::on_deadline). Read on only while [`wants_input`](Self::wants_input) says so. Errors of the peer
/// come as [`Event::Reject`]; `poll_event` itself never fails.
///
/// When [`wants_close`](Self::wants_close) is true and the output is written: if [`wants_reset`](Self::wants_reset), close
/// with a reset; if [`wants_linger`](Self::wants_linger), shut down the sending side, read and drop for a bounded time
/// until the peer's end, then close (RFC 9112 §9.6); else just close.
#[derive(Debug)]
pub struct Connection {
    limits: Arc<Limits>,
    input: Input,
    output: Output,
    /// The head of a former request: its buffers are for the next one's, and what was read of it is, too, if that one is
    /// the same.
    spare: RequestHead,
    date: Option<[u8; DATE_BYTES]>,

    /// Of the request under way, or of the next one.
    pub(super) id: RequestId,
    reading: Reading,
    responding: Responding,
    terms: Terms,
    expectation: Expectation,
    /// To be told with the next `poll_event`; nothing more is read then.
    rejected: Option<ProtocolError>,
    /// The response under way said, or will say, that the connection goes on.
    keep: bool,
    empty_lines: u8,

    /// The first byte of a head, the last byte of a body, or the begin of a wait for one.
    since: Instant,
    received_at: Instant,
    /// Of the body that is being read.
    pace: Pace,
    /// `poll_event` has used up all bytes of the body that had come.
    starved: bool,
    reading_paused: bool,
    had_request: bool,

    peer_closed: bool,
    draining: bool,
    ending: Ending,
}

#[derive(Debug)]
enum Reading {
    Head(HeadSearch),
    Body(Body),
    BodyEnd,
    Done,
    Discard { body: Body, left: u64 },
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Responding {
    Nothing,
    Awaited,
    Body(Framing),
}

/// 100-continue, RFC 9110 §10.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    None,
    /// The client waits for 100 (Continue) or a final status before it sends the body.
    Pending,
    /// A final status went out without 100: whether a body follows can't be known.
    Overtaken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    Close,
    Linger,
    Reset,
}

impl Connection {
    pub fn new(limits: Arc<Limits>, now: Instant) -> Self {
        Connection {
            limits,
            input: Input::default(),
            output: Output::default(),
            spare: RequestHead::default(),
            date: None,
            id: RequestId(0),
            reading: Reading::Head(HeadSearch::default()),
            responding: Responding::Nothing,
            terms: Terms::default(),
            expectation: Expectation::None,
            rejected: None,
            keep: true,
            empty_lines: 0,
            since: now,
            received_at: now,
            pace: Pace::begin(now),
            starved: false,
            reading_paused: false,
            had_request: false,
            peer_closed: false,
            draining: false,
            ending: Ending::Open,
        }
    }

    /// The value of the Date field of the responses that begin from now on. Without it they have none.
    pub fn set_date(&mut self, date: &[u8; DATE_BYTES]) {
        self.date = Some(*date);
    }

    /// Bytes from the peer. Only stored: [`poll_event`](Self::poll_event) parses. Dropped once nothing is parsed any more.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() || matches!(self.reading, Reading::Stopped) {
            return;
        }
        match self.reading {
            Reading::Head(_) if self.input.is_empty() => self.since = now,
            Reading::Body(_) => {
                self.since = now;
                self.expectation = Expectation::None;
            }
            _ => {}
        }
        self.starved = false;
        self.received_at = now;
        self.input.push(bytes);
    }

    /// The bytes of a body that come next, if all that have come are parsed. They need not pass through here: see
    /// [`body_received`](Self::body_received).
    pub fn body_ahead(&self) -> Option<BodyAhead> {
        match self.reading {
            Reading::Body(Body::Known { left }) if left > 0 && self.input.is_empty() => {
                Some(BodyAhead { id: self.id, run: left, left, then: None })
            }
            _ => None,
        }
    }

    /// `count` bytes of [`body_ahead`](Self::body_ahead) have come to the caller by another way. They come as no event;
    /// the end of the body does.
    pub fn body_received(&mut self, count: u64, now: Instant) {
        if let Reading::Body(Body::Known { left }) = &mut self.reading {
            *left = left.saturating_sub(count);
            self.input.pass(count);
            self.pace.add(count);
            self.since = now;
            self.received_at = now;
            self.expectation = Expectation::None;
            self.starved = false;
        }
    }

    /// The peer will send no more; what that means for the request under way, `poll_event` tells. A request that is
    /// complete is still answered: clients may half-close.
    pub fn receive_eof(&mut self) {
        self.peer_closed = true;
    }

    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether the caller should read on from the peer. False means back-pressure, or that nothing is read any more.
    pub fn wants_input(&self) -> bool {
        !self.peer_closed
            && !matches!(self.reading, Reading::Stopped)
            && self.input.len() < self.limits.max_head_bytes.saturating_add(READ_AHEAD_BYTES)
    }

    /// Bytes that came and were not parsed yet: what follows the events so far.
    pub fn unread(&self) -> &[u8] {
        self.input.unread()
    }

    /// False: [`poll_event`](Self::poll_event) would give `None` and change nothing. Most calls on a kept connection would.
    #[inline]
    pub fn may_have_event(&self) -> bool {
        let by_reading = match &self.reading {
            Reading::Head(_) => !self.input.is_empty() || self.peer_closed || self.draining,
            Reading::Body(_) | Reading::BodyEnd | Reading::Discard { .. } => true,
            Reading::Done | Reading::Stopped => false,
        };
        by_reading || self.rejected.is_some()
    }

    /// `Ok(None)`: feed me, or end the response first. Never `Err`: what a peer does wrong is an [`Event::Reject`].
    pub fn poll_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        if let Some(error) = self.rejected.take() {
            return Ok(Some(Event::Reject { id: self.id, error }));
        }
        if matches!(self.reading, Reading::Discard { .. }) {
            self.discard();
        }
        Ok(match &mut self.reading {
            Reading::Head(_) => self.poll_head(),
            Reading::Body(_) => self.poll_body(),
            Reading::BodyEnd => {
                self.reading = Reading::Done;
                Some(Event::BodyEnd { id: self.id })
            }
            Reading::Done | Reading::Discard { .. } | Reading::Stopped => None,
        })
    }

    /// A part of the response to request `id`. Ignored when that request is no longer answered: after an Abort, after a
    /// Reject once the response had begun, and after the response's end.
    ///
    /// The caller has checked that the body has the announced length; still, bytes over it are dropped, and an `End` that
    /// comes too early, or before any `Head`, is `Broken`. A head with status 1xx is an interim response: the request
    /// still awaits its final one.
    pub fn send(&mut self, id: RequestId, part: ResponsePart<'_>, now: Instant) {
        if id != self.id || self.ending != Ending::Open || self.responding == Responding::Nothing {
            return;
        }
        match part {
            ResponsePart::Head(head) => self.send_head(head),
            ResponsePart::Body(bytes) => self.send_body(Content::Copied(bytes)),
            ResponsePart::SharedBody(bytes) => self.send_body(Content::Shared(bytes)),
            ResponsePart::FileBody { file, offset, length } => {
                self.send_body(Content::File { file, offset, length });
            }
            ResponsePart::End => self.end(now),
            ResponsePart::Broken => self.break_response(),
        }
    }

    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Takes a head's buffers back, unless an unusual request has made them large.
    pub fn recycle(&mut self, head: RequestHead) {
        if head.bytes.capacity() <= MAX_KEPT_HEAD_BYTES && head.fields.capacity() <= MAX_KEPT_FIELDS {
            self.spare = head;
        }
    }

    /// The caller has stopped reading from the peer, or goes on: the time-out of a body rests meanwhile.
    pub fn pause_reading(&mut self, paused: bool, now: Instant) {
        if self.reading_paused && !paused {
            self.since = self.since.max(now);
            self.pace = Pace::begin(now);
        }
        self.reading_paused = paused;
    }

    pub fn deadline(&self) -> Option<Instant> {
        if self.ending != Ending::Open || self.rejected.is_some() {
            return None;
        }
        let of_pause = self.timeout().and_then(|timeout| self.since.checked_add(timeout));
        if !self.awaits_body() {
            return of_pause;
        }
        [of_pause, self.pace.deadline(&self.limits)].into_iter().flatten().min()
    }

    /// Ends what has waited too long: 408 for a part of a head or body, silence otherwise.
    pub fn on_deadline(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &self.reading {
            // The peer is still busy with our last response.
            Reading::Head(_) if self.input.is_empty() && !self.output.is_empty() => self.since = now,
            Reading::Head(_) if self.input.is_empty() => self.close(Ending::Close),
            Reading::Head(search) => {
                self.terms = search.terms();
                self.reject(ProtocolError::new(408, "the head took too long"));
            }
            Reading::Discard { .. } => self.close(Ending::Linger),
            _ if self.pace.deadline(&self.limits).is_some_and(|deadline| now >= deadline) => {
                self.reject(ProtocolError::new(408, "the body came too slowly (--min-rate)"));
            }
            _ => self.reject(ProtocolError::new(408, "the body took too long")),
        }
    }

    /// Part of a head or of a body has come: nothing goes on before the peer sends the rest.
    pub fn awaits_rest(&self) -> bool {
        match self.reading {
            Reading::Head(_) => !self.input.is_empty(),
            Reading::Body(_) | Reading::Discard { .. } => true,
            Reading::BodyEnd | Reading::Done | Reading::Stopped => false,
        }
    }

    /// Once the output is written, the connection is to be closed; how: see the type.
    pub fn wants_close(&self) -> bool {
        self.ending != Ending::Open
    }

    /// The peer may still be sending: closing at once could destroy our response before it is read (RFC 9112 §9.6).
    pub fn wants_linger(&self) -> bool {
        self.ending == Ending::Linger && !self.peer_closed
    }

    /// Only a reset can tell the peer that the response is not complete (HTTP/1.0 without Content-Length).
    pub fn wants_reset(&self) -> bool {
        self.ending == Ending::Reset
    }

    /// No request under way, no byte of a next one, nothing left to write.
    pub fn is_idle(&self) -> bool {
        self.is_between_requests() && self.output.is_empty() && self.ending == Ending::Open
    }

    /// Closes an idle connection; a busy one after the response under way, which says so if it can.
    pub fn drain(&mut self) {
        self.draining = true;
        if self.is_between_requests() && self.ending == Ending::Open {
            self.close(Ending::Close);
        }
    }
}
