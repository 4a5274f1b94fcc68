//! The sockets through which one can ask: that of `--status`, and the control socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use socket2::Socket;

use super::Access;
use crate::config::{Address, Config, StartupError};
use crate::master::sockets::{self, OwnedPath};

/// Connections that the kernel keeps waiting.
const BACKLOG: u32 = 64;

/// Only whoever forkhorn runs as, and root, may connect; [`StatusListener::accept`] asks the kernel who it is as well.
const CONTROL_MODE: u32 = 0o600;

#[derive(Debug)]
pub(super) struct StatusListener {
    socket: Socket,
    pub(super) access: Access,
    /// For the log.
    pub(super) name: &'static str,
    /// Removed with the listener.
    _path: Option<OwnedPath>,
}

pub(super) fn open(config: &Config) -> Result<Vec<StatusListener>, StartupError> {
    let mut all = Vec::new();
    if let Some(address) = &config.status {
        let (descriptor, path) = match address {
            Address::Tcp(address) => {
                (sockets::open_plain_tcp(*address, BACKLOG).map_err(|error| of("--status", &error))?, None)
            }
            Address::Unix(path) => {
                let owner = config.processes.identity.as_ref();
                let (descriptor, path) = sockets::open_unix(path, config.socket_mode, owner, BACKLOG)
                    .map_err(|error| of("--status", &error))?;
                (descriptor, Some(path))
            }
            Address::Fd(_) => return Err(StartupError::usage("--status takes no inherited descriptor")),
        };
        let listener = StatusListener::new(descriptor, Access::Look, "the status listener", path);
        log::info!("status on {}", listener.bound(address));
        all.push(listener);
    }
    if let Some(path) = &config.control {
        let (descriptor, path) =
            sockets::open_unix(path, CONTROL_MODE, None, BACKLOG).map_err(|error| of("--control", &error))?;
        all.push(StatusListener::new(descriptor, Access::Command, "the control socket", Some(path)));
    }
    Ok(all)
}

/// Which of the listeners it is about.
fn of(option: &str, error: &StartupError) -> StartupError {
    StartupError::other(format!("{option}: {error}"))
}

impl StatusListener {
    pub(super) fn new(
        descriptor: OwnedFd,
        access: Access,
        name: &'static str,
        path: Option<OwnedPath>,
    ) -> Self {
        StatusListener { socket: Socket::from(descriptor), access, name, _path: path }
    }

    /// Port 0 has become a real one.
    fn bound(&self, address: &Address) -> Address {
        let bound: Option<SocketAddr> = self.socket.local_addr().ok().and_then(|bound| bound.as_socket());
        bound.map_or_else(|| address.clone(), Address::Tcp)
    }

    pub(super) fn watch(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, Interest::READABLE)
    }

    /// `Ok(None)`: somebody who may not ask.
    pub(super) fn accept(&self) -> io::Result<Option<Socket>> {
        let (socket, _) = self.socket.accept()?;
        socket.set_nonblocking(true)?;
        if self.access == Access::Command {
            let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
            if peer.uid() != 0 && peer.uid() != geteuid().as_raw() {
                log::warn!("the control socket refuses process {} of user {}", peer.pid(), peer.uid());
                return Ok(None);
            }
        }
        Ok(Some(socket))
    }
}
