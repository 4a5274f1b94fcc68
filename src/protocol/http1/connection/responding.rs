//! The responding side of a connection: parts of responses, what follows their end.

use std::mem;
use std::time::Instant;

use super::{Connection, Ending, Expectation, Reading, Responding};
use crate::protocol::http1::head::{HeadSearch, Terms};
use crate::protocol::http1::response::{Content, Framing, Persistence, write_head, write_interim};
use crate::protocol::{RequestId, ResponseHead, Version};

/// A body that nobody wanted is read to its end up to this size, to keep the connection; a longer one costs it.
const MAX_DISCARD_BYTES: u64 = 64 * 1024;

impl Connection {
    pub(super) fn send_head(&mut self, head: &ResponseHead) {
        if self.responding != Responding::Awaited {
            return self.break_response();
        }
        if (100..=199).contains(&head.status) {
            // 101 would need an Upgrade, which is not served; HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
            if head.status != 101 && self.terms.version == Version::Http11 {
                write_interim(&mut self.output, head);
            }
            return;
        }
        let framing = Framing::of(head, self.terms.version, self.terms.is_head);
        self.keep = self.may_keep(head, framing);
        if self.expectation == Expectation::Pending {
            self.expectation = Expectation::Overtaken;
        }
        let persistence = match (self.keep, self.terms.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http11) => Persistence::Implied,
            (true, Version::Http10) => Persistence::KeepAlive,
        };
        write_head(&mut self.output, head, framing, persistence, self.date.as_ref());
        self.responding = Responding::Body(framing);
    }

    /// RFC 9112 §9.3, and our own reasons to close.
    fn may_keep(&self, head: &ResponseHead, framing: Framing) -> bool {
        let body_is_in_reach = match &self.reading {
            Reading::Body(_) if self.expectation == Expectation::Pending => false,
            Reading::Body(body) => body.left().is_none_or(|left| left <= MAX_DISCARD_BYTES),
            Reading::BodyEnd | Reading::Done => true,
            Reading::Head(_) | Reading::Discard { .. } | Reading::Stopped => false,
        };
        let last_of_peer = self.peer_closed && self.input.is_empty();
        body_is_in_reach
            && self.terms.keep_alive
            && !head.close
            && !self.draining
            && !last_of_peer
            && framing != Framing::UntilClose
    }

    pub(super) fn send_body(&mut self, content: Content<'_>) {
        match &mut self.responding {
            Responding::Body(framing) => framing.write(&mut self.output, content),
            _ => self.break_response(),
        }
    }

    pub(super) fn end(&mut self, now: Instant) {
        let complete = match self.responding {
            Responding::Body(framing) => framing.finish(&mut self.output),
            _ => false,
        };
        if !complete {
            return self.break_response();
        }
        self.since = now;
        if !self.keep {
            return self.close(self.polite_ending());
        }
        match mem::replace(&mut self.reading, Reading::Done) {
            Reading::Body(body) if body.left().is_none_or(|left| left <= MAX_DISCARD_BYTES) => {
                self.responding = Responding::Nothing;
                self.reading = Reading::Discard { body, left: MAX_DISCARD_BYTES };
            }
            Reading::Body(_) => self.close(Ending::Linger),
            _ => self.next_request(),
        }
    }

    pub(super) fn next_request(&mut self) {
        self.id = RequestId(self.id.0.wrapping_add(1));
        self.reading = Reading::Head(HeadSearch::default());
        self.responding = Responding::Nothing;
        self.terms = Terms::default();
        self.empty_lines = 0;
        if self.draining && self.input.is_empty() {
            self.close(Ending::Close);
        }
    }

    /// A client that asked for the end, and has sent nothing that we did not read, sends no more.
    fn polite_ending(&self) -> Ending {
        let has_read_all = matches!(self.reading, Reading::BodyEnd | Reading::Done) && self.input.is_empty();
        match has_read_all && !self.terms.keep_alive {
            true => Ending::Close,
            false => Ending::Linger,
        }
    }

    /// Ends the connection so that the peer sees that the response is not complete: no last chunk, fewer bytes than
    /// Content-Length says, or a reset where the end of the connection would end the body.
    pub(super) fn break_response(&mut self) {
        self.close(match self.responding {
            Responding::Body(Framing::UntilClose) => Ending::Reset,
            _ => Ending::Close,
        });
    }

    pub(super) fn close(&mut self, ending: Ending) {
        self.ending = ending;
        self.responding = Responding::Nothing;
        self.stop_reading();
    }
}
