//! Two workers with one queue. Each has listeners of its own, so that a test decides who gets a connection first.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};

use super::departure::Departure;
use super::{HandOff, MOST_HOPS};
use crate::channel::ToProcess;
use crate::gateway::{Endpoint, Peer};
use crate::hand_off::{CONNECTION, HandOffQueue, MAX_MESSAGE_BYTES, NUDGE, VERSION};
use crate::protocol::fastcgi::client;
use crate::scoreboard::{BoardView, Counter, Gauge, Layout, Scoreboard};
use crate::worker::access_log::{AccessLog, Whereabouts};
use crate::worker::connection::Connection;
use crate::worker::core::Core;
use crate::worker::keyed::Keyed;
use crate::worker::protocol::Protocol;
use crate::worker::socket::Socket;
use crate::worker::tests::{PATIENCE, Running, config, read_answer, until};

const OPTIONS: [&str; 6] = ["--workers", "2", "--http", "127.0.0.1:0", "--fastcgi", "127.0.0.1:0"];

const FASTCGI: usize = 1;

fn two_workers() -> [Running; 2] {
    let queue = HandOffQueue::open().expect("a queue");
    let clone = queue.try_clone().expect("a descriptor");
    [Running::start_as(0, &OPTIONS, queue), Running::start_as(1, &OPTIONS, clone)]
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// A request as nginx sends it; `None`: a body without CONTENT_LENGTH.
fn record_request(path: &str, body: &[u8], length: Option<usize>) -> Vec<u8> {
    let length = length.map(|length| length.to_string()).unwrap_or_default();
    let pairs = [
        ("REQUEST_METHOD", "POST"),
        ("SCRIPT_NAME", path),
        ("DOCUMENT_URI", path),
        ("REQUEST_URI", path),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("CONTENT_LENGTH", &length),
    ];
    let mut bytes = Vec::new();
    let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    client::request(&mut bytes, 1, true, pairs, body);
    bytes
}

/// One answer of a kept FastCGI connection.
fn read_records(stream: &mut TcpStream) -> String {
    read_more_records(stream, &mut client::Decoder::default())
}

fn read_more_records(stream: &mut TcpStream, decoder: &mut client::Decoder) -> String {
    let mut answer = Vec::new();
    loop {
        match decoder.poll_event().expect("records") {
            Some(client::ResponseEvent::Stdout { chunk, .. }) => answer.extend_from_slice(&chunk),
            Some(client::ResponseEvent::End { .. }) => return String::from_utf8_lossy(&answer).into_owned(),
            Some(_) => {}
            None => {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).expect("an answer");
                assert!(count > 0, "the connection ended");
                decoder.receive(&buffer[..count]);
            }
        }
    }
}

fn assert_answer(answer: &str, worker: u16, end: &str) {
    assert!(answer.contains(&format!("X-Worker: {worker}\r\n")) && answer.ends_with(end), "{answer}");
}

/// A connection that the worker has accepted: a busy one leaves new ones to the others.
fn kept(worker: &Running) -> TcpStream {
    let mut stream = worker.connect();
    stream.write_all(&get("/first")).expect("taken");
    assert!(read_answer(&mut stream).ends_with("/first"));
    stream
}

fn kept_fastcgi(worker: &Running) -> TcpStream {
    let mut stream = worker.connect_to(FASTCGI);
    stream.write_all(&record_request("/first", b"", Some(0))).expect("taken");
    assert!(read_records(&mut stream).ends_with("/first"));
    stream
}

/// Returns when the busy worker has done what it can about everything that came before on its connections: the turn of
/// the first probe is over when the second one is answered.
fn is_looked_at(probes: [TcpStream; 2]) {
    for mut probe in probes {
        probe.write_all(b"BAD\r\n\r\n").expect("taken");
        probe.read_to_string(&mut String::new()).expect("an answer");
    }
}

/// Keeps the only application thread of a worker busy until its gate is opened.
fn occupy(worker: &Running) -> TcpStream {
    let mut busy = worker.connect();
    busy.write_all(&get("/wait")).expect("taken");
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    busy
}

fn release(worker: &Running, mut busy: TcpStream) -> String {
    worker.gate.send(()).expect("it waits");
    read_answer(&mut busy)
}

#[test]
fn a_request_behind_a_busy_worker_is_answered_by_a_free_one() {
    let [one, other] = two_workers();
    let lengths = [0, 5, 100_000, 600_000].map(|length| (length, kept(&one)));
    let mut chunked = kept(&one);
    let busy = occupy(&one);
    for (length, mut kept) in lengths {
        write!(kept, "POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").expect("taken");
        kept.write_all(&vec![b'x'; length]).expect("taken");
        assert_answer(&read_answer(&mut kept), 1, &format!("\r\n\r\n{length}"));
        kept.write_all(&get("/next")).expect("taken");
        assert_answer(&read_answer(&mut kept), 1, "/next");
    }
    chunked.write_all(
        b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .expect("taken");
    assert_answer(&read_answer(&mut chunked), 1, "\r\n\r\n5");
    assert_answer(&release(&one, busy), 0, "waited");
    drop(other);
}

#[test]
fn what_was_pipelined_behind_a_request_moves_with_it() {
    let [one, _other] = two_workers();
    let mut kept = kept(&one);
    let busy = occupy(&one);
    kept.write_all(&[get("/2"), get("/3"), b"GET /4 HTTP/1.1\r\nHo".to_vec()].concat()).expect("taken");
    assert_answer(&read_answer(&mut kept), 1, "/2");
    assert_answer(&read_answer(&mut kept), 1, "/3");
    kept.write_all(b"st: x\r\n\r\n").expect("taken");
    assert_answer(&read_answer(&mut kept), 1, "/4");
    assert_answer(&release(&one, busy), 0, "waited");
}

#[test]
fn a_fastcgi_request_behind_a_busy_worker_is_answered_by_a_free_one() {
    let [one, _other] = two_workers();
    let lengths = [0, 5, 100_000, 600_000].map(|length| (length, [Some(length), None]));
    let requests =
        lengths.map(|(length, both)| (length, both.map(|announced| (announced, kept_fastcgi(&one)))));
    let busy = occupy(&one);
    for (length, both) in requests {
        for (announced, mut kept) in both {
            let request = record_request("/length", &vec![b'x'; length], announced);
            kept.write_all(&request).expect("taken");
            assert_answer(&read_records(&mut kept), 1, &format!("\r\n\r\n{length}"));
            // The connection stays usable.
            kept.write_all(&record_request("/next", b"", Some(0))).expect("taken");
            assert_answer(&read_records(&mut kept), 1, "/next");
        }
    }
    assert_answer(&release(&one, busy), 0, "waited");
}

#[test]
fn interleaved_fastcgi_requests_stay_together() {
    let [one, _other] = two_workers();
    let (mut kept, probes) = (kept_fastcgi(&one), [kept(&one), kept(&one)]);
    let busy = occupy(&one);
    let mut both = record_request("/a", b"", Some(0));
    let mut second = record_request("/b", b"", Some(0));
    // The second has the request ID 2: byte 3 of each header.
    let mut at = 0;
    while at < second.len() {
        second[at + 3] = 2;
        at += 8
            + usize::from(u16::from_be_bytes([second[at + 4], second[at + 5]]))
            + usize::from(second[at + 6]);
    }
    both.extend(second);
    kept.write_all(&both).expect("taken");
    is_looked_at(probes);
    assert_answer(&release(&one, busy), 0, "waited");
    let mut decoder = client::Decoder::default();
    assert_answer(&read_more_records(&mut kept, &mut decoder), 0, "/a");
    assert_answer(&read_more_records(&mut kept, &mut decoder), 0, "/b");
}

#[test]
fn a_request_that_nobody_takes_comes_back() {
    let queue = HandOffQueue::open().expect("a queue");
    let one = Running::start_as(0, &OPTIONS, queue);
    let mut kept = kept(&one);
    let busy = occupy(&one);
    kept.write_all(&get("/back")).expect("taken");
    until(|| (!one.queue.is_empty()).then_some(()));
    assert_answer(&release(&one, busy), 0, "waited");
    assert_answer(&read_answer(&mut kept), 0, "/back");
}

#[test]
fn a_worker_that_is_busy_again_at_once_leaves_the_queue_to_the_others() {
    let one = Running::start_as(0, &OPTIONS, HandOffQueue::open().expect("a queue"));
    for _ in 0..20 {
        let probes = [kept(&one), kept(&one)];
        let (busy, mut kept) = (occupy(&one), kept_in_queue(&one, "/wait"));
        let (other_socket, mut other) = connection();
        let bytes = handed_over("/x");
        one.queue.send(&bytes, &[other_socket.as_fd()]).expect("room");
        drop(other_socket);
        // It comes back, takes the first request out of the queue and is away with it: the second is not for it.
        assert_answer(&release(&one, busy), 0, "waited");
        one.entered.recv_timeout(PATIENCE).expect("the application runs");
        is_looked_at(probes);
        let mut buffer = [0; 1024];
        let received = until(|| one.queue.receive(&mut buffer).ok());
        assert_eq!(buffer[..received.length], bytes, "nobody has had it in hand");
        one.queue.send(&bytes, &[received.descriptors[0].as_fd()]).expect("room");
        one.gate.send(()).expect("it waits");
        assert_answer(&read_answer(&mut kept), 0, "waited");
        assert_answer(&read_answer(&mut other), 0, "/x");
    }
}

#[test]
fn with_a_full_queue_a_request_stays() {
    let one = Running::start_as(0, &OPTIONS, HandOffQueue::open().expect("a queue"));
    let (mut kept, probes) = (kept(&one), [kept(&one), kept(&one)]);
    let busy = occupy(&one);
    while one.queue.send(&[VERSION, NUDGE], &[]).is_ok() {}
    kept.write_all(&get("/stays")).expect("taken");
    is_looked_at(probes);
    assert_answer(&release(&one, busy), 0, "waited");
    assert_answer(&read_answer(&mut kept), 0, "/stays");
    // The worker itself makes room, and the next one can go again.
    until(|| one.queue.is_empty().then_some(()));
    let busy = occupy(&one);
    kept.write_all(&get("/goes")).expect("taken");
    until(|| (!one.queue.is_empty()).then_some(()));
    assert_answer(&release(&one, busy), 0, "waited");
    assert_answer(&read_answer(&mut kept), 0, "/goes");
}

#[test]
fn a_message_that_woke_nobody_who_looks_is_followed_by_nudges() {
    // A worker that is stopped after it was woken takes nothing; here the test is that worker.
    let one = Running::start_as(0, &OPTIONS, HandOffQueue::open().expect("a queue"));
    let mut kept = kept(&one);
    let busy = occupy(&one);
    // Something else waits too, so that the queue is at no time empty.
    one.queue.send(b"other", &[]).expect("room");
    kept.write_all(&get("/lost")).expect("taken");
    let mut has_request = false;
    until(|| {
        let mut buffer = vec![0; 4096];
        let received = one.queue.receive(&mut buffer).ok()?;
        let message = &buffer[..received.length];
        has_request |= message.starts_with(&[VERSION, CONNECTION]);
        if message == [VERSION, NUDGE] {
            return has_request.then_some(());
        }
        let descriptors: Vec<_> = received.descriptors.iter().map(AsFd::as_fd).collect();
        one.queue.send(message, &descriptors).expect("room");
        None
    });
    assert_answer(&release(&one, busy), 0, "waited");
    assert_answer(&read_answer(&mut kept), 0, "/lost");
}

#[test]
fn idle_connections_move_when_their_worker_drains() {
    let [mut one, other] = two_workers();
    let (mut http, mut records, mut partial) = (kept(&one), kept_fastcgi(&one), kept(&one));
    partial.write_all(b"GET /second HTTP/1.1\r\nHo").expect("taken");
    // One that has its answer still to come moves after it.
    let busy = occupy(&one);
    let mut running = busy.try_clone().expect("a descriptor");
    one.master.send(&ToProcess::Drain { hand_over: true }, &[]).expect("it listens");
    http.write_all(&get("/second")).expect("taken");
    assert_answer(&read_answer(&mut http), 1, "/second");
    partial.write_all(b"st: x\r\n\r\n").expect("taken");
    assert_answer(&read_answer(&mut partial), 1, "/second");
    records.write_all(&record_request("/second", b"", Some(0))).expect("taken");
    assert_answer(&read_records(&mut records), 1, "/second");
    let answer = release(&one, busy);
    assert!(!answer.contains("Connection: close"), "{answer}");
    assert_answer(&answer, 0, "waited");
    running.write_all(&get("/third")).expect("taken");
    assert_answer(&read_answer(&mut running), 1, "/third");
    one.ends();
    drop(other);
}

#[test]
fn requests_that_wait_move_when_their_worker_drains() {
    let queue = HandOffQueue::open().expect("a queue");
    let options = ["--workers", "1", "--http", "127.0.0.1:0"];
    let mut one = Running::start_as(0, &options, queue.try_clone().expect("a descriptor"));
    let mut waiting = kept(&one);
    let busy = occupy(&one);
    waiting.write_all(&get("/waiting")).expect("taken");
    one.master.send(&ToProcess::Drain { hand_over: true }, &[]).expect("it listens");
    let heir = Running::start_as(1, &options, queue);
    assert_answer(&read_answer(&mut waiting), 1, "/waiting");
    assert_answer(&release(&one, busy), 0, "waited");
    one.ends();
    drop(heir);
}

#[test]
fn what_waits_in_the_queue_is_answered_before_the_last_worker_ends() {
    let queue = HandOffQueue::open().expect("a queue");
    let mut one = Running::start_as(0, &OPTIONS, queue.try_clone().expect("a descriptor"));
    let (mut kept, mut idle) = (kept(&one), kept(&one));
    let busy = occupy(&one);
    kept.write_all(&get("/last")).expect("taken");
    until(|| (!queue.is_empty()).then_some(()));
    // No connection is left that would keep the worker from ending.
    socket2::SockRef::from(&busy).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(busy);
    one.master.send(&ToProcess::Drain { hand_over: false }, &[]).expect("it listens");
    assert_eq!(idle.read(&mut [0]).expect("closed"), 0);
    one.gate.send(()).expect("it waits");
    let answer = read_answer(&mut kept);
    assert!(answer.contains("Connection: close"), "{answer}");
    assert_answer(&answer, 0, "/last");
    one.ends();
}

#[test]
fn a_drain_that_hands_over_can_become_one_that_closes() {
    let mut one = Running::start_as(0, &["--workers", "1"], HandOffQueue::open().expect("a queue"));
    let mut idle = kept(&one);
    let busy = occupy(&one);
    one.master.send(&ToProcess::Drain { hand_over: true }, &[]).expect("it listens");
    until(|| (!one.queue.is_empty()).then_some(()));
    one.master.send(&ToProcess::Drain { hand_over: false }, &[]).expect("it listens");
    assert_eq!(idle.read(&mut [0]).expect("closed"), 0);
    let answer = release(&one, busy);
    assert!(answer.contains("Connection: close"), "{answer}");
    one.ends();
}

#[test]
fn a_client_that_pipelines_without_end_does_not_starve_the_others() {
    let one = Running::start_as(0, &["--workers", "1"], HandOffQueue::open().expect("a queue"));
    let mut greedy = one.connect();
    let mut reader = greedy.try_clone().expect("a descriptor");
    // More than it ever gets answered here: the client reads nothing until the other one has its answer.
    let requests = get("/greedy").repeat(2_000);
    let writer = std::thread::spawn(move || greedy.write_all(&requests));
    let mut first = [0];
    reader.read_exact(&mut first).expect("the first answer begins");
    assert_answer(&one.get("/polite"), 0, "/polite");
    let mut rest = first.to_vec();
    while rest.windows(7).filter(|window| window == b"/greedy").count() < 2_000 {
        let mut buffer = vec![0; 1 << 16];
        let count = reader.read(&mut buffer).expect("more answers");
        rest.extend_from_slice(&buffer[..count]);
    }
    writer.join().expect("no panic").expect("all is taken");
}

/// A connected socket for a message, and its other end.
fn connection() -> (OwnedFd, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("accepted");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    (listener.accept().expect("a client").0.into(), client)
}

/// The header of a message, as this version writes it.
fn message(protocol: u8, place: u8, body: u64, state: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![VERSION, CONNECTION, protocol, 0, place];
    bytes.extend(body.to_be_bytes());
    bytes.extend(state.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(rest);
    bytes
}

/// A message that brings a GET.
fn handed_over(path: &str) -> Vec<u8> {
    let state = [b"\x02", get(path).as_slice()].concat();
    message(0, 0, 0, state.len() as u32, &state)
}

/// A connection that waits in the queue, with a GET.
fn kept_in_queue(worker: &Running, path: &str) -> TcpStream {
    let (socket, client) = connection();
    worker.queue.send(&handed_over(path), &[socket.as_fd()]).expect("room");
    client
}

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

#[test]
fn a_queue_that_somebody_shut_down_leaves_requests_where_they_are() {
    let [one, _other] = two_workers();
    let sending = TcpStream::from(one.queue.ends()[0].try_clone_to_owned().expect("a descriptor"));
    sending.shutdown(std::net::Shutdown::Both).expect("a socket");
    let (mut kept, probes) = (kept(&one), [kept(&one), kept(&one)]);
    let busy = occupy(&one);
    kept.write_all(&get("/stays")).expect("taken");
    is_looked_at(probes);
    assert_answer(&release(&one, busy), 0, "waited");
    assert_answer(&read_answer(&mut kept), 0, "/stays");
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
fn a_last_worker_looks_again_while_something_waits() {
    let queue = HandOffQueue::open().expect("a queue");
    let mut hand_off = HandOff::new(queue.try_clone().expect("a descriptor"));
    let now = Instant::now();
    assert!(hand_off.may_end(now));
    queue.send(b"something", &[]).expect("room");
    assert!(!hand_off.may_end(now));
    let again = hand_off.deadline().expect("it is to look again");
    assert!(!hand_off.on_time(now) && hand_off.on_time(again));
    queue.receive(&mut [0; 16]).expect("another worker takes it");
    assert!(hand_off.may_end(again));
    assert_eq!(hand_off.deadline(), None);
}

#[test]
fn a_connection_waits_while_no_descriptor_can_be_opened() {
    const IN_CHILD: &str = "FORKHORN_TEST_IN_CHILD";
    if std::env::var_os(IN_CHILD).is_none() {
        // The limit is that of a whole process: the other tests must not share it.
        let mut command = std::process::Command::new(std::env::current_exe().expect("the test program"));
        let name = "worker::hand_off::tests::a_connection_waits_while_no_descriptor_can_be_opened";
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
