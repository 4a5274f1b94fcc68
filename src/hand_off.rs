//! The hand-off queue: connections on their way from one worker to another.
//!
//! One SOCK_SEQPACKET pair, made by the master before any worker and shared by all of them, of all generations: every
//! worker can send on one end, and whoever has a free application thread receives on the other. What a message says is
//! the workers' business (`worker::hand_off`); the master only keeps the pair open, and nudges.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, setsockopt, socketpair, sockopt};

use crate::sys::{self, Received};

/// Version of the messages: workers of two versions of forkhorn may share a queue for a while.
pub(crate) const VERSION: u8 = 1;

/// The kinds of messages, their second byte.
pub(crate) const NUDGE: u8 = 0;
pub(crate) const CONNECTION: u8 = 1;

/// Longest message, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 96 * 1024;

/// The connection, and a file with its request's body.
const MAX_DESCRIPTORS: usize = 2;

/// What the kernel is asked to let wait, in bytes; it gives as much as net.core.wmem_max allows.
const QUEUE_BYTES: usize = 1024 * 1024;

/// Both ends of the queue.
#[derive(Debug)]
pub struct HandOffQueue {
    sending: OwnedFd,
    receiving: OwnedFd,
}

impl HandOffQueue {
    /// A new queue. Both ends have CLOEXEC and never block.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (sending, receiving) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        setsockopt(&sending, sockopt::SndBuf, &QUEUE_BYTES)?;
        Ok(HandOffQueue { sending, receiving })
    }

    /// The ends of a queue that another process has opened.
    pub fn from_ends(sending: OwnedFd, receiving: OwnedFd) -> Self {
        HandOffQueue { sending, receiving }
    }

    /// The sending end, then the receiving one.
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.sending.as_fd(), self.receiving.as_fd()]
    }

    /// The same queue under other descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(HandOffQueue { sending: self.sending.try_clone()?, receiving: self.receiving.try_clone()? })
    }

    /// What is readable while a message waits.
    pub(crate) fn receiving_end(&self) -> BorrowedFd<'_> {
        self.receiving.as_fd()
    }

    /// `WouldBlock`: the queue is full.
    pub(crate) fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        sys::send_message(self.sending.as_fd(), message, descriptors)
    }

    /// The next message. `WouldBlock`: there is none. EMFILE: its descriptors can't be received now, and it stays.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        if !sys::has_room_for_descriptors(self.receiving.as_fd())? {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        sys::receive_message(self.receiving.as_fd(), buffer, MAX_DESCRIPTORS, false)
    }

    /// The begin of the next message, which stays. `WouldBlock`: there is none.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.receiving.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)?)
    }

    /// No message waits.
    pub(crate) fn is_empty(&self) -> bool {
        let mut ends = [PollFd::new(self.receiving.as_fd(), PollFlags::POLLIN)];
        // An error here is one that receiving would name.
        !matches!(poll(&mut ends, PollTimeout::ZERO), Ok(count) if count > 0)
    }

    /// Wakes one more worker if a message waits. Each message wakes only one (EPOLLEXCLUSIVE), and that one may have been
    /// stopped or killed before it could look.
    pub(crate) fn nudge(&self) {
        if !self.is_empty() {
            // A full queue has woken everybody who waits.
            let _ = self.send(&[VERSION, NUDGE], &[]);
        }
    }
}
