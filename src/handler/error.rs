//! What a script, or the place where it lies, can do wrong: a status for the peer, a cause and a cure for the log.

use std::fmt;

use log::Level;

/// The handler could not answer, or not to the end.
///
/// The peer sees [`status`](Self::status) if it can still get one, and never the text. Whoever receives the error logs
/// it once, at [`level`](Self::level).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError {
    status: u16,
    text: String,
}

impl HandlerError {
    /// `status` is 403, 404, 500, 502, 503 or 504; `text` names what failed, the cause and, where known, the cure. Bytes
    /// of the peer or of a script in it must have been made printable.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        HandlerError { status, text: text.into() }
    }

    /// We lack a descriptor, memory or a process: 503.
    pub fn unavailable(cause: impl fmt::Display) -> Self {
        HandlerError::new(503, format!("no script can be started now: {cause}"))
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    /// Warn where the request asked for what is not there or where we are full, error where a script is at fault.
    pub fn level(&self) -> Level {
        match self.status {
            400..=499 | 503 => Level::Warn,
            _ => Level::Error,
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for HandlerError {}
