//! A response's head, kept in the form that both protocols write: field lines that end in CRLF.

use std::fmt;

/// A field that must not be sent: its sender is at fault, the peer never sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidField {
    /// Not a token (RFC 9110 §5.6.2).
    Name,
    /// CR, LF, NUL or another control character (RFC 9110 §5.5).
    Value,
    /// Belongs to the connection, not to the application (RFC 9110 §7.6.1; PEP 3333 "other HTTP features").
    HopByHop,
    /// Not a number, or a second, different one.
    ContentLength,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidField::Name => "the field name is not a token",
            InvalidField::Value => "the field value holds a control character",
            InvalidField::HopByHop => "hop-by-hop fields belong to the server",
            InvalidField::ContentLength => "Content-Length is not one number",
        })
    }
}

impl std::error::Error for InvalidField {}

/// Status and fields of a response.
///
/// Content-Length is not among the field lines: it is `content_length`, because both the protocol and the check of the
/// body need it. Buffers are kept by [`ResponseHead::clear`].
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    pub status: u16,
    /// May be empty; HTTP/1.1 then sends an empty reason phrase.
    reason: Vec<u8>,
    lines: Vec<u8>,
    pub content_length: Option<u64>,
    /// False for HEAD, 1xx, 204 and 304: the message ends with its head (RFC 9112 §6.3).
    pub has_body: bool,
    /// The connection is to end after this response.
    pub close: bool,
    pub has_date: bool,
    pub has_server: bool,
}

impl ResponseHead {
    pub fn new(status: u16) -> Self {
        let mut head = ResponseHead::default();
        head.start(status, default_reason(status).as_bytes());
        head
    }

    /// Begins anew and keeps the buffers. `reason` must have been checked with [`is_field_value`].
    pub fn start(&mut self, status: u16, reason: &[u8]) {
        self.clear();
        self.status = status;
        self.reason.extend_from_slice(reason);
    }

    pub fn clear(&mut self) {
        let (mut reason, mut lines) = (std::mem::take(&mut self.reason), std::mem::take(&mut self.lines));
        reason.clear();
        lines.clear();
        *self = ResponseHead { reason, lines, has_body: true, ..ResponseHead::default() };
    }

    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// All fields but Content-Length, each as `Name: value CRLF`.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Names and values of [`lines`](Self::lines).
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.split_inclusive(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r\n")?;
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Appends a field, checked; nothing is appended on error.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidField> {
        if name == b"Content-Length" || name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            return self.set_content_length(value);
        }
        if !is_token(name) {
            return Err(InvalidField::Name);
        }
        if !is_field_value(value) {
            return Err(InvalidField::Value);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"date") => self.has_date = true,
            6 if name.eq_ignore_ascii_case(b"server") => self.has_server = true,
            2 | 7 | 10 | 16 | 17 | 18 | 19 if is_hop_by_hop(name) => return Err(InvalidField::HopByHop),
            _ => {}
        }
        let value = value.trim_ascii();
        self.lines.reserve(name.len() + value.len() + 4);
        self.lines.extend_from_slice(name);
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Appends a field that was checked before.
    ///
    /// # Errors
    /// It is a Content-Length, and there is another one.
    pub fn push_checked(&mut self, field: &CheckedField) -> Result<(), InvalidField> {
        self.has_date |= field.is_date;
        self.has_server |= field.is_server;
        self.lines.extend_from_slice(&field.line);
        field.content_length.map_or(Ok(()), |length| self.set_length(length))
    }

    fn set_content_length(&mut self, value: &[u8]) -> Result<(), InvalidField> {
        let length = parse_content_length(value.trim_ascii()).ok_or(InvalidField::ContentLength)?;
        self.set_length(length)
    }

    fn set_length(&mut self, length: u64) -> Result<(), InvalidField> {
        match self.content_length {
            Some(before) if before != length => Err(InvalidField::ContentLength),
            _ => {
                self.content_length = Some(length);
                Ok(())
            }
        }
    }
}

/// A field that may be sent, as [`ResponseHead::push`] would append it: applications send the same ones again and again.
#[derive(Debug, Clone)]
pub struct CheckedField {
    line: Box<[u8]>,
    content_length: Option<u64>,
    is_date: bool,
    is_server: bool,
}

impl CheckedField {
    /// Checks it once for all times.
    pub fn new(name: &[u8], value: &[u8]) -> Result<Self, InvalidField> {
        let mut head = ResponseHead::default();
        head.push(name, value)?;
        Ok(CheckedField {
            line: head.lines.into_boxed_slice(),
            content_length: head.content_length,
            is_date: head.has_date,
            is_server: head.has_server,
        })
    }
}

/// Digits only, no sign, no list, within 64 bits (RFC 9110 §8.6).
pub fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// RFC 9110 §5.6.2.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[byte as usize])
}

/// RFC 9110 §5.5: no control character but HTAB; obs-text (0x80 to 0xff) is allowed.
pub fn is_field_value(bytes: &[u8]) -> bool {
    // Without an early end: the compiler then looks at many bytes at once, and most values are valid.
    bytes.iter().fold(true, |valid, &byte| valid & ((byte >= 0x20) & (byte != 0x7f) | (byte == b'\t')))
}

/// Fields that only the server may set: RFC 9110 §7.6.1, and wsgiref's list, which PEP 3333 points to.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 9] = [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// RFC 9110 §15, for responses whose sender named no reason.
pub fn default_reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(
                character,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_must_not_be_sent_are_refused() {
        for (name, value, error) in [
            (b"".as_slice(), b"x".as_slice(), InvalidField::Name),
            (b"X Y", b"x", InvalidField::Name),
            (b"X\r\nY", b"x", InvalidField::Name),
            (b"X:", b"x", InvalidField::Name),
            (b"X\xe9", b"x", InvalidField::Name),
            (b"X", b"a\r\nSet-Cookie: b", InvalidField::Value),
            (b"X", b"a\nb", InvalidField::Value),
            (b"X", b"a\0b", InvalidField::Value),
            (b"X", b"a\x0bb", InvalidField::Value),
            (b"Connection", b"close", InvalidField::HopByHop),
            (b"transfer-Encoding", b"chunked", InvalidField::HopByHop),
            (b"TE", b"trailers", InvalidField::HopByHop),
            (b"Keep-Alive", b"timeout=1", InvalidField::HopByHop),
            (b"Trailer", b"x", InvalidField::HopByHop),
            (b"Upgrade", b"x", InvalidField::HopByHop),
            (b"Proxy-Authenticate", b"x", InvalidField::HopByHop),
            (b"Proxy-Authorization", b"x", InvalidField::HopByHop),
            (b"Proxy-Connection", b"x", InvalidField::HopByHop),
            (b"Content-Length", b"+1", InvalidField::ContentLength),
            (b"Content-Length", b"1, 1", InvalidField::ContentLength),
            (b"Content-Length", b"", InvalidField::ContentLength),
            (b"Content-Length", b"99999999999999999999", InvalidField::ContentLength),
        ] {
            let mut head = ResponseHead::new(200);
            assert_eq!(head.push(name, value), Err(error), "{name:?}: {value:?}");
            assert_eq!(head.lines(), b"");
        }
    }

    #[test]
    fn fields_keep_their_order_and_content_length_is_apart() {
        let mut head = ResponseHead::new(200);
        head.push(b"Content-Type", b"text/plain").expect("valid");
        head.push(b"Content-Length", b" 12").expect("valid");
        head.push(b"Content-Length", b"12").expect("the same number again");
        head.push(b"X-Latin", b"caf\xe9").expect("obs-text is valid");
        assert_eq!(head.push(b"Content-Length", b"13"), Err(InvalidField::ContentLength));
        assert_eq!(head.lines(), b"Content-Type: text/plain\r\nX-Latin: caf\xe9\r\n");
        assert_eq!(head.content_length, Some(12));
        assert_eq!(head.field(b"x-latin"), Some(b"caf\xe9".as_slice()));
        assert_eq!(head.reason(), b"OK");
    }

    #[test]
    fn a_checked_field_is_what_it_was_when_it_was_checked() {
        for (name, value) in [
            (b"Content-Type".as_slice(), b" text/plain ".as_slice()),
            (b"Content-Length", b"12"),
            (b"content-length", b"0"),
            (b"Date", b"now"),
            (b"SERVER", b"x"),
            (b"X-Latin", b"caf\xe9"),
        ] {
            let field = CheckedField::new(name, value).expect("valid");
            let (mut pushed, mut checked) = (ResponseHead::new(200), ResponseHead::new(200));
            for _ in 0..2 {
                pushed.push(name, value).expect("valid");
                checked.push_checked(&field).expect("valid");
            }
            assert_eq!(format!("{pushed:?}"), format!("{checked:?}"));
        }
        for (name, value) in [(b"X Y".as_slice(), b"x".as_slice()), (b"X", b"a\nb"), (b"TE", b"x")] {
            let mut head = ResponseHead::new(200);
            assert_eq!(CheckedField::new(name, value).err(), head.push(name, value).err());
        }
        let (mut head, twelve) = (ResponseHead::new(200), CheckedField::new(b"Content-Length", b"12"));
        head.push(b"Content-Length", b"13").expect("valid");
        assert_eq!(head.push_checked(&twelve.expect("valid")), Err(InvalidField::ContentLength));
    }

    #[test]
    fn lengths_are_digits_within_64_bits() {
        for (text, length) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999", None),
            ("", None),
            ("+1", None),
            ("1 ", None),
            ("1,1", None),
            ("0x1", None),
        ] {
            assert_eq!(parse_content_length(text.as_bytes()), length, "{text:?}");
        }
    }
}
