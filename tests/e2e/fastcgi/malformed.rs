//! Records that break the rules: one request or one connection ends, and nobody else notices.

use super::probe;
use crate::support::fastcgi::{
    BEGIN_REQUEST, DATA, KEEP_CONN, PARAMS, Peer, RESPONDER, Request, STDIN, STDOUT, begin, pair, pairs,
    record, request, stream,
};
use crate::support::process::{descriptor_count, wait_for_descriptors};
use crate::support::{Forkhorn, Running};

/// The connection closes, or the request is answered with one of `statuses`; then another connection is served.
#[track_caller]
fn ends(forkhorn: &Running, name: &str, bytes: &[u8], statuses: &[u16]) {
    let mut peer = forkhorn.peer();
    peer.send_anyway(bytes);
    let answer = peer.answer(1);
    if !answer.stdout.is_empty() {
        let status = answer.response().status;
        assert!(statuses.contains(&status), "{name}: {status}");
    }
    assert_eq!(forkhorn.fcgi(&Request::new("GET", "/pid")).response().status, 200, "{name}");
}

#[test]
fn records_that_are_none_close_the_connection() {
    let forkhorn = probe();
    let good = Request::new("GET", "/pid");
    for (name, bytes) in [
        ("version 0", [vec![0], good.bytes()[1..].to_vec()].concat()),
        ("version 2", [vec![2], good.bytes()[1..].to_vec()].concat()),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a short BEGIN_REQUEST", record(BEGIN_REQUEST, 1, &[0, 1])),
        ("a long BEGIN_REQUEST", record(BEGIN_REQUEST, 1, &[0; 100])),
        ("BEGIN_REQUEST with id 0", begin(0, RESPONDER, 0)),
        ("BEGIN_REQUEST twice", [begin(1, RESPONDER, 0), begin(1, RESPONDER, 0)].concat()),
        (
            "PARAMS after their end",
            [begin(1, RESPONDER, 0), stream(PARAMS, 1, b"", 1), record(PARAMS, 1, b"x")].concat(),
        ),
        ("STDIN before the end of PARAMS", [begin(1, RESPONDER, 0), record(STDIN, 1, b"x")].concat()),
        ("an answer's record", [begin(1, RESPONDER, 0), record(STDOUT, 1, b"x")].concat()),
    ] {
        let mut peer = forkhorn.peer();
        peer.send_anyway(bytes);
        let answer = peer.answer(1);
        assert!(answer.stdout.is_empty() || answer.response().status == 400, "{name}: {answer:?}");
        assert_eq!(forkhorn.fcgi(&good).response().status, 200, "{name}");
    }
}

#[test]
fn records_of_requests_that_nobody_began_are_passed_over() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    for bytes in [
        record(PARAMS, 9, &pair(b"a", b"b")),
        record(STDIN, 9, b"x"),
        record(DATA, 9, b"x"),
        record(STDIN, 9, b""),
    ] {
        peer.send(bytes);
    }
    assert_eq!(peer.request(&Request::new("GET", "/pid")).response().status, 200);
}

#[test]
fn name_value_pairs_with_wrong_lengths_end_their_request() {
    let forkhorn = probe();
    let start = pairs(&[("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/pid"), ("REQUEST_URI", "/pid")]);
    let huge = |name: [u8; 4], value: [u8; 4]| {
        [start.clone(), name.to_vec(), value.to_vec(), b"ab".to_vec()].concat()
    };
    let max = [0xff, 0xff, 0xff, 0xff];
    for (name, params) in [
        ("the largest lengths", huge(max, max)),
        ("the largest name", huge(max, [0x80, 0, 0, 1])),
        ("the largest value", huge([0x80, 0, 0, 1], max)),
        ("a sum past 32 bits", huge([0xff, 0xff, 0xff, 0xf8], [0x80, 0, 0, 0x10])),
        ("half of 32 bits", huge([0xc0, 0, 0, 0], [0xc0, 0, 0, 0])),
        ("a value past the stream", [start.clone(), vec![1, 100, b'a', b'b']].concat()),
        ("a name past the stream", [start.clone(), vec![100, 0, b'a']].concat()),
        ("half a length", [start.clone(), vec![0x80, 0]].concat()),
        ("a length alone", [start.clone(), vec![5]].concat()),
    ] {
        for step in [1, 65_535] {
            let bytes =
                [begin(1, RESPONDER, KEEP_CONN), stream(PARAMS, 1, &params, step), record(STDIN, 1, b"")]
                    .concat();
            ends(&forkhorn, name, &bytes, &[400, 431]);
        }
    }
}

#[test]
fn names_and_values_that_no_program_could_read_end_their_request() {
    let forkhorn = probe();
    let good = Request::new("GET", "/environ");
    for (name, request) in [
        ("NUL in a value", good.clone().param("HTTP_X_A", "a\0b")),
        ("NUL in a name", good.clone().param("HTTP_X\0A", "a")),
        ("= in a name", good.clone().param("HTTP_X=A", "a")),
        ("no name", good.clone().param("", "a")),
        ("no method", good.clone().without("REQUEST_METHOD")),
        ("a method that is no token", good.clone().param("REQUEST_METHOD", "GET /")),
    ] {
        let answer = forkhorn.fcgi(&request);
        // Either refused as a whole, or the name is dropped: it is never seen in another form.
        if !answer.stdout.is_empty() && answer.response().status == 200 {
            let environ = answer.response().json();
            assert!(environ.get("HTTP_X_A").is_none() && environ.get("HTTP_X").is_none(), "{name}");
            assert!(
                environ
                    .as_object()
                    .is_some_and(|all| all.keys().all(|key| !key.is_empty() && !key.contains(['\0', '='])))
            );
            assert_eq!(environ["REQUEST_METHOD"], "GET", "{name}");
        }
    }
    assert_eq!(forkhorn.fcgi(&good).response().status, 200);
}

#[test]
fn a_length_that_is_not_true_is_refused() {
    let forkhorn = probe();
    // What comes after the announced length is not part of the body.
    let mut longer = Request::new("POST", "/echo").param("CONTENT_LENGTH", "5").keep();
    longer.body = b"12345678".to_vec();
    let mut peer = forkhorn.peer();
    let response = peer.request(&longer).response();
    assert!(response.status == 400 || response.text() == "12345", "{response:?}");
    assert_eq!(peer.request(&Request::new("GET", "/pid")).response().status, 200);
    for (length, body) in [
        ("9", "too short"[..5].to_owned()),
        ("99999999999999999999", "x".to_owned()),
        ("-1", "x".to_owned()),
        ("+1", "x".to_owned()),
        ("1,1", "x".to_owned()),
        ("abc", "x".to_owned()),
        ("0x1", "x".to_owned()),
    ] {
        let mut request = Request::new("POST", "/echo").param("CONTENT_LENGTH", length).keep();
        request.body = body.into_bytes();
        ends(&forkhorn, length, &request.bytes(), &[400, 413]);
    }
}

#[test]
fn what_is_over_a_limit_gets_its_status_and_the_connection_goes_on() {
    let forkhorn = Forkhorn::new()
        .wsgi("probe.py")
        .both()
        .args(["--max-body", "1000", "--max-head", "4000", "--max-uri", "500", "--max-fields", "50"])
        .start();
    let good = Request::new("GET", "/pid").keep();
    let many = (0..50).fold(good.clone(), |request, number| request.param(&format!("HTTP_X_{number}"), "1"));
    let mut endless = Request::new("POST", "/echo").keep().without("CONTENT_LENGTH");
    endless.body = vec![b'x'; 1001];
    for (name, request, status) in [
        ("body", Request::new("POST", "/echo").keep().body(vec![b'x'; 1001]), 413),
        ("body without a length", endless, 413),
        ("target", Request::new("GET", &format!("/{}", "a".repeat(501))).keep(), 414),
        ("value", good.clone().param("HTTP_X_A", &"a".repeat(4001)), 431),
        ("name", good.clone().param(&format!("HTTP_{}", "A".repeat(4001)), ""), 431),
        ("number of pairs", many, 431),
    ] {
        let mut peer = forkhorn.peer();
        assert_eq!(peer.request(&request).response().status, status, "{name}");
        assert_eq!(peer.request(&good).response().status, 200, "{name}");
    }
}

#[test]
fn a_body_that_looks_like_records_never_becomes_a_request() {
    // As in CVE-2026-129289: the rest of a body that nobody read was parsed as the next record.
    let forkhorn = probe();
    let note = forkhorn.folder.join("ran");
    let forged = Request::new("GET", &format!("/count?file={}", note.display())).keep().bytes();
    let mut peer = forkhorn.peer();
    for padding in 0..8 {
        let body = [vec![b'x'; padding], forged.repeat(200)].concat();
        for target in ["/ignore", "/fail", "/pid"] {
            for step in [forged.len(), 65_535, 1000] {
                peer.send(Request::new("POST", target).keep().body(body.clone()).bytes_in_steps(step));
                assert!(peer.answer(1).complete);
            }
        }
        // Refused before its body: still a body.
        peer.send(
            Request::new("POST", "/echo").keep().body(body.clone()).param("CONTENT_LENGTH", "abc").bytes(),
        );
        let answer = peer.answer(1);
        if !answer.complete {
            peer = forkhorn.peer();
        }
    }
    assert_eq!(peer.request(&Request::new("GET", "/pid")).response().status, 200);
    assert!(!note.exists(), "ran {}", forkhorn.folder.read("ran"));
}

#[test]
fn a_connection_that_ends_early_leaves_nothing_behind() {
    let forkhorn = probe();
    let worker = forkhorn.get("/pid").json()["pid"].as_i64().expect("a pid") as i32;
    let before = descriptor_count(worker);
    let bytes = Request::new("POST", "/echo").keep().body("a body").bytes();
    for end in 0..bytes.len() {
        let mut peer: Peer = forkhorn.peer();
        peer.send_anyway(&bytes[..end]);
    }
    wait_for_descriptors(worker, before);
    assert_eq!(request(forkhorn.fastcgi(), &Request::new("GET", "/pid")).response().status, 200);
}

#[test]
fn more_requests_at_once_than_allowed_are_refused_or_wait() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    for id in 1..=2000 {
        peer.send_anyway(begin(id, RESPONDER, KEEP_CONN));
    }
    // FCGI_OVERLOADED (§5.5); the first ones may still be completed.
    let refused = peer.answer(2000);
    assert_eq!((refused.complete, refused.protocol_status), (true, 2), "{refused:?}");
    peer.send(&Request::new("GET", "/pid").keep().bytes()[begin(1, RESPONDER, KEEP_CONN).len()..]);
    assert_eq!(peer.answer(1).response().status, 200);
    drop(peer);
    assert_eq!(forkhorn.fcgi(&Request::new("GET", "/pid")).response().status, 200);
}
