//! Python exceptions as text for the log, whose lines the logger marks and escapes.

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PySystemExit};
use pyo3::prelude::*;

use forkhorn::gateway::{KnownName, MetaVariables};
use forkhorn::printable::printable;

/// Where records about what applications do wrong go.
pub const TARGET: &str = "forkhorn::application";

/// Longest report in bytes: a recursion's traceback, or a value that is part of a message, can be huge.
const MAX_REPORT_BYTES: usize = 64 * 1024;

/// Longest part of a request that stands before a report.
const MAX_PART_BYTES: usize = 1024;

/// Logs that `what` (a sentence without its period) ended in an exception, with its traceback.
pub fn log_exception(py: Python<'_>, meta: &MetaVariables, what: &str, error: &PyErr) {
    log::error!(target: TARGET, "{}: {what}\n{}", request_line(meta), traceback(py, error));
}

/// Logs a fault that no exception tells of.
pub fn log_fault(meta: &MetaVariables, what: &str) {
    log::error!(target: TARGET, "{}: {what}", request_line(meta));
}

/// The whole traceback, or its end: there it says what went wrong.
pub fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let text = format_exception(py, error).unwrap_or_else(|_| short(py, error));
    match text.len().checked_sub(MAX_REPORT_BYTES) {
        None | Some(0) => text,
        Some(from) => format!("…{}", &text[char_boundary(&text, from)..]),
    }
}

/// The last boundary between characters that is not after `index`.
pub fn char_boundary(text: &str, index: usize) -> usize {
    (0..=index).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// `Type: message` in one line.
pub fn short(py: Python<'_>, error: &PyErr) -> String {
    let name = error.get_type(py).qualname().map(|name| name.to_string()).unwrap_or_default();
    match error.value(py).str() {
        Ok(message) if message.is_empty().unwrap_or(true) => name,
        Ok(message) => {
            format!("{name}: {}", printable(message.to_string_lossy().as_bytes(), MAX_REPORT_BYTES))
        }
        Err(_) => name,
    }
}

/// Exceptions after which no further request should meet this process: memory ran out somewhere, or the application
/// asked for the end.
pub fn ends_worker(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyMemoryError>(py)
        || error.is_instance_of::<PySystemExit>(py)
        || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

fn format_exception(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    let lines = py
        .import("traceback")?
        .call_method1("format_exception", (error.get_type(py), error.value(py), error.traceback(py)))?;
    let mut text = String::new();
    for line in lines.try_iter()? {
        text.push_str(&line?.str()?.to_string_lossy());
    }
    Ok(text)
}

fn request_line(meta: &MetaVariables) -> String {
    let known = |name| printable(meta.known(name).unwrap_or_default(), MAX_PART_BYTES);
    let (method, name, info) =
        (known(KnownName::RequestMethod), known(KnownName::ScriptName), known(KnownName::PathInfo));
    format!("{method} {name}{info}")
}
