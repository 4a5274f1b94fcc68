//! `start_response` and the `write` callable that it returns (PEP 3333 "The start_response() Callable").
//!
//! Both are one object, the [`Exchange`]: calling its method `start_response` begins a response, calling the object
//! itself writes, and its method `client_gone` is a variable of the environ. It reaches the worker's [`Response`] only while its request runs, and only on its own thread.

use std::borrow::Cow;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use forkhorn::protocol::{ResponseHead, is_field_value};
use forkhorn::worker::{Flow, Response};

use crate::block;
use crate::cpython;
use crate::known_fields::KnownFields;

#[pyclass(frozen, module = "_forkhorn")]
pub struct Exchange {
    /// The response of the request that runs; null between requests, and while Rust code uses it. Relaxed access is
    /// enough: only the thread `owner` ever looks at it.
    response: AtomicPtr<Response<'static>>,
    owner: ThreadId,
    /// start_response has been called.
    started: AtomicBool,
    /// Only `owner` locks it, while it has the response.
    known_fields: Mutex<KnownFields>,
}

impl Exchange {
    /// For the calling thread.
    pub fn new() -> Self {
        Exchange {
            response: AtomicPtr::new(ptr::null_mut()),
            owner: thread::current().id(),
            started: AtomicBool::new(false),
            known_fields: Mutex::default(),
        }
    }

    /// Lets the application reach `response` while `run` runs.
    pub fn lend<R>(&self, response: &mut Response<'_>, run: impl FnOnce() -> R) -> R {
        self.started.store(false, Relaxed);
        self.response.store(ptr::from_mut(response).cast(), Relaxed);
        let _end = End(self);
        run()
    }

    pub fn is_started(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// Runs `action` on the response of the request that runs. It must not call into Python: what runs there could
    /// find the response in use.
    pub fn with<R>(&self, action: impl FnOnce(&mut Response<'_>) -> R) -> PyResult<R> {
        if thread::current().id() != self.owner {
            return Err(PyRuntimeError::new_err("the response belongs to the thread that runs its request"));
        }
        let pointer = self.response.load(Relaxed);
        if pointer.is_null() {
            return Err(PyRuntimeError::new_err("the request of this start_response has ended"));
        }
        self.response.store(ptr::null_mut(), Relaxed);
        let _back = Back { exchange: self, pointer };
        // SAFETY: `lend` stored the pointer and takes it away before the borrow it was made from ends. Only this thread
        // comes here, and the null that has just been stored keeps it from coming twice, so the borrow is exclusive.
        Ok(action(unsafe { &mut *pointer }))
    }

    /// Writes a block of the body, and waits while the client reads slowly. Signal handlers run meanwhile.
    pub fn write_block(&self, block: &Bound<'_, PyBytes>) -> PyResult<Flow> {
        let mut flow = self.with(|response| block::write(response, block))?;
        while flow == Flow::Full {
            // SAFETY: the worker's wait knows nothing of Python.
            flow = self.with(|response| unsafe { cpython::detached(block.py(), || response.wait()) })?;
            block.py().check_signals()?;
        }
        block::release(block.py());
        Ok(flow)
    }

    fn fill_head(&self, status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) -> PyResult<()> {
        let (code, reason) = parse_status(status.to_str()?)?;
        self.with(|response| {
            let head = response.head();
            head.start(code, &reason);
            let mut known = self.known_fields.lock().unwrap_or_else(PoisonError::into_inner);
            let filled = push_fields(head, headers, &mut known);
            if filled.is_err() {
                head.clear();
            }
            filled
        })?
    }
}

#[pymethods]
impl Exchange {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn start_response<'py>(
        slf: Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let exchange = slf.get();
        if exchange.is_started() {
            let is_head_sent = exchange.with(|response| response.is_head_sent())?;
            match exc_info {
                Some(exc_info) if is_head_sent => return Err(reraised(exc_info)),
                Some(_) => {}
                None => {
                    return Err(PyAssertionError::new_err(
                        "start_response was called a second time, and without exc_info",
                    ));
                }
            }
        }
        let Ok(status) = status.cast::<PyString>() else {
            return Err(wrong_type("the status must be a str", status));
        };
        let Ok(headers) = headers.cast::<PyList>() else {
            return Err(wrong_type("the headers must be a list of (name, value) tuples", headers));
        };
        exchange.started.store(false, Relaxed);
        exchange.fill_head(status, headers)?;
        exchange.started.store(true, Relaxed);
        Ok(slf)
    }

    /// `environ['forkhorn.client_gone']`.
    fn client_gone(&self) -> PyResult<bool> {
        self.with(|response| response.is_client_gone())
    }

    /// The `write` callable.
    #[pyo3(signature = (data, /))]
    fn __call__(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(block) = data.cast::<PyBytes>() else {
            return Err(wrong_type("write takes a bytestring", data));
        };
        self.with(|_| ())?;
        if !self.is_started() {
            return Err(PyAssertionError::new_err("write was called before start_response"));
        }
        if block.as_bytes().is_empty() {
            return Ok(());
        }
        // An application in the middle of its writes can't be stopped; what it writes then leads nowhere.
        self.write_block(block).map(drop)
    }
}

/// Takes the response away from the application again, also when a panic passes.
struct End<'a>(&'a Exchange);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.response.store(ptr::null_mut(), Relaxed);
    }
}

/// Puts the response back after use.
struct Back<'a> {
    exchange: &'a Exchange,
    pointer: *mut Response<'static>,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.exchange.response.store(self.pointer, Relaxed);
    }
}

/// `NNN reason`: RFC 9110 §15 has statuses up to 599; those of 1xx are the server's to send.
pub fn parse_status(status: &str) -> PyResult<(u16, Cow<'_, [u8]>)> {
    if status == "200 OK" {
        return Ok((200, Cow::Borrowed(b"OK")));
    }
    let wrong = |why: &str| PyValueError::new_err(format!("the status {status:?} {why}"));
    let (code, reason) = status.split_at_checked(3).ok_or_else(|| wrong("has no three digits"))?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) || !(reason.is_empty() || reason.starts_with(' ')) {
        return Err(wrong("is not of the form '200 OK'"));
    }
    let code: u16 = code.parse()?;
    if !(200..=599).contains(&code) {
        return Err(wrong("is not a final status from 200 to 599"));
    }
    let reason = latin1(reason.trim_start()).ok_or_else(|| wrong("is not Latin-1"))?;
    if !is_field_value(&reason) {
        return Err(wrong("holds a control character"));
    }
    Ok((code, reason))
}

fn push_fields(
    head: &mut ResponseHead,
    headers: &Bound<'_, PyList>,
    known: &mut KnownFields,
) -> PyResult<()> {
    for item in headers.iter() {
        if let Some(field) = known.find(&item) {
            // An error has a better text below.
            if head.push_checked(field).is_ok() {
                continue;
            }
        }
        let Ok(pair) = item.cast::<PyTuple>() else {
            return Err(wrong_type("each header must be a tuple", &item));
        };
        if pair.len() != 2 {
            return Err(PyTypeError::new_err("each header must be a tuple of a name and a value"));
        }
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let (Ok(name), Ok(value)) = (name.cast::<PyString>(), value.cast::<PyString>()) else {
            return Err(PyTypeError::new_err("names and values of headers must be str"));
        };
        push_field(head, name.to_str()?, value.to_str()?)?;
        known.learn(pair, &name, &value);
    }
    Ok(())
}

fn push_field(head: &mut ResponseHead, name: &str, value: &str) -> PyResult<()> {
    let wrong = |why: &dyn std::fmt::Display| {
        PyValueError::new_err(format!("the header {name:?} with the value {value:?} can't be sent: {why}"))
    };
    let value_bytes = latin1(value).ok_or_else(|| wrong(&"it is not Latin-1"))?;
    head.push(name.as_bytes(), &value_bytes).map_err(|error| wrong(&error))
}

/// Native strings hold bytes as code points up to U+00FF (PEP 3333 "Unicode Issues").
fn latin1(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    text.chars().map(|character| u8::try_from(character).ok()).collect::<Option<Vec<u8>>>().map(Cow::Owned)
}

/// The exception of an `exc_info` tuple, with its traceback.
fn reraised(exc_info: &Bound<'_, PyAny>) -> PyErr {
    let raised = || -> PyResult<PyErr> {
        let value = exc_info.get_item(1)?;
        let value = value.call_method1("with_traceback", (exc_info.get_item(2)?,))?;
        Ok(PyErr::from_value(value))
    };
    raised().unwrap_or_else(|error| error)
}

fn wrong_type(what: &str, object: &Bound<'_, PyAny>) -> PyErr {
    let name = object.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    PyTypeError::new_err(format!("{what}, not {name}"))
}
