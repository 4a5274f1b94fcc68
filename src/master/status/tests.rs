use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use mio::{Events, Poll};

use super::routes::question;
use super::*;

#[test]
fn questions_are_told_by_method_and_path() {
    use super::routes::{Order, Page};
    let look = |page| Ok(Question::Look(page));
    let order = |order| Ok(Question::Order(order));
    for (method, target, access, expected) in [
        ("GET", "/health", Access::Look, look(Page::Health)),
        ("HEAD", "/ready", Access::Look, look(Page::Ready)),
        ("GET", "/status", Access::Command, look(Page::Status { with_memory: false })),
        ("GET", "/status?memory", Access::Look, look(Page::Status { with_memory: true })),
        ("GET", "/metrics?x", Access::Look, look(Page::Metrics)),
        ("POST", "/metrics", Access::Command, Err(405)),
        ("POST", "/reload", Access::Command, order(Order::Reload)),
        ("POST", "/stop", Access::Command, order(Order::Stop { fast: false })),
        ("POST", "/stop?fast", Access::Command, order(Order::Stop { fast: true })),
        ("GET", "/stop", Access::Command, Err(405)),
        ("POST", "/reload", Access::Look, Err(404)),
        ("POST", "/stop?fast", Access::Look, Err(404)),
        ("GET", "/", Access::Look, Err(404)),
        ("GET", "", Access::Look, Err(404)),
        ("GET", "/health/", Access::Command, Err(404)),
    ] {
        let found = question(method.as_bytes(), target.as_bytes(), access).map_err(|answer| answer.status);
        assert_eq!(found, expected, "{method} {target} {access:?}");
    }
}

/// A server without a master: its questions are answered with their debug form.
struct Desk {
    poll: Poll,
    events: Events,
    server: StatusServer,
    address: SocketAddr,
}

impl Desk {
    fn open() -> Self {
        let poll = Poll::new().expect("a poll");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let listener =
            StatusListener::new(OwnedFd::from(listener), Access::Look, "the test's listener", None);
        let registry = poll.registry().try_clone().expect("a registry");
        let mut server = StatusServer::new(registry);
        server.watch(vec![listener]).expect("watched");
        Desk { poll, events: Events::with_capacity(64), server, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("accepted")
    }

    fn turn(&mut self, now: Instant) {
        self.poll.poll(&mut self.events, Some(Duration::from_millis(5))).expect("waited");
        for event in &self.events {
            assert!(StatusServer::owns(event.token()));
            self.server.on_event(event.token(), now);
        }
        self.server.on_deadline(now);
        for (client, question) in self.server.take_questions() {
            self.server.answer(client, &Answer::text(200, &format!("{question:?}")), now);
        }
    }

    /// What the client reads until the end of its connection.
    fn serve(&mut self, client: &mut TcpStream, now: Instant) -> String {
        client.set_nonblocking(true).expect("a socket");
        let mut answer = Vec::new();
        for _ in 0..2000 {
            self.turn(now);
            match client.read_to_end(&mut answer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return String::from_utf8(answer).expect("text"),
            }
        }
        panic!("no end after {:?}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn a_question_in_pieces_is_answered_and_the_connection_ends() {
    let mut desk = Desk::open();
    let now = Instant::now();
    let mut client = desk.connect();
    for byte in b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.write_all(&[*byte]).expect("taken");
        desk.turn(now);
    }
    let answer = desk.serve(&mut client, now);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nLook(Health)\n"),
        "{answer}"
    );
    assert!(
        answer.contains("\r\nConnection: close\r\n") && answer.contains("\r\nCache-Control: no-store\r\n")
    );
    // It lingers until the client has closed, or its time is over.
    drop(client);
    while !desk.server.clients.is_empty() {
        desk.turn(now);
    }
}

#[test]
fn what_is_no_question_is_refused_without_the_master() {
    let mut desk = Desk::open();
    let now = Instant::now();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(2000));
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(9000));
    for (request, status) in [
        ("GET /else HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("POST /stop HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("nonsense\r\n\r\n", "400"),
        ("POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "4"),
        (&long, "414"),
        (&head, "431"),
    ] {
        let mut client = desk.connect();
        client.write_all(request.as_bytes()).expect("taken");
        let answer = desk.serve(&mut client, now);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40}: {answer}");
    }
}

#[test]
fn a_head_request_gets_no_body() {
    let mut desk = Desk::open();
    let mut client = desk.connect();
    client.write_all(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    let answer = desk.serve(&mut client, Instant::now());
    assert!(answer.contains("Content-Length: 14\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn clients_that_say_nothing_neither_keep_others_out_nor_stay() {
    let mut desk = Desk::open();
    let now = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..3 * MOST_CLIENTS {
        silent.push(desk.connect());
        desk.turn(now);
    }
    while desk.server.last_id < MOST_LISTENERS + silent.len() {
        desk.turn(now);
    }
    assert_eq!(desk.server.clients.len(), MOST_CLIENTS);
    let mut client = desk.connect();
    client.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    assert!(desk.serve(&mut client, now).ends_with("Look(Ready)\n"));
    assert!(desk.server.deadline().is_some_and(|at| at <= now + REQUEST_TIME));
    desk.turn(now + REQUEST_TIME + ANSWER_TIME);
    assert!(desk.server.clients.is_empty() && desk.server.deadline().is_none());
    assert_eq!(silent.pop().expect("one of them").read(&mut [0]).expect("closed"), 0);
}

#[test]
fn a_client_whose_answer_takes_long_stays_and_one_that_does_not_read_it_leaves() {
    let mut desk = Desk::open();
    let now = Instant::now();
    let mut client = desk.connect();
    client.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    let mut asked = Vec::new();
    while asked.is_empty() {
        desk.poll.poll(&mut desk.events, Some(Duration::from_millis(5))).expect("waited");
        for event in &desk.events {
            desk.server.on_event(event.token(), now);
        }
        asked = desk.server.take_questions();
    }
    let late = now + 100 * REQUEST_TIME;
    desk.turn(late);
    assert_eq!(desk.server.clients.len(), 1);
    let much = "x".repeat(32 * 1024 * 1024);
    desk.server.answer(asked[0].0, &Answer::text(200, &much), late);
    desk.turn(late);
    assert_eq!(desk.server.clients.len(), 1);
    desk.turn(late + ANSWER_TIME);
    assert!(desk.server.clients.is_empty());
}
