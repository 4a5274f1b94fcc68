//! Requests that wait for a busy application: for too long, or for clients that have left.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::hand_off::HandOffQueue;
use crate::worker::tests::{PATIENCE, Running, read_answer, until};

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

fn one_worker(options: &[&str]) -> Running {
    let options = [&["--workers", "1"], options].concat();
    Running::start_as(0, &options, HandOffQueue::open().expect("a queue"))
}

/// Keeps the only application thread of a worker busy until its gate is opened.
fn occupy(worker: &Running) -> TcpStream {
    let mut busy = worker.connect();
    busy.write_all(&get("/wait")).expect("taken");
    worker.entered.recv_timeout(PATIENCE).expect("the application runs");
    busy
}

fn release(worker: &Running, mut busy: TcpStream) {
    worker.gate.send(()).expect("it waits");
    assert!(read_answer(&mut busy).ends_with("waited"));
}

/// There is nothing to wait for but the time itself.
fn after(time: Duration) {
    let began = Instant::now();
    until(|| (began.elapsed() >= time).then_some(()));
}

fn assert_is_refused(stream: &mut TcpStream) {
    let answer = read_answer(stream);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
}

#[test]
fn a_request_that_waits_for_too_long_is_503_while_the_application_is_busy() {
    let worker = one_worker(&["--queue-timeout", "0.05"]);
    let busy = occupy(&worker);
    let mut late = worker.connect();
    late.write_all(&get("/late")).expect("taken");
    assert_is_refused(&mut late);
    release(&worker, busy);
    // Its connection goes on.
    late.write_all(&get("/again")).expect("taken");
    assert!(read_answer(&mut late).ends_with("/again"));
}

#[test]
fn time_in_the_hand_off_queue_counts() {
    let options = ["--workers", "2", "--queue-timeout", "0.2"];
    let queue = HandOffQueue::open().expect("a queue");
    let clone = queue.try_clone().expect("a descriptor");
    let [one, other] = [Running::start_as(0, &options, queue), Running::start_as(1, &options, clone)];
    let mut late: Vec<TcpStream> = [&one, &other, &one]
        .iter()
        .map(|worker| {
            let mut stream = worker.connect();
            stream.write_all(&get("/first")).expect("taken");
            assert!(read_answer(&mut stream).ends_with("/first"));
            stream
        })
        .collect();
    let (busy_one, busy_other) = (occupy(&one), occupy(&other));
    for stream in &mut late {
        stream.write_all(&get("/late")).expect("taken");
    }
    // Neither worker can take them, and both are told that they wait.
    for stream in &mut late {
        assert_is_refused(stream);
    }
    release(&one, busy_one);
    release(&other, busy_other);
}

#[test]
fn a_script_that_waits_for_too_long_to_be_started_is_503() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("wait");
    std::fs::write(
        &script,
        "#!/bin/sh\necho > started\nwhile test ! -e go; do sleep 0.02; done\nprintf 'A: b\\n\\nok'\n",
    )
    .expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let option = format!("/cgi-bin={}", dir.path().display());
    let worker = one_worker(&["--cgi", &option, "--cgi-max-scripts", "1", "--queue-timeout", "0.05"]);
    let mut first = worker.connect();
    first.write_all(&get("/cgi-bin/wait")).expect("taken");
    until(|| dir.path().join("started").exists().then_some(()));
    let mut late = worker.connect();
    late.write_all(&get("/cgi-bin/wait")).expect("taken");
    assert_is_refused(&mut late);
    std::fs::write(dir.path().join("go"), "").expect("written");
    let mut answer = [0; 15];
    std::io::Read::read_exact(&mut first, &mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[test]
fn a_request_whose_client_closed_while_it_waited_is_not_run() {
    let worker = one_worker(&[]);
    let busy = occupy(&worker);
    let mut left = worker.connect();
    left.write_all(&get("/wait")).expect("taken");
    // Later than with its request: it has not only closed its sending side, as clients may.
    after(Duration::from_millis(600));
    drop(left);
    release(&worker, busy);
    assert!(worker.get("/after").ends_with("/after"));
    assert!(worker.entered.try_recv().is_err(), "the request whose client had left was run");
}

#[test]
fn a_client_that_closes_its_sending_side_with_its_request_is_answered() {
    let worker = one_worker(&[]);
    let busy = occupy(&worker);
    let mut half = worker.connect();
    half.write_all(&get("/half")).expect("taken");
    half.shutdown(std::net::Shutdown::Write).expect("a socket");
    after(Duration::from_millis(50));
    release(&worker, busy);
    assert!(read_answer(&mut half).ends_with("/half"));
}

#[test]
fn waiting_for_a_slow_reader_does_not_count_in_the_timeout() {
    let worker = one_worker(&["--timeout", "0.2", "--max-output", "65536"]);
    let mut slow = worker.connect();
    slow.write_all(b"GET /flood HTTP/1.0\r\n\r\n").expect("taken");
    std::io::Read::read_exact(&mut slow, &mut [0]).expect("the answer begins");
    after(Duration::from_millis(600));
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut slow, &mut rest).expect("the rest");
    let head = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    assert_eq!(rest.len() - head - 4, 1024 * 64 * 1024);
    assert!(worker.get("/next").ends_with("/next"));
}
