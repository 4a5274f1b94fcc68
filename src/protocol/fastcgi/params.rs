//! Name-value pairs (FastCGI 1.0 §3.4), and the PARAMS stream that is made of them (§5.2).

use crate::protocol::{Field, Limits, ProtocolError, RequestHead, Span, parse_content_length};

const HEAD_TOO_LARGE: ProtocolError =
    ProtocolError::new(431, "name-value pairs are over the limit of a head");
const TOO_MANY: ProtocolError = ProtocolError::new(431, "more name-value pairs than the limit");
const URI_TOO_LONG: ProtocolError = ProtocolError::new(414, "REQUEST_URI is over its limit");
const CUT_OFF: ProtocolError =
    ProtocolError::new(400, "a name-value pair reaches past the end of its stream");
const BAD_CONTENT_LENGTH: ProtocolError = ProtocolError::new(400, "CONTENT_LENGTH is not one number");

/// Decodes the PARAMS stream of one request, fed in any pieces.
///
/// The stream is kept as it comes in [`RequestHead::bytes`], and the fields are places in it: a byte is copied once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decoder {
    /// Where in the stream the pair begins that is not complete yet.
    cursor: usize,
    content_length: Option<u64>,
    content_length_is_bad: bool,
}

impl Decoder {
    /// Takes the next piece of the stream. No more than `limits.max_head_bytes` are ever stored; lengths are believed
    /// only as far as that. `head` must be the same at each call, and empty at the first.
    ///
    /// Fails with 431 or 414; the request can't be served then, and nothing more may be fed.
    pub fn feed(
        &mut self,
        head: &mut RequestHead,
        piece: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        (head.repeats, head.is_whole, head.places) = (false, false, None);
        // A span has 32 bits.
        let limit = limits.max_head_bytes.min(u32::MAX as usize);
        // Pairs in front of the byte that is too much are judged first: how the stream was cut then makes no
        // difference to the answer.
        let fitting = piece.len().min(limit.saturating_sub(head.bytes.len()));
        head.bytes.extend_from_slice(piece.get(..fitting).unwrap_or_default());
        while self.decode_pair(head, limit, limits)? {}
        if fitting < piece.len() { Err(HEAD_TOO_LARGE) } else { Ok(()) }
    }

    /// Takes the first piece of the stream if `head`, which is that of a former stream, holds the same bytes and no more,
    /// and `head` then is as [`feed`](Self::feed) would have made it. Only the value of REMOTE_PORT may differ, and is
    /// copied: a web server's connection carries requests of many clients. `limits` are those of the former stream.
    ///
    /// False, and nothing has happened: clear `head`, and feed it.
    pub fn repeat(&mut self, head: &mut RequestHead, piece: &[u8]) -> bool {
        // A length that a body is framed by is read, and judged, each time.
        if self.cursor != 0 || !head.is_whole || piece.is_empty() || piece.len() != head.bytes.len() {
            return false;
        }
        let places = head.places();
        let place = places.port.map_or(0..0, |port| port.start as usize..port.end as usize);
        let same = |from: usize, to: usize| piece.get(from..to) == head.bytes.get(from..to);
        if !same(0, place.start) || !same(place.end, piece.len()) {
            return false;
        }
        let (Some(new), false) = (piece.get(place.clone()), places.has_length) else { return false };
        if let Some(old) = head.bytes.get_mut(place) {
            old.copy_from_slice(new);
        }
        self.cursor = piece.len();
        head.repeats = true;
        head.places = Some(places);
        true
    }

    /// The stream has ended: what CONTENT_LENGTH says, `None` if it is absent or empty, as it is on a GET from nginx.
    /// Several that differ, or that are no number, are 400: the length frames the body.
    pub fn finish(&self, head: &RequestHead) -> Result<Option<u64>, ProtocolError> {
        if self.cursor != head.bytes.len() {
            return Err(CUT_OFF);
        }
        if self.content_length_is_bad {
            return Err(BAD_CONTENT_LENGTH);
        }
        Ok(self.content_length)
    }

    /// False: the pair at the cursor is not complete.
    fn decode_pair(
        &mut self,
        head: &mut RequestHead,
        limit: usize,
        limits: &Limits,
    ) -> Result<bool, ProtocolError> {
        let Some(lengths) = Lengths::decode(head.bytes.get(self.cursor..).unwrap_or_default()) else {
            return Ok(false);
        };
        if head.fields.len() >= limits.max_fields {
            return Err(TOO_MANY);
        }
        let name_start = self.cursor + lengths.prefix;
        // Two lengths of 31 bits and a place below 2^32 can't overflow 64 bits.
        let end = name_start as u64 + lengths.name + lengths.value;
        if end > limit as u64 {
            return Err(HEAD_TOO_LARGE);
        }
        if end > head.bytes.len() as u64 {
            return Ok(false);
        }
        // All below `limit`, which has 32 bits.
        let name_end = name_start as u32 + lengths.name as u32;
        let name = Span { start: name_start as u32, end: name_end };
        let value = Span { start: name_end, end: end as u32 };
        match name.of(&head.bytes) {
            b"CONTENT_LENGTH" => self.note_content_length(value.of(&head.bytes)),
            b"REQUEST_URI" if lengths.value > limits.max_uri_bytes as u64 => return Err(URI_TOO_LONG),
            _ => {}
        }
        head.fields.push(Field { name, value });
        self.cursor = end as usize;
        Ok(true)
    }

    fn note_content_length(&mut self, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        let length = parse_content_length(value);
        self.content_length_is_bad |=
            length.is_none() || self.content_length.is_some_and(|before| Some(before) != length);
        self.content_length = length;
    }
}

/// Appends one pair, as short as the format allows.
///
/// # Panics
/// If `name` or `value` has 2 GiB or more: the format has 31 bits for a length.
pub fn encode_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    encode_length(out, name.len());
    encode_length(out, value.len());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

fn encode_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            assert!(length <= LONGEST_LENGTH, "a name or value of 2 GiB or more cannot be sent");
            out.extend_from_slice(&(length as u32 | FOUR_BYTES).to_be_bytes());
        }
    }
}

/// The pairs of a whole stream or management record, in order. The first error ends it.
pub fn pairs(mut stream: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), ProtocolError>> {
    std::iter::from_fn(move || {
        if stream.is_empty() {
            return None;
        }
        let split = Lengths::decode(stream).and_then(|lengths| {
            let rest = stream.get(lengths.prefix..)?;
            let (name, rest) = rest.split_at_checked(usize::try_from(lengths.name).ok()?)?;
            let (value, rest) = rest.split_at_checked(usize::try_from(lengths.value).ok()?)?;
            Some((name, value, rest))
        });
        let Some((name, value, rest)) = split else {
            stream = b"";
            return Some(Err(CUT_OFF));
        };
        stream = rest;
        Some(Ok((name, value)))
    })
}

/// What stands in front of a pair.
struct Lengths {
    /// Bytes of the lengths themselves: 2, 5 or 8.
    prefix: usize,
    name: u64,
    value: u64,
}

impl Lengths {
    /// `None`: not all of them are there.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (name, name_prefix) = decode_length(bytes)?;
        let (value, value_prefix) = decode_length(bytes.get(name_prefix..)?)?;
        Some(Lengths { prefix: name_prefix + value_prefix, name, value })
    }
}

/// A length, and how many bytes it took.
fn decode_length(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes.first()? {
        short if short < 0x80 => Some((short.into(), 1)),
        _ => Some(((u32::from_be_bytes(*bytes.first_chunk()?) & !FOUR_BYTES).into(), 4)),
    }
}

/// The bit that says that a length has four bytes.
const FOUR_BYTES: u32 = 0x8000_0000;
const LONGEST_LENGTH: usize = 0x7fff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    type Decoded = Result<(Vec<(Vec<u8>, Vec<u8>)>, Option<u64>), u16>;

    fn limits() -> Limits {
        Limits { max_head_bytes: 600, max_fields: 4, max_uri_bytes: 20, ..Limits::default() }
    }

    fn decode(stream: &[u8], step: usize) -> Decoded {
        let (mut head, mut decoder) = (RequestHead::default(), Decoder::default());
        for piece in stream.chunks(step) {
            decoder.feed(&mut head, piece, &limits()).map_err(|error| error.status())?;
            assert!(head.bytes.len() <= 600 && head.bytes.capacity() <= 1200);
        }
        let content_length = decoder.finish(&head).map_err(|error| error.status())?;
        Ok((head.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(), content_length))
    }

    fn decoded(pairs: &[(&[u8], &[u8])], content_length: Option<u64>) -> Decoded {
        Ok((pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(), content_length))
    }

    #[test]
    fn pairs_are_decoded_whole_and_byte_by_byte() {
        let long = [b'v'; 300];
        let long_pair = [&b"\x01\x80\0\x01\x2cL"[..], &long].concat();
        let two_long = [&b"\x80\0\x01\x2c\x80\0\0\x80"[..], &long, &[b'w'; 128]].concat();
        let cases: &[(&str, &[u8], Decoded)] = &[
            ("nothing", b"", decoded(&[], None)),
            ("short lengths", b"\x03\x01FOOx", decoded(&[(b"FOO", b"x")], None)),
            ("empty value", b"\x03\x00FOO", decoded(&[(b"FOO", b"")], None)),
            ("empty name", b"\x00\x01x", decoded(&[(b"", b"x")], None)),
            ("4-byte value length", b"\x03\x80\0\0\x01FOOx", decoded(&[(b"FOO", b"x")], None)),
            ("4-byte name length", b"\x80\0\0\x03\x01FOOx", decoded(&[(b"FOO", b"x")], None)),
            (
                "127 is short",
                &[&b"\x01\x7fS"[..], &[b's'; 127]].concat(),
                decoded(&[(b"S", &[b's'; 127])], None),
            ),
            ("300 is long", &long_pair, decoded(&[(b"L", &long)], None)),
            ("both long", &two_long, decoded(&[(&long, &[b'w'; 128])], None)),
            ("any bytes", b"\x03\x04\0=\xff\r\n\0\x80", decoded(&[(b"\0=\xff", b"\r\n\0\x80")], None)),
            ("twice, in order", b"\x01\x01Aa\x01\x01Ab", decoded(&[(b"A", b"a"), (b"A", b"b")], None)),
            ("a length", b"\x0e\x02CONTENT_LENGTH42", decoded(&[(b"CONTENT_LENGTH", b"42")], Some(42))),
            ("an empty length", b"\x0e\x00CONTENT_LENGTH", decoded(&[(b"CONTENT_LENGTH", b"")], None)),
            (
                "the same length twice",
                b"\x0e\x02CONTENT_LENGTH42\x0e\x02CONTENT_LENGTH42",
                decoded(&[(b"CONTENT_LENGTH", b"42"), (b"CONTENT_LENGTH", b"42")], Some(42)),
            ),
            ("two lengths", b"\x0e\x01CONTENT_LENGTH4\x0e\x01CONTENT_LENGTH5", Err(400)),
            ("bad, then good", b"\x0e\x01CONTENT_LENGTHx\x0e\x01CONTENT_LENGTH5", Err(400)),
            ("a sign", b"\x0e\x02CONTENT_LENGTH+4", Err(400)),
            ("a list", b"\x0e\x03CONTENT_LENGTH4,4", Err(400)),
            ("65 bits", b"\x0e\x14CONTENT_LENGTH99999999999999999999", Err(400)),
            ("longest URI", b"\x0b\x14REQUEST_URI/234567890123456789x", {
                decoded(&[(b"REQUEST_URI", b"/234567890123456789x")], None)
            }),
            ("URI too long", b"\x0b\x15REQUEST_URI/234567890123456789xx", Err(414)),
            ("one byte missing", b"\x03\x02FOOx", Err(400)),
            ("value length missing", b"\x03", Err(400)),
            ("half a length", b"\x03\x80\0", Err(400)),
            ("name past the end", b"\x7f\x00FOO", Err(400)),
            ("name of 2 GiB", b"\xff\xff\xff\xff\x00FOO", Err(431)),
            ("both of 2 GiB", b"\xff\xff\xff\xff\xff\xff\xff\xffFOO", Err(431)),
            ("sum just over", b"\x80\0\x01\x2c\x80\0\x01\x25", Err(431)),
            ("five pairs", b"\0\0\0\0\0\0\0\0\0\0", Err(431)),
            ("too long, after a bad URI", &[&b"\x0b\x15REQUEST_URI"[..], &[b'u'; 700]].concat(), Err(414)),
            ("too long", &[&b"\x80\0\x02\xbc\0"[..], &[b'u'; 700]].concat(), Err(431)),
        ];
        for (name, stream, expected) in cases {
            for step in [stream.len().max(1), 1, 2, 3, 7] {
                assert_eq!(&decode(stream, step), expected, "{name}, {step} bytes at a time");
            }
        }
    }

    #[test]
    fn encoded_pairs_are_decoded_as_they_were() {
        let lengths = [0, 1, 127, 128, 255, 256, 65535, 65536];
        let values: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![b'v'; length]).collect();
        let mut stream = Vec::new();
        for (name, value) in values.iter().zip(values.iter().rev()) {
            encode_pair(&mut stream, name, value);
        }
        let found: Vec<_> = pairs(&stream).map(|pair| pair.expect("valid")).collect();
        let expected: Vec<_> =
            values.iter().zip(values.iter().rev()).map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn pairs_that_are_cut_off_end_the_iteration_with_an_error() {
        for stream in [&b"\x01"[..], b"\x01\x01A", b"\xff\xff\xff\xff\xff\xff\xff\xffA", b"\x01\x00A\x05"] {
            let mut found = pairs(stream);
            assert!(found.by_ref().any(|pair| pair.is_err()), "{stream:?}");
            assert!(found.next().is_none());
        }
    }
}
