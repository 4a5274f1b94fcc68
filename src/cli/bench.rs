//! `forkhorn bench`: CGI, warm CGI and prefork side by side.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::InterpreterOptions;

/// A way in which a request is answered
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchStep {
    /// A process, and the start of its interpreter, for each request
    Cgi,
    /// A copy of an interpreter that runs already, for each request
    Warm,
    /// The application in memory
    Prefork,
}

impl BenchStep {
    /// As tables call it.
    pub fn title(self) -> &'static str {
        match self {
            BenchStep::Cgi => "CGI",
            BenchStep::Warm => "warm CGI",
            BenchStep::Prefork => "prefork",
        }
    }
}

/// Each way is started by itself on a private socket, and asked over FastCGI
#[derive(Debug, Args)]
pub struct Bench {
    /// WSGI application, as for `serve`; it is measured by every way
    ///
    /// Without it, and without --script and --url, the examples of forkhorn are measured.
    #[arg(value_name = "APP")]
    pub app: Option<String>,
    /// CGI script to measure; repeatable
    #[arg(long, value_name = "FILE")]
    pub script: Vec<PathBuf>,
    /// Ways to measure, separated by commas
    #[arg(long, value_name = "STEPS", value_enum, value_delimiter = ',', default_value = "cgi,warm,prefork")]
    pub steps: Vec<BenchStep>,
    /// Measure what answers already at http://HOST:PORT/PATH, behind nginx or Apache for one; repeatable
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// Time for each measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    pub duration: f64,
    /// Clients that ask at once
    #[arg(long, value_name = "COUNT", default_value = "8")]
    pub concurrency: NonZeroU16,
    /// Requests a second for the measurement at a fixed rate [default: half of what each way can do]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<f64>,
    /// Write a page with charts to this file, and the same as .svg and .json beside it
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Number of worker processes of each server [default: that of `serve`]
    #[arg(short, long, value_name = "COUNT")]
    pub workers: Option<NonZeroU16>,
    #[command(flatten)]
    pub interpreter: InterpreterOptions,
}
