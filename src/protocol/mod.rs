//! Bytes to events, response parts to bytes: FastCGI 1.0 and HTTP/1.1 behind the same verbs.
//!
//! Sans-IO: nothing here owns a socket or reads a clock. A connection is fed with [`receive`], asked with [`poll_event`],
//! answered with [`send`], and what is to be written lies in its [`Output`]. Both [`fastcgi::Connection`] and
//! [`http1::Connection`] have exactly these methods, so that the caller need not know which one it holds:
//!
//! ```text
//! receive(&mut self, bytes: &[u8], now: Instant)          bytes from the peer
//! receive_eof(&mut self)                                   the peer will send no more
//! poll_event(&mut self) -> Result<Option<Event>, ProtocolError>   None: "feed me"; Err: close, nothing to say
//! send(&mut self, id: RequestId, part: ResponsePart<'_>, now: Instant)
//! output(&mut self) -> &mut Output                         what waits to be written
//! recycle(&mut self, head: RequestHead)                    gives a head's buffers back for the next request
//! deadline(&self) -> Option<Instant>                       when on_deadline wants to be called
//! on_deadline(&mut self, now: Instant)                     may make an event (408) or end the connection
//! wants_close(&self) -> bool                               once the output is written, close
//! is_idle(&self) -> bool                                   no request under way and no byte of a next one
//! drain(&mut self)                                         finish what runs, then want to close
//! suspend(&self, request, state: &mut Vec<u8>) -> bool     tells a state in bytes, for another process
//! resume(&mut self, state: &[u8], now) -> Result<Option<Event>, ProtocolError>   goes on from there
//! unread(&self) -> &[u8]                                   bytes that came and were not parsed yet
//! body_ahead(&self) -> Option<BodyAhead>                   bytes of a body that need not pass through here
//! body_received(&mut self, count: u64, now: Instant)       so many of them have come to the caller by another way
//! awaits_rest(&self) -> bool                               a head or a body has begun, and the peer owes the rest
//! ```
//!
//! [`receive`]: http1::Connection::receive
//! [`poll_event`]: http1::Connection::poll_event
//! [`send`]: http1::Connection::send

#![forbid(unsafe_code)]

mod digits;
mod error;
pub mod fastcgi;
mod head;
pub mod http1;
mod output;
mod pace;
mod response;

use std::fs::File;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use error::ProtocolError;
pub use head::{BodyLength, Field, RequestHead, RequestLine, Span, Version};
pub use output::{Output, Piece};
pub use response::{
    CheckedField, InvalidField, ResponseHead, default_reason, is_field_value, is_hop_by_hop, is_token,
    parse_content_length,
};

/// Which request of a connection. In HTTP a number that counts up. FastCGI: the request ID (§3.3) in the low 16 bits,
/// a number that counts up above them, so that a late part of an ended request cannot reach the next one with its ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// What a peer did, in the order in which it did it.
///
/// For one request the order is `Request`, any number of `Body`, `BodyEnd`; an `Abort` or a `Reject` may come at any
/// point and ends it. After `Abort` or `Reject` no event with this id follows.
#[derive(Debug)]
pub enum Event {
    /// A complete head. Its body, if `head.body` announces any, follows.
    Request { id: RequestId, head: RequestHead },
    /// A piece of the body, never empty.
    Body { id: RequestId, chunk: Bytes },
    /// The body is complete. Comes for requests without a body too, straight after `Request`.
    BodyEnd { id: RequestId },
    /// The peer has no more interest: FCGI_ABORT_REQUEST, or the end of the connection. Nothing need be sent.
    Abort { id: RequestId },
    /// The request breaks a rule or a limit. The caller answers it with `error.status()` through `send`, if it has not
    /// begun to answer; the protocol discards or closes as its rules demand. Can come before any `Request`.
    Reject { id: RequestId, error: ProtocolError },
}

/// Bytes of a body that the peer sends next, as far as what has come tells: they may be read right to their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyAhead {
    pub id: RequestId,
    /// So many bytes of the body come next, with nothing between them.
    pub run: u64,
    /// So many of them are to come in all.
    pub left: u64,
    /// What is likely to follow a run, if the body then goes on: so many bytes that are none of it, and a run so long.
    pub then: Option<(usize, usize)>,
}

/// A piece of a response. For one request: `Head`, any number of bodies, then `End` or `Broken`.
#[derive(Debug)]
pub enum ResponsePart<'a> {
    Head(&'a ResponseHead),
    /// Copied into the output.
    Body(&'a [u8]),
    /// Held by reference until it is written.
    SharedBody(Bytes),
    /// `length` bytes of a file from `offset`, for sendfile(2).
    FileBody {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
    /// The response is complete.
    End,
    /// The response can't be completed: the peer must be able to see that it is broken, never a complete answer.
    Broken,
}

/// What one connection may cost. Every limit has a command line option of the same name.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request head: request line and field lines, or all name-value pairs of PARAMS.
    pub max_head_bytes: usize,
    /// Number of field lines, or of name-value pairs.
    pub max_fields: usize,
    /// Bytes of the request target (HTTP), or of the value of REQUEST_URI (FastCGI).
    pub max_uri_bytes: usize,
    /// Bytes of a body.
    pub max_body_bytes: u64,
    /// Requests at once on one connection (FastCGI request IDs; HTTP answers one at a time).
    pub max_requests: usize,
    /// From the first byte of a head to its end; also from the accept to the first head.
    pub head_timeout: Duration,
    /// Without a byte of a body that is awaited.
    pub body_timeout: Duration,
    /// Bytes of a body in a second, on average, once it has come for as long as `body_timeout`; `None`: any.
    pub min_rate: Option<NonZeroU64>,
    /// Between two requests of a kept connection.
    pub keep_alive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_head_bytes: 64 * 1024,
            max_fields: 256,
            max_uri_bytes: 16 * 1024,
            max_body_bytes: 1024 * 1024 * 1024,
            max_requests: 128,
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(60),
            min_rate: NonZeroU64::new(500),
            keep_alive_timeout: Duration::from_secs(75),
        }
    }
}
