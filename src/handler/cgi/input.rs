//! The script's standard input: what the body's pieces wait in until the pipe takes them.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use nix::errno::Errno;

use crate::sys::spawn::write_quietly;

/// As much of a body may wait; past it the client has to.
const MAX_WAITING_BYTES: usize = 128 * 1024;
/// Read from a spooled body at once: what a pipe holds by default.
const FILE_CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Piece {
    Memory(Bytes),
    File { file: Arc<File>, offset: u64, length: u64 },
}

#[derive(Debug)]
pub(super) struct Input {
    /// `None`: there is no body, or the script has closed its end, or everything is written. What is fed is dropped.
    pipe: Option<OwnedFd>,
    pieces: VecDeque<Piece>,
    waiting_bytes: usize,
    finished: bool,
}

impl Input {
    pub fn new(pipe: Option<OwnedFd>) -> Self {
        Input { pipe, pieces: VecDeque::new(), waiting_bytes: 0, finished: false }
    }

    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// False: whoever feeds should wait. Once the body is complete there is nothing to wait for.
    pub fn wants_more(&self) -> bool {
        self.finished || self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// The script has taken everything, and the body goes on.
    pub fn is_starved(&self) -> bool {
        self.pipe.is_some() && self.pieces.is_empty() && !self.finished
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }

    pub fn feed(&mut self, chunk: Bytes) {
        if self.pipe.is_some() && !self.finished && !chunk.is_empty() {
            self.waiting_bytes += chunk.len();
            self.pieces.push_back(Piece::Memory(chunk));
            self.write();
        }
    }

    pub fn feed_file(&mut self, file: Arc<File>, length: u64) {
        if self.pipe.is_some() && !self.finished && length > 0 {
            self.pieces.push_back(Piece::File { file, offset: 0, length });
            self.write();
        }
    }

    /// The body is complete: the script sees its end once the rest is written.
    pub fn finish(&mut self) {
        self.finished = true;
        if self.pieces.is_empty() {
            self.close();
        }
    }

    /// Nobody reads any more.
    pub fn close(&mut self) {
        self.pipe = None;
        self.pieces.clear();
        self.waiting_bytes = 0;
    }

    /// Writes until the pipe is full or nothing waits.
    pub fn write(&mut self) {
        while let Some(pipe) = &self.pipe {
            let Some(piece) = self.pieces.front_mut() else {
                if self.finished {
                    self.close();
                }
                return;
            };
            match piece.write(pipe.as_fd()) {
                Ok(written) => {
                    if let Piece::Memory(_) = piece {
                        self.waiting_bytes -= written;
                    }
                    if piece.is_empty() {
                        self.pieces.pop_front();
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(error) => {
                    // EPIPE: a script need not read its body (RFC 3875 §4.2), nor all of it.
                    if error != Errno::EPIPE {
                        log::warn!("script input: {}", error.desc());
                    }
                    return self.close();
                }
            }
        }
    }
}

impl Piece {
    fn write(&mut self, pipe: BorrowedFd<'_>) -> nix::Result<usize> {
        match self {
            Piece::Memory(bytes) => {
                let written = write_quietly(pipe, bytes)?;
                bytes.advance(written);
                Ok(written)
            }
            Piece::File { file, offset, length } => {
                let mut buffer = [0; FILE_CHUNK_BYTES];
                let wanted = usize::try_from(*length).unwrap_or(usize::MAX).min(buffer.len());
                let read = file.read_at(&mut buffer[..wanted], *offset).map_err(errno)?;
                if read == 0 {
                    // Shorter than it was: an error of ours, the script sees the end of its input.
                    return Err(Errno::EIO);
                }
                let written = write_quietly(pipe, &buffer[..read])?;
                *offset += written as u64;
                *length -= written as u64;
                Ok(written)
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Piece::Memory(bytes) => bytes.is_empty(),
            Piece::File { length, .. } => *length == 0,
        }
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}
