//! Records: header, types and the fixed bodies (FastCGI 1.0 §3.3, §5, §8). Streams and order are for the others.

use bytes::{Buf, Bytes, BytesMut};

use crate::protocol::ProtocolError;

/// Bytes of a record's header.
pub const HEADER_LENGTH: usize = 8;

/// The longest content that we send: the largest multiple of 8 that a header can name, so that no padding is needed to
/// keep the next header aligned (§3.3).
pub const LONGEST_CONTENT: usize = 65528;

/// The request ID of management records (§3.3).
pub const NULL_REQUEST_ID: u16 = 0;

const VERSION_1: u8 = 1;
const KEEP_CONN: u8 = 1;

/// A record's header (§3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub record_type: RecordType,
    pub request_id: u16,
    pub content_length: u16,
    pub padding_length: u8,
}

impl Header {
    /// A record without padding.
    pub const fn new(record_type: RecordType, request_id: u16, content_length: u16) -> Self {
        Header { record_type, request_id, content_length, padding_length: 0 }
    }

    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let [id_high, id_low] = self.request_id.to_be_bytes();
        let [length_high, length_low] = self.content_length.to_be_bytes();
        let record_type = self.record_type.number();
        [VERSION_1, record_type, id_high, id_low, length_high, length_low, self.padding_length, 0]
    }

    /// Fails for every version but 1. The reserved byte is not looked at.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Self, ProtocolError> {
        let [version, record_type, id_high, id_low, length_high, length_low, padding_length, _] = bytes;
        if version != VERSION_1 {
            return Err(ProtocolError::new(400, "FastCGI record version is not 1"));
        }
        Ok(Header {
            record_type: RecordType::from_number(record_type),
            request_id: u16::from_be_bytes([id_high, id_low]),
            content_length: u16::from_be_bytes([length_high, length_low]),
            padding_length,
        })
    }
}

/// What a record carries (§8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    BeginRequest,
    AbortRequest,
    EndRequest,
    Params,
    Stdin,
    Stdout,
    Stderr,
    Data,
    GetValues,
    GetValuesResult,
    UnknownType,
    /// A number that FastCGI 1.0 does not name.
    Other(u8),
}

impl RecordType {
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => RecordType::BeginRequest,
            2 => RecordType::AbortRequest,
            3 => RecordType::EndRequest,
            4 => RecordType::Params,
            5 => RecordType::Stdin,
            6 => RecordType::Stdout,
            7 => RecordType::Stderr,
            8 => RecordType::Data,
            9 => RecordType::GetValues,
            10 => RecordType::GetValuesResult,
            11 => RecordType::UnknownType,
            other => RecordType::Other(other),
        }
    }

    pub const fn number(self) -> u8 {
        match self {
            RecordType::BeginRequest => 1,
            RecordType::AbortRequest => 2,
            RecordType::EndRequest => 3,
            RecordType::Params => 4,
            RecordType::Stdin => 5,
            RecordType::Stdout => 6,
            RecordType::Stderr => 7,
            RecordType::Data => 8,
            RecordType::GetValues => 9,
            RecordType::GetValuesResult => 10,
            RecordType::UnknownType => 11,
            RecordType::Other(number) => number,
        }
    }
}

/// What the web server wants the application to be (§6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Responder,
    Authorizer,
    Filter,
    Other(u16),
}

impl Role {
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Role::Responder,
            2 => Role::Authorizer,
            3 => Role::Filter,
            other => Role::Other(other),
        }
    }

    pub const fn number(self) -> u16 {
        match self {
            Role::Responder => 1,
            Role::Authorizer => 2,
            Role::Filter => 3,
            Role::Other(number) => number,
        }
    }
}

/// The content of FCGI_BEGIN_REQUEST (§5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginRequest {
    pub role: Role,
    /// The web server will close the connection; without it the application does, after its answer.
    pub keep_conn: bool,
}

impl BeginRequest {
    pub const LENGTH: usize = 8;

    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let [high, low] = self.role.number().to_be_bytes();
        [high, low, if self.keep_conn { KEEP_CONN } else { 0 }, 0, 0, 0, 0, 0]
    }

    /// Reserved bytes and unknown flags are not looked at.
    pub fn decode(bytes: [u8; Self::LENGTH]) -> Self {
        let [high, low, flags, ..] = bytes;
        BeginRequest {
            role: Role::from_number(u16::from_be_bytes([high, low])),
            keep_conn: flags & KEEP_CONN != 0,
        }
    }
}

/// How a request ended, as the protocol sees it (§5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolStatus {
    RequestComplete,
    CantMpxConn,
    Overloaded,
    UnknownRole,
}

/// The content of FCGI_END_REQUEST (§5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRequest {
    pub app_status: u32,
    pub protocol_status: ProtocolStatus,
}

impl EndRequest {
    pub const LENGTH: usize = 8;

    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let [a, b, c, d] = self.app_status.to_be_bytes();
        let status = match self.protocol_status {
            ProtocolStatus::RequestComplete => 0,
            ProtocolStatus::CantMpxConn => 1,
            ProtocolStatus::Overloaded => 2,
            ProtocolStatus::UnknownRole => 3,
        };
        [a, b, c, d, status, 0, 0, 0]
    }

    pub fn decode(bytes: [u8; Self::LENGTH]) -> Result<Self, ProtocolError> {
        let [a, b, c, d, status, ..] = bytes;
        let protocol_status = match status {
            0 => ProtocolStatus::RequestComplete,
            1 => ProtocolStatus::CantMpxConn,
            2 => ProtocolStatus::Overloaded,
            3 => ProtocolStatus::UnknownRole,
            _ => return Err(ProtocolError::new(400, "unknown protocol status in END_REQUEST")),
        };
        Ok(EndRequest { app_status: u32::from_be_bytes([a, b, c, d]), protocol_status })
    }
}

/// Bytes to read records from: the caller's, or those that were kept.
pub(super) trait Source {
    fn bytes(&self) -> &[u8];
    /// Forgets the first `count` bytes, of which there must be as many.
    fn skip(&mut self, count: usize);
    /// The first `count` bytes, of which there must be as many.
    fn take(&mut self, count: usize) -> Bytes;
}

impl Source for &[u8] {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn skip(&mut self, count: usize) {
        *self = &self[count..];
    }

    fn take(&mut self, count: usize) -> Bytes {
        let (taken, rest) = self.split_at(count);
        *self = rest;
        Bytes::copy_from_slice(taken)
    }
}

impl Source for BytesMut {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn skip(&mut self, count: usize) {
        self.advance(count);
    }

    fn take(&mut self, count: usize) -> Bytes {
        self.split_to(count).freeze()
    }
}

/// Finds the borders of records in a stream of bytes. It holds no bytes, so that a record's content can be used as it
/// comes, whatever its length.
#[derive(Debug, Default)]
pub(super) struct Framing {
    inside: bool,
    content_length: usize,
    content_left: usize,
    padding_left: usize,
    record_offset: u64,
    next_offset: u64,
}

/// What comes next in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    Starved,
    /// A header has been read.
    Start(Header),
    /// So many bytes of content, at least one, are there to be used by [`Framing::take`] or [`Framing::skip`].
    Content(usize),
    /// Content and padding have been read.
    End,
}

/// Of a record whose content has not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) content_left: usize,
    /// Bytes from the end of the content to that of the next header.
    pub(super) gap: usize,
    /// Of the whole record.
    pub(super) content_length: usize,
}

impl Framing {
    pub(super) fn step(&mut self, source: &mut impl Source) -> Result<Step, ProtocolError> {
        if !self.inside {
            let Some(bytes) = source.bytes().first_chunk::<HEADER_LENGTH>() else { return Ok(Step::Starved) };
            self.record_offset = self.next_offset;
            let header = Header::decode(*bytes).map_err(|error| error.at(self.record_offset))?;
            source.skip(HEADER_LENGTH);
            self.inside = true;
            self.content_length = header.content_length.into();
            self.content_left = self.content_length;
            self.padding_left = header.padding_length.into();
            self.next_offset += (HEADER_LENGTH + self.content_left + self.padding_left) as u64;
            return Ok(Step::Start(header));
        }
        let available = source.bytes().len();
        if self.content_left > 0 {
            return Ok(if available == 0 {
                Step::Starved
            } else {
                Step::Content(available.min(self.content_left))
            });
        }
        let padding = available.min(self.padding_left);
        source.skip(padding);
        self.padding_left -= padding;
        if self.padding_left > 0 {
            return Ok(Step::Starved);
        }
        self.inside = false;
        Ok(Step::End)
    }

    /// Takes `count` bytes of content, at most as many as [`Step::Content`] said.
    pub(super) fn take(&mut self, source: &mut impl Source, count: usize) -> Bytes {
        self.content_left -= count;
        source.take(count)
    }

    /// As [`take`](Self::take), without the bytes.
    pub(super) fn skip(&mut self, source: &mut impl Source, count: usize) {
        self.content_left -= count;
        source.skip(count);
    }

    /// Bytes of content of the present record that have not been used.
    pub(super) fn content_left(&self) -> usize {
        self.content_left
    }

    /// What of a record is still to come: content that goes on, and what stands between it and the next record's content.
    pub(super) fn ahead(&self) -> Option<Ahead> {
        (self.inside && self.content_left > 0).then_some(Ahead {
            content_left: self.content_left,
            gap: self.padding_left + HEADER_LENGTH,
            content_length: self.content_length,
        })
    }

    /// `count` bytes of content, at most [`Ahead::content_left`], have been read elsewhere.
    pub(super) fn pass(&mut self, count: usize) {
        self.content_left = self.content_left.saturating_sub(count);
    }

    /// No record has begun, as far as whole headers tell.
    pub(super) fn is_between_records(&self) -> bool {
        !self.inside
    }

    /// Where in the stream the present record, or the last one, began.
    pub(super) fn record_offset(&self) -> u64 {
        self.record_offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_the_same_after_encoding_and_decoding() {
        for (bytes, header) in [
            ([1, 1, 0, 1, 0, 8, 0, 0], Header::new(RecordType::BeginRequest, 1, 8)),
            ([1, 4, 0xff, 0xfe, 0xff, 0xff, 0, 0], Header::new(RecordType::Params, 0xfffe, 0xffff)),
            (
                [1, 11, 0, 0, 0, 8, 7, 0],
                Header { padding_length: 7, ..Header::new(RecordType::UnknownType, 0, 8) },
            ),
            (
                [1, 200, 0, 0, 0, 0, 255, 0],
                Header { padding_length: 255, ..Header::new(RecordType::Other(200), 0, 0) },
            ),
        ] {
            assert_eq!(Header::decode(bytes), Ok(header));
            assert_eq!(header.encode(), bytes);
        }
        for version in [0, 2, b'G', 255] {
            assert!(Header::decode([version, 1, 0, 1, 0, 8, 0, 0]).is_err(), "version {version}");
        }
    }

    #[test]
    fn every_number_of_a_type_and_of_a_role_is_kept() {
        for number in 0..=255 {
            assert_eq!(RecordType::from_number(number).number(), number);
            assert_eq!(Role::from_number(u16::from(number)).number(), u16::from(number));
        }
    }

    #[test]
    fn fixed_bodies_are_as_the_specification_lays_them_out() {
        let begin = BeginRequest { role: Role::Responder, keep_conn: true };
        assert_eq!(begin.encode(), [0, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(BeginRequest::decode([0, 1, 0xff, 9, 9, 9, 9, 9]), begin);
        assert!(!BeginRequest::decode([0, 1, 0xfe, 0, 0, 0, 0, 0]).keep_conn);
        let end = EndRequest { app_status: 0x0102_0304, protocol_status: ProtocolStatus::Overloaded };
        assert_eq!(end.encode(), [1, 2, 3, 4, 2, 0, 0, 0]);
        assert_eq!(EndRequest::decode(end.encode()), Ok(end));
        assert!(EndRequest::decode([0, 0, 0, 0, 4, 0, 0, 0]).is_err());
    }

    #[test]
    fn records_are_framed_with_their_padding_whatever_the_split() {
        let header = Header { padding_length: 3, ..Header::new(RecordType::Stdin, 7, 5) };
        let empty = Header::new(RecordType::Stdin, 7, 0);
        let stream = [&header.encode()[..], b"hello\x01\x01\x01", &empty.encode()].concat();
        for step in [1, 2, 3, 8, 100] {
            let mut framing = Framing::default();
            let mut buffer = BytesMut::new();
            let (mut headers, mut content, mut ends) = (Vec::new(), Vec::new(), 0);
            for chunk in stream.chunks(step) {
                buffer.extend_from_slice(chunk);
                loop {
                    match framing.step(&mut buffer).expect("valid") {
                        Step::Starved => break,
                        Step::Start(header) => headers.push((framing.record_offset(), header)),
                        Step::Content(count) => content.extend_from_slice(&framing.take(&mut buffer, count)),
                        Step::End => ends += 1,
                    }
                }
            }
            assert_eq!(headers, [(0, header), (16, empty)]);
            assert_eq!((content.as_slice(), ends), (&b"hello"[..], 2));
            assert!(buffer.is_empty() && framing.is_between_records());
        }
    }
}
