//! forkhorn's bridge to Python: an extension module on the stable ABI, loaded by the user's own interpreter. With the
//! feature `free-threaded`, the same for one free-threaded interpreter, in which several threads are in Python at once.
//!
//! The master starts `python3 -c … <this module>`, with code that calls [`main`]. What follows, and where:
//!
//! | step | module | job |
//! | --- | --- | --- |
//! | 1 | `setup` | makes the interpreter look as if it ran the application itself |
//! | 2 | `load` | imports the applications; an error becomes a report and one line of advice |
//! | | `warm_up` | has them answer the requests of `--warm-up` |
//! | 3 | `template`, `fork_safety` | a process that has loaded them and is copied into workers |
//! | 4 | `worker` | runs the event loop on one or more Python threads |
//! | 5 | `application` | one request: calls the application, sends what it returns, closes it |
//!
//! For step 5, PEP 3333's words are file names: `environ`, `input`, `error_stream` (`wsgi.errors`), `start_response`,
//! `iterable`, `file_wrapper`; `block` moves bytes on, `report` brings exceptions to the log, `stacks` tells where a
//! request hangs, `signals` has the application's handlers run. `cpython` holds what pyo3 has no safe form for.

#![allow(unsafe_code, reason = "the border to CPython's C API")]

#[cfg(all(Py_GIL_DISABLED, not(feature = "free-threaded")))]
compile_error!(
    "PyO3 has found a free-threaded interpreter: the bridge would crash all others. Build for it with scripts/build --python, \
     and for the others with PYO3_NO_PYTHON=1"
);
#[cfg(all(feature = "free-threaded", not(Py_GIL_DISABLED)))]
compile_error!(
    "the feature free-threaded is for a free-threaded interpreter: build for it with scripts/build --python"
);

mod application;
mod block;
mod cpython;
mod environ;
mod error_stream;
mod file_wrapper;
mod fork_safety;
mod input;
mod iterable;
mod known_fields;
mod load;
mod report;
mod setup;
mod signals;
mod stacks;
mod start_response;
mod template;
mod warm_up;
mod worker;

use forkhorn::cgi_program::Program;
use forkhorn::channel::Role;
use forkhorn::process::{WorkerExit, receive_start};
use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _forkhorn {
    #[pymodule_export]
    use super::cgi;
    #[pymodule_export]
    use super::main;
}

/// Becomes what the master's first message says, and returns the exit status of the process.
#[pyfunction]
fn main(py: Python<'_>) -> PyResult<i32> {
    let (role, start) = match receive_start() {
        Ok(start) => start,
        Err(error) => {
            eprintln!("forkhorn: {error}");
            return setup::leave(py, WorkerExit::NotStarted);
        }
    };
    setup::prepare(py, &start.config)?;
    match role {
        Role::Template { .. } => match template::run(py, start)? {
            template::End::Worker { start, callables, warm_up } => {
                if warm_up {
                    warm_up::run(py, &start.config, &callables, |_| {});
                }
                worker::run(py, *start, callables)
            }
            template::End::Exit(exit) => setup::leave(py, exit),
        },
        Role::Worker { .. } => match load::all(py, &start.config) {
            Ok(callables) => {
                warm_up::run(py, &start.config, &callables, |_| {});
                worker::run(py, start, callables)
            }
            Err(failure) => {
                failure.send(&start.channel);
                setup::leave(py, WorkerExit::LoadFailed)
            }
        },
    }
}

/// Answers the one request of a CGI program (`forkhorn cgi`), and returns the exit status of the process.
#[pyfunction]
fn cgi(py: Python<'_>, settings: &[u8]) -> PyResult<i32> {
    let (program, start) = match Program::take(settings) {
        Ok(taken) => taken,
        Err(error) => {
            eprintln!("forkhorn: {error}");
            return setup::leave(py, WorkerExit::NotStarted);
        }
    };
    setup::prepare(py, &program.config)?;
    match load::all(py, &program.config) {
        Ok(callables) => worker::run_once(py, start, callables, program),
        Err(failure) => {
            failure.log();
            program.refuse();
            Ok(WorkerExit::LoadFailed.code())
        }
    }
}
