//! One line per response: gathered in memory, written in one piece when the loop is about to wait.
//!
//! What a line says and in which form is decided once ([`AccessLogFormat`]); `line` puts it together, `escape` keeps
//! values from ending their place in it, `stamp` tells the time.

mod escape;
mod line;
mod stamp;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::{AccessLogFormat, Config};

pub(crate) use line::Answer;
use line::Line;
use stamp::Stamps;

/// Lines are written in one piece when the loop is about to wait, or from this size on.
const WRITE_FROM_BYTES: usize = 16 * 1024;

/// Which process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub slot: u16,
    pub generation: u32,
    pub pid: u32,
}

#[derive(Debug)]
pub(crate) struct AccessLog {
    config: Arc<Config>,
    whereabouts: Whereabouts,
    file: Option<std::fs::File>,
    lines: Vec<u8>,
    stamps: Stamps,
    failed: bool,
}

impl AccessLog {
    pub fn new(file: Option<OwnedFd>, config: Arc<Config>, whereabouts: Whereabouts) -> Self {
        let (file, lines, stamps) = (file.map(Into::into), Vec::new(), Stamps::default());
        AccessLog { config, whereabouts, file, lines, stamps, failed: false }
    }

    /// After USR1: what waits goes to the old file.
    pub fn reopen(&mut self, file: OwnedFd) {
        self.flush();
        self.file = Some(file.into());
        self.failed = false;
    }

    pub fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// Whether somebody has to measure the application's CPU time.
    pub fn wants_cpu_time(&self) -> bool {
        self.is_on() && self.config.access_log_format.wants_cpu_time()
    }

    pub fn record(&mut self, answer: &Answer<'_>) {
        if self.file.is_none() {
            return;
        }
        let (format, whereabouts) = (&self.config.access_log_format, self.whereabouts);
        let mut line = Line { out: &mut self.lines, stamps: &mut self.stamps, answer, whereabouts };
        match format {
            AccessLogFormat::Text(pieces) => line.text(pieces),
            AccessLogFormat::Json(members) => line.json(members),
        }
        if self.lines.len() >= WRITE_FROM_BYTES {
            self.flush();
        }
    }

    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file {
            let result = file.write_all(&self.lines);
            if let (Err(error), false) = (&result, self.failed) {
                log::error!("the access log can't be written: {error}; lines are lost until it can");
            }
            self.failed = result.is_err();
        }
        self.lines.clear();
    }
}
