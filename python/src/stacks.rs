//! Where every Python thread is, asked for by a thread that the interpreter does not know.
//!
//! The worker's relief thread can't take the interpreter's lock from a request that hangs. faulthandler can walk the
//! frames without it, in a signal handler; so the relief thread sends itself a signal and reads what was written.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use forkhorn::sys::LOG_STACKS_OFFSET;
use nix::sys::memfd::{MFdFlags, memfd_create};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Real-time signal, counted from SIGRTMIN, whose handler writes the stacks. High enough to be out of the way of
/// applications, which begin to count at SIGRTMIN.
const SIGNAL_OFFSET: i32 = 11;

/// Longest text that is read back, in bytes.
const MAX_BYTES: usize = 256 * 1024;

pub struct Stacks {
    /// Where faulthandler writes; the lock keeps two readers apart.
    file: Mutex<File>,
    signal: i32,
}

impl Stacks {
    /// Installs the handler.
    pub fn register(py: Python<'_>) -> PyResult<Self> {
        let file =
            File::from(memfd_create("forkhorn-stacks", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        let signal = libc::SIGRTMIN() + SIGNAL_OFFSET;
        let options = PyDict::new(py);
        options.set_item("file", file.as_raw_fd())?;
        options.set_item("all_threads", true)?;
        options.set_item("chain", false)?;
        let faulthandler = py.import("faulthandler")?;
        faulthandler.call_method("register", (signal,), Some(&options))?;
        // And for the master, which asks a worker that gives no sign of life: to the log.
        options.set_item("file", libc::STDERR_FILENO)?;
        faulthandler.call_method("register", (libc::SIGRTMIN() + LOG_STACKS_OFFSET,), Some(&options))?;
        Ok(Stacks { file: Mutex::new(file), signal })
    }

    /// The stacks as text. Needs no lock of the interpreter, and runs on any thread that does not block the signal.
    pub fn dump(&self) -> String {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_and_read(&file)
            .unwrap_or_else(|error| format!("(the Python stacks are not known: {error})"))
    }

    fn write_and_read(&self, file: &File) -> io::Result<String> {
        file.set_len(0)?;
        rewind(file)?;
        signal_this_thread(self.signal)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(MAX_BYTES);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// faulthandler writes where the descriptor stands.
fn rewind(mut file: &File) -> io::Result<()> {
    io::Seek::rewind(&mut file)
}

/// The handler has run when this returns (POSIX pthread_kill(3p): a signal that a thread sends to itself and does not
/// block is delivered before the call returns).
fn signal_this_thread(signal: i32) -> io::Result<()> {
    // SAFETY: pthread_self names the calling thread, which is alive; a handler is installed for the signal, so that its
    // default action, which ends the process, does not apply.
    match unsafe { libc::pthread_kill(libc::pthread_self(), signal) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
