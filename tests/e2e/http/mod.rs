//! The HTTP/1.1 listener: what legal clients do.

mod limits;
mod smuggling;

use crate::support::http::{find, request_bytes};
use crate::support::{Forkhorn, Running};

fn probe() -> Running {
    Forkhorn::new().wsgi("probe.py").start()
}

#[test]
fn a_kept_connection_answers_one_request_after_another() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    for body in ["one", "two", ""] {
        let response = connection.request("POST", "/echo", &[], body.as_bytes());
        assert_eq!((response.version.as_str(), response.status), ("HTTP/1.1", 200));
        assert_eq!(response.text(), body);
        assert_eq!(response.field("Connection"), None);
        assert!(response.field("Date").is_some_and(|date| date.ends_with(" GMT")), "{response:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    let bodies: Vec<String> = (0..50).map(|number| format!("body {number}").repeat(number)).collect();
    let all: Vec<u8> =
        bodies.iter().flat_map(|body| request_bytes("POST", "/echo", &[], body.as_bytes())).collect();
    connection.send(all);
    for body in bodies {
        assert_eq!(connection.read_response().text(), body);
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    for _ in 0..2 {
        connection.send_in_steps(&request_bytes("POST", "/echo?x=1", &[("X-A", "b")], b"slow body"), 1);
        assert_eq!(connection.read_response().text(), "slow body");
    }
}

#[test]
fn versions_and_connection_fields_decide_whether_the_connection_is_kept() {
    let forkhorn = probe();
    for (request, kept) in [
        ("GET /pid HTTP/1.1\r\nHost: x\r\n\r\n", true),
        ("GET /pid HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
        ("GET /pid HTTP/1.1\r\nHost: x\r\nConnection: TE, Close\r\n\r\n", false),
        ("GET /pid HTTP/1.1\r\nHost: x\r\nConnection: TE,,x\r\n\r\n", true),
        ("GET /pid HTTP/1.0\r\n\r\n", false),
        ("GET /pid HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        let mut connection = forkhorn.connect();
        connection.send(request);
        let response = connection.read_response();
        assert_eq!((response.status, response.complete), (200, true), "{request:?}");
        if kept {
            connection.send(request);
            assert_eq!(connection.read_response().status, 200, "{request:?}");
        } else {
            assert_eq!(response.field("Connection"), Some("close"), "{request:?}");
            assert!(connection.is_closed());
        }
    }
}

#[test]
fn an_answer_of_unknown_length_is_chunked_or_ends_with_the_connection() {
    let forkhorn = probe();
    let now = forkhorn.folder.write("now", "");
    let target = format!("/stream?until={}", now.display());
    let mut connection = forkhorn.connect();
    let response = connection.get(&target);
    assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!((response.text().as_str(), response.complete), ("first\nsecond\n", true));
    assert_eq!(connection.get("/pid").status, 200);

    // An HTTP/1.0 client does not know chunks, whatever it wants kept.
    let mut connection = forkhorn.connect();
    connection.send(format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    let response = connection.read_response();
    assert_eq!(response.field("Transfer-Encoding"), None);
    assert_eq!(response.text(), "first\nsecond\n");
    assert!(connection.is_closed());
}

#[test]
fn a_block_is_sent_before_the_next_one_is_made() {
    let forkhorn = probe();
    let go = forkhorn.folder.join("go");
    let mut connection = forkhorn.connect();
    connection.send(request_bytes("GET", &format!("/stream?until={}", go.display()), &[], b""));
    while find(connection.peek(), b"first\n").is_none() {}
    assert!(find(connection.peek_now(), b"second").is_none());
    forkhorn.folder.write("go", "");
    assert_eq!(connection.read_response().text(), "first\nsecond\n");
}

#[test]
fn chunked_bodies_are_read_with_their_extensions_and_trailers() {
    let forkhorn = probe();
    let chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nTrailer: X-Mark\r\n\r\n\
        5\r\nhello\r\n0006;name=value;other=\"a;b\\\"c\"\r\n world\r\n1\r\n!\r\n0;last\r\nX-Mark: forged\r\n\r\n";
    for step in [1, 7, 4096] {
        let mut connection = forkhorn.connect();
        connection.send_in_steps(chunked.as_bytes(), step);
        assert_eq!(connection.read_response().text(), "hello world!");
        // A trailer is never a field of its request, nor of the next one.
        connection.send_in_steps(chunked.replace("/echo", "/environ").as_bytes(), step);
        let environ = connection.read_response().json();
        assert_eq!(environ.get("HTTP_X_MARK"), None);
        assert_eq!(environ["wsgi.input_terminated"], "True");
        assert_eq!(connection.get("/environ").json().get("HTTP_X_MARK"), None);
    }
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    for framing in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
        connection
            .send(format!("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n{framing}\r\n\r\n"));
        let interim = connection.read_any();
        assert_eq!((interim.status, interim.fields.len()), (100, 0));
        let body = if framing.starts_with('C') { "body" } else { "4\r\nbody\r\n0\r\n\r\n" };
        connection.send(body);
        assert_eq!(connection.read_any().text(), "body");
    }
    // The body is there already, or there is none: nobody waits for a word.
    connection
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    let response = connection.read_response();
    assert_eq!(response.text(), "body");
    connection.send("GET /pid HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(connection.read_any().status, 200);
    // RFC 9110 §10.1.1: an HTTP/1.0 client does not know interim responses.
    let mut connection = forkhorn.connect();
    connection.send("POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(connection.read_any().status, 200);
}

#[test]
fn an_unknown_expectation_is_refused() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    connection.send("GET /pid HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n");
    assert_eq!(connection.read_response().status, 417);
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let forkhorn = probe();
    let go = forkhorn.folder.write("go", "");
    let stream = format!("/stream?until={}", go.display());
    let mut connection = forkhorn.connect();
    for target in ["/echo", "/big?bytes=100000", stream.as_str()] {
        let get = connection.get(target);
        let head = connection.request("HEAD", target, &[], b"");
        assert_eq!(head.status, get.status, "{target}");
        assert_eq!(head.field("Content-Length"), get.field("Content-Length"), "{target}");
        assert!(head.body.is_empty());
    }
    assert_eq!(connection.get("/pid").status, 200);
}

#[test]
fn the_target_may_have_any_form_that_the_standard_knows() {
    let forkhorn = probe();
    let environ = |target: &str, host: &str| {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = connection.read_response();
        assert_eq!(response.status, 200, "{target}");
        response.json()
    };
    let origin = environ("/a/b?c=d%20e&f=/?", "one.example:81");
    assert_eq!((&origin["PATH_INFO"], &origin["QUERY_STRING"]), (&"/a/b".into(), &"c=d%20e&f=/?".into()));
    assert_eq!(origin["HTTP_HOST"], "one.example:81");
    assert_eq!(origin["REQUEST_URI"], "/a/b?c=d%20e&f=/?");

    // RFC 9112 §3.2.2: the host of an absolute-form target wins over the field.
    let absolute = environ("http://two.example:82/a/b?c", "one.example");
    assert_eq!((&absolute["PATH_INFO"], &absolute["QUERY_STRING"]), (&"/a/b".into(), &"c".into()));
    assert_eq!(absolute["HTTP_HOST"], "two.example:82");
    let root = environ("http://two.example", "two.example");
    assert_eq!(root["PATH_INFO"], "/");
    let empty = environ("/?", "x");
    assert_eq!((&empty["PATH_INFO"], &empty["QUERY_STRING"]), (&"/".into(), &"".into()));
}

#[test]
fn what_is_odd_but_legal_is_answered() {
    let forkhorn = probe();
    for (request, variable, value) in [
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "REQUEST_METHOD", "GET"),
        ("PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n", "REQUEST_METHOD", "PROPFIND"),
        ("M-SEARCH!#$ / HTTP/1.1\r\nHost: x\r\n\r\n", "REQUEST_METHOD", "M-SEARCH!#$"),
        ("GET / HTTP/1.1\r\nhOST:x\r\nX-A:\r\n\r\n", "HTTP_X_A", ""),
        ("GET / HTTP/1.1\r\nHost:\t x \t\r\nX-A: \t a \t b \t \r\n\r\n", "HTTP_X_A", "a \t b"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX-A: \u{e9}\u{ff}\r\n\r\n", "HTTP_X_A", "\u{c3}\u{a9}\u{c3}\u{bf}"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-A: 2\r\n\r\n", "HTTP_X_A", "1, 2"),
        ("GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n", "HTTP_COOKIE", "a=1; b=2"),
        ("GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", "HTTP_HOST", "[::1]:8000"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "REQUEST_METHOD", "GET"),
        ("GET /?a'b[c]|d HTTP/1.1\r\nHost: x\r\n\r\n", "QUERY_STRING", "a'b[c]|d"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 000\r\n\r\n", "REQUEST_METHOD", "POST"),
    ] {
        let mut connection = forkhorn.connect();
        connection.send(request);
        let response = connection.read_response();
        assert_eq!(response.status, 200, "{request:?}: {}", response.text());
        assert_eq!(response.json()[variable], value, "{request:?}");
        assert_eq!(connection.get("/pid").status, 200, "{request:?}");
    }
}

#[test]
fn every_byte_from_128_on_may_stand_in_a_value() {
    let forkhorn = probe();
    let mut request = b"GET / HTTP/1.1\r\nHost: x\r\nX-Bytes: ".to_vec();
    request.extend(0x80..=0xff_u8);
    request.extend(b"\r\n\r\n");
    let mut connection = forkhorn.connect();
    connection.send(request);
    let expected: String = (0x80..=0xff_u8).map(char::from).collect();
    assert_eq!(connection.read_response().json()["HTTP_X_BYTES"], expected);
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    connection.send(request_bytes("POST", "/echo", &[], b"last words"));
    connection.stream.finish_sending();
    assert_eq!(connection.read_response().text(), "last words");
    assert!(connection.is_closed());
}

#[test]
fn large_bodies_go_both_ways() {
    let forkhorn = probe();
    let body: Vec<u8> = (0..20_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut connection = forkhorn.connect();
    let response = connection.request("POST", "/length", &[], &body);
    assert_eq!(response.json()["length"], body.len());
    let body = &body[..3_000_000];
    assert!(connection.request("PUT", "/echo", &[], body).body == body, "the echo differs");
    let response = connection.get("/big?bytes=30000000");
    assert_eq!((response.body.len(), response.complete), (30_000_000, true));
}
