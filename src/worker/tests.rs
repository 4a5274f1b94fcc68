//! The worker with an application in Rust: the loop, the seat and the relief thread, without an interpreter.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;

use super::*;
use crate::channel::{Channel, ToProcess};
use crate::cli::{Cli, Command};
use crate::gateway::KnownName;
use crate::hand_off::HandOffQueue;
use crate::scoreboard::{BoardState, BoardView, Counter, Gauge, Layout, Population};

/// Longer than anything here takes; a test that waits so long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers by path, and says which worker it is. `/wait` returns when the test lets it.
struct TestApplication {
    slot: String,
    gate: Mutex<mpsc::Receiver<()>>,
    entered: Mutex<mpsc::Sender<()>>,
    /// How often `/small` was answered, which takes a little less than what is relieved.
    small: Arc<AtomicU64>,
}

impl Application for TestApplication {
    fn respond(&self, call: Call<'_>, response: &mut Response<'_>) {
        response.head().start(200, b"OK");
        response.head().push(b"Content-Type", b"text/plain").expect("valid");
        response.head().push(b"X-Worker", self.slot.as_bytes()).expect("valid");
        match call.request.meta.known(KnownName::PathInfo).unwrap_or_default() {
            b"/wait" => {
                let _ = self.entered.lock().expect("no panic").send(());
                let _ = self.gate.lock().expect("no panic").recv();
                response.finish_with(b"waited");
            }
            path @ (b"/stream" | b"/flood") => {
                // A flood is more than the kernel's buffers hold, however large they grow.
                for _ in 0..if path == b"/flood" { 1024 } else { 64 } {
                    if response.write(&[b'x'; 64 * 1024]) == Flow::Full && response.wait() == Flow::Stop {
                        return;
                    }
                }
                response.finish();
            }
            b"/small" => {
                let began = Instant::now();
                while began.elapsed() < Duration::from_micros(400) {
                    std::hint::spin_loop();
                }
                self.small.fetch_add(1, Ordering::Relaxed);
                response.finish_with(b"small");
            }
            b"/short" => {
                response.head().push(b"Content-Length", b"10").expect("valid");
                response.write(b"four");
                response.finish();
            }
            b"/fail" => {}
            b"/length" => response.finish_with(call.request.body.len().to_string().as_bytes()),
            path => response.finish_with(path),
        }
    }

    fn detached<R: Send>(&self, wait: impl FnOnce() -> R + Send) -> R {
        wait()
    }

    fn on_signal(&self) -> bool {
        true
    }
}

pub(super) fn config(options: &[&str]) -> Arc<Config> {
    // Any file will do: no interpreter is started here.
    let arguments = [&["forkhorn", "serve", "module:app", "--python", "/proc/self/exe"], options].concat();
    let Command::Serve(serve) = Cli::try_parse_from(arguments).expect("valid options").command else {
        panic!("serve was asked for")
    };
    Arc::new(Config::resolve(*serve).expect("a valid configuration"))
}

pub(super) struct Running {
    /// One listener for each of the options, in their order.
    pub addresses: Vec<SocketAddr>,
    pub master: Channel,
    pub board: BoardView,
    pub queue: HandOffQueue,
    pub gate: mpsc::Sender<()>,
    pub entered: mpsc::Receiver<()>,
    pub(super) shared: Arc<Shared>,
    pub thread: Option<JoinHandle<()>>,
    small: Arc<AtomicU64>,
}

impl Running {
    fn start(options: &[&str]) -> Self {
        let options = [&["--workers", "1"], options].concat();
        Running::start_as(0, &options, HandOffQueue::open().expect("a queue"))
    }

    pub fn start_as(slot: u16, options: &[&str], queue: HandOffQueue) -> Self {
        let config = config(options);
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for _ in &config.listeners {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            addresses.push(listener.local_addr().expect("bound"));
            listeners.push(OwnedFd::from(listener));
        }
        let (master, channel) = Channel::pair().expect("a pair");
        let (view, board) = BoardView::create(Layout::of(&config)).expect("a page");
        let workers = config.processes.workers.max;
        view.tell_population(Population { serving: workers, most: workers });
        let start = WorkerStart {
            config,
            slot,
            generation: 0,
            listeners,
            hand_off: queue.try_clone().expect("a descriptor"),
            access_log: None,
            board: Some(board),
            channel,
            master_pid: nix::unistd::getppid().as_raw(),
        };
        let (gate, gate_end) = mpsc::channel();
        let (entered_end, entered) = mpsc::channel();
        let small = Arc::new(AtomicU64::new(0));
        let application = TestApplication {
            slot: slot.to_string(),
            gate: Mutex::new(gate_end),
            entered: Mutex::new(entered_end),
            small: small.clone(),
        };
        let worker = Worker::new(start, Box::new(|| "the stacks".to_owned())).expect("starts");
        let shared = worker.shared.clone();
        let thread = std::thread::spawn(move || worker.serve(&application));
        let (message, _) = master.receive::<ToMaster>().expect("a message");
        assert!(matches!(message, ToMaster::Ready), "{message:?}");
        Running { addresses, master, board: view, queue, gate, entered, shared, thread: Some(thread), small }
    }

    pub fn connect(&self) -> TcpStream {
        self.connect_to(0)
    }

    pub fn connect_to(&self, listener: usize) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[listener]).expect("accepted");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// It ends by itself.
    pub fn ends(&mut self) {
        self.thread.take().expect("started").join().expect("ends by itself");
        self.thread = Some(std::thread::spawn(|| ()));
    }

    pub fn get(&self, path: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.gate.send(());
        let _ = self.master.send(&ToProcess::Stop, &[]);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("started").expect("the worker does not panic");
        }
    }
}

/// One response of a kept connection: head, and a body of its Content-Length.
pub(super) fn read_answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    text + &String::from_utf8_lossy(&body)
}

#[test]
fn requests_of_a_kept_connection_are_answered_in_order() {
    let worker = Running::start(&[]);
    let mut stream = worker.connect();
    for path in ["/one", "/two", "/three"] {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(path), "{answer}");
    }
    stream.write_all(b"GET /4 HTTP/1.1\r\nHost: x\r\n\r\nGET /5 HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    assert!(read_answer(&mut stream).ends_with("/4"));
    assert!(read_answer(&mut stream).ends_with("/5"));
}

#[test]
fn a_body_reaches_the_application_whole() {
    let worker = Running::start(&[]);
    let mut stream = worker.connect();
    for length in [0_usize, 1, 1000, 300_000, 3_000_000] {
        write!(stream, "POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
            .expect("taken");
        stream.write_all(&vec![b'x'; length]).expect("taken");
        assert!(read_answer(&mut stream).ends_with(&format!("\r\n\r\n{length}")));
    }
    stream
        .write_all(b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        .expect("taken");
    assert!(read_answer(&mut stream).ends_with("\r\n\r\n5"));
}

#[test]
fn an_application_that_says_nothing_has_failed() {
    let worker = Running::start(&[]);
    assert!(worker.get("/fail").starts_with("HTTP/1.1 500 "));
}

#[test]
fn a_body_shorter_than_announced_breaks_the_connection() {
    let worker = Running::start(&[]);
    let mut stream = worker.connect();
    stream.write_all(b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("Content-Length: 10") && answer.ends_with("four"), "{answer}");
}

#[test]
fn a_slow_reader_holds_only_what_the_limit_allows() {
    let worker = Running::start(&["--max-output", "65536"]);
    let mut slow = worker.connect();
    slow.write_all(b"GET /stream HTTP/1.0\r\n\r\n").expect("taken");
    let mut first = [0; 1];
    slow.read_exact(&mut first).expect("the answer begins");
    // The application waits for the reader now or will soon; once the reader goes on, all of it arrives.
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).expect("the rest");
    let head = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    assert_eq!(rest.len() - head - 4, 64 * 64 * 1024);
}

#[test]
fn while_the_application_is_busy_the_loop_goes_on() {
    let worker = Running::start(&[]);
    let mut busy = worker.connect();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    // Accepted, read and refused by the relief thread: the application's only thread does not come back.
    let mut bad = worker.connect();
    bad.write_all(b"BAD\r\n\r\n").expect("taken");
    let mut answer = String::new();
    bad.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // A large upload is taken in meanwhile, and answered when its turn comes.
    let mut upload = worker.connect();
    write!(upload, "POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n").expect("taken");
    upload.write_all(&vec![b'x'; 10_000_000]).expect("taken while the application is busy");
    worker.gate.send(()).expect("it waits");
    assert!(read_answer(&mut busy).ends_with("waited"));
    assert!(read_answer(&mut upload).ends_with("10000000"));
}

/// Clients whose requests to `/small` all wait for the application, which is held by another one.
fn many_wait(worker: &Running, clients: usize) -> Vec<TcpStream> {
    let mut busy = worker.connect();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    let mut waiting: Vec<_> = (0..clients).map(|_| worker.connect()).collect();
    for client in &mut waiting {
        client.write_all(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    }
    until(|| (worker.board.gauge(Gauge::Queue) == clients as u64).then_some(()));
    waiting
}

#[test]
fn while_many_small_requests_wait_the_others_are_looked_at() {
    const CLIENTS: usize = 500;
    let worker = Running::start(&[]);
    let mut waiting = many_wait(&worker, CLIENTS);
    worker.gate.send(()).expect("it waits");
    assert!(read_answer(&mut waiting[0]).ends_with("small"));
    let mut bad = worker.connect();
    bad.write_all(b"BAD\r\n\r\n").expect("taken");
    bad.read_to_string(&mut String::new()).expect("an answer");
    let answered = worker.small.load(Ordering::Relaxed);
    assert!(answered < CLIENTS as u64, "it had to wait for all others");
    for client in &mut waiting[1..] {
        assert!(read_answer(client).ends_with("small"));
    }
}

#[test]
fn small_requests_that_wait_are_shared_with_a_worker_that_is_free() {
    let queue = HandOffQueue::open().expect("a queue");
    let start = |slot| Running::start_as(slot, &["--workers", "2"], queue.try_clone().expect("a descriptor"));
    let (busy, _free) = (start(0), start(1));
    // The relief thread would hand over what waits, too: it does not come.
    busy.shared.seat.set_patience(PATIENCE * 100);
    let mut clients: Vec<_> = (0..20).map(|_| busy.connect()).collect();
    until(|| {
        for client in &mut clients {
            client.write_all(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
        }
        let answers: Vec<_> = clients.iter_mut().map(read_answer).collect();
        answers.iter().any(|answer| answer.contains("X-Worker: 1")).then_some(())
    });
}

/// Their connections are watched: each has had an answer.
fn known_clients(worker: &Running) -> [TcpStream; 3] {
    [(); 3].map(|()| {
        let mut client = worker.connect();
        client.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
        assert!(read_answer(&mut client).ends_with("/hello"));
        client
    })
}

/// A small request comes together with a long one, behind which nobody looks for as long as `patience`. Calls `meanwhile`
/// with the client of the small one while the long one runs. Tells whether the response had to wait.
fn small_and_long(
    worker: &Running,
    clients: &mut [TcpStream; 3],
    patience: Duration,
    meanwhile: impl FnOnce(&mut TcpStream),
) -> bool {
    let ask = |client: &mut TcpStream, path| {
        write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    };
    let [first, small, long] = clients;
    worker.shared.seat.set_patience(patience);
    ask(first, "/wait");
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    let before = worker.small.load(Ordering::Relaxed);
    ask(small, "/small");
    ask(long, "/wait");
    worker.gate.send(()).expect("it waits");
    assert!(read_answer(first).ends_with("waited"));
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    let has_run = worker.small.load(Ordering::Relaxed) > before;
    small.set_nonblocking(true).expect("a socket");
    let is_silent = small.peek(&mut [0]).is_err();
    small.set_nonblocking(false).expect("a socket");
    meanwhile(small);
    worker.gate.send(()).expect("it waits");
    assert!(read_answer(long).ends_with("waited"));
    has_run && is_silent
}

#[test]
fn responses_of_small_requests_that_wait_are_written_together() {
    let worker = Running::start(&[]);
    let mut clients = known_clients(&worker);
    until(|| {
        let waited = small_and_long(&worker, &mut clients, PATIENCE * 100, |_| ());
        assert!(read_answer(&mut clients[1]).ends_with("small"), "with the long one's");
        waited.then_some(())
    });
}

#[test]
fn a_response_that_waits_for_others_does_not_wait_for_a_long_request() {
    // No other timer looks after the connection.
    let worker = Running::start(&["--keep-alive-timeout", "3600", "--head-timeout", "3600"]);
    let mut clients = known_clients(&worker);
    until(|| {
        let patience = Duration::from_millis(50);
        let waited = small_and_long(&worker, &mut clients, patience, |small| {
            assert!(read_answer(small).ends_with("small"), "while the long one runs");
        });
        waited.then_some(())
    });
}

#[test]
fn small_requests_that_follow_each_other_are_not_taken_for_a_long_one() {
    const CLIENTS: usize = 50;
    let worker = Running::start(&[]);
    let mut waiting = many_wait(&worker, CLIENTS);
    let changes = || worker.shared.seat.changes();
    let before = changes();
    worker.gate.send(()).expect("it waits");
    for client in &mut waiting {
        assert!(read_answer(client).ends_with("small"));
    }
    // The relief thread goes by it.
    let changes = changes() - before;
    assert!(changes >= CLIENTS as u64, "{changes} changes");
}

#[test]
fn a_request_over_its_time_is_answered_504_and_the_worker_retires() {
    let worker = Running::start(&["--timeout", "0.05"]);
    let mut stream = worker.connect();
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    let answer = read_answer(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    let (message, _) = worker.master.receive::<ToMaster>().expect("a message");
    assert!(matches!(message, ToMaster::Retiring { .. }), "{message:?}");
    // Its connection is free again: whoever replaces the worker takes it.
    let heir = Running::start_as(1, &[], worker.queue.try_clone().expect("a descriptor"));
    stream.write_all(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    let answer = read_answer(&mut stream);
    assert!(answer.contains("X-Worker: 1") && answer.ends_with("/next"), "{answer}");
    drop(heir);
}

#[test]
fn a_draining_worker_finishes_its_request_and_then_ends() {
    let mut worker = Running::start(&[]);
    let mut idle = worker.connect();
    idle.write_all(b"GET /idle HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    assert!(read_answer(&mut idle).ends_with("/idle"));
    let mut busy = worker.connect();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    worker.master.send(&ToProcess::Drain { hand_over: false }, &[]).expect("it listens");
    assert_eq!(idle.read(&mut [0; 16]).expect("closed"), 0);
    worker.gate.send(()).expect("it waits");
    let answer = read_answer(&mut busy);
    assert!(answer.contains("Connection: close") && answer.ends_with("waited"), "{answer}");
    worker.ends();
}

#[test]
fn a_client_that_left_costs_no_call() {
    let worker = Running::start(&["--threads", "1"]);
    let mut busy = worker.connect();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    let mut left = worker.connect();
    left.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    socket2::SockRef::from(&left).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(left);
    // The reset is seen before the application is free: another connection's answer comes after it in the loop.
    let mut bad = worker.connect();
    bad.write_all(b"BAD\r\n\r\n").expect("taken");
    bad.read_to_string(&mut String::new()).expect("an answer");
    worker.gate.send(()).expect("it waits");
    assert!(read_answer(&mut busy).ends_with("waited"));
    assert!(worker.get("/after").ends_with("/after"));
    let began = Instant::now();
    assert!(worker.entered.try_recv().is_err(), "the request whose client had left was run");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_script_ends_when_its_client_leaves() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("sleep");
    std::fs::write(&script, "#!/bin/sh\necho $$ > pid\nexec sleep 1000\n").expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let option = format!("/cgi-bin={}", dir.path().display());
    let worker = Running::start(&["--cgi", &option]);
    let mut client = worker.connect();
    client.write_all(b"GET /cgi-bin/sleep HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    let read_pid = || std::fs::read_to_string(dir.path().join("pid")).ok()?.trim().parse::<i32>().ok();
    let pid = until(read_pid);
    drop(client);
    until(|| (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

/// Waits until `look` finds something.
pub(super) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it did not come");
        std::thread::yield_now();
    }
}

#[test]
fn the_scoreboard_shows_what_runs_and_counts_what_has_run() {
    let mut worker = Running::start(&["--timeout", "0"]);
    assert_eq!(worker.board.state(), BoardState::Idle);
    let mut stream = worker.connect();
    write!(stream, "GET /wait?long HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    worker.entered.recv_timeout(PATIENCE).expect("the application is called");
    let shown = worker.board.running();
    assert_eq!(shown.iter().map(|request| request.text.as_str()).collect::<Vec<_>>(), ["GET /wait?long"]);
    assert_eq!((worker.board.state(), worker.board.gauge(Gauge::BusyThreads)), (BoardState::Busy, 1));
    worker.gate.send(()).expect("it waits");
    read_answer(&mut stream);
    write!(stream, "GET /other HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
    assert!(read_answer(&mut stream).ends_with("/other"));
    until(|| worker.board.running().is_empty().then_some(()));
    assert_eq!(worker.board.last()[0].text, "GET /other");
    let counters = worker.board.counters();
    for (counter, value) in [
        (Counter::HttpWsgi, 2),
        (Counter::Status2xx, 2),
        (Counter::HttpConnections, 1),
        (Counter::HttpStatic, 0),
    ] {
        assert_eq!(counters.of(counter), value, "{counter:?}");
    }
    assert!(counters.of(Counter::BytesIn) > 50 && counters.of(Counter::BytesOut) > 50);
    assert!(worker.board.heartbeat_age().is_some_and(|age| age < PATIENCE));
}
