//! A connection that goes on in another process: its state as bytes.

use std::time::Instant;

use super::{Connection, Ending, Expectation, Reading, Responding};
use crate::protocol::{Event, ProtocolError, RequestHead, RequestId};

/// First byte of a state.
const FRESH: u8 = 0;
/// No request is under way, but there has been one.
const KEPT: u8 = 1;
/// A request is under way; its head follows as it came.
const REQUEST: u8 = 2;

const MALFORMED: ProtocolError = ProtocolError::new(400, "not the state of an HTTP connection");

impl Connection {
    /// Appends what [`resume`](Self::resume) of a fresh connection needs, so that it can go on in the place of this one.
    /// `request` is the one under way, if there is one: its body is complete, its answer has not begun.
    ///
    /// False, and nothing is appended: the connection is in a state that can't be told in bytes.
    pub fn suspend(&self, request: Option<(RequestId, &RequestHead)>, state: &mut Vec<u8>) -> bool {
        let is_open = self.ending == Ending::Open
            && self.rejected.is_none()
            && !self.peer_closed
            && !self.draining
            && self.output.is_empty();
        match (request, &self.reading, self.responding) {
            _ if !is_open => false,
            (None, Reading::Head(_), Responding::Nothing) => {
                state.push(if self.had_request { KEPT } else { FRESH });
                true
            }
            (Some((id, head)), Reading::Done, Responding::Awaited) if id == self.id => {
                state.push(REQUEST);
                state.extend_from_slice(&head.bytes);
                true
            }
            _ => false,
        }
    }

    /// Puts a fresh connection into the state that [`suspend`](Self::suspend) has told. The event is that of the request
    /// under way: its body counts as read, and no `BodyEnd` will come. Bytes that were
    /// [`unread`](Self::unread) there are to be fed next.
    ///
    /// # Errors
    /// `state` is not such a state.
    pub fn resume(&mut self, state: &[u8], now: Instant) -> Result<Option<Event>, ProtocolError> {
        match state {
            [FRESH] => Ok(None),
            [KEPT] => {
                self.had_request = true;
                self.since = now;
                Ok(None)
            }
            [REQUEST, head @ ..] => {
                self.receive(head, now);
                let event = self.poll_event()?;
                if let Some(Event::Request { .. }) = &event {
                    if !self.input.is_empty() {
                        return Err(MALFORMED);
                    }
                    self.reading = Reading::Done;
                    self.expectation = Expectation::None;
                }
                event.map(Some).ok_or(MALFORMED)
            }
            _ => Err(MALFORMED),
        }
    }

    /// Whether bytes have come that were not parsed yet.
    pub fn has_unread(&self) -> bool {
        !self.input.is_empty()
    }
}
