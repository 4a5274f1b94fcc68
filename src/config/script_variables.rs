//! Names of variables in a script's environment: which of the web server's may be let through (`--cgi-pass`), and which
//! the operator may set (`--cgi-env`).
//!
//! Whoever reaches a FastCGI socket can send any parameter. So only what is known to describe a request reaches a script,
//! and what the operator names. Even then not a name that an interpreter, a shell, a loader or a library could take as an
//! order, by the name itself, its beginning or its end (`…PATH`, `…_OPTIONS`): the operator can set those, and nobody else.

use serde::{Deserialize, Serialize};

use super::StartupError;

/// Parameters of the web server that scripts get besides the known ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassedName {
    Whole(String),
    /// All names that begin so.
    Beginning(String),
}

impl PassedName {
    /// # Errors
    /// It is no name, or one that could make a script do something else.
    pub(super) fn parse(text: &str) -> Result<Self, StartupError> {
        let wrong = |why: &str| StartupError::usage(format!("--cgi-pass {text}: {why}"));
        let (name, passed) = match text.strip_suffix('*') {
            Some(begin) => (begin, PassedName::Beginning(begin.to_owned())),
            None => (text, PassedName::Whole(text.to_owned())),
        };
        if !is_plain(name.as_bytes()) {
            return Err(wrong(
                "expected a name of letters, digits and underscores, or the beginning of names and *",
            ));
        }
        let upper = name.to_ascii_uppercase().into_bytes();
        let is_refused = match &passed {
            PassedName::Whole(_) => !may_be_passed(name.as_bytes()),
            PassedName::Beginning(_) => DANGEROUS_PREFIXES.iter().any(|prefix| upper.starts_with(prefix)),
        };
        match is_refused {
            true => Err(wrong(
                "whoever reaches the socket could send it, and interpreters or libraries take it as an order; set it \
                 with --cgi-env if scripts need it",
            )),
            false => Ok(passed),
        }
    }

    pub fn covers(&self, name: &[u8]) -> bool {
        match self {
            PassedName::Whole(whole) => whole.as_bytes() == name,
            PassedName::Beginning(begin) => name.starts_with(begin.as_bytes()) && may_be_passed(name),
        }
    }
}

/// # Errors
/// `name` describes the request: nobody but the gateway sets it.
pub(super) fn check_own(name: &[u8]) -> Result<(), StartupError> {
    match COMPUTED.contains(&name) || name.starts_with(b"HTTP_") {
        false => Ok(()),
        true => Err(StartupError::usage(format!(
            "--cgi-env {}: scripts find there what the request says",
            name.escape_ascii()
        ))),
    }
}

/// Letters, digits and underscores, as a shell can name it.
pub fn is_plain(name: &[u8]) -> bool {
    name.first().is_some_and(|first| first.is_ascii_alphabetic())
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Can't make another program, module, library or configuration run, nor change how one does.
fn may_be_passed(name: &[u8]) -> bool {
    let upper = name.to_ascii_uppercase();
    HARMLESS.contains(&name)
        || !(DANGEROUS.contains(&upper.as_slice())
            || DANGEROUS_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
            || DANGEROUS_ENDINGS.iter().any(|ending| upper.ends_with(ending)))
}

/// RFC 3875 §4.1, and what all web servers say besides of a request.
const COMPUTED: [&[u8]; 24] = [
    b"AUTH_TYPE",
    b"CONTENT_LENGTH",
    b"CONTENT_TYPE",
    b"DOCUMENT_URI",
    b"GATEWAY_INTERFACE",
    b"HTTPS",
    b"PATH_INFO",
    b"PATH_TRANSLATED",
    b"QUERY_STRING",
    b"REMOTE_ADDR",
    b"REMOTE_HOST",
    b"REMOTE_IDENT",
    b"REMOTE_PORT",
    b"REMOTE_USER",
    b"REQUEST_METHOD",
    b"REQUEST_SCHEME",
    b"REQUEST_URI",
    b"SCRIPT_FILENAME",
    b"SCRIPT_NAME",
    b"SERVER_NAME",
    b"SERVER_PORT",
    b"SERVER_PROTOCOL",
    b"SERVER_SOFTWARE",
    b"UNIQUE_ID",
];

/// Names that a beginning or an ending below would refuse. They say which repositories git serves.
const HARMLESS: [&[u8]; 2] = [b"GIT_HTTP_EXPORT_ALL", b"GIT_PROJECT_ROOT"];

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
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_process_can_not_be_passed() {
        for name in [
            "LD_PRELOAD",
            "ld_preload",
            "LD_*",
            "LD_LIBRARY*",
            "PERL5LIB",
            "PERL*",
            "PYTHONPATH",
            "PYTHON*",
            "PATH",
            "HOME",
            "GIT_SSH_COMMAND",
            "GIT*",
            "MY_OPTIONS",
            "HTTPS_PROXY",
            "*",
            "",
            "A B",
            "A-*",
            "1A",
            "A=B",
            "A*B",
        ] {
            let error = PassedName::parse(name).expect_err(name);
            assert!(error.exit_code() == 2 && error.to_string().contains("--cgi-pass"), "{error}");
        }
    }

    #[test]
    fn a_beginning_covers_no_name_that_could_steer_a_process() {
        let covers = |text: &str, name: &str| PassedName::parse(text).expect(text).covers(name.as_bytes());
        for (text, name, expected) in [
            ("APP_ENV", "APP_ENV", true),
            ("APP_ENV", "APP_ENV2", false),
            ("APP_*", "APP_ENV", true),
            ("APP_*", "APP_OPTIONS", false),
            ("L*", "LD_PRELOAD", false),
            ("P*", "PYTHONPATH", false),
            ("P*", "PLACE", true),
            ("GIT_PROJECT_ROOT", "GIT_PROJECT_ROOT", true),
            ("APP_*", "XAPP_ENV", false),
        ] {
            assert_eq!(covers(text, name), expected, "{text} {name}");
        }
    }

    #[test]
    fn what_describes_the_request_is_not_for_the_operator_to_set() {
        for name in ["REQUEST_METHOD", "HTTP_COOKIE", "REMOTE_USER", "UNIQUE_ID"] {
            assert!(check_own(name.as_bytes()).is_err(), "{name}");
        }
        for name in ["PATH", "LD_PRELOAD", "APP_ENV", "http_proxy", "SERVER_ADMIN"] {
            assert!(check_own(name.as_bytes()).is_ok(), "{name}");
        }
    }
}
