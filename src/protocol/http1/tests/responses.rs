//! What goes out, byte by byte.

use std::sync::Arc;

use bytes::Bytes;

use super::Peer;
use crate::protocol::http1::DateCache;
use crate::protocol::{Limits, ResponseHead, ResponsePart};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
const GET10: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const GET10_KEEP: &[u8] = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
const GET_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: TE,,CLOSE \r\n\r\n";

/// Status, Content-Length, and whether the caller says that there is a body.
fn head(status: u16, content_length: Option<u64>, has_body: bool) -> ResponseHead {
    let mut head = ResponseHead::new(status);
    head.push(b"A", b"b").expect("valid");
    head.content_length = content_length;
    head.has_body = has_body;
    head
}

enum Last {
    End,
    Broken,
}

#[test]
fn responses_are_framed_by_version_method_and_length() {
    use Last::*;
    let both = [b"one".as_slice(), b"", b"two2"];
    for (what, request, head, bodies, last, expected, state) in [
        ("known", GET, head(200, Some(7), true), &both[..], End, "Content-Length: 7\r\n;onetwo2", "idle"),
        (
            "unknown",
            GET,
            head(200, None, true),
            &both,
            End,
            "Transfer-Encoding: chunked\r\n;3\r\none\r\n4\r\ntwo2\r\n0\r\n\r\n",
            "idle",
        ),
        (
            "unknown, empty",
            GET,
            head(200, None, true),
            &[],
            End,
            "Transfer-Encoding: chunked\r\n;0\r\n\r\n",
            "idle",
        ),
        (
            "unknown, broken",
            GET,
            head(200, None, true),
            &both,
            Broken,
            "Transfer-Encoding: chunked\r\n;3\r\none\r\n4\r\ntwo2\r\n",
            "close",
        ),
        (
            "known, broken",
            GET,
            head(200, Some(9), true),
            &both,
            Broken,
            "Content-Length: 9\r\n;onetwo2",
            "close",
        ),
        ("too short", GET, head(200, Some(9), true), &both, End, "Content-Length: 9\r\n;onetwo2", "close"),
        ("too long", GET, head(200, Some(5), true), &both, End, "Content-Length: 5\r\n;onetw", "idle"),
        ("no body", GET, head(404, Some(0), true), &[], End, "Content-Length: 0\r\n;", "idle"),
        ("no body by mistake", GET, head(200, Some(9), false), &both, End, "Content-Length: 0\r\n;", "idle"),
        ("HEAD", HEAD, head(200, Some(7), false), &[], End, "Content-Length: 7\r\n;", "idle"),
        ("HEAD unknown", HEAD, head(200, None, false), &[], End, ";", "idle"),
        ("HEAD with a body by mistake", HEAD, head(200, None, true), &both, End, ";", "idle"),
        ("204", GET, head(204, Some(7), false), &both, End, ";", "idle"),
        ("204 by mistake", GET, head(204, Some(7), true), &both, End, ";", "idle"),
        ("304", GET, head(304, Some(7), false), &both, End, "Content-Length: 7\r\n;", "idle"),
        ("304 unknown", GET, head(304, None, false), &[], End, ";", "idle"),
        (
            "1.0 known",
            GET10,
            head(200, Some(7), true),
            &both,
            End,
            "Content-Length: 7\r\n;Connection: close\r\n;onetwo2",
            "close",
        ),
        ("1.0 unknown", GET10, head(200, None, true), &both, End, ";Connection: close\r\n;onetwo2", "close"),
        (
            "1.0 unknown, broken",
            GET10,
            head(200, None, true),
            &both,
            Broken,
            ";Connection: close\r\n;onetwo2",
            "reset",
        ),
        (
            "1.0 kept",
            GET10_KEEP,
            head(200, Some(7), true),
            &both,
            End,
            "Content-Length: 7\r\n;Connection: keep-alive\r\n;onetwo2",
            "idle",
        ),
        (
            "1.0 can't be kept",
            GET10_KEEP,
            head(200, None, true),
            &both,
            End,
            ";Connection: close\r\n;onetwo2",
            "linger",
        ),
        (
            "close",
            GET_CLOSE,
            head(200, Some(7), true),
            &both,
            End,
            "Content-Length: 7\r\n;Connection: close\r\n;onetwo2",
            "close",
        ),
        (
            "empty chunks",
            GET,
            head(200, None, true),
            &[b"", b""],
            End,
            "Transfer-Encoding: chunked\r\n;0\r\n\r\n",
            "idle",
        ),
    ] {
        let mut peer = Peer::unanswered(Limits::default());
        peer.feed(request).send(ResponsePart::Head(&head));
        for body in bodies {
            peer.send(ResponsePart::Body(body));
        }
        peer.send(match last {
            End => ResponsePart::End,
            Broken => ResponsePart::Broken,
        });
        let mut parts = expected.split(';');
        let (framing, body) = (parts.next().expect("a part"), parts.next_back().expect("a part"));
        let connection = parts.next().unwrap_or_default();
        let reason = String::from_utf8_lossy(head.reason()).into_owned();
        let start = format!("HTTP/1.1 {} {reason}\r\nA: b\r\n", head.status);
        let expected = format!("{start}{framing}Server: forkhorn\r\n{connection}\r\n{body}");
        assert_eq!(String::from_utf8_lossy(&peer.written()), expected, "{what}");
        assert_eq!(peer.state(), state, "{what}");
        let kept = matches!(state, "idle");
        assert_eq!(peer.feed(GET).transcript().matches("request ").count(), 1 + usize::from(kept), "{what}");
    }
}

#[test]
fn date_and_server_are_added_unless_the_application_has_them() {
    let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
    let mut peer = Peer::unanswered(Limits::default());
    peer.connection.set_date(DateCache::new(date).at(date));
    peer.feed(GET).send(ResponsePart::Head(&head(200, Some(0), true))).send(ResponsePart::End).poll();
    let expected = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 0\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                     Server: forkhorn\r\n\r\n";
    assert_eq!(peer.written(), expected);

    let mut own = ResponseHead::default();
    own.start(299, b"");
    own.push(b"Date", b"today").expect("valid");
    own.push(b"server", b"mine").expect("valid");
    own.content_length = Some(0);
    own.close = true;
    peer.feed(GET).send(ResponsePart::Head(&own)).send(ResponsePart::End);
    let expected =
        b"HTTP/1.1 299 \r\nDate: today\r\nserver: mine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(peer.written(), expected);
    assert_eq!(peer.state(), "linger", "the client did not expect the end");
}

#[test]
fn shared_bodies_and_files_are_framed_without_a_copy() {
    let file = Arc::new(tempfile::tempfile().expect("a temporary file"));
    let shared = Bytes::from(vec![b'x'; 20_000]);
    for (content_length, expected) in [
        (None, format!("4e20\r\n{}\r\n64\r\n<file 5 100>\r\n0\r\n\r\n", "x".repeat(20_000))),
        (Some(20_100), format!("{}<file 5 100>", "x".repeat(20_000))),
        (Some(20_040), format!("{}<file 5 40>", "x".repeat(20_000))),
        (Some(5), "xxxxx".to_owned()),
    ] {
        let mut peer = Peer::unanswered(Limits::default());
        peer.feed(GET).send(ResponsePart::Head(&head(200, content_length, true)));
        peer.written();
        peer.send(ResponsePart::SharedBody(shared.clone()));
        peer.send(ResponsePart::SharedBody(Bytes::new()));
        peer.send(ResponsePart::FileBody { file: file.clone(), offset: 5, length: 100 });
        peer.send(ResponsePart::FileBody { file: file.clone(), offset: 5, length: 0 });
        peer.send(ResponsePart::End);
        assert_eq!(String::from_utf8_lossy(&peer.written()), expected);
        assert_eq!(peer.state(), "idle");
    }
}

#[test]
fn interim_responses_go_before_the_final_one() {
    for (request, interim) in [(GET, "HTTP/1.1 103 \r\nA: b\r\n\r\n"), (GET10_KEEP, "")] {
        let mut peer = Peer::unanswered(Limits::default());
        peer.feed(request);
        peer.send(ResponsePart::Head(&head(103, None, false)));
        peer.send(ResponsePart::Head(&head(101, None, false)));
        assert_eq!(String::from_utf8_lossy(&peer.written()), interim);
        peer.send(ResponsePart::Head(&head(200, Some(1), true)));
        peer.send(ResponsePart::Body(b"x")).send(ResponsePart::End);
        assert!(peer.written().ends_with(b"\r\n\r\nx"));
        assert_eq!(peer.state(), "idle");
    }
}

#[test]
fn parts_out_of_order_never_look_like_a_complete_response() {
    let mut peer = Peer::unanswered(Limits::default());
    peer.send(ResponsePart::Head(&head(200, Some(0), true)));
    assert_eq!((peer.written().as_slice(), peer.state()), (b"".as_slice(), "idle"), "no request has come");

    for parts in [&[ResponsePart::End][..], &[ResponsePart::Body(b"x")], &[ResponsePart::Broken]] {
        let mut peer = Peer::unanswered(Limits::default());
        peer.feed(GET);
        for part in parts {
            match part {
                ResponsePart::End => peer.send(ResponsePart::End),
                ResponsePart::Body(bytes) => peer.send(ResponsePart::Body(bytes)),
                _ => peer.send(ResponsePart::Broken),
            };
        }
        assert_eq!((peer.written().as_slice(), peer.state()), (b"".as_slice(), "close"), "{parts:?}");
    }

    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(GET).send(ResponsePart::Head(&head(200, None, true)));
    peer.written();
    peer.send(ResponsePart::Head(&head(200, None, true))).send(ResponsePart::End);
    assert_eq!((peer.written().as_slice(), peer.state()), (b"".as_slice(), "close"), "two heads");
}

#[test]
fn parts_of_a_request_that_is_over_are_ignored() {
    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(GET);
    let first = peer.connection.id;
    peer.send(ResponsePart::Head(&head(200, Some(0), true))).send(ResponsePart::End).feed(GET).written();
    peer.connection.send(first, ResponsePart::Head(&head(200, Some(0), true)), peer.now);
    peer.connection.send(first, ResponsePart::End, peer.now);
    assert_eq!((peer.written().as_slice(), peer.state()), (b"".as_slice(), "waiting"));
}

#[test]
fn a_refused_head_request_gets_no_body() {
    let mut peer = Peer::unanswered(Limits::default());
    peer.feed(b"HEAD / HTTP/1.1\r\n\r\n").send(ResponsePart::Head(&head(400, Some(1), true)));
    peer.send(ResponsePart::Body(b"x")).send(ResponsePart::End);
    assert!(peer.written().ends_with(b"Content-Length: 1\r\nServer: forkhorn\r\nConnection: close\r\n\r\n"));
}
