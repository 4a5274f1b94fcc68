//! The application side of a worker: one [`ApplicationThread`] for each thread that answers requests.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use forkhorn::config::Config;
use forkhorn::gateway::MetaVariables;
use forkhorn::worker::{Application, Call, Response};

use crate::block;
use crate::cpython;
use crate::environ::Environs;
use crate::error_stream::ErrorStream;
use crate::file_wrapper::FileWrapper;
use crate::input::Input;
use crate::iterable;
use crate::report;
use crate::signals;
use crate::stacks::Stacks;
use crate::start_response::Exchange;

/// What all application threads of a worker share.
pub struct Applications {
    /// In the order of `config.applications`.
    pub callables: Vec<Py<PyAny>>,
    pub config: Arc<Config>,
    pub stacks: Stacks,
}

/// Calls the applications on one thread, one request at a time.
pub struct ApplicationThread {
    applications: Arc<Applications>,
    /// Only this thread locks it.
    state: Mutex<State>,
}

/// Objects that are handed to the application, and used again when it has kept none of them.
struct State {
    environs: Environs,
    input: Py<Input>,
    errors: Py<ErrorStream>,
    exchange: Py<Exchange>,
    start_response: Py<PyAny>,
    client_gone: Py<PyAny>,
}

impl ApplicationThread {
    /// To be called on the thread itself.
    pub fn new(py: Python<'_>, applications: Arc<Applications>) -> PyResult<Self> {
        Self::with(py, applications, false)
    }

    /// The same for a process that answers one request and ends.
    pub fn for_one_request(py: Python<'_>, applications: Arc<Applications>) -> PyResult<Self> {
        Self::with(py, applications, true)
    }

    fn with(py: Python<'_>, applications: Arc<Applications>, run_once: bool) -> PyResult<Self> {
        applications.stacks.add_this_thread();
        let state = Mutex::new(State::new(py, &applications.config, run_once)?);
        Ok(ApplicationThread { applications, state })
    }
}

impl Application for ApplicationThread {
    fn respond(&self, call: Call<'_>, response: &mut Response<'_>) {
        Python::attach(|py| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let meta = &call.request.meta;
            let Some(application) = self.applications.callables.get(call.application) else {
                report::log_fault(meta, "there is no such application");
                return response.fail();
            };
            if let Err(error) = state.respond(py, application.bind(py), &call, response) {
                report::log_exception(py, meta, "the objects of the request could not be made", &error);
                response.fail();
                response.retire_worker("out of memory");
            }
            drop(state);
            block::release(py);
        });
    }

    fn detached<R: Send>(&self, wait: impl FnOnce() -> R + Send) -> R {
        Python::attach(|py| py.detach(wait))
    }

    fn on_signal(&self) -> bool {
        Python::attach(signals::run_handlers)
    }
}

impl State {
    fn new(py: Python<'_>, config: &Config, run_once: bool) -> PyResult<Self> {
        let errors = Py::new(py, ErrorStream::default())?;
        let input = Py::new(py, Input::new())?;
        let mut environs = Environs::new(py, constants(py, config, &errors, run_once)?)?;
        environs.set_input(py, &input)?;
        let (exchange, start_response, client_gone) = new_exchange(py)?;
        environs.set_client_gone(py, &client_gone)?;
        Ok(State { environs, input, errors, exchange, start_response, client_gone })
    }

    /// An error here is none of the application's: its own are logged and answered below.
    fn respond(
        &mut self,
        py: Python<'_>,
        application: &Bound<'_, PyAny>,
        call: &Call<'_>,
        response: &mut Response<'_>,
    ) -> PyResult<()> {
        self.input.get().reset(&call.request.body);
        let environ = self.environs.make(py, call)?;
        let exchange = self.exchange.clone_ref(py);
        let outcome = exchange.get().lend(response, || {
            run(exchange.get(), application, &environ, self.start_response.bind(py), &call.request.meta)
        });
        drop(environ);
        drop(exchange);
        self.errors.get().flush();
        match outcome {
            Outcome::Finished => {}
            Outcome::Failed => response.fail(),
            Outcome::Fatal(reason) => {
                response.fail();
                response.retire_worker(&reason);
            }
        }
        self.renew(py)
    }

    /// Replaces what the application has kept: an object in its hands must never serve a later request.
    fn renew(&mut self, py: Python<'_>) -> PyResult<()> {
        // This thread and the two bound methods hold one reference each; the second method is held like the input.
        if cpython::references(&self.exchange) != 3
            || cpython::references(&self.start_response) != 1
            || cpython::references(&self.client_gone) != 3
        {
            (self.exchange, self.start_response, self.client_gone) = new_exchange(py)?;
            self.environs.set_client_gone(py, &self.client_gone)?;
        }
        // This thread, the constants and the template.
        if cpython::references(&self.input) == 3 {
            self.input.get().clear();
        } else {
            self.input = Py::new(py, Input::new())?;
            self.environs.set_input(py, &self.input)?;
        }
        Ok(())
    }
}

enum Outcome {
    Finished,
    Failed,
    /// The worker must not serve another request.
    Fatal(String),
}

/// One request: call, iterate, close. Exceptions of the application end here, in the log.
fn run(
    exchange: &Exchange,
    application: &Bound<'_, PyAny>,
    environ: &Bound<'_, PyDict>,
    start_response: &Bound<'_, PyAny>,
    meta: &MetaVariables,
) -> Outcome {
    let py = application.py();
    let iterable = match cpython::call_application(application, environ, start_response.as_borrowed()) {
        Ok(iterable) => iterable,
        Err(error) => return failed(py, meta, "the application raised an exception", &error),
    };
    let sent = match iterable::send(exchange, &iterable) {
        Ok(()) => Outcome::Finished,
        Err(error) => failed(py, meta, "the response could not be completed", &error),
    };
    match iterable::close(&iterable) {
        Ok(()) => sent,
        Err(error) => match failed(py, meta, "close() of the iterable raised an exception", &error) {
            Outcome::Fatal(reason) => Outcome::Fatal(reason),
            _ => sent,
        },
    }
}

fn failed(py: Python<'_>, meta: &MetaVariables, what: &str, error: &PyErr) -> Outcome {
    report::log_exception(py, meta, what, error);
    if report::ends_worker(py, error) { Outcome::Fatal(report::short(py, error)) } else { Outcome::Failed }
}

/// With its methods `start_response` and `client_gone`.
fn new_exchange(py: Python<'_>) -> PyResult<(Py<Exchange>, Py<PyAny>, Py<PyAny>)> {
    let exchange = Bound::new(py, Exchange::new())?;
    let start_response = exchange.getattr("start_response")?.unbind();
    let client_gone = exchange.getattr("client_gone")?.unbind();
    Ok((exchange.unbind(), start_response, client_gone))
}

/// The `wsgi.` variables that are the same for all requests.
pub fn constants<'py>(
    py: Python<'py>,
    config: &Config,
    errors: &Py<ErrorStream>,
    run_once: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let constants = PyDict::new(py);
    constants.set_item("wsgi.version", PyTuple::new(py, [1, 0])?)?;
    constants.set_item("wsgi.errors", errors)?;
    constants.set_item("wsgi.multithread", config.processes.threads > 1)?;
    constants.set_item("wsgi.run_once", run_once)?;
    constants.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
    constants.set_item("wsgi.input_terminated", true)?;
    Ok(constants)
}
