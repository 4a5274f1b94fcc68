//! One request of a connection: which record may come when, and what its body is. Knows no bytes of a record.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::params;
use super::record::RecordType;
use crate::protocol::pace::Pace;
use crate::protocol::{BodyLength, Event, Limits, ProtocolError, RequestHead, RequestId};

const BODY_TOO_LARGE: ProtocolError = ProtocolError::new(413, "the body is over its limit");
const BODY_TOO_SHORT: ProtocolError = ProtocolError::new(400, "STDIN ended before CONTENT_LENGTH bytes");

/// What the peer may send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The PARAMS stream is open.
    Params,
    /// The STDIN stream is open, and its bytes are the body.
    Stdin,
    /// The body is complete, but the end of STDIN has not come. HAProxy has left it out at times; bytes that come
    /// instead are discarded.
    Draining,
    /// STDIN has ended: only an abort may come.
    Responding,
    /// The request was rejected: both streams are discarded, only the caller's answer is still to be sent.
    Rejected,
    /// FCGI_ABORT_REQUEST has come: the request is over.
    Aborted,
}

/// A record for a request, as far as the order cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Begin,
    Params,
    /// An empty PARAMS record ends the stream.
    ParamsEnd,
    Stdin,
    /// An empty STDIN record ends the stream.
    StdinEnd,
    Abort,
    /// FCGI_DATA, which only a filter gets.
    Data,
    /// A record that only an application sends, or of an unknown type.
    Foreign,
}

impl Input {
    pub(super) fn of(record_type: RecordType, is_empty: bool) -> Self {
        match (record_type, is_empty) {
            (RecordType::BeginRequest, _) => Input::Begin,
            (RecordType::Params, false) => Input::Params,
            (RecordType::Params, true) => Input::ParamsEnd,
            (RecordType::Stdin, false) => Input::Stdin,
            (RecordType::Stdin, true) => Input::StdinEnd,
            (RecordType::AbortRequest, _) => Input::Abort,
            (RecordType::Data, _) => Input::Data,
            _ => Input::Foreign,
        }
    }
}

/// The order of records (§5, §6.2).
pub(super) fn next_phase(phase: Phase, input: Input) -> Result<Phase, ProtocolError> {
    use Input as I;
    use Phase as P;
    Ok(match (phase, input) {
        (P::Params, I::Params) => P::Params,
        (P::Params, I::ParamsEnd) => P::Stdin,
        (P::Stdin, I::Stdin) => P::Stdin,
        (P::Draining, I::Stdin) => P::Draining,
        (P::Stdin | P::Draining, I::StdinEnd) => P::Responding,
        (P::Rejected, I::Params | I::ParamsEnd | I::Stdin | I::StdinEnd) => P::Rejected,
        (_, I::Abort) => P::Aborted,
        (_, input) => return Err(ProtocolError::new(400, out_of_order(input))),
    })
}

fn out_of_order(input: Input) -> &'static str {
    match input {
        Input::Begin => "BEGIN_REQUEST for a request ID in use",
        Input::Params | Input::ParamsEnd => "PARAMS record after the end of its stream",
        Input::Stdin | Input::StdinEnd => "STDIN record outside its stream",
        Input::Data => "DATA record for a responder",
        Input::Abort | Input::Foreign => "record of a type that no web server sends for a request",
    }
}

/// How far the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Without CONTENT_LENGTH the first STDIN record tells whether there is a body; the head waits for it.
    Undecided,
    Known {
        left: u64,
    },
    /// Ends with STDIN; `left` is what the limit still allows.
    Unknown {
        left: u64,
    },
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Awaited,
    Begun { has_body: bool },
}

/// A request that has begun and not ended.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) keep_conn: bool,
    pub(super) phase: Phase,
    pub(super) answer: Answer,
    /// The end of STDIN has come, in whatever phase.
    pub(super) stdin_has_ended: bool,
    /// STDERR records were sent, so their stream must be ended too.
    pub(super) stderr_is_open: bool,
    /// When the peer should have sent more.
    pub(super) deadline: Option<Instant>,
    /// Of the body.
    pub(super) pace: Pace,
    /// Until it is handed out with `Event::Request`.
    pub(super) head: RequestHead,
    /// It is still that of a former request.
    head_is_old: bool,
    params: params::Decoder,
    body: Body,
}

impl Request {
    pub(super) fn begin(
        id: RequestId,
        keep_conn: bool,
        head: RequestHead,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Self {
        Request {
            id,
            keep_conn,
            phase: Phase::Params,
            answer: Answer::Awaited,
            stdin_has_ended: false,
            stderr_is_open: false,
            deadline,
            pace: Pace::begin(now),
            head,
            head_is_old: true,
            params: params::Decoder::default(),
            body: Body::Undecided,
        }
    }

    /// The number on the wire.
    pub(super) fn wire_id(&self) -> u16 {
        wire_id(self.id)
    }

    pub(super) fn has_body_to_send(&self) -> bool {
        self.answer == Answer::Begun { has_body: true }
    }

    /// The body is complete, and nothing has been sent.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Responding)
            && self.answer == Answer::Awaited
            && !self.stderr_is_open
    }

    /// Another process has read this request, and its body is complete: what it said first.
    pub(super) fn resume(
        &mut self,
        params: &[u8],
        stdin_has_ended: bool,
        body_is_of_unknown_length: bool,
        limits: &Limits,
    ) -> Event {
        self.stdin_has_ended = stdin_has_ended;
        self.phase = if stdin_has_ended { Phase::Responding } else { Phase::Draining };
        self.begin_head();
        let fed = self.params.feed(&mut self.head, params, limits);
        match fed.and_then(|()| self.params.finish(&self.head)) {
            Err(error) => {
                self.phase = Phase::Rejected;
                Event::Reject { id: self.id, error }
            }
            Ok(length) => {
                let mut head = std::mem::take(&mut self.head);
                head.body = match length {
                    _ if body_is_of_unknown_length => BodyLength::Unknown,
                    None | Some(0) => BodyLength::None,
                    Some(length) => BodyLength::Known(length),
                };
                Event::Request { id: self.id, head }
            }
        }
    }

    pub(super) fn params(&mut self, piece: &[u8], limits: &Limits, events: &mut VecDeque<Event>) {
        if self.phase != Phase::Params {
            return;
        }
        if self.head_is_old && self.params.repeat(&mut self.head, piece) {
            self.head_is_old = false;
            return;
        }
        self.begin_head();
        if let Err(error) = self.params.feed(&mut self.head, piece, limits) {
            self.reject(error, events);
        }
    }

    /// What is still there of a former request goes.
    fn begin_head(&mut self) {
        if std::mem::take(&mut self.head_is_old) {
            self.head.clear();
        }
    }

    /// PARAMS has ended, and the phase is already the next one.
    pub(super) fn params_end(&mut self, now: Instant, limits: &Limits, events: &mut VecDeque<Event>) {
        self.begin_head();
        match self.params.finish(&self.head) {
            Err(error) => self.reject(error, events),
            Ok(Some(0)) => {
                self.phase = Phase::Draining;
                self.announce(BodyLength::None, events);
                self.body_end(events);
            }
            Ok(Some(length)) if length > limits.max_body_bytes => self.reject(BODY_TOO_LARGE, events),
            Ok(Some(length)) => {
                self.body = Body::Known { left: length };
                self.begin_body(now, limits);
                self.announce(BodyLength::Known(length), events);
            }
            Ok(None) => {
                self.body = Body::Undecided;
                self.begin_body(now, limits);
            }
        }
    }

    /// A piece of a STDIN record begins: how many of its `available` bytes are wanted as body. The rest is discarded.
    pub(super) fn body_wanted(&self, available: usize) -> usize {
        match (self.phase, self.body) {
            (Phase::Stdin, Body::Known { left } | Body::Unknown { left }) => {
                usize::try_from(left).map_or(available, |left| left.min(available))
            }
            _ => 0,
        }
    }

    /// Decides about a body of unknown length, now that STDIN has content.
    pub(super) fn stdin_begins(&mut self, limits: &Limits, events: &mut VecDeque<Event>) {
        if self.phase == Phase::Stdin && self.body == Body::Undecided {
            self.body = Body::Unknown { left: limits.max_body_bytes };
            self.announce(BodyLength::Unknown, events);
        }
    }

    /// The peer owes a body from now on.
    pub(super) fn begin_body(&mut self, now: Instant, limits: &Limits) {
        self.pace = Pace::begin(now);
        self.deadline = now.checked_add(limits.body_timeout);
    }

    /// What its silence at `now` would be called.
    pub(super) fn lateness(&self, now: Instant, limits: &Limits) -> ProtocolError {
        let is_slow =
            self.phase == Phase::Stdin && self.pace.deadline(limits).is_some_and(|deadline| now >= deadline);
        ProtocolError::new(
            408,
            if is_slow { "the body came too slowly (--min-rate)" } else { "the peer stopped sending" },
        )
    }

    /// A piece of STDIN: `wanted` bytes of body, after which `surplus` bytes were discarded.
    pub(super) fn stdin(
        &mut self,
        wanted: Bytes,
        surplus: usize,
        (now, limits): (Instant, &Limits),
        events: &mut VecDeque<Event>,
    ) {
        if self.phase != Phase::Stdin {
            return;
        }
        let count = wanted.len() as u64;
        if count > 0 {
            events.push_back(Event::Body { id: self.id, chunk: wanted });
        }
        self.body_came(count, (now, limits), events);
        if surplus > 0 && matches!(self.body, Body::Unknown { .. }) {
            self.reject(BODY_TOO_LARGE, events);
        }
    }

    /// How much of a body of known length is still to come, if STDIN is open.
    pub(super) fn known_body_left(&self) -> Option<u64> {
        match (self.phase, self.body) {
            (Phase::Stdin, Body::Known { left }) => Some(left),
            _ => None,
        }
    }

    /// So many bytes of body have come.
    pub(super) fn body_came(
        &mut self,
        count: u64,
        (now, limits): (Instant, &Limits),
        events: &mut VecDeque<Event>,
    ) {
        if count > 0 {
            self.pace.add(count);
            let of_pause = now.checked_add(limits.body_timeout);
            self.deadline = [of_pause, self.pace.deadline(limits)].into_iter().flatten().min();
        }
        match &mut self.body {
            Body::Undecided => {}
            Body::Known { left } => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.phase = Phase::Draining;
                    self.body_end(events);
                }
            }
            Body::Unknown { left } => *left = left.saturating_sub(count),
        }
    }

    /// STDIN has ended; `before` is the phase in which it did.
    pub(super) fn stdin_end(&mut self, before: Phase, events: &mut VecDeque<Event>) {
        if before != Phase::Stdin {
            return;
        }
        match self.body {
            Body::Known { .. } => return self.reject(BODY_TOO_SHORT, events),
            Body::Undecided => self.announce(BodyLength::None, events),
            Body::Unknown { .. } => {}
        }
        self.body_end(events);
    }

    /// Nothing more of the peer's input is used. The caller answers.
    pub(super) fn reject(&mut self, error: ProtocolError, events: &mut VecDeque<Event>) {
        self.phase = Phase::Rejected;
        self.deadline = None;
        self.head = RequestHead::default();
        events.push_back(Event::Reject { id: self.id, error });
    }

    fn announce(&mut self, body: BodyLength, events: &mut VecDeque<Event>) {
        let mut head = std::mem::take(&mut self.head);
        head.body = body;
        head.is_whole = true;
        events.push_back(Event::Request { id: self.id, head });
    }

    fn body_end(&mut self, events: &mut VecDeque<Event>) {
        self.deadline = None;
        events.push_back(Event::BodyEnd { id: self.id });
    }
}

/// The request ID that the peer chose (§3.3).
pub(super) fn wire_id(id: RequestId) -> u16 {
    (id.0 & 0xffff) as u16
}

/// The ID for the caller: `serial` tells requests apart that use the same number one after the other.
pub(super) fn request_id(serial: u16, wire_id: u16) -> RequestId {
    RequestId(u32::from(serial) << 16 | u32::from(wire_id))
}
