//! `forkhorn cgi`: an application as a CGI program.

use clap::Args;

use super::InterpreterOptions;

/// The request is in the environment and on standard input (RFC 3875)
#[derive(Debug, Args)]
pub struct CgiProgram {
    /// WSGI application, as for `serve`
    ///
    /// A file with `#!/usr/local/bin/forkhorn cgi` as its first line, and the right to be executed, is a CGI program by
    /// itself.
    #[arg(value_name = "APP")]
    pub app: String,
    #[command(flatten)]
    pub interpreter: InterpreterOptions,
    /// Longest run of the application, in seconds; 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub timeout: f64,
    /// Longest request body; past it the answer is 413
    #[arg(long, value_name = "BYTES", default_value = "1073741824")]
    pub max_body: u64,
    /// Least severe level that is logged; the log is standard error
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"], env = "FORKHORN_LOG")]
    pub log_level: String,
}
