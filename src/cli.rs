//! The command line: every option once. Help, man page and `docs/options.md` are made from it.

#![forbid(unsafe_code)]

mod bench;
mod cgi;
mod cgi_program;
mod control;
mod counts;
pub(crate) mod mistakes;
pub mod peers;

use std::ffi::OsString;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub use bench::{Bench, BenchStep};
pub use cgi::{CgiOptions, ScriptLimitOptions, ScriptStderr};
pub use cgi_program::CgiProgram;
pub use control::{ControlOptions, StatusCommand, StatusOptions, StopCommand};
pub use counts::{PoolSize, Surge};

/// Answers web requests with programs: CGI scripts, and WSGI applications held in memory
#[derive(Debug, Parser)]
#[command(name = "forkhorn", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve WSGI applications, CGI scripts and files over HTTP and FastCGI
    Serve(Box<Serve>),
    /// Say whether `serve` would come up with the same options, and what stands in the way
    ///
    /// Options, listeners, CGI scripts, and the application, which is loaded as --user, for at most --upgrade-timeout
    /// seconds. The exit code is the one that `serve` would have: 0 if all is well, 2 for wrong options, 3 for an
    /// application that can't be loaded, 1 for the rest.
    Check(Box<Serve>),
    /// Run a WSGI application once, as a CGI program, where a web server offers nothing else
    Cgi(Box<CgiProgram>),
    /// Measure CGI, warm CGI and prefork side by side on this machine
    Bench(Box<Bench>),
    /// Show how a running forkhorn is: its workers, what they do, what they have counted
    Status(StatusCommand),
    /// Have a running forkhorn load its applications anew, and wait until they serve
    ///
    /// If they can't be loaded, the old ones go on serving, the reason is printed, and the exit code is 1.
    Reload(ControlOptions),
    /// Stop a running forkhorn, and wait until it has ended
    ///
    /// Running requests are finished, for at most --graceful-timeout seconds.
    Stop(StopCommand),
    /// A worker process without Python; started by the master
    #[command(hide = true)]
    Worker,
}

/// When the application is loaded: once in the template, or in each worker
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Preload {
    /// In the template, unless loading starts threads or opens sockets
    Auto,
    /// In the template, whatever loading does
    Always,
    /// In each worker
    Never,
}

/// The form of the log
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// An object in each line
    Json,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// WSGI application: `module:callable`, `module:factory()` or `path/to/file.py[:callable]`; callable defaults to
    /// `application`
    ///
    /// It is mounted at the root of the site. Without it, forkhorn serves what --mount, --cgi and --static name. A file is
    /// looked for in the directory in which forkhorn is started, also with --chdir.
    #[arg(value_name = "APP")]
    pub app: Option<String>,

    #[command(flatten, next_help_heading = "Configuration")]
    pub sources: SourceOptions,
    #[command(flatten, next_help_heading = "What is served")]
    pub content: ContentOptions,
    #[command(flatten, next_help_heading = "Listeners")]
    pub listeners: ListenerOptions,
    #[command(flatten, next_help_heading = "Python")]
    pub python: PythonOptions,
    #[command(flatten, next_help_heading = "Processes")]
    pub processes: ProcessOptions,
    #[command(flatten, next_help_heading = "Status and control")]
    pub status: StatusOptions,
    #[command(flatten, next_help_heading = "CGI")]
    pub cgi: CgiOptions,
    #[command(flatten, next_help_heading = "Limits")]
    pub limits: LimitOptions,
    #[command(flatten, next_help_heading = "Trust")]
    pub trust: TrustOptions,
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogOptions,
}

impl Serve {
    /// `app` with the defaults of all options, whatever the environment says.
    pub(crate) fn default_for(app: &str) -> Serve {
        let command = Serve::augment_args(clap::Command::new("serve")).mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from(["serve", "--", app]);
        let serve = matches.and_then(|matches| Serve::from_arg_matches(&matches));
        serve.expect("defaults are values of their options")
    }
}

#[derive(Debug, Args)]
pub struct SourceOptions {
    /// Read options from a TOML file; read again at every reload
    ///
    /// A key is the long name of an option without its dashes, or `app` for APP; the value of a repeatable option is a list.
    /// Relative paths in the file start at the directory of the file. The command line wins over the environment, the
    /// environment over the file: an option that is given there replaces what the file says, a list as a whole. A key
    /// that is no option is an error.
    #[arg(long, value_name = "FILE", env = "FORKHORN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Read environment variables of the application from a file; repeatable
    ///
    /// Lines of the form KEY=VALUE, one pair of quotes around the value being taken off; empty lines and those that begin
    /// with # are skipped, and nothing is expanded. Read again at every reload. A later file wins over an earlier one, and
    /// --env over all of them.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ContentOptions {
    /// One more WSGI application under a URL prefix; repeatable
    ///
    /// The longest prefix that matches whole segments of the decoded path wins. The application finds the prefix in
    /// SCRIPT_NAME and the rest of the path in PATH_INFO. All applications live in one interpreter.
    #[arg(long, value_name = "PREFIX=APP")]
    pub mount: Vec<String>,
    /// The executables of DIR are CGI scripts under a URL prefix; repeatable
    ///
    /// Those in directories below it too. Nothing outside of DIR is run, symbolic links resolved. A script that the web
    /// server names in SCRIPT_FILENAME is run if it lies in DIR, whatever the prefix.
    #[arg(long, value_name = "PREFIX=DIR")]
    pub cgi: Vec<OsString>,
    /// Plain files of DIR under a URL prefix, for the first run and development; repeatable
    ///
    /// A path that names a directory is answered with its index.html. There are no listings. Names that begin with a dot,
    /// files outside of DIR, and files in a directory of --cgi are not shown.
    #[arg(long = "static", value_name = "PREFIX=DIR")]
    pub static_files: Vec<OsString>,
    /// Base of PATH_TRANSLATED and value of DOCUMENT_ROOT where the web server names none
    ///
    /// No file is served from it: that is what --static is for.
    #[arg(long, value_name = "DIR")]
    pub document_root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ListenerOptions {
    /// Listen for HTTP/1.1: HOST:PORT, unix:/path or fd:N; repeatable [default: 127.0.0.1:8000 if no listener is named]
    ///
    /// `:PORT` means all IPv4 addresses; `[::]:PORT` means all addresses, IPv4 too unless an IPv4 listener has that port;
    /// port 0 means a free one, which the log names. A Unix socket that a dead process has left behind is replaced. `fd:N`
    /// is a listening socket that whoever starts forkhorn passes on. If neither --http nor --fastcgi is given, the sockets
    /// that systemd passes are taken: one whose FileDescriptorName begins with fastcgi or fcgi for FastCGI, others for
    /// HTTP.
    #[arg(long, value_name = "ADDR")]
    pub http: Vec<String>,
    /// Listen for FastCGI: HOST:PORT, unix:/path or fd:N; repeatable
    ///
    /// As for --http. A web server, or spawn-fcgi, that starts forkhorn passes fd:0.
    ///
    /// Whoever can connect can send any request, with any address and, behind AUTH_TYPE, any user name: let nobody but the
    /// web server in, by --socket-mode or --web-server-addrs.
    #[arg(long, value_name = "ADDR")]
    pub fastcgi: Vec<String>,
    /// Permissions of Unix sockets, octal
    ///
    /// A socket belongs to --user and --group, if they are given. They are set before anybody can connect.
    #[arg(long, value_name = "MODE", default_value = "660")]
    pub socket_mode: String,
    /// Connections that the kernel keeps waiting per listener
    ///
    /// The kernel's own limit, net.core.somaxconn, holds as well.
    #[arg(long, value_name = "COUNT", default_value = "2048")]
    pub backlog: NonZeroU32,
    /// URL scheme of requests on HTTP listeners, for a proxy in front that ends TLS
    ///
    /// Also of FastCGI requests whose web server sends neither HTTPS nor REQUEST_SCHEME. Fields such as X-Forwarded-Proto
    /// are not believed; applications may read them.
    #[arg(long, value_name = "SCHEME", default_value = "http", value_parser = ["http", "https"])]
    pub url_scheme: String,
}

#[derive(Debug, Args)]
pub struct InterpreterOptions {
    /// Python interpreter [default: that of the virtual environment, else python3 of PATH]
    ///
    /// Any CPython from 3.10 on. A name without a slash is looked up in PATH.
    #[arg(long, value_name = "PATH", env = "FORKHORN_PYTHON")]
    pub python: Option<PathBuf>,
    /// Virtual environment whose interpreter and packages are used
    ///
    /// With --python, only its packages are used, if they are for that version of Python.
    #[arg(long, value_name = "DIR", env = "VIRTUAL_ENV")]
    pub virtualenv: Option<PathBuf>,
    /// Directory to search for modules, before the others; repeatable
    ///
    /// Then follow the working directory and what the interpreter searches by itself, PYTHONPATH included.
    #[arg(long, value_name = "DIR")]
    pub pythonpath: Vec<PathBuf>,
    /// Working directory of the application; also searched for modules
    ///
    /// Without it, that is the directory in which forkhorn is started. Paths on the command line start there in any case.
    /// CGI scripts have working directories of their own.
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// Environment variable of the application; repeatable
    ///
    /// Applications have forkhorn's own environment besides. CGI scripts have not: see --cgi-env.
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct PythonOptions {
    #[command(flatten)]
    pub interpreter: InterpreterOptions,
    /// Where the application is loaded: once before the workers are forked, or in each of them
    ///
    /// Copies share memory and start at once. What was loaded can't be copied with threads, sockets, pipes or processes:
    /// `auto` then names each of them in the log, with the module that has brought it, and lets each worker load for
    /// itself; `always` copies nevertheless.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub preload: Preload,
    /// Request that the application answers before it serves, a path or a URL; repeatable
    ///
    /// It is made inside, once all is loaded and before the workers are forked: what the application loads only then, such
    /// as templates, is there for the first client, and shared by all workers. A copy tries it first; if that leaves
    /// something open that can't be copied, or with --preload never, each worker makes it before it serves. Host is
    /// localhost, unless a URL names another. The answer is thrown away; what is wrong with it is logged, and the start
    /// goes on.
    #[arg(long, value_name = "PATH")]
    pub warm_up: Vec<String>,
    /// Longest run of a request of --warm-up, in seconds; 0 for no limit
    ///
    /// Past it, an exception is raised in the application, and the log says where that was.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub warm_up_timeout: f64,
}

#[derive(Debug, Args)]
pub struct ProcessOptions {
    /// Worker processes: a number, or two for a pool that grows and shrinks [default: the processors that this process may use]
    ///
    /// The default heeds the affinity mask, and the quota of the control group. At most 4096. With 2..16 there are at least
    /// 2 workers, more when requests wait or most workers are busy, and one less after a time of calm. With 0..16 there is
    /// none while no connection is open; the first one to come then waits for a worker to start. TTIN and TTOU change the
    /// numbers while forkhorn runs.
    #[arg(short, long, value_name = "COUNT|MIN..MAX", env = "FORKHORN_WORKERS")]
    pub workers: Option<PoolSize>,
    /// Calm after which a pool that may shrink has a worker less, in seconds
    ///
    /// Calm is when the others could do its work and be busy for less than 60 % of their time. Each further worker leaves a
    /// second later, if it stays calm.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub worker_idle_timeout: f64,
    /// Idle workers that a pool that may grow should have
    ///
    /// For requests that come all at once: they do not wait for a worker to start.
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub spare_workers: u16,
    /// Application threads in each worker: so many requests at once are in Python
    ///
    /// With more than one, applications see that wsgi.multithread is true.
    #[arg(long, value_name = "COUNT", default_value = "1", env = "FORKHORN_THREADS")]
    pub threads: NonZeroU16,
    /// Longest run of the application for one request, in seconds; 0 for no limit
    ///
    /// From the call of the application to the end of what it returns; neither the time counts that it has to wait for a
    /// slow reader, nor the time that the request has waited for it. Past it the client gets 504, or sees the connection
    /// break if the response has begun; the log gets the Python stack of every thread; the worker takes no further
    /// requests, finishes the others, and is replaced.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub timeout: f64,
    /// Run of the application for one request after which the log tells of it, in seconds; 0 for never
    ///
    /// With the Python stack of every thread of its worker, counted as in --timeout. The request goes on, and is told of once.
    /// A worker writes one such report in a second at most; what it leaves out, the next one counts.
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub slow_request: f64,
    /// Time for running requests at a reload or a graceful stop, in seconds
    ///
    /// A worker that has not finished them a second later is killed. Also when a worker is replaced for any other reason.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub graceful_timeout: f64,
    /// Requests after which a worker is replaced; 0 for no limit
    ///
    /// Requests of every kind. Its successor is ready before it drains: it goes on serving until then, and hands its
    /// connections over. One worker at a time is replaced because of this, --max-memory or --max-lifetime; others wait for
    /// their turn, and go on serving.
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub max_requests: u64,
    /// Up to so many requests more, at random for each worker [default: a tenth of --max-requests]
    ///
    /// So that workers that were started together are not replaced together.
    #[arg(long, value_name = "COUNT")]
    pub max_requests_jitter: Option<u64>,
    /// Memory past which a worker is replaced, in MiB; 0 for no limit
    ///
    /// Looked at once a second. A page that several workers share counts for each of them in part (PSS), if the kernel tells,
    /// else in full (RSS). The worker finishes its requests all the same: this is no limit to what one request may use.
    #[arg(long, value_name = "MIB", default_value = "0")]
    pub max_memory: u32,
    /// Time after which a worker is replaced, in seconds; 0 for no limit
    ///
    /// And up to a tenth more, at random for each worker.
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub max_lifetime: f64,
    /// Workers beyond those that are wanted while a reload replaces them: a number, or a percentage
    ///
    /// A percentage is rounded up; at least one. A larger number makes a reload faster, and takes more memory meanwhile. Old
    /// workers that still finish requests count.
    #[arg(long, value_name = "COUNT|PERCENT%", default_value = "25%")]
    pub max_surge: Surge,
    /// Time without a sign of life after which a worker is ended and replaced, in seconds; 0 for no limit
    ///
    /// The master asks workers that have been silent for half of it. A busy application is no silence: the worker answers
    /// nevertheless. One that is stopped, or hangs in the kernel, does not.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub heartbeat_timeout: f64,
    /// User that workers and scripts run as; needs root
    ///
    /// A name, or the number of a user that the system knows. Applications are loaded as this user, with its HOME, USER and
    /// LOGNAME, and all of its groups are set. Listeners, the access log and the pid file are opened before.
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Group that workers and scripts run as; needs root [default: the user's]
    ///
    /// A name or a number. Without --user it is their only group.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// File mode creation mask, octal
    ///
    /// Of workers and scripts, and of the access log, which is made with mode 640. Without it, forkhorn keeps the mask it
    /// is started with.
    #[arg(long, value_name = "MASK")]
    pub umask: Option<String>,
    /// File that holds the master's process id
    ///
    /// Removed at the end. If it names a process that runs, forkhorn does not start.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Time for a new binary to have its workers ready, in seconds, when USR2 has started it
    ///
    /// Past it the new one is ended, and the old one goes on.
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub upgrade_timeout: f64,
}

#[derive(Debug, Args)]
pub struct LimitOptions {
    /// Longest request body; past it the answer is 413
    ///
    /// For applications and scripts, whether the length was told or not.
    #[arg(long, value_name = "BYTES", default_value = "1073741824")]
    pub max_body: u64,
    /// Longest request head, or FastCGI PARAMS stream; past it the answer is 431
    ///
    /// Also the longest header of a CGI script's response; past it the answer is 502.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    pub max_head: NonZeroU32,
    /// Most fields in a request head; past it the answer is 431
    ///
    /// Or name-value pairs of a FastCGI request. Also most fields of a CGI script's response; past it the answer is 502.
    #[arg(long, value_name = "COUNT", default_value = "256")]
    pub max_fields: NonZeroU32,
    /// Longest request target; past it the answer is 414
    ///
    /// Path and query as they came; in FastCGI, the value of REQUEST_URI.
    #[arg(long, value_name = "BYTES", default_value = "16384")]
    pub max_uri: NonZeroU32,
    /// Bodies longer than this are kept in a temporary file
    ///
    /// Those for applications, which are collected before the application is called, and those for scripts that have to wait
    /// for others, or for the end of a body whose length was not told. Other scripts read theirs as it comes.
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    pub spool_threshold: u64,
    /// Directory of those temporary files [default: that of TMPDIR, else /tmp]
    ///
    /// They have no names, so that nothing is left behind. A body that finds no room is answered 503.
    #[arg(long, value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,
    /// Memory that the bodies of one worker may take together; past it, each is kept in a temporary file
    ///
    /// However short it is, but for those of up to 16 KiB. Slow uploads on many connections so can't fill the memory.
    #[arg(long, value_name = "BYTES", default_value = "67108864")]
    pub body_memory: u64,
    /// Response bytes that may wait for a slow reader before its application or script has to wait
    ///
    /// Counted for each connection. Files that an application gives to wsgi.file_wrapper make nobody wait, however long
    /// they are.
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    pub max_output: NonZeroU32,
    /// Time for a request head, in seconds; past it the answer is 408
    ///
    /// From its first byte to its last. A connection that has sent nothing for so long is closed without an answer; so is
    /// a FastCGI connection in the middle of a head.
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    pub head_timeout: f64,
    /// Longest pause in a request body, in seconds; past it the answer is 408
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub body_timeout: f64,
    /// Longest pause of a peer that reads a response, in seconds; past it the connection is closed
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub send_timeout: f64,
    /// Fewest bytes in a second that a peer has to send of a body, or to read of a response; 0 for any
    ///
    /// On average, and with a head start of --body-timeout or --send-timeout: a body has so much time, and a second more for
    /// each so many bytes that have come. Past it the answer is 408, or the connection is closed. Time in which a script does
    /// not take its input does not count.
    #[arg(long, value_name = "BYTES", default_value = "500")]
    pub min_rate: u64,
    /// Time that a kept connection may idle, in seconds
    ///
    /// Choose it longer than the idle time of the web server in front, so that it is the web server that closes.
    #[arg(long, value_name = "SECONDS", default_value = "75")]
    pub keep_alive_timeout: f64,
    /// Connections at once in each worker; further ones wait in the kernel
    ///
    /// Each takes a descriptor: forkhorn raises the soft limit of the process (ulimit -n) as far as the hard one allows, and
    /// warns if that is not enough. When the table is full, connections that idle are closed.
    #[arg(long, value_name = "COUNT", default_value = "10000")]
    pub max_connections: NonZeroU32,
    /// Complete requests that may wait for the application in each worker; past it the answer is 503
    ///
    /// If there are several workers, one whose application threads are all busy accepts no new connection, and a request
    /// that has come on a kept one goes, with its connection, to a worker that has a free thread.
    #[arg(long, value_name = "COUNT", default_value = "1024")]
    pub max_queue: NonZeroU32,
    /// Longest wait of a complete request for the application, or for a script to be started, in seconds; 0 for no limit
    ///
    /// Past it the answer is 503, with Retry-After. Time in the queue between workers counts.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub queue_timeout: f64,
}

#[derive(Debug, Args)]
pub struct TrustOptions {
    /// Believe REMOTE_USER of the web server even without AUTH_TYPE
    ///
    /// Stock nginx configurations send the name of any Authorization: Basic field, whether or not a password was checked.
    #[arg(long)]
    pub trust_remote_user: bool,
    /// Addresses that may connect to FastCGI listeners over TCP, separated by commas [default: everybody]
    ///
    /// IPv4 and IPv6 addresses, no networks. Other connections are closed at once, with a warning in the log.
    #[arg(long, value_name = "ADDRESSES", env = "FCGI_WEB_SERVER_ADDRS")]
    pub web_server_addrs: Option<String>,
}

#[derive(Debug, Args)]
pub struct LogOptions {
    /// File of the access log, or - for standard output; reopened on USR1
    ///
    /// In the form of --access-log-format, times in UTC. Status 499 stands for a client that left before its response
    /// began. Without this option there is no access log.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Form of the access log's lines: combined, common, json, `json:FIELD,…`, or a text with fields in braces
    ///
    /// Such as `{remote_addr} {request_id} "{method} {target}" {status} {duration_us}`. docs/logging.md lists the fields.
    /// Values are escaped, so that no client can forge a line. `{{` and `}}` mean the characters themselves.
    #[arg(long, value_name = "FORMAT", default_value = "combined")]
    pub access_log_format: String,
    /// Field in which the front sends the request's id, such as X-Request-Id [default: none]
    ///
    /// Each request has an id, which stands in every line of the log about it. It is made by forkhorn, or it is what this
    /// field says: up to 128 letters, digits and characters of `._-+/=:@`. A request without the field, or with
    /// another value in it, gets the made id there. A client that reaches forkhorn directly can choose its id: let the
    /// front overwrite the field. A web server may also send the id as the FastCGI parameter UNIQUE_ID.
    ///
    /// Scripts find the id in UNIQUE_ID in any case, applications if this option is given.
    #[arg(long, value_name = "NAME")]
    pub request_id_header: Option<String>,
    /// Form of the log: lines of text, or an object of JSON in each line
    ///
    /// The log is standard error. What an application or a library prints there by itself stays as it is.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", env = "FORKHORN_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Least severe level that is logged
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"], env = "FORKHORN_LOG")]
    pub log_level: String,
}
