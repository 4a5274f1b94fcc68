//! CGI scripts, RFC 3875: one process per request.
