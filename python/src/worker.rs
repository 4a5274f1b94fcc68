//! A worker: the event loop of the library on one or more Python threads.

use std::sync::Arc;

use forkhorn::config::Config;
use forkhorn::process::WorkerStart;
use forkhorn::worker::Worker;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use crate::application::{ApplicationThread, Applications};
use crate::report;
use crate::stacks::Stacks;

/// Serves until the worker ends, and returns the exit status. The interpreter then ends as it always does: threads are
/// joined, atexit handlers run.
pub fn run(py: Python<'_>, start: WorkerStart, callables: Vec<Py<PyAny>>) -> PyResult<i32> {
    let config = start.config.clone();
    let applications = Arc::new(Applications { callables });
    let main_thread = ApplicationThread::new(py, applications.clone(), &config)?;
    let stacks = Stacks::register(py)?;
    let worker = Arc::new(Worker::new(start, Box::new(move || stacks.dump()))?);
    let mut others = Vec::new();
    for number in 1..config.processes.threads {
        others.push(start_thread(py, number, worker.clone(), applications.clone(), config.clone())?);
    }
    worker.serve(&main_thread);
    for thread in others {
        thread.call_method0("join")?;
    }
    warn_of_threads(py)?;
    Ok(worker.exit_code())
}

/// The interpreter will wait for threads that are no daemons, for ever if need be: the log says for whom.
fn warn_of_threads(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?;
    for thread in threading.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        if !thread.is(&main) && !thread.getattr("daemon")?.is_truthy()? {
            let name = thread.getattr("name")?.to_string();
            log::warn!("the worker ends when the application's thread {name:?} does: it is no daemon thread");
        }
    }
    Ok(())
}

/// A `threading.Thread`, so that whatever asks for the current thread finds it, and names it in tracebacks.
fn start_thread<'py>(
    py: Python<'py>,
    number: u16,
    worker: Arc<Worker>,
    applications: Arc<Applications>,
    config: Arc<Config>,
) -> PyResult<Bound<'py, PyAny>> {
    let serve = PyCFunction::new_closure(py, None, None, move |arguments, _| {
        let py = arguments.py();
        match ApplicationThread::new(py, applications.clone(), &config) {
            Ok(thread) => worker.serve(&thread),
            Err(error) => {
                log::error!("an application thread could not start\n{}", report::traceback(py, &error));
            }
        }
    })?;
    let options = PyDict::new(py);
    options.set_item("target", serve)?;
    options.set_item("name", format!("forkhorn-{number}"))?;
    let thread = py.import("threading")?.getattr("Thread")?.call((), Some(&options))?;
    thread.call_method0("start")?;
    Ok(thread)
}
