//! Heads that come again: known by their bytes, and taken for nothing else.

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::http1::Connection;
use crate::protocol::{Event, Limits, RequestHead, ResponseHead, ResponsePart};

const HEAD: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\n\r\n";

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn connection() -> Connection {
    Connection::new(Arc::new(Limits::default()), Instant::now())
}

/// The heads of the requests that `bytes` hold, in pieces of `step`, each answered as it comes. A refused one is the last,
/// and not among them.
fn heads(connection: &mut Connection, bytes: &[u8], step: usize) -> Vec<RequestHead> {
    let (mut heads, now) = (Vec::new(), Instant::now());
    for piece in bytes.chunks(step) {
        connection.receive(piece, now);
        while let Some(event) = connection.poll_event().expect("never fails") {
            match event {
                Event::Request { id, head } => {
                    let mut response = ResponseHead::new(200);
                    response.content_length = Some(0);
                    connection.send(id, ResponsePart::Head(&response), now);
                    heads.push(head.clone());
                    connection.recycle(head);
                }
                Event::BodyEnd { id } => connection.send(id, ResponsePart::End, now),
                Event::Reject { .. } => return heads,
                _ => {}
            }
        }
    }
    heads
}

/// Method and target, names and values.
fn parts(head: &RequestHead) -> (Vec<u8>, Fields) {
    let fields = head.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    ([head.method(), head.target()].map(Option::unwrap_or_default).join(&b' '), fields)
}

#[test]
fn the_same_head_is_known_and_any_other_one_is_read() {
    let changed = |from: &str, to: &str| {
        String::from_utf8(HEAD.to_vec()).expect("ASCII").replace(from, to).into_bytes()
    };
    for (second, is_known) in [
        (HEAD.to_vec(), true),
        (changed("a=1", "a=2"), false),
        (changed("/a?b", "/a?c"), false),
        (changed("GET", "PUT"), false),
        (changed("1.1", "1.0"), false),
        (changed("Cookie: a=1\r\n", ""), false),
        (changed("\r\n\r\n", "\r\nX: y\r\n\r\n"), false),
    ] {
        let mut kept = connection();
        let found = heads(&mut kept, &[HEAD, &second, HEAD].concat(), usize::MAX);
        let fresh = heads(&mut connection(), &second, usize::MAX);
        let text = second.escape_ascii().to_string();
        assert_eq!(parts(&found[1]), parts(&fresh[0]), "{text}");
        assert_eq!((found[0].repeats, found[1].repeats), (false, is_known), "{text}");
        if fresh[0].line.map(|line| line.version) == found[0].line.map(|line| line.version) {
            assert_eq!((parts(&found[2]), found[2].repeats), (parts(&found[0]), is_known), "{text}");
        }
    }
}

#[test]
fn an_empty_line_before_a_head_does_no_harm() {
    let found = heads(&mut connection(), &[HEAD, b"\r\n", HEAD, HEAD].concat(), usize::MAX);
    assert_eq!(found.iter().map(parts).collect::<Vec<_>>(), vec![parts(&found[0]); 3]);
    assert!(found[2].repeats);
}

#[test]
fn a_known_head_means_the_same_however_it_is_split() {
    for step in 1..=HEAD.len() + 1 {
        let found = heads(&mut connection(), &HEAD.repeat(3), step);
        assert_eq!(found.len(), 3, "in steps of {step}");
        assert!(found.iter().all(|head| parts(head) == parts(&found[0])), "in steps of {step}");
    }
}

#[test]
fn a_head_that_was_refused_is_refused_again() {
    for bad in [
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n".as_slice(),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    ] {
        assert_eq!(heads(&mut connection(), &[HEAD, HEAD, bad, bad].concat(), usize::MAX).len(), 2);
    }
}

#[test]
fn what_a_head_says_of_its_body_and_its_connection_holds_each_time() {
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let found = heads(&mut connection(), &post.repeat(3), usize::MAX);
    assert_eq!(found.iter().map(|head| head.repeats).collect::<Vec<_>>(), [false, true, true]);
    assert!(found.iter().all(|head| head.body == found[0].body));
    let last = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut kept = connection();
    assert_eq!(heads(&mut kept, &last.repeat(2), usize::MAX).len(), 2);
    assert!(!kept.wants_close());
    let mut text = Vec::new();
    while let Some(crate::protocol::Piece::Bytes(bytes)) = kept.output().front() {
        text.extend_from_slice(bytes);
        let length = bytes.len() as u64;
        kept.output().consume(length);
    }
    let keeps = text.windows(10).filter(|window| window == b"keep-alive").count();
    assert_eq!(keeps, 2, "{}", text.escape_ascii());
}
