//! The three pipes of a script: our ends, which do not block, and the script's, which do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use crate::sys::spawn;

/// The three pipes: our ends, and the ends that the script gets.
pub(super) struct Pipes {
    /// `None`: there is no body.
    pub input: Option<OwnedFd>,
    pub output: OwnedFd,
    pub stderr: OwnedFd,
    pub theirs: Theirs,
}

/// The script's ends. They are closed here when this is dropped, so that its end can be seen.
#[derive(Debug)]
pub(super) struct Theirs {
    input: Option<OwnedFd>,
    output: OwnedFd,
    stderr: OwnedFd,
    null: BorrowedFd<'static>,
}

impl Pipes {
    pub fn open(has_body: bool) -> io::Result<Pipes> {
        let null = null()?;
        let (their_input, input) = match has_body {
            true => {
                let (read, write) = spawn::pipe()?;
                (Some(read), Some(write))
            }
            false => (None, None),
        };
        let (output, their_output) = spawn::pipe()?;
        let (stderr, their_stderr) = spawn::pipe()?;
        for ours in [input.as_ref(), Some(&output), Some(&stderr)].into_iter().flatten() {
            spawn::set_nonblocking(ours.as_fd())?;
        }
        let theirs = Theirs { input: their_input, output: their_output, stderr: their_stderr, null };
        Ok(Pipes { input, output, stderr, theirs })
    }
}

impl Theirs {
    /// Descriptors 0, 1 and 2 of the script.
    pub fn standard(&self) -> [BorrowedFd<'_>; 3] {
        let input = self.input.as_ref().map_or(self.null, AsFd::as_fd);
        [input, self.output.as_fd(), self.stderr.as_fd()]
    }
}

/// What a script without a body reads: its end, at once.
fn null() -> io::Result<BorrowedFd<'static>> {
    static NULL: OnceLock<OwnedFd> = OnceLock::new();
    if NULL.get().is_none() {
        let opened = spawn::above_standard(File::open("/dev/null")?.into())?;
        // Another thread may have been faster: then this one is closed again.
        let _ = NULL.set(opened);
    }
    NULL.get().map(AsFd::as_fd).ok_or_else(|| io::Error::other("/dev/null"))
}
