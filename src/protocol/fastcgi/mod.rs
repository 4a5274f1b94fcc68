//! FastCGI 1.0, both sides, sans-IO: [`Connection`] is the application's side (a responder), [`client`] the web server's.
//!
//! Nothing here reads a socket or a clock, so it can be used with any kind of I/O. Names and values are bytes. Every split
//! of the input gives the same events, and no length in the input is believed before it is compared with a limit.
//!
//! | file | job |
//! | --- | --- |
//! | [`record`] | headers, types, fixed bodies; where records begin and end |
//! | [`params`] | name-value pairs |
//! | `connection`, `intake` | the verbs; which record is for whom |
//! | `request` | the order of records of one request, and its body |
//! | `answer` | response parts to records |
//! | `management` | FCGI_GET_VALUES |
//! | `suspend` | a connection that goes on in another process |
//! | [`client`] | requests to records, records of answers to events |
//! | `addresses` | FCGI_WEB_SERVER_ADDRS |
//!
//! # Example
//!
//! A web server and a responder that talk to each other in memory:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use forkhorn::protocol::fastcgi::{Connection, client};
//! use forkhorn::protocol::{Event, Limits, Piece, ResponseHead, ResponsePart};
//!
//! // The web server asks ...
//! let mut bytes = Vec::new();
//! let pairs = [(&b"REQUEST_METHOD"[..], &b"GET"[..]), (b"SCRIPT_NAME", b"/hello")];
//! client::request(&mut bytes, 1, true, pairs, b"");
//!
//! // ... the responder answers ...
//! let now = Instant::now();
//! let mut responder = Connection::new(Arc::new(Limits::default()), now);
//! responder.receive(&bytes, now);
//! while let Some(event) = responder.poll_event()? {
//!     match event {
//!         Event::Request { head, .. } => assert_eq!(head.field(b"SCRIPT_NAME"), Some(&b"/hello"[..])),
//!         Event::Body { .. } => unreachable!("a GET without a body"),
//!         Event::BodyEnd { id } => {
//!             let mut head = ResponseHead::new(200);
//!             head.push(b"Content-Type", b"text/plain")?;
//!             responder.send(id, ResponsePart::Head(&head), now);
//!             responder.send(id, ResponsePart::Body(b"Hello"), now);
//!             responder.send(id, ResponsePart::End, now);
//!         }
//!         Event::Abort { .. } | Event::Reject { .. } => {}
//!     }
//! }
//! assert!(responder.is_idle() && !responder.wants_close(), "the connection was to be kept");
//!
//! // ... and the web server reads.
//! let mut web_server = client::Decoder::default();
//! while let Some(Piece::Bytes(piece)) = responder.output().front() {
//!     let written = piece.len() as u64;
//!     web_server.receive(piece);
//!     responder.output().consume(written);
//! }
//! let mut answer = Vec::new();
//! while let Some(event) = web_server.poll_event()? {
//!     match event {
//!         client::ResponseEvent::Stdout { id: 1, chunk } => answer.extend_from_slice(&chunk),
//!         client::ResponseEvent::End { id: 1, app_status, .. } => assert_eq!(app_status, 0),
//!         other => unreachable!("{other:?}"),
//!     }
//! }
//! assert_eq!(answer, b"Content-Type: text/plain\r\nStatus: 200 OK\r\n\r\nHello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod addresses;
mod answer;
pub mod client;
mod connection;
mod intake;
mod management;
pub mod params;
pub mod record;
mod request;
mod suspend;
#[cfg(test)]
mod tests;

pub use addresses::{InvalidWebServerAddr, WebServerAddrs};
pub use connection::Connection;
pub use management::Capabilities;
