//! Step 1 of a request's way: accept, on sockets that all workers share.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use socket2::SockRef;

use crate::config::{ListenerProtocol, StartupError};
use crate::gateway::{Endpoint, Peer};
use crate::protocol::fastcgi::WebServerAddrs;
use crate::scoreboard::Counter;
use crate::sys::epoll;

use super::connection::Connection;
use super::core::Core;
use super::hand_off::Drain;
use super::keyed::{Key, Source};
use super::protocol::Protocol;
use super::room::is_passing;
use super::socket::Socket;
use super::state::Phase;

/// After accept(2) failed for want of descriptors or memory: how long until the next attempt.
const RETRY: Duration = Duration::from_millis(100);

/// What the kernel takes, past what it can send at once, for a peer on this machine. It would send the rest as
/// acknowledgements come: there, within the reader's system calls, so that the reader pays for it. And as the next piece
/// then follows each acknowledgement immediately, the reader's kernel takes a few microseconds for the round trip, by
/// which it measures how far to open its window: it stays at a fraction of an answer for as long as the connection lives.
const MOST_UNSENT_BYTES: u32 = 128 * 1024;

#[derive(Debug)]
enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Debug)]
struct Listener {
    acceptor: Acceptor,
    protocol: ListenerProtocol,
    /// The address of every connection, where it is one: a listener on all addresses has to ask each connection.
    local: Option<SocketAddr>,
}

/// The listeners of a worker, and whether it accepts now.
pub(crate) struct Listeners {
    all: Vec<Listener>,
    allowed: Option<WebServerAddrs>,
    /// The poll's descriptor: exclusive wake-up is beyond what mio offers.
    epoll: OwnedFd,
    accepting: bool,
    /// The hand-off queue is watched.
    receiving: bool,
    /// Nobody could take a request now: the relief thread leaves new connections to other workers.
    pub held_back: bool,
    retry_at: Option<Instant>,
    failures: u64,
}

/// A connection that has just been accepted.
pub(crate) struct Accepted {
    socket: Socket,
    protocol: Protocol,
    endpoint: Endpoint,
}

impl Accepted {
    pub fn into_connection(self, key: Key) -> Connection {
        Connection::new(key, self.socket, self.protocol, self.endpoint)
    }
}

impl Listeners {
    pub fn new(
        fds: Vec<OwnedFd>,
        protocols: impl Iterator<Item = ListenerProtocol>,
        allowed: Option<WebServerAddrs>,
        epoll: OwnedFd,
    ) -> Result<Self, StartupError> {
        let mut all = Vec::new();
        for (fd, protocol) in fds.into_iter().zip(protocols) {
            all.push(listener(fd, protocol)?);
        }
        Ok(Listeners {
            all,
            allowed,
            epoll,
            accepting: false,
            receiving: false,
            held_back: false,
            retry_at: None,
            failures: 0,
        })
    }

    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Accepts and receives while there is room, and only then: what is watched in vain would keep the loop awake. A
    /// worker that drains accepts never again.
    pub fn update(&mut self, core: &mut Core, connections: usize, phase: Phase) {
        if self.retry_at.is_some_and(|at| core.now >= at) {
            self.retry_at = None;
        }
        let has_room =
            !self.held_back && self.retry_at.is_none() && connections < core.config.limits.max_connections;
        // A worker that closes its connections still answers what others have handed over before.
        let receives = phase == Phase::Serving || (phase == Phase::Draining && core.drain == Drain::Close);
        self.watch_queue(has_room && receives && !core.hand_off.is_broken, core);
        self.watch_listeners(has_room && phase == Phase::Serving);
        if phase != Phase::Serving {
            // A closed descriptor leaves the poll by itself, unless another process still holds the socket.
            self.all.clear();
        }
    }

    fn watch_queue(&mut self, wanted: bool, core: &Core) {
        if wanted == self.receiving {
            return;
        }
        self.receiving = wanted;
        let end = core.hand_off.queue.receiving_end();
        let result = match wanted {
            true => epoll::add_exclusive(self.epoll.as_fd(), end, Source::HandOff.token().0 as u64),
            false => epoll::remove(self.epoll.as_fd(), end),
        };
        if let Err(error) = result {
            log::error!("the hand-off queue can't be {}: {error}", if wanted { "watched" } else { "left" });
        }
    }

    fn watch_listeners(&mut self, wanted: bool) {
        if wanted == self.accepting {
            return;
        }
        self.accepting = wanted;
        for (index, listener) in self.all.iter().enumerate() {
            let token = Source::Listener(index as u32).token().0 as u64;
            let result = match wanted {
                true => epoll::add_exclusive(self.epoll.as_fd(), listener.as_fd(), token),
                false => epoll::remove(self.epoll.as_fd(), listener.as_fd()),
            };
            if let Err(error) = result {
                log::error!("listener {index} can't be {}: {error}", if wanted { "watched" } else { "left" });
            }
        }
    }

    /// `None`: another worker was faster, the peer is not allowed, or there is no descriptor left.
    pub fn accept(&mut self, index: usize, core: &mut Core) -> Option<Accepted> {
        let listener = self.all.get(index)?;
        match listener.accept() {
            Ok((socket, endpoint)) => {
                if listener.protocol == ListenerProtocol::FastCgi && !self.allows(&endpoint) {
                    log::warn!(
                        "FastCGI connection from {:?} refused: not in --web-server-addrs",
                        endpoint.peer
                    );
                    return None;
                }
                core.board.count(Counter::connection(listener.protocol));
                let protocol = Protocol::new(listener.protocol, core);
                Some(Accepted { socket, protocol, endpoint })
            }
            Err(error) => {
                self.failed(&error, core);
                None
            }
        }
    }

    fn allows(&self, endpoint: &Endpoint) -> bool {
        match (&self.allowed, endpoint.peer) {
            (Some(allowed), Peer::Ip(address)) => allowed.allows(address.ip().to_canonical()),
            _ => true,
        }
    }

    /// Neither accepts nor receives for a while, if the fault is this process's.
    pub fn failed(&mut self, error: &io::Error, core: &mut Core) {
        if is_passing(error) {
            return;
        }
        core.board.count(Counter::AcceptFailures);
        self.retry_at = Some(core.now + RETRY);
        if core.room.note(error) {
            // What can be done about it is done at the end of the turn, and the log is told then.
            return;
        }
        if self.failures.is_multiple_of(100) {
            log::error!("no connection can be taken: {error}; trying again every {} ms", RETRY.as_millis());
        }
        self.failures += 1;
    }

    /// There is room again.
    pub fn retry_now(&mut self) {
        self.retry_at = None;
    }
}

impl Listener {
    fn accept(&self) -> io::Result<(Socket, Endpoint)> {
        match &self.acceptor {
            Acceptor::Tcp(tcp) => tcp.accept().map(|(stream, peer)| {
                let local = self.local.or_else(|| stream.local_addr().ok());
                if self.local.is_none() && peer.ip().to_canonical().is_loopback() {
                    suit_to_this_machine(&stream);
                }
                (Socket::Tcp(stream), Endpoint::new(Peer::Ip(peer), local))
            }),
            Acceptor::Unix(unix) => {
                unix.accept().map(|(stream, _)| (Socket::Unix(stream), Endpoint::new(Peer::Unix, None)))
            }
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.acceptor {
            Acceptor::Tcp(tcp) => tcp.as_fd(),
            Acceptor::Unix(unix) => unix.as_fd(),
        }
    }
}

fn listener(fd: OwnedFd, protocol: ListenerProtocol) -> Result<Listener, StartupError> {
    let address: SockaddrStorage = getsockname(fd.as_raw_fd())
        .map_err(|error| StartupError::other(format!("a listener's address can't be read: {error}")))?;
    if address.family() == Some(AddressFamily::Unix) {
        let unix = UnixListener::from_std(std::os::unix::net::UnixListener::from(fd));
        return Ok(Listener { acceptor: Acceptor::Unix(unix), protocol, local: None });
    }
    let tcp = std::net::TcpListener::from(fd);
    // Accepted connections inherit it: no system call for each. Small answers must not wait for an acknowledgement.
    if let Err(error) = SockRef::from(&tcp).set_tcp_nodelay(true) {
        log::debug!("TCP_NODELAY can't be set on a listener: {error}");
    }
    let local = tcp.local_addr().ok().filter(|address| !address.ip().is_unspecified());
    if local.is_some_and(|local| local.ip().to_canonical().is_loopback()) {
        suit_to_this_machine(&tcp);
    }
    Ok(Listener { acceptor: Acceptor::Tcp(TcpListener::from_std(tcp)), protocol, local })
}

/// Where the peer is on this machine, what is long is sent as fast as it is taken, and from this processor. The
/// connections of a listener inherit both.
fn suit_to_this_machine(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    // BBR, which many systems use for all connections, paces: by a timer for every segment, and at the rate of the slowest
    // moment. Reno, which every kernel has, does not.
    if let Err(error) = socket.set_tcp_congestion(b"reno") {
        log::debug!("the congestion control of connections on this machine stays as it is: {error}");
    }
    if let Err(error) = socket.set_tcp_notsent_lowat(MOST_UNSENT_BYTES) {
        log::debug!("how much the kernel keeps for connections on this machine stays as it is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::worker::tests::until;

    /// A connection from this machine, as a worker gets it from a listener at `address`; and its other end.
    fn accepted(address: &str, protocol: ListenerProtocol) -> (Socket, TcpStream) {
        let socket = TcpListener::bind(address).expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        let port = socket.local_addr().expect("bound").port();
        let listener = listener(OwnedFd::from(socket), protocol).expect("a listener");
        let client = TcpStream::connect(("127.0.0.1", port)).expect("accepted");
        let (socket, endpoint) = until(|| listener.accept().ok());
        let local = endpoint.local.map(|local| (local.ip().to_canonical().to_string(), local.port()));
        assert_eq!(local, Some(("127.0.0.1".to_owned(), port)));
        (socket, client)
    }

    #[test]
    fn connections_from_this_machine_are_not_paced_and_keep_little_in_the_kernel() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let (socket, _client) = accepted(address, ListenerProtocol::Http);
            let socket = SockRef::from(&socket);
            let control = socket.tcp_congestion().expect("TCP");
            assert!(control.starts_with(b"reno"), "{address}: {}", String::from_utf8_lossy(&control));
            assert_eq!(socket.tcp_notsent_lowat().expect("TCP"), MOST_UNSENT_BYTES, "{address}");
        }
    }

    #[test]
    fn accepted_connections_send_small_answers_without_delay() {
        for protocol in [ListenerProtocol::Http, ListenerProtocol::FastCgi] {
            for address in ["127.0.0.1:0", "0.0.0.0:0"] {
                let (socket, _client) = accepted(address, protocol);
                assert!(SockRef::from(&socket).tcp_nodelay().expect("TCP"), "{address}, {protocol:?}");
            }
        }
    }
}
