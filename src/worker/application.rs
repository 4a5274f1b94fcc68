//! The border to an application in memory: one trait that it fulfils, one call per request.

use super::Response;
use crate::gateway::Request;

/// One request for an application.
pub struct Call<'a> {
    /// Meta-variables and the complete body.
    pub request: &'a Request,
    /// Index into [`Config::applications`](crate::config::Config::applications).
    pub application: usize,
    /// Other processes may run the same application at the same time: there is more than one worker, or may be.
    pub multiprocess: bool,
}

/// An application in memory, as its worker sees it. Each application thread calls it with one request at a time.
pub trait Application: Sync {
    /// Answers one request: fills `response`, then calls one of its `finish` methods or `fail`. A response that is
    /// neither finished nor failed on return counts as failed.
    fn respond(&self, call: Call<'_>, response: &mut Response<'_>);

    /// Runs `wait`, which may block, with the interpreter left to other threads.
    fn detached<R: Send>(&self, wait: impl FnOnce() -> R + Send) -> R;

    /// A signal has come: the interpreter may want to run its handlers. False: end the worker.
    fn on_signal(&self) -> bool;
}
