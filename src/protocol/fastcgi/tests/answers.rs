//! Response parts to records, and how connections end.

use std::io::Write;

use bytes::Bytes;

use super::*;

fn begun(keep_conn: bool) -> Peer {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[begin(1, keep_conn), params(1, &[("M", "GET")]), stdin(1, b"")].concat());
    peer
}

/// The contents of STDOUT records and their number.
fn stdout(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut at, mut content, mut records) = (0, Vec::new(), 0);
    while at < bytes.len() {
        let length = usize::from(u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]));
        assert_eq!(bytes[at + 4..at + 8][2..], [0, 0], "no padding");
        if bytes[at + 1] == 6 && length > 0 {
            content.extend_from_slice(&bytes[at + 8..at + 8 + length]);
            records += 1;
        }
        at += 8 + length;
    }
    (content, records)
}

#[test]
fn heads_are_written_in_the_form_of_cgi() {
    let plain = |status| ResponseHead::new(status);
    let mut full = ResponseHead::new(404);
    full.push(b"Content-Type", b"text/plain").expect("valid");
    full.push(b"Content-Length", b"3").expect("valid");
    full.close = true;
    let mut moved = ResponseHead::new(301);
    moved.push(b"Location", b"/new").expect("valid");
    let mut without_reason = ResponseHead::default();
    without_reason.start(299, b"");
    let mut to_head = ResponseHead::new(200);
    to_head.content_length = Some(u64::MAX);
    to_head.has_body = false;
    for (name, head, expected) in [
        ("bare", plain(200), &b"Status: 200 OK\r\n\r\nabc"[..]),
        (
            "fields",
            full,
            b"Content-Type: text/plain\r\nContent-Length: 3\r\nStatus: 404 Not Found\r\n\r\nabc",
        ),
        // HAProxy takes the last of Status and Location for the status.
        ("location", moved, b"Location: /new\r\nStatus: 301 Moved Permanently\r\n\r\nabc"),
        ("no reason", without_reason, b"Status: 299\r\n\r\nabc"),
        ("no body", to_head, b"Content-Length: 18446744073709551615\r\nStatus: 200 OK\r\n\r\n"),
    ] {
        let mut peer = begun(true);
        peer.send(1, ResponsePart::Head(&head));
        peer.send(1, ResponsePart::Body(b"abc"));
        peer.send(1, ResponsePart::End);
        let written = peer.written();
        assert_eq!(written, small_answer(1, expected), "{name}");
    }
}

#[test]
fn a_small_answer_is_one_piece_of_three_records() {
    let mut peer = begun(true);
    peer.send(1, ResponsePart::Head(&ResponseHead::new(200)));
    peer.send(1, ResponsePart::SharedBody(Bytes::from_static(b"Hello, ")));
    peer.send(1, ResponsePart::Body(b"world"));
    peer.send(1, ResponsePart::End);
    let expected = small_answer(1, b"Status: 200 OK\r\n\r\nHello, world");
    assert!(matches!(peer.connection.output().front(), Some(Piece::Bytes(all)) if all == expected));
}

#[test]
fn a_record_that_has_begun_to_be_written_does_not_grow() {
    for written in 1..40 {
        let mut peer = begun(true);
        let mut all = Vec::new();
        let mut take = |peer: &mut Peer, most: usize| {
            let output = peer.connection.output();
            if let Some(Piece::Bytes(bytes)) = output.front() {
                let count = bytes.len().min(most);
                all.extend_from_slice(&bytes[..count]);
                output.consume(count as u64);
            }
        };
        peer.send(1, ResponsePart::Head(&ResponseHead::new(200)));
        take(&mut peer, written);
        peer.send(1, ResponsePart::Body(b"one "));
        peer.send(1, ResponsePart::Body(b"two"));
        peer.send(1, ResponsePart::End);
        take(&mut peer, usize::MAX);
        assert_eq!(stdout(&all).0, b"Status: 200 OK\r\n\r\none two", "{written} bytes had been written");
        assert!(all.ends_with(&[record(6, 1, b""), end_request(1, 0, 0)].concat()));
    }
}

#[test]
fn bodies_of_every_size_come_whole_in_as_few_records_as_possible() {
    let head = b"Status: 200 OK\r\n\r\n";
    for length in [0, 1, 65509, 65510, 65511, 65528, 65536, 16 * 1024, 16 * 1024 + 1, 200_000] {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        for shared in [false, true] {
            let mut peer = begun(true);
            peer.send(1, ResponsePart::Head(&ResponseHead::new(200)));
            match shared {
                true => peer.send(1, ResponsePart::SharedBody(Bytes::from(bytes.clone()))),
                false => peer.send(1, ResponsePart::Body(&bytes)),
            }
            peer.send(1, ResponsePart::End);
            let (content, records) = stdout(&peer.written());
            assert_eq!(content, [head, &bytes[..]].concat());
            let least = (head.len() + length).div_ceil(65528);
            assert!(records <= least + usize::from(shared), "{records} records for {length} bytes");
        }
    }
}

#[test]
fn answers_of_interleaved_requests_do_not_mix() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[get(1), get(2)].concat());
    for id in [1, 2] {
        peer.send(id, ResponsePart::Head(&ResponseHead::new(200)));
    }
    peer.send(1, ResponsePart::Body(b"one"));
    peer.send(2, ResponsePart::Body(b"two"));
    peer.send(2, ResponsePart::End);
    peer.send(1, ResponsePart::End);
    let head = b"Status: 200 OK\r\n\r\n";
    let expected = [
        record(6, 1, head),
        record(6, 2, head),
        record(6, 1, b"one"),
        record(6, 2, b"two"),
        record(6, 2, b""),
        end_request(2, 0, 0),
        record(6, 1, b""),
        end_request(1, 0, 0),
    ];
    assert_eq!(peer.written(), expected.concat());
}

#[test]
fn a_file_is_queued_in_records_that_end_at_its_pages() {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&[b'f'; 70_000]).expect("written");
    let mut peer = begun(true);
    peer.send(1, ResponsePart::Head(&ResponseHead::new(200)));
    peer.send(1, ResponsePart::FileBody { file: Arc::new(file), offset: 1000, length: 69_000 });
    peer.send(1, ResponsePart::End);
    let mut pieces = Vec::new();
    let output = peer.connection.output();
    while let Some(piece) = output.front() {
        let count = match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File { offset, length, .. } => {
                pieces.push((offset, length));
                length
            }
        };
        output.consume(count);
    }
    assert_eq!(pieces, [(1000, 60_440), (61_440, 8560)]);
}

#[test]
fn parts_out_of_order_are_ignored() {
    let mut peer = begun(true);
    peer.send(1, ResponsePart::Body(b"before the head"));
    peer.send(1, ResponsePart::Head(&ResponseHead::new(103)));
    peer.send(1, ResponsePart::Head(&ResponseHead::new(204)));
    peer.send(1, ResponsePart::Head(&ResponseHead::new(500)));
    peer.send(1, ResponsePart::End);
    peer.send(1, ResponsePart::Body(b"after the end"));
    peer.send(1, ResponsePart::End);
    assert_eq!(peer.written(), small_answer(1, b"Status: 204 No Content\r\n\r\n"));
}

#[test]
fn stderr_has_records_of_its_own_and_its_stream_is_ended() {
    let mut peer = begun(true);
    let id = peer.id(1);
    peer.send(1, ResponsePart::Head(&ResponseHead::new(200)));
    peer.connection.send_stderr(id, b"");
    peer.connection.send_stderr(id, b"a warning");
    peer.send(1, ResponsePart::Body(b"x"));
    peer.send(1, ResponsePart::End);
    let expected = [
        record(6, 1, b"Status: 200 OK\r\n\r\n"),
        record(7, 1, b"a warning"),
        record(6, 1, b"x"),
        record(7, 1, b""),
        record(6, 1, b""),
        end_request(1, 0, 0),
    ];
    assert_eq!(peer.written(), expected.concat());
}

#[test]
fn the_connection_closes_after_a_request_that_does_not_keep_it() {
    let mut peer = begun(true);
    peer.answer(1, 200, b"");
    assert!(!peer.connection.wants_close());
    let mut peer = begun(false);
    assert!(!peer.connection.wants_close());
    peer.answer(1, 200, b"");
    assert!(peer.connection.wants_close());
    assert_eq!(peer.feed_whole(&get(2)), [], "nothing more is served");
}

#[test]
fn a_refused_request_that_does_not_keep_the_connection_closes_it() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&record(1, 1, &[0, 2, 0, 0, 0, 0, 0, 0]));
    assert_eq!(peer.written(), end_request(1, 0, 3));
    assert_eq!(peer.feed(&[params(1, &[("A", "b")]), stdin(1, b"")].concat(), 3), []);
    assert!(peer.connection.wants_close());
}

#[test]
fn a_connection_closes_only_after_the_rest_of_the_last_body() {
    let head = [begin(1, false), params(1, &[("CONTENT_LENGTH", "40")])].concat();
    let rejected = [begin(1, false), params(1, &[("CONTENT_LENGTH", "1000")])].concat();
    for (name, stream) in [("answered early", head), ("rejected", rejected)] {
        let answered = || {
            let mut peer = Peer::new(limits());
            peer.feed_whole(&[&stream[..], &stdin(1, b"some")].concat());
            peer.answer(1, 413, b"");
            assert!(peer.written().ends_with(&end_request(1, 0, 0)), "{name}");
            assert!(!peer.connection.wants_close() && !peer.connection.is_idle(), "{name}");
            peer
        };
        let mut peer = answered();
        assert_eq!(peer.feed(&[stdin(1, &get(2)), stdin(2, b"")].concat(), 7), [], "{name}");
        assert!(!peer.connection.wants_close(), "{name}");
        assert_eq!(peer.feed_whole(&[stdin(1, b""), get(3)].concat()), [], "{name}");
        assert!(peer.connection.wants_close(), "{name}: the end of STDIN has come");
        assert_eq!(peer.written(), b"");

        let mut peer = answered();
        peer.connection.receive_eof();
        peer.poll(&mut Vec::new());
        assert!(peer.connection.wants_close(), "{name}: the web server has closed");

        let mut peer = answered();
        peer.connection.on_deadline(peer.start + Duration::from_secs(9));
        assert!(!peer.connection.wants_close(), "{name}");
        peer.connection.on_deadline(peer.start + Duration::from_secs(10));
        assert!(peer.connection.wants_close(), "{name}: time is over");
    }
}

#[test]
fn a_broken_answer_does_not_wait_for_the_rest_of_the_body() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[begin(1, true), params(1, &[("CONTENT_LENGTH", "40")])].concat());
    peer.send(1, ResponsePart::Broken);
    assert!(peer.connection.wants_close());
}

#[test]
fn a_connection_that_is_not_kept_finishes_its_other_requests_first() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[get(2), begin(1, false), params(1, &[]), stdin(1, b"")].concat());
    peer.answer(1, 200, b"");
    peer.written();
    assert!(!peer.connection.wants_close());
    assert_eq!(peer.feed_whole(&get(3)), []);
    assert_eq!(peer.written(), end_request(3, 0, 2));
    peer.answer(2, 200, b"");
    assert!(peer.connection.wants_close());
}

#[test]
fn a_broken_answer_never_looks_complete() {
    // nginx does not wait for END_REQUEST on a connection that is not kept: it needs more than its end.
    for (keep_conn, end) in [(true, &b""[..]), (false, &[0; 8])] {
        let mut peer = begun(keep_conn);
        peer.send(1, ResponsePart::Head(&ResponseHead::new(200)));
        peer.send(1, ResponsePart::Body(b"half"));
        peer.send(1, ResponsePart::Broken);
        assert!(peer.connection.wants_close());
        let answer = record(6, 1, b"Status: 200 OK\r\n\r\nhalf");
        assert_eq!(peer.written(), [&answer, end].concat(), "no END_REQUEST");
    }
}

#[test]
fn a_broken_answer_does_not_break_the_other_requests() {
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[get(1), get(2)].concat());
    peer.send(1, ResponsePart::Head(&ResponseHead::new(200)));
    peer.send(1, ResponsePart::Broken);
    assert!(!peer.connection.wants_close());
    assert!(peer.written().ends_with(&end_request(1, 1, 0)));
    peer.answer(2, 200, b"");
    assert!(peer.connection.wants_close());
    assert!(peer.written().ends_with(&end_request(2, 0, 0)));
}

#[test]
fn draining_finishes_what_has_begun() {
    let mut peer = Peer::new(limits());
    peer.connection.drain();
    assert!(peer.connection.wants_close(), "an idle connection");

    let mut peer = begun(true);
    peer.connection.drain();
    assert!(!peer.connection.wants_close());
    peer.answer(1, 200, b"");
    assert!(peer.connection.wants_close(), "after its request");

    let stream = get(1);
    for split in 1..16 {
        let mut peer = Peer::new(limits());
        assert_eq!(peer.feed_whole(&stream[..split]), []);
        peer.connection.drain();
        assert!(!peer.connection.wants_close(), "{split} bytes of a request have come");
        assert_eq!(peer.feed(&stream[split..], 1), got(1));
        peer.answer(1, 200, b"");
        assert!(peer.connection.wants_close());
    }

    let question = record(9, 0, b"");
    let mut peer = Peer::new(limits());
    peer.feed_whole(&question[..3]);
    peer.connection.drain();
    peer.feed_whole(&question[3..]);
    assert!(peer.connection.wants_close(), "no request was under way");
}
