//! A request's head as it came, before RFC 3875 gives its parts their names.

use super::http1::Terms;

/// A range of [`RequestHead::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A field line (HTTP), or a name-value pair (FastCGI).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// RFC 9112 §3. Only HTTP has one: a FastCGI web server sends meta-variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLine {
    pub method: Span,
    /// As it came: origin-form, absolute-form or `*`.
    pub target: Span,
    pub version: Version,
}

/// How long the body will be, as far as the head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyLength {
    #[default]
    None,
    /// Content-Length, or CONTENT_LENGTH; more than zero.
    Known(u64),
    /// Chunked transfer coding, or a FastCGI web server that streams without CONTENT_LENGTH.
    Unknown,
}

/// What a FastCGI head that comes again is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// The value of REMOTE_PORT.
    pub port: Option<Span>,
    /// CONTENT_LENGTH is not empty.
    pub has_length: bool,
}

/// A request's head: one buffer, and where its parts lie in it. Buffers are reused from request to request
/// ([`Connection::recycle`](super::http1::Connection::recycle)).
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    pub bytes: Vec<u8>,
    /// In the order in which they came, names and values without surrounding white space, checked against the
    /// grammar of their protocol. HTTP: field lines (names in any case). FastCGI: name-value pairs, any bytes.
    pub fields: Vec<Field>,
    /// `None` for FastCGI.
    pub line: Option<RequestLine>,
    pub body: BodyLength,
    /// The request before it on this connection had the same head, byte for byte; in FastCGI, only the value of
    /// REMOTE_PORT may differ. Nothing depends on it but time: who has read the former one may know this one.
    pub repeats: bool,
    /// What HTTP has read beside: kept with the bytes that say so. `None`: they are not a whole head that was read.
    pub(super) terms: Option<Terms>,
    /// FastCGI: the bytes are a whole stream that was accepted.
    pub(super) is_whole: bool,
    /// What [`repeats`](Self::repeats) was found by, once it has been.
    pub(super) places: Option<Places>,
}

impl RequestHead {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.line = None;
        self.body = BodyLength::None;
        self.repeats = false;
        self.terms = None;
        self.is_whole = false;
        self.places = None;
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name.of(&self.bytes), field.value.of(&self.bytes)))
    }

    /// The first field of this name; ASCII case does not matter (RFC 9110 §5.1).
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Of FastCGI: where the client's port is, which differs from client to client where all else is the same.
    pub fn remote_port(&self) -> Option<Span> {
        if self.line.is_some() { None } else { self.places().port }
    }

    pub(super) fn places(&self) -> Places {
        self.places.unwrap_or_else(|| {
            let is_named = |field: &&Field, name: &[u8]| field.name.of(&self.bytes) == name;
            let port = self.fields.iter().find(|field| is_named(field, b"REMOTE_PORT"));
            let has_length = self.iter().any(|(name, value)| name == b"CONTENT_LENGTH" && !value.is_empty());
            Places { port: port.map(|field| field.value), has_length }
        })
    }

    pub fn method(&self) -> Option<&[u8]> {
        self.line.map(|line| line.method.of(&self.bytes))
    }

    pub fn target(&self) -> Option<&[u8]> {
        self.line.map(|line| line.target.of(&self.bytes))
    }

    /// Appends bytes and says where they lie.
    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, end: self.bytes.len() as u32 }
    }
}
