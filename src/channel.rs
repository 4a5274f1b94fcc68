//! Master, template and workers talk in one typed enum, over sockets that keep messages apart.
//!
//! A message is JSON of at most [`MAX_MESSAGE_BYTES`]; descriptors go with it (SCM_RIGHTS). Sending never blocks, so
//! that a process that doesn't read can't stop the one that writes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::sys;

/// Longest message, in bytes of JSON. The kernel's default send buffer holds one of them (net.core.wmem_default).
pub const MAX_MESSAGE_BYTES: usize = 200 * 1024;

/// From the master to a template or a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToProcess {
    /// The first message on a fresh channel. Descriptors: the listeners, the sending and the receiving end of the
    /// hand-off queue, for a worker its page of the scoreboard, then the access log if there is one.
    Start { role: Role, master_pid: i32, config: Box<Config> },
    /// To a template: fork a worker. Descriptors: the worker's own channel, and its page of the scoreboard.
    Fork { slot: u16, generation: u32 },
    /// Finish what runs, then exit. Connections go to the other workers, if any remain or are about to come
    /// (`hand_over`); else they are closed. May come again, with `false`.
    Drain { hand_over: bool },
    /// End now.
    Stop,
    /// Descriptor: the reopened access log.
    AccessLog,
    /// To a worker that has been silent: answer with Alive.
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Template { generation: u32 },
    Worker { slot: u16, generation: u32 },
}

impl Role {
    pub fn generation(self) -> u32 {
        match self {
            Role::Template { generation } | Role::Worker { generation, .. } => generation,
        }
    }
}

/// From a template or a worker to the master. The master believes none of it blindly: a worker may be hostile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMaster {
    /// Template: all applications are loaded.
    Loaded,
    /// Template: a worker was forked. One answer to each Fork, in their order.
    Forked { slot: u16, generation: u32, pid: i32 },
    /// Template: the worker could not be forked.
    ForkFailed { slot: u16, generation: u32, reason: String },
    /// Template, `--preload auto`: loading started threads or opened sockets (`reasons`); it exits now.
    CannotPreload { reasons: Vec<String> },
    /// Template or worker: an application can't be loaded; `report` is for the log, `advice` is one line.
    LoadFailed { application: String, report: String, advice: String },
    /// Worker: accepts requests from now on.
    Ready,
    /// Worker: its loop turns. One answer to each Ping.
    Alive,
    /// Worker: has taken so many requests that it should be replaced. It goes on serving until it is told to drain.
    WantsReplacement { requests: u64 },
    /// Worker: must be replaced (a request over its time, for one), because of `reason`; it drains by itself.
    Retiring { reason: String },
}

/// What one side of a channel says.
pub trait Message: Serialize + DeserializeOwned {
    /// A message with more descriptors is malformed.
    const MAX_DESCRIPTORS: usize;

    /// The same in fewer bytes, if it can lose some.
    fn shortened(&self) -> Option<Self>;
}

impl Message for ToProcess {
    const MAX_DESCRIPTORS: usize = sys::MAX_DESCRIPTORS;

    fn shortened(&self) -> Option<Self> {
        None
    }
}

impl Message for ToMaster {
    const MAX_DESCRIPTORS: usize = 0;

    fn shortened(&self) -> Option<Self> {
        // JSON writes a byte as six at most, so that these always fit.
        const REPORT_BYTES: usize = MAX_MESSAGE_BYTES / 8;
        const LINE_BYTES: usize = 1024;
        Some(match self {
            ToMaster::LoadFailed { application, report, advice } => ToMaster::LoadFailed {
                application: end_of(application, LINE_BYTES),
                report: end_of(report, REPORT_BYTES),
                advice: end_of(advice, LINE_BYTES),
            },
            ToMaster::CannotPreload { reasons } => ToMaster::CannotPreload {
                reasons: reasons.iter().take(16).map(|reason| end_of(reason, LINE_BYTES)).collect(),
            },
            ToMaster::Retiring { reason } => ToMaster::Retiring { reason: end_of(reason, REPORT_BYTES) },
            ToMaster::ForkFailed { slot, generation, reason } => ToMaster::ForkFailed {
                slot: *slot,
                generation: *generation,
                reason: end_of(reason, LINE_BYTES),
            },
            ToMaster::Loaded
            | ToMaster::Alive
            | ToMaster::Forked { .. }
            | ToMaster::Ready
            | ToMaster::WantsReplacement { .. } => return None,
        })
    }
}

/// The last bytes of a text: a traceback says at its end what went wrong.
fn end_of(text: &str, most: usize) -> String {
    match text.len().checked_sub(most) {
        None | Some(0) => text.to_owned(),
        Some(from) => {
            let from = (from..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
            format!("… {}", text.get(from..).unwrap_or_default())
        }
    }
}

/// One end of a SOCK_SEQPACKET pair.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// `socket` is one end of a SOCK_SEQPACKET pair.
    pub fn new(socket: OwnedFd) -> Self {
        Channel { socket }
    }

    /// Two connected ends, both with CLOEXEC.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        for end in [&one, &other] {
            // As much as may be had: the limit is net.core.wmem_max.
            setsockopt(end, sockopt::SndBuf, &(2 * MAX_MESSAGE_BYTES))?;
        }
        Ok((Channel::new(one), Channel::new(other)))
    }

    /// Sends one message and its descriptors, which stay the caller's. Never blocks: `WouldBlock` means that the other
    /// end has not read for long; nothing was sent then.
    ///
    /// # Errors
    /// `InvalidInput` for a message that is too long or has no JSON form; else what the kernel says.
    pub fn send<M: Message>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        sys::send_message(self.socket.as_fd(), &encode(message)?, descriptors)
    }

    /// The next message and its descriptors, if one has come.
    pub fn try_receive<M: Message>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        match self.receive_with(false) {
            Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result.map(Some),
        }
    }

    /// Waits for the next message.
    pub fn receive<M: Message>(&self) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        self.receive_with(true)
    }

    fn receive_with<M: Message>(&self, blocking: bool) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let received = sys::receive_message(self.socket.as_fd(), &mut buffer, M::MAX_DESCRIPTORS, blocking)
            .map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionReset => ChannelError::Closed,
            _ => ChannelError::Io(error),
        })?;
        if received.truncated {
            return Err(ChannelError::Malformed("the message is too long, or brings descriptors".into()));
        }
        if received.length == 0 {
            return Err(ChannelError::Closed);
        }
        let bytes = buffer.get(..received.length).unwrap_or_default();
        let message =
            serde_json::from_slice(bytes).map_err(|error| ChannelError::Malformed(error.to_string()))?;
        Ok((message, received.descriptors))
    }
}

/// Whether `message` can be sent at all; the error says why not.
pub(crate) fn check<M: Message>(message: &M) -> io::Result<()> {
    encode(message).map(drop)
}

fn encode<M: Message>(message: &M) -> io::Result<Vec<u8>> {
    let encode = |message: &M| {
        serde_json::to_vec(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    };
    let mut bytes = encode(message)?;
    if bytes.len() > MAX_MESSAGE_BYTES
        && let Some(shortened) = message.shortened()
    {
        bytes = encode(&shortened)?;
    }
    match bytes.len() > MAX_MESSAGE_BYTES {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long")),
        false => Ok(bytes),
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why nothing could be received.
#[derive(Debug)]
pub enum ChannelError {
    /// The other end is closed.
    Closed,
    Io(io::Error),
    /// Not one of our messages.
    Malformed(String),
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChannelError::Closed => f.write_str("the other end is closed"),
            ChannelError::Io(error) => error.fmt(f),
            ChannelError::Malformed(why) => write!(f, "not a message of this version of forkhorn: {why}"),
        }
    }
}

impl std::error::Error for ChannelError {}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    fn pair() -> (Channel, Channel) {
        Channel::pair().expect("a pair")
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (master, process) = pair();
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        master.send(&ToProcess::AccessLog, &[writer.as_fd()]).expect("sent");
        drop(writer);
        let (message, mut descriptors) = process.receive::<ToProcess>().expect("received");
        assert!(matches!(message, ToProcess::AccessLog));
        assert_eq!(descriptors.len(), 1);
        let descriptor = descriptors.remove(0);
        let flags = nix::fcntl::fcntl(&descriptor, nix::fcntl::FcntlArg::F_GETFD).expect("flags");
        assert_eq!(flags, libc::FD_CLOEXEC);
        File::from(descriptor).write_all(b"x").expect("written");
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("read");
        assert_eq!(text, "x");
    }

    #[test]
    fn nothing_to_receive_is_no_error_and_a_closed_end_is_one() {
        let (master, process) = pair();
        assert!(master.try_receive::<ToMaster>().expect("empty").is_none());
        process.send(&ToMaster::Ready, &[]).expect("sent");
        drop(process);
        assert!(matches!(master.try_receive::<ToMaster>(), Ok(Some((ToMaster::Ready, _)))));
        assert!(matches!(master.try_receive::<ToMaster>(), Err(ChannelError::Closed)));
    }

    #[test]
    fn what_a_hostile_worker_sends_is_malformed() {
        let too_long = vec![b' '; MAX_MESSAGE_BYTES + 1];
        for bytes in
            [&b"{"[..], b"\"Unknown\"", b"\xff", b"[[[[[[[[", b"{\"Forked\":{\"slot\":70000}}", &too_long]
        {
            let (master, process) = pair();
            sys::send_message(process.as_fd(), bytes, &[]).expect("sent");
            assert!(matches!(master.try_receive::<ToMaster>(), Err(ChannelError::Malformed(_))));
        }
    }

    #[test]
    fn the_master_takes_no_descriptor_from_a_worker() {
        let (master, process) = pair();
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        process.send(&ToMaster::Ready, &[writer.as_fd()]).expect("sent");
        drop(writer);
        assert!(matches!(master.try_receive::<ToMaster>(), Err(ChannelError::Malformed(_))));
        // The end of the pipe is seen: no copy of the writing end was kept.
        assert_eq!(File::from(reader).read(&mut [0]).expect("read"), 0);
    }

    #[test]
    fn a_process_that_does_not_read_never_blocks_the_sender() {
        let (master, _process) = pair();
        let full = (0..1_000_000)
            .find_map(|_| master.send(&ToProcess::Drain { hand_over: true }, &[]).err())
            .expect("it fills");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_long_report_keeps_its_end() {
        let (master, process) = pair();
        let failed = ToMaster::LoadFailed {
            application: "shop:app".into(),
            report: format!("{}ImportError: the last line", "\u{1}é".repeat(MAX_MESSAGE_BYTES)),
            advice: "install it".into(),
        };
        process.send(&failed, &[]).expect("sent");
        let (message, _) = master.receive::<ToMaster>().expect("received");
        let ToMaster::LoadFailed { report, advice, .. } = message else { panic!("{message:?}") };
        assert!(report.starts_with('…') && report.ends_with("ImportError: the last line"));
        assert_eq!(advice, "install it");
    }
}
