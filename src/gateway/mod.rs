//! RFC 3875 in the middle: what came in by either protocol becomes meta-variables and a body; what a handler answers
//! is checked once, for both.
//!
//! A request's way through here: [`Gateway::route`] gives the parts of its head their names (`http`, `fastcgi`),
//! derives the decoded URL path once (`path`), and splits it at the mount that answers (`route`). From then on
//! SCRIPT_NAME and PATH_INFO together are that path. `response` holds what every answer has to obey.

#![forbid(unsafe_code)]

mod fastcgi;
mod fields;
mod http;
mod known_name;
mod meta_variables;
mod path;
mod redirect;
mod repeats;
mod request;
mod response;
mod route;
mod target;
mod unique_id;

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use crate::config::Config;
use crate::protocol::RequestHead;

pub use meta_variables::{KnownName, MetaVariables, Name, Origin};
pub use repeats::Repeats;
pub use request::{Body, Endpoint, Peer, Request};
pub use response::{Admitted, BodyEnd, BodyGuard, error_page};
pub use route::{CgiTarget, Place, Refusal, Route, StaticTarget};
pub use unique_id::{IdText, UniqueId, UniqueIds};

/// Names requests and finds who answers them. Made once, from the configuration.
#[derive(Debug)]
pub struct Gateway {
    mounts: route::Mounts,
    /// The scheme of requests on HTTP listeners, and of FastCGI requests whose web server names none.
    is_https: bool,
    document_root: Option<Vec<u8>>,
    trusts_remote_user: bool,
}

impl Gateway {
    pub fn new(config: &Config) -> Gateway {
        Gateway {
            mounts: route::Mounts::new(&config.mounts),
            is_https: config.url_scheme == "https",
            document_root: config.document_root.as_ref().map(|root| root.as_os_str().as_bytes().to_vec()),
            trusts_remote_user: config.trust.remote_user,
        }
    }

    /// Names the request's parts (RFC 3875 §4.1) and finds who answers. `meta` is cleared and filled; once its buffers
    /// have grown, an application's request costs no allocation.
    ///
    /// A request that is refused has REQUEST_METHOD, REQUEST_URI and REMOTE_ADDR as far as they are known, for the
    /// access log. A body whose length the head does not tell has no CONTENT_LENGTH yet:
    /// [`MetaVariables::set_known`] adds it when the body is complete.
    pub fn route(
        &self,
        head: &RequestHead,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
    ) -> Result<Route, Refusal> {
        self.route_anew(head, endpoint, meta, |_, _| {})
    }

    /// `keep` sees the variables before those of the peer are added, and the route if there is one.
    fn route_anew(
        &self,
        head: &RequestHead,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
        keep: impl FnOnce(&mut MetaVariables, &Route),
    ) -> Result<Route, Refusal> {
        meta.clear();
        match &head.line {
            Some(line) => self.route_http(head, line, endpoint, meta, keep),
            None => self.route_fastcgi(head, endpoint, meta, keep),
        }
    }

    /// For the access log, what is known of a request without a whole head: who sent it.
    pub fn name_client(&self, endpoint: &Endpoint, meta: &mut MetaVariables) {
        meta.clear();
        push_remote(endpoint, meta);
    }

    /// Decodes a path, finds its mount, and sets SCRIPT_NAME and PATH_INFO. `Ok(None)`: there is no mount.
    fn locate_path(&self, raw: &[u8], meta: &mut MetaVariables) -> Result<Option<Route>, path::PathError> {
        let decoded = meta.store_with(|bytes| path::decode(raw, bytes))?;
        Ok(self.split_path(decoded, meta))
    }

    /// The same for a path that is decoded and stored.
    fn split_path(&self, path: meta_variables::Stored, meta: &mut MetaVariables) -> Option<Route> {
        let found = self.mounts.find(meta.slice(&path));
        let (prefix, offset, route) = match found {
            Some((prefix, offset, route)) => (prefix, offset, Some(route)),
            None => (b"".as_slice(), 0, None),
        };
        meta.push(KnownName::ScriptName, prefix);
        meta.push_stored(KnownName::PathInfo, path.start + offset as u32..path.end);
        route
    }

    /// What is the same for every request on an HTTP listener.
    fn push_constants(&self, meta: &mut MetaVariables) {
        meta.push(KnownName::GatewayInterface, GATEWAY_INTERFACE);
        meta.push(KnownName::ServerSoftware, SERVER_SOFTWARE);
        push_scheme(self.is_https, meta);
        if let Some(root) = &self.document_root {
            meta.push(KnownName::DocumentRoot, root);
        }
    }
}

const GATEWAY_INTERFACE: &[u8] = b"CGI/1.1";
const SERVER_SOFTWARE: &[u8] = concat!("forkhorn/", env!("CARGO_PKG_VERSION")).as_bytes();

fn no_mount() -> Refusal {
    Refusal::new(404, "no application, script or file is mounted there")
}

/// REQUEST_SCHEME, and HTTPS as Apache sets it: `on`, or not at all.
fn push_scheme(is_https: bool, meta: &mut MetaVariables) {
    meta.push(KnownName::RequestScheme, if is_https { b"https" } else { b"http" });
    if is_https {
        meta.push(KnownName::Https, b"on");
    }
}

/// REMOTE_ADDR and REMOTE_PORT of whoever is connected.
fn push_remote(endpoint: &Endpoint, meta: &mut MetaVariables) {
    match &endpoint.texts().remote {
        Some((address, port)) => {
            meta.push(KnownName::RemoteAddr, address.as_bytes());
            meta.push(KnownName::RemotePort, port.as_bytes());
        }
        None => meta.push(KnownName::RemoteAddr, b"127.0.0.1"),
    }
}

/// SERVER_NAME and SERVER_PORT from the address that was connected to.
fn push_local_server(is_https: bool, endpoint: &Endpoint, meta: &mut MetaVariables) {
    match endpoint.local {
        Some(local) => {
            match local.ip().to_canonical() {
                std::net::IpAddr::V4(ip) => meta.push_display(KnownName::ServerName, ip),
                // RFC 3875 §4.1.14 wants the brackets.
                std::net::IpAddr::V6(ip) => meta.push_display(KnownName::ServerName, format_args!("[{ip}]")),
            }
            meta.push_display(KnownName::ServerPort, SocketAddr::port(&local));
        }
        None => {
            meta.push(KnownName::ServerName, b"localhost");
            meta.push(KnownName::ServerPort, default_port(is_https));
        }
    }
}

fn default_port(is_https: bool) -> &'static [u8] {
    if is_https { b"443" } else { b"80" }
}

#[cfg(test)]
mod tests;
