//! Parses the command line, runs, reports. The only place that exits the process.

use std::process::ExitCode;

use forkhorn::cli::Command;
use forkhorn::config::{Config, Source, SourceError, StartupError};
use forkhorn::process::{self, WorkerExit};
use forkhorn::worker::Worker;
use forkhorn::{bench, cgi_program, commands, logger, master};

fn main() -> ExitCode {
    let source = Source::new(std::env::args_os());
    let (command, resolver) = match source.read() {
        Ok(options) => options.into_command(),
        // Ends here, with exit code 2, or 0 after --help.
        Err(SourceError::CommandLine(error)) => error.exit(),
        Err(SourceError::File(error)) => return finish(Err(error)),
    };
    match command {
        Command::Serve(options) => {
            finish(resolver.resolve(*options).and_then(|config| serve(config, source)))
        }
        Command::Check(options) => {
            finish(resolver.resolve(*options).and_then(|config| master::check(&config)))
        }
        Command::Cgi(options) => finish(cgi_program::run(*options)),
        Command::Bench(options) => finish(bench::run(*options)),
        Command::Status(command) => finish(commands::status(&command)),
        Command::Reload(options) => finish(commands::reload(&options)),
        Command::Stop(command) => finish(commands::stop(&command)),
        Command::Worker => ExitCode::from(u8::try_from(worker()).unwrap_or(u8::MAX)),
    }
}

fn finish(result: Result<(), StartupError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forkhorn: {}", logger::printable(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(config: Config, source: Source) -> Result<(), StartupError> {
    logger::init(&config, "master");
    master::run(config, source)
}

/// A worker without Python: only the master starts it.
fn worker() -> i32 {
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
