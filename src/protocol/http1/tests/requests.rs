//! What comes in: limits, pipelining, 100-continue, half-close, memory.

use super::{Peer, transcript};
use crate::protocol::{Limits, ResponseHead, ResponsePart};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn small() -> Limits {
    Limits { max_head_bytes: 200, max_fields: 3, max_uri_bytes: 20, max_body_bytes: 10, ..Limits::default() }
}

fn empty_response() -> ResponseHead {
    let mut head = ResponseHead::new(200);
    head.content_length = Some(0);
    head
}

#[test]
fn limits_give_their_status() {
    for (head, last_line) in [
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(19)), "end"),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20)), "reject 414"),
        (format!("GET /{}", "a".repeat(100)), "reject 414"),
        (format!("{} / HTTP/1.1\r\n", "A".repeat(33)), "reject 501"),
        ("A".repeat(100), "reject 414"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(168)), "end"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(169)), "reject 431"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(200)), "reject 431"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nC: d\r\n\r\n".into(), "end"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nC: d\r\nE: f\r\n".into(), "reject 431"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789".into(), "end"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n".into(), "reject 413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".into(), "reject 413"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n2\r\n12"
                .into(),
            "reject 413",
        ),
    ] {
        let found = transcript(head.as_bytes(), &small());
        let lines: Vec<&str> = found.lines().collect();
        assert!(lines[lines.len() - 2].starts_with(last_line), "{head:?}: {found}");
    }
}

#[test]
fn heads_with_many_fields_are_read_whole() {
    let fields: String = (0..200).map(|number| format!("X-{number}: {number}\r\n")).collect();
    let found =
        transcript(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes(), &Limits::default());
    assert!(found.contains("\n  X-199: 199\nend\n"), "{found}");
}

#[test]
fn every_byte_of_a_field_is_judged_by_the_grammar() {
    for byte in 0..=255u8 {
        let head = [b"GET / HTTP/1.1\r\nHost: x\r\nA: b".as_slice(), &[byte], b"c\r\n\r\n"].concat();
        let valid = byte >= 0x20 && byte != 0x7f || byte == b'\t';
        let mut peer = Peer::new(Limits::default());
        assert_eq!(peer.feed(&head).state() == "idle", valid, "{byte:#x} in a value");

        let head = [b"GET / HTTP/1.1\r\nHost: x\r\nA".as_slice(), &[byte], b"b: c\r\n\r\n"].concat();
        let valid = crate::protocol::is_token(&[byte]) || byte == b':';
        let mut peer = Peer::new(Limits::default());
        assert_eq!(peer.feed(&head).state() == "idle", valid, "{byte:#x} in a name");
    }
}

#[test]
fn the_next_request_waits_for_the_end_of_the_response() {
    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(&GET.repeat(2));
    assert_eq!(peer.transcript().matches("request ").count(), 1);
    peer.send(ResponsePart::Head(&empty_response())).poll();
    assert_eq!(peer.transcript().matches("request ").count(), 1);
    peer.send(ResponsePart::End).poll();
    assert_eq!(peer.transcript().matches("request ").count(), 2);
}

#[test]
fn nothing_runs_after_a_bad_request_in_a_pipeline() {
    let bytes = [GET, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", GET].concat();
    let found = transcript(&bytes, &Limits::default());
    assert_eq!(found.matches("request ").count(), 1);
    assert!(found.ends_with("reject 400 a field name is malformed\nclose\n"), "{found}");
}

#[test]
fn input_is_bounded_while_a_response_is_awaited() {
    let limits = Limits::default();
    let mut peer = Peer::unanswered(limits.clone());
    peer.feed(GET);
    let mut fed = 0;
    while peer.connection.wants_input() {
        peer.feed(&[b'x'; 1000]);
        fed += 1000;
        assert!(fed <= limits.max_head_bytes + 67_000);
    }
    assert!(fed >= limits.max_head_bytes);
}

#[test]
fn after_a_reject_bytes_are_dropped() {
    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(b"\0");
    assert!(!peer.connection.wants_input());
    peer.feed(GET);
    assert!(peer.connection.unread().is_empty());
    assert_eq!(peer.transcript(), "reject 400 a request does not begin with a method\nwaiting\n");
}

#[test]
fn continue_is_sent_once_and_only_when_the_body_is_awaited() {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(head);
    assert_eq!(peer.written(), CONTINUE);
    peer.poll().feed(b"a").feed(b"b");
    assert_eq!(peer.written(), b"");
    peer.send(ResponsePart::Head(&empty_response())).send(ResponsePart::End);
    assert_eq!(peer.state(), "idle", "the connection is kept");

    for (what, bytes) in [
        ("body bytes are here", [head.as_slice(), b"a"].concat()),
        ("HTTP/1.0", b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".to_vec()),
        (
            "no body",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n".to_vec(),
        ),
    ] {
        let mut peer = Peer::unanswered(Limits::default());
        peer.feed(&bytes);
        assert_eq!(peer.written(), b"", "{what}");
        assert!(peer.transcript().starts_with("request POST"), "{what}");
    }

    let mut peer = Peer::unanswered(Limits::default());
    peer.connection.receive(head, peer.now);
    peer.connection.poll_event().expect("no error").expect("a request");
    peer.feed(b"a");
    assert_eq!(peer.written(), b"", "the body began before it was asked for");
}

#[test]
fn a_final_status_instead_of_continue_closes_the_connection() {
    let mut peer = Peer::unanswered(Limits::default());
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    peer.connection.receive(head, peer.now);
    peer.connection.poll_event().expect("no error").expect("a request");
    peer.send(ResponsePart::Head(&empty_response()));
    peer.poll();
    assert!(peer.written().ends_with(b"Connection: close\r\n\r\n"));
    assert_eq!(peer.connection.deadline(), None, "no body is awaited");
    peer.send(ResponsePart::End);
    assert_eq!(peer.state(), "linger");
}

#[test]
fn bytes_that_came_early_make_continue_needless_and_keep_the_connection() {
    let mut peer = Peer::unanswered(Limits::default());
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab";
    peer.connection.receive(head, peer.now);
    peer.connection.poll_event().expect("no error").expect("a request");
    peer.send(ResponsePart::Head(&empty_response())).send(ResponsePart::End).poll();
    assert!(!peer.written().ends_with(b"Connection: close\r\n\r\n"));
    assert_eq!(peer.state(), "idle");
}

#[test]
fn unread_bodies_are_discarded_up_to_a_bound() {
    let chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (head, body, state) in [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n".as_slice(), 20, "idle"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n", 19, "waiting"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n", 65536, "idle"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 0, "linger"),
        (chunked, 65536, "idle"),
        (chunked, 65537, "linger"),
    ] {
        let mut peer = Peer::unanswered(Limits::default());
        peer.feed(head).send(ResponsePart::Head(&empty_response())).send(ResponsePart::End);
        let mut bytes = vec![b'x'; body];
        if head == chunked {
            bytes = [format!("{body:x}\r\n").as_bytes(), &bytes, b"\r\n0\r\n\r\n"].concat();
        }
        peer.feed_in_steps(&bytes, 1000);
        assert_eq!(peer.state(), state, "{body} bytes after {:?}", head.escape_ascii().to_string());
        if state == "idle" {
            peer.feed(GET);
            assert!(peer.transcript().ends_with("request GET / HTTP/1.1\n  Host: x\nend\nwaiting\n"));
        }
    }
}

#[test]
fn bytes_of_an_unread_body_never_become_a_request() {
    let mut peer = Peer::unanswered(Limits::default());
    let body = GET.repeat(3);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    peer.connection.receive(&[head.as_bytes(), &body].concat(), peer.now);
    peer.connection.poll_event().expect("no error").expect("a request");
    peer.send(ResponsePart::Head(&empty_response())).send(ResponsePart::End).poll();
    assert_eq!(peer.transcript(), "idle\n");
}

#[test]
fn a_half_closed_peer_is_answered_if_its_request_is_complete() {
    for (bytes, transcript) in [
        (b"".as_slice(), "close\n"),
        (b"GET / HT", "close\n"),
        (b"\r\n", "close\n"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na",
            "request POST / HTTP/1.1\n  Host: x\n  Content-Length: 2\nbody \"a\"\nabort\nclose\n",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
            "request POST / HTTP/1.1\n  Host: x\n  Transfer-Encoding: chunked\nbody \"a\"\nabort\nclose\n",
        ),
    ] {
        let mut peer = Peer::unanswered(Limits::default());
        assert_eq!(peer.feed(bytes).eof().transcript(), transcript);
    }
    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(&GET.repeat(2)).eof();
    assert_eq!(peer.state(), "waiting");
    peer.send(ResponsePart::Head(&empty_response())).send(ResponsePart::End).poll();
    assert!(!peer.written().ends_with(b"Connection: close\r\n\r\n"), "another request waits");
    peer.send(ResponsePart::Head(&empty_response())).send(ResponsePart::End).poll();
    assert!(peer.written().ends_with(b"Connection: close\r\n\r\n"));
    assert_eq!(peer.state(), "close");
}

#[test]
fn large_bodies_pass_whole_and_leave_the_next_request() {
    let body: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
    for step in [999, 65_536, 400_000] {
        let mut peer = Peer::new(Limits::default());
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        peer.feed_in_steps(&[head.as_bytes(), &body, GET].concat(), step);
        let expected = format!("body \"{}\"\nend\nrequest GET", body.escape_ascii());
        assert!(peer.transcript().contains(&expected), "in steps of {step}");
        assert_eq!(peer.state(), "idle");
    }
}

#[test]
fn a_broken_body_after_the_begin_of_the_response_breaks_it() {
    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut head = ResponseHead::new(200);
    head.has_body = true;
    peer.send(ResponsePart::Head(&head)).send(ResponsePart::Body(b"a")).feed(b"z");
    assert!(peer.transcript().ends_with("reject 400 a chunk size is not a hexadecimal number\nclose\n"));
    peer.send(ResponsePart::Body(b"b")).send(ResponsePart::End);
    assert!(peer.written().ends_with(b"\r\n\r\n1\r\na\r\n"), "no last chunk");
}
