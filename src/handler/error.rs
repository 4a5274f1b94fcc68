//! What a script, or the place where it lies, can do wrong: a status for the peer, a cause and a cure for the log.

use std::{fmt, io};

use log::Level;

/// The handler could not answer, or not to the end.
///
/// The peer sees [`status`](Self::status) if it can still get one, and never the text. Whoever receives the error logs
/// it once, at [`level`](Self::level).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError {
    status: u16,
    text: String,
    /// The errno, where this process or the system lacks something.
    lacks: Option<i32>,
}

impl HandlerError {
    /// `status` is 403, 404, 500, 502, 503 or 504; `text` names what failed, the cause and, where known, the cure. Bytes
    /// of the peer or of a script in it must have been made printable.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        HandlerError { status, text: text.into(), lacks: None }
    }

    /// We lack a descriptor, memory or a process: 503.
    pub fn unavailable(cause: io::Error) -> Self {
        let setting = match cause.raw_os_error() {
            Some(libc::EMFILE) => " (ulimit -n; LimitNOFILE= of systemd)",
            Some(libc::ENFILE) => " (fs.file-max)",
            _ => "",
        };
        HandlerError::new(503, format!("no script can be started now: {cause}{setting}")).lacking(&cause)
    }

    /// The cause is that there is too little of something.
    pub fn lacking(mut self, cause: &io::Error) -> Self {
        self.lacks = cause.raw_os_error();
        self
    }

    /// The errno of what there is too little of: descriptors, memory, processes.
    pub fn lacks(&self) -> Option<i32> {
        self.lacks
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
