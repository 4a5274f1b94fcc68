//! A request's body: so many bytes, or the chunked transfer coding (RFC 9112 §7.1).

use bytes::Bytes;

use super::head::each_field;
use super::input::Input;
use super::lines::Lines;
use crate::protocol::{BodyLength, Limits, ProtocolError, is_token};

/// Hexadecimal digits of a chunk size, leading zeros included: more would not fit 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// Bytes of the chunk extensions of one chunk. Nobody is known to need any.
const MAX_CHUNK_EXTENSION_BYTES: usize = 256;

/// Bytes of all chunk extensions of a body, so that endless tiny chunks can't carry endless extensions.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;

/// What [`Body::read`] found.
#[derive(Debug)]
pub(super) enum Found {
    /// Never empty.
    Chunk(Bytes),
    /// The body is complete.
    End,
    /// More bytes must come first.
    Nothing,
}

#[derive(Debug)]
pub(super) enum Body {
    Known { left: u64 },
    Chunked(Box<Chunked>),
}

impl Body {
    /// `None` for a request without a body.
    pub fn new(length: BodyLength) -> Option<Body> {
        match length {
            BodyLength::None => None,
            BodyLength::Known(left) => Some(Body::Known { left }),
            BodyLength::Unknown => Some(Body::Chunked(Box::default())),
        }
    }

    /// How much is still to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Body::Known { left } => Some(*left),
            Body::Chunked(_) => None,
        }
    }

    /// All that has come of the body in one piece, then its end.
    ///
    /// On error, everything before the byte at fault has been handed out by the calls before.
    pub fn read(&mut self, input: &mut Input, limits: &Limits) -> Result<Found, ProtocolError> {
        match self {
            Body::Known { left: 0 } => Ok(Found::End),
            Body::Known { .. } if input.is_empty() => Ok(Found::Nothing),
            Body::Known { left } => {
                let chunk = input.take(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= chunk.len() as u64;
                Ok(Found::Chunk(chunk))
            }
            Body::Chunked(chunked) => chunked.read(input, limits),
        }
    }
}

/// Where in the grammar the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    SizeStart,
    Size,
    ExtensionName {
        empty: bool,
    },
    ExtensionValue {
        empty: bool,
    },
    Quoted,
    QuotedPair,
    QuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    End,
}

/// The decoder of the chunked transfer coding: each byte is judged alone, in the state that the bytes before it left.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Of the chunk: its size while that is read, then what is still to come of its data.
    left: u64,
    size_digits: u8,
    /// Data announced by all chunk sizes.
    total: u64,
    chunk_extension_bytes: usize,
    extension_bytes: usize,
    trailers: Lines,
    trailer_fields: usize,
}

impl Chunked {
    fn read(&mut self, input: &mut Input, limits: &Limits) -> Result<Found, ProtocolError> {
        let mut data = Vec::new();
        let bytes = input.unread();
        let mut position = 0;
        let outcome = loop {
            if matches!(self.state, State::Trailers | State::End) {
                break Ok(());
            }
            let rest = &bytes[position..];
            let Some(&byte) = rest.first() else { break Ok(()) };
            if self.state == State::Data {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                data.extend_from_slice(&rest[..length]);
                position += length;
                self.left -= length as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            match self.step(byte, limits) {
                Ok(next) => self.state = next,
                Err(error) => break Err(error.at(input.offset() + position as u64)),
            }
            position += 1;
        };
        input.consume(position);
        if !data.is_empty() {
            // The same byte meets the same state, and so the same error, in the next call.
            return Ok(Found::Chunk(data.into()));
        }
        outcome?;
        self.read_trailers(input, limits)
    }

    /// One byte outside of data and trailers. Nothing is changed on error.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<State, ProtocolError> {
        match (self.state, byte) {
            (State::SizeStart | State::Size, _) if byte.is_ascii_hexdigit() => self.size_digit(byte),
            (State::Size, b'\r') => Ok(State::SizeLf),
            (State::Size, b';') => self.extension(State::ExtensionName { empty: true }),
            (State::SizeLf, b'\n') => self.size_end(limits),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.size_digits = 0;
                self.chunk_extension_bytes = 0;
                Ok(State::SizeStart)
            }
            (State::DataCr | State::DataLf, _) => {
                Err(ProtocolError::new(400, "no CRLF after the data of a chunk"))
            }
            (State::SizeStart | State::Size, _) => {
                Err(ProtocolError::new(400, "a chunk size is not a hexadecimal number"))
            }
            (State::SizeLf, _) => Err(ProtocolError::new(400, "CR without LF after a chunk size")),
            (state, _) => match extension_step(state, byte) {
                Some(State::SizeLf) => Ok(State::SizeLf),
                Some(next) => self.extension(next),
                None => Err(ProtocolError::new(400, "a chunk extension is malformed")),
            },
        }
    }

    fn size_digit(&mut self, digit: u8) -> Result<State, ProtocolError> {
        if self.size_digits == MAX_SIZE_DIGITS {
            return Err(ProtocolError::new(400, "a chunk size has too many digits"));
        }
        self.size_digits += 1;
        let value = (digit as char).to_digit(16).unwrap_or_default();
        self.left = self.left << 4 | u64::from(value);
        Ok(State::Size)
    }

    /// One more byte of chunk extensions.
    fn extension(&mut self, next: State) -> Result<State, ProtocolError> {
        if self.chunk_extension_bytes == MAX_CHUNK_EXTENSION_BYTES
            || self.extension_bytes == MAX_EXTENSION_BYTES
        {
            return Err(ProtocolError::new(400, "chunk extensions are too long"));
        }
        self.chunk_extension_bytes += 1;
        self.extension_bytes += 1;
        Ok(next)
    }

    fn size_end(&mut self, limits: &Limits) -> Result<State, ProtocolError> {
        if self.left == 0 {
            return Ok(State::Trailers);
        }
        match self.total.checked_add(self.left).filter(|total| *total <= limits.max_body_bytes) {
            Some(total) => {
                self.total = total;
                Ok(State::Data)
            }
            None => Err(ProtocolError::new(413, "the chunks are over the limit of a body")),
        }
    }

    /// RFC 9112 §7.1.2: checked and dropped. A trailer field never becomes a field of the head.
    fn read_trailers(&mut self, input: &mut Input, limits: &Limits) -> Result<Found, ProtocolError> {
        if self.state == State::End {
            return Ok(Found::End);
        }
        if self.state != State::Trailers {
            return Ok(Found::Nothing);
        }
        let section = input.unread();
        let at = |error: ProtocolError| error.at(input.offset());
        let too_long = ProtocolError::new(431, "the trailer section is too long");
        while let Some(line) = self.trailers.next(section, limits.max_head_bytes, too_long).map_err(at)? {
            if line.is_empty() {
                let length = self.trailers.length();
                each_field(&section[..length], self.trailer_fields, check_trailer).map_err(at)?;
                input.consume(length);
                self.state = State::End;
                return Ok(Found::End);
            }
            self.trailer_fields += 1;
            if self.trailer_fields > limits.max_fields {
                return Err(at(ProtocolError::new(431, "the trailer section has too many field lines")));
            }
        }
        Ok(Found::Nothing)
    }
}

/// `chunk-ext` of RFC 9112 §7.1.1, without the "bad" white space.
fn extension_step(state: State, byte: u8) -> Option<State> {
    use State::*;
    Some(match (state, byte) {
        (ExtensionName { .. }, _) if is_token(&[byte]) => ExtensionName { empty: false },
        (ExtensionName { empty: false }, b'=') => ExtensionValue { empty: true },
        (ExtensionValue { .. }, _) if is_token(&[byte]) => ExtensionValue { empty: false },
        (ExtensionValue { empty: true }, b'"') => Quoted,
        (Quoted, b'"') => QuotedEnd,
        (Quoted, b'\\') => QuotedPair,
        (Quoted | QuotedPair, b'\t' | 0x20..=0x7e | 0x80..) => Quoted,
        (ExtensionName { empty: false } | ExtensionValue { empty: false } | QuotedEnd, b';') => {
            ExtensionName { empty: true }
        }
        (ExtensionName { empty: false } | ExtensionValue { empty: false } | QuotedEnd, b'\r') => SizeLf,
        _ => return None,
    })
}

/// RFC 9110 §6.5.1: fields of framing and routing must not come as trailers.
fn check_trailer(name: &[u8], _value: &[u8]) -> Result<(), ProtocolError> {
    const FORBIDDEN: [&[u8]; 3] = [b"content-length", b"host", b"transfer-encoding"];
    match FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        true => Err(ProtocolError::new(400, "a trailer field that belongs to the head")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { max_body_bytes: 100, max_head_bytes: 64, max_fields: 2, ..Limits::default() }
    }

    /// The data, and whether and how the body ended; bytes that are left over.
    fn decode(all: &[u8], step: usize) -> (Vec<u8>, Result<bool, u16>, usize) {
        let mut body = Body::new(BodyLength::Unknown).expect("a body");
        let (mut input, mut data) = (Input::default(), Vec::new());
        let (mut pieces, mut ended) = (all.chunks(step), false);
        while !ended {
            match body.read(&mut input, &limits()) {
                Ok(Found::Chunk(chunk)) => data.extend_from_slice(&chunk),
                Ok(Found::End) => ended = true,
                Ok(Found::Nothing) => match pieces.next() {
                    Some(piece) => input.push(piece),
                    None => break,
                },
                Err(error) => return (data, Err(error.status()), 0),
            }
        }
        (data, Ok(ended), input.len() + pieces.map(<[u8]>::len).sum::<usize>())
    }

    #[test]
    fn chunks_decode_the_same_however_they_are_split() {
        let long_extension = [b"1;".as_slice(), &[b'a'; 255], b"\r\nx\r\n0\r\n\r\n"].concat();
        let longer_extension = [b"1;".as_slice(), &[b'a'; 256], b"\r\nx\r\n0\r\n\r\n"].concat();
        let many_extensions = [b"1;".as_slice(), &[b'a'; 200], b"\r\nx\r\n"].concat().repeat(90);
        for (coded, data, outcome) in [
            (b"0\r\n\r\n".as_slice(), b"".as_slice(), Ok(true)),
            (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", Ok(true)),
            (b"5\r\nhello\r\n00\r\n\r\nGET /", b"hello", Ok(true)),
            (b"000000000000000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", Ok(true)),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", Ok(true)),
            (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x", Ok(true)),
            (b"1;a=\"\\\"; \xe9\";b;c=d\r\nx\r\n0\r\n\r\n", b"x", Ok(true)),
            (&long_extension, b"x", Ok(true)),
            (b"1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", b"x", Ok(true)),
            (b"5\r\nhel", b"hel", Ok(false)),
            (b"5\r\nhello\r\n0\r\n", b"hello", Ok(false)),
            (b"5\r\nhello\r\n0\r\nA: b\r\n", b"hello", Ok(false)),
            (b"", b"", Ok(false)),
            // Invalid.
            (b"\r\n", b"", Err(400)),
            (b"x\r\n", b"", Err(400)),
            (b"0x5\r\nhello\r\n", b"", Err(400)),
            (b"+5\r\nhello\r\n", b"", Err(400)),
            (b"-5\r\nhello\r\n", b"", Err(400)),
            (b" 5\r\nhello\r\n", b"", Err(400)),
            (b"5 \r\nhello\r\n", b"", Err(400)),
            (b"5\t;a\r\nhello\r\n", b"", Err(400)),
            (b"5_0\r\nhello\r\n", b"", Err(400)),
            (b"5\nhello\r\n", b"", Err(400)),
            (b"5\rhello", b"", Err(400)),
            (b"00000000000000005\r\nhello\r\n", b"", Err(400)),
            (b"1\r\nxy\r\n0\r\n\r\n", b"x", Err(400)),
            (b"1\r\nx\n0\r\n\r\n", b"x", Err(400)),
            (b"1\r\nxy\n0\r\n\r\n", b"x", Err(400)),
            (b"1\r\nx\rz0\r\n\r\n", b"x", Err(400)),
            (b"1\r\nx0\r\n\r\n", b"x", Err(400)),
            (b"1;\r\nx\r\n", b"", Err(400)),
            (b"1;=b\r\nx\r\n", b"", Err(400)),
            (b"1;a=\r\nx\r\n", b"", Err(400)),
            (b"1;a b\r\nx\r\n", b"", Err(400)),
            (b"1; a\r\nx\r\n", b"", Err(400)),
            (b"1;a\nx\r\n", b"", Err(400)),
            (b"1;a\rX\r\nx\r\n", b"", Err(400)),
            (b"1;a=\"\r\n\"\r\nx\r\n", b"", Err(400)),
            (b"1;a=\"b\"c\r\nx\r\n", b"", Err(400)),
            (b"1;a\0\r\nx\r\n", b"", Err(400)),
            (&longer_extension, b"", Err(400)),
            (&many_extensions, &[b'x'; 81], Err(400)),
            (b"0\r\n\n", b"", Err(400)),
            (b"0\r\nA : b\r\n\r\n", b"", Err(400)),
            (b"0\r\nA: b\r\n c\r\n\r\n", b"", Err(400)),
            (b"0\r\nA: b\rc\r\n\r\n", b"", Err(400)),
            (b"0\r\nA: b\0c\r\n\r\n", b"", Err(400)),
            (b"0\r\nContent-Length: 5\r\n\r\n", b"", Err(400)),
            (b"0\r\ntransfer-encoding: chunked\r\n\r\n", b"", Err(400)),
            (b"0\r\nHost: b\r\n\r\n", b"", Err(400)),
            (b"0\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", b"", Err(431)),
            (&[b"0\r\nA: ".as_slice(), &[b'b'; 60], b"\r\n\r\n"].concat(), b"", Err(431)),
            // Over the limit.
            (b"65\r\n", b"", Err(413)),
            (b"5\r\nhello\r\n60\r\n", b"hello", Err(413)),
            (b"5\r\nhello\r\nffffffffffffffff\r\n", b"hello", Err(413)),
        ] {
            for step in [coded.len().max(1), 1, 2, 3, 7] {
                let (found, how, _) = decode(coded, step);
                let what = format!("{:?} in steps of {step}", coded.escape_ascii().to_string());
                assert_eq!(how, outcome, "{what}");
                assert_eq!(found, data, "{what}");
            }
        }
    }

    #[test]
    fn bytes_after_the_body_are_left_for_the_next_request() {
        for step in [1, 2, 5, 100] {
            assert_eq!(decode(b"1\r\nx\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1", step).2, 14);
        }
    }
}
