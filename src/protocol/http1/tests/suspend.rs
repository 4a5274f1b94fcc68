//! A connection that goes on in another process.

use std::sync::Arc;
use std::time::Instant;

use super::super::Connection;
use crate::protocol::{BodyLength, Event, Limits, RequestHead, RequestId, ResponseHead, ResponsePart};

fn connection() -> Connection {
    Connection::new(Arc::new(Limits::default()), Instant::now())
}

/// Feeds bytes and polls to the end: the request's head.
fn read(connection: &mut Connection, bytes: &[u8]) -> Option<(RequestId, RequestHead)> {
    connection.receive(bytes, Instant::now());
    let mut request = None;
    while let Some(event) = connection.poll_event().expect("never fails") {
        if let Event::Request { id, head } = event {
            request = Some((id, head));
        }
    }
    request
}

fn answer(connection: &mut Connection, id: RequestId) -> String {
    let mut head = ResponseHead::new(200);
    head.content_length = Some(0);
    connection.send(id, ResponsePart::Head(&head), Instant::now());
    connection.send(id, ResponsePart::End, Instant::now());
    let Some(crate::protocol::Piece::Bytes(bytes)) = connection.output().front() else {
        return String::new();
    };
    let text = String::from_utf8_lossy(bytes).into_owned();
    connection.output().clear();
    text
}

fn state_of(connection: &Connection, request: &Option<(RequestId, RequestHead)>) -> Option<Vec<u8>> {
    let mut state = Vec::new();
    let told = connection.suspend(request.as_ref().map(|(id, head)| (*id, head)), &mut state);
    assert_eq!(told, !state.is_empty());
    told.then_some(state)
}

#[test]
fn a_request_is_answered_where_its_connection_goes_on() {
    for (bytes, body, kept) in [
        (&b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"[..], BodyLength::None, true),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", BodyLength::None, false),
        (b"GET /a HTTP/1.0\r\n\r\n", BodyLength::None, false),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", BodyLength::Known(3), true),
        (
            b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
            BodyLength::Known(3),
            true,
        ),
        (
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            BodyLength::Unknown,
            true,
        ),
    ] {
        let mut here = connection();
        let request = read(&mut here, &[bytes, b"GET /next"].concat());
        let state = state_of(&here, &request).expect("nothing is in the way");
        let mut there = connection();
        let event = there.resume(&state, Instant::now()).expect("a state");
        let Some(Event::Request { id, head }) = event else { panic!("{event:?}") };
        assert_eq!(head.target(), Some(&b"/a"[..]));
        assert_eq!(head.body, body);
        there.receive(here.unread(), Instant::now());
        assert!(there.poll_event().expect("never fails").is_none(), "the body has been read");
        let answer = answer(&mut there, id);
        assert_eq!(answer.contains("Connection: close") || there.wants_close(), !kept, "{answer}");
        if kept {
            let (_, head) = read(&mut there, b" HTTP/1.1\r\nHost: x\r\n\r\n").expect("the next request");
            assert_eq!(head.target(), Some(&b"/next"[..]));
        }
    }
}

#[test]
fn between_requests_the_state_is_told_with_what_has_come_of_the_next_one() {
    let mut here = connection();
    let (id, _) = read(&mut here, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    answer(&mut here, id);
    assert!(read(&mut here, b"GET /b HTTP/1.1\r\nHo").is_none());
    let state = state_of(&here, &None).expect("between requests");
    let mut there = connection();
    assert!(there.resume(&state, Instant::now()).expect("a state").is_none());
    let keep_alive = Limits::default().keep_alive_timeout;
    assert!(there.deadline().is_some_and(|at| at >= Instant::now() + keep_alive / 2), "it was in use before");
    there.receive(here.unread(), Instant::now());
    let (_, head) = read(&mut there, b"st: x\r\n\r\n").expect("the next request");
    assert_eq!(head.target(), Some(&b"/b"[..]));
}

#[test]
fn a_connection_in_the_middle_of_something_stays() {
    let whole = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let mut here = connection();
    let request = read(&mut here, &whole[..whole.len() - 1]);
    assert_eq!(state_of(&here, &request), None, "the body is not complete");
    assert_eq!(state_of(&here, &None), None, "a request is under way");
    read(&mut here, b"c");
    assert!(state_of(&here, &request).is_some());
    let (id, head) = request.expect("a request");
    let other = Some((RequestId(id.0 + 1), head.clone()));
    assert_eq!(state_of(&here, &other), None, "another request");
    let request = Some((id, head));
    here.send(id, ResponsePart::Head(&ResponseHead::new(200)), Instant::now());
    assert_eq!(state_of(&here, &request), None, "the answer has begun");
    let mut here = connection();
    let request = read(&mut here, whole);
    here.receive_eof();
    assert_eq!(state_of(&here, &request), None, "the peer has left");
    let mut here = connection();
    let request = read(&mut here, whole);
    here.drain();
    assert_eq!(state_of(&here, &request), None, "it was to be closed");
}

#[test]
fn what_is_no_state_is_refused() {
    for state in [
        &b""[..],
        b"\x00x",
        b"\x01x",
        b"\x02",
        b"\x03",
        b"\x02GET /a HTTP/1.1\r\nHost: x\r\n",
        b"\x02GET /a HTTP/1.1\r\nHost: x\r\n\r\nG",
    ] {
        connection().resume(state, Instant::now()).expect_err("no state");
    }
    // A head that this process does not accept is refused as any other.
    let event = connection().resume(b"\x02GET /a HTTP/1.1\r\n\r\n", Instant::now());
    assert!(matches!(event, Ok(Some(Event::Reject { .. }))), "{event:?}");
}
