//! `wsgi.errors`: what an application prints there goes to the log, a line at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::report::char_boundary;

/// Target of the records.
const TARGET: &str = "wsgi.errors";

/// A line longer than this is logged in pieces.
const MAX_LINE_BYTES: usize = 16 * 1024;

#[pyclass(frozen, module = "_forkhorn")]
#[derive(Default)]
pub struct ErrorStream {
    /// The beginning of a line that has not ended yet.
    partial: Mutex<String>,
}

#[pymethods]
impl ErrorStream {
    fn write(&self, text: &Bound<'_, PyString>) -> PyResult<usize> {
        let length = text.len()?;
        // Lone surrogates have no UTF-8 form; to_string_lossy replaces them.
        self.push(&text.to_string_lossy());
        Ok(length)
    }

    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.cast::<PyString>()?)?;
        }
        Ok(())
    }

    /// Logs a line that has not ended yet as it is.
    pub fn flush(&self) {
        let mut partial = self.partial();
        if !partial.is_empty() {
            emit(&std::mem::take(&mut *partial));
        }
    }
}

impl ErrorStream {
    fn push(&self, text: &str) {
        let mut partial = self.partial();
        for piece in text.split_inclusive('\n') {
            let mut rest = piece.strip_suffix('\n').unwrap_or(piece);
            while partial.len() + rest.len() > MAX_LINE_BYTES {
                let room = char_boundary(rest, MAX_LINE_BYTES.saturating_sub(partial.len()));
                partial.push_str(&rest[..room]);
                rest = &rest[room..];
                emit(&std::mem::take(&mut *partial));
            }
            partial.push_str(rest);
            if piece.ends_with('\n') {
                emit(&std::mem::take(&mut *partial));
            }
        }
    }

    fn partial(&self) -> MutexGuard<'_, String> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn emit(line: &str) {
    log::error!(target: TARGET, "{}", line.trim_end_matches('\r'));
}
