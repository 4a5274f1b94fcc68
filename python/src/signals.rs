//! Signal handlers of the application run on the main thread, as CPython wants it, and at once, as in plain Python: also
//! when the signal comes just before that thread waits outside of the interpreter.
//!
//! CPython notes a signal, and writes a byte to a pipe (`signal.set_wakeup_fd`); the main thread waits for that pipe
//! among other things, and then has the handlers run.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use crate::report;

/// No descriptor, as `signal.set_wakeup_fd` has it.
const NONE: RawFd = -1;

/// The pipe that CPython writes to. Not its own if the application has named another one while it was loaded: then a
/// signal is only noticed by the wait that it interrupts.
pub struct Wakeup {
    reading: OwnedFd,
    writing: OwnedFd,
}

impl Wakeup {
    /// To be called on the main thread.
    pub fn install(py: Python<'_>) -> PyResult<Self> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(io::Error::from)?;
        let before = set_wakeup_fd(py, writing.as_raw_fd())?;
        if before != NONE {
            log::debug!("signals wake descriptor {before} of the application");
            set_wakeup_fd(py, before)?;
        } else {
            forget_in_children(py, writing.as_raw_fd())?;
        }
        Ok(Wakeup { reading, writing })
    }

    /// The end that becomes readable. It does not block.
    pub fn reading(&self) -> BorrowedFd<'_> {
        self.reading.as_fd()
    }

    pub fn waker(&self) -> io::Result<Waker> {
        Ok(Waker(self.writing.try_clone()?))
    }

    /// Waits until a signal has come or, if one is named, `other` is readable; with the interpreter left to other
    /// threads. May come back without a reason.
    pub fn wait(&self, py: Python<'_>, other: Option<BorrowedFd<'_>>) {
        let descriptors = std::iter::once(self.reading()).chain(other);
        let mut descriptors: Vec<_> =
            descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)).collect();
        py.detach(|| {
            // An error means that a signal has interrupted the wait, or that there is no memory: look again.
            let _ = poll(&mut descriptors, PollTimeout::NONE);
            while read(&self.reading, &mut [0; 64]).is_ok_and(|length| length > 0) {}
        });
    }
}

impl Drop for Wakeup {
    fn drop(&mut self) {
        Python::attach(|py| {
            if let Err(error) = unset(py, self.writing.as_raw_fd()) {
                log::debug!("the interpreter keeps a closed descriptor for signals: {error}");
            }
        });
    }
}

/// Wakes the thread that waits for signals, from any other.
pub struct Waker(OwnedFd);

impl Waker {
    pub fn wake(&self) {
        // A full pipe wakes as well.
        let _ = write(&self.0, &[0]);
    }
}

/// Runs the handlers of signals that have come; does nothing on other threads than the main one. False: one of them
/// wants the process to end. Like a request's, any other exception is logged.
pub fn run_handlers(py: Python<'_>) -> bool {
    loop {
        match py.check_signals() {
            Ok(()) => return true,
            Err(error) if report::ends_worker(py, &error) => {
                let error = report::short(py, &error);
                log::warn!(target: report::TARGET, "a signal handler raised {error}: this process ends");
                return false;
            }
            Err(error) => {
                let traceback = report::traceback(py, &error);
                log::error!(target: report::TARGET, "a signal handler raised an exception\n{traceback}");
            }
        }
    }
}

/// A process that the application forks must not wake this one, nor write to what it opens under the same number after
/// it has closed all descriptors.
fn forget_in_children(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    let forget = PyCFunction::new_closure(py, None, None, move |arguments, _| {
        // The child is the application's: there is no log to write to.
        let _ = unset(arguments.py(), descriptor);
    })?;
    let hooks = PyDict::new(py);
    hooks.set_item("after_in_child", forget)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}

/// Takes `descriptor` back, if it is still the one that signals wake.
fn unset(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    let current = set_wakeup_fd(py, NONE)?;
    if current != NONE && current != descriptor {
        set_wakeup_fd(py, current)?;
    }
    Ok(())
}

/// Gives the descriptor back that was set before.
fn set_wakeup_fd(py: Python<'_>, descriptor: RawFd) -> PyResult<RawFd> {
    let options = PyDict::new(py);
    // A full pipe wakes all the same: nothing is lost.
    options.set_item("warn_on_full_buffer", false)?;
    py.import("signal")?.call_method("set_wakeup_fd", (descriptor,), Some(&options))?.extract()
}
