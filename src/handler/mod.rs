//! What answers a request without Python: CGI scripts and static files.

pub mod cgi;
