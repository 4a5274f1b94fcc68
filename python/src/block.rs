//! Blocks of a body on their way to the worker: small ones are copied, large ones are kept until they are written.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use forkhorn::worker::{Flow, Response};

/// From here on holding the bytes object costs less than copying it.
const SHARED_BYTES: usize = 16 * 1024;

pub fn write(response: &mut Response<'_>, block: &Bound<'_, PyBytes>) -> Flow {
    match shared(block) {
        Some(bytes) => response.write_shared(bytes),
        None => response.write(block.as_bytes()),
    }
}

pub fn finish_with(response: &mut Response<'_>, block: &Bound<'_, PyBytes>) {
    match shared(block) {
        Some(bytes) => response.finish_with_shared(bytes),
        None => response.finish_with(block.as_bytes()),
    }
}

fn shared(block: &Bound<'_, PyBytes>) -> Option<Bytes> {
    let length = block.as_bytes().len();
    (length >= SHARED_BYTES).then(|| Bytes::from_owner(Held::new(block)))
}

/// Gives back the objects of what has been written. To be called where no lock is held.
pub fn release(py: Python<'_>) {
    if IS_ANY_WRITTEN.load(Relaxed) {
        IS_ANY_WRITTEN.store(false, Relaxed);
        let objects = std::mem::take(&mut *WRITTEN.lock().unwrap_or_else(PoisonError::into_inner));
        for object in objects {
            object.drop_ref(py);
        }
    }
}

/// Where [`Held`] leaves its objects.
static WRITTEN: Mutex<Vec<Py<PyBytes>>> = Mutex::new(Vec::new());

/// Set after the list was added to, and taken back before it is emptied: what is missed now is seen the next time.
static IS_ANY_WRITTEN: AtomicBool = AtomicBool::new(false);

/// A bytes object that outlives its request.
///
/// It is dropped on any thread, and while the worker's state is locked: there a reference must not be given back. The
/// object may be of a class with a `__del__`, and a free-threaded interpreter may stop the thread to have it wait for
/// others, of which one may wait for that very lock. So the object goes to a list, for [`release`].
struct Held {
    object: Option<Py<PyBytes>>,
    start: *const u8,
    length: usize,
}

// SAFETY: the bytes of a bytes object never change nor move while it lives, and `object` keeps it alive; `Py` may be
// sent to any thread.
unsafe impl Send for Held {}

impl Held {
    fn new(block: &Bound<'_, PyBytes>) -> Self {
        let bytes = block.as_bytes();
        Held { start: bytes.as_ptr(), length: bytes.len(), object: Some(block.clone().unbind()) }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: see `Send` above.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).extend(self.object.take());
        IS_ANY_WRITTEN.store(true, Relaxed);
    }
}
