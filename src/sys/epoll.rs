//! What mio does not offer of epoll(7): exclusive wake-up, so that one new connection wakes one worker.
//!
//! Events arrive through the [`mio::Poll`] whose descriptor this is, with the token given here.

#![allow(unsafe_code, reason = "epoll_ctl(2) on a descriptor that mio owns")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A descriptor of the same epoll instance.
pub fn descriptor(poll: &mio::Poll) -> io::Result<OwnedFd> {
    // SAFETY: the poll is borrowed for the call, so its descriptor is open, and the borrow ends with the call.
    unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) }.try_clone_to_owned()
}

/// Watches a listener level-triggered and exclusively (EPOLLEXCLUSIVE, since Linux 4.5).
pub fn add_exclusive(epoll: BorrowedFd<'_>, listener: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let flags = libc::EPOLLIN | libc::EPOLLEXCLUSIVE;
    control(epoll, libc::EPOLL_CTL_ADD, listener, libc::epoll_event { events: flags as u32, u64: token })
}

/// Ends the watch.
pub fn remove(epoll: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_DEL, listener, libc::epoll_event { events: 0, u64: 0 })
}

fn control(
    epoll: BorrowedFd<'_>,
    operation: libc::c_int,
    fd: BorrowedFd<'_>,
    mut event: libc::epoll_event,
) -> io::Result<()> {
    // SAFETY: both descriptors are borrowed, so they are open for the call; `event` lives through it, and the kernel
    // keeps a copy, not the pointer.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
