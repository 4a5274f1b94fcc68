//! HTTP/1.1, server side: RFC 9112, read strictly, because a second reader of the same bytes must never see another
//! request than we do.
//!
//! | file | job |
//! | --- | --- |
//! | [`connection`](Connection) | the verbs of [`super`], the order of events, deadlines, persistence |
//! | `input` | bytes that came and were not parsed yet |
//! | `lines` | the search for the end of a head or trailer section |
//! | `request_line` | request line, [`Target`], the grammar of Host |
//! | `head` | a complete head to a [`RequestHead`](super::RequestHead) and its `Terms` |
//! | `body` | Content-Length and the chunked transfer coding |
//! | `response` | status line, fields and framing of what we send |
//! | `date` | the Date field, formatted once a second |
//!
//! What is stricter here than in the RFC: line ends are CRLF only (§2.2 would tolerate LF); Content-Length may come only
//! once (§6.3 would tolerate equal ones); no white space in chunk size lines; Host is a name, an address and a port.
//! What is wider: a request target may hold raw bytes from 0x80 up and characters such as `|` or `"`, which browsers and
//! scripts do send unencoded; `#` and control characters are refused.

mod body;
mod connection;
mod date;
mod head;
mod input;
mod lines;
mod request_line;
mod response;

#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use date::{DATE_BYTES, DateCache};
pub(super) use head::Terms;
pub use request_line::{Target, split_target};
