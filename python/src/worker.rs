//! A worker: the event loop of the library on one or more Python threads.

use std::sync::{Arc, OnceLock};

use forkhorn::cgi_program::Program;
use forkhorn::process::{WorkerExit, WorkerStart};
use forkhorn::worker::Worker;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use crate::application::{ApplicationThread, Applications};
use crate::report;
use crate::signals::{self, Wakeup};
use crate::stacks::Stacks;

/// Serves until the worker ends, and returns the exit status. The interpreter then ends as it always does: threads are
/// joined, atexit handlers run.
pub fn run(py: Python<'_>, start: WorkerStart, callables: Vec<Py<PyAny>>) -> PyResult<i32> {
    let (worker, applications, wakeup) = prepare(py, start, callables)?;
    match applications.config.processes.threads {
        0 | 1 => {
            let main_thread = ApplicationThread::new(py, applications)?;
            worker.watch_signals(wakeup.reading().try_clone_to_owned()?)?;
            worker.serve(&main_thread);
        }
        threads => serve_on_threads(py, threads, &worker, &applications, &wakeup)?,
    }
    warn_of_threads(py)?;
    Ok(worker.exit_code())
}

/// Answers the one request of a CGI program on the main thread, and returns the exit status.
pub fn run_once(
    py: Python<'_>,
    start: WorkerStart,
    callables: Vec<Py<PyAny>>,
    program: Program,
) -> PyResult<i32> {
    let (worker, applications, wakeup) = prepare(py, start, callables)?;
    let thread = ApplicationThread::for_one_request(py, applications)?;
    worker.watch_signals(wakeup.reading().try_clone_to_owned()?)?;
    program.serve(&worker)?;
    worker.serve(&thread);
    Ok(worker.exit_code())
}

fn prepare(
    py: Python<'_>,
    start: WorkerStart,
    callables: Vec<Py<PyAny>>,
) -> PyResult<(Arc<Worker>, Arc<Applications>, Wakeup)> {
    let (config, stacks) = (start.config.clone(), Stacks::register(py)?);
    let applications = Arc::new(Applications { callables, config, stacks });
    let wakeup = Wakeup::install(py)?;
    let stacks = applications.clone();
    let worker = Worker::new(start, Box::new(move || stacks.stacks.dump()))?;
    Ok((Arc::new(worker), applications, wakeup))
}

/// The main thread serves no requests: whatever the others do, it is there for signal handlers.
fn serve_on_threads(
    py: Python<'_>,
    threads: u16,
    worker: &Arc<Worker>,
    applications: &Arc<Applications>,
    wakeup: &Wakeup,
) -> PyResult<()> {
    let mut started = Vec::new();
    // A handler's exception must not meet this thread while it is in Python to start another one: no request, so no
    // word to the master either, before it waits below.
    let all_started = Arc::new(OnceLock::new());
    for number in 1..=threads {
        let serve = {
            let (worker, applications) = (worker.clone(), applications.clone());
            let (main_thread, all_started) = (wakeup.waker()?, all_started.clone());
            move |py: Python<'_>| {
                py.detach(|| all_started.wait());
                if !worker.has_ended() {
                    serve_on_this_thread(py, &worker, applications.clone());
                }
                main_thread.wake();
            }
        };
        match start_thread(py, number, serve) {
            Ok(thread) => started.push(thread),
            Err(error) => give_up(py, worker, &error),
        }
    }
    let _ = all_started.set(());
    while !worker.has_ended() {
        wakeup.wait(py, None);
        if !signals::run_handlers(py) {
            worker.end(WorkerExit::Done);
        }
    }
    for thread in started {
        thread.call_method0("join")?;
    }
    Ok(())
}

fn serve_on_this_thread(py: Python<'_>, worker: &Worker, applications: Arc<Applications>) {
    match ApplicationThread::new(py, applications) {
        Ok(thread) => worker.serve(&thread),
        Err(error) => give_up(py, worker, &error),
    }
}

fn give_up(py: Python<'_>, worker: &Worker, error: &PyErr) {
    log::error!("an application thread could not start\n{}", report::traceback(py, error));
    worker.end(WorkerExit::Failed);
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
    serve: impl Fn(Python<'_>) + Send + Sync + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(py);
    options.set_item(
        "target",
        PyCFunction::new_closure(py, None, None, move |arguments, _| serve(arguments.py()))?,
    )?;
    options.set_item("name", format!("forkhorn-{number}"))?;
    let thread = py.import("threading")?.getattr("Thread")?.call((), Some(&options))?;
    thread.call_method0("start")?;
    Ok(thread)
}
