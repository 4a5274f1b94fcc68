//! Time-outs and draining. The clock is an argument, so nothing here waits.

use std::num::NonZeroU64;
use std::time::Duration;

use super::Peer;
use crate::protocol::{Limits, ResponseHead, ResponsePart};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";

fn limits() -> Limits {
    Limits {
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(20),
        min_rate: None,
        keep_alive_timeout: Duration::from_secs(30),
        ..Limits::default()
    }
}

impl Peer {
    fn wait(&mut self, seconds: u64) -> &mut Peer {
        self.now += Duration::from_secs(seconds);
        let now = self.now;
        self.connection.on_deadline(now);
        self.poll()
    }

    fn seconds_left(&self) -> Option<u64> {
        self.connection.deadline().map(|deadline| (deadline - self.now).as_secs())
    }

    fn answer_empty(&mut self) -> &mut Peer {
        let mut head = ResponseHead::new(200);
        head.content_length = Some(0);
        self.send(ResponsePart::Head(&head)).send(ResponsePart::End).poll()
    }
}

#[test]
fn a_connection_without_a_byte_is_closed_silently() {
    let mut peer = Peer::unanswered(limits());
    assert_eq!(peer.wait(9).transcript(), "idle\n");
    assert_eq!(peer.wait(1).transcript(), "close\n");
    assert_eq!(peer.written(), b"");
}

#[test]
fn a_slow_head_gets_408() {
    let mut peer = Peer::new(limits());
    peer.wait(5).feed(b"G");
    assert_eq!(peer.seconds_left(), Some(10), "from its first byte");
    peer.wait(5).feed(b"E");
    assert_eq!(peer.seconds_left(), Some(5), "not from its last");
    peer.wait(5);
    assert_eq!(peer.transcript(), "reject 408 the head took too long\nlinger\n");
    assert!(peer.written().starts_with(b"HTTP/1.1 408 Request Timeout\r\n"));
}

#[test]
fn a_slow_head_on_a_kept_connection_gets_408_too() {
    let mut peer = Peer::new(limits());
    peer.feed(GET).wait(25).feed(b"GET /");
    peer.wait(10);
    assert!(peer.transcript().ends_with("reject 408 the head took too long\nlinger\n"));
}

#[test]
fn a_kept_connection_that_stays_idle_is_closed_silently() {
    let mut peer = Peer::new(limits());
    peer.feed(GET).written();
    assert_eq!(peer.seconds_left(), Some(30));
    assert_eq!(peer.wait(29).state(), "idle");
    assert_eq!(peer.wait(1).state(), "close");
    assert!(!peer.connection.wants_linger());
    assert_eq!(peer.written(), b"");
}

#[test]
fn a_connection_that_still_writes_its_response_is_not_idle() {
    let mut peer = Peer::new(limits());
    peer.feed(GET).wait(30);
    assert_eq!(peer.state(), "idle");
    assert_eq!(peer.seconds_left(), Some(30), "the wait begins anew");
    assert!(!peer.connection.is_idle());
    peer.written();
    assert!(peer.connection.is_idle());
    assert_eq!(peer.wait(30).state(), "close");
}

#[test]
fn a_slow_body_gets_408_counted_from_its_last_byte() {
    let mut peer = Peer::new(limits());
    peer.feed(&POST[..9]).wait(9).feed(&POST[9..]);
    assert_eq!(peer.seconds_left(), Some(20), "from the end of the head");

    let mut peer = Peer::new(limits());
    peer.feed(POST).wait(19).feed(b"a");
    assert_eq!(peer.seconds_left(), Some(20));
    assert_eq!(peer.wait(19).state(), "waiting");
    peer.wait(1);
    assert!(peer.transcript().ends_with("body \"a\"\nreject 408 the body took too long\nlinger\n"));
}

/// Two bytes in a second.
fn limits_with_rate() -> Limits {
    Limits { min_rate: NonZeroU64::new(2), ..limits() }
}

#[test]
fn a_body_that_drips_gets_408_although_it_never_stops() {
    for post in [
        &b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n",
    ] {
        let mut peer = Peer::new(limits_with_rate());
        peer.feed(post).wait(10).feed(b"abcd");
        assert_eq!(peer.seconds_left(), Some(12), "20 s, and 2 s for 4 bytes");
        peer.wait(11).feed(b"ef");
        assert_eq!(peer.seconds_left(), Some(2));
        peer.wait(1).feed(b"g");
        assert_eq!(peer.wait(1).state(), "waiting");
        peer.wait(1);
        let end = "reject 408 the body came too slowly (--min-rate)\nlinger\n";
        assert!(peer.transcript().ends_with(end), "{}", peer.transcript());
    }
}

#[test]
fn a_body_that_comes_fast_enough_is_never_late() {
    let mut peer = Peer::new(limits_with_rate());
    peer.feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n");
    for _ in 0..100 {
        peer.wait(5).feed(b"0123456789");
        assert_eq!(peer.seconds_left(), Some(20));
    }
}

#[test]
fn what_comes_of_a_body_beside_the_connection_counts() {
    let mut peer = Peer::new(limits_with_rate());
    peer.feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n");
    for left in (0..200).rev() {
        peer.wait(5);
        peer.connection.body_received(10, peer.now);
        peer.poll();
        let ahead = peer.connection.body_ahead().map(|ahead| (ahead.run, ahead.left, ahead.then));
        assert_eq!(ahead, (left > 0).then_some((left * 10, left * 10, None)));
        if left > 0 {
            assert_eq!(peer.seconds_left(), Some(20), "{left}");
        }
    }
}

#[test]
fn what_the_peer_owes_is_known_after_each_byte_of_a_request() {
    let request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let mut peer = Peer::unanswered(limits());
    assert!(!peer.connection.awaits_rest(), "nothing has begun");
    for (at, byte) in request.iter().enumerate() {
        peer.feed(&[*byte]);
        assert_eq!(peer.connection.awaits_rest(), at + 1 < request.len(), "after {at} bytes");
    }
}

#[test]
fn the_pace_of_a_body_is_counted_anew_after_a_pause_of_ours() {
    let mut peer = Peer::new(limits_with_rate());
    peer.feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n").wait(15).feed(b"ab");
    assert_eq!(peer.seconds_left(), Some(6));
    peer.connection.pause_reading(true, peer.now);
    peer.wait(100);
    peer.connection.pause_reading(false, peer.now);
    assert_eq!(peer.seconds_left(), Some(20));
}

#[test]
fn a_body_that_the_caller_does_not_read_does_not_time_out() {
    let mut peer = Peer::new(limits());
    peer.feed(POST);
    peer.connection.pause_reading(true, peer.now);
    assert_eq!(peer.seconds_left(), None);
    assert_eq!(peer.wait(100).state(), "waiting");
    peer.connection.pause_reading(false, peer.now);
    assert_eq!(peer.seconds_left(), Some(20));
    peer.connection.receive(b"ab", peer.now);
    assert_eq!(peer.seconds_left(), None, "bytes wait to be polled");
}

#[test]
fn a_slow_body_breaks_a_response_that_has_begun() {
    let mut peer = Peer::unanswered(limits());
    peer.feed(POST).send(ResponsePart::Head(&ResponseHead::new(200))).send(ResponsePart::Body(b"a"));
    peer.wait(20);
    assert!(peer.transcript().ends_with("reject 408 the body took too long\nclose\n"));
    assert!(peer.written().ends_with(b"\r\n1\r\na\r\n"));
}

#[test]
fn an_unwanted_body_has_a_deadline_in_all() {
    let mut peer = Peer::unanswered(limits());
    peer.feed(POST).answer_empty();
    peer.wait(19).feed(b"a");
    assert_eq!(peer.seconds_left(), Some(1));
    assert_eq!(peer.wait(1).state(), "linger");
}

#[test]
fn a_request_that_is_being_answered_has_no_deadline_here() {
    let mut peer = Peer::unanswered(limits());
    peer.feed(GET);
    assert_eq!(peer.seconds_left(), None);
    assert_eq!(peer.wait(1000).state(), "waiting");
}

#[test]
fn a_pipelined_head_gets_its_time_from_the_end_of_the_response() {
    let mut peer = Peer::unanswered(limits());
    peer.feed(&[GET, b"GET"].concat()).wait(100).answer_empty();
    assert_eq!(peer.seconds_left(), Some(10));
}

#[test]
fn draining_closes_idle_connections_and_finishes_the_others() {
    let mut peer = Peer::new(limits());
    peer.connection.drain();
    assert_eq!(peer.state(), "close");

    let mut peer = Peer::unanswered(limits());
    peer.feed(GET).connection.drain();
    assert_eq!(peer.state(), "waiting");
    peer.answer_empty();
    assert!(peer.written().ends_with(b"Connection: close\r\n\r\n"));
    assert_eq!(peer.state(), "linger");
}

#[test]
fn draining_answers_a_pipelined_request_that_was_promised_a_kept_connection() {
    let mut peer = Peer::unanswered(limits());
    let mut head = ResponseHead::new(200);
    head.content_length = Some(0);
    peer.feed(&GET.repeat(2)).send(ResponsePart::Head(&head)).connection.drain();
    peer.send(ResponsePart::End).poll();
    assert_eq!(peer.state(), "waiting");
    peer.answer_empty();
    assert!(peer.written().ends_with(b"Connection: close\r\n\r\n"));

    let mut peer = Peer::unanswered(limits());
    peer.feed(GET).send(ResponsePart::Head(&head)).connection.drain();
    peer.send(ResponsePart::End);
    assert_eq!(peer.state(), "close");
}
