//! A connection that goes on in another process: its state as bytes.

use std::time::Instant;

use super::connection::Connection;
use super::request::{Request, request_id};
use crate::protocol::{BodyLength, Event, ProtocolError, RequestHead, RequestId};

/// First byte of a state.
const FRESH: u8 = 0;
/// No request is under way, but there has been one.
const KEPT: u8 = 1;
/// A request is under way: its request ID in two bytes, its flags and its PARAMS stream follow.
const REQUEST: u8 = 2;

const KEEP_CONN: u8 = 1;
const STDIN_HAS_ENDED: u8 = 2;
/// It has a body and no CONTENT_LENGTH.
const BODY_OF_UNKNOWN_LENGTH: u8 = 4;

const MALFORMED: ProtocolError = ProtocolError::new(400, "not the state of a FastCGI connection");

impl Connection {
    /// Appends what [`resume`](Self::resume) of a fresh connection needs, so that it can go on in the place of this one.
    /// `request` is the one under way, if there is one: its body is complete, its answer has not begun.
    ///
    /// False, and nothing is appended: the connection is in a state that can't be told in bytes. Several requests are
    /// under way, or a part of a record has come.
    pub fn suspend(&self, request: Option<(RequestId, &RequestHead)>, state: &mut Vec<u8>) -> bool {
        if !self.is_open() || !self.framing.is_between_records() || !self.answers.is_empty() {
            return false;
        }
        match (request, self.requests.as_slice()) {
            (None, []) => {
                state.push(if self.serial > 0 { KEPT } else { FRESH });
                true
            }
            (Some((id, head)), [request]) if id == request.id && request.is_unanswered() => {
                let mut flags = 0;
                for (flag, is_set) in [
                    (KEEP_CONN, request.keep_conn),
                    (STDIN_HAS_ENDED, request.stdin_has_ended),
                    (BODY_OF_UNKNOWN_LENGTH, head.body == BodyLength::Unknown),
                ] {
                    flags |= if is_set { flag } else { 0 };
                }
                let [high, low] = request.wire_id().to_be_bytes();
                state.extend_from_slice(&[REQUEST, high, low, flags]);
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
        self.see_time(now);
        match state {
            [FRESH] => Ok(None),
            [KEPT] => {
                self.serial = 1;
                self.ended(0, true, true);
                Ok(None)
            }
            [REQUEST, high, low, flags, params @ ..] => {
                let wire_id = u16::from_be_bytes([*high, *low]);
                let has = |flag: u8| flags & flag != 0;
                if wire_id == 0 || flags & !(KEEP_CONN | STDIN_HAS_ENDED | BODY_OF_UNKNOWN_LENGTH) != 0 {
                    return Err(MALFORMED);
                }
                self.serial = 1;
                let id = request_id(self.serial, wire_id);
                let mut request = Request::begin(id, has(KEEP_CONN), RequestHead::default(), None, now);
                let (ended, unknown) = (has(STDIN_HAS_ENDED), has(BODY_OF_UNKNOWN_LENGTH));
                let event = request.resume(params, ended, unknown, &self.limits);
                self.requests.push(request);
                Ok(Some(event))
            }
            _ => Err(MALFORMED),
        }
    }
}
