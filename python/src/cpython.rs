//! Calls of CPython's C API that pyo3 has no safe form for, and those of each request where a safe form costs time.

use std::ffi::c_char;

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{Borrowed, ffi};

/// A native string in the sense of PEP 3333: each byte is a code point.
pub fn native_string<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let length = ffi::Py_ssize_t::try_from(bytes.len()).map_err(|_| PyOverflowError::new_err("too long"))?;
    // SAFETY: pointer and length are those of a slice; no error handler is named. The call gives a new str, or null
    // with an exception set.
    unsafe {
        let string = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast::<c_char>(), length, std::ptr::null());
        Ok(Bound::from_owned_ptr_or_err(py, string)?.cast_into_unchecked())
    }
}

/// `application(environ, start_response)`. CPython passes so few arguments on without a tuple.
pub fn call_application<'py>(
    application: &Bound<'py, PyAny>,
    environ: &Bound<'py, PyDict>,
    start_response: Borrowed<'_, 'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: all three are live objects, and a null pointer ends the list. The call gives a new reference, or null
    // with an exception set.
    unsafe {
        let result = ffi::PyObject_CallFunctionObjArgs(
            application.as_ptr(),
            environ.as_ptr(),
            start_response.as_ptr(),
            std::ptr::null_mut::<ffi::PyObject>(),
        );
        Bound::from_owned_ptr_or_err(application.py(), result)
    }
}

/// Several threads are in Python at once. (An extension that can't do with that has the interpreter's lock come back;
/// nothing here relies on either.)
pub const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);

/// How many references an object has; meant for small numbers.
///
/// Free-threaded builds count those of the thread that has made an object by themselves. For an object of the calling
/// thread, the sum errs on one side only: a reference that another thread has given up may still be counted. For an object
/// of another thread, it is a guess.
pub fn references<T>(object: &Py<T>) -> u32 {
    // SAFETY: the object is alive. The count is the object's first word on every CPython with the interpreter's lock;
    // from 3.12 on only the word's lower half counts, from 3.14 on the upper half holds flags. In free-threaded builds
    // both counts are read as atomics.
    let count = unsafe { ffi::Py_REFCNT(object.as_ptr()) };
    count as u32
}

/// Whether an object of this type says how long it is.
pub fn has_length(object: &Bound<'_, PyAny>) -> bool {
    let kind = object.get_type_ptr();
    // SAFETY: the type of a live object is alive; PyType_GetSlot takes any type from 3.10 on.
    unsafe {
        !ffi::PyType_GetSlot(kind, ffi::Py_sq_length).is_null()
            || !ffi::PyType_GetSlot(kind, ffi::Py_mp_length).is_null()
    }
}

/// Runs `wait` with the interpreter left to other threads.
///
/// # Safety
/// Neither `wait` nor its result may touch Python objects.
pub unsafe fn detached<R>(py: Python<'_>, wait: impl FnOnce() -> R) -> R {
    struct SameThread<T>(T);
    // SAFETY: `detach` runs its closure on the calling thread before it returns, so nothing changes threads. pyo3 asks
    // for Send to keep Python's objects out, which is the caller's promise here.
    unsafe impl<T> Send for SameThread<T> {}
    let wait = SameThread(wait);
    py.detach(move || {
        let wait = wait;
        SameThread((wait.0)())
    })
    .0
}

/// What CPython wants to be told around a fork, `os.register_at_fork` included. The interpreter's lock is held; where there
/// is none, all other Python threads are stopped from `before` on.
pub mod fork_hooks {
    use pyo3::{Python, ffi};

    pub fn before(_py: Python<'_>) {
        // SAFETY: the caller holds the interpreter's lock and forks next.
        unsafe { ffi::PyOS_BeforeFork() }
    }

    pub fn after_in_parent(_py: Python<'_>) {
        // SAFETY: `before` has been called on this thread, in this process.
        unsafe { ffi::PyOS_AfterFork_Parent() }
    }

    pub fn after_in_child(_py: Python<'_>) {
        // SAFETY: `before` has been called on the thread that this process has inherited as its only one.
        unsafe { ffi::PyOS_AfterFork_Child() }
    }
}
