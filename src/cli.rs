//! The command line: every option once. Help, man page and `docs/options.md` are made from it.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

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

/// Where the standard error output of CGI scripts goes, besides the log
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum ScriptStderr {
    /// Only to the log
    Log,
    /// Also to the web server, as FCGI_STDERR records
    Fastcgi,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// WSGI application: module:callable, module:factory() or path/to/file.py[:callable]; callable defaults to
    /// `application`
    #[arg(value_name = "APP")]
    pub app: Option<String>,

    #[command(flatten, next_help_heading = "What is served")]
    pub content: ContentOptions,
    #[command(flatten, next_help_heading = "Listeners")]
    pub listeners: ListenerOptions,
    #[command(flatten, next_help_heading = "Python")]
    pub python: PythonOptions,
    #[command(flatten, next_help_heading = "Processes")]
    pub processes: ProcessOptions,
    #[command(flatten, next_help_heading = "CGI")]
    pub cgi: CgiOptions,
    #[command(flatten, next_help_heading = "Limits")]
    pub limits: LimitOptions,
    #[command(flatten, next_help_heading = "Trust")]
    pub trust: TrustOptions,
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogOptions,
}

#[derive(Debug, Args)]
pub struct ContentOptions {
    /// One more WSGI application under a URL prefix; repeatable
    #[arg(long, value_name = "PREFIX=APP")]
    pub mount: Vec<String>,
    /// The executables of DIR are CGI scripts under a URL prefix; repeatable
    #[arg(long, value_name = "PREFIX=DIR")]
    pub cgi: Vec<OsString>,
    /// Plain files of DIR under a URL prefix, for the first run and development; repeatable
    #[arg(long = "static", value_name = "PREFIX=DIR")]
    pub static_files: Vec<OsString>,
    /// Base of PATH_TRANSLATED and value of DOCUMENT_ROOT where the web server names none
    #[arg(long, value_name = "DIR")]
    pub document_root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ListenerOptions {
    /// Listen for HTTP/1.1: HOST:PORT, unix:/path or fd:N; repeatable [default: 127.0.0.1:8000 if no listener is named]
    #[arg(long, value_name = "ADDR")]
    pub http: Vec<String>,
    /// Listen for FastCGI: HOST:PORT, unix:/path or fd:N (a web server that starts forkhorn passes fd:0); repeatable
    #[arg(long, value_name = "ADDR")]
    pub fastcgi: Vec<String>,
    /// Permissions of Unix sockets, octal
    #[arg(long, value_name = "MODE", default_value = "660")]
    pub socket_mode: String,
    /// Connections that the kernel keeps waiting per listener
    #[arg(long, value_name = "COUNT", default_value = "2048")]
    pub backlog: NonZeroU32,
    /// URL scheme of requests on HTTP listeners, for a proxy in front that ends TLS
    #[arg(long, value_name = "SCHEME", default_value = "http", value_parser = ["http", "https"])]
    pub url_scheme: String,
}

#[derive(Debug, Args)]
pub struct PythonOptions {
    /// Python interpreter [default: that of the virtual environment, else python3 of PATH]
    #[arg(long, value_name = "PATH", env = "FORKHORN_PYTHON")]
    pub python: Option<PathBuf>,
    /// Virtual environment whose interpreter and packages are used
    #[arg(long, value_name = "DIR", env = "VIRTUAL_ENV")]
    pub virtualenv: Option<PathBuf>,
    /// Directory to search for modules, before the others; repeatable
    #[arg(long, value_name = "DIR")]
    pub pythonpath: Vec<PathBuf>,
    /// Working directory of the application; also searched for modules
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// Environment variable of the application; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<OsString>,
    /// Where the application is loaded: once before the workers are forked, or in each of them
    #[arg(long, value_enum, default_value = "auto")]
    pub preload: Preload,
}

#[derive(Debug, Args)]
pub struct ProcessOptions {
    /// Number of worker processes [default: the processors that this process may use]
    #[arg(short, long, value_name = "COUNT", env = "FORKHORN_WORKERS")]
    pub workers: Option<NonZeroU16>,
    /// Application threads in each worker: so many requests at once are in Python
    #[arg(long, value_name = "COUNT", default_value = "1", env = "FORKHORN_THREADS")]
    pub threads: NonZeroU16,
    /// Longest run of the application for one request, in seconds; 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub timeout: f64,
    /// Time for running requests at a reload or a graceful stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub graceful_timeout: f64,
    /// User that workers and scripts run as; needs root
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Group that workers and scripts run as [default: the user's]; needs root
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// File mode creation mask, octal
    #[arg(long, value_name = "MASK")]
    pub umask: Option<String>,
    /// File that holds the master's process id
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CgiOptions {
    /// Longest run of a script, in seconds; 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub cgi_timeout: f64,
    /// Scripts at once in each worker; further requests wait
    #[arg(long, value_name = "COUNT", default_value = "32")]
    pub cgi_max_scripts: NonZeroU32,
    /// Requests that may wait for a script in each worker; past it the answer is 503
    #[arg(long, value_name = "COUNT", default_value = "256")]
    pub cgi_queue: u32,
    /// Variable of the scripts' environment: KEY=VALUE, or KEY to pass forkhorn's own; repeatable
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub cgi_env: Vec<OsString>,
    /// Give scripts the Authorization field, as HTTP_AUTHORIZATION
    #[arg(long)]
    pub cgi_pass_authorization: bool,
    /// Where the standard error output of scripts goes
    #[arg(long, value_enum, default_value = "log")]
    pub stderr: ScriptStderr,
}

#[derive(Debug, Args)]
pub struct LimitOptions {
    /// Longest request body; past it the answer is 413
    #[arg(long, value_name = "BYTES", default_value = "1073741824")]
    pub max_body: u64,
    /// Longest request head, or FastCGI PARAMS stream; past it the answer is 431
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    pub max_head: NonZeroU32,
    /// Most fields in a request head; past it the answer is 431
    #[arg(long, value_name = "COUNT", default_value = "256")]
    pub max_fields: NonZeroU32,
    /// Longest request target; past it the answer is 414
    #[arg(long, value_name = "BYTES", default_value = "16384")]
    pub max_uri: NonZeroU32,
    /// Bodies longer than this are kept in a temporary file
    #[arg(long, value_name = "BYTES", default_value = "262144")]
    pub spool_threshold: u64,
    /// Directory of those temporary files [default: that of TMPDIR, else /tmp]
    #[arg(long, value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,
    /// Response bytes that may wait for a slow reader before its application or script has to wait
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    pub max_output: NonZeroU32,
    /// Time for a request head, in seconds; past it the answer is 408
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    pub head_timeout: f64,
    /// Longest pause in a request body, in seconds; past it the answer is 408
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub body_timeout: f64,
    /// Longest pause of a peer that reads a response, in seconds; past it the connection is closed
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub send_timeout: f64,
    /// Time that a kept connection may idle, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "75")]
    pub keep_alive_timeout: f64,
    /// Connections at once in each worker; further ones wait in the kernel
    #[arg(long, value_name = "COUNT", default_value = "10000")]
    pub max_connections: NonZeroU32,
    /// Complete requests that may wait for the application in each worker; past it the answer is 503
    #[arg(long, value_name = "COUNT", default_value = "1024")]
    pub max_queue: NonZeroU32,
}

#[derive(Debug, Args)]
pub struct TrustOptions {
    /// Believe REMOTE_USER of the web server even without AUTH_TYPE
    #[arg(long)]
    pub trust_remote_user: bool,
    /// Addresses that may connect to FastCGI listeners over TCP, separated by commas [default: everybody]
    #[arg(long, value_name = "ADDRESSES", env = "FCGI_WEB_SERVER_ADDRS")]
    pub web_server_addrs: Option<String>,
}

#[derive(Debug, Args)]
pub struct LogOptions {
    /// File of the access log, or - for standard output; reopened on USR1
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Least severe level that is logged
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"], env = "FORKHORN_LOG")]
    pub log_level: String,
}
