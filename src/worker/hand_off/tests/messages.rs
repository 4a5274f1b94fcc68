//! Single messages: what goes into one, and what is believed of one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::resource::{Resource, setrlimit};

use super::super::MOST_HOPS;
use super::super::departure::Departure;
use super::*;
use crate::gateway::{Endpoint, Peer};
use crate::hand_off::MAX_MESSAGE_BYTES;
use crate::scoreboard::{BoardView, Counter, Gauge, Layout, Scoreboard};
use crate::worker::access_log::{AccessLog, Whereabouts};
use crate::worker::connection::Connection;
use crate::worker::core::Core;
use crate::worker::keyed::Keyed;
use crate::worker::protocol::Protocol;
use crate::worker::socket::Socket;
use crate::worker::tests::{config, until};

#[test]
fn what_comes_on_a_connection_while_it_is_in_the_queue_is_not_lost() {
    let (socket, mut client) = connection();
    client.write_all(&get("/next")).expect("taken");
    let mut one = Running::start_as(0, &OPTIONS, HandOffQueue::open().expect("a queue"));
    one.queue.send(&handed_over("/first"), &[socket.as_fd()]).expect("room");
    drop(socket);
    for end in ["/first", "/next"] {
        assert_answer(&read_answer(&mut client), 0, end);
    }
    // And its end.
    let (socket, client) = connection();
    client.shutdown(std::net::Shutdown::Both).expect("a socket");
    one.queue.send(&handed_over("/left"), &[socket.as_fd()]).expect("room");
    drop(socket);
    until(|| {
        (one.board.counters().of(Counter::HandedIn) == 2 && one.board.gauge(Gauge::Connections) == 1)
            .then_some(())
    });
}

#[test]
fn a_malformed_message_costs_its_connection_and_nothing_else() {
    let one = Running::start_as(0, &OPTIONS, HandOffQueue::open().expect("a queue"));
    let request = b"\x02GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = request.len() as u32;
    let with_body = b"\x02POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
    let malformed = [
        vec![VERSION],
        vec![VERSION, 7],
        vec![VERSION + 1, CONNECTION, 0, 0],
        message(0, 0, 0, 1, b"\x01")[..12].to_vec(),
        message(2, 0, 0, 1, b"\x01"),
        message(0, 0, 0, 2, b"\x01"),
        message(0, 0, 0, u32::MAX, b"\x01"),
        message(0, 0, 0, 0, b""),
        message(0, 0, 0, 1, b"\x09"),
        message(0, 0, 0, length - 1, &request[..request.len() - 1]),
        message(0, 0, 0, length + 1, &[&request[..], b"G"].concat()),
        message(0, 0, 1, length, request),
        message(0, 1, 4, length, &[&request[..], b"body"].concat()),
        message(0, 1, 9, with_body.len() as u32, &[&with_body[..], b"abc"].concat()),
        message(0, 1, u64::MAX, with_body.len() as u32, &[&with_body[..], b"abc"].concat()),
        message(0, 2, 3, with_body.len() as u32, with_body),
        message(0, 0, 0, with_body.len() as u32, with_body),
        message(1, 0, 0, 4, b"\x02\0\0\x01"),
        message(1, 0, 0, 4, b"\x02\0\x01\xff"),
        message(1, 0, 0, 1, b"\x02"),
    ];
    for bytes in malformed {
        let (socket, mut client) = connection();
        one.queue.send(&bytes, &[socket.as_fd()]).expect("room");
        drop(socket);
        assert_eq!(client.read(&mut [0]).expect("closed"), 0, "{}", bytes.escape_ascii());
    }
    // Descriptors that are not what they should be.
    let whole = message(0, 2, 3, with_body.len() as u32, with_body);
    let (short, pipe) = (tempfile::tempfile().expect("a file"), nix::unistd::pipe().expect("a pipe").0);
    for file in [OwnedFd::from(short), pipe] {
        let (socket, mut client) = connection();
        one.queue.send(&whole, &[socket.as_fd(), file.as_fd()]).expect("room");
        drop(socket);
        assert_eq!(client.read(&mut [0]).expect("closed"), 0);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    for descriptor in [listener.as_fd(), reader.as_fd(), writer.as_fd()] {
        one.queue.send(&message(0, 0, 0, 1, b"\x01"), &[descriptor]).expect("room");
    }
    one.queue.send(&message(0, 0, 0, 1, b"\x01"), &[]).expect("room");
    assert_answer(&one.get("/still"), 0, "/still");
    // And one as it should be, with all that came behind it.
    let (socket, mut client) = connection();
    let rest = [&request[..], b"GET /y HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    one.queue.send(&message(0, 0, 0, length, &rest), &[socket.as_fd()]).expect("room");
    drop(socket);
    assert_answer(&read_answer(&mut client), 0, "/x");
    assert_answer(&read_answer(&mut client), 0, "/y");
    assert!(one.queue.is_empty());
}

/// A worker's parts without its loop, and a connection on which `bytes` have come.
pub(in crate::worker) struct Parts {
    pub core: Core,
    pub connection: Connection,
    queue: HandOffQueue,
    _poll: mio::Poll,
    pub client: TcpStream,
}

impl Parts {
    pub fn new(bytes: &[u8]) -> Parts {
        let queue = HandOffQueue::open().expect("a queue");
        let poll = mio::Poll::new().expect("a poll");
        let registry = poll.registry().try_clone().expect("a descriptor");
        let theirs = queue.try_clone().expect("a descriptor");
        let (_, page) = BoardView::create(Layout { threads: 1, scripts: 0 }).expect("a page");
        let board = Scoreboard::open(&page).expect("opened");
        let whereabouts = Whereabouts { slot: 0, generation: 0, pid: 1 };
        let access_log = AccessLog::new(None, config(&OPTIONS), whereabouts);
        let mut core = Core::new(config(&OPTIONS), registry, access_log, theirs, board);
        let (socket, client) = connection();
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).expect("a socket");
        let endpoint = Endpoint::new(Peer::Ip(stream.peer_addr().expect("connected")), None);
        let key = Keyed::default().insert_with(|_| ());
        let socket = Socket::Tcp(mio::net::TcpStream::from_std(stream));
        let mut protocol = Protocol::new(crate::config::ListenerProtocol::Http, &core);
        protocol.receive(bytes, core.now);
        let mut connection = Connection::new(key, socket, protocol, endpoint);
        connection.advance(&mut core);
        Parts { core, connection, queue, _poll: poll, client }
    }

    fn hand_over(&mut self) -> Departure {
        let job = self.core.ready.pop_front();
        let departure = self.connection.hand_over(job.as_ref(), &mut self.core);
        self.core.ready.extend(job);
        departure
    }
}

#[test]
fn a_request_is_handed_over_only_so_often() {
    let mut parts = Parts::new(&get("/x"));
    parts.connection.flights[0].hops = MOST_HOPS;
    assert_eq!(parts.hand_over(), Departure::Stays);
    assert!(parts.queue.is_empty());
    parts.connection.flights[0].hops = MOST_HOPS - 1;
    assert_eq!(parts.hand_over(), Departure::Gone);
    let mut buffer = [0; 1024];
    parts.queue.receive(&mut buffer).expect("a message");
    assert_eq!(buffer[3], MOST_HOPS);
    // The next attempt finds no socket.
    assert_eq!(parts.hand_over(), Departure::Stays);
}

#[test]
fn what_is_too_much_for_a_message_stays() {
    let mut parts = Parts::new(&[get("/x"), vec![b'G'; 2 * MAX_MESSAGE_BYTES]].concat());
    assert_eq!(parts.hand_over(), Departure::Stays);
    assert!(parts.queue.is_empty() && !parts.core.hand_off.is_broken);
    // The buffer is clean for the next one.
    let mut small = Parts::new(&get("/x"));
    std::mem::swap(&mut small.core.hand_off, &mut parts.core.hand_off);
    assert_eq!(small.hand_over(), Departure::Gone);
}

#[test]
fn a_connection_waits_while_no_descriptor_can_be_opened() {
    const IN_CHILD: &str = "FORKHORN_TEST_IN_CHILD";
    if std::env::var_os(IN_CHILD).is_none() {
        // The limit is that of a whole process: the other tests must not share it.
        let mut command = std::process::Command::new(std::env::current_exe().expect("the test program"));
        let name = "worker::hand_off::tests::messages::a_connection_waits_while_no_descriptor_can_be_opened";
        let output = command.args(["--exact", name]).env(IN_CHILD, "1").output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        return;
    }
    let queue = HandOffQueue::open().expect("a queue");
    let (socket, mut client) = connection();
    queue.send(&message(0, 0, 0, 1, b"\x01"), &[socket.as_fd()]).expect("room");
    drop(socket);
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).expect("less than before");
    let mut open = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        open.push(file);
    }
    for _ in 0..3 {
        let error = queue.receive(&mut [0; 64]).err().expect("no descriptor is left");
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    }
    open.pop();
    let received = queue.receive(&mut [0; 64]).expect("it has waited");
    assert_eq!((received.descriptors.len(), received.truncated), (1, false));
    drop(received);
    assert_eq!(client.read(&mut [0]).expect("closed"), 0, "no copy was kept");
}
