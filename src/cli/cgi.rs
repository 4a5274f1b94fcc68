//! The options of CGI scripts.

use std::ffi::OsString;
use std::num::NonZeroU32;

use clap::Args;

use super::ScriptStderr;

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
    /// A variable that describes the request can't be set, and one that the web server sends under that name wins. PATH is
    /// /usr/local/bin:/usr/bin:/bin unless it is set here.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub cgi_env: Vec<OsString>,
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
}
