//! The parts of a request target (RFC 9112 §3.2), and of the authority in it or in Host.

use super::Refusal;
use crate::protocol::http1::split_target;

/// A request target, cut up but not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Of the absolute form.
    pub(super) authority: Option<&'a [u8]>,
    /// What REQUEST_URI tells: path and query, or `*`. Empty if an absolute form has no path.
    pub(super) uri: &'a [u8],
    pub(super) path: &'a [u8],
    /// Empty if there is none.
    pub(super) query: &'a [u8],
}

impl<'a> Target<'a> {
    /// Origin form, absolute form or `*`.
    pub(super) fn parse(raw: &'a [u8]) -> Result<Self, Refusal> {
        let wrong = |why: &'static str| Refusal::new(400, why);
        if raw.contains(&b'#') {
            return Err(wrong("the request target holds a fragment"));
        }
        let split = split_target(raw);
        match split.authority {
            Some([]) => Err(wrong("the URL has no host")),
            None if raw != b"*" && !raw.starts_with(b"/") => {
                Err(wrong("the request target is neither a path nor a URL"))
            }
            authority => Ok(Target { authority, ..Target::without_authority(split.path_and_query) }),
        }
    }

    /// `uri` is a path and a query, of which either may be missing.
    pub(super) fn without_authority(uri: &'a [u8]) -> Self {
        let (path, query) = match uri.iter().position(|&byte| byte == b'?') {
            Some(at) => (&uri[..at], &uri[at + 1..]),
            None => (uri, &uri[uri.len()..]),
        };
        Target { authority: None, uri, path, query }
    }
}

/// `host [":" port]` (RFC 3986 §3.2): a name or IPv4 address, or an IPv6 address in brackets; the port if it is named.
/// `None` if it is anything else: user information, white space, a list.
pub(super) fn parse_authority(bytes: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (host, rest) = match bytes {
        [b'[', ..] => {
            let end = bytes.iter().position(|&byte| byte == b']')? + 1;
            let (host, rest) = bytes.split_at(end);
            let address = std::str::from_utf8(&host[1..end - 1]).ok()?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        _ => {
            let end = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
            let (host, rest) = bytes.split_at(end);
            (!host.is_empty() && host.iter().all(is_name_character)).then_some((host, rest))?
        }
    };
    match rest {
        [] | [b':'] => Some((host, None)),
        [b':', port @ ..] => {
            let number = crate::protocol::parse_content_length(port)?;
            (number <= u64::from(u16::MAX)).then_some((host, Some(port)))
        }
        _ => None,
    }
}

/// What else RFC 3986 §3.2.2 allows occurs in no host's name.
fn is_name_character(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_targets_are_cut_in_all_their_forms() {
        type Parts = Result<(Option<&'static str>, &'static str, &'static str, &'static str), ()>;
        let cases: [(&str, Parts); 17] = [
            ("/", Ok((None, "/", "/", ""))),
            ("/a?b?c", Ok((None, "/a?b?c", "/a", "b?c"))),
            ("/a?", Ok((None, "/a?", "/a", ""))),
            ("/a%3fb?c", Ok((None, "/a%3fb?c", "/a%3fb", "c"))),
            ("//x/y", Ok((None, "//x/y", "//x/y", ""))),
            ("/http://x/", Ok((None, "/http://x/", "/http://x/", ""))),
            ("*", Ok((None, "*", "*", ""))),
            ("http://x/a?b", Ok((Some("x"), "/a?b", "/a", "b"))),
            ("HTTPS://x:1/", Ok((Some("x:1"), "/", "/", ""))),
            ("http://x", Ok((Some("x"), "", "", ""))),
            ("http://x?b", Ok((Some("x"), "?b", "", "b"))),
            ("http:///a", Err(())),
            ("ftp://x/", Err(())),
            ("x:443", Err(())),
            ("a/b", Err(())),
            ("", Err(())),
            ("/a#b", Err(())),
        ];
        for (raw, expected) in cases {
            let target = Target::parse(raw.as_bytes());
            let text = |bytes| std::str::from_utf8(bytes).expect("UTF-8");
            let found = target
                .map(|target| {
                    (target.authority.map(text), text(target.uri), text(target.path), text(target.query))
                })
                .map_err(|refusal| assert_eq!(refusal.status, 400));
            assert_eq!(found, expected, "{raw}");
        }
    }

    #[test]
    fn authorities_are_hosts_with_or_without_a_port() {
        for (text, expected) in [
            ("example.org", Some(("example.org", None))),
            ("example.org:8080", Some(("example.org", Some("8080")))),
            ("example.org:", Some(("example.org", None))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some("80")))),
            ("[::1]", Some(("[::1]", None))),
            ("[2001:db8::1]:443", Some(("[2001:db8::1]", Some("443")))),
            ("under_score", Some(("under_score", None))),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:+80", None),
            ("a:80:80", None),
            ("a:65536", None),
            ("a:99999999999999999999", None),
            ("user@host", None),
            ("a b", None),
            ("a, b", None),
            ("a/b", None),
            ("a\\b", None),
            ("a%00b", None),
            ("a;b", None),
            ("a?b", None),
            ("caf\u{e9}", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[x]", None),
            ("[]", None),
        ] {
            let expected =
                expected.map(|(host, port): (&str, Option<&str>)| (host.as_bytes(), port.map(str::as_bytes)));
            assert_eq!(parse_authority(text.as_bytes()), expected, "{text}");
        }
    }
}
