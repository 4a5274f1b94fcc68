//! Requests of `--warm-up`: made inside, of the loaded applications, before anybody else can make one. What an application
//! loads only with its first request is then there, and is part of what workers are copied from.
//!
//! The way in is that of any request: the head is parsed, routed by the mounts, and becomes an environ. The answer
//! leads nowhere. Nothing that goes wrong here keeps an application from being served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pyo3::create_exception;
use pyo3::exceptions::{PyAssertionError, PyBaseException, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyString};

use forkhorn::config::{Config, PythonConfig, WarmUp};
use forkhorn::gateway::{Endpoint, Gateway, Peer, Request, Route};
use forkhorn::protocol::{Event, RequestHead, http1};
use forkhorn::worker::Call;

use crate::application;
use crate::environ::Environs;
use crate::error_stream::ErrorStream;
use crate::input::Input;
use crate::iterable;
use crate::report;
use crate::start_response::parse_status;

create_exception!(
    _forkhorn,
    WarmUpTimeout,
    PyBaseException,
    "A request of --warm-up has run for longer than --warm-up-timeout."
);

/// Makes all of them, in their order; `begin` is told of each before.
pub fn run(py: Python<'_>, config: &Config, callables: &[Py<PyAny>], begin: impl Fn(&WarmUp)) {
    let Some(python) = &config.python else { return };
    for warm_up in &python.warm_up {
        begin(warm_up);
        let start = Instant::now();
        match one(py, config, callables, warm_up) {
            Ok(Answer { status, bytes }) => {
                let milliseconds = start.elapsed().as_millis();
                let level = if status < 400 { log::Level::Info } else { log::Level::Warn };
                log::log!(level, "--warm-up {}: {status}, {bytes} bytes in {milliseconds} ms", warm_up.given);
            }
            Err(why) => log::warn!("--warm-up {}: {why}", warm_up.given),
        }
    }
}

/// How long all of them may take, with some time for those that have to be told twice. `None`: for ever.
pub fn longest(python: &PythonConfig) -> Option<Duration> {
    const MARGIN: Duration = Duration::from_secs(1);
    let count = u32::try_from(python.warm_up.len()).unwrap_or(u32::MAX);
    Some(python.warm_up_timeout?.saturating_mul(count).saturating_mul(2).saturating_add(MARGIN))
}

struct Answer {
    status: u16,
    bytes: u64,
}

fn one(py: Python<'_>, config: &Config, callables: &[Py<PyAny>], warm_up: &WarmUp) -> Result<Answer, String> {
    let head = head(config, warm_up)?;
    let mut config = config.clone();
    if let Some(scheme) = &warm_up.scheme {
        config.url_scheme.clone_from(scheme);
    }
    let mut request = Request::default();
    let endpoint = Endpoint::new(Peer::Unix, None);
    let route = Gateway::new(&config)
        .route(&head, &endpoint, &mut request.meta)
        .map_err(|refusal| refusal.to_string())?;
    let index = match route {
        Route::Application(index) => index,
        Route::Cgi(_) | Route::Static(_) => usize::MAX,
    };
    let application = callables.get(index).ok_or("no application is mounted there")?;
    let made = Call { request: &request, application: index, multiprocess: config.processes.workers.max > 1 };
    let timeout = config.python.as_ref().and_then(|python| python.warm_up_timeout);
    call(py, &config, application.bind(py), &made, timeout).map_err(|error| {
        let what = match (error.is_instance_of::<WarmUpTimeout>(py), timeout) {
            (true, Some(timeout)) => format!("there was no answer within {} s", timeout.as_secs_f64()),
            _ => "the application raised an exception".to_owned(),
        };
        report::log_exception(py, &request.meta, &format!("{what} (--warm-up)"), &error);
        format!("{what}; what it was to load may not be loaded yet")
    })
}

/// As a client would send it.
fn head(config: &Config, warm_up: &WarmUp) -> Result<RequestHead, String> {
    let WarmUp { host, target, .. } = warm_up;
    let agent = concat!("forkhorn/", env!("CARGO_PKG_VERSION"), " (warm-up)");
    let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n");
    let now = Instant::now();
    let mut connection = http1::Connection::new(Arc::new(config.connection_limits()), now);
    connection.receive(text.as_bytes(), now);
    match connection.poll_event() {
        Ok(Some(Event::Request { head, .. })) => Ok(head),
        Ok(Some(Event::Reject { error, .. })) | Err(error) => Err(error.to_string()),
        Ok(_) => Err("it is no request".to_owned()),
    }
}

fn call(
    py: Python<'_>,
    config: &Config,
    application: &Bound<'_, PyAny>,
    made: &Call<'_>,
    timeout: Option<Duration>,
) -> PyResult<Answer> {
    let errors = Py::new(py, ErrorStream::default())?;
    let mut environs = Environs::new(py, application::constants(py, config, &errors, false)?)?;
    environs.set_input(py, &Py::new(py, Input::new())?)?;
    let sink = Bound::new(py, Sink::default())?;
    environs.set_client_gone(py, &sink.getattr(intern!(py, "client_gone"))?.unbind())?;
    let environ = environs.make(py, made)?;
    environ.set_item(intern!(py, "forkhorn.warm_up"), true)?;
    let start_response = sink.getattr(intern!(py, "start_response"))?;
    let alarm = timeout.map(|timeout| Alarm::set(py, timeout)).transpose()?;
    let outcome = application.call1((environ, start_response)).and_then(|blocks| {
        let sent = discard(sink.get(), &blocks);
        iterable::close(&blocks).and(sent)
    });
    if let Some(alarm) = alarm {
        alarm.unset(py)?;
    }
    errors.get().flush();
    outcome?;
    match sink.get().status.load(Relaxed) {
        0 => Err(PyAssertionError::new_err("the application ended without calling start_response")),
        status => Ok(Answer { status, bytes: sink.get().bytes.load(Relaxed) }),
    }
}

/// Generators run only if somebody asks for what they make.
fn discard(sink: &Sink, blocks: &Bound<'_, PyAny>) -> PyResult<()> {
    for block in blocks.try_iter()? {
        sink.take(&block?)?;
    }
    Ok(())
}

/// `start_response`, the `write` callable that it returns, and `forkhorn.client_gone`.
#[pyclass(frozen, module = "_forkhorn")]
#[derive(Default)]
struct Sink {
    /// 0 before start_response.
    status: AtomicU16,
    bytes: AtomicU64,
}

impl Sink {
    fn take(&self, block: &Bound<'_, PyAny>) -> PyResult<()> {
        let block =
            block.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("a block of the body must be bytes"))?;
        self.bytes.fetch_add(block.as_bytes().len() as u64, Relaxed);
        Ok(())
    }
}

#[pymethods]
impl Sink {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn start_response<'py>(
        slf: Bound<'py, Self>,
        status: &Bound<'py, PyString>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let _ = (headers, exc_info);
        let (code, _) = parse_status(status.to_str()?)?;
        slf.get().status.store(code, Relaxed);
        Ok(slf)
    }

    /// There is none that could go.
    fn client_gone(&self) -> bool {
        false
    }

    #[pyo3(signature = (data, /))]
    fn __call__(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.take(data)
    }
}

/// SIGALRM, whose handler raises [`WarmUpTimeout`] where the application is. A signal, because that also ends waiting for a
/// network; code that never comes back to the interpreter can't be ended like this, nor in any other way but with the process.
struct Alarm {
    is_set: Arc<AtomicBool>,
    handler: Py<PyAny>,
    previous: Py<PyAny>,
}

impl Alarm {
    /// An application that catches the exception meets it again, once a second.
    const AGAIN_SECONDS: f64 = 1.0;

    fn set(py: Python<'_>, timeout: Duration) -> PyResult<Self> {
        let is_set = Arc::new(AtomicBool::new(true));
        let seen = is_set.clone();
        let handler = PyCFunction::new_closure(py, None, None, move |_, _| match seen.load(Relaxed) {
            true => Err(WarmUpTimeout::new_err("--warm-up-timeout")),
            // It came just before the alarm was taken back.
            false => Ok(()),
        })?;
        let signal = py.import("signal")?;
        let number = signal.getattr("SIGALRM")?;
        let previous = signal.call_method1("signal", (&number, &handler))?.unbind();
        let timer = (signal.getattr("ITIMER_REAL")?, timeout.as_secs_f64(), Self::AGAIN_SECONDS);
        signal.call_method1("setitimer", timer)?;
        Ok(Alarm { is_set, handler: handler.into_any().unbind(), previous })
    }

    fn unset(self, py: Python<'_>) -> PyResult<()> {
        self.is_set.store(false, Relaxed);
        let signal = py.import("signal")?;
        signal.call_method1("setitimer", (signal.getattr("ITIMER_REAL")?, 0.0))?;
        // One that has come is handled while its handler still does nothing.
        py.check_signals()?;
        let number = signal.getattr("SIGALRM")?;
        // The application may have taken the signal for itself. A handler that was not set from Python is None.
        let is_ours = signal.call_method1("getsignal", (&number,))?.is(&self.handler);
        if is_ours && !self.previous.is_none(py) {
            signal.call_method1("signal", (number, self.previous))?;
        }
        Ok(())
    }
}
