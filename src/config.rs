//! Options, checked: what the master acts on and sends to its workers. Nothing is validated later.

#![forbid(unsafe_code)]

mod access_log;
mod address;
mod app;
mod env_file;
mod error;
mod file;
mod parse;
mod script_variables;
mod source;
mod warm;
mod warm_up;

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::{CgiProgram, InterpreterOptions, LogFormat, PoolSize, Preload, ScriptStderr, Serve, Surge};

pub use access_log::{AccessLogFormat, Field, NamedField, Piece, Unit};
pub use address::Address;
pub use app::{AppSource, AppSpec};
pub use error::StartupError;
pub(crate) use parse::control_beside;
pub use script_variables::{PassedName, is_plain};
pub use source::{Options, Resolver, Source, SourceError};
pub use warm_up::WarmUp;

/// Set by a master for the one that it starts to replace it: the descriptor of the channel between them. Never unset.
pub(crate) const UPGRADE_VARIABLE: &str = "FORKHORN_UPGRADE";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    Http,
    FastCgi,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListenerConfig {
    pub protocol: ListenerProtocol,
    pub address: Address,
}

/// What answers below a URL prefix.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountTarget {
    /// Index into [`Config::applications`].
    Application(usize),
    /// A directory of CGI scripts: absolute, symbolic links resolved.
    Cgi(PathBuf),
    /// A directory of files: absolute, symbolic links resolved.
    Static(PathBuf),
}

/// A prefix is empty, or begins with a slash and does not end with one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    pub prefix: String,
    pub target: MountTarget,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PythonConfig {
    /// As found: absolute, or a name that was looked up in PATH. Not resolved, so that a virtual environment works.
    pub interpreter: PathBuf,
    pub virtualenv: Option<PathBuf>,
    pub pythonpath: Vec<PathBuf>,
    pub chdir: Option<PathBuf>,
    pub env: Vec<(OsString, OsString)>,
    pub preload: Preload,
    /// In the order in which they are made.
    pub warm_up: Vec<WarmUp>,
    /// For each of them. `None`: no limit.
    pub warm_up_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessConfig {
    pub workers: PoolSize,
    pub worker_idle_timeout: Duration,
    pub spare_workers: u16,
    pub threads: u16,
    /// `None`: no limit.
    pub timeout: Option<Duration>,
    /// `None`: slow requests are not told of.
    pub slow_request: Option<Duration>,
    pub graceful_timeout: Duration,
    pub recycling: RecyclingConfig,
    pub max_surge: Surge,
    pub identity: Option<Identity>,
    pub umask: Option<u32>,
    pub pid_file: Option<PathBuf>,
    pub upgrade_timeout: Duration,
    /// `None`: workers are not asked for signs of life.
    pub heartbeat_timeout: Option<Duration>,
}

/// When a worker has served enough. `None`: never for this reason.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RecyclingConfig {
    pub max_requests: Option<u64>,
    /// At most so many requests more.
    pub requests_jitter: u64,
    pub max_memory_bytes: Option<u64>,
    pub max_lifetime: Option<Duration>,
}

/// Whom workers and scripts run as, with all groups, looked up before anything is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub user_name: Option<String>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CgiConfig {
    pub timeout: Option<Duration>,
    pub max_scripts: usize,
    pub max_waiting: usize,
    /// Of every script; wins over what the web server sends.
    pub env: Vec<(OsString, OsString)>,
    pub pass_authorization: bool,
    /// What of the web server's parameters reaches scripts besides what describes the request.
    pub pass: Vec<PassedName>,
    pub stderr: ScriptStderr,
    pub limits: ScriptLimits,
    /// `None`: every script starts its interpreter anew.
    pub warm: Option<WarmConfig>,
}

impl CgiConfig {
    const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

    /// The PATH that scripts get.
    pub fn search_path(&self) -> &OsStr {
        let given = self.env.iter().find(|(name, _)| name == "PATH");
        given.map_or(OsStr::new(Self::DEFAULT_PATH), |(_, path)| path)
    }
}

/// What each process of a script may use; `None`: what the worker itself may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptLimits {
    pub memory_bytes: Option<u64>,
    pub cpu_seconds: Option<u64>,
    /// Of the whole user.
    pub processes: Option<u64>,
    pub files: Option<u64>,
    pub file_bytes: Option<u64>,
    /// Nicer than the worker by so much.
    pub nice: u8,
}

/// Interpreters that stay warm and are copied for each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmConfig {
    /// The first that fits a script's first line holds.
    pub interpreters: Vec<WarmInterpreter>,
    /// Children that wait for a request.
    pub spares: u16,
    /// 0: no limit.
    pub max_forks: u64,
    /// Load early what scripts load again and again.
    pub learn: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmInterpreter {
    pub language: WarmLanguage,
    /// `None`: every interpreter of the language.
    pub path: Option<PathBuf>,
    /// Loaded in any case: names of Python's modules, or of Perl's files (`CGI.pm`).
    pub modules: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WarmLanguage {
    Python,
    Perl,
}

impl WarmLanguage {
    /// As it is written in an option, and as the names of its interpreters begin.
    pub fn name(self) -> &'static str {
        match self {
            WarmLanguage::Python => "python",
            WarmLanguage::Perl => "perl",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LimitConfig {
    pub max_body_bytes: u64,
    pub max_head_bytes: usize,
    pub max_fields: usize,
    pub max_uri_bytes: usize,
    pub spool_threshold_bytes: u64,
    pub spool_dir: PathBuf,
    pub body_memory_bytes: u64,
    pub max_output_bytes: u64,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub send_timeout: Duration,
    /// Bytes in a second; `None`: any.
    pub min_rate: Option<NonZeroU64>,
    pub keep_alive_timeout: Duration,
    pub max_connections: usize,
    pub max_queue: usize,
    /// `None`: no limit.
    pub queue_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrustConfig {
    pub remote_user: bool,
    /// Peers that may use FastCGI listeners over TCP, separated by commas; `None`: everybody.
    pub web_server_addrs: Option<String>,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLogConfig {
    Off,
    Stdout,
    File(PathBuf),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub applications: Vec<AppSpec>,
    /// Longest prefix first, so that the first match is the right one.
    pub mounts: Vec<Mount>,
    pub document_root: Option<PathBuf>,
    pub listeners: Vec<ListenerConfig>,
    pub socket_mode: u32,
    pub backlog: u32,
    pub url_scheme: String,
    pub python: Option<PythonConfig>,
    pub processes: ProcessConfig,
    pub cgi: CgiConfig,
    pub limits: LimitConfig,
    pub trust: TrustConfig,
    /// Where the master tells how it is.
    pub status: Option<Address>,
    /// Where the master takes orders.
    pub control: Option<PathBuf>,
    pub access_log: AccessLogConfig,
    pub access_log_format: AccessLogFormat,
    pub log_level: String,
    pub log_format: LogFormat,
    /// The meta-variable behind `--request-id-header`.
    pub request_id_variable: Option<String>,
}

impl Config {
    /// Checks everything that can be checked before anything is opened or started.
    pub fn resolve(serve: Serve) -> Result<Config, StartupError> {
        parse::resolve(serve)
    }

    /// The same for `forkhorn cgi`. `script_name` is SCRIPT_NAME of the environment.
    pub fn resolve_cgi_program(
        options: CgiProgram,
        script_name: Option<OsString>,
    ) -> Result<Config, StartupError> {
        parse::resolve_cgi_program(options, script_name)
    }

    /// The interpreter that an application would run in.
    pub fn interpreter(options: &InterpreterOptions) -> Result<PathBuf, StartupError> {
        parse::interpreter(options)
    }

    /// The limits of one connection, for both protocols.
    pub fn connection_limits(&self) -> crate::protocol::Limits {
        let limits = &self.limits;
        crate::protocol::Limits {
            max_head_bytes: limits.max_head_bytes,
            max_fields: limits.max_fields,
            max_uri_bytes: limits.max_uri_bytes,
            max_body_bytes: limits.max_body_bytes,
            head_timeout: limits.head_timeout,
            body_timeout: limits.body_timeout,
            min_rate: limits.min_rate,
            keep_alive_timeout: limits.keep_alive_timeout,
            ..crate::protocol::Limits::default()
        }
    }
}
