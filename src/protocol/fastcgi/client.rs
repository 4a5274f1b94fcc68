//! The web server's side: requests to records, and the records of answers to events. Sans-IO, as the rest.
//!
//! The functions append to a buffer that the caller writes. [`Decoder`] takes what the caller read. Together they serve
//! tests, benchmarks and health checks; the [module above](super) shows both sides at work.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::params;
use super::record::{
    BeginRequest, EndRequest, Framing, Header, LONGEST_CONTENT, NULL_REQUEST_ID, ProtocolStatus, RecordType,
    Role, Step,
};
use crate::protocol::ProtocolError;

/// Management records and END_REQUEST are short; longer ones are not believed.
const LONGEST_COLLECTED: usize = 4096;

/// A whole request for a responder: its pairs, then `body` as STDIN. CONTENT_LENGTH is for the caller to put into `pairs`.
pub fn request<'a>(
    out: &mut Vec<u8>,
    id: u16,
    keep_conn: bool,
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    body: &[u8],
) {
    begin_request(out, id, Role::Responder, keep_conn);
    params(out, id, pairs);
    stdin(out, id, body);
    stdin_end(out, id);
}

/// FCGI_BEGIN_REQUEST (§5.1). `id` must not be 0, nor that of a request that has not ended.
pub fn begin_request(out: &mut Vec<u8>, id: u16, role: Role, keep_conn: bool) {
    let content = BeginRequest { role, keep_conn }.encode();
    out.extend_from_slice(&Header::new(RecordType::BeginRequest, id, content.len() as u16).encode());
    out.extend_from_slice(&content);
}

/// The whole PARAMS stream, its end included (§5.2).
///
/// # Panics
/// If a name or value has 2 GiB or more.
pub fn params<'a>(out: &mut Vec<u8>, id: u16, pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
    let mut stream = Vec::new();
    for (name, value) in pairs {
        params::encode_pair(&mut stream, name, value);
    }
    content(out, RecordType::Params, id, &stream);
    out.extend_from_slice(&Header::new(RecordType::Params, id, 0).encode());
}

/// A piece of the STDIN stream (§5.3).
pub fn stdin(out: &mut Vec<u8>, id: u16, piece: &[u8]) {
    content(out, RecordType::Stdin, id, piece);
}

/// The end of the STDIN stream.
pub fn stdin_end(out: &mut Vec<u8>, id: u16) {
    out.extend_from_slice(&Header::new(RecordType::Stdin, id, 0).encode());
}

/// FCGI_ABORT_REQUEST (§5.4).
pub fn abort_request(out: &mut Vec<u8>, id: u16) {
    out.extend_from_slice(&Header::new(RecordType::AbortRequest, id, 0).encode());
}

/// FCGI_GET_VALUES (§4.1): asks for the values of these names, which must fit one record.
pub fn get_values(out: &mut Vec<u8>, names: &[&[u8]]) {
    let mut question = Vec::new();
    for name in names {
        params::encode_pair(&mut question, name, b"");
    }
    content(out, RecordType::GetValues, NULL_REQUEST_ID, &question);
}

fn content(out: &mut Vec<u8>, record_type: RecordType, id: u16, bytes: &[u8]) {
    for piece in bytes.chunks(LONGEST_CONTENT) {
        out.extend_from_slice(&Header::new(record_type, id, piece.len() as u16).encode());
        out.extend_from_slice(piece);
    }
}

/// What an application says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseEvent {
    /// A piece of the response, in the form of CGI: field lines, an empty line, the body. Never empty.
    Stdout { id: u16, chunk: Bytes },
    /// For the error log. Never empty.
    Stderr { id: u16, chunk: Bytes },
    /// The request is over.
    End { id: u16, app_status: u32, protocol_status: ProtocolStatus },
    /// The answer to [`get_values`].
    Values(Vec<(Vec<u8>, Vec<u8>)>),
    /// The application does not know management records of this type.
    UnknownType(u8),
}

/// Decodes answers, fed in any pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    input: BytesMut,
    framing: Framing,
    record: Option<Header>,
    /// Content of a record that is needed whole.
    collected: Vec<u8>,
    events: VecDeque<ResponseEvent>,
}

impl Decoder {
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// `None`: feed me. After an error the connection is of no use.
    pub fn poll_event(&mut self) -> Result<Option<ResponseEvent>, ProtocolError> {
        while self.events.is_empty() {
            match self.framing.step(&mut self.input)? {
                Step::Starved => break,
                Step::Start(header) => self.start(header)?,
                Step::Content(available) => self.content(available),
                Step::End => self.end()?,
            }
        }
        Ok(self.events.pop_front())
    }

    /// No record has been begun. Bytes of an answer that is cut off leave this false.
    pub fn is_between_records(&self) -> bool {
        self.framing.is_between_records() && self.input.is_empty()
    }

    fn start(&mut self, header: Header) -> Result<(), ProtocolError> {
        self.record = Some(header);
        self.collected.clear();
        match header.record_type {
            RecordType::Stdout | RecordType::Stderr => Ok(()),
            RecordType::EndRequest | RecordType::GetValuesResult | RecordType::UnknownType => {
                if usize::from(header.content_length) > LONGEST_COLLECTED {
                    return Err(ProtocolError::new(431, "record of an application is over its limit"));
                }
                Ok(())
            }
            _ => Err(ProtocolError::new(400, "record of a type that no application sends")),
        }
    }

    fn content(&mut self, available: usize) {
        let chunk = self.framing.take(&mut self.input, available);
        let Some(header) = self.record else { return };
        match header.record_type {
            RecordType::Stdout => {
                self.events.push_back(ResponseEvent::Stdout { id: header.request_id, chunk })
            }
            RecordType::Stderr => {
                self.events.push_back(ResponseEvent::Stderr { id: header.request_id, chunk })
            }
            _ => self.collected.extend_from_slice(&chunk),
        }
    }

    fn end(&mut self) -> Result<(), ProtocolError> {
        let Some(header) = self.record.take() else { return Ok(()) };
        match header.record_type {
            RecordType::EndRequest => {
                let content = self.collected.first_chunk().ok_or(TOO_SHORT)?;
                let EndRequest { app_status, protocol_status } = EndRequest::decode(*content)?;
                self.events.push_back(ResponseEvent::End {
                    id: header.request_id,
                    app_status,
                    protocol_status,
                });
            }
            RecordType::GetValuesResult => {
                let owned = |pair: Result<(&[u8], &[u8]), _>| pair.map(|(n, v)| (n.to_vec(), v.to_vec()));
                let values = params::pairs(&self.collected).map(owned).collect::<Result<_, _>>()?;
                self.events.push_back(ResponseEvent::Values(values));
            }
            RecordType::UnknownType => {
                let number = *self.collected.first().ok_or(TOO_SHORT)?;
                self.events.push_back(ResponseEvent::UnknownType(number));
            }
            _ => {}
        }
        Ok(())
    }
}

const TOO_SHORT: ProtocolError = ProtocolError::new(400, "record of an application without its content");

#[cfg(test)]
mod tests {
    use super::*;

    fn record(record_type: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        let [length_high, length_low] = (content.len() as u16).to_be_bytes();
        let mut bytes = vec![1, record_type, high, low, length_high, length_low, padding, 0];
        bytes.extend_from_slice(content);
        bytes.extend(std::iter::repeat_n(1, padding.into()));
        bytes
    }

    /// Pieces of a stream joined, so that the split makes no difference.
    fn decode(stream: &[u8], step: usize) -> Result<Vec<ResponseEvent>, ProtocolError> {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for piece in stream.chunks(step) {
            decoder.receive(piece);
            while let Some(event) = decoder.poll_event()? {
                match (events.last_mut(), event) {
                    (
                        Some(ResponseEvent::Stdout { id, chunk }),
                        ResponseEvent::Stdout { id: next, chunk: more },
                    ) if *id == next => {
                        *chunk = [&chunk[..], &more].concat().into();
                    }
                    (_, event) => events.push(event),
                }
            }
        }
        assert!(decoder.is_between_records());
        Ok(events)
    }

    #[test]
    fn answers_are_decoded_whole_and_byte_by_byte() {
        let stream = [
            record(6, 1, b"Status: 200 OK\r\n\r\n", 6),
            record(6, 1, b"body", 0),
            record(7, 1, b"!", 255),
            record(6, 1, b"", 8),
            record(10, 0, b"\x0f\x01FCGI_MPXS_CONNS1", 3),
            record(11, 0, &[99, 0, 0, 0, 0, 0, 0, 0], 0),
            record(3, 1, &[0, 0, 0, 7, 0, 0, 0, 0], 0),
            record(3, 0x102, &[0, 0, 0, 0, 3, 0, 0, 0], 0),
        ]
        .concat();
        let expected = vec![
            ResponseEvent::Stdout { id: 1, chunk: Bytes::from_static(b"Status: 200 OK\r\n\r\nbody") },
            ResponseEvent::Stderr { id: 1, chunk: Bytes::from_static(b"!") },
            ResponseEvent::Values(vec![(b"FCGI_MPXS_CONNS".to_vec(), b"1".to_vec())]),
            ResponseEvent::UnknownType(99),
            ResponseEvent::End { id: 1, app_status: 7, protocol_status: ProtocolStatus::RequestComplete },
            ResponseEvent::End { id: 0x102, app_status: 0, protocol_status: ProtocolStatus::UnknownRole },
        ];
        for step in [stream.len(), 1, 2, 9] {
            assert_eq!(decode(&stream, step), Ok(expected.clone()), "{step} bytes at a time");
        }
    }

    #[test]
    fn records_that_no_application_sends_are_errors() {
        for (name, stream) in [
            ("a web server's type", record(1, 1, &[0, 1, 0, 0, 0, 0, 0, 0], 0)),
            ("unknown type", record(77, 1, b"", 0)),
            ("short END_REQUEST", record(3, 1, &[0; 7], 0)),
            ("unknown protocol status", record(3, 1, &[0, 0, 0, 0, 9, 0, 0, 0], 0)),
            ("empty UNKNOWN_TYPE", record(11, 0, b"", 0)),
            ("cut-off pair", record(10, 0, b"\x7f\x01FCGI", 0)),
            ("much too long", record(10, 0, &[0; 5000], 0)),
            ("not FastCGI", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ] {
            for step in [stream.len(), 1] {
                assert!(decode(&stream, step).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn long_streams_are_split_into_records() {
        let (mut out, value) = (Vec::new(), vec![b'v'; 100_000]);
        request(&mut out, 9, true, [(&b"LONG"[..], value.as_slice())], &value);
        let mut at = 0;
        let mut records = Vec::new();
        while at < out.len() {
            let header = Header::decode(*out[at..].first_chunk().expect("a header")).expect("valid");
            records.push((header.record_type, header.content_length));
            assert_eq!(header.request_id, 9);
            at += 8 + usize::from(header.content_length);
        }
        use RecordType::{Params, Stdin};
        let stream_length = 1 + 4 + 4 + 100_000 - 65528;
        assert_eq!(
            records,
            [
                (RecordType::BeginRequest, 8),
                (Params, 65528),
                (Params, stream_length as u16),
                (Params, 0),
                (Stdin, 65528),
                (Stdin, 100_000u32.wrapping_sub(65528) as u16),
                (Stdin, 0)
            ]
        );
    }
}
