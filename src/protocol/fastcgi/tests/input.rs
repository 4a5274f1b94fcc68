//! Records to events.

use super::*;

fn many(parts: &[&[Seen]]) -> Vec<Seen> {
    parts.concat()
}

/// Its name, a stream, what is seen of it, and what the protocol answers by itself.
type Case = (&'static str, Vec<u8>, Vec<Seen>, Vec<u8>);

/// Streams to which the caller does not answer.
fn cases() -> Vec<Case> {
    let with_length = |n: &'static str| [begin(1, true), params(1, &[("CONTENT_LENGTH", n)])].concat();
    let known = |n: &'static str, length| request(1, &[("CONTENT_LENGTH", n)], length);
    let none = Vec::new;
    let five = || known("5", BodyLength::Known(5));
    let unknown = || request(1, &[], BodyLength::Unknown);
    vec![
        ("a GET", get(1), got(1).to_vec(), none()),
        ("the highest ID", get(0xffff), got(0xffff).to_vec(), none()),
        (
            "an empty CONTENT_LENGTH, as from nginx",
            [with_length(""), stdin(1, b"")].concat(),
            vec![known("", BodyLength::None), Seen::BodyEnd(1)],
            none(),
        ),
        (
            "CONTENT_LENGTH 0, no end of STDIN",
            with_length("0"),
            vec![known("0", BodyLength::None), Seen::BodyEnd(1)],
            { none() },
        ),
        ("the head waits for STDIN", [begin(1, true), params(1, &[])].concat(), vec![], none()),
        (
            "a body",
            [with_length("5"), stdin(1, b"hel"), stdin(1, b"lo"), stdin(1, b"")].concat(),
            vec![five(), body(1, b"hello"), Seen::BodyEnd(1)],
            none(),
        ),
        (
            "no end of STDIN, as from HAProxy",
            [with_length("5"), stdin(1, b"hello")].concat(),
            vec![five(), body(1, b"hello"), Seen::BodyEnd(1)],
            none(),
        ),
        (
            "more than CONTENT_LENGTH is discarded",
            [with_length("5"), stdin(1, b"hello and more"), stdin(1, &get(2)), stdin(1, b"")].concat(),
            vec![five(), body(1, b"hello"), Seen::BodyEnd(1)],
            none(),
        ),
        (
            "less than CONTENT_LENGTH",
            [with_length("5"), stdin(1, b"hell"), stdin(1, b"")].concat(),
            vec![five(), body(1, b"hell"), Seen::Reject(1, 400)],
            none(),
        ),
        (
            "nothing of CONTENT_LENGTH",
            [with_length("5"), stdin(1, b"")].concat(),
            vec![five(), Seen::Reject(1, 400)],
            none(),
        ),
        (
            "a body of unknown length",
            [begin(1, true), params(1, &[]), stdin(1, b"hello"), stdin(1, b"")].concat(),
            vec![unknown(), body(1, b"hello"), Seen::BodyEnd(1)],
            none(),
        ),
        (
            "the longest body",
            [with_length("50"), stdin(1, &[b'x'; 50])].concat(),
            { vec![known("50", BodyLength::Known(50)), body(1, &[b'x'; 50]), Seen::BodyEnd(1)] },
            none(),
        ),
        (
            "a body over the limit, and its bytes",
            [with_length("51"), stdin(1, &[b'x'; 51]), stdin(1, b"")].concat(),
            vec![Seen::Reject(1, 413)],
            none(),
        ),
        (
            "an unknown length over the limit",
            [begin(1, true), params(1, &[]), stdin(1, &[b'x'; 30]), stdin(1, &[b'x'; 30]), stdin(1, b"")]
                .concat(),
            vec![unknown(), body(1, &[b'x'; 50]), Seen::Reject(1, 413)],
            none(),
        ),
        (
            "an unknown length at the limit",
            [begin(1, true), params(1, &[]), stdin(1, &[b'x'; 50]), stdin(1, b"")].concat(),
            vec![unknown(), body(1, &[b'x'; 50]), Seen::BodyEnd(1)],
            none(),
        ),
        ("CONTENT_LENGTH is no number", with_length("5x"), vec![Seen::Reject(1, 400)], none()),
        (
            "two lengths",
            [begin(1, true), params(1, &[("CONTENT_LENGTH", "1"), ("CONTENT_LENGTH", "2")])].concat(),
            vec![Seen::Reject(1, 400)],
            none(),
        ),
        (
            "URI over the limit, and another request behind it",
            [begin(1, true), params(1, &[("REQUEST_URI", "/2345678901234567890x")]), stdin(1, b"x"), get(2)]
                .concat(),
            many(&[&[Seen::Reject(1, 414)], &got(2)]),
            none(),
        ),
        (
            "head over the limit in two records, and another request behind it",
            [
                begin(1, true),
                record(4, 1, &[0; 8]),
                record(4, 1, &[0; 8]),
                params(1, &[]),
                stdin(1, b"x"),
                get(2),
            ]
            .concat(),
            many(&[&[Seen::Reject(1, 431)], &got(2)]),
            none(),
        ),
        (
            "lengths of 2 GiB (CVE-2025-23016)",
            [begin(1, true), record(4, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"), params(1, &[]), get(2)]
                .concat(),
            many(&[&[Seen::Reject(1, 431)], &got(2)]),
            none(),
        ),
        (
            "a pair past the end of PARAMS",
            [begin(1, true), record(4, 1, b"\x05\x05NAME"), record(4, 1, b""), stdin(1, b"x"), get(2)]
                .concat(),
            many(&[&[Seen::Reject(1, 400)], &got(2)]),
            none(),
        ),
        (
            "a pair split over records with padding",
            [
                begin(1, true),
                padded(4, 1, b"\x03", 7),
                padded(4, 1, b"\x80\0", 255),
                padded(4, 1, b"\0\x01F", 16),
                padded(4, 1, b"OOx", 1),
                padded(4, 1, b"", 8),
                padded(5, 1, b"", 8),
            ]
            .concat(),
            vec![request(1, &[("FOO", "x")], BodyLength::None), Seen::BodyEnd(1)],
            none(),
        ),
        (
            "interleaved requests",
            [
                begin(1, true),
                begin(2, true),
                params(2, &[("CONTENT_LENGTH", "3")]),
                record(4, 1, b"\x01\x01"),
                stdin(2, b"a"),
                record(4, 1, b"Ab"),
                stdin(2, b"bc"),
                params(1, &[]),
                stdin(2, b""),
                stdin(1, b""),
            ]
            .concat(),
            vec![
                request(2, &[("CONTENT_LENGTH", "3")], BodyLength::Known(3)),
                body(2, b"abc"),
                Seen::BodyEnd(2),
                request(1, &[("A", "b")], BodyLength::None),
                Seen::BodyEnd(1),
            ],
            none(),
        ),
        (
            "one request more than the limit",
            [begin(1, true), begin(2, true), begin(3, true), get(4), params(2, &[]), stdin(2, b"")].concat(),
            vec![request(2, &[], BodyLength::None), Seen::BodyEnd(2)],
            end_request(4, 0, 2),
        ),
        (
            "other roles",
            [
                record(1, 1, &[0, 2, 1, 0, 0, 0, 0, 0]),
                record(1, 2, &[0, 3, 1, 0, 0, 0, 0, 0]),
                record(1, 3, &[0xff, 1, 1, 0, 0, 0, 0, 0]),
                params(1, &[("A", "b")]),
                stdin(1, b"x"),
                record(8, 2, b"data"),
                get(4),
            ]
            .concat(),
            got(4).to_vec(),
            [end_request(1, 0, 3), end_request(2, 0, 3), end_request(3, 0, 3)].concat(),
        ),
        (
            "an abort in each phase, and the number used again",
            [
                begin(1, true),
                abort(1),
                begin(1, true),
                params(1, &[]),
                abort(1),
                with_length("5"),
                stdin(1, b"he"),
                abort(1),
                get(1),
                abort(1),
                with_length("5x"),
                abort(1),
                get(1),
            ]
            .concat(),
            many(&[
                &[Seen::Abort(1), Seen::Abort(1), five(), body(1, b"he"), Seen::Abort(1)],
                &got(1),
                &[Seen::Abort(1), Seen::Reject(1, 400)],
                &got(1),
            ]),
            end_request(1, 0, 0).repeat(5),
        ),
        (
            "records for requests that never began",
            [
                params(7, &[("A", "b")]),
                stdin(7, &get(8)),
                abort(7),
                record(8, 7, b"data"),
                record(99, 7, b"?"),
                get(1),
            ]
            .concat(),
            got(1).to_vec(),
            none(),
        ),
        (
            "management records between those of a request",
            [
                begin(1, true),
                padded(9, 0, b"\x0f\x00FCGI_MPXS_CONNS\x0e\x00FCGI_MAX_CONNS\x03\x00FOO", 5),
                params(1, &[]),
                padded(42, 0, b"whatever", 9),
                stdin(1, b""),
            ]
            .concat(),
            vec![request(1, &[], BodyLength::None), Seen::BodyEnd(1)],
            [record(10, 0, b"\x0f\x01FCGI_MPXS_CONNS1"), record(11, 0, &[42, 0, 0, 0, 0, 0, 0, 0])].concat(),
        ),
        ("GET_VALUES without a name", record(9, 0, b""), vec![], record(10, 0, b"")),
        ("GET_VALUES over its limit", record(9, 0, &[0; 1025]), vec![Seen::Error(431)], none()),
        ("wrong version", vec![2, 1, 0, 1, 0, 8, 0, 0], vec![Seen::Error(400)], none()),
        (
            "wrong version, later",
            [get(1), vec![0; 8]].concat(),
            many(&[&got(1), &[Seen::Error(400)]]),
            none(),
        ),
        ("BEGIN_REQUEST with the null ID", begin(0, true), vec![Seen::Error(400)], none()),
        ("STDIN with the null ID", stdin(0, b"x"), vec![Seen::Error(400)], none()),
        ("short BEGIN_REQUEST", record(1, 1, &[0, 1, 0, 0, 0, 0, 0]), vec![Seen::Error(400)], none()),
        ("empty BEGIN_REQUEST", record(1, 1, b""), vec![Seen::Error(400)], none()),
        ("BEGIN_REQUEST twice", [begin(1, true), begin(1, true)].concat(), vec![Seen::Error(400)], none()),
        (
            "BEGIN_REQUEST for a request that awaits its answer",
            [get(1), begin(1, true)].concat(),
            many(&[&got(1), &[Seen::Error(400)]]),
            none(),
        ),
        (
            "STDIN before the end of PARAMS",
            [begin(1, true), stdin(1, b"x")].concat(),
            vec![Seen::Error(400)],
            none(),
        ),
        (
            "end of STDIN before that of PARAMS",
            [begin(1, true), stdin(1, b"")].concat(),
            vec![Seen::Error(400)],
            { none() },
        ),
        (
            "PARAMS after their end",
            [get(1), params(1, &[])].concat(),
            many(&[&got(1), &[Seen::Error(400)]]),
            none(),
        ),
        (
            "STDIN after its end",
            [get(1), stdin(1, b"x")].concat(),
            many(&[&got(1), &[Seen::Error(400)]]),
            none(),
        ),
        (
            "end of PARAMS after their end",
            [with_length("5"), params(1, &[]), stdin(1, b"hello")].concat(),
            vec![five(), Seen::Error(400)],
            none(),
        ),
        (
            "DATA for a responder",
            [begin(1, true), record(8, 1, b"")].concat(),
            vec![Seen::Error(400)],
            none(),
        ),
        (
            "STDOUT from a web server",
            [begin(1, true), record(6, 1, b"x")].concat(),
            vec![Seen::Error(400)],
            none(),
        ),
        (
            "an unknown type in a request",
            [begin(1, true), record(77, 1, b"")].concat(),
            vec![Seen::Error(400)],
            none(),
        ),
    ]
}

#[test]
fn streams_give_the_same_events_whole_and_byte_by_byte() {
    for (name, stream, expected, answers) in cases() {
        for step in [stream.len(), 1, 2, 3, 7, 8, 9, 64] {
            let mut peer = Peer::new(limits());
            assert_eq!(peer.feed(&stream, step), expected, "{name}, {step} bytes at a time");
            assert_eq!(peer.written(), answers, "{name}, {step} bytes at a time");
        }
    }
}

#[test]
fn streams_give_the_same_events_split_in_two_at_every_byte() {
    for (name, stream, expected, _) in cases() {
        for split in 0..stream.len() {
            let mut peer = Peer::new(limits());
            let (first, second) = stream.split_at(split);
            let mut seen = Vec::new();
            for part in [first, second] {
                peer.connection.receive(part, peer.now);
                peer.poll(&mut seen);
            }
            assert_eq!(seen, expected, "{name}, split at {split}");
        }
    }
}

#[test]
fn a_body_may_be_read_beside_the_connection() {
    for (name, stream, expected, answers) in cases() {
        for step in [stream.len(), 1, 2, 3, 7, 8, 9, 64] {
            let mut peer = Peer::new(limits());
            assert_eq!(peer.feed_beside(&stream, step), expected, "{name}, {step} bytes at a time");
            assert_eq!(peer.written(), answers, "{name}, {step} bytes at a time");
        }
    }
}

#[test]
fn what_comes_of_a_body_is_told_with_what_is_likely_to_follow() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[begin(1, true), params(1, &[("CONTENT_LENGTH", "30")])].concat());
    assert_eq!(peer.connection.body_ahead(), None, "no record has begun");
    peer.feed_whole(&padded(5, 1, b"0123456789", 6)[..12]);
    let id = peer.id(1);
    let ahead = |run, left, gap| Some(BodyAhead { id, run, left, then: Some((gap, 10)) });
    assert_eq!(peer.connection.body_ahead(), ahead(6, 26, 14));
    peer.connection.body_received(5, peer.now);
    assert_eq!(peer.connection.body_ahead(), ahead(1, 21, 14));
    peer.connection.body_received(1, peer.now);
    assert_eq!(peer.connection.body_ahead(), None, "padding and a header come first");
    peer.feed_whole(&[&[0; 6][..], &padded(5, 1, b"0123456789", 0)[..8]].concat());
    assert_eq!(peer.connection.body_ahead(), ahead(10, 20, 8));
    let interleaved = begin(2, true);
    peer.feed_whole(b"0123456789");
    peer.feed_whole(&interleaved[..8]);
    assert_eq!(peer.connection.body_ahead(), None, "the record is another request's");
}

#[test]
fn what_the_peer_owes_is_known_after_each_byte_of_a_request() {
    let head = [begin(1, true), params(1, &[("CONTENT_LENGTH", "5")])].concat();
    let request = [head, stdin(1, b"hel"), stdin(1, b"lo")].concat();
    let mut peer = Peer::new(limits());
    assert!(!peer.connection.awaits_rest(), "nothing has begun");
    for (at, byte) in request.iter().enumerate() {
        peer.feed(&[*byte], 1);
        // A last record without padding is complete with its last byte, whether or not its end has been noted.
        assert_eq!(peer.connection.awaits_rest(), at + 1 < request.len(), "after {at} bytes");
    }
    peer.answer(1, 200, b"");
    peer.feed(&stdin(1, b""), 1);
    assert!(!peer.connection.awaits_rest() && peer.connection.is_idle());
}

#[test]
fn a_body_that_looks_like_a_request_never_runs_when_nobody_reads_it() {
    // The class of CVE-2026-129289: a kept connection, an application that answers without the body.
    let forged = get(2);
    let head = [begin(1, true), params(1, &[("CONTENT_LENGTH", "40")])].concat();
    let rest = [stdin(1, &forged), stdin(1, b"")].concat();
    let next = get(3);
    for split in 0..rest.len() {
        let mut peer = Peer::new(limits());
        let (before, after) = rest.split_at(split);
        let mut seen = peer.feed_whole(&[&head, before].concat());
        peer.answer(1, 200, b"early");
        assert!(!peer.connection.wants_close());
        peer.written();
        seen.extend(peer.feed(after, 5));
        seen.extend(peer.feed_whole(&next));
        let requests: Vec<_> = seen.iter().filter(|event| matches!(event, Seen::Request(..))).collect();
        assert_eq!(requests.len(), 2, "split at {split}");
        assert_eq!(seen[seen.len() - 2..], got(3), "split at {split}");
        peer.answer(3, 200, b"");
        assert!(peer.connection.is_idle());
    }
}

#[test]
fn a_number_is_free_again_after_its_answer_and_late_parts_do_not_reach_the_next_request() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&get(1));
    let first = peer.id(1);
    peer.answer(1, 200, b"one");
    peer.written();
    peer.feed_whole(&get(1));
    assert_ne!(peer.id(1), first);
    peer.connection.send(first, ResponsePart::Head(&ResponseHead::new(200)), peer.now);
    peer.connection.send(first, ResponsePart::Body(b"of another user"), peer.now);
    peer.connection.send(first, ResponsePart::End, peer.now);
    peer.connection.send_stderr(first, b"late");
    assert_eq!(peer.written(), b"");
    peer.answer(1, 200, b"two");
    assert_eq!(peer.written(), small_answer(1, b"Status: 200 OK\r\n\r\ntwo"));
}

#[test]
fn parts_between_an_abort_and_its_event_do_not_reach_the_next_request() {
    let mut peer = Peer::new(limits());
    peer.connection.receive(&[get(1), abort(1), get(1)].concat(), peer.now);
    let Ok(Some(Event::Request { id, .. })) = peer.connection.poll_event() else { panic!("a request") };
    peer.connection.send(id, ResponsePart::Head(&ResponseHead::new(200)), peer.now);
    peer.connection.send(id, ResponsePart::End, peer.now);
    let mut seen = Vec::new();
    peer.poll(&mut seen);
    assert_eq!(seen, [&[Seen::BodyEnd(1), Seen::Abort(1)][..], &got(1)].concat());
    assert_eq!(peer.written(), end_request(1, 0, 0));
}

#[test]
fn the_rest_of_a_rejected_request_is_discarded_until_its_answer_and_after_it() {
    let mut peer = Peer::new(limits());
    let stream = [begin(1, true), params(1, &[("CONTENT_LENGTH", "1000")]), stdin(1, &get(2))].concat();
    assert_eq!(peer.feed_whole(&stream), [Seen::Reject(1, 413)]);
    peer.answer(1, 413, b"");
    assert_eq!(peer.written(), small_answer(1, b"Status: 413 Content Too Large\r\n\r\n"));
    assert_eq!(peer.feed_whole(&[stdin(1, &get(2)), stdin(1, b""), get(1)].concat()), got(1));
}

#[test]
fn the_end_of_the_connection_aborts_what_is_not_ended_after_what_came_before() {
    for (name, stream, expected) in [
        ("nothing", vec![], vec![]),
        ("half a header", vec![1, 1, 0], vec![]),
        ("in PARAMS", begin(1, true), vec![Seen::Abort(1)]),
        ("complete", get(1), [&got(1)[..], &[Seen::Abort(1)]].concat()),
        (
            "rejected",
            [begin(1, true), params(1, &[("CONTENT_LENGTH", "x")])].concat(),
            vec![Seen::Reject(1, 400)],
        ),
    ] {
        for step in [1, 1000] {
            let mut peer = Peer::new(limits());
            for piece in stream.chunks(step) {
                peer.connection.receive(piece, peer.now);
            }
            peer.connection.receive_eof();
            let mut seen = Vec::new();
            peer.poll(&mut seen);
            assert_eq!(seen, expected, "{name}");
            assert!(peer.connection.wants_close(), "{name}");
        }
    }
}

#[test]
fn capabilities_are_answered_as_they_were_told() {
    let mut peer = Peer::new(limits());
    peer.connection.set_capabilities(super::super::Capabilities { max_connections: 1024, max_requests: 8 });
    peer.feed_whole(&record(9, 0, b"\x0e\x00FCGI_MAX_CONNS\x0d\x00FCGI_MAX_REQS"));
    assert_eq!(peer.written(), record(10, 0, b"\x0e\x04FCGI_MAX_CONNS1024\x0d\x01FCGI_MAX_REQS8"));
}

#[test]
fn a_peer_that_asks_and_never_reads_is_cut_off() {
    let mut peer = Peer::new(limits());
    let questions = record(42, 0, b"").repeat(1000);
    let mut rounds = 0;
    while !peer.connection.wants_close() {
        rounds += 1;
        assert!(rounds < 100, "answers pile up without a limit");
        peer.feed_whole(&questions);
    }
    assert!(peer.connection.output().len() <= 256 * 1024);
    // One that reads may ask as often as it likes.
    let mut peer = Peer::new(limits());
    for _ in 0..100 {
        assert_eq!(peer.feed_whole(&questions), []);
        assert_eq!(peer.written().len(), 16 * 1000);
    }
}

#[test]
fn an_idle_connection_holds_no_input_buffer() {
    let stream = get(1);
    for step in 1..=stream.len() {
        let mut peer = Peer::new(limits());
        assert_eq!(peer.feed(&stream, step), got(1));
        assert!(!peer.connection.is_idle());
        peer.answer(1, 200, b"x");
        peer.written();
        assert!(peer.connection.is_idle());
        assert_eq!(peer.connection.input_capacity(), 0, "fed {step} bytes at a time");
        assert_eq!(peer.feed(&[1], 1), []);
        assert!(!peer.connection.is_idle());
    }
}

#[test]
fn a_large_record_byte_by_byte_costs_no_more_than_its_bytes() {
    // Quadratic work on this much would not end within the patience of anyone.
    let limits = Limits { max_head_bytes: 4 << 20, max_fields: 10, ..Limits::default() };
    let mut stream = begin(1, true);
    let mut pair = vec![0x01, 0x80, 0x20, 0, 0, b'A'];
    pair.resize(6 + (2 << 20), b'v');
    for piece in pair.chunks(65528) {
        stream.extend(record(4, 1, piece));
    }
    stream.extend(params(1, &[("CONTENT_LENGTH", "1000000")]));
    for piece in vec![b'x'; 1_000_000].chunks(65535) {
        stream.extend(record(5, 1, piece));
    }
    let mut peer = Peer::new(limits);
    let seen = peer.feed(&stream, 1);
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1], body(1, &vec![b'x'; 1_000_000]));
}

#[test]
fn events_of_one_read_come_one_at_a_time_and_none_is_lost() {
    let limits = Limits { max_requests: 100, ..limits() };
    let stream: Vec<u8> = (1..=100).flat_map(get).collect();
    let expected: Vec<Seen> = (1..=100).flat_map(got).collect();
    for step in [1, 100, stream.len()] {
        assert_eq!(Peer::new(limits.clone()).feed(&stream, step), expected);
    }
}
