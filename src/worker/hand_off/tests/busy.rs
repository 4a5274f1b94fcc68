//! Requests behind a busy worker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

use super::*;
use crate::hand_off::NUDGE;
use crate::worker::tests::until;

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
