//! Workers that drain, and what they leave to others.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::super::HandOff;
use super::*;
use crate::channel::ToProcess;
use crate::worker::tests::until;

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
