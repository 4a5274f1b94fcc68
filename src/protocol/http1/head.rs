//! From the bytes of a head to a [`RequestHead`] and the [`Terms`] on which its request is served.

use httparse::EMPTY_HEADER;

use super::lines::Lines;
use super::request_line::{self, Line, is_host};
use crate::protocol::{
    BodyLength, Field, Limits, ProtocolError, RequestHead, RequestLine, Span, Version, is_token,
    parse_content_length,
};

/// Heads with so many field lines are parsed without an allocation; browsers send 10 to 20.
const USUAL_FIELDS: usize = 32;

/// What the connection must know of a request beside its body.
#[derive(Debug, Clone, Copy)]
pub(in crate::protocol) struct Terms {
    pub version: Version,
    /// The method is HEAD: its response ends with the head (RFC 9112 §6.3).
    pub is_head: bool,
    /// The client expects further responses on this connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    pub expects_continue: bool,
}

impl Default for Terms {
    /// For a request whose head could not be read: answer as the newest version does, then close.
    fn default() -> Self {
        Terms { version: Version::Http11, is_head: false, keep_alive: false, expects_continue: false }
    }
}

/// The search for the end of a head. Its request line is parsed as soon as it has come, so that a peer that speaks
/// something else gets its answer at once.
#[derive(Debug, Default)]
pub(super) struct HeadSearch {
    lines: Lines,
    line: Option<Line>,
    fields: usize,
}

/// A head whose last byte has come.
#[derive(Debug)]
pub(super) struct FoundHead {
    line: Line,
    fields: usize,
    /// Bytes of the head, the empty line included.
    pub length: usize,
}

impl HeadSearch {
    /// `input` begins with the head's first byte. Every limit and rule is judged from the bytes up to the one that
    /// breaks it, so the result does not depend on how the bytes were split.
    pub fn search(&mut self, input: &[u8], limits: &Limits) -> Result<Option<FoundHead>, ProtocolError> {
        // A span's positions have 32 bits.
        let max_head_bytes = limits.max_head_bytes.min(u32::MAX as usize);
        if self.line.is_none() {
            if input.first().is_some_and(|first| !is_token(&[*first])) {
                return Err(ProtocolError::new(400, "a request does not begin with a method"));
            }
            let max_line = request_line::max_line_bytes(limits.max_uri_bytes).min(max_head_bytes);
            let too_long = ProtocolError::new(414, "the request line is too long");
            let Some(line) = self.lines.next(input, max_line, too_long)? else { return Ok(None) };
            self.line = Some(request_line::parse(&input[line], limits.max_uri_bytes)?);
        }
        let too_long = ProtocolError::new(431, "the head is too long");
        while let Some(line) = self.lines.next(input, max_head_bytes, too_long)? {
            if line.is_empty() {
                let found =
                    FoundHead { line: self.take_line()?, fields: self.fields, length: self.lines.length() };
                return Ok(Some(found));
            }
            self.fields += 1;
            if self.fields > limits.max_fields {
                return Err(ProtocolError::new(431, "the head has too many field lines"));
            }
        }
        Ok(None)
    }

    /// Nothing has been searched yet.
    pub fn is_new(&self) -> bool {
        self.line.is_none() && self.lines.is_new()
    }

    /// HEAD and the version are worth knowing for a refusal too.
    pub fn terms(&self) -> Terms {
        self.line.as_ref().map(refusal_terms).unwrap_or_default()
    }

    fn take_line(&mut self) -> Result<Line, ProtocolError> {
        self.line.take().ok_or(ProtocolError::new(400, "a head has no request line"))
    }
}

fn refusal_terms(line: &Line) -> Terms {
    Terms { version: line.version, is_head: line.is_head, ..Terms::default() }
}

impl FoundHead {
    pub fn refusal_terms(&self) -> Terms {
        refusal_terms(&self.line)
    }

    /// Fills `head` (which must be clear) from `bytes`, the whole head. Its `bytes` then are the head as it came.
    pub fn read(
        &self,
        bytes: &[u8],
        limits: &Limits,
        head: &mut RequestHead,
    ) -> Result<Terms, ProtocolError> {
        head.bytes.extend_from_slice(bytes);
        let mut summary = FieldSummary::default();
        let first_field = self.line.target.end + " HTTP/1.1\r\n".len();
        let section = bytes.get(first_field..).unwrap_or_default();
        let fields = &mut head.fields;
        each_field(section, self.fields, |name, value| {
            fields.push(Field { name: span(bytes, name), value: span(bytes, value) });
            summary.note(name, value)
        })?;
        head.line = Some(RequestLine {
            method: span(bytes, &bytes[self.line.method.clone()]),
            target: span(bytes, &bytes[self.line.target.clone()]),
            version: self.line.version,
        });
        summary.check(self.line.version)?;
        head.body = summary.body_length(limits)?;
        let terms = Terms {
            keep_alive: summary.keeps_alive(self.line.version),
            expects_continue: summary.expects_continue && self.line.version == Version::Http11,
            ..self.refusal_terms()
        };
        head.terms = Some(terms);
        Ok(terms)
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn span(whole: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    Span { start: start as u32, end: (start + part.len()) as u32 }
}

/// Names and values of a section of `count` field lines that ends with its empty line. httparse checks the grammar of
/// RFC 9112 §5: token names, no white space before the colon, no line folding, no control characters.
pub(super) fn each_field<'a>(
    section: &'a [u8],
    count: usize,
    mut each: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    let (mut usual, mut many);
    let parsed: &mut [httparse::Header<'a>] = if count <= USUAL_FIELDS {
        usual = [EMPTY_HEADER; USUAL_FIELDS];
        &mut usual
    } else {
        many = vec![EMPTY_HEADER; count];
        &mut many
    };
    match httparse::parse_headers(section, parsed) {
        Ok(httparse::Status::Complete((_, headers))) => {
            headers.iter().try_for_each(|header| each(header.name.as_bytes(), header.value))
        }
        Ok(httparse::Status::Partial) => Err(ProtocolError::new(400, "a field line is cut off")),
        Err(httparse::Error::HeaderName) => Err(ProtocolError::new(400, "a field name is malformed")),
        Err(httparse::Error::HeaderValue) => Err(ProtocolError::new(400, "a field value is malformed")),
        Err(_) => Err(ProtocolError::new(400, "a field line is malformed")),
    }
}

/// What the field lines say about framing and the connection.
#[derive(Debug, Default)]
struct FieldSummary {
    has_host: bool,
    has_content_type: bool,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_more: bool,
}

impl FieldSummary {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), ProtocolError> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.note_host(value),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.note_expect(value);
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.note_connection(value);
                Ok(())
            }
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                once(&mut self.has_content_type, "Content-Type comes twice")
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.note_content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.note_transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn note_host(&mut self, value: &[u8]) -> Result<(), ProtocolError> {
        once(&mut self.has_host, "Host comes twice")?;
        if is_host(value) { Ok(()) } else { Err(ProtocolError::new(400, "Host is malformed")) }
    }

    /// RFC 9110 §10.1.1.
    fn note_expect(&mut self, value: &[u8]) {
        match value.eq_ignore_ascii_case(b"100-continue") {
            true => self.expects_continue = true,
            false => self.expects_more = true,
        }
    }

    /// RFC 9110 §7.6.1: a list, whose empty elements do not count.
    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 §6.3 rule 5. Even equal numbers twice are refused: only a confused or a malicious sender has them.
    fn note_content_length(&mut self, value: &[u8]) -> Result<(), ProtocolError> {
        if self.content_length.is_some() {
            return Err(ProtocolError::new(400, "Content-Length comes twice"));
        }
        self.content_length = parse_content_length(value);
        match self.content_length {
            Some(_) => Ok(()),
            None if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                Err(ProtocolError::new(413, "Content-Length has more than 64 bits"))
            }
            None => Err(ProtocolError::new(400, "Content-Length is not a number")),
        }
    }

    /// RFC 9112 §6.1 and §6.3 rule 4: the only coding that frames a request is `chunked`, last and once.
    fn note_transfer_encoding(&mut self, value: &[u8]) -> Result<(), ProtocolError> {
        once(&mut self.chunked, "Transfer-Encoding comes twice")?;
        if value.eq_ignore_ascii_case(b"chunked") {
            return Ok(());
        }
        let mut codings = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let ends_chunked = codings.next().is_some_and(is_chunked);
        if ends_chunked && codings.all(|coding| is_token(coding) && !is_chunked(coding)) {
            return Err(ProtocolError::new(501, "Transfer-Encoding names another coding than chunked"));
        }
        Err(ProtocolError::new(400, "Transfer-Encoding is not `chunked`"))
    }

    /// The rules that need every field line.
    fn check(&self, version: Version) -> Result<(), ProtocolError> {
        if self.chunked && self.content_length.is_some() {
            return Err(ProtocolError::new(400, "both Transfer-Encoding and Content-Length")); // §6.1, §11.2
        }
        match version {
            Version::Http10 if self.chunked => {
                Err(ProtocolError::new(400, "Transfer-Encoding in HTTP/1.0")) // §6.1
            }
            Version::Http11 if !self.has_host => Err(ProtocolError::new(400, "Host is missing")), // §3.2
            Version::Http11 if self.expects_more => Err(ProtocolError::new(417, "an unknown expectation")),
            _ => Ok(()),
        }
    }

    fn body_length(&self, limits: &Limits) -> Result<BodyLength, ProtocolError> {
        match self.content_length {
            _ if self.chunked => Ok(BodyLength::Unknown),
            None | Some(0) => Ok(BodyLength::None),
            Some(length) if length > limits.max_body_bytes => {
                Err(ProtocolError::new(413, "Content-Length is over the limit"))
            }
            Some(length) => Ok(BodyLength::Known(length)),
        }
    }

    /// RFC 9112 §9.3.
    fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

fn once(seen: &mut bool, otherwise: &'static str) -> Result<(), ProtocolError> {
    match std::mem::replace(seen, true) {
        false => Ok(()),
        true => Err(ProtocolError::new(400, otherwise)),
    }
}
