//! Two workers with one queue. Each has listeners of its own, so that a test decides who gets a connection first. Here is
//! what the tests share.

mod busy;
mod drain;
mod messages;

pub(in crate::worker) use messages::Parts;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use crate::hand_off::{CONNECTION, HandOffQueue, VERSION};
use crate::protocol::fastcgi::client;
use crate::worker::tests::{PATIENCE, Running, read_answer};

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
