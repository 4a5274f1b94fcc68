//! `forkhorn status`, `reload` and `stop`: they ask the master over its control socket, and wait for the effect.

mod client;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{ControlOptions, StatusCommand, StopCommand};
use crate::config::{StartupError, control_beside};
use client::{Failure, Reply, ask};

/// How long a look may take, if nothing else is said: the master answers at once.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// Prints how forkhorn is.
///
/// # Errors
/// Nobody answers.
pub fn status(command: &StatusCommand) -> Result<(), StartupError> {
    let path = control(&command.control)?;
    let timeout = timeout(&command.control)?.unwrap_or(LOOK_TIME);
    let target = if command.memory { "/status?memory" } else { "/status" };
    let reply = ask(&path, "GET", target, Some(timeout)).map_err(|failure| failed(&path, &failure))?;
    let text = if reply.status == 200 { String::from_utf8(reply.body).ok() } else { None };
    let value: Option<Value> = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let (Some(text), Some(value)) = (text, value) else {
        return Err(StartupError::other(format!(
            "the answer of {} is not understood: are both of one version? This is {}",
            path.display(),
            env!("CARGO_PKG_VERSION")
        )));
    };
    print(&if command.json { text + "\n" } else { table::of(&value) })
}

/// Has forkhorn load its applications anew, and waits until they serve.
///
/// # Errors
/// The reload has failed, with the reason; or nobody answers.
pub fn reload(options: &ControlOptions) -> Result<(), StartupError> {
    let path = control(options)?;
    let reply =
        ask(&path, "POST", "/reload", timeout(options)?).map_err(|failure| failed(&path, &failure))?;
    match (reply.status, reply.field("generation").and_then(|value| value.as_u64())) {
        (200, Some(generation)) => print(&format!("generation {generation} serves\n")),
        _ => Err(StartupError::other(format!("the reload has failed: {}", reply.reason()))),
    }
}

/// Ends forkhorn, and waits until it has gone.
///
/// # Errors
/// It does not end in time; or nobody answers.
pub fn stop(command: &StopCommand) -> Result<(), StartupError> {
    let path = control(&command.control)?;
    let limit = timeout(&command.control)?;
    let began = Instant::now();
    let target = if command.fast { "/stop?fast" } else { "/stop" };
    let reply = ask(&path, "POST", target, limit).map_err(|failure| failed(&path, &failure))?;
    if reply.status != 202 {
        return Err(StartupError::other(format!("forkhorn does not stop: {}", reply.reason())));
    }
    let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
    match reply.master.wait_for_end(left) {
        true => print("forkhorn has ended\n"),
        false => Err(StartupError::other(format!(
            "forkhorn has not ended within {} s; it still finishes what runs",
            limit.unwrap_or_default().as_secs_f64()
        ))),
    }
}

fn control(options: &ControlOptions) -> Result<PathBuf, StartupError> {
    match (&options.control, &options.pid_file) {
        (Some(path), _) if !path.as_os_str().is_empty() => Ok(path.clone()),
        (_, Some(pid_file)) => Ok(control_beside(pid_file)),
        _ => Err(StartupError::usage(
            "which forkhorn? Name its control socket with --control PATH, or its pid file with --pid-file FILE, as \
             forkhorn serve was given them",
        )),
    }
}

fn timeout(options: &ControlOptions) -> Result<Option<Duration>, StartupError> {
    options
        .timeout
        .map(|seconds| match seconds > 0.0 && seconds <= 1e9 {
            true => Ok(Duration::from_secs_f64(seconds)),
            false => {
                Err(StartupError::usage(format!("--timeout {seconds}: expected a number of seconds above 0")))
            }
        })
        .transpose()
}

fn failed(path: &std::path::Path, failure: &Failure) -> StartupError {
    StartupError::other(format!("no answer from {}: {failure}", path.display()))
}

/// A pipe that is closed early, as by `head`, is no failure.
fn print(text: &str) -> Result<(), StartupError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(StartupError::other(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

impl Reply {
    fn field(&self, name: &str) -> Option<Value> {
        serde_json::from_slice::<Value>(&self.body).ok()?.get(name).cloned()
    }

    /// What the master says of a failure.
    fn reason(&self) -> String {
        let error = self.field("error").and_then(|error| error.as_str().map(str::to_owned));
        error.unwrap_or_else(|| String::from_utf8_lossy(&self.body).trim().to_owned())
    }
}
