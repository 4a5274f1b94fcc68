//! Opens the listeners: TCP, Unix sockets, inherited descriptors. Done as root, before anything is started.

mod unix;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::config::{Address, Config, ListenerProtocol, StartupError};
use crate::sys;

pub(crate) use unix::OwnedPath;

/// As many as go with one message, beside both ends of the hand-off queue and the access log.
const MAX_LISTENERS: usize = sys::MAX_DESCRIPTORS - 3;

/// All listeners, in the order of `config.listeners`.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Unix sockets that this process has made; removed on drop.
    _paths: Vec<OwnedPath>,
}

impl Sockets {
    /// No process is started any more. Once the workers have closed theirs too, new connections are refused, and a
    /// client turns elsewhere at once instead of waiting for somebody who takes no more.
    pub(crate) fn close(&mut self) {
        self.descriptors.clear();
    }
}

/// Listeners that another program has opened: systemd, a web server, spawn-fcgi.
#[derive(Debug)]
pub(crate) struct Inherited(BTreeMap<RawFd, OwnedFd>);

impl Inherited {
    /// Takes over what the configuration names. To be called before this process opens anything itself: a number could
    /// be that of a descriptor of its own otherwise.
    pub(crate) fn take(config: &Config) -> Result<Inherited, StartupError> {
        let mut taken = BTreeMap::new();
        for listener in &config.listeners {
            if let Address::Fd(number) = listener.address {
                taken.insert(number, take_inherited(number)?);
            }
        }
        Ok(Inherited(taken))
    }
}

/// Opens every listener of the configuration, and writes the port into it where 0 was asked for.
///
/// # Errors
/// The first one that can't be opened; those before it are closed and removed again.
pub(crate) fn open(config: &mut Config, mut inherited: Inherited) -> Result<Sockets, StartupError> {
    if config.listeners.len() > MAX_LISTENERS {
        return Err(StartupError::usage(format!("more than {MAX_LISTENERS} listeners")));
    }
    let mut descriptors = Vec::new();
    let mut paths = Vec::new();
    let addresses: Vec<Address> = config.listeners.iter().map(|listener| listener.address.clone()).collect();
    for listener in &mut config.listeners {
        let descriptor = match &listener.address {
            Address::Tcp(address) => {
                let socket = open_tcp(*address, &addresses, config.backlog)
                    .map_err(|error| tcp_error(*address, &error))?;
                // Port 0 has become a real one.
                if let Some(bound) = socket.local_addr().ok().and_then(|bound| bound.as_socket()) {
                    listener.address = Address::Tcp(bound);
                }
                OwnedFd::from(socket)
            }
            Address::Unix(path) => {
                let owner = config.processes.identity.as_ref();
                let (descriptor, path) = unix::open(path, config.socket_mode, owner, config.backlog)?;
                paths.push(path);
                descriptor
            }
            Address::Fd(number) => inherited.0.remove(number).ok_or_else(|| {
                StartupError::usage(format!("fd:{number}: a descriptor can be one listener only"))
            })?,
        };
        let protocol = match listener.protocol {
            ListenerProtocol::Http => "http",
            ListenerProtocol::FastCgi => "fastcgi",
        };
        log::info!(
            "listening on {protocol} {}{}",
            listener.address,
            bound_to(&listener.address, &descriptor)
        );
        descriptors.push(descriptor);
    }
    Ok(Sockets { descriptors, _paths: paths })
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
    socket.listen(backlog_of(backlog))?;
    Ok(socket)
}

fn tcp_error(address: SocketAddr, error: &io::Error) -> StartupError {
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
