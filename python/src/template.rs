//! The template: loads the applications once, then is copied into a worker whenever the master asks. It never serves.

use std::os::fd::AsFd;

use forkhorn::channel::{ChannelError, ToMaster, ToProcess};
use forkhorn::cli::Preload;
use forkhorn::process::{WorkerExit, WorkerStart};
use forkhorn::sys::{Forked, fork_worker};
use pyo3::prelude::*;

use crate::cpython::fork_hooks;
use crate::fork_safety::{self, Before};
use crate::load;
use crate::signals::{self, Wakeup};

/// How a template's work ends.
pub enum End {
    /// This process is a worker now, with the applications loaded.
    Worker { start: Box<WorkerStart>, callables: Vec<Py<PyAny>> },
    /// This process is the template, and has nothing more to do.
    Exit(WorkerExit),
}

/// Loads, then forks until the channel closes or says stop.
pub fn run(py: Python<'_>, start: WorkerStart) -> PyResult<End> {
    let before = Before::now();
    let callables = match load::all(py, &start.config) {
        Ok(callables) => callables,
        Err(failure) => {
            failure.send(&start.channel);
            return Ok(End::Exit(WorkerExit::LoadFailed));
        }
    };
    let gc = py.import("gc")?;
    // Objects that nobody needs must not hold sockets open, nor be copied; those that stay are kept out of the workers'
    // collections, which would otherwise write to, and so copy, every page.
    gc.call_method0("collect")?;
    if !is_copyable(py, &start, &before)? {
        return Ok(End::Exit(WorkerExit::CannotPreload));
    }
    gc.call_method0("freeze")?;
    tell(&start, &ToMaster::Loaded);
    serve_forks(py, start, callables)
}

fn is_copyable(py: Python<'_>, start: &WorkerStart, before: &Before) -> PyResult<bool> {
    let reasons = fork_safety::reasons(py, before)?;
    let preload = start.config.python.as_ref().map_or(Preload::Auto, |python| python.preload);
    match preload {
        _ if reasons.is_empty() => Ok(true),
        Preload::Always => {
            log::warn!(
                "the loaded application is copied, as --preload always says, although {}",
                reasons.join(", ")
            );
            Ok(true)
        }
        Preload::Auto | Preload::Never => {
            tell(start, &ToMaster::CannotPreload { reasons });
            Ok(false)
        }
    }
}

fn serve_forks(py: Python<'_>, mut start: WorkerStart, callables: Vec<Py<PyAny>>) -> PyResult<End> {
    let wakeup = Wakeup::install(py)?;
    loop {
        if !signals::run_handlers(py) {
            return Ok(End::Exit(WorkerExit::Done));
        }
        let (message, mut descriptors) = match start.channel.try_receive::<ToProcess>() {
            Ok(Some(received)) => received,
            Ok(None) => {
                wakeup.wait(py, Some(start.channel.as_fd()));
                continue;
            }
            Err(ChannelError::Closed) => return Ok(End::Exit(WorkerExit::Done)),
            Err(error) => {
                log::error!("the template can't understand the master: {error}");
                return Ok(End::Exit(WorkerExit::Failed));
            }
        };
        match message {
            ToProcess::Fork { slot, generation } => {
                let (Some(board), Some(channel)) = (descriptors.pop(), descriptors.pop()) else {
                    log::error!("the master's order to fork came without its descriptors");
                    continue;
                };
                match fork(py) {
                    Ok(Forked::Template { worker }) => {
                        tell(&start, &ToMaster::Forked { slot, generation, pid: worker });
                    }
                    Ok(Forked::Worker) => {
                        let start = Box::new(start.into_worker(slot, generation, channel, board)?);
                        return Ok(End::Worker { start, callables });
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        tell(&start, &ToMaster::ForkFailed { slot, generation, reason });
                    }
                }
            }
            ToProcess::AccessLog => start.access_log = descriptors.pop(),
            ToProcess::Drain { .. } | ToProcess::Stop => return Ok(End::Exit(WorkerExit::Done)),
            ToProcess::Start { .. } => log::error!("a second start for one template"),
        }
    }
}

/// The one place where a process with CPython in it forks.
fn fork(py: Python<'_>) -> std::io::Result<Forked> {
    fork_hooks::before(py);
    // SAFETY: `fork_safety` has found no other thread, or the operator answers for those that it found. The hook before
    // holds the interpreter's own locks across the fork.
    let forked = unsafe { fork_worker() };
    match forked {
        Ok(Forked::Worker) => fork_hooks::after_in_child(py),
        Ok(Forked::Template { .. }) | Err(_) => fork_hooks::after_in_parent(py),
    }
    forked
}

fn tell(start: &WorkerStart, message: &ToMaster) {
    if let Err(error) = start.channel.send(message, &[]) {
        log::error!("the template could not tell the master {message:?}: {error}");
    }
}
