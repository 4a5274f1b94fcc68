//! Tells the application thread that a signal has come: the interpreter has noted it, and writes a byte to a pipe.
//!
//! A signal also interrupts the wait of the thread that it meets, but only if that thread waits already, and only if it
//! is the one that drives. What lies in a pipe is found by whoever drives next.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::keyed::Source;

/// Signals of one read.
const READ_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// `None`: nobody handles signals, or somebody else sees to it.
    pipe: Option<File>,
    came: bool,
}

impl Signals {
    /// `pipe` is a reading end that does not block.
    pub fn watch(&mut self, pipe: OwnedFd, registry: &Registry) -> io::Result<()> {
        let raw = pipe.as_raw_fd();
        registry.register(&mut SourceFd(&raw), Source::Signals.token(), Interest::READABLE)?;
        self.pipe = Some(File::from(pipe));
        Ok(())
    }

    /// Empties the pipe: the poll tells of the next byte only then.
    pub fn on_readable(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        self.came = true;
        let mut numbers = [0; READ_BYTES];
        loop {
            match pipe.read(&mut numbers) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Whether a signal has come since the last call.
    pub fn take(&mut self) -> bool {
        std::mem::take(&mut self.came)
    }
}
