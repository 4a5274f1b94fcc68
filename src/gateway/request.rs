//! One request without a protocol: meta-variables and a body.

use std::cell::OnceCell;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::{MetaVariables, UniqueId};

/// Who is on the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Ip(SocketAddr),
    Unix,
}

/// What a connection adds to the meta-variables of its requests.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub peer: Peer,
    /// The address that was connected to; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    texts: OnceCell<EndpointTexts>,
}

/// The addresses as variables, formatted once for all requests of a connection.
#[derive(Debug, Clone)]
pub(super) struct EndpointTexts {
    /// REMOTE_ADDR and REMOTE_PORT.
    pub remote: Option<(String, String)>,
    /// SERVER_ADDR.
    pub server_addr: Option<String>,
}

impl Endpoint {
    pub fn new(peer: Peer, local: Option<SocketAddr>) -> Self {
        Endpoint { peer, local, texts: OnceCell::new() }
    }

    pub(super) fn texts(&self) -> &EndpointTexts {
        self.texts.get_or_init(|| EndpointTexts {
            remote: match self.peer {
                Peer::Ip(peer) => Some((peer.ip().to_canonical().to_string(), peer.port().to_string())),
                Peer::Unix => None,
            },
            server_addr: self.local.map(|local| local.ip().to_canonical().to_string()),
        })
    }
}

/// A complete body.
#[derive(Debug, Clone, Default)]
pub enum Body {
    #[default]
    Empty,
    Memory(Bytes),
    /// Spooled to a file that has no name any more; read it from offset 0.
    File {
        file: Arc<File>,
        length: u64,
    },
}

impl Body {
    /// In bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File { length, .. } => *length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A request as handlers see it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Unique among the requests of all workers; [`Request::id_text`] is what people see.
    pub id: UniqueId,
    pub meta: MetaVariables,
    pub body: Body,
}
