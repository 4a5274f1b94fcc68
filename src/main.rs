//! Parses the command line, runs, reports. The only place that exits the process.

use std::process::ExitCode;

use clap::Parser;
use forkhorn::cli::{Cli, Command};
use forkhorn::config::{Config, StartupError};
use forkhorn::process::{self, WorkerExit};
use forkhorn::worker::Worker;
use forkhorn::{logger, master};

fn main() -> ExitCode {
    // A usage error ends here, with exit code 2.
    match Cli::parse().command {
        Command::Serve(options) => match serve(*options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("forkhorn: {}", logger::printable(&error.to_string()));
                ExitCode::from(error.exit_code())
            }
        },
        Command::Worker => ExitCode::from(u8::try_from(worker()).unwrap_or(u8::MAX)),
    }
}

fn serve(options: forkhorn::cli::Serve) -> Result<(), StartupError> {
    let config = Config::resolve(options)?;
    logger::init(&config.log_level, "master");
    master::run(config)
}

/// A worker without Python: only the master starts it.
fn worker() -> i32 {
    // The master starts /proc/self/exe, and that would be its name.
    let _ = nix::sys::prctl::set_name(c"forkhorn");
    let worker = process::receive_start().and_then(|(_, start)| Worker::new(start, Box::new(String::new)));
    match worker {
        Ok(worker) => {
            worker.serve_without_application();
            worker.exit_code()
        }
        Err(error) => {
            eprintln!("forkhorn: cannot start the worker: {}", logger::printable(&error.to_string()));
            WorkerExit::NotStarted.code()
        }
    }
}
