//! Which fields of a request become variables, and what becomes of a field that comes more than once.

use std::borrow::Cow;

use super::Refusal;

/// A field whose name consists of letters, digits and hyphens, and that is no danger and no lie.
pub(super) fn field_names_a_variable(name: &[u8]) -> bool {
    name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-') && !is_withheld(name)
}

/// `name` with hyphens or underscores, in any case, without `HTTP_`.
///
/// `Proxy` would become HTTP_PROXY, which scripts and libraries read as the proxy of their own requests. The transfer
/// coding has been decoded: an application that believed in it would wait for chunks.
pub(super) fn is_withheld(name: &[u8]) -> bool {
    match name.len() {
        5 => name.eq_ignore_ascii_case(b"proxy"),
        17 => {
            name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"transfer_encoding")
        }
        _ => false,
    }
}

/// What several fields of one name become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeated {
    /// One list (RFC 9110 §5.3).
    List,
    /// RFC 6265 §5.4 and RFC 9113 §8.2.3: cookies are separated by semicolons.
    Cookies,
    /// Two servers could each believe another one (RFC 9110 §5.5: fields that are no lists).
    Refused,
}

impl Repeated {
    /// A field line's name.
    pub(super) fn of_field(name: &[u8]) -> Self {
        const ONCE: [&[u8]; 5] =
            [b"host", b"content-type", b"content-length", b"authorization", b"proxy-authorization"];
        match name {
            _ if name.eq_ignore_ascii_case(b"cookie") => Repeated::Cookies,
            _ if ONCE.iter().any(|once| once.eq_ignore_ascii_case(name)) => Repeated::Refused,
            _ => Repeated::List,
        }
    }

    /// A variable's name, without `HTTP_`.
    pub(super) fn of_variable(name: &[u8]) -> Self {
        match name {
            b"COOKIE" => Repeated::Cookies,
            b"HOST" | b"AUTHORIZATION" | b"PROXY_AUTHORIZATION" => Repeated::Refused,
            _ => Repeated::List,
        }
    }

    pub(super) fn separator(self, name: &[u8]) -> Result<&'static [u8], Refusal> {
        match self {
            Repeated::List => Ok(b", "),
            Repeated::Cookies => Ok(b"; "),
            Repeated::Refused => {
                let name = String::from_utf8_lossy(name);
                Err(Refusal::new(400, Cow::Owned(format!("the field {name} comes twice"))))
            }
        }
    }
}
