//! The reading side of a connection: heads, bodies, what is refused.

use std::mem;
use std::time::Duration;

use super::{Connection, Ending, Expectation, Reading, Responding};
use crate::protocol::http1::body::{Body, Found};
use crate::protocol::http1::head::{FoundHead, Terms};
use crate::protocol::http1::response::CONTINUE;
use crate::protocol::pace::Pace;
use crate::protocol::{Event, ProtocolError, RequestHead};

/// Empty lines before a request line (RFC 9112 §2.2): old clients send one after a body.
const MAX_EMPTY_LINES: u8 = 2;

impl Connection {
    pub(in crate::protocol::http1) fn is_between_requests(&self) -> bool {
        matches!(self.reading, Reading::Head(_)) && self.input.is_empty()
    }

    pub(super) fn poll_head(&mut self) -> Option<Event> {
        if self.input.is_empty() && !self.peer_closed && !self.draining {
            return None;
        }
        if let Some(terms) = self.repeated_terms() {
            return Some(self.repeat_head(terms));
        }
        let outcome = self.skip_empty_lines().and_then(|may_begin| match &mut self.reading {
            Reading::Head(search) if may_begin => search.search(self.input.unread(), &self.limits),
            _ => Ok(None),
        });
        match outcome {
            Ok(Some(found)) => self.read_head(&found),
            Ok(None) => {
                if self.peer_closed || self.draining && self.input.is_empty() {
                    self.close(Ending::Close);
                }
                None
            }
            Err(error) => {
                if let Reading::Head(search) = &self.reading {
                    self.terms = search.terms();
                }
                self.reject(error.at(self.input.offset()));
                self.take_rejection()
            }
        }
    }

    /// True: what is unread may be a request line.
    fn skip_empty_lines(&mut self) -> Result<bool, ProtocolError> {
        loop {
            match self.input.unread() {
                [b'\r', b'\n', ..] if self.empty_lines < MAX_EMPTY_LINES => {
                    self.empty_lines += 1;
                    self.input.consume(2);
                }
                // Undecided until the next byte has come.
                [b'\r'] => return Ok(false),
                [b'\r' | b'\n', ..] => {
                    return Err(ProtocolError::new(400, "an empty line stands for a request line"));
                }
                _ => return Ok(true),
            }
        }
    }

    /// Those of the former request, if the head that comes now begins with the same bytes: the last of them end a head, so
    /// it is the same as a whole. Browsers, health checks and other programs ask again and again for the same.
    fn repeated_terms(&self) -> Option<Terms> {
        let terms = self.spare.terms?;
        let Reading::Head(search) = &self.reading else { return None };
        (search.is_new() && self.input.unread().starts_with(&self.spare.bytes)).then_some(terms)
    }

    /// What was read and checked once need not be again.
    fn repeat_head(&mut self, terms: Terms) -> Event {
        let head = RequestHead { repeats: true, ..mem::take(&mut self.spare) };
        self.terms = terms;
        self.input.consume(head.bytes.len());
        self.begin_request(&head);
        Event::Request { id: self.id, head }
    }

    fn read_head(&mut self, found: &FoundHead) -> Option<Event> {
        let mut head = mem::take(&mut self.spare);
        head.clear();
        let bytes = self.input.unread().get(..found.length).unwrap_or_default();
        match found.read(bytes, &self.limits, &mut head) {
            Ok(terms) => {
                self.terms = terms;
                self.input.consume(found.length);
                self.begin_request(&head);
                Some(Event::Request { id: self.id, head })
            }
            Err(error) => {
                self.recycle(head);
                self.terms = found.refusal_terms();
                self.reject(error.at(self.input.offset()));
                self.take_rejection()
            }
        }
    }

    fn begin_request(&mut self, head: &RequestHead) {
        self.had_request = true;
        self.responding = Responding::Awaited;
        self.starved = false;
        self.since = self.since.max(self.received_at);
        self.pace = Pace::begin(self.since);
        self.expectation = Expectation::None;
        self.reading = match Body::new(head.body) {
            None => Reading::BodyEnd,
            Some(body) => {
                // Body bytes that are here already answer the question.
                if self.terms.expects_continue && self.input.is_empty() {
                    self.expectation = Expectation::Pending;
                }
                Reading::Body(body)
            }
        };
    }

    pub(super) fn poll_body(&mut self) -> Option<Event> {
        let Reading::Body(body) = &mut self.reading else { return None };
        match body.read(&mut self.input, &self.limits) {
            Ok(Found::Chunk(chunk)) => {
                self.pace.add(chunk.len() as u64);
                Some(Event::Body { id: self.id, chunk })
            }
            Ok(Found::End) => {
                self.reading = Reading::Done;
                Some(Event::BodyEnd { id: self.id })
            }
            Ok(Found::Nothing) if self.peer_closed => {
                self.break_response();
                Some(Event::Abort { id: self.id })
            }
            Ok(Found::Nothing) => {
                self.starved = true;
                if self.expectation == Expectation::Pending {
                    self.expectation = Expectation::None;
                    self.output.copy(CONTINUE);
                }
                None
            }
            Err(error) => {
                self.reject(error);
                self.take_rejection()
            }
        }
    }

    /// Reads the rest of a body that nobody wants.
    pub(super) fn discard(&mut self) {
        while let Reading::Discard { body, left } = &mut self.reading {
            match body.read(&mut self.input, &self.limits) {
                Ok(Found::Chunk(chunk)) => match left.checked_sub(chunk.len() as u64) {
                    Some(rest) => *left = rest,
                    None => self.close(Ending::Linger),
                },
                Ok(Found::End) => self.next_request(),
                Ok(Found::Nothing) => {
                    if self.peer_closed {
                        self.close(Ending::Close);
                    }
                    return;
                }
                Err(_) => self.close(Ending::Linger),
            }
        }
    }

    /// Nothing is parsed from here on. The caller hears of it with the next event, and answers; a response that had
    /// begun can't be answered over and is broken off.
    pub(super) fn reject(&mut self, error: ProtocolError) {
        self.rejected = Some(error);
        match self.responding {
            Responding::Body(_) => self.break_response(),
            Responding::Nothing | Responding::Awaited => {
                self.responding = Responding::Awaited;
                self.expectation = Expectation::None;
                self.stop_reading();
            }
        }
    }

    fn take_rejection(&mut self) -> Option<Event> {
        self.rejected.take().map(|error| Event::Reject { id: self.id, error })
    }

    pub(super) fn stop_reading(&mut self) {
        self.reading = Reading::Stopped;
        self.input.discard();
    }

    /// The peer has to send more of a body, and knows it.
    pub(super) fn awaits_body(&self) -> bool {
        matches!(self.reading, Reading::Body(_))
            && self.starved
            && !self.reading_paused
            && self.expectation != Expectation::Overtaken
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        match self.reading {
            Reading::Head(_) if self.input.is_empty() && self.had_request => {
                Some(self.limits.keep_alive_timeout)
            }
            Reading::Head(_) => Some(self.limits.head_timeout),
            Reading::Body(_) if self.awaits_body() => Some(self.limits.body_timeout),
            // In all, not for each byte: no worker's time is lost, but the connection's place.
            Reading::Discard { .. } => Some(self.limits.body_timeout),
            _ => None,
        }
    }
}
