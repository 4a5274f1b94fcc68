use super::*;
use crate::cli::ScriptStderr;
use crate::config::{PassedName, ScriptLimits};

fn config(env: &[(&str, &str)]) -> CgiConfig {
    CgiConfig {
        timeout: None,
        max_scripts: 1,
        max_waiting: 1,
        env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        pass_authorization: false,
        stderr: ScriptStderr::Log,
        warm: None,
        pass: Vec::new(),
        limits: ScriptLimits::default(),
    }
}

/// The environment as sorted text.
fn made(variables: &[(&str, &str)], cgi: &CgiConfig) -> Vec<String> {
    let mut meta = MetaVariables::default();
    for (name, value) in variables {
        meta.set(name.as_bytes(), value.as_bytes());
    }
    let mut made: Vec<String> =
        environment(&meta, cgi).into_iter().map(|variable| variable.into_string().expect("UTF-8")).collect();
    made.sort();
    made
}

fn names(variables: &[(&str, &str)], cgi: &CgiConfig) -> Vec<String> {
    made(variables, cgi)
        .into_iter()
        .map(|variable| variable.split('=').next().unwrap_or_default().to_owned())
        .filter(|name| {
            !["PATH", "QUERY_STRING", "SERVER_SOFTWARE", "GATEWAY_INTERFACE"].contains(&name.as_str())
        })
        .collect()
}

#[test]
fn empty_request_has_what_scripts_rely_on_and_nothing_of_ours() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        made(&[], &config(&[])),
        [
            "GATEWAY_INTERFACE=CGI/1.1",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "QUERY_STRING=",
            &format!("SERVER_SOFTWARE=forkhorn/{version}"),
        ]
    );
}

#[test]
fn meta_variables_reach_the_script() {
    for name in [
        "AUTH_TYPE",
        "CONTENT_TYPE",
        "CONTEXT_DOCUMENT_ROOT",
        "DOCUMENT_ROOT",
        "DOCUMENT_URI",
        "HTTPS",
        "HTTP_ACCEPT",
        "HTTP_COOKIE",
        "HTTP_LD_PRELOAD",
        "HTTP_X_PATH",
        "PATH_INFO",
        "PATH_TRANSLATED",
        "REDIRECT_STATUS",
        "REDIRECT_URL",
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "REMOTE_USER",
        "REQUEST_METHOD",
        "REQUEST_SCHEME",
        "REQUEST_URI",
        "SCRIPT_FILENAME",
        "SCRIPT_NAME",
        "SCRIPT_URI",
        "SERVER_ADMIN",
        "SERVER_PORT",
        "SSL_CLIENT_S_DN",
        "SSL_PROTOCOL",
        "UNIQUE_ID",
    ] {
        assert_eq!(names(&[(name, "x")], &config(&[])), [name]);
    }
}

#[test]
fn other_parameters_reach_the_script_only_if_they_are_named() {
    let whole = |name: &str| PassedName::Whole(name.to_owned());
    let begin = |name: &str| PassedName::Beginning(name.to_owned());
    let passing = |pass: Vec<PassedName>| CgiConfig { pass, ..config(&[]) };
    for name in ["APP_ENV", "app_env", "DATABASE_URL", "GEOIP_COUNTRY", "GIT_PROJECT_ROOT", "SOME_NEW_THING"]
    {
        assert_eq!(names(&[(name, "x")], &config(&[])), [""; 0], "{name}");
        assert_eq!(names(&[(name, "x")], &passing(vec![whole("OTHER"), whole(name)])), [name]);
    }
    let sent = [("APP_ENV", "1"), ("APP_MODE", "2"), ("APP_PATH", "3"), ("OTHER", "4"), ("LD_PRELOAD", "5")];
    assert_eq!(names(&sent, &passing(vec![begin("APP_"), begin("L")])), ["APP_ENV", "APP_MODE"]);
}

#[test]
fn names_that_could_steer_a_process_are_dropped() {
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PATH",
        "Path",
        "HOME",
        "IFS",
        "ENV",
        "BASH_ENV",
        "BASH_FUNC_ls%%",
        "SHELLOPTS",
        "PS4",
        "PERL5LIB",
        "PERL5OPT",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONINSPECT",
        "RUBYOPT",
        "NODE_OPTIONS",
        "LUA_INIT",
        "TCLLIBPATH",
        "PHPRC",
        "PHP_VALUE",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "CLASSPATH",
        "GCONV_PATH",
        "LOCPATH",
        "NLSPATH",
        "MALLOC_TRACE",
        "GLIBC_TUNABLES",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_GLOBAL",
        "GIT_EXEC_PATH",
        "GITWEB_CONFIG",
        "OPENSSL_CONF",
        "SSL_CERT_FILE",
        "SSLKEYLOGFILE",
        "HTTP_PROXY",
        "http_proxy",
        "https_proxy",
        "ALL_PROXY",
        "TMPDIR",
        "PAGER",
        "SOME_NEW_OPTIONS",
        "SOMEPATH",
        "UWSGI_CONFIG",
        "LISTEN_FDS",
        "DJANGO_SETTINGS_MODULE",
        "A B",
        "A-B",
        "A=B",
        "1A",
        "_A",
        "",
        "\u{e9}",
        "A\nB",
        // Said by other variables, or not true any more.
        "HTTP_CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_TRANSFER_ENCODING",
        // Only with --cgi-pass-authorization.
        "HTTP_AUTHORIZATION",
        "HTTP_PROXY_AUTHORIZATION",
        "REDIRECT_HTTP_AUTHORIZATION",
    ] {
        assert_eq!(names(&[(name, "x")], &config(&[])), [""; 0], "{name}");
    }
}

#[test]
fn authorization_is_passed_only_if_it_is_asked_for() {
    let cgi = CgiConfig { pass_authorization: true, ..config(&[]) };
    let variables = [("HTTP_AUTHORIZATION", "Basic eA=="), ("HTTP_PROXY", "http://evil")];
    assert_eq!(names(&variables, &cgi), ["HTTP_AUTHORIZATION"]);
    assert_eq!(names(&variables, &config(&[])), [""; 0]);
}

#[test]
fn content_length_is_true_or_absent() {
    for (method, length, expected) in [
        ("POST", "12", true),
        ("POST", "0", true),
        ("GET", "12", true),
        ("GET", "0", false),
        ("HEAD", "0", false),
        ("GET", "", false),
        ("POST", "", false),
        ("POST", "-1", false),
        ("POST", "1, 1", false),
        ("POST", "99999999999999999999", false),
    ] {
        let names = names(&[("REQUEST_METHOD", method), ("CONTENT_LENGTH", length)], &config(&[]));
        assert_eq!(names.contains(&"CONTENT_LENGTH".to_owned()), expected, "{method} {length:?}");
    }
}

#[test]
fn what_a_web_server_sends_empty_is_absent() {
    let empty =
        ["AUTH_TYPE", "CONTENT_TYPE", "PATH_INFO", "PATH_TRANSLATED", "REMOTE_USER"].map(|name| (name, ""));
    assert_eq!(names(&empty, &config(&[])), [""; 0]);
    assert_eq!(made(&[("QUERY_STRING", "")], &config(&[])), made(&[], &config(&[])));
}

#[test]
fn value_is_data_whatever_it_looks_like() {
    let shellshock = "() { :;}; echo vulnerable";
    let made = made(&[("HTTP_USER_AGENT", shellshock), ("QUERY_STRING", "-d+allow=1\n")], &config(&[]));
    assert!(made.contains(&format!("HTTP_USER_AGENT={shellshock}")));
    assert!(made.contains(&"QUERY_STRING=-d+allow=1\n".to_owned()));
}

#[test]
fn the_operator_s_variable_is_added_and_wins_over_the_web_server_s() {
    let cgi = CgiConfig {
        pass: vec![PassedName::Whole("APP_ENV".to_owned())],
        ..config(&[
            ("PERL5LIB", "/srv/perl"),
            ("PATH", "/opt/bin"),
            ("APP_ENV", "from the command line"),
            ("SERVER_ADMIN", "me"),
            ("http_proxy", "http://proxy"),
            ("LD_PRELOAD", "x.so"),
        ])
    };
    let sent = [
        ("APP_ENV", "from the web server"),
        ("LD_PRELOAD", "evil.so"),
        ("SERVER_SOFTWARE", "nginx"),
        ("SERVER_ADMIN", "you"),
    ];
    assert_eq!(
        made(&sent, &cgi),
        [
            "APP_ENV=from the command line",
            "GATEWAY_INTERFACE=CGI/1.1",
            "LD_PRELOAD=x.so",
            "PATH=/opt/bin",
            "PERL5LIB=/srv/perl",
            "QUERY_STRING=",
            "SERVER_ADMIN=me",
            "SERVER_SOFTWARE=nginx",
            "http_proxy=http://proxy",
        ]
    );
}
