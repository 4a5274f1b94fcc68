//! Which variables a script gets: the meta-variables of RFC 3875 §4.1, what else the web server set and nothing can be
//! turned by, and `--cgi-env`. Nothing of our own environment.
//!
//! The web server's parameters are its operator's (`fastcgi_param APP_ENV prod;` should reach the script), but whoever
//! reaches the socket can send any. So a name that an interpreter, a shell, a loader or a library could take as an order is
//! dropped: by prefix, by name, and by the endings that such names have (`…PATH`, `…_OPTIONS`). With `--cgi-env` the
//! operator can set those too.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::config::CgiConfig;
use crate::gateway::MetaVariables;
use crate::protocol::parse_content_length;

/// PATH of scripts, unless `--cgi-env PATH=…` names another.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// The script's whole environment, as `NAME=value`. A value is data, whatever it begins with: bash takes functions only
/// from variables whose names are refused here.
pub fn environment(meta: &MetaVariables, cgi: &CgiConfig) -> Vec<CString> {
    let mut environment = Environment { variables: Vec::with_capacity(meta.len() + cgi.env.len() + 4) };
    for (name, value) in meta.iter() {
        let name = name.as_bytes();
        if is_allowed(name, cgi.pass_authorization) && is_meant(name, value, meta) {
            environment.push(name, value);
        } else if !value.is_empty() {
            log::debug!("variable {} not given to the script", name.escape_ascii());
        }
    }
    for (name, value) in DEFAULTS {
        if meta.get(name).is_none() {
            environment.push(name, value);
        }
    }
    for (name, value) in &cgi.env {
        if is_free(name.as_bytes(), meta) {
            environment.push(name.as_bytes(), value.as_bytes());
        }
    }
    if !cgi.env.iter().any(|(name, _): &(OsString, OsString)| name == OsStr::new("PATH")) {
        environment.push(b"PATH", DEFAULT_PATH);
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
fn is_allowed(name: &[u8], pass_authorization: bool) -> bool {
    match name {
        // §4.1.18 turns "Proxy:" into HTTP_PROXY, which programs read as their outgoing proxy. The others are
        // CONTENT_LENGTH and CONTENT_TYPE, or describe a transfer coding that is already undone.
        b"HTTP_PROXY" | b"HTTP_CONTENT_LENGTH" | b"HTTP_CONTENT_TYPE" | b"HTTP_TRANSFER_ENCODING" => false,
        b"HTTP_AUTHORIZATION"
        | b"HTTP_PROXY_AUTHORIZATION"
        | b"REDIRECT_HTTP_AUTHORIZATION"
        | b"REDIRECT_HTTP_PROXY_AUTHORIZATION" => pass_authorization,
        // OpenSSL's own, among mod_ssl's.
        b"SSL_CERT_FILE" | b"SSL_CERT_DIR" => false,
        _ if !is_plain(name) => false,
        _ if PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => true,
        _ if PASSED.contains(&name) => true,
        _ => !is_dangerous(&name.to_ascii_uppercase()),
    }
}

/// Letters, digits and underscores, as a shell can name it.
fn is_plain(name: &[u8]) -> bool {
    name.first().is_some_and(|first| first.is_ascii_alphabetic())
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Could make another program, module, library or configuration run, or change how one does.
fn is_dangerous(name: &[u8]) -> bool {
    DANGEROUS.contains(&name)
        || DANGEROUS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || DANGEROUS_ENDINGS.iter().any(|ending| name.ends_with(ending))
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

/// Whether `--cgi-env` may set it: not what describes the request, present or absent, nor a request's field.
fn is_free(name: &[u8], meta: &MetaVariables) -> bool {
    !COMPUTED.contains(&name)
        && !name.starts_with(b"HTTP_")
        && (!is_allowed(name, true) || meta.get(name).is_none())
}

/// RFC 3875 §4.1.
const COMPUTED: [&[u8]; 17] = [
    b"AUTH_TYPE",
    b"CONTENT_LENGTH",
    b"CONTENT_TYPE",
    b"GATEWAY_INTERFACE",
    b"PATH_INFO",
    b"PATH_TRANSLATED",
    b"QUERY_STRING",
    b"REMOTE_ADDR",
    b"REMOTE_HOST",
    b"REMOTE_IDENT",
    b"REMOTE_USER",
    b"REQUEST_METHOD",
    b"SCRIPT_NAME",
    b"SERVER_NAME",
    b"SERVER_PORT",
    b"SERVER_PROTOCOL",
    b"SERVER_SOFTWARE",
];

/// Names that web servers give to what they say about a request.
const PASSED_PREFIXES: [&[u8]; 5] = [b"HTTP_", b"REDIRECT_", b"REMOTE_", b"SERVER_", b"SSL_"];

/// Names that an ending below would refuse.
const PASSED: [&[u8]; 4] = [b"GIT_HTTP_EXPORT_ALL", b"GIT_PROJECT_ROOT", b"PATH_INFO", b"PATH_TRANSLATED"];

const DANGEROUS: [&[u8]; 40] = [
    b"BASHOPTS",
    b"BROWSER",
    b"CDPATH",
    b"CLASSPATH",
    b"DISPLAY",
    b"DJANGO_SETTINGS_MODULE",
    b"EDITOR",
    b"ENV",
    b"FPATH",
    b"GODEBUG",
    b"HOME",
    b"HOSTALIASES",
    b"IFS",
    b"LANGUAGE",
    b"LESSOPEN",
    b"LOCALDOMAIN",
    b"LOGNAME",
    b"MAIL",
    b"OLDPWD",
    b"PAGER",
    b"PATH",
    b"POSIXLY_CORRECT",
    b"PROMPT_COMMAND",
    b"PS1",
    b"PS2",
    b"PS4",
    b"PWD",
    b"RES_OPTIONS",
    b"SHELL",
    b"SHELLOPTS",
    b"SHLVL",
    b"TEMP",
    b"TERM",
    b"TERMINFO",
    b"TMP",
    b"TMPDIR",
    b"TZ",
    b"TZDIR",
    b"USER",
    b"VISUAL",
];

const DANGEROUS_PREFIXES: [&[u8]; 58] = [
    b"ASAN_",
    b"BASH_",
    b"BUNDLE_",
    b"CARGO_",
    b"COMPLUS_",
    b"CONDA_",
    b"CORECLR_",
    b"CURL_",
    b"DBUS_",
    b"DOTNET_",
    b"DYLD_",
    b"ERL_",
    b"FORKHORN_",
    b"GCONV_",
    b"GEM_",
    b"GIO_",
    b"GIT",
    b"GLIBC_",
    b"GNUPG",
    b"GPG_",
    b"GTK_",
    b"GUILE_",
    b"HG",
    b"JAVA_",
    b"JDK_",
    b"KRB5",
    b"LC_",
    b"LD_",
    b"LISTEN_",
    b"LSAN_",
    b"LUA",
    b"MALLOC_",
    b"MONO_",
    b"MSAN_",
    b"NODE_",
    b"NOTIFY_",
    b"NPM_",
    b"OPENSSL_",
    b"PERL",
    b"PHP",
    b"PIP_",
    b"PYTHON",
    b"QT_",
    b"RUBY",
    b"RUST",
    b"R_",
    b"SSH_",
    b"SUDO_",
    b"SVN_",
    b"SYSTEMD_",
    b"TCL",
    b"TSAN_",
    b"UBSAN_",
    b"UV_",
    b"VIRTUAL_ENV",
    b"XDG_",
    b"ZDOT",
    b"ZSH",
];

const DANGEROUS_ENDINGS: [&[u8]; 27] = [
    b"LIB",
    b"LIBDIR",
    b"LIBRARY",
    b"LIBS",
    b"LOGFILE",
    b"PATH",
    b"PRELOAD",
    b"RC",
    b"_CMD",
    b"_COMMAND",
    b"_CONF",
    b"_CONFIG",
    b"_EDITOR",
    b"_FLAGS",
    b"_HOME",
    b"_HOOK",
    b"_HOOKS",
    b"_INIT",
    b"_LOADER",
    b"_OPTIONS",
    b"_OPTS",
    b"_PAGER",
    b"_PLUGINS",
    b"_PROXY",
    b"_SHELL",
    b"_STARTUP",
    b"_TOOL",
];

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
