//! `wsgi.file_wrapper` (PEP 3333 "Optional Platform-Specific File Handling"): a file that the worker may send without
//! Python, and an iterable for everything else.

use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::cpython::FREE_THREADED;

#[pyclass(frozen, module = "_forkhorn")]
pub struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    block_size: isize,
    iterated: AtomicBool,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Py<PyAny>, blksize: isize) -> PyResult<Self> {
        if blksize == 0 {
            return Err(PyValueError::new_err("a block size of 0 would end the response at once"));
        }
        Ok(FileWrapper { filelike, block_size: blksize, iterated: AtomicBool::new(false) })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.iterated.store(true, Ordering::Relaxed);
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.block_size,))?;
        Ok(block.is_truthy()?.then_some(block))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}

/// The bytes of a regular file that are left to be read.
pub struct RegularFile {
    pub file: Arc<File>,
    pub offset: u64,
    pub length: u64,
}

impl FileWrapper {
    /// The file below, if sending its bytes is the same as iterating. `None`: iterate.
    pub fn regular_file(&self, py: Python<'_>) -> Option<RegularFile> {
        if self.iterated.load(Ordering::Relaxed) {
            return None;
        }
        let found = find_regular_file(self.filelike.bind(py));
        // What a file-like object raises while it is asked speaks against sending it without Python, no more.
        found.ok().flatten()
    }
}

fn find_regular_file(filelike: &Bound<'_, PyAny>) -> PyResult<Option<RegularFile>> {
    let py = filelike.py();
    let Some(stream) = plain_stream(filelike)? else { return Ok(None) };
    if stream.getattr(intern!(py, "writable"))?.call0()?.is_truthy()? {
        stream.call_method0(intern!(py, "flush"))?;
    }
    let offset: u64 = stream.call_method0(intern!(py, "tell"))?.extract()?;
    let descriptor: RawFd = stream.call_method0(intern!(py, "fileno"))?.extract()?;
    if descriptor < 0 {
        return Ok(None);
    }
    // SAFETY: the stream object is alive and said that the descriptor is its own; nothing runs in between that could
    // close it, as this thread holds the interpreter's lock. Without that lock, what was copied is only looked at below
    // if the stream is still open, and so was meanwhile.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let file = File::from(borrowed.try_clone_to_owned()?);
    if FREE_THREADED && stream.call_method0(intern!(py, "fileno"))?.extract::<RawFd>()? != descriptor {
        return Ok(None);
    }
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let length = metadata.len().saturating_sub(offset);
    Ok(Some(RegularFile { file: Arc::new(file), offset, length }))
}

/// The stream itself if its bytes are those of its descriptor.
///
/// Having `fileno` is not enough: gzip.GzipFile answers with the descriptor of the compressed file. So only the very
/// types that open() returns for binary modes count, and tempfile's wrappers around them.
fn plain_stream<'py>(filelike: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = filelike.py();
    let mut stream = filelike.clone();
    if stream.get_type().is(tempfile_wrapper(py)?) {
        stream = stream.getattr(intern!(py, "file"))?;
    }
    if is_exactly(&stream, &FILE_IO, "FileIO")? {
        return Ok(Some(stream));
    }
    if is_exactly(&stream, &BUFFERED_READER, "BufferedReader")?
        || is_exactly(&stream, &BUFFERED_RANDOM, "BufferedRandom")?
    {
        let raw = stream.getattr(intern!(py, "raw"))?;
        return Ok(is_exactly(&raw, &FILE_IO, "FileIO")?.then_some(stream));
    }
    Ok(None)
}

static FILE_IO: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_READER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_RANDOM: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn is_exactly(object: &Bound<'_, PyAny>, cell: &PyOnceLock<Py<PyType>>, name: &str) -> PyResult<bool> {
    Ok(object.get_type().is(cell.import(object.py(), "io", name)?))
}

fn tempfile_wrapper(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static WRAPPER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    WRAPPER.import(py, "tempfile", "_TemporaryFileWrapper")
}
