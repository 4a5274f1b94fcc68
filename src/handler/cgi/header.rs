//! A script's output up to the empty line: RFC 3875 §6.2 and §6.3, or a whole HTTP head from an `nph-` script (§5).
//!
//! Sans-IO: fed with what was read, in any pieces. Lenient where scripts of thirty years are (LF or CRLF, space before
//! the colon, cgitb's first line, a status line in place of `Status`), strict where a peer could be deceived.

use std::fmt;

use crate::printable::printable;
use crate::protocol::{InvalidField, ResponseHead, default_reason, is_field_value};

/// What a header may cost.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// All lines with their ends.
    pub max_bytes: usize,
    pub max_fields: usize,
}

/// What a complete header says.
#[derive(Debug, Clone)]
pub enum Header {
    /// Document response or client redirect (§6.2.1, §6.2.3, §6.2.4).
    Response(ResponseHead),
    /// §6.2.2: answer as if this path and query had been asked for with GET. Percent-encoded where it has to be.
    LocalRedirect(Vec<u8>),
}

/// The output is no header: the text for the log says why, printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderError(String);

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HeaderError {}

/// Reads a header line by line.
#[derive(Debug)]
pub struct HeaderParser {
    limits: HeaderLimits,
    /// The script's name begins with `nph-`: it writes the status line, and its Location is not ours to interpret.
    nph: bool,
    /// Begin of a line whose end has not come yet.
    partial: Vec<u8>,
    bytes: usize,
    lines: usize,
    status: Option<(u16, Vec<u8>)>,
    location: Option<Vec<u8>>,
    fields: ResponseHead,
}

impl HeaderParser {
    pub fn new(limits: HeaderLimits, nph: bool) -> Self {
        HeaderParser {
            limits,
            nph,
            partial: Vec::new(),
            bytes: 0,
            lines: 0,
            status: None,
            location: None,
            fields: ResponseHead::new(200),
        }
    }

    /// Takes the next piece of output. `None`: the header goes on. `Some`: the header, and how many bytes of the piece
    /// belong to it; the rest is the body.
    ///
    /// # Errors
    /// A line is no header field, or a limit is passed. Do not feed again.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
        let mut used = 0;
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.bytes = self.bytes.saturating_add(piece.len());
            if self.bytes > self.limits.max_bytes {
                return Err(HeaderError(format!(
                    "its header is longer than {} bytes",
                    self.limits.max_bytes
                )));
            }
            used += piece.len();
            let Some(end) = piece.strip_suffix(b"\n") else {
                self.partial.extend_from_slice(piece);
                return Ok(None);
            };
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(end);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                return Ok(Some((self.finish()?, used)));
            }
            self.line(line)?;
        }
        Ok(None)
    }

    /// What to say when the output ends before the header does.
    pub fn unfinished(&self) -> HeaderError {
        HeaderError(match self.bytes {
            0 => "it wrote nothing to its standard output".to_owned(),
            _ => "its output ended before the empty line that ends the header".to_owned(),
        })
    }

    fn line(&mut self, line: &[u8]) -> Result<(), HeaderError> {
        let first = self.lines == 0;
        self.lines += 1;
        if self.lines > self.limits.max_fields {
            return Err(HeaderError(format!("its header has more than {} fields", self.limits.max_fields)));
        }
        if first && line.starts_with(b"HTTP/") {
            return self.status_line(line);
        }
        if first && self.nph {
            return Err(wrong(line, "an nph- script must begin with a status line, such as HTTP/1.1 200 OK"));
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Err(wrong(line, "it is not a header field, and an empty line has not come yet"));
        };
        let (name, value) = (trim_end(&line[..colon]), trim(&line[colon + 1..]));
        if first && name == b"<!--" {
            // Python's cgitb begins so, to show its report whether or not a header has gone out.
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"status") && !self.nph {
            return self.status(value, line);
        }
        if name.eq_ignore_ascii_case(b"location") && !self.nph {
            return self.location(value, line);
        }
        self.field(name, value, line)
    }

    /// `HTTP/1.1 200 OK`.
    fn status_line(&mut self, line: &[u8]) -> Result<(), HeaderError> {
        let space = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        self.status(trim(&line[space..]), line)
    }

    /// `200 OK`, the reason may be missing.
    fn status(&mut self, value: &[u8], line: &[u8]) -> Result<(), HeaderError> {
        let (digits, reason) = value.split_at_checked(3).unwrap_or((value, b""));
        let status = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
        let status = status.filter(|status| (200..=599).contains(status) && digits.len() == 3);
        let (Some(status), true) = (status, reason.first().is_none_or(is_blank)) else {
            return Err(wrong(line, "a status is a number from 200 to 599 and a reason"));
        };
        if !is_field_value(reason) {
            return Err(wrong(line, "the reason holds a control character"));
        }
        match &self.status {
            Some((before, _)) if *before != status => Err(wrong(line, "it has named another status before")),
            _ => {
                self.status = Some((status, trim(reason).to_vec()));
                Ok(())
            }
        }
    }

    fn location(&mut self, value: &[u8], line: &[u8]) -> Result<(), HeaderError> {
        if !is_field_value(value) {
            return Err(wrong(line, "the field value holds a control character"));
        }
        match &self.location {
            Some(before) if before != value => Err(wrong(line, "it has named another Location before")),
            _ if value.is_empty() => Err(wrong(line, "a Location needs a value")),
            _ => {
                self.location = Some(value.to_vec());
                Ok(())
            }
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8], line: &[u8]) -> Result<(), HeaderError> {
        match self.fields.push(name, value) {
            Ok(()) => Ok(()),
            Err(InvalidField::HopByHop) if self.nph && name.eq_ignore_ascii_case(b"transfer-encoding") => {
                Err(wrong(
                    line,
                    "the server encodes the transfer, also for an nph- script: write the body plainly",
                ))
            }
            Err(InvalidField::HopByHop) => {
                log::debug!("dropped '{}': {}", printable(line, SHOWN_LINE_BYTES), InvalidField::HopByHop);
                Ok(())
            }
            Err(error) => Err(wrong(line, &error.to_string())),
        }
    }

    fn finish(&mut self) -> Result<Header, HeaderError> {
        if self.lines == 0 {
            return Err(HeaderError(
                "its output begins with an empty line; a header field, such as Content-Type, must come first"
                    .to_owned(),
            ));
        }
        let location = self.location.take();
        let status = self.status.take();
        if let (Some(path), None | Some((200, _))) = (&location, &status)
            && path.starts_with(b"/")
            && !path.contains(&b'#')
        {
            return Ok(Header::LocalRedirect(encode_target(path)));
        }
        let (status, reason) = match (status, &location) {
            (Some(given), _) => given,
            (None, Some(_)) => (302, Vec::new()),
            (None, None) => (200, Vec::new()),
        };
        let reason = if reason.is_empty() { default_reason(status).as_bytes() } else { &reason };
        Ok(Header::Response(self.head(status, reason, location.as_deref())?))
    }

    fn head(&self, status: u16, reason: &[u8], location: Option<&[u8]>) -> Result<ResponseHead, HeaderError> {
        let mut head = ResponseHead::default();
        head.start(status, reason);
        let location = location.map(|location| (b"Location".as_slice(), location));
        for (name, value) in location.into_iter().chain(self.fields.fields()) {
            head.push(name, value).map_err(|error| wrong(value, &error.to_string()))?;
        }
        head.content_length = self.fields.content_length;
        Ok(head)
    }
}

/// Without the white space of RFC 9110 §5.5 around it; a CR inside a line is none.
fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    trim_end(&bytes[start..])
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
    &bytes[..end]
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A request target holds neither space nor bytes above 0x7e (RFC 9112 §3.2); scripts write them nevertheless.
fn encode_target(path: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut target = Vec::with_capacity(path.len());
    for &byte in path {
        match byte {
            0x21..=0x7e => target.push(byte),
            _ => target.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    target
}

fn wrong(line: &[u8], why: &str) -> HeaderError {
    HeaderError(format!("its header holds the line '{}': {why}", printable(line, SHOWN_LINE_BYTES)))
}

const SHOWN_LINE_BYTES: usize = 200;

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
