//! A connection that goes on in another process.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::protocol::RequestHead;

fn connection() -> Connection {
    Connection::new(Arc::new(Limits::default()), Instant::now())
}

/// Feeds bytes and polls to the end: the first request's head.
fn read(connection: &mut Connection, bytes: &[u8]) -> Option<(RequestId, RequestHead)> {
    connection.receive(bytes, Instant::now());
    let mut found = None;
    while let Some(event) = connection.poll_event().expect("well-formed") {
        if let Event::Request { id, head } = event {
            found.get_or_insert((id, head));
        }
    }
    found
}

/// The types of the records that wait, with the request ID of each.
fn answer(connection: &mut Connection, id: RequestId) -> Vec<(u8, u16)> {
    connection.send(id, ResponsePart::Head(&ResponseHead::new(200)), Instant::now());
    connection.send(id, ResponsePart::End, Instant::now());
    let mut records = Vec::new();
    if let Some(Piece::Bytes(mut bytes)) = connection.output().front() {
        while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
            records.push((header[1], u16::from_be_bytes([header[2], header[3]])));
            bytes = &rest[usize::from(u16::from_be_bytes([header[4], header[5]])) + usize::from(header[6])..];
        }
    }
    connection.output().clear();
    records
}

fn state_of(connection: &Connection, request: &Option<(RequestId, RequestHead)>) -> Option<Vec<u8>> {
    let mut state = Vec::new();
    let told = connection.suspend(request.as_ref().map(|(id, head)| (*id, head)), &mut state);
    assert_eq!(told, !state.is_empty());
    told.then_some(state)
}

#[test]
fn a_request_is_answered_where_its_connection_goes_on() {
    let known = [("CONTENT_LENGTH", "3")];
    for (name, records, keeps, length) in [
        ("a GET of nginx", vec![params(7, &[("CONTENT_LENGTH", "")]), stdin(7, b"")], true, BodyLength::None),
        ("no CONTENT_LENGTH", vec![params(7, &[("M", "GET")]), stdin(7, b"")], true, BodyLength::None),
        ("nothing", vec![params(7, &[("CONTENT_LENGTH", "0")])], true, BodyLength::None),
        ("a body", vec![params(7, &known), stdin(7, b"abc"), stdin(7, b"")], true, BodyLength::Known(3)),
        ("its end to come", vec![params(7, &known), stdin(7, b"abc")], true, BodyLength::Known(3)),
        ("not kept", vec![params(7, &known), stdin(7, b"abc"), stdin(7, b"")], false, BodyLength::Known(3)),
        ("streamed", vec![params(7, &[]), stdin(7, b"abc"), stdin(7, b"")], true, BodyLength::Unknown),
    ] {
        let mut here = connection();
        let records = [vec![begin(7, keeps)], records].concat().concat();
        let half = [1];
        let request = read(&mut here, &[&records[..], &half].concat());
        let expected_fields = request.as_ref().expect(name).1.fields.clone();
        let state = state_of(&here, &request).expect(name);
        let mut there = connection();
        let event = there.resume(&state, Instant::now()).expect("a state");
        let Some(Event::Request { id, head }) = event else { panic!("{name}: {event:?}") };
        assert_eq!((head.fields, head.body), (expected_fields, length), "{name}");
        there.receive(here.unread(), Instant::now());
        if name == "its end to come" || name == "nothing" {
            there.receive(&stdin(7, b"")[1..], Instant::now());
        }
        assert!(there.poll_event().expect(name).is_none(), "{name}: the body has been read");
        assert_eq!(answer(&mut there, id), [(6, 7), (6, 7), (3, 7)], "{name}");
        assert_eq!(there.wants_close(), !keeps, "{name}");
        if keeps && name != "its end to come" && name != "nothing" {
            assert!(read(&mut there, &get(7)[1..]).is_some(), "{name}: the next request");
        }
    }
}

#[test]
fn between_requests_the_state_is_told() {
    let mut here = connection();
    let fresh = state_of(&here, &None).expect("idle");
    let (id, _) = read(&mut here, &get(1)).expect("a request");
    answer(&mut here, id);
    let kept = state_of(&here, &None).expect("idle");
    for (state, timeout) in
        [(fresh, Limits::default().head_timeout), (kept, Limits::default().keep_alive_timeout)]
    {
        let now = Instant::now();
        let mut there = Connection::new(Arc::new(Limits::default()), now);
        assert!(there.resume(&state, now).expect("a state").is_none());
        assert_eq!(there.deadline(), Some(now + timeout));
        assert!(read(&mut there, &get(1)).is_some());
    }
}

#[test]
fn a_connection_in_the_middle_of_something_stays() {
    let head = [begin(1, true), params(1, &[("CONTENT_LENGTH", "3")])].concat();
    let mut here = connection();
    let request = read(&mut here, &head);
    assert_eq!(state_of(&here, &request), None, "the body is not complete");
    assert_eq!(state_of(&here, &None), None, "a request is under way");
    let last = padded(5, 1, b"abc", 4);
    read(&mut here, &last[..last.len() - 1]);
    assert_eq!(state_of(&here, &request), None, "a record is not complete");
    read(&mut here, &last[last.len() - 1..]);
    assert!(state_of(&here, &request).is_some());
    read(&mut here, &begin(2, true));
    assert_eq!(state_of(&here, &request), None, "another request has begun");

    let mut here = connection();
    let request = read(&mut here, &get(1));
    let id = request.as_ref().expect("a request").0;
    here.send_stderr(id, b"oops");
    here.output().clear();
    assert_eq!(state_of(&here, &request), None, "its STDERR stream is open");
    let mut here = connection();
    let request = read(&mut here, &get(1));
    here.send(id, ResponsePart::Head(&ResponseHead::new(200)), Instant::now());
    here.output().clear();
    assert_eq!(state_of(&here, &request), None, "the answer has begun");
    let mut here = connection();
    let request = read(&mut here, &get(1));
    here.drain();
    assert_eq!(state_of(&here, &request), None, "it was to be closed");
    let mut here = connection();
    read(&mut here, &begin(1, true)[..4]);
    assert!(state_of(&here, &None).is_some(), "less than a header");
    assert_eq!(here.unread(), &begin(1, true)[..4]);
}

#[test]
fn what_is_no_state_is_refused() {
    for state in
        [&b""[..], b"\x00x", b"\x01x", b"\x03", b"\x02\x00", b"\x02\x00\x00\x01", b"\x02\x00\x01\x08"]
    {
        connection().resume(state, Instant::now()).expect_err("no state");
    }
    // Pairs that are cut off are refused as any others.
    let event = connection().resume(b"\x02\x00\x01\x01\x09\x09A", Instant::now());
    assert!(matches!(event, Ok(Some(Event::Reject { .. }))), "{event:?}");
}
