//! Which variables a script gets: the meta-variables of RFC 3875 §4.1, what web servers say besides of a request, what the
//! operator lets through (`--cgi-pass`), and what he sets (`--cgi-env`). Nothing of our own environment, and nothing else
//! that the web server sends: whoever reaches a FastCGI socket can send any name.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use crate::config::{CgiConfig, is_plain};
use crate::gateway::MetaVariables;
use crate::protocol::parse_content_length;

/// The script's whole environment, as `NAME=value`. A value is data, whatever it begins with: bash takes functions only
/// from variables whose names are refused here.
pub fn environment(meta: &MetaVariables, cgi: &CgiConfig) -> Vec<CString> {
    let mut environment = Environment { variables: Vec::with_capacity(meta.len() + cgi.env.len() + 4) };
    for (name, value) in meta.iter() {
        let name = name.as_bytes();
        if cgi.env.iter().any(|(own, _)| own.as_bytes() == name) {
            continue;
        }
        if is_allowed(name, cgi) && is_meant(name, value, meta) {
            environment.push(name, value);
        } else if !value.is_empty() {
            tell_dropped(name);
        }
    }
    for (name, value) in DEFAULTS {
        if meta.get(name).is_none() {
            environment.push(name, value);
        }
    }
    for (name, value) in &cgi.env {
        environment.push(name.as_bytes(), value.as_bytes());
    }
    if !cgi.env.iter().any(|(name, _): &(OsString, OsString)| name == OsStr::new("PATH")) {
        environment.push(b"PATH", cgi.search_path().as_bytes());
    }
    environment.variables
}

struct Environment {
    variables: Vec<CString>,
}

impl Environment {
    fn push(&mut self, name: &[u8], value: &[u8]) {
        // Meta-variables hold no NUL; a variable that did could not be handed over at all.
        if let Ok(variable) = CString::new([name, b"=", value].concat()) {
            self.variables.push(variable);
        }
    }
}

/// §4.1: those that a script can rely on even if nobody has said them.
const DEFAULTS: [(&[u8], &[u8]); 3] = [
    (b"GATEWAY_INTERFACE", b"CGI/1.1"),
    (b"QUERY_STRING", b""),
    (b"SERVER_SOFTWARE", concat!("forkhorn/", env!("CARGO_PKG_VERSION")).as_bytes()),
];

/// Whether a variable of this name may reach a script.
fn is_allowed(name: &[u8], cgi: &CgiConfig) -> bool {
    match name {
        // §4.1.18 turns "Proxy:" into HTTP_PROXY, which programs read as their outgoing proxy. The others are
        // CONTENT_LENGTH and CONTENT_TYPE, or describe a transfer coding that is already undone.
        b"HTTP_PROXY" | b"HTTP_CONTENT_LENGTH" | b"HTTP_CONTENT_TYPE" | b"HTTP_TRANSFER_ENCODING" => false,
        b"HTTP_AUTHORIZATION"
        | b"HTTP_PROXY_AUTHORIZATION"
        | b"REDIRECT_HTTP_AUTHORIZATION"
        | b"REDIRECT_HTTP_PROXY_AUTHORIZATION" => cgi.pass_authorization,
        // OpenSSL's own, among mod_ssl's.
        b"SSL_CERT_FILE" | b"SSL_CERT_DIR" => false,
        _ if !is_plain(name) => false,
        _ if PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => true,
        _ => PASSED.contains(&name) || cgi.pass.iter().any(|passed| passed.covers(name)),
    }
}

/// The operator may miss it: the first few names are told, once each.
fn tell_dropped(name: &[u8]) {
    const MOST: usize = 32;
    static TOLD: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() < MOST && told.insert(name.to_vec()) {
        log::info!("the parameter {} is not given to scripts (--cgi-pass)", name.escape_ascii());
    }
}

/// nginx sends what it does not have as an empty value, lighttpd a length of 0 with every GET; §4.1.2: CONTENT_LENGTH is
/// there if and only if there is a body.
fn is_meant(name: &[u8], value: &[u8], meta: &MetaVariables) -> bool {
    match name {
        b"CONTENT_LENGTH" => match parse_content_length(value) {
            None => false,
            Some(0) => !matches!(meta.get(b"REQUEST_METHOD"), Some(b"GET" | b"HEAD")),
            Some(_) => true,
        },
        b"CONTENT_TYPE" | b"AUTH_TYPE" | b"REMOTE_USER" | b"REMOTE_IDENT" | b"REMOTE_HOST" | b"PATH_INFO"
        | b"PATH_TRANSLATED" => !value.is_empty(),
        _ => true,
    }
}

/// Names that web servers give to what they say about a request.
const PASSED_PREFIXES: [&[u8]; 5] = [b"HTTP_", b"REDIRECT_", b"REMOTE_", b"SERVER_", b"SSL_"];

/// RFC 3875 §4.1, as far as no prefix above has it; then what Apache, nginx, lighttpd and HAProxy send besides.
const PASSED: [&[u8]; 20] = [
    b"AUTH_TYPE",
    b"CONTENT_LENGTH",
    b"CONTENT_TYPE",
    b"GATEWAY_INTERFACE",
    b"PATH_INFO",
    b"PATH_TRANSLATED",
    b"QUERY_STRING",
    b"REQUEST_METHOD",
    b"SCRIPT_NAME",
    b"CONTEXT_DOCUMENT_ROOT",
    b"CONTEXT_PREFIX",
    b"DOCUMENT_ROOT",
    b"DOCUMENT_URI",
    b"HTTPS",
    b"REQUEST_SCHEME",
    b"REQUEST_URI",
    b"SCRIPT_FILENAME",
    b"SCRIPT_URI",
    b"SCRIPT_URL",
    b"UNIQUE_ID",
];

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
