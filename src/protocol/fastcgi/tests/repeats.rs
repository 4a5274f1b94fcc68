//! PARAMS streams that come again: known by their bytes, and taken for nothing else.

use super::*;

const PAIRS: [(&str, &str); 4] =
    [("METHOD", "GET"), ("REMOTE_PORT", "40001"), ("CONTENT_LENGTH", ""), ("X", "y")];

fn with(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    PAIRS.iter().map(|&(known, old)| (known, if known == name { value } else { old })).collect()
}

fn asked(pairs: &[(&str, &str)]) -> Vec<u8> {
    [begin(1, true), params(1, pairs), stdin(1, b"")].concat()
}

/// The head of the next request, as it is handed out.
fn head_of(connection: &mut Connection, bytes: &[u8], now: Instant) -> Option<crate::protocol::RequestHead> {
    connection.receive(bytes, now);
    let mut found = None;
    while let Ok(Some(event)) = connection.poll_event() {
        match event {
            Event::Request { head, .. } => {
                found = Some(head.clone());
                connection.recycle(head);
            }
            Event::BodyEnd { id } => {
                connection.send(id, ResponsePart::Head(&ResponseHead::new(200)), now);
                connection.send(id, ResponsePart::End, now);
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_same_stream_is_known_but_for_the_client_s_port() {
    for (pairs, is_known) in [
        (PAIRS.to_vec(), true),
        (with("REMOTE_PORT", "40002"), true),
        (with("REMOTE_PORT", "4000"), false),
        (with("X", "z"), false),
        (with("METHOD", "PUT"), false),
        (PAIRS[..3].to_vec(), false),
        ([&PAIRS[..], &[("Z", "")]].concat(), false),
        (with("CONTENT_LENGTH", "0"), false),
    ] {
        let now = Instant::now();
        let mut connection = Connection::new(Arc::new(limits()), now);
        head_of(&mut connection, &asked(&PAIRS), now).expect("a request");
        for known in [is_known, true] {
            let head = head_of(&mut connection, &asked(&pairs), now).expect("a request");
            let found: Vec<_> = head.iter().collect();
            let expected: Vec<_> =
                pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            assert_eq!(found, expected);
            // A length that frames a body is read each time.
            assert_eq!(head.repeats, known && pairs[2].1.is_empty(), "{pairs:?}");
        }
    }
}

#[test]
fn a_stream_that_broke_off_is_never_taken_for_a_whole_one() {
    let cut = |bytes: &[u8]| record(4, 1, &bytes[..bytes.len() - 1]);
    let stream = {
        let whole = params(1, &PAIRS);
        whole[8..whole.len() - 8].to_vec()
    };
    let mut peer = Peer::new(limits());
    peer.feed_whole(&[begin(1, true), cut(&stream), abort(1)].concat());
    let seen = peer.feed_whole(&[begin(1, true), cut(&stream), record(4, 1, b"")].concat());
    assert!(matches!(seen.last(), Some(Seen::Reject(1, 400))), "{seen:?}");
}

#[test]
fn nothing_of_a_former_stream_is_in_one_that_is_empty_or_comes_in_pieces() {
    let whole = params(1, &PAIRS);
    let stream = &whole[8..whole.len() - 8];
    for step in [1, 5, stream.len() - 1, stream.len()] {
        let mut peer = Peer::new(limits());
        peer.feed_whole(&asked(&PAIRS));
        peer.answer(1, 200, b"");
        let pieces: Vec<u8> = stream.chunks(step).flat_map(|piece| record(4, 1, piece)).collect();
        let seen = peer.feed_whole(&[begin(1, true), pieces, record(4, 1, b""), stdin(1, b"")].concat());
        assert_eq!(seen, [request(1, &PAIRS, BodyLength::None), Seen::BodyEnd(1)], "in pieces of {step}");
        peer.answer(1, 200, b"");
        let longer = [record(4, 1, stream), record(4, 1, b"\x01\x01Zz"), record(4, 1, b"")].concat();
        let seen = peer.feed_whole(&[begin(1, true), longer, stdin(1, b"")].concat());
        let pairs = [&PAIRS[..], &[("Z", "z")]].concat();
        assert_eq!(seen, [request(1, &pairs, BodyLength::None), Seen::BodyEnd(1)]);
        peer.answer(1, 200, b"");
        let seen = peer.feed_whole(&[begin(1, true), record(4, 1, b""), stdin(1, b"")].concat());
        assert_eq!(seen, [request(1, &[], BodyLength::None), Seen::BodyEnd(1)]);
    }
}
