//! Watches the listeners and the hand-off queue while there is no worker, so that whoever comes has one started.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Of everything that is watched here. No process has this number.
pub(crate) const SOMEBODY: Token = Token(usize::MAX - 1);

#[derive(Debug, Default)]
pub(crate) struct Sentry {
    /// Copies of its own: a listener that is closed meanwhile would else be watched as long as a worker has it.
    watched: Vec<OwnedFd>,
}

impl Sentry {
    /// Watches, or no longer.
    pub(crate) fn stand<'a>(
        &mut self,
        wanted: bool,
        registry: &Registry,
        sockets: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> io::Result<()> {
        if wanted != self.watched.is_empty() {
            return Ok(());
        }
        for socket in std::mem::take(&mut self.watched) {
            registry.deregister(&mut SourceFd(&socket.as_raw_fd()))?;
        }
        for socket in sockets.filter(|_| wanted) {
            let copy = socket.try_clone_to_owned()?;
            registry.register(&mut SourceFd(&copy.as_raw_fd()), SOMEBODY, Interest::READABLE)?;
            self.watched.push(copy);
        }
        Ok(())
    }
}
