//! Master, template and workers talk in one typed enum, over sockets that keep messages apart.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// From the master to a template or a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToProcess {
    /// The first message on a fresh channel. Descriptors: the listeners, then the access log if there is one.
    Start { role: Role, config: Box<Config> },
    /// To a template: fork a worker. Descriptor: the worker's own channel.
    Fork { slot: u16, generation: u32 },
    /// Finish what runs, close what idles, then exit.
    Drain,
    /// End now.
    Stop,
    /// Descriptor: the reopened access log.
    AccessLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Template { generation: u32 },
    Worker { slot: u16, generation: u32 },
}

/// From a template or a worker to the master. The master believes none of it blindly: a worker may be hostile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToMaster {
    /// Template: all applications are loaded.
    Loaded,
    /// Template: a worker was forked.
    Forked { slot: u16, generation: u32, pid: i32 },
    /// Template, `--preload auto`: loading started threads or opened sockets (`reasons`); it exits now.
    CannotPreload { reasons: Vec<String> },
    /// Template or worker: an application can't be loaded; `report` is for the log, `advice` is one line.
    LoadFailed { application: String, report: String, advice: String },
    /// Worker: accepts requests from now on.
    Ready,
    /// Worker: must be replaced (a request over its time, for one), because of `reason`; it drains by itself.
    Retiring { reason: String },
}

/// One end of a SOCK_SEQPACKET pair.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    pub fn new(socket: OwnedFd) -> Self {
        Channel { socket }
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
