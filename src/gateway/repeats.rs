//! Requests that come again. A head that repeats that of the request before ([`RequestHead::repeats`]) mostly was routed
//! a moment ago: it becomes a copy of the same meta-variables, and only those of the peer are added anew.
//!
//! Nothing depends on it but time. What is looked at is the bytes of the head and the address that was connected to:
//! all that the variables and the route come from, beside the configuration, which does not change in a worker.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Endpoint, Gateway, MetaVariables, Refusal, Route, fastcgi};
use crate::protocol::{BodyLength, RequestHead, Span};

/// Heads that are kept at once.
const MOST_KEPT: usize = 8;

/// A longer head is not.
const MAX_KEPT_BYTES: usize = 8 * 1024;

/// Of so many heads that are not found, one is kept: where many clients repeat different ones, keeping would cost more
/// than it brings.
const KEPT_OF: u32 = 8;

/// The heads of applications' requests that came again, and what they were. One for each worker.
#[derive(Debug, Default)]
pub struct Repeats {
    kept: Vec<Kept>,
    /// Where the next one is kept.
    next: usize,
    /// How many were not found.
    missed: u32,
}

#[derive(Debug)]
struct Kept {
    head: Vec<u8>,
    is_http: bool,
    /// What FastCGI tells of the client's port may differ.
    port: Option<Span>,
    /// Where FastCGI tells of the client.
    remote: fastcgi::Remote,
    local: Option<SocketAddr>,
    /// All but those of the peer.
    meta: MetaVariables,
    application: usize,
}

impl Gateway {
    /// As [`route`](Gateway::route), with the same outcome.
    pub fn route_repeated(
        &self,
        head: &RequestHead,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
        repeats: &mut Repeats,
    ) -> Result<Route, Refusal> {
        if !head.repeats || head.body != BodyLength::None || head.bytes.len() > MAX_KEPT_BYTES {
            return self.route(head, endpoint, meta);
        }
        let port = head.remote_port();
        if let Some(kept) = repeats.kept.iter().find(|kept| kept.is_of(head, port, endpoint)) {
            meta.clone_from(&kept.meta);
            match kept.is_http {
                true => super::push_remote(endpoint, meta),
                false => fastcgi::push_remote_of(head, kept.remote, endpoint, meta),
            }
            return Ok(Route::Application(kept.application));
        }
        self.route_anew(head, endpoint, meta, |meta, route| repeats.miss(head, port, endpoint, meta, route))
    }
}

impl Repeats {
    fn miss(
        &mut self,
        head: &RequestHead,
        port: Option<Span>,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
        route: &Route,
    ) {
        let &Route::Application(application) = route else { return };
        let is_due = self.missed.is_multiple_of(KEPT_OF);
        self.missed = self.missed.wrapping_add(1);
        // A front's id is each request's own.
        if !is_due || head.line.is_none() && head.iter().any(|(name, _)| name == b"UNIQUE_ID") {
            return;
        }
        // Unique in the process: two requests with the same number are the same, whoever has kept the first.
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        meta.set_origin(NUMBERS.fetch_add(1, Ordering::Relaxed));
        let kept = Kept {
            head: head.bytes.clone(),
            is_http: head.line.is_some(),
            port,
            remote: fastcgi::remote_of(head),
            local: endpoint.local,
            meta: meta.clone(),
            application,
        };
        match self.kept.get_mut(self.next) {
            Some(place) => *place = kept,
            None => self.kept.push(kept),
        }
        self.next = (self.next + 1) % MOST_KEPT;
    }
}

impl Kept {
    fn is_of(&self, head: &RequestHead, port: Option<Span>, endpoint: &Endpoint) -> bool {
        if self.head.len() != head.bytes.len()
            || self.is_http != head.line.is_some()
            || self.local != endpoint.local
            || self.port != port
        {
            return false;
        }
        let Some(port) = port else { return self.head == head.bytes };
        let (start, end) = (port.start as usize, port.end as usize);
        self.head.get(..start) == head.bytes.get(..start)
            && self.head.get(end..) == head.bytes.get(end..)
            // Refused wherever it stands.
            && !port.of(&head.bytes).contains(&0)
    }
}
