//! Time: what the peer has to send until when.

use super::*;

/// Seconds from the start to the deadline.
fn deadline(peer: &Peer) -> Option<u64> {
    peer.connection.deadline().map(|deadline| (deadline - peer.start).as_secs())
}

fn expire(peer: &mut Peer) -> Vec<Seen> {
    let deadline = peer.connection.deadline().expect("something is awaited");
    peer.connection.on_deadline(deadline - Duration::from_millis(1));
    assert!(!peer.connection.wants_close(), "too early");
    peer.now = deadline;
    peer.connection.on_deadline(deadline);
    let mut seen = Vec::new();
    peer.poll(&mut seen);
    seen
}

#[test]
fn a_connection_that_sends_nothing_is_closed() {
    let mut peer = Peer::new(limits());
    assert_eq!(deadline(&peer), Some(10));
    assert_eq!(expire(&mut peer), []);
    assert!(peer.connection.wants_close());
    assert_eq!(deadline(&peer), None);
}

#[test]
fn a_head_that_does_not_come_whole_closes_the_connection() {
    let stream = [begin(1, true), params(1, &[("A", "b")])].concat();
    for split in 1..stream.len() {
        let mut peer = Peer::new(limits());
        peer.at(5).feed_whole(&stream[..1]);
        peer.at(7).feed_whole(&stream[1..split]);
        assert_eq!(deadline(&peer), Some(15), "{split} bytes came");
        assert_eq!(expire(&mut peer), []);
        assert!(peer.connection.wants_close());
    }
}

#[test]
fn management_records_do_not_keep_a_connection_open() {
    let mut peer = Peer::new(limits());
    peer.at(8).feed_whole(&record(9, 0, b""));
    assert_eq!(deadline(&peer), Some(10));
}

#[test]
fn a_body_that_stops_coming_is_rejected() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[begin(1, true), params(1, &[("CONTENT_LENGTH", "9")])].concat());
    assert_eq!(deadline(&peer), Some(20));
    peer.at(15).feed_whole(&stdin(1, b"abc"));
    assert_eq!(deadline(&peer), Some(35));
    assert_eq!(expire(&mut peer), [Seen::Reject(1, 408)]);
    assert_eq!(deadline(&peer), None);
    peer.answer(1, 408, b"");
    assert!(peer.written().ends_with(&end_request(1, 0, 0)));
    assert!(!peer.connection.wants_close());
    assert_eq!(peer.feed_whole(&[stdin(1, b"def"), get(2)].concat()), got(2));
}

#[test]
fn a_body_that_drips_is_rejected_although_it_never_stops() {
    for length in ["40", ""] {
        let limits = Limits { min_rate: std::num::NonZeroU64::new(2), ..limits() };
        let mut peer = Peer::new(limits);
        peer.feed_whole(&[begin(1, true), params(1, &[("CONTENT_LENGTH", length)])].concat());
        peer.at(15).feed_whole(&stdin(1, b"abcd"));
        assert_eq!(deadline(&peer), Some(22), "20 s, and 2 s for 4 bytes");
        peer.at(21).feed_whole(&stdin(1, b"ef"));
        assert_eq!(deadline(&peer), Some(23));
        // Who reads again after a pause lets the peer begin anew.
        let now = peer.at(22).now;
        peer.connection.receive(b"", now);
        assert_eq!(deadline(&peer), Some(42));
        peer.at(40).feed_whole(&stdin(1, b"gh"));
        assert_eq!(deadline(&peer), Some(43));
        assert_eq!(expire(&mut peer), [Seen::Reject(1, 408)]);
    }
}

#[test]
fn the_first_record_of_an_unannounced_body_is_awaited_too() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[begin(1, true), params(1, &[])].concat());
    assert_eq!(deadline(&peer), Some(20));
    assert_eq!(expire(&mut peer), [Seen::Reject(1, 408)]);
}

#[test]
fn nothing_is_awaited_while_the_answer_is_made() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&get(1));
    assert_eq!(deadline(&peer), None);
    peer.at(100).answer(1, 200, b"");
    assert_eq!(deadline(&peer), Some(130), "the next request is awaited from the end of this one");
    peer.written();
    assert_eq!(expire(&mut peer), []);
    assert!(peer.connection.wants_close());
}

#[test]
fn a_kept_connection_is_not_idle_while_its_answer_is_written() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&get(1));
    peer.answer(1, 200, b"");
    peer.at(30);
    peer.connection.on_deadline(peer.now);
    assert!(!peer.connection.wants_close());
    assert_eq!(deadline(&peer), Some(60));
}

#[test]
fn a_next_request_has_its_own_time() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&get(1));
    peer.at(1).answer(1, 200, b"");
    peer.at(29).feed_whole(&begin(1, true)[..3]);
    assert_eq!(deadline(&peer), Some(39));
}

#[test]
fn a_late_head_among_other_requests_is_rejected_alone() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[get(1), begin(2, true)].concat());
    assert_eq!(expire(&mut peer), [Seen::Reject(2, 408)]);
    assert!(!peer.connection.wants_close());
    peer.answer(1, 200, b"");
    peer.answer(2, 408, b"");
    assert!(!peer.connection.wants_close());
}

#[test]
fn the_peer_is_not_late_while_the_caller_has_not_polled() {
    let mut peer = Peer::new(limits());
    peer.connection.receive(&[begin(1, true), params(1, &[("CONTENT_LENGTH", "9")])].concat(), peer.now);
    assert_eq!(deadline(&peer), None);
    peer.at(1000);
    peer.connection.on_deadline(peer.now);
    peer.connection.receive(b"", peer.now);
    let mut seen = Vec::new();
    peer.poll(&mut seen);
    assert_eq!(seen, [request(1, &[("CONTENT_LENGTH", "9")], BodyLength::Known(9))]);
    assert_eq!(deadline(&peer), Some(1020), "time begins anew when the caller reads again");
}
