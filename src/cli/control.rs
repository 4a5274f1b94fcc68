//! The options about asking a running forkhorn: those of `serve`, and of the commands `status`, `reload` and `stop`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct StatusOptions {
    /// Answer /health, /ready, /status and /metrics over HTTP: HOST:PORT, /path or unix:/path
    ///
    /// The master answers, whatever the workers do. Whoever can connect sees which requests are being answered, with their
    /// paths and queries: choose an address that only those can reach who may. A Unix socket gets the mode of --socket-mode,
    /// and belongs to --user and --group.
    #[arg(long, value_name = "ADDR")]
    pub status: Option<String>,
    /// Unix socket for forkhorn status, reload and stop [default: that of --pid-file with .sock behind it, if there is one]
    ///
    /// Only root, and whoever runs the master, may use it. An empty path means that there is none.
    #[arg(long, value_name = "PATH", env = "FORKHORN_CONTROL")]
    pub control: Option<PathBuf>,
}

/// Which forkhorn is meant.
#[derive(Debug, Args)]
pub struct ControlOptions {
    /// Control socket of forkhorn, as serve was given it
    #[arg(long, value_name = "PATH", env = "FORKHORN_CONTROL")]
    pub control: Option<PathBuf>,
    /// Pid file of forkhorn, if serve was given one and no --control
    #[arg(long, value_name = "FILE", conflicts_with = "control")]
    pub pid_file: Option<PathBuf>,
    /// Longest wait, in seconds [default: 10 for status, no limit for reload and stop]
    ///
    /// Past it the exit code is 1. What was begun goes on.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,
}

#[derive(Debug, Args)]
pub struct StatusCommand {
    #[command(flatten)]
    pub control: ControlOptions,
    /// Print everything, as JSON
    #[arg(long)]
    pub json: bool,
    /// With --json: what memory each process has to itself, and what it shares
    ///
    /// The kernel walks through all pages for it.
    #[arg(long, requires = "json")]
    pub memory: bool,
}

#[derive(Debug, Args)]
pub struct StopCommand {
    #[command(flatten)]
    pub control: ControlOptions,
    /// Break running requests off
    #[arg(long)]
    pub fast: bool,
}
