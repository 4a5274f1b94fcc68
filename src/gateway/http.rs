//! Meta-variables of an HTTP request.
//!
//! What RFC 3875 leaves open is decided so:
//!
//! - REQUEST_URI is the target as it came, percent-encoded, with its query. Of an absolute form it is path and query;
//!   the authority becomes HTTP_HOST in place of a Host field (RFC 9112 §3.2.2).
//! - SERVER_NAME and SERVER_PORT come from there too; without a Host, from the address that was connected to. A Host
//!   without a port means the default port of the scheme.
//! - On a Unix socket REMOTE_ADDR is 127.0.0.1, since the peer is a process of this machine and applications expect an
//!   address; there is no REMOTE_PORT and no SERVER_ADDR.
//! - A body's transfer coding is gone when an application sees it, so there is no HTTP_TRANSFER_ENCODING.
//! - Field names with anything but letters, digits and hyphens are dropped: `X_Foo` would pass for `X-Foo`.
//! - Fields that may come once only are refused with 400 if they come twice ([`fields`](super::fields)).

use super::fields::{Repeated, field_names_a_variable};
use super::meta_variables::Pushed;
use super::target::{Target, parse_authority};
use super::{Endpoint, Gateway, KnownName, MetaVariables, Refusal, Route};
use crate::protocol::{BodyLength, RequestHead, RequestLine, Version};

impl Gateway {
    pub(super) fn route_http(
        &self,
        head: &RequestHead,
        line: &RequestLine,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
        keep: impl FnOnce(&mut MetaVariables, &Route),
    ) -> Result<Route, Refusal> {
        let route = self.name_http(head, line, endpoint, meta);
        if let Ok(route) = &route {
            keep(meta, route);
        }
        // Last: it differs from connection to connection, and what comes before mostly does not
        // (`MetaVariables::unchanged_since`). Also for a request that is refused, for the access log.
        super::push_remote(endpoint, meta);
        route
    }

    fn name_http(
        &self,
        head: &RequestHead,
        line: &RequestLine,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
    ) -> Result<Route, Refusal> {
        let raw_target = line.target.of(&head.bytes);
        meta.push(KnownName::RequestMethod, line.method.of(&head.bytes));
        let target = Target::parse(raw_target);
        push_request_uri(target.as_ref().map_or(raw_target, |target| target.uri), meta);
        meta.push(KnownName::ServerProtocol, protocol(line.version));
        let target = target?;
        let route = self.locate(line.method.of(&head.bytes), &target, meta)?;
        meta.push(KnownName::QueryString, target.query);
        push_fields(head, target.authority, meta)?;
        self.push_server(head.field(b"host"), target.authority, endpoint, meta)?;
        push_body(head, meta);
        self.push_constants(meta);
        route.ok_or_else(super::no_mount)
    }

    /// Sets SCRIPT_NAME and PATH_INFO. `None` if nobody answers; the variables are then complete all the same, for the
    /// access log.
    fn locate(
        &self,
        method: &[u8],
        target: &Target<'_>,
        meta: &mut MetaVariables,
    ) -> Result<Option<Route>, Refusal> {
        let path = match target.path {
            // RFC 9112 §3.2.4. PEP 3333 wants a PATH_INFO that begins with a slash; REQUEST_URI tells the difference.
            b"*" if method == b"OPTIONS" => b"/",
            path => absolute(path),
        };
        self.locate_path(path, meta).map_err(|why| Refusal::new(400, why))
    }

    /// SERVER_NAME, SERVER_PORT and SERVER_ADDR.
    fn push_server(
        &self,
        host: Option<&[u8]>,
        authority: Option<&[u8]>,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
    ) -> Result<(), Refusal> {
        if let Some(address) = &endpoint.texts().server_addr {
            meta.push(KnownName::ServerAddr, address.as_bytes());
        }
        let Some(named) = authority.or(host).filter(|named| !named.is_empty()) else {
            super::push_local_server(self.is_https, endpoint, meta);
            return Ok(());
        };
        let (name, port) =
            parse_authority(named).ok_or_else(|| Refusal::new(400, "Host is not a host and a port"))?;
        meta.push(KnownName::ServerName, name);
        meta.push(KnownName::ServerPort, port.unwrap_or_else(|| super::default_port(self.is_https)));
        Ok(())
    }
}

/// A URL without a path means the root (RFC 9112 §3.2.2).
fn absolute(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/" } else { path }
}

fn push_request_uri(uri: &[u8], meta: &mut MetaVariables) {
    match uri {
        [] => meta.push(KnownName::RequestUri, b"/"),
        [b'?', ..] => meta.push(KnownName::RequestUri, &[b"/", uri].concat()),
        uri => meta.push(KnownName::RequestUri, uri),
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

/// HTTP_* and CONTENT_TYPE.
fn push_fields(
    head: &RequestHead,
    authority: Option<&[u8]>,
    meta: &mut MetaVariables,
) -> Result<(), Refusal> {
    for (index, (name, value)) in head.iter().enumerate() {
        if !field_names_a_variable(name) {
            continue;
        }
        let is_named = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        let (value, pushed) = match name.len() {
            4 if is_named(b"host") => {
                let value = authority.unwrap_or(value);
                (value, meta.push_field(name, value))
            }
            12 if is_named(b"content-type") && value.is_empty() => continue,
            12 if is_named(b"content-type") => {
                (value, meta.push_pair(Some(KnownName::ContentType), b"CONTENT_TYPE", value))
            }
            // Comes from the body's real length.
            14 if is_named(b"content-length") => continue,
            _ => (value, meta.push_field(name, value)),
        };
        if let Pushed::Again(at) = pushed {
            let separator = Repeated::of_field(name).separator(name)?;
            let rest = head.iter().skip(index + 1).filter(|(other, _)| other.eq_ignore_ascii_case(name));
            let values = std::iter::once(value).chain(rest.map(|(_, value)| value));
            meta.join(at, separator, values);
        }
    }
    if let Some(authority) = authority {
        meta.set_known(KnownName::HttpHost, authority);
    }
    Ok(())
}

/// CONTENT_LENGTH, if the head tells it.
fn push_body(head: &RequestHead, meta: &mut MetaVariables) {
    match head.body {
        BodyLength::Known(length) => meta.push_display(KnownName::ContentLength, length),
        BodyLength::None if head.field(b"content-length").is_some() => {
            meta.push(KnownName::ContentLength, b"0");
        }
        BodyLength::None | BodyLength::Unknown => {}
    }
}
