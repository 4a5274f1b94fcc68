//! Options of CGI scripts: their time, their environment, and what they may use.

use std::ffi::OsString;
use std::num::NonZeroU32;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Where the standard error output of CGI scripts goes, besides the log
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum ScriptStderr {
    /// Only to the log
    Log,
    /// Also to the web server, as FCGI_STDERR records
    Fastcgi,
}

#[derive(Debug, Args)]
pub struct CgiOptions {
    /// Longest run of a script, in seconds; 0 for no limit
    ///
    /// From its start; time in which it waits for its client does not count. Past it the client gets 504, or sees the
    /// connection break if the response has begun, and the script's process group gets TERM, two seconds later KILL.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub cgi_timeout: f64,
    /// Scripts at once in each worker; further requests wait
    #[arg(long, value_name = "COUNT", default_value = "32")]
    pub cgi_max_scripts: NonZeroU32,
    /// Requests that may wait for a script in each worker; past it the answer is 503
    #[arg(long, value_name = "COUNT", default_value = "256")]
    pub cgi_queue: u32,
    /// Variable of the scripts' environment: KEY=VALUE, or KEY to pass forkhorn's own; repeatable
    ///
    /// It wins over one that the web server sends under that name. What describes the request can't be set. PATH is
    /// /usr/local/bin:/usr/bin:/bin unless it is set here.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub cgi_env: Vec<OsString>,
    /// Parameter of the web server that scripts get: NAME, or all that begin so: PREFIX*; repeatable
    ///
    /// What is not named here and does not describe the request stays away from scripts: whoever reaches a FastCGI socket
    /// can send any parameter. Names that interpreters or libraries take as orders, such as LD_PRELOAD or PERL5LIB, can't be
    /// named, and `PREFIX*` leaves them out. Applications get all parameters.
    #[arg(long, value_name = "NAME")]
    pub cgi_pass: Vec<String>,
    /// Give scripts the Authorization field, as HTTP_AUTHORIZATION
    ///
    /// And Proxy-Authorization, as HTTP_PROXY_AUTHORIZATION. Applications get both in any case.
    #[arg(long)]
    pub cgi_pass_authorization: bool,
    /// Interpreters that are copied for each request, instead of started: python, perl; repeatable
    ///
    /// A list with commas. Such a script runs in a process of its own as ever, but without the start of its interpreter. A
    /// whole path, `/usr/bin/python3.12`, means scripts with that very interpreter only. Modules to load before any request,
    /// besides those that are learned, follow a colon: `python:json+decimal,perl:CGI`. Each worker has its own interpreters,
    /// one for each first line, started when they are needed; until then, and for interpreters that can't be copied, scripts
    /// run the classic way. See docs/warm.md.
    #[arg(long, value_name = "LIST")]
    pub warm: Vec<String>,
    /// Copies of each warm interpreter, in each worker, that wait for requests
    ///
    /// A request then does not wait for the fork; the next copy is made while it runs.
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = clap::value_parser!(u16).range(0..=64))]
    pub warm_spares: u16,
    /// Requests after which a warm interpreter is replaced; 0 for no limit
    ///
    /// So that its memory is laid out anew, and its seed of Python's and Perl's hashes is drawn anew.
    #[arg(long, value_name = "COUNT", default_value = "10000")]
    pub warm_max_forks: u64,
    /// Load no module early but those that --warm names
    ///
    /// Without it, a warm interpreter is replaced, now and then, by one that has loaded what scripts load again and again.
    #[arg(long)]
    pub warm_no_learning: bool,
    /// Where the standard error output of scripts goes
    ///
    /// HAProxy answers 502 to FCGI_STDERR records.
    #[arg(long, value_name = "WHERE", value_enum, default_value = "log")]
    pub stderr: ScriptStderr,
    #[command(flatten)]
    pub limits: ScriptLimitOptions,
}

#[derive(Debug, Args)]
pub struct ScriptLimitOptions {
    /// Address space of each process of a script, in MiB; 0 for no limit of its own
    ///
    /// Past it, the script is refused memory. As for all these limits, a lower one that forkhorn itself is started with
    /// remains in force. Scripts leave no core dumps in any case.
    #[arg(long, value_name = "MIB", default_value = "0")]
    pub cgi_limit_memory: u32,
    /// Processor time of each process of a script, in seconds; 0 for no limit of its own
    ///
    /// Past it, the process gets XCPU, which ends it, and a second later KILL.
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub cgi_limit_cpu: u32,
    /// Processes that the scripts' user may have, for a script to start another; 0 for no limit of its own
    ///
    /// The kernel counts all processes and threads of the user, forkhorn's workers among them, and does not count those of
    /// root: give scripts a user of their own (--user).
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub cgi_limit_processes: u32,
    /// Descriptors that each process of a script may have open; 0 for no limit of its own
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub cgi_limit_files: u32,
    /// Longest file that a script may write, in MiB; 0 for no limit of its own
    ///
    /// Past it, the process gets XFSZ, which ends it.
    #[arg(long, value_name = "MIB", default_value = "0")]
    pub cgi_limit_file_size: u32,
    /// By how much scripts are nicer than forkhorn: 0 to 19
    ///
    /// A nicer process gets less of the processors while others want them.
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=19))]
    pub cgi_nice: u8,
}
