//! What answers a request without Python: CGI scripts and static files.

#![forbid(unsafe_code)]

pub mod cgi;
mod error;
pub mod static_files;

pub use error::HandlerError;
