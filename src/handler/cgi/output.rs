//! The reading end of a script's standard output or error: until nothing waits, its writers are gone, or the script has
//! ended and what it left in the pipe is read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use nix::unistd::read;

use crate::sys::spawn::available;

/// What a pipe holds by default.
const BUFFER_BYTES: usize = 64 * 1024;
/// With less room than this a new buffer is begun.
const LEAST_ROOM_BYTES: usize = 8 * 1024;

/// What came of a read.
#[derive(Debug)]
pub(super) enum Read {
    Bytes(Bytes),
    /// Nothing now.
    Wait,
    /// Nothing any more.
    End,
}

#[derive(Debug)]
pub(super) struct Output {
    pipe: Option<OwnedFd>,
    /// Epoll is edge-triggered: once ready, the pipe is until a read says otherwise.
    ready: bool,
    /// Bytes to read yet, once the script has ended.
    left: Option<usize>,
    /// Initialised room for the next read.
    room: BytesMut,
}

impl Output {
    pub fn new(pipe: OwnedFd) -> Self {
        Output { pipe: Some(pipe), ready: false, left: None, room: BytesMut::new() }
    }

    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    pub fn set_ready(&mut self) {
        self.ready = true;
    }

    pub fn is_ready(&self) -> bool {
        self.ready && self.pipe.is_some()
    }

    /// The script has ended: what it wrote is in the pipe now. A child that it left behind may hold the pipe open for
    /// hours, and is not waited for.
    pub fn end_after_what_waits(&mut self) {
        if let Some(pipe) = &self.pipe {
            self.left = Some(available(pipe.as_fd()).unwrap_or(0));
            self.ready = true;
        }
    }

    pub fn close(&mut self) {
        self.pipe = None;
        self.room = BytesMut::new();
    }

    pub fn read(&mut self) -> Read {
        let Some(pipe) = &self.pipe else { return Read::End };
        if !self.ready {
            return Read::Wait;
        }
        if self.left == Some(0) {
            self.close();
            return Read::End;
        }
        if self.room.len() < LEAST_ROOM_BYTES {
            self.room = BytesMut::zeroed(BUFFER_BYTES);
        }
        let most = self.left.unwrap_or(usize::MAX).min(self.room.len());
        loop {
            match read(pipe, &mut self.room[..most]) {
                Ok(0) => break,
                Ok(count) => {
                    self.left = self.left.map(|left| left - count);
                    return Read::Bytes(self.room.split_to(count).freeze());
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.ready = false;
                    return Read::Wait;
                }
                Err(error) => {
                    log::warn!("script output: {}", error.desc());
                    break;
                }
            }
        }
        self.close();
        Read::End
    }
}
