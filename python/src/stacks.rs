//! Where the Python threads are, asked for by a thread that the interpreter does not know.
//!
//! The worker's relief thread can't take the interpreter's lock from a request that hangs. faulthandler can walk the
//! frames without it, in a signal handler; so the relief thread sends itself a signal and reads what was written. In a
//! free-threaded build frames can change and go while they are walked, so that only a thread itself may walk its own:
//! there each application thread is asked (`threads`).

mod threads;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use forkhorn::sys::LOG_STACKS_OFFSET;
use nix::sys::memfd::{MFdFlags, memfd_create};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::cpython::FREE_THREADED;
use threads::Threads;

/// Real-time signal, counted from SIGRTMIN, whose handler writes the stacks. High enough to be out of the way of
/// applications, which begin to count at SIGRTMIN.
const SIGNAL_OFFSET: i32 = 11;

/// Longest text that is read back at once, in bytes.
const MAX_BYTES: usize = 256 * 1024;

pub struct Stacks {
    /// Where faulthandler writes; the lock keeps two readers apart.
    file: Mutex<File>,
    signal: i32,
    /// `None`: any thread may walk the frames of all.
    threads: Option<Threads>,
}

impl Stacks {
    /// Installs the handler.
    pub fn register(py: Python<'_>) -> PyResult<Self> {
        let file =
            File::from(memfd_create("forkhorn-stacks", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        let signal = libc::SIGRTMIN() + SIGNAL_OFFSET;
        let threads = if FREE_THREADED { Some(Threads::prepare(signal)?) } else { None };
        let options = PyDict::new(py);
        options.set_item("file", file.as_raw_fd())?;
        options.set_item("all_threads", threads.is_none())?;
        options.set_item("chain", false)?;
        let faulthandler = py.import("faulthandler")?;
        faulthandler.call_method("register", (signal,), Some(&options))?;
        // And for the master, which asks a worker that gives no sign of life, before it ends it: to the log.
        options.set_item("file", libc::STDERR_FILENO)?;
        options.set_item("all_threads", true)?;
        faulthandler.call_method("register", (libc::SIGRTMIN() + LOG_STACKS_OFFSET,), Some(&options))?;
        Ok(Stacks { file: Mutex::new(file), signal, threads })
    }

    /// The calling thread answers requests.
    pub fn add_this_thread(&self) {
        if let Some(threads) = &self.threads {
            threads.add_this_one();
        }
    }

    /// The stacks as text. Needs no lock of the interpreter, and runs on any thread that does not block the signal.
    pub fn dump(&self) -> String {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match &self.threads {
            None => ask(&file, || signal_this_thread(self.signal)),
            Some(threads) => threads.each(|ask_thread| ask(&file, ask_thread)),
        };
        written.unwrap_or_else(|error| format!("(the Python stacks are not known: {error})"))
    }
}

/// What `write` has a handler write to `file`.
fn ask(mut file: &File, write: impl FnOnce() -> io::Result<()>) -> io::Result<String> {
    file.set_len(0)?;
    // faulthandler writes where the descriptor stands.
    io::Seek::rewind(&mut file)?;
    write()?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(MAX_BYTES);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
