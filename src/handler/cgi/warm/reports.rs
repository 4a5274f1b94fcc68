//! The socket on which runs say something by themselves, from the copy of an interpreter that a script runs in.
//!
//! It has an abstract name, so that a script need not be given a descriptor for it. Whoever writes there may be the script,
//! so it can make no more than that a module of the interpreter is loaded early, or that its own response ends.
//!
//! | a message | means |
//! | --- | --- |
//! | learned index module … | what a script of this kind has imported |
//! | ends id status microseconds | this process has written all that it writes, and exits with this status, after so much processor time |

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, getsockname, setsockopt, socket, sockopt,
};

use super::link::receive;
use crate::sys::spawn::{Exit, above_standard};

#[derive(Debug)]
pub(super) struct Reports {
    socket: OwnedFd,
    address: Vec<u8>,
    buffer: Vec<u8>,
    is_watched: bool,
}

/// What a run says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report<'a> {
    Learned { index: usize, modules: Vec<&'a [u8]> },
    Ends { id: u32, pid: i32, exit: Exit, cpu_time: Duration },
}

impl Reports {
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = above_standard(socket(AddressFamily::Unix, SockType::Datagram, flags, None)?)?;
        // The kernel says with each message which process has sent it.
        setsockopt(&socket, sockopt::PassCred, &true)?;
        // It chooses a name that nobody has.
        bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let address = getsockname::<UnixAddr>(socket.as_raw_fd())?;
        let address = address.as_abstract().ok_or(io::ErrorKind::AddrNotAvailable)?.to_vec();
        Ok(Reports { socket, address, buffer: Vec::new(), is_watched: false })
    }

    /// Where to write.
    pub fn address(&self) -> &[u8] {
        &self.address
    }

    /// Once: what is to be watched for reading.
    pub fn source(&mut self) -> Option<BorrowedFd<'_>> {
        (!std::mem::replace(&mut self.is_watched, true)).then(|| self.socket.as_fd())
    }

    /// `None`: there is no message. `Some(None)`: one that is not understood, or not a process's of this user.
    pub fn next(&mut self, user: u32) -> Option<Option<Report<'_>>> {
        let (message, sender) = receive(self.socket.as_fd(), &mut self.buffer).ok()?;
        let sender = sender.filter(|sender| sender.uid() == user);
        Some(sender.and_then(|sender| parse(message, sender.pid())))
    }
}

fn parse(message: &[u8], pid: i32) -> Option<Report<'_>> {
    fn number<T: std::str::FromStr>(field: Option<&[u8]>) -> Option<T> {
        str::from_utf8(field?).ok()?.parse().ok()
    }
    let mut fields = message.split(|&byte| byte == 0);
    match fields.next()? {
        b"learned" => Some(Report::Learned { index: number(fields.next())?, modules: fields.collect() }),
        b"ends" => {
            let id = number(fields.next())?;
            let exit = Exit::Status(i32::from(number::<u8>(fields.next())?));
            let cpu_time = Duration::from_micros(number(fields.next())?);
            Some(Report::Ends { id, pid, exit, cpu_time })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{MsgFlags, sendto};

    use super::*;

    #[test]
    fn messages_are_understood_or_not() {
        let ends = |id, status, micros| {
            let cpu_time = Duration::from_micros(micros);
            Some(Report::Ends { id, pid: 11, exit: Exit::Status(status), cpu_time })
        };
        for (message, expected) in [
            ("learned\x002\0json\0re", Some(Report::Learned { index: 2, modules: vec![b"json", b"re"] })),
            ("learned\x002", Some(Report::Learned { index: 2, modules: Vec::new() })),
            ("learned\0-1\0json", None),
            ("learned", None),
            ("ends\x007\x000\x001500", ends(7, 0, 1500)),
            ("ends\x007\x00255\x000", ends(7, 255, 0)),
            ("ends\x007\x00256\x000", None),
            ("ends\x007\0-1\x000", None),
            ("ends\x007\x000", None),
            ("ends\x007\x000\x0099999999999999999999999", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(parse(message.as_bytes(), 11), expected, "{message:?}");
        }
    }

    #[test]
    fn a_message_is_taken_from_processes_of_the_user_alone_and_names_its_sender() {
        let mut reports = Reports::open().expect("a socket");
        let me = nix::unistd::geteuid().as_raw();
        assert!(reports.source().is_some() && reports.source().is_none());
        let address = UnixAddr::new_abstract(reports.address()).expect("its address");
        let sender =
            socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).expect("one");
        let send = || sendto(sender.as_raw_fd(), b"ends\x007\x000\x0015", &address, MsgFlags::empty());
        assert!(reports.next(me).is_none());
        for _ in 0..2 {
            send().expect("sent");
        }
        assert_eq!(reports.next(me.wrapping_add(1)), Some(None));
        let (exit, cpu_time) = (Exit::Status(0), Duration::from_micros(15));
        let expected = Report::Ends { id: 7, pid: std::process::id() as i32, exit, cpu_time };
        assert_eq!(reports.next(me), Some(Some(expected)));
        assert!(reports.next(me).is_none());
    }
}
