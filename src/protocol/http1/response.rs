//! What a response looks like on the wire: status line, fields, and the framing of its body (RFC 9112 §4, §6, §7).

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::date::DATE_BYTES;
use crate::protocol::digits::Digits;
use crate::protocol::{Output, ResponseHead, Version};

pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How the peer learns where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// The message ends with its head; body bytes are dropped.
    NoBody,
    /// Content-Length announced so many bytes, of which so many are still to come.
    Length(u64),
    Chunked,
    /// HTTP/1.0: the end of the connection ends the body.
    UntilClose,
}

impl Framing {
    /// RFC 9112 §6.3, from the sender's side. `has_body` is the caller's word; method and status overrule it, so that
    /// no answer of ours can be read as two.
    pub fn of(head: &ResponseHead, version: Version, to_head_method: bool) -> Framing {
        if to_head_method || is_bodiless(head.status) {
            return Framing::NoBody;
        }
        match (head.has_body, head.content_length) {
            (false, _) => Framing::Length(0),
            (true, Some(length)) => Framing::Length(length),
            (true, None) if version == Version::Http11 => Framing::Chunked,
            (true, None) => Framing::UntilClose,
        }
    }
}

fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// What the response says about the connection (RFC 9112 §9.3, §9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// HTTP/1.1 keeps connections unless told otherwise.
    Implied,
    KeepAlive,
    Close,
}

/// `date` is left out as long as the connection was given none.
pub(super) fn write_head(
    output: &mut Output,
    head: &ResponseHead,
    framing: Framing,
    persistence: Persistence,
    date: Option<&[u8; DATE_BYTES]>,
) {
    output.copy_with(|bytes| {
        // As much as a usual head needs: the buffer then grows once at most.
        bytes.reserve(head.lines().len() + 192);
        write_status_line(bytes, head);
        bytes.extend_from_slice(head.lines());
        match framing {
            Framing::Length(length) => write_content_length(bytes, length),
            Framing::Chunked => bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            // HEAD and 304 may tell the length that the body would have; RFC 9110 §8.6 forbids it for 1xx and 204.
            Framing::NoBody if !matches!(head.status, 100..=199 | 204) => {
                head.content_length.into_iter().for_each(|length| write_content_length(bytes, length));
            }
            Framing::NoBody | Framing::UntilClose => {}
        }
        if let Some(date) = date.filter(|_| !head.has_date) {
            bytes.extend_from_slice(b"Date: ");
            bytes.extend_from_slice(date);
            bytes.extend_from_slice(b"\r\n");
        }
        if !head.has_server {
            bytes.extend_from_slice(b"Server: forkhorn\r\n");
        }
        match persistence {
            Persistence::Implied => bytes.extend_from_slice(b"\r\n"),
            Persistence::KeepAlive => bytes.extend_from_slice(b"Connection: keep-alive\r\n\r\n"),
            Persistence::Close => bytes.extend_from_slice(b"Connection: close\r\n\r\n"),
        }
    });
}

/// An interim response (RFC 9110 §15.2), such as 103: its field lines and nothing of ours.
pub(super) fn write_interim(output: &mut Output, head: &ResponseHead) {
    output.copy_with(|bytes| {
        write_status_line(bytes, head);
        bytes.extend_from_slice(head.lines());
        bytes.extend_from_slice(b"\r\n");
    });
}

fn write_status_line(bytes: &mut Vec<u8>, head: &ResponseHead) {
    if head.status == 200 && head.reason() == b"OK" {
        return bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let status = if (100..=999).contains(&head.status) { head.status } else { 500 };
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(Digits::decimal(u64::from(status)).as_bytes());
    bytes.extend_from_slice(b" ");
    bytes.extend_from_slice(head.reason());
    bytes.extend_from_slice(b"\r\n");
}

fn write_content_length(bytes: &mut Vec<u8>, length: u64) {
    bytes.extend_from_slice(b"Content-Length: ");
    bytes.extend_from_slice(Digits::decimal(length).as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

/// A piece of a body, wherever its bytes lie.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Copied(&'a [u8]),
    Shared(Bytes),
    File { file: Arc<File>, offset: u64, length: u64 },
}

impl Content<'_> {
    fn len(&self) -> u64 {
        match self {
            Content::Copied(bytes) => bytes.len() as u64,
            Content::Shared(bytes) => bytes.len() as u64,
            Content::File { length, .. } => *length,
        }
    }

    fn truncate(&mut self, max: u64) {
        let max_in_memory = usize::try_from(max).unwrap_or(usize::MAX);
        match self {
            Content::Copied(bytes) => *bytes = &bytes[..bytes.len().min(max_in_memory)],
            Content::Shared(bytes) => bytes.truncate(max_in_memory),
            Content::File { length, .. } => *length = max.min(*length),
        }
    }

    fn write(self, output: &mut Output) {
        match self {
            Content::Copied(bytes) => output.copy(bytes),
            Content::Shared(bytes) => output.share(bytes),
            Content::File { file, offset, length } => output.file(file, offset, length),
        }
    }
}

impl Framing {
    /// Writes a piece of the body. Bytes over an announced Content-Length are dropped: the peer would read them as the
    /// next response.
    pub fn write(&mut self, output: &mut Output, mut content: Content<'_>) {
        match self {
            Framing::NoBody => {}
            Framing::Length(left) => {
                content.truncate(*left);
                *left -= content.len();
                content.write(output);
            }
            // An empty chunk would be the last one (RFC 9112 §7.1).
            Framing::Chunked if content.len() == 0 => {}
            Framing::Chunked => {
                output.copy(Digits::hexadecimal(content.len()).as_bytes());
                output.copy(b"\r\n");
                content.write(output);
                output.copy(b"\r\n");
            }
            Framing::UntilClose => content.write(output),
        }
    }

    /// Writes what ends the body. False: the announced length has not been reached.
    pub fn finish(&self, output: &mut Output) -> bool {
        match self {
            Framing::Chunked => output.copy(LAST_CHUNK),
            Framing::Length(left) => return *left == 0,
            Framing::NoBody | Framing::UntilClose => {}
        }
        true
    }
}
