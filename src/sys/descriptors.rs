//! Messages with descriptors (SCM_RIGHTS, unix(7)), descriptors that somebody else has opened, and what a socket has still
//! to send.

#![allow(unsafe_code, reason = "control messages and inherited descriptors are raw memory and raw numbers")]

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::close;

/// The kernel's SCM_MAX_FD: more descriptors can't go with one message.
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Bytes of a control buffer for `MAX_DESCRIPTORS`, in units that align it as `cmsghdr` wants.
const CONTROL_WORDS: usize = 8 + MAX_DESCRIPTORS / 2;

/// What [`receive_message`] found.
pub(crate) struct Received {
    /// Bytes that were written to the buffer.
    pub(crate) length: usize,
    /// The message was longer than the buffer, or brought more descriptors than were allowed.
    pub(crate) truncated: bool,
    /// CLOEXEC is set on each.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Sends one message as a whole or not at all, without blocking and without SIGPIPE.
pub(crate) fn send_message(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
            Err(nix::Error::EINTR) => {}
            result => return result.map(drop).map_err(io::Error::from),
        }
    }
}

/// Bytes in a stream socket's sending queue: over TCP those that the peer's kernel has not acknowledged, over a Unix
/// socket those that the peer has not read (tcp(7), unix(7)). 0 where the kernel does not say.
pub(crate) fn unread_by_peer(socket: BorrowedFd<'_>) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which sockets know as SIOCOUTQ, writes one int, and `count` is one.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) } {
        0 => u64::try_from(count).unwrap_or(0),
        _ => 0,
    }
}

/// How many segments with bytes in them a TCP connection has sent (tcp(7)).
#[cfg(test)]
pub(crate) fn data_segments_sent(socket: BorrowedFd<'_>) -> u32 {
    // SAFETY: all fields of tcp_info are integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the option is written to `info`, as far as `length` allows, which is its size.
    let result = unsafe {
        let place = (&raw mut info).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length)
    };
    assert_eq!(result, 0, "a TCP socket");
    info.tcpi_data_segs_out
}

/// Whether the descriptors of the next message can be received: this process may have too many open, and those for which
/// there is no room would be lost.
pub(crate) fn has_room_for_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let (received, message_flags) = receive(socket, &mut [0], MAX_DESCRIPTORS, flags)?;
    drop(received.descriptors);
    // The control buffer is large enough for all that the kernel lets one message have.
    Ok(message_flags & libc::MSG_CTRUNC == 0)
}

/// Makes the table of this process's descriptors as large as its limit allows, up to `most`, for a process that is about to
/// start threads. The kernel enlarges the table of a process with several threads only after it has waited for all
/// processors (synchronize_rcu): whoever opens the 65th descriptor, or the 257th, would stand still for ten milliseconds.
pub(crate) fn enlarge_table(most: u64) -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let highest = i32::try_from(limit.min(most)).unwrap_or(i32::MAX).saturating_sub(1);
    // The table never shrinks.
    let raw = fcntl(io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(highest))?;
    close(raw)?;
    Ok(())
}

/// Reads the beginning of the file behind a descriptor that somebody else in this process owns, without moving its
/// position. Gives the number of bytes.
///
/// # Errors
/// It is closed, not open for reading, or nothing that has positions.
pub fn peek(descriptor: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of `buffer`. A number that means nothing, or something else by now, is an error
    // or gives other bytes; nothing is changed or closed.
    let length = unsafe { libc::pread(descriptor, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Receives one message. At most `max_descriptors` descriptors are accepted; the others are closed and `truncated` is
/// set. A length of 0 is the end of the connection.
pub(crate) fn receive_message(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    max_descriptors: usize,
    blocking: bool,
) -> io::Result<Received> {
    let flags = if blocking { 0 } else { libc::MSG_DONTWAIT };
    receive(socket, buffer, max_descriptors, flags).map(|(received, _)| received)
}

/// What was received, and the flags of recvmsg(2).
fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    max_descriptors: usize,
    flags: libc::c_int,
) -> io::Result<(Received, libc::c_int)> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all fields of msghdr are integers or pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    let length = loop {
        message.msg_control =
            if max_descriptors == 0 { std::ptr::null_mut() } else { control.as_mut_ptr().cast() };
        message.msg_controllen = if max_descriptors == 0 { 0 } else { mem::size_of_val(&control) };
        // SAFETY: the header points to `part` and `control`, which live on this frame, and `part` to `buffer`, which
        // is borrowed for the whole call; the lengths are theirs.
        let length =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags | libc::MSG_CMSG_CLOEXEC) };
        if let Ok(length) = usize::try_from(length) {
            break length;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    let mut descriptors = descriptors_of(&message);
    let truncated =
        message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 || descriptors.len() > max_descriptors;
    descriptors.truncate(max_descriptors);
    Ok((Received { length, truncated, descriptors }, message.msg_flags))
}

/// Takes ownership of every descriptor that came with a message that recvmsg has just filled in.
fn descriptors_of(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    // SAFETY: `message` was filled in by recvmsg, and its control buffer is alive in the caller.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole header inside the control buffer.
    while let Some(control) = unsafe { header.as_ref() } {
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: CMSG_LEN only computes.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = control.cmsg_len.saturating_sub(overhead) / mem::size_of::<RawFd>();
            // SAFETY: the kernel has written `cmsg_len` bytes from this header on.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: `index` is below the number of descriptors in the data, which need not be aligned. The
                // kernel has just opened each of them for this process, so nobody else owns it.
                found.push(unsafe { OwnedFd::from_raw_fd(data.add(index).read_unaligned()) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    found
}

/// A copy, above 2 and with CLOEXEC, of a descriptor that this process was started with. `None` if it is not open.
pub(crate) fn copy_inherited(number: RawFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: fcntl takes any number and answers EBADF for one that is not open.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EBADF) { Ok(None) } else { Err(error) };
    }
    // SAFETY: fcntl has just made it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Closes the original of a copy: standard input, output and error become /dev/null instead.
pub(crate) fn close_inherited(number: RawFd) -> io::Result<()> {
    if number > 2 {
        // SAFETY: the caller has found a listener under this number before this process has opened any: it was
        // inherited, and nothing here owns it.
        unsafe { libc::close(number) };
        return Ok(());
    }
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // SAFETY: both are open; 0, 1 and 2 belong to nobody, so that they may be anything.
    match unsafe { libc::dup2(null.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sets CLOEXEC on every descriptor above 2: nothing that this process was started with goes to those it starts.
pub(crate) fn hide_inherited() {
    // SAFETY: the call takes numbers only; those that are not open don't matter. CLOEXEC changes nothing for the owner
    // of a descriptor.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return;
    }
    // Kernels before 5.11, or a sandbox that does not know the call.
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: as above; this call too only sets a flag.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
