//! RFC 3875 in the middle: what came in by either protocol becomes meta-variables and a body; what a handler answers
//! is checked once, for both.

#![forbid(unsafe_code)]

mod meta_variables;
mod request;

pub use meta_variables::{KnownName, MetaVariables, Name};
pub use request::{Body, Endpoint, Peer, Request};
