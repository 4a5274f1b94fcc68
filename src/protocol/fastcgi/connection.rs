//! The verbs of a FastCGI connection: bytes in, events out, answers in, bytes out. Records are read in `intake`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::answer::Answers;
use super::intake::Target;
use super::management::Capabilities;
use super::record::Framing;
use super::request::{Answer, Phase, Request};
use crate::protocol::{
    BodyAhead, Event, Limits, Output, ProtocolError, RequestHead, RequestId, ResponsePart,
};

/// Events that one call of [`Connection::receive`] makes before it keeps bytes for later: a request with its body.
const EVENTS_AHEAD: usize = 4;

/// Larger buffers of a head are not kept for the next one.
const SPARE_HEAD_BYTES: usize = 16 * 1024;
const SPARE_HEAD_FIELDS: usize = 512;

/// The application's side of a FastCGI connection, for the role of a responder (FastCGI 1.0 §6.2).
///
/// Several requests may be under way at once, up to [`Limits::max_requests`]; those beyond are ended with
/// FCGI_OVERLOADED. Requests for other roles are ended with FCGI_UNKNOWN_ROLE. Management records are answered without
/// the caller. See the [module](super) for an example.
///
/// - The event of a request whose CONTENT_LENGTH is absent or empty waits for the first STDIN record, because only that
///   tells whether there is a body.
/// - After [`Event::Reject`] the caller sends its answer as usual; what the peer still sends for the request is discarded.
/// - After [`Event::Abort`] the request is over: END_REQUEST is already on its way.
/// - Parts that are sent for a request that is over are ignored.
#[derive(Debug)]
pub struct Connection {
    pub(super) limits: Arc<Limits>,
    pub(super) capabilities: Option<Capabilities>,
    /// What has not been read as records; empty buffers are released.
    input: BytesMut,
    pub(super) framing: Framing,
    pub(super) target: Target,
    /// The content of a GET_VALUES record, as far as it has come.
    pub(super) question: Vec<u8>,
    /// In no order.
    pub(super) requests: Vec<Request>,
    /// Counts requests, see [`RequestId`].
    pub(super) serial: u16,
    pub(super) events: VecDeque<Event>,
    pub(super) answers: Answers,
    spare: Option<RequestHead>,
    failed: Option<ProtocolError>,
    /// No new request is taken, and after the last one the connection closes.
    pub(super) closing: bool,
    /// As `closing`, as soon as the request has begun of which the first bytes had come.
    closing_after_next: bool,
    pub(super) linger: Option<Linger>,
    eof: bool,
    /// The caller has polled until there was nothing more: what is missing now is for the peer to send.
    waits_for_peer: bool,
    /// The latest time that the caller told.
    pub(super) now: Instant,
    /// When the first byte of the present record came; of the next one between two.
    pub(super) record_began: Instant,
    /// When a connection without a request closes; `None` beyond the end of time.
    idle_deadline: Option<Instant>,
}

/// The last request is over, but the web server is still sending its STDIN. If the connection were closed now, Apache's
/// mod_proxy_fcgi would fail to write the rest, and answer 503 instead of passing on what we have answered.
#[derive(Debug)]
pub(super) struct Linger {
    request_id: u16,
    deadline: Option<Instant>,
}

impl Connection {
    /// A connection that was accepted at `now`.
    pub fn new(limits: Arc<Limits>, now: Instant) -> Self {
        let idle_deadline = now.checked_add(limits.head_timeout);
        Connection {
            limits,
            capabilities: None,
            input: BytesMut::new(),
            framing: Framing::default(),
            target: Target::Discard,
            question: Vec::new(),
            requests: Vec::new(),
            serial: 0,
            events: VecDeque::new(),
            answers: Answers::default(),
            spare: None,
            failed: None,
            closing: false,
            closing_after_next: false,
            linger: None,
            eof: false,
            waits_for_peer: true,
            now,
            record_began: now,
            idle_deadline,
        }
    }

    /// What FCGI_GET_VALUES is told. Without it only FCGI_MPXS_CONNS is answered, which is always 1.
    pub fn set_capabilities(&mut self, capabilities: Capabilities) {
        self.capabilities = Some(capabilities);
    }

    /// Takes bytes from the peer, in any split. What can't be used at once is kept, so the caller polls until `None`
    /// before it feeds more.
    ///
    /// A caller that stopped reading because it could not use more bytes calls this when it reads again, with no bytes
    /// if there are none: the peer's time for a body begins anew.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.see_time(now);
        if self.is_over() {
            return;
        }
        if bytes.is_empty() {
            return self.renew_body_deadlines();
        }
        if self.is_at_border() {
            self.record_began = now;
        }
        self.waits_for_peer = false;
        let mut rest = bytes;
        if self.input.is_empty() {
            // The usual request is used where it lies.
            while self.events.len() < EVENTS_AHEAD && self.advance(&mut rest) {}
            if self.is_over() {
                return;
            }
        }
        self.input.extend_from_slice(rest);
    }

    /// The bytes of a body that come next, if all that have come are read and their number is known. They need not pass
    /// through here: see [`body_received`](Self::body_received).
    pub fn body_ahead(&self) -> Option<BodyAhead> {
        let Target::Stdin(number) = self.target else { return None };
        if !self.input.is_empty() || !self.events.is_empty() || self.is_over() {
            return None;
        }
        let ahead = self.framing.ahead()?;
        let request = self.requests.iter().find(|request| request.wire_id() == number)?;
        let left = request.known_body_left()?;
        let run = left.min(ahead.content_left as u64);
        Some(BodyAhead { id: request.id, run, left, then: Some((ahead.gap, ahead.content_length)) })
    }

    /// `count` bytes of the run of [`body_ahead`](Self::body_ahead), no more, have come to the caller by another way. They
    /// come as no event; the end of the body does.
    pub fn body_received(&mut self, count: u64, now: Instant) {
        self.see_time(now);
        let Target::Stdin(number) = self.target else { return };
        let Some(index) = self.requests.iter().position(|request| request.wire_id() == number) else {
            return;
        };
        self.waits_for_peer = false;
        self.framing.pass(usize::try_from(count).unwrap_or(usize::MAX));
        let now = (self.now, &*self.limits);
        self.requests[index].body_came(count, now, &mut self.events);
    }

    /// The peer will send no more. Requests that are not ended are aborted, after what came before.
    pub fn receive_eof(&mut self) {
        self.eof = true;
    }

    /// What the peer did next. `None`: feed me. An error closes the connection, and there is nothing to say.
    pub fn poll_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        if self.events.is_empty() {
            // Also without bytes: a record may be at its end.
            let mut input = std::mem::take(&mut self.input);
            while self.events.is_empty() && self.advance(&mut input) {}
            // A connection without bytes to keep holds no buffer.
            if !input.is_empty() && !self.is_over() {
                self.input = input;
            }
        }
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.waits_for_peer = true;
        // The bytes that were there became a request, or a management record with nothing behind it.
        self.closing |= self.closing_after_next && (!self.requests.is_empty() || self.is_at_border());
        Ok(if self.eof { self.abort_next() } else { None })
    }

    /// Sends a part of a response. Parts for a request that is over, bodies without a head or where there is none
    /// (HEAD, 304), and heads of interim responses, which FastCGI does not have, are ignored.
    pub fn send(&mut self, id: RequestId, part: ResponsePart<'_>, now: Instant) {
        self.see_time(now);
        let Some(index) = self.requests.iter().position(|request| request.id == id) else { return };
        let request = &mut self.requests[index];
        let number = request.wire_id();
        match part {
            ResponsePart::Head(head) => {
                if request.answer == Answer::Awaited && !(100..200).contains(&head.status) {
                    request.answer = Answer::Begun { has_body: head.has_body };
                    self.answers.head(number, head);
                }
            }
            ResponsePart::Body(bytes) if request.has_body_to_send() => self.answers.stdout(number, bytes),
            ResponsePart::SharedBody(bytes) if request.has_body_to_send() => {
                self.answers.stdout_shared(number, bytes);
            }
            ResponsePart::FileBody { file, offset, length } if request.has_body_to_send() => {
                self.answers.stdout_file(number, &file, offset, length);
            }
            ResponsePart::Body(_) | ResponsePart::SharedBody(_) | ResponsePart::FileBody { .. } => {}
            ResponsePart::End => {
                self.answers.end(number, request.stderr_is_open, 0);
                self.remove(index);
            }
            ResponsePart::Broken => self.break_off(index),
        }
    }

    /// Sends bytes to the web server's error log (FCGI_STDERR, §5.3). Ignored for a request that is over.
    pub fn send_stderr(&mut self, id: RequestId, bytes: &[u8]) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.id == id) {
            request.stderr_is_open |= !bytes.is_empty();
            self.answers.stderr(request.wire_id(), bytes);
        }
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Output {
        self.answers.output()
    }

    /// Gives the buffers of a head back for a next request. Large ones are freed.
    pub fn recycle(&mut self, head: RequestHead) {
        let is_small =
            head.bytes.capacity() <= SPARE_HEAD_BYTES && head.fields.capacity() <= SPARE_HEAD_FIELDS;
        if is_small && head.bytes.capacity() > 0 && self.spare.is_none() {
            self.spare = Some(head);
        }
    }

    /// When [`on_deadline`](Self::on_deadline) wants to be called. `None` while the peer owes nothing, and while there are
    /// events to poll.
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_over() || !self.waits_for_peer {
            return None;
        }
        if let Some(linger) = &self.linger {
            return linger.deadline;
        }
        if self.requests.is_empty() {
            return self.deadline_without_request();
        }
        self.requests.iter().filter_map(|request| request.deadline).min()
    }

    /// Ends what is late: a body is rejected with 408, a connection without a complete head closes.
    pub fn on_deadline(&mut self, now: Instant) {
        self.see_time(now);
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.linger.take().is_some() {
            return;
        }
        if self.requests.is_empty() {
            if self.is_at_border() && !self.answers.output().is_empty() {
                // The peer is still busy with the last answer.
                self.idle_deadline = now.checked_add(self.limits.keep_alive_timeout);
            } else {
                self.closing = true;
            }
            return;
        }
        let is_alone = self.requests.len() == 1;
        for request in &mut self.requests {
            if request.deadline.is_some_and(|deadline| deadline <= now) {
                if request.phase == Phase::Params && is_alone {
                    // The web server is still sending its head and expects no answer.
                    self.requests.clear();
                    self.closing = true;
                    return;
                }
                request.reject(request.lateness(now, &self.limits), &mut self.events);
            }
        }
    }

    /// Part of a record, of a head or of a body has come: nothing goes on before the peer sends the rest.
    pub fn awaits_rest(&self) -> bool {
        let owes = |request: &Request| matches!(request.phase, Phase::Params | Phase::Stdin);
        !self.is_over() && (self.requests.iter().any(owes) || !self.is_at_border())
    }

    /// The connection is to be closed, once the output is written. After the last request this waits until its STDIN has
    /// come to its end, for at most [`Limits::head_timeout`].
    pub fn wants_close(&self) -> bool {
        self.is_over() && self.events.is_empty()
    }

    /// No request is under way, and no byte of a next one has come. Output may still wait.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.linger.is_none() && self.events.is_empty() && self.is_at_border()
    }

    /// Bytes that came and were not read as records yet.
    pub fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Finishes the requests of which a byte has come, then wants to close. Others are ended with FCGI_OVERLOADED.
    pub fn drain(&mut self) {
        if self.requests.is_empty() && !self.is_idle() {
            self.closing_after_next = true;
        } else {
            self.closing = true;
        }
    }

    /// Nothing more is read.
    fn is_over(&self) -> bool {
        self.failed.is_some() || (self.closing && self.requests.is_empty() && self.linger.is_none())
    }

    #[cfg(test)]
    pub(super) fn input_capacity(&self) -> usize {
        self.input.capacity()
    }

    fn is_at_border(&self) -> bool {
        self.input.is_empty() && self.framing.is_between_records()
    }

    /// It goes on after the requests under way, and no event waits.
    pub(super) fn is_open(&self) -> bool {
        !self.closing
            && !self.closing_after_next
            && !self.eof
            && self.failed.is_none()
            && self.linger.is_none()
            && self.events.is_empty()
    }

    /// Time never runs backwards.
    pub(super) fn see_time(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn renew_body_deadlines(&mut self) {
        for request in self.requests.iter_mut().filter(|request| request.phase == Phase::Stdin) {
            request.begin_body(self.now, &self.limits);
        }
    }

    fn deadline_without_request(&self) -> Option<Instant> {
        if self.is_at_border() {
            self.idle_deadline
        } else {
            self.record_began.checked_add(self.limits.head_timeout)
        }
    }

    /// Reads one step; false when there is nothing more to do.
    fn advance(&mut self, source: &mut impl super::record::Source) -> bool {
        if self.is_over() {
            return false;
        }
        self.read_step(source).unwrap_or_else(|error| {
            self.failed = Some(error.at(self.framing.record_offset()));
            false
        })
    }

    pub(super) fn take_spare_head(&mut self) -> RequestHead {
        self.spare.take().unwrap_or_default()
    }

    /// The request has ended, and END_REQUEST has been sent as far as it should be.
    pub(super) fn remove(&mut self, index: usize) {
        let request = self.requests.swap_remove(index);
        let number = request.wire_id();
        self.recycle(request.head);
        self.ended(number, request.keep_conn, request.stdin_has_ended);
    }

    /// A request with or without FCGI_KEEP_CONN has ended, or was refused.
    pub(super) fn ended(&mut self, request_id: u16, keep_conn: bool, stdin_has_ended: bool) {
        self.closing |= !keep_conn;
        if self.requests.is_empty() {
            self.idle_deadline = self.now.checked_add(self.limits.keep_alive_timeout);
            if self.closing && !stdin_has_ended {
                let deadline = self.now.checked_add(self.limits.head_timeout);
                self.linger.get_or_insert(Linger { request_id, deadline });
            }
        }
    }

    /// The rest of the STDIN of this request is all that is still to come.
    pub(super) fn lingers_for(&self, request_id: u16) -> bool {
        self.linger.as_ref().is_some_and(|linger| linger.request_id == request_id)
    }

    /// nginx takes END_REQUEST for the end of a complete answer, so it is not sent. Only when other requests would
    /// suffer from a connection that ends at once, it is, with a status that says that something failed.
    ///
    /// Where the connection is not kept, nginx takes its end for that of the answer too. No record can tell it better, so
    /// what it gets is none.
    fn break_off(&mut self, index: usize) {
        self.closing = true;
        let is_alone = self.requests.len() == 1;
        let request = &mut self.requests[index];
        if is_alone {
            // What is broken ends now, whatever the peer still sends.
            request.stdin_has_ended = true;
            if !request.keep_conn {
                self.answers.no_record();
            }
        } else {
            self.answers.end(request.wire_id(), request.stderr_is_open, 1);
        }
        self.remove(index);
    }

    /// After the end of the peer's bytes.
    fn abort_next(&mut self) -> Option<Event> {
        self.closing = true;
        self.linger = None;
        self.input = BytesMut::new();
        while let Some(request) = self.requests.pop() {
            if request.phase != Phase::Rejected {
                return Some(Event::Abort { id: request.id });
            }
        }
        None
    }

    pub(super) fn push_stdin(&mut self, index: usize, wanted: Bytes, surplus: usize) {
        let now = (self.now, &*self.limits);
        if let Some(request) = self.requests.get_mut(index) {
            request.stdin(wanted, surplus, now, &mut self.events);
        }
    }
}
