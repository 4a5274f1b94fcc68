//! Blocks of a body on their way to the worker: small ones are copied, large ones are kept until they are written.

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

/// A bytes object that outlives its request. Dropped where the interpreter is not known, its reference is given back
/// by pyo3 when a Python thread next comes back from a wait, or begins a request.
struct Held {
    _object: Py<PyBytes>,
    start: *const u8,
    length: usize,
}

// SAFETY: the bytes of a bytes object never change nor move while it lives, and `_object` keeps it alive; `Py` may be
// dropped on any thread.
unsafe impl Send for Held {}

impl Held {
    fn new(block: &Bound<'_, PyBytes>) -> Self {
        let bytes = block.as_bytes();
        Held { start: bytes.as_ptr(), length: bytes.len(), _object: block.clone().unbind() }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: see `Send` above.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}
