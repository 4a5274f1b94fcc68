//! The template: loads the applications once, then is copied into a worker whenever the master asks. It never serves.

use std::os::fd::AsFd;

use forkhorn::channel::{ChannelError, ToMaster, ToProcess};
use forkhorn::cli::Preload;
use forkhorn::process::{WorkerExit, WorkerStart};
use forkhorn::sys::{Forked, fork_worker, return_free_memory, try_in_copy};
use pyo3::prelude::*;

use crate::cpython::fork_hooks;
use crate::fork_safety::{self, Watch};
use crate::load;
use crate::setup;
use crate::signals::{self, Wakeup};
use crate::warm_up;

/// How a template's work ends.
pub enum End {
    /// This process is a worker now, with the applications loaded. `warm_up`: but not warmed up.
    Worker { start: Box<WorkerStart>, callables: Vec<Py<PyAny>>, warm_up: bool },
    /// This process is the template, and has nothing more to do.
    Exit(WorkerExit),
}

/// Loads, then forks until the channel closes or says stop.
pub fn run(py: Python<'_>, start: WorkerStart) -> PyResult<End> {
    let watch = Watch::begin(py)?;
    let callables = match load::all(py, &start.config) {
        Ok(callables) => callables,
        Err(failure) => {
            failure.send(&start.channel);
            return Ok(End::Exit(WorkerExit::LoadFailed));
        }
    };
    let warm_up = match plan(py, &start, &callables, &watch)? {
        Plan::Here => {
            warm_up::run(py, &start.config, &callables, |request| watch.warms_up(&request.given));
            false
        }
        Plan::InWorkers => true,
        Plan::Nowhere => false,
    };
    let gc = py.import("gc")?;
    // Objects that nobody needs must not hold sockets open, nor be copied.
    gc.call_method0("collect")?;
    if !is_copyable(py, &start, &watch)? {
        watch.end_children();
        return Ok(End::Exit(WorkerExit::CannotPreload));
    }
    // It holds a descriptor, and the import system.
    drop(watch);
    setup::flush_streams(py)?;
    // What stays is kept out of the workers' collections, which would otherwise write to, and so copy, every page of it.
    gc.call_method0("freeze")?;
    return_free_memory();
    tell(&start, &ToMaster::Loaded);
    serve_forks(py, start, callables, warm_up)
}

/// Who makes the requests of `--warm-up`.
enum Plan {
    Here,
    /// Each after it was forked, before it serves.
    InWorkers,
    Nowhere,
}

/// Has a copy try the requests of `--warm-up` first: they may start what can't be copied, or never end.
fn plan(py: Python<'_>, start: &WorkerStart, callables: &[Py<PyAny>], watch: &Watch) -> PyResult<Plan> {
    let Some(python) = &start.config.python else { return Ok(Plan::Nowhere) };
    // What can't be copied as it is can't be tried in a copy; nor is there anything to find out if it is copied anyway.
    if python.warm_up.is_empty() || python.preload == Preload::Always || !watch.reasons(py)?.is_empty() {
        return Ok(if python.preload == Preload::Always { Plan::Here } else { Plan::Nowhere });
    }
    setup::flush_streams(py)?;
    let attempt = || {
        fork_hooks::after_in_child(py);
        watch.go_on_in_copy();
        log::set_max_level(log::LevelFilter::Off);
        obstacles_of_warm_up(py, start, callables, watch).unwrap_or_else(|error| error.to_string())
    };
    fork_hooks::before(py);
    // SAFETY: as for `fork` below.
    let answer = unsafe { try_in_copy(warm_up::longest(python), attempt) };
    fork_hooks::after_in_parent(py);
    match answer?.as_deref() {
        Some("") => Ok(Plan::Here),
        Some(obstacles) => {
            log::warn!(
                "--warm-up is left to each worker, because a copy of what it leaves behind would not work:\n{obstacles}"
            );
            Ok(Plan::InWorkers)
        }
        None => {
            log::warn!(
                "--warm-up is left out: a process that has tried it has died, or did not come to an end"
            );
            Ok(Plan::Nowhere)
        }
    }
}

/// In a copy: what is there after the requests and was not before, a line each. Hooks that run in each copy may have
/// started something, too.
fn obstacles_of_warm_up(
    py: Python<'_>,
    start: &WorkerStart,
    callables: &[Py<PyAny>],
    watch: &Watch,
) -> PyResult<String> {
    let before = watch.reasons(py)?;
    warm_up::run(py, &start.config, callables, |request| watch.warms_up(&request.given));
    py.import("gc")?.call_method0("collect")?;
    let reasons = watch.reasons(py)?;
    watch.end_children();
    let new: Vec<String> = reasons.into_iter().filter(|reason| !before.contains(reason)).collect();
    Ok(new.join("\n"))
}

fn is_copyable(py: Python<'_>, start: &WorkerStart, watch: &Watch) -> PyResult<bool> {
    let mut reasons = watch.reasons(py)?;
    let preload = start.config.python.as_ref().map_or(Preload::Auto, |python| python.preload);
    match preload {
        _ if reasons.is_empty() => Ok(true),
        Preload::Always => {
            let locks = fork_safety::held_locks(py)?;
            reasons
                .extend(locks.into_iter().map(|lock| format!("{lock} is held, and stays so in each worker")));
            log::warn!(
                "the loaded application is copied, as --preload always says, although a copy may not work:\n{}",
                reasons.join("\n")
            );
            Ok(true)
        }
        Preload::Auto | Preload::Never => {
            tell(start, &ToMaster::CannotPreload { reasons });
            Ok(false)
        }
    }
}

fn serve_forks(
    py: Python<'_>,
    mut start: WorkerStart,
    callables: Vec<Py<PyAny>>,
    warm_up: bool,
) -> PyResult<End> {
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
                        return Ok(End::Worker { start, callables, warm_up });
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        tell(&start, &ToMaster::ForkFailed { slot, generation, reason });
                    }
                }
            }
            ToProcess::AccessLog => start.access_log = descriptors.pop(),
            ToProcess::Drain { .. } | ToProcess::Stop => return Ok(End::Exit(WorkerExit::Done)),
            // Templates are not asked.
            ToProcess::Ping => {}
            ToProcess::Start { .. } => log::error!("a second start for one template"),
        }
    }
}

/// The one place where a process with CPython in it forks.
fn fork(py: Python<'_>) -> std::io::Result<Forked> {
    fork_hooks::before(py);
    // SAFETY: `fork_safety` has found no other thread but such as see to a fork themselves, or the operator answers for
    // those that it found. The hook before holds the interpreter's own locks across the fork.
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
