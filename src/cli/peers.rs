//! What options of other servers are called here: for the message about an option that forkhorn has not.
//!
//! `docs/coming-from.md` has the same as tables; `tests/documentation.rs` compares.

/// An option of another server.
#[derive(Debug)]
pub struct PeerOption {
    /// As it is written there: `--bind`, `-b`; without dashes where it stands in a file.
    pub names: &'static [&'static str],
    /// Whose it is.
    pub peer: &'static str,
    /// What to write here.
    pub here: &'static str,
}

const fn option(names: &'static [&'static str], peer: &'static str, here: &'static str) -> PeerOption {
    PeerOption { names, peer, here }
}

const GUNICORN: &str = "Gunicorn";
const UWSGI: &str = "uWSGI";
const GRANIAN: &str = "granian";
const MOD_WSGI: &str = "mod_wsgi-express";
const FCGIWRAP: &str = "fcgiwrap";
const SPAWN_FCGI: &str = "spawn-fcgi";
const PHP_FPM: &str = "php-fpm";

/// Where one name has several meanings, one after the other.
pub static OPTIONS: &[PeerOption] = &[
    option(&["--bind", "-b"], GUNICORN, "--http ADDR, or --fastcgi ADDR behind a web server"),
    option(
        &["--worker-class", "-k"],
        GUNICORN,
        "not needed: all workers are of one kind; --threads where requests wait",
    ),
    option(&["--worker-connections"], GUNICORN, "--max-connections COUNT"),
    option(&["--limit-request-line"], GUNICORN, "--max-uri BYTES"),
    option(&["--limit-request-fields"], GUNICORN, "--max-fields COUNT"),
    option(&["--limit-request-field_size"], GUNICORN, "--max-head BYTES, for all fields together"),
    option(&["--keep-alive"], GUNICORN, "--keep-alive-timeout SECONDS"),
    option(&["--check-config"], GUNICORN, "the command forkhorn check"),
    option(&["--print-config"], GUNICORN, "the command forkhorn check"),
    option(
        &["--reload"],
        "Gunicorn and granian",
        "the command forkhorn reload, or HUP: no files are watched",
    ),
    option(
        &["--daemon", "-D"],
        GUNICORN,
        "left to systemd or another supervisor: forkhorn stays in the foreground",
    ),
    option(&["--pid"], GUNICORN, "--pid-file FILE"),
    option(
        &["--worker-tmp-dir"],
        GUNICORN,
        "not needed: workers answer the master over a socket (--heartbeat-timeout)",
    ),
    option(&["--access-logfile"], GUNICORN, "--access-log FILE, or - for standard output"),
    option(&["--access-logformat"], GUNICORN, "--access-log-format FORMAT"),
    option(
        &["--error-logfile", "--log-file"],
        GUNICORN,
        "standard error, always: 2>FILE, or the journal of systemd",
    ),
    option(
        &["--capture-output"],
        GUNICORN,
        "not needed: what applications print stays on standard output and error",
    ),
    option(
        &["--log-config", "--log-config-json"],
        "Gunicorn and granian",
        "--log-level and --log-format text|json",
    ),
    option(&["--statsd-host"], GUNICORN, "--status ADDR: /metrics is for Prometheus"),
    option(
        &["--forwarded-allow-ips"],
        GUNICORN,
        "--url-scheme https behind a proxy that ends TLS; X-Forwarded-… is left to applications",
    ),
    option(&["--certfile", "--keyfile"], GUNICORN, "left to a web server in front: forkhorn speaks no TLS"),
    option(&["--paste"], GUNICORN, "MODULE:FACTORY(), of a module that calls paste.deploy.loadapp"),
    option(&["--control-socket"], GUNICORN, "--control PATH"),
    option(&["--no-sendfile"], GUNICORN, "not needed"),
    option(&["--initgroups"], GUNICORN, "not needed: --user brings the user's groups"),
    option(&["--http-socket", "--http11-socket"], UWSGI, "--http ADDR"),
    option(&["--socket"], UWSGI, "--fastcgi ADDR, with fastcgi_pass in nginx instead of uwsgi_pass"),
    option(&["--fastcgi-socket"], UWSGI, "--fastcgi ADDR"),
    option(
        &["--module", "--wsgi-file", "--callable"],
        UWSGI,
        "the application itself: forkhorn serve MODULE:CALLABLE, or FILE.py:CALLABLE",
    ),
    option(&["--processes", "-p"], "uWSGI and mod_wsgi-express", "--workers COUNT"),
    option(&["--home", "--venv", "--pyhome", "-H"], UWSGI, "--virtualenv DIR"),
    option(&["--python-path"], "uWSGI and mod_wsgi-express", "--pythonpath DIR"),
    option(&["--master", "-M"], UWSGI, "not needed: there is always a master"),
    option(&["--harakiri"], UWSGI, "--timeout SECONDS"),
    option(&["--chmod-socket", "-C"], UWSGI, "--socket-mode MODE"),
    option(&["--chown-socket"], UWSGI, "--user and --group: Unix sockets belong to them"),
    option(&["--uid"], UWSGI, "--user USER"),
    option(&["--gid"], UWSGI, "--group GROUP"),
    option(&["--pidfile", "--safe-pidfile"], UWSGI, "--pid-file FILE"),
    option(
        &["--daemonize", "--daemonize2"],
        UWSGI,
        "left to systemd or another supervisor: forkhorn stays in the foreground",
    ),
    option(&["--logto", "--logto2"], UWSGI, "standard error, always: 2>FILE, or the journal of systemd"),
    option(&["--disable-logging"], UWSGI, "not needed: there is no access log without --access-log"),
    option(&["--cheaper", "--cheaper-initial"], UWSGI, "--workers MIN..MAX"),
    option(&["--idle", "--die-on-idle"], UWSGI, "--workers 0..MAX"),
    option(&["--max-requests-delta"], UWSGI, "--max-requests-jitter COUNT"),
    option(&["--max-worker-lifetime"], UWSGI, "--max-lifetime SECONDS"),
    option(&["--reload-on-rss", "--evil-reload-on-rss"], UWSGI, "--max-memory MIB"),
    option(&["--reload-mercy", "--worker-reload-mercy"], UWSGI, "--graceful-timeout SECONDS"),
    option(&["--vacuum"], UWSGI, "not needed: sockets and the pid file are removed at the end"),
    option(&["--die-on-term"], UWSGI, "not needed: TERM stops"),
    option(&["--need-app"], UWSGI, "not needed: without its application, forkhorn does not start"),
    option(&["--enable-threads"], UWSGI, "not needed: applications may start threads"),
    option(&["--lazy", "--lazy-apps"], UWSGI, "--preload never"),
    option(
        &["--listen"],
        "uWSGI and php-fpm",
        "--backlog COUNT where it is a number, --fastcgi ADDR where it is an address",
    ),
    option(&["--buffer-size"], UWSGI, "--max-head BYTES"),
    option(
        &["--post-buffering"],
        UWSGI,
        "--spool-threshold BYTES: bodies are always complete before the application is called",
    ),
    option(&["--limit-post"], UWSGI, "--max-body BYTES"),
    option(&["--static-map"], UWSGI, "--static PREFIX=DIR"),
    option(&["--manage-script-name"], UWSGI, "not needed: --mount sees to it"),
    option(&["--ini", "--yaml", "--xml"], UWSGI, "--config FILE, in TOML"),
    option(
        &["--emperor"],
        UWSGI,
        "a forkhorn for each application, such as a unit of systemd with an instance",
    ),
    option(&["--plugin", "--plugins"], UWSGI, "not needed"),
    option(&["--stats", "--stats-server"], UWSGI, "--status ADDR"),
    option(&["--master-fifo"], UWSGI, "--control PATH"),
    option(
        &["--touch-reload", "--py-autoreload"],
        UWSGI,
        "the command forkhorn reload, or HUP: no files are watched",
    ),
    option(&["--socket-timeout"], UWSGI, "--body-timeout and --send-timeout"),
    option(&["--limit-as"], UWSGI, "--max-memory MIB for workers, --cgi-limit-memory MIB for scripts"),
    option(&["--cgi-helper"], UWSGI, "the first line of the script: #!/usr/bin/perl"),
    option(
        &["--cgi-allowed-ext"],
        UWSGI,
        "the right to be executed: chmod +x for scripts, and for nothing else",
    ),
    option(
        &["--cgi-index"],
        UWSGI,
        "--cgi PREFIX/=DIR has no index: name the script in the web server's configuration",
    ),
    option(&["--host"], "granian and mod_wsgi-express", "--http HOST:PORT"),
    option(&["--port"], "granian and mod_wsgi-express", "--http HOST:PORT"),
    option(&["--uds"], GRANIAN, "--http unix:PATH"),
    option(&["--uds-permissions"], GRANIAN, "--socket-mode MODE"),
    option(&["--interface"], GRANIAN, "not needed: applications are WSGI"),
    option(&["--blocking-threads"], GRANIAN, "--threads COUNT"),
    option(&["--backpressure"], GRANIAN, "--max-queue COUNT"),
    option(&["--factory"], GRANIAN, "MODULE:FACTORY(), with the brackets"),
    option(&["--access-log-fmt"], GRANIAN, "--access-log-format FORMAT"),
    option(&["--url-path-prefix"], GRANIAN, "--mount PREFIX=APP"),
    option(&["--static-path-mount", "--static-path-route"], GRANIAN, "--static PREFIX=DIR"),
    option(&["--working-dir"], GRANIAN, "--chdir DIR"),
    option(&["--env-files"], GRANIAN, "--env-file FILE"),
    option(&["--workers-lifetime"], GRANIAN, "--max-lifetime SECONDS"),
    option(&["--workers-max-rss"], GRANIAN, "--max-memory MIB"),
    option(&["--workers-kill-timeout"], GRANIAN, "--graceful-timeout SECONDS"),
    option(&["--respawn-failed-workers"], GRANIAN, "not needed: they are always replaced"),
    option(&["--metrics"], GRANIAN, "--status ADDR: /metrics is for Prometheus"),
    option(&["--http1-header-read-timeout"], GRANIAN, "--head-timeout SECONDS"),
    option(
        &["--ssl-certificate", "--ssl-keyfile"],
        GRANIAN,
        "left to a web server in front: forkhorn speaks no TLS",
    ),
    option(&["--url-alias"], MOD_WSGI, "--static PREFIX=DIR"),
    option(&["--mount-point"], MOD_WSGI, "--mount PREFIX=APP"),
    option(&["--working-directory"], MOD_WSGI, "--chdir DIR"),
    option(&["--setenv"], MOD_WSGI, "--env KEY=VALUE"),
    option(&["--request-timeout"], MOD_WSGI, "--timeout SECONDS"),
    option(&["--maximum-requests"], MOD_WSGI, "--max-requests COUNT"),
    option(&["--memory-limit"], MOD_WSGI, "--max-memory MIB"),
    option(&["--restart-interval"], MOD_WSGI, "--max-lifetime SECONDS"),
    option(&["--limit-request-body"], MOD_WSGI, "--max-body BYTES"),
    option(&["--log-to-terminal"], MOD_WSGI, "not needed: the log goes to standard error"),
    option(&["--reload-on-changes"], MOD_WSGI, "the command forkhorn reload, or HUP: no files are watched"),
    option(
        &["--startup-timeout"],
        MOD_WSGI,
        "--upgrade-timeout SECONDS, of forkhorn check and of a new binary",
    ),
    option(&["-s"], "fcgiwrap and spawn-fcgi", "--fastcgi unix:PATH"),
    option(&["-c"], FCGIWRAP, "--cgi-max-scripts COUNT"),
    option(&["-f"], FCGIWRAP, "--stderr fastcgi"),
    option(&["-a"], SPAWN_FCGI, "--fastcgi HOST:PORT"),
    option(&["-u", "-U"], "spawn-fcgi and Gunicorn", "--user USER"),
    option(&["-g", "-G"], "spawn-fcgi and Gunicorn", "--group GROUP"),
    option(&["-P"], SPAWN_FCGI, "--pid-file FILE"),
    option(&["-n"], SPAWN_FCGI, "not needed: forkhorn stays in the foreground"),
    option(&["pm"], PHP_FPM, "--workers COUNT, MIN..MAX or 0..MAX: static, dynamic or ondemand"),
    option(
        &["request_terminate_timeout"],
        PHP_FPM,
        "--timeout SECONDS for applications, --cgi-timeout SECONDS for scripts",
    ),
    option(
        &["request_slowlog_timeout", "slowlog"],
        PHP_FPM,
        "--slow-request SECONDS; it is written to the log",
    ),
    option(&["process_control_timeout"], PHP_FPM, "--graceful-timeout SECONDS"),
    option(&["clear_env"], PHP_FPM, "not needed: scripts get nothing but --cgi-env"),
];

/// The option of another server that has this name, in whatever way it is written.
pub fn find(name: &str) -> Option<&'static PeerOption> {
    let plain = |name: &str| name.trim_start_matches('-').replace('_', "-").to_lowercase();
    let is_short = |name: &str| name.len() == 2 && name.starts_with('-');
    OPTIONS.iter().find(|option| {
        option.names.iter().any(|other| match is_short(name) || is_short(other) {
            true => name == *other,
            false => plain(name) == plain(other),
        })
    })
}

impl PeerOption {
    /// One line: what to do with the option that was written as `name`.
    pub fn told(&self, name: &str) -> String {
        format!("{name} of {} is here: {}", self.peer, self.here)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn names_are_found_as_they_are_written_in_files_too() {
        for (name, here) in [
            ("--bind", "--http ADDR"),
            ("-b", "--http ADDR"),
            ("bind", "--http ADDR"),
            ("chmod-socket", "--socket-mode"),
            ("--access_logfile", "--access-log FILE"),
            ("request_terminate_timeout", "--timeout"),
        ] {
            let found = find(name).expect(name);
            assert!(found.here.starts_with(here), "{name}: {found:?}");
        }
        for name in ["b", "-B", "--binds", "", "-", "--"] {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn no_name_is_an_option_of_ours_and_what_is_named_instead_is_one() {
        let mut command = Cli::command();
        command.build();
        let serve = command.find_subcommand("serve").expect("serve");
        let ours: Vec<&str> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
        for option in OPTIONS {
            for name in option.names {
                assert!(!ours.contains(&name.trim_start_matches("--")) || name.len() == 2, "{name}");
                assert!(std::ptr::eq(find(name).expect(name), option), "{name} stands there twice");
            }
            let words = option.here.split([' ', ',', ';', ':']);
            for long in words.filter_map(|word| word.strip_prefix("--")) {
                assert!(ours.contains(&long), "{option:?}");
            }
        }
    }
}
