//! The request line (RFC 9112 §3), the forms of its target, and the grammar of Host.

use std::ops::Range;

use crate::protocol::{ProtocolError, Version, is_token};

/// No registered method comes near; RFC 9110 §9.1 answers 501 to what a server does not know.
const MAX_METHOD_BYTES: usize = 32;

/// A method, two spaces and `HTTP/1.1`: what a request line may hold beside its target.
const MAX_BESIDE_TARGET_BYTES: usize = MAX_METHOD_BYTES + 2 + 8;

/// A parsed request line; positions count from its first byte.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub method: Range<usize>,
    pub target: Range<usize>,
    pub version: Version,
    pub is_head: bool,
}

/// The longest line that can be valid, CRLF included.
pub(super) fn max_line_bytes(max_uri_bytes: usize) -> usize {
    max_uri_bytes.saturating_add(MAX_BESIDE_TARGET_BYTES + 2)
}

/// Exactly `method SP request-target SP HTTP-version`: no other white space, none before or after.
pub(super) fn parse(line: &[u8], max_uri_bytes: usize) -> Result<Line, ProtocolError> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ProtocolError::new(400, "the request line is not `method target version`"));
    };
    if !is_token(method) {
        return Err(ProtocolError::new(400, "the method is not a token"));
    }
    let version = parse_version(version)?;
    if method.len() > MAX_METHOD_BYTES {
        return Err(ProtocolError::new(501, "the method is too long to be known"));
    }
    if target.len() > max_uri_bytes {
        return Err(ProtocolError::new(414, "the request target is too long"));
    }
    check_target(method, target)?;
    let target_start = method.len() + 1;
    Ok(Line {
        method: 0..method.len(),
        target: target_start..target_start + target.len(),
        version,
        is_head: method == b"HEAD",
    })
}

/// RFC 9112 §2.3. A higher minor version is read as 1.1 (RFC 9110 §2.5).
fn parse_version(version: &[u8]) -> Result<Version, ProtocolError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match major {
                b'0' => Err(ProtocolError::new(400, "HTTP/0.9 is not served")),
                b'1' => Ok(Version::Http11),
                _ => Err(ProtocolError::new(505, "only HTTP/1.1 and HTTP/1.0 are served")),
            }
        }
        _ => Err(ProtocolError::new(400, "the HTTP version is malformed")),
    }
}

/// RFC 9112 §3.2: which form of target goes with which method.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), ProtocolError> {
    if method == b"CONNECT" {
        return Err(ProtocolError::new(501, "CONNECT is not served"));
    }
    if target.iter().any(|&byte| byte < 0x21 || byte == 0x7f || byte == b'#') {
        return Err(ProtocolError::new(400, "the request target holds a control character or a fragment"));
    }
    if target == b"*" {
        return match method {
            b"OPTIONS" => Ok(()),
            _ => Err(ProtocolError::new(400, "the target `*` goes with OPTIONS only")),
        };
    }
    if target.first() == Some(&b'/') {
        return Ok(());
    }
    match split_target(target).authority {
        // RFC 9110 §4.2.1: an empty host identifier is invalid. User information is no part of HTTP's grammar (§4.2.4).
        Some(authority) if !authority.is_empty() && authority[0] != b':' && is_host(authority) => Ok(()),
        _ => Err(ProtocolError::new(400, "the request target has none of the forms of RFC 9112 section 3.2")),
    }
}

/// A request target in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Only absolute-form has one. It then replaces Host (RFC 9112 §3.2.2).
    pub authority: Option<&'a [u8]>,
    /// Path and query, still percent-encoded. Of absolute-form it may be empty or begin with `?`: the path then is `/`
    /// (RFC 9110 §4.2.3). `*` stays `*`.
    pub path_and_query: &'a [u8],
}

/// Splits absolute-form (`http://host:port/path?query`, scheme in any case) from the other forms.
pub fn split_target(target: &[u8]) -> Target<'_> {
    let rest = strip_scheme(target, b"http://").or_else(|| strip_scheme(target, b"https://"));
    match rest {
        None => Target { authority: None, path_and_query: target },
        Some(rest) => {
            let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let (authority, path_and_query) = rest.split_at(end);
            Target { authority: Some(authority), path_and_query }
        }
    }
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// `uri-host [":" port]`, RFC 9112 §3.2, where a name holds letters, digits and `-._~` only: what else RFC 3986 allows in
/// a reg-name occurs in attacks, not in host names. Empty is valid: the target then has no authority.
pub(super) fn is_host(value: &[u8]) -> bool {
    let port = match value.split_first() {
        Some((b'[', rest)) => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
            let (address, port) = rest.split_at(end);
            if address.is_empty() || !address.iter().all(is_address_character) {
                return false;
            }
            port.get(1..).unwrap_or_default()
        }
        _ => {
            let end = value.iter().position(|&byte| byte == b':').unwrap_or(value.len());
            let (name, port) = value.split_at(end);
            if !name.iter().all(is_name_character) {
                return false;
            }
            port
        }
    };
    match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

/// Of an IP-literal, RFC 3986 §3.2.2, with the zone identifier of RFC 6874.
fn is_address_character(byte: &u8) -> bool {
    is_name_character(byte) || matches!(byte, b':' | b'%')
}

fn is_name_character(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_request_lines_give_their_parts() {
        for (line, method, target, version) in [
            (b"GET / HTTP/1.1".as_slice(), b"GET".as_slice(), b"/".as_slice(), Version::Http11),
            (b"GET / HTTP/1.0", b"GET", b"/", Version::Http10),
            (b"GET / HTTP/1.2", b"GET", b"/", Version::Http11),
            (b"GET //a/../b?c=%00&d|e HTTP/1.1", b"GET", b"//a/../b?c=%00&d|e", Version::Http11),
            (b"GET /caf\xc3\xa9/\xe9 HTTP/1.1", b"GET", b"/caf\xc3\xa9/\xe9", Version::Http11),
            (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*", Version::Http11),
            (b"M-SEARCH http://[::1]:80?x HTTP/1.1", b"M-SEARCH", b"http://[::1]:80?x", Version::Http11),
            (b"get HTTPS://a.example HTTP/1.1", b"get", b"HTTPS://a.example", Version::Http11),
            (b"TRACE / HTTP/1.1", b"TRACE", b"/", Version::Http11),
        ] {
            let parsed = parse(line, 100).expect("valid");
            assert_eq!(&line[parsed.method], method);
            assert_eq!(&line[parsed.target], target);
            assert_eq!(parsed.version, version);
        }
    }

    #[test]
    fn invalid_request_lines_are_refused() {
        for (line, status) in [
            (b"GET /".as_slice(), 400),
            (b"GET", 400),
            (b"", 400),
            (b" GET / HTTP/1.1", 400),
            (b"GET  / HTTP/1.1", 400),
            (b"GET /  HTTP/1.1", 400),
            (b"GET / HTTP/1.1 ", 400),
            (b"GET\t/ HTTP/1.1", 400),
            (b"GET /a b HTTP/1.1", 400),
            (b"GET /a\tb HTTP/1.1", 400),
            (b"GET /a\rb HTTP/1.1", 400),
            (b"GET /a\0b HTTP/1.1", 400),
            (b"GET /a\x7fb HTTP/1.1", 400),
            (b"GET /a#b HTTP/1.1", 400),
            (b"GET  HTTP/1.1", 400),
            (b"G(T / HTTP/1.1", 400),
            (b"G\xe9T / HTTP/1.1", 400),
            (b"GET a HTTP/1.1", 400),
            (b"GET * HTTP/1.1", 400),
            (b"OPTIONS *a HTTP/1.1", 400),
            (b"GET ftp://a/ HTTP/1.1", 400),
            (b"GET http:///a HTTP/1.1", 400),
            (b"GET http://:80/a HTTP/1.1", 400),
            (b"GET http://user@a/ HTTP/1.1", 400),
            (b"GET http:/a HTTP/1.1", 400),
            (b"GET / http/1.1", 400),
            (b"GET / HTTP/1.", 400),
            (b"GET / HTTP/1.1\r", 400),
            (b"GET / HTTP/11", 400),
            (b"GET / HTTP/1.10", 400),
            (b"GET / HTTP/01.1", 400),
            (b"GET / HTTP/0.9", 400),
            (b"GET / HTTP/2.0", 505),
            (b"PRI * HTTP/2.0", 505),
            (b"GET / HTTP/3.0", 505),
            (b"CONNECT a:80 HTTP/1.1", 501),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", 501),
            (b"GET /23456789012345678901 HTTP/1.1", 414),
        ] {
            let error = parse(line, 20).expect_err("invalid");
            assert_eq!(error.status(), status, "{:?}", line.escape_ascii().to_string());
        }
    }

    #[test]
    fn targets_split_into_authority_and_path() {
        for (target, authority, path_and_query) in [
            (b"/a?b".as_slice(), None, b"/a?b".as_slice()),
            (b"*", None, b"*"),
            (b"//host/a", None, b"//host/a"),
            (b"/http://x/", None, b"/http://x/"),
            (b"http://h/a?b", Some(b"h".as_slice()), b"/a?b"),
            (b"HttP://h:1?b/c", Some(b"h:1"), b"?b/c"),
            (b"https://h", Some(b"h"), b""),
        ] {
            assert_eq!(split_target(target), Target { authority, path_and_query });
        }
    }

    #[test]
    fn hosts_are_names_addresses_and_ports() {
        for valid in [
            b"".as_slice(),
            b"example.com",
            b"example.com:",
            b"example.com:8080",
            b"_dmarc.a_b-c~d",
            b"127.0.0.1:65535",
            b"[::1]",
            b"[fe80::1%25eth0]:80",
            b":80",
        ] {
            assert!(is_host(valid), "{:?}", valid.escape_ascii().to_string());
        }
        for invalid in [
            b"a b".as_slice(),
            b"a,b",
            b"a, b",
            b"user@a",
            b"a/b",
            b"a?b",
            b"a#b",
            b"a:b",
            b"a:+80",
            b"a:80:80",
            b"a:123456",
            b"[::1",
            b"[]",
            b"[::1]80",
            b"[::1]]",
            b"::1",
            b"caf\xe9",
            b"a\tb",
            b"a;b",
            b"a%00b",
            b"a\\b",
        ] {
            assert!(!is_host(invalid), "{:?}", invalid.escape_ascii().to_string());
        }
    }
}
