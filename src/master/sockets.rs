//! Opens the listeners: TCP, Unix sockets, inherited descriptors. Done as root, before anything is started.

mod unix;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::config::{Address, Config, ListenerProtocol, StartupError};
use crate::sys;

pub(crate) use unix::{OwnedPath, open as open_unix};

/// As many as go with one message, beside both ends of the hand-off queue, a page of the scoreboard and the access log.
const MAX_LISTENERS: usize = sys::MAX_DESCRIPTORS - 4;

/// A listening socket. Generations share it: one that the next configuration still names stays open, with all that
/// waits in it.
#[derive(Debug)]
pub(crate) struct Listener {
    /// As the configuration names it: with port 0, where it does.
    pub(crate) given: Address,
    /// Where it really listens.
    pub(crate) bound: Address,
    pub(crate) descriptor: OwnedFd,
    /// The name of a Unix socket that is ours to remove.
    pub(crate) name: RefCell<Option<OwnedPath>>,
}

/// All listeners of a configuration, in the order of `config.listeners`.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<Rc<Listener>>,
}

impl Sockets {
    /// Nobody is started any more that would accept from them. Once the workers have closed theirs too, new connections
    /// are refused, and a client turns elsewhere at once instead of waiting for somebody who takes no more.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(|listener| listener.descriptor.as_fd())
    }
}

/// Sockets that are open already: from another program (systemd, a web server, spawn-fcgi), from the configuration that
/// has been in force so far, or from the master that this one replaces.
#[derive(Debug, Default)]
pub(crate) struct Available {
    inherited: BTreeMap<RawFd, OwnedFd>,
    kept: Vec<Rc<Listener>>,
}

impl Available {
    /// Those in `kept`, and the inherited ones that the configuration names. To be called before this process opens
    /// anything itself: a number could be that of a descriptor of its own otherwise.
    pub(crate) fn inherit(config: &Config, kept: Vec<Rc<Listener>>) -> Result<Available, StartupError> {
        let mut available = Available { inherited: BTreeMap::new(), kept };
        for listener in &config.listeners {
            if let Address::Fd(number) = listener.address
                && !available.kept.iter().any(|kept| kept.given == listener.address)
            {
                available.inherited.insert(number, take_inherited(number)?);
            }
        }
        Ok(available)
    }

    /// Those of configurations that are in force, which may share some.
    pub(crate) fn of<'a>(listeners: impl Iterator<Item = &'a Rc<Listener>>) -> Available {
        let mut kept: Vec<Rc<Listener>> = Vec::new();
        for listener in listeners {
            if !kept.iter().any(|other| Rc::ptr_eq(other, listener)) {
                kept.push(listener.clone());
            }
        }
        Available { inherited: BTreeMap::new(), kept }
    }

    /// The socket that is open for this address. Several of port 0 are told apart by their order.
    fn take(&mut self, address: &Address) -> Option<Rc<Listener>> {
        let at = self.kept.iter().position(|kept| kept.given == *address)?;
        Some(self.kept.remove(at))
    }
}

/// Opens every listener of the configuration that is not open yet, and writes the port into it where 0 was asked for.
///
/// # Errors
/// The first one that can't be opened; those before it that were opened here are closed and removed again.
pub(crate) fn open(config: &mut Config, mut available: Available) -> Result<Sockets, StartupError> {
    if config.listeners.len() > MAX_LISTENERS {
        return Err(StartupError::usage(format!("more than {MAX_LISTENERS} listeners")));
    }
    let addresses: Vec<Address> = config.listeners.iter().map(|listener| listener.address.clone()).collect();
    let mut sockets = Sockets::default();
    for address in &addresses {
        let listener = match available.take(address) {
            Some(kept) => {
                // The one thing of an open socket that may change.
                let _ = SockRef::from(&kept.descriptor).listen(backlog_of(config.backlog));
                kept
            }
            None => Rc::new(open_one(address, config, &addresses, &mut available)?),
        };
        sockets.listeners.push(listener);
    }
    for (listener, socket) in config.listeners.iter_mut().zip(&sockets.listeners) {
        listener.address = socket.bound.clone();
        let protocol = match listener.protocol {
            ListenerProtocol::Http => "http",
            ListenerProtocol::FastCgi => "fastcgi",
        };
        let is_new = Rc::strong_count(socket) == 1;
        let level = if is_new { log::Level::Info } else { log::Level::Debug };
        let place = bound_to(&listener.address, &socket.descriptor);
        log::log!(level, "listening on {protocol} {}{place}", listener.address);
    }
    Ok(sockets)
}

fn open_one(
    given: &Address,
    config: &Config,
    all: &[Address],
    available: &mut Available,
) -> Result<Listener, StartupError> {
    let (descriptor, bound, name) = match given {
        Address::Tcp(address) => {
            let socket = open_tcp(*address, all, config.backlog).map_err(|error| {
                own_conflict(*address, all, &error).unwrap_or_else(|| tcp_error(*address, &error))
            })?;
            // Port 0 has become a real one.
            let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket());
            let bound = bound.map_or_else(|| given.clone(), Address::Tcp);
            (OwnedFd::from(socket), bound, None)
        }
        Address::Unix(path) => {
            let owner = config.processes.identity.as_ref();
            let (descriptor, name) = unix::open(path, config.socket_mode, owner, config.backlog)?;
            (descriptor, given.clone(), Some(name))
        }
        Address::Fd(number) => {
            let descriptor = available.inherited.remove(number).ok_or_else(|| {
                StartupError::usage(format!(
                    "fd:{number}: a descriptor can be one listener only, and can only be passed at the start"
                ))
            })?;
            (descriptor, given.clone(), None)
        }
    };
    Ok(Listener { given: given.clone(), bound, descriptor, name: name.into() })
}

/// A listener that is no concern of the workers.
pub(crate) fn open_plain_tcp(address: SocketAddr, backlog: u32) -> Result<OwnedFd, StartupError> {
    open_tcp(address, &[], backlog).map(OwnedFd::from).map_err(|error| tcp_error(address, &error))
}

fn open_tcp(address: SocketAddr, all: &[Address], backlog: u32) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // [::] takes IPv4 too, unless there is an IPv4 listener of that port: said here, not by the system's default.
        let has_ipv4 = |other: &Address| matches!(other, Address::Tcp(other) if other.is_ipv4() && other.port() == address.port());
        socket.set_only_v6(all.iter().any(has_ipv4))?;
    }
    socket.bind(&SockAddr::from(address))?;
    // Connections inherit it, those too that come before a worker is there: small answers wait for no acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.listen(backlog_of(backlog))?;
    Ok(socket)
}

/// The port is taken by another listener of the same configuration.
fn own_conflict(address: SocketAddr, all: &[Address], error: &io::Error) -> Option<StartupError> {
    let overlaps = |other: &&Address| match other {
        Address::Tcp(other) => {
            *other != address
                && other.port() == address.port()
                && (other.ip().is_unspecified() || address.ip().is_unspecified())
        }
        _ => false,
    };
    let other = all.iter().find(overlaps).filter(|_| error.raw_os_error() == Some(libc::EADDRINUSE))?;
    Some(StartupError::usage(format!(
        "cannot listen on {address} and on {other}: one of them has that port on every address, the other's included; \
         name only that one"
    )))
}

pub(crate) fn tcp_error(address: SocketAddr, error: &io::Error) -> StartupError {
    let hint = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "another process listens there (ss -ltnp 'sport = :{}' shows which); stop it, or name another port",
            address.port()
        ),
        Some(libc::EACCES) if address.port() < 1024 => format!(
            "ports below 1024 need root: start forkhorn as root with --user, give the binary the capability \
             (setcap cap_net_bind_service=+ep), or use a port from 1024 on ({error})"
        ),
        Some(libc::EADDRNOTAVAIL) => "no network interface of this machine has that address".into(),
        Some(libc::EAFNOSUPPORT) => "this machine has no IPv6: use an IPv4 address".into(),
        _ => error.to_string(),
    };
    StartupError::other(format!("cannot listen on {address}: {hint}"))
}

fn take_inherited(number: i32) -> Result<OwnedFd, StartupError> {
    let wrong = |why: &str| StartupError::other(format!("cannot listen on fd:{number}: {why}"));
    let descriptor = sys::copy_inherited(number)
        .map_err(|error| wrong(&error.to_string()))?
        .ok_or_else(|| wrong("forkhorn was started without this descriptor"))?;
    let socket = SockRef::from(&descriptor);
    match socket.r#type() {
        Ok(Type::STREAM) => {}
        Ok(_) => return Err(wrong("it is not a stream socket")),
        Err(_) => return Err(wrong("it is not a socket; whoever starts forkhorn must pass a listening one")),
    }
    // SO_ACCEPTCONN
    if !socket.is_listener().unwrap_or(false) {
        return Err(wrong("it is a socket, but not a listening one"));
    }
    socket.set_nonblocking(true).map_err(|error| wrong(&error.to_string()))?;
    sys::close_inherited(number).map_err(|error| wrong(&error.to_string()))?;
    Ok(descriptor)
}

/// The address of an inherited listener, for the log.
fn bound_to(address: &Address, descriptor: &OwnedFd) -> String {
    if !matches!(address, Address::Fd(_)) {
        return String::new();
    }
    let Ok(bound) = SockRef::from(&descriptor.as_fd()).local_addr() else { return String::new() };
    match (bound.as_socket(), bound.as_pathname()) {
        (Some(address), _) => format!(" ({address})"),
        (_, Some(path)) => format!(" (unix:{})", path.display()),
        _ => String::new(),
    }
}

fn backlog_of(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
