//! `wsgi.input`: the request's body, from memory or from the file that it was spooled to (PEP 3333 "Input and Error
//! Streams").

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use forkhorn::gateway::Body;

/// A read from a file at least this long leaves the interpreter to other threads meanwhile.
const DETACH_BYTES: usize = 64 * 1024;

/// How much of a spooled body is looked at for the end of a line at once.
const CHUNK_BYTES: usize = 16 * 1024;

#[pyclass(frozen, module = "_forkhorn")]
pub struct Input {
    reader: Mutex<Reader>,
}

impl Input {
    pub fn new() -> Self {
        Input { reader: Mutex::new(Reader::default()) }
    }

    /// Begins a request.
    pub fn reset(&self, body: &Body) {
        *self.reader() = Reader { body: body.clone(), ..Reader::default() };
    }

    /// Ends a request: the body's memory, or its file, is given back.
    pub fn clear(&self) {
        let mut reader = self.reader();
        if !matches!(reader.body, Body::Empty) {
            *reader = Reader::default();
        }
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Input {
    /// Reads up to `size` bytes, or all that is left.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let mut reader = self.lock(py);
        let length = reader.remaining().min(limit(size));
        reader.take(py, length)
    }

    /// Reads up to the end of a line, or up to `size` bytes of it.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.lock(py).line(py, limit(size))
    }

    /// The lines that are left; if `hint` is given, no more of them once they hold so many bytes.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        // io.IOBase.readlines: a hint of 0 or less is no hint.
        let hint = hint.filter(|&hint| hint > 0).map_or(u64::MAX, |hint| hint as u64);
        let mut reader = self.lock(py);
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < hint {
            let line = reader.line(py, u64::MAX)?;
            let length = line.as_bytes().len() as u64;
            if length == 0 {
                break;
            }
            total += length;
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.lock(py).line(py, u64::MAX)?;
        Ok((!line.as_bytes().is_empty()).then_some(line))
    }

    /// Does nothing: the body belongs to the server. Wrappers call it when they are collected.
    fn close(&self) {}
}

impl Input {
    /// The lock is held while a file is read without the interpreter's lock; a second thread must then not wait for it
    /// with the interpreter's lock held.
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Reader> {
        loop {
            match self.reader.try_lock() {
                Ok(reader) => return reader,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => py.detach(|| drop(self.reader())),
            }
        }
    }
}

/// `None` and negative numbers are no limit.
fn limit(size: Option<isize>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Reader {
    body: Body,
    position: u64,
    /// Part of a spooled body that was read to find the ends of lines.
    chunk: Vec<u8>,
    /// Where in the body `chunk` begins.
    chunk_start: u64,
}

impl Reader {
    fn remaining(&self) -> u64 {
        self.body.len().saturating_sub(self.position)
    }

    /// The next `length` bytes, which must be there.
    fn take<'py>(&mut self, py: Python<'py>, length: u64) -> PyResult<Bound<'py, PyBytes>> {
        let start = self.position;
        let bytes = match &self.body {
            Body::Empty => PyBytes::new(py, b""),
            Body::Memory(bytes) => PyBytes::new(py, slice(bytes, start, length)),
            Body::File { file, .. } => {
                let length = usize::try_from(length)?;
                let buffered = slice(&self.chunk, start.wrapping_sub(self.chunk_start), length as u64);
                if buffered.len() == length {
                    PyBytes::new(py, buffered)
                } else {
                    PyBytes::new_with(py, length, |buffer| read_file(py, file, buffer, start))?
                }
            }
        };
        self.position = start + length;
        Ok(bytes)
    }

    fn line<'py>(&mut self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        let most = self.remaining().min(limit);
        let length = match &self.body {
            Body::Empty => 0,
            Body::Memory(bytes) => line_length(slice(bytes, self.position, most)),
            Body::File { .. } => self.line_length_in_file(py, most)?,
        };
        self.take(py, length)
    }

    /// Length of the next line, end included, but at most `most`.
    fn line_length_in_file(&mut self, py: Python<'_>, most: u64) -> PyResult<u64> {
        let mut length = 0;
        while length < most {
            let part = self.chunk_at(py, self.position + length)?;
            let part = slice(part, 0, most - length);
            let found = line_length(part);
            length += found;
            if part.get(..found as usize).is_some_and(|part| part.ends_with(b"\n")) {
                break;
            }
        }
        Ok(length)
    }

    /// What is known of a spooled body from `position` on; not empty, as `position` lies within the body.
    fn chunk_at(&mut self, py: Python<'_>, position: u64) -> PyResult<&[u8]> {
        let chunk_end = self.chunk_start + self.chunk.len() as u64;
        if !(self.chunk_start..chunk_end).contains(&position)
            && let Body::File { file, length } = &self.body
        {
            let rest = usize::try_from(length.saturating_sub(position)).unwrap_or(usize::MAX);
            self.chunk.resize(rest.min(CHUNK_BYTES), 0);
            self.chunk_start = position;
            if let Err(error) = read_file(py, file, &mut self.chunk, position) {
                self.chunk.clear();
                return Err(error);
            }
        }
        Ok(slice(&self.chunk, position - self.chunk_start, u64::MAX))
    }
}

/// The part of `bytes` from `start` on, at most `length` long, as far as it exists.
fn slice(bytes: &[u8], start: u64, length: u64) -> &[u8] {
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
    let rest = &bytes[start..];
    &rest[..usize::try_from(length).unwrap_or(usize::MAX).min(rest.len())]
}

fn line_length(bytes: &[u8]) -> u64 {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(index) => index as u64 + 1,
        None => bytes.len() as u64,
    }
}

fn read_file(py: Python<'_>, file: &File, buffer: &mut [u8], position: u64) -> PyResult<()> {
    let result = if buffer.len() < DETACH_BYTES {
        file.read_exact_at(buffer, position)
    } else {
        py.detach(|| file.read_exact_at(buffer, position))
    };
    result.map_err(|error: io::Error| {
        PyOSError::new_err(format!("cannot read the spooled request body: {error}"))
    })
}
