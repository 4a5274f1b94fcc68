//! Response parts to records. The usual small answer becomes one STDOUT record, the end of the stream and END_REQUEST.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{
    EndRequest, HEADER_LENGTH, Header, LONGEST_CONTENT, NULL_REQUEST_ID, ProtocolStatus, RecordType,
};
use crate::protocol::digits::Digits;
use crate::protocol::{Output, ProtocolError, ResponseHead};

/// Answers to records that ask for one whatever the application does: as long as the peer does not read them, so many
/// bytes of them may wait.
const MOST_WAITING_REFUSALS: u64 = 256 * 1024;

/// What sendfile(2) hands over at once is sixteen pages, wherever in them it begins: a record ends at a page, before the
/// sixteenth.
const FILE_PAGE: u64 = 4096;
const LONGEST_FILE_CONTENT: u64 = 15 * FILE_PAGE;

/// Writes records into the output.
///
/// No padding is sent: it only helps a peer that wants its records aligned, and the long ones are.
#[derive(Debug, Default)]
pub(super) struct Answers {
    output: Output,
    /// The STDOUT record at the end of the output, which can grow while nothing of it has been written.
    last: Option<Growing>,
    /// At least as many bytes as wait of refusals.
    refusals: u64,
}

#[derive(Debug, Clone, Copy)]
struct Growing {
    request_id: u16,
    content_length: usize,
}

impl Answers {
    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    pub(super) fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    pub(super) fn head(&mut self, request_id: u16, head: &ResponseHead) {
        let length = head.content_length.map(Digits::decimal);
        let length: [&[u8]; 3] = match &length {
            Some(digits) => [b"Content-Length: ", digits.as_bytes(), b"\r\n"],
            None => [b""; 3],
        };
        let status = Digits::decimal(u64::from(head.status));
        let space: &[u8] = if head.reason().is_empty() { b"" } else { b" " };
        // Always a Status: without it Apache's mod_proxy_fcgi makes 200 of a bare Location. And at the end: HAProxy makes
        // 302 of every Location that comes after it.
        let end = [b"Status: ", status.as_bytes(), space, head.reason(), b"\r\n\r\n"];
        let parts = || [head.lines()].into_iter().chain(length).chain(end);
        let content_length = parts().map(<[u8]>::len).sum();
        if content_length > LONGEST_CONTENT {
            return parts().for_each(|part| self.stdout(request_id, part));
        }
        // The usual one at once, as a record that the body may grow.
        let header = header(RecordType::Stdout, request_id, content_length);
        self.output.copy_with(|output| {
            output.extend_from_slice(&header);
            parts().for_each(|part| output.extend_from_slice(part));
        });
        self.last = Some(Growing { request_id, content_length });
    }

    /// Bytes of the response, in as few records as possible.
    pub(super) fn stdout(&mut self, request_id: u16, bytes: &[u8]) {
        let rest = self.grow(request_id, bytes);
        for content in rest.chunks(LONGEST_CONTENT) {
            self.header(RecordType::Stdout, request_id, content.len());
            self.output.copy(content);
            self.last = Some(Growing { request_id, content_length: content.len() });
        }
    }

    /// As [`stdout`](Self::stdout), without a copy of what is long.
    pub(super) fn stdout_shared(&mut self, request_id: u16, mut bytes: Bytes) {
        if bytes.len() <= SHORT_BODY {
            return self.stdout(request_id, &bytes);
        }
        while !bytes.is_empty() {
            let content = bytes.split_to(bytes.len().min(LONGEST_CONTENT));
            self.header(RecordType::Stdout, request_id, content.len());
            self.output.share(content);
        }
        self.last = None;
    }

    pub(super) fn stdout_file(
        &mut self,
        request_id: u16,
        file: &Arc<File>,
        mut offset: u64,
        mut length: u64,
    ) {
        while length > 0 {
            let content = length.min(LONGEST_FILE_CONTENT - offset % FILE_PAGE);
            self.header(RecordType::Stdout, request_id, content as usize);
            self.output.file(Arc::clone(file), offset, content);
            offset = offset.saturating_add(content);
            length -= content;
        }
    }

    pub(super) fn stderr(&mut self, request_id: u16, bytes: &[u8]) {
        for content in bytes.chunks(LONGEST_CONTENT) {
            self.header(RecordType::Stderr, request_id, content.len());
            self.output.copy(content);
        }
    }

    /// Ends the streams and the request.
    pub(super) fn end(&mut self, request_id: u16, stderr_is_open: bool, app_status: u32) {
        self.last = None;
        if stderr_is_open {
            self.header(RecordType::Stderr, request_id, 0);
        }
        let end = EndRequest { app_status, protocol_status: ProtocolStatus::RequestComplete };
        let mut bytes = [0; 3 * HEADER_LENGTH];
        let (stdout_end, end_request) = bytes.split_at_mut(HEADER_LENGTH);
        stdout_end.copy_from_slice(&Header::new(RecordType::Stdout, request_id, 0).encode());
        end_request.copy_from_slice(&end_record(request_id, end));
        self.output.copy(&bytes);
    }

    /// A header of a version that does not exist: whoever reads it knows that the connection is broken.
    pub(super) fn no_record(&mut self) {
        self.last = None;
        self.output.copy(&[0; HEADER_LENGTH]);
    }

    /// END_REQUEST without an answer: refused, or aborted.
    pub(super) fn refuse(&mut self, request_id: u16, status: ProtocolStatus) -> Result<(), ProtocolError> {
        let end = EndRequest { app_status: 0, protocol_status: status };
        self.unasked(&end_record(request_id, end))
    }

    /// FCGI_UNKNOWN_TYPE (§4.2).
    pub(super) fn unknown_type(&mut self, number: u8) -> Result<(), ProtocolError> {
        let mut bytes = [0; 2 * HEADER_LENGTH];
        let (header, content) = bytes.split_at_mut(HEADER_LENGTH);
        header.copy_from_slice(&Header::new(RecordType::UnknownType, NULL_REQUEST_ID, 8).encode());
        content[0] = number;
        self.unasked(&bytes)
    }

    /// FCGI_GET_VALUES_RESULT (§4.1); `pairs` is short.
    pub(super) fn values(&mut self, pairs: &[u8]) -> Result<(), ProtocolError> {
        let header = header(RecordType::GetValuesResult, NULL_REQUEST_ID, pairs.len());
        self.unasked(&header)?;
        self.unasked(pairs)
    }

    /// A peer that asks and never reads must not fill our memory.
    fn unasked(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.refusals = self.refusals.min(self.output.len()) + bytes.len() as u64;
        if self.refusals > MOST_WAITING_REFUSALS {
            return Err(ProtocolError::new(503, "the peer does not read the answers to its records"));
        }
        self.last = None;
        self.output.copy(bytes);
        Ok(())
    }

    /// Appends to the last record what it can take; the rest is returned.
    fn grow<'a>(&mut self, request_id: u16, bytes: &'a [u8]) -> &'a [u8] {
        let Some(last) = &mut self.last else { return bytes };
        if last.request_id != request_id {
            return bytes;
        }
        let (more, rest) = bytes.split_at(bytes.len().min(LONGEST_CONTENT - last.content_length));
        if more.is_empty() {
            return bytes;
        }
        let grown = last.content_length + more.len();
        let header = header(RecordType::Stdout, request_id, grown);
        if !self.output.amend(HEADER_LENGTH + last.content_length, &header) {
            return bytes;
        }
        last.content_length = grown;
        self.output.copy(more);
        rest
    }

    fn header(&mut self, record_type: RecordType, request_id: u16, content_length: usize) {
        self.last = None;
        self.output.copy(&header(record_type, request_id, content_length));
    }
}

/// Shared bytes up to this many are cheaper to copy behind the head than to hold and write in a piece of their own.
const SHORT_BODY: usize = 16 * 1024;

/// `content_length` is at most [`LONGEST_CONTENT`].
fn header(record_type: RecordType, request_id: u16, content_length: usize) -> [u8; HEADER_LENGTH] {
    Header::new(record_type, request_id, content_length as u16).encode()
}

fn end_record(request_id: u16, end: EndRequest) -> [u8; 2 * HEADER_LENGTH] {
    let mut bytes = [0; 2 * HEADER_LENGTH];
    let (header, content) = bytes.split_at_mut(HEADER_LENGTH);
    header.copy_from_slice(
        &Header::new(RecordType::EndRequest, request_id, EndRequest::LENGTH as u16).encode(),
    );
    content.copy_from_slice(&end.encode());
    bytes
}
