//! Records to events: finds out for whom a record is, and gives it there.

use bytes::Bytes;

use super::connection::Connection;
use super::management::{self, LONGEST_QUESTION};
use super::record::{BeginRequest, Header, ProtocolStatus, RecordType, Role, Source, Step};
use super::request::{Input, Phase, Request, next_phase, request_id};
use crate::protocol::{Event, ProtocolError};

/// Where the content of the present record goes. Requests are named by their request ID: one may end in the middle of a
/// record, and what remains of it is then discarded as the content that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Begin(u16),
    Params(u16),
    Stdin(u16),
    Question,
    Discard,
}

impl Connection {
    /// Reads a header, a piece of content or the end of a record. False: more bytes are needed.
    pub(super) fn read_step(&mut self, source: &mut impl Source) -> Result<bool, ProtocolError> {
        match self.framing.step(source)? {
            Step::Starved => return Ok(false),
            Step::Start(header) => self.target = self.start(header)?,
            Step::Content(available) => return self.content(source, available),
            Step::End => {
                if self.target == Target::Question {
                    let question = std::mem::take(&mut self.question);
                    self.answers.values(&management::answer(&question, self.capabilities))?;
                }
                self.record_began = self.now;
            }
        }
        Ok(true)
    }

    fn start(&mut self, header: Header) -> Result<Target, ProtocolError> {
        let content_length = header.content_length;
        match (header.record_type, header.request_id) {
            (RecordType::GetValues, 0) if content_length > LONGEST_QUESTION => {
                Err(ProtocolError::new(431, "GET_VALUES record is over its limit"))
            }
            (RecordType::GetValues, 0) => Ok(Target::Question),
            (RecordType::Other(number), 0) => {
                self.answers.unknown_type(number)?;
                Ok(Target::Discard)
            }
            (_, 0) => Err(ProtocolError::new(400, "record of this type with the null request ID")),
            (RecordType::Stdin | RecordType::AbortRequest, id)
                if content_length == 0 && self.lingers_for(id) =>
            {
                self.linger = None;
                Ok(Target::Discard)
            }
            (record_type, id) => match self.requests.iter().position(|request| request.wire_id() == id) {
                Some(index) => self.order(index, Input::of(record_type, content_length == 0)),
                None if record_type != RecordType::BeginRequest => Ok(Target::Discard),
                None if usize::from(content_length) != BeginRequest::LENGTH => {
                    Err(ProtocolError::new(400, "BEGIN_REQUEST record without 8 bytes of content"))
                }
                None => Ok(Target::Begin(id)),
            },
        }
    }

    /// A record for a request under way begins.
    fn order(&mut self, index: usize, input: Input) -> Result<Target, ProtocolError> {
        let (limits, now) = (&self.limits, self.now);
        let Some(request) = self.requests.get_mut(index) else { return Ok(Target::Discard) };
        let before = request.phase;
        request.phase = next_phase(before, input)?;
        let id = request.wire_id();
        match input {
            Input::Params => return Ok(Target::Params(id)),
            Input::ParamsEnd if before == Phase::Params => request.params_end(now, limits, &mut self.events),
            Input::Stdin => {
                request.stdin_begins(limits, &mut self.events);
                return Ok(Target::Stdin(id));
            }
            Input::StdinEnd => {
                request.stdin_has_ended = true;
                request.stdin_end(before, &mut self.events);
            }
            Input::Abort => self.abort(index, before)?,
            // The order refuses the rest, and a rejected request has no use for the end of its PARAMS.
            Input::ParamsEnd | Input::Begin | Input::Data | Input::Foreign => {}
        }
        Ok(Target::Discard)
    }

    /// False: more bytes are needed.
    fn content(&mut self, source: &mut impl Source, available: usize) -> Result<bool, ProtocolError> {
        match self.target {
            Target::Begin(id) => {
                let Some(content) = source.bytes().first_chunk::<{ BeginRequest::LENGTH }>() else {
                    return Ok(false);
                };
                let begin = BeginRequest::decode(*content);
                self.framing.skip(source, BeginRequest::LENGTH);
                self.begin(id, begin)?;
                return Ok(true);
            }
            Target::Question => {
                self.question.reserve_exact(self.framing.content_left());
                self.question.extend_from_slice(source.bytes().get(..available).unwrap_or_default());
            }
            Target::Params(id) => {
                if let Some(request) = self.requests.iter_mut().find(|request| request.wire_id() == id) {
                    let piece = source.bytes().get(..available).unwrap_or_default();
                    request.params(piece, &self.limits, &mut self.events);
                }
            }
            Target::Stdin(id) => {
                self.stdin(source, available, id);
                return Ok(true);
            }
            Target::Discard => {}
        }
        self.framing.skip(source, available);
        Ok(true)
    }

    fn begin(&mut self, id: u16, begin: BeginRequest) -> Result<(), ProtocolError> {
        let refusal = if begin.role != Role::Responder {
            Some(ProtocolStatus::UnknownRole)
        } else if self.closing || self.requests.len() >= self.limits.max_requests {
            Some(ProtocolStatus::Overloaded)
        } else {
            None
        };
        if let Some(status) = refusal {
            self.answers.refuse(id, status)?;
            self.ended(id, begin.keep_conn, false);
            return Ok(());
        }
        self.serial = self.serial.wrapping_add(1);
        let deadline = self.record_began.checked_add(self.limits.head_timeout);
        let head = self.take_spare_head();
        if self.requests.capacity() == 0 {
            // Nearly every web server sends one request at a time.
            self.requests.reserve_exact(1);
        }
        let id = request_id(self.serial, id);
        self.requests.push(Request::begin(id, begin.keep_conn, head, deadline, self.now));
        Ok(())
    }

    fn stdin(&mut self, source: &mut impl Source, available: usize, id: u16) {
        let index = self.requests.iter().position(|request| request.wire_id() == id);
        let wanted = index.map_or(0, |index| self.requests[index].body_wanted(available));
        let body = if wanted > 0 { self.framing.take(source, wanted) } else { Bytes::new() };
        self.framing.skip(source, available - wanted);
        if let Some(index) = index {
            self.push_stdin(index, body, available - wanted);
        }
    }

    /// FCGI_ABORT_REQUEST (§5.4): nothing that the application says interests the peer now, so its END_REQUEST goes out
    /// at once.
    fn abort(&mut self, index: usize, before: Phase) -> Result<(), ProtocolError> {
        let Some(request) = self.requests.get_mut(index) else { return Ok(()) };
        if before != Phase::Rejected {
            self.events.push_back(Event::Abort { id: request.id });
        }
        self.answers.refuse(request.wire_id(), ProtocolStatus::RequestComplete)?;
        request.stdin_has_ended = true;
        self.remove(index);
        Ok(())
    }
}
