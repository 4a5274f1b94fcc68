//! The worker's end of the channel to a warm interpreter.
//!
//! A message is one datagram of a SOCK_SEQPACKET pair: fields, joined by NUL, which no variable and no path can hold.
//!
//! | to the interpreter | means |
//! | --- | --- |
//! | the driver's text | run it |
//! | `name=value` … | how it is to serve; with the receiving end of the queue for spare children |
//! | R id flags path directory variable … | run a script; descriptors: 0, 1 and 2 of it. Also to a spare child. The flags are `l`, to tell what was loaded, or `-`, then the version of the script's file; to Python, the name and the value of a variable are two fields |
//! | W id pid | wait for a child that has ended |
//! | S count pace version path | fork so many spare children. `calm`: they have time to prepare themselves, `hurry`: requests wait for the processor. The script that a spare child was given last, which may be given again |
//!
//! | from it | means |
//! | --- | --- |
//! | ready module … | it serves, with these modules loaded |
//! | refused module reason | it ends: it has to be started without this module |
//! | unusable reason | it ends: this interpreter can't serve |
//! | started id | from the child: the script runs now. The kernel says which process has sent it |
//! | failed id errno | from either: the script does not run |
//! | spare | from a child: it waits for a request |
//! | exit id status microseconds, running id | the answer to W: wait status and processor time; -1 if there is no such child |
//! | stale file | a module that is loaded has changed: it wants to be replaced |

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, UnixCredentials, recvmsg,
    setsockopt, shutdown, socketpair, sockopt,
};

use crate::sys::spawn::{Exit, above_standard};
use crate::sys::{self};

/// A longer request is run the classic way.
pub(crate) const MAX_MESSAGE_BYTES: usize = 160 * 1024;
/// Longest message that is read: a list of modules, or a line.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What a warm interpreter or one of its children says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready(Vec<String>),
    Refused { module: String, reason: String },
    Unusable(String),
    Started { id: u32 },
    Failed { id: u32, errno: i32 },
    Spare,
    Exit { id: u32, exit: Exit, cpu_time: Option<Duration> },
    Running { id: u32 },
    Stale(String),
}

/// Shared by the interpreter and the requests that it runs.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    /// Where spare children wait.
    spares: Option<OwnedFd>,
    lost: AtomicBool,
}

/// The interpreter's ends.
pub(crate) struct Theirs {
    pub channel: OwnedFd,
    pub spares: Option<OwnedFd>,
}

impl Link {
    pub fn pair(with_spares: bool) -> io::Result<(Link, Theirs)> {
        let (socket, channel) = pair()?;
        // The kernel then says with each message which process has sent it.
        setsockopt(&socket, sockopt::PassCred, &true)?;
        let (spares, their_spares) =
            if with_spares { pair().map(|(a, b)| (Some(a), Some(b)))? } else { (None, None) };
        let link = Link { socket, spares, lost: AtomicBool::new(false) };
        Ok((link, Theirs { channel, spares: their_spares }))
    }

    /// Never waits. Nothing was sent if it fails.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        sys::send_message(self.socket.as_fd(), message, descriptors)
    }

    /// To whichever spare child waits longest.
    pub fn send_to_spare(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let spares = self.spares.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        sys::send_message(spares.as_fd(), message, descriptors)
    }

    /// Asks how a child has ended, which also reaps it. False: ask again.
    pub fn ask(&self, id: u32, pid: i32) -> bool {
        self.send(&fields(&[b"W", id.to_string().as_bytes(), pid.to_string().as_bytes()]), &[]).is_ok()
    }

    /// The next message, and its sender's pid. `None` at the end; an error of the kind `WouldBlock` if there is none now.
    /// What is not understood is skipped.
    pub fn receive(&self, buffer: &mut Vec<u8>, user: u32) -> io::Result<Option<(Said, i32)>> {
        loop {
            let (message, sender) = receive(self.socket.as_fd(), buffer)?;
            if message.is_empty() {
                return Ok(None);
            }
            let Some(sender) = sender.filter(|sender| sender.uid() == user) else { continue };
            match parse(message) {
                Some(said) => return Ok(Some((said, sender.pid()))),
                None => log::warn!("a warm interpreter says what is not understood"),
            }
        }
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The interpreter is gone, or nobody listens to it any more.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Gives it up: it sees the end of the channel, and so does a child that has not started its script.
    pub fn give_up(&self) {
        self.lost.store(true, Ordering::Relaxed);
        for socket in [Some(&self.socket), self.spares.as_ref()].into_iter().flatten() {
            // It may be gone already.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    for end in [&one, &other] {
        setsockopt(end, sockopt::SndBuf, &(2 * MAX_MESSAGE_BYTES))?;
    }
    Ok((above_standard(one)?, above_standard(other)?))
}

/// The next message, read by way of a buffer that is kept for the next one, and who the kernel says has sent it. An error
/// of the kind `WouldBlock` if there is none now.
pub(super) fn receive<'a>(
    socket: BorrowedFd<'_>,
    buffer: &'a mut Vec<u8>,
) -> io::Result<(&'a [u8], Option<UnixCredentials>)> {
    buffer.resize(MAX_ANSWER_BYTES, 0);
    // Room for all that one message may have (SCM_MAX_FD): what is cut off could not be told from what is wrong.
    let mut control = nix::cmsg_space!(UnixCredentials, [RawFd; 253]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut sender = None;
    let length = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials),
                // Nobody has reason to send any. A descriptor that was just made can be closed.
                ControlMessageOwned::ScmRights(rights) => {
                    for descriptor in rights {
                        let _ = nix::unistd::close(descriptor);
                    }
                }
                _ => {}
            }
        }
        break message.bytes;
    };
    Ok((buffer.get(..length).unwrap_or_default(), sender))
}

/// A message of these fields.
pub(crate) fn fields(all: &[&[u8]]) -> Vec<u8> {
    all.join(&0)
}

fn parse(message: &[u8]) -> Option<Said> {
    let mut fields = message.split(|&byte| byte == 0);
    let kind = fields.next()?;
    let mut text = || fields.next().map(|field| String::from_utf8_lossy(field).into_owned());
    Some(match kind {
        b"ready" => Said::Ready(std::iter::from_fn(text).filter(|name| !name.is_empty()).collect()),
        b"refused" => Said::Refused { module: text()?, reason: text()? },
        b"unusable" => Said::Unusable(text()?),
        b"started" => Said::Started { id: text()?.parse().ok()? },
        b"failed" => Said::Failed { id: text()?.parse().ok()?, errno: text()?.parse().ok()? },
        b"spare" => Said::Spare,
        b"exit" => Said::Exit {
            id: text()?.parse().ok()?,
            exit: exit(text()?.parse().ok()?),
            cpu_time: text().and_then(|time| time.parse().ok()).map(Duration::from_micros),
        },
        b"running" => Said::Running { id: text()?.parse().ok()? },
        b"stale" => Said::Stale(text()?),
        _ => return None,
    })
}

/// A wait status (wait(2)).
fn exit(status: i32) -> Exit {
    if status < 0 {
        return Exit::Unknown;
    }
    let status = ExitStatus::from_raw(status);
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_or_skipped() {
        let strings = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (message, expected) in [
            ("ready\0json\0re", Some(Said::Ready(strings(&["json", "re"])))),
            ("ready", Some(Said::Ready(Vec::new()))),
            ("started\x007", Some(Said::Started { id: 7 })),
            ("failed\x007\x0011", Some(Said::Failed { id: 7, errno: 11 })),
            (
                "exit\x007\x00256\x001500",
                Some(Said::Exit {
                    id: 7,
                    exit: Exit::Status(1),
                    cpu_time: Some(Duration::from_micros(1500)),
                }),
            ),
            ("exit\x007\x0015", Some(Said::Exit { id: 7, exit: Exit::Signal(15), cpu_time: None })),
            ("exit\x007\x00-1", Some(Said::Exit { id: 7, exit: Exit::Unknown, cpu_time: None })),
            ("running\x007", Some(Said::Running { id: 7 })),
            ("spare", Some(Said::Spare)),
            ("stale\0/x", Some(Said::Stale("/x".into()))),
            ("unusable\0why", Some(Said::Unusable("why".into()))),
            ("refused\0a\0b", Some(Said::Refused { module: "a".into(), reason: "b".into() })),
            ("started\0", None),
            ("started\0-1", None),
            ("exit\x007", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(parse(message.as_bytes()), expected, "{message:?}");
        }
    }

    #[test]
    fn a_message_comes_with_its_senders_pid_and_the_end_is_seen() {
        let (link, theirs) = Link::pair(false).expect("a pair");
        let me = nix::unistd::geteuid().as_raw();
        let mut buffer = Vec::new();
        assert_eq!(link.receive(&mut buffer, me).expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
        for message in [&b"nonsense"[..], b"started\x003"] {
            sys::send_message(theirs.channel.as_fd(), message, &[link.descriptor()]).expect("sent");
        }
        let received = link.receive(&mut buffer, me).expect("received");
        assert_eq!(received, Some((Said::Started { id: 3 }, std::process::id() as i32)));
        sys::send_message(theirs.channel.as_fd(), b"started\x004", &[]).expect("sent");
        // Of another user: skipped.
        assert!(link.receive(&mut buffer, me.wrapping_add(1)).is_err());
        link.give_up();
        assert!(sys::send_message(theirs.channel.as_fd(), b"started\x005", &[]).is_err());
        assert_eq!(link.receive(&mut buffer, me).expect("the end"), None);
    }
}
