//! What an HTTP client may cost: past a limit it gets the right status, and nobody else notices.

use crate::support::http::{Connection, request_bytes};
use crate::support::process::{descriptor_count, wait_for_descriptors};
use crate::support::{Forkhorn, Running};

/// A probe with small limits.
fn limited() -> Running {
    Forkhorn::new()
        .wsgi("probe.py")
        .args(["--max-body", "1000", "--max-head", "4000", "--max-uri", "500", "--max-fields", "20"])
        .args(["--head-timeout", "0.3", "--body-timeout", "0.3", "--keep-alive-timeout", "0.3"])
        .start()
}

#[test]
fn what_is_over_a_limit_gets_its_status_and_the_connection_ends() {
    let forkhorn = limited();
    let fields = "X-A: b\r\n".repeat(25);
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    for (name, request, status) in [
        (
            "body",
            format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n{}", "x".repeat(1001)),
            413,
        ),
        (
            "body length alone",
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n".to_owned(),
            413,
        ),
        (
            "chunked body",
            format!(
                "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}1\r\nx\r\n0\r\n\r\n"
            ),
            413,
        ),
        (
            "chunk size",
            "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n".to_owned(),
            413,
        ),
        ("target", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(600)), 414),
        ("number of fields", format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"), 431),
        ("field", format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(5000)), 431),
        ("name", format!("GET / HTTP/1.1\r\nHost: x\r\n{}: a\r\n\r\n", "a".repeat(5000)), 431),
    ] {
        let mut connection = forkhorn.connect();
        connection.send_anyway(&request);
        let response = connection.read_response();
        assert_eq!(response.status, status, "{name}");
        assert!(connection.is_closed(), "{name}");
        assert_eq!(forkhorn.get("/pid").status, 200, "{name}");
    }
}

#[test]
fn what_is_just_within_the_limits_is_answered() {
    let forkhorn = limited();
    let mut connection = forkhorn.connect();
    let response = connection.request("POST", &format!("/{}/echo", "a".repeat(490)), &[], &[b'x'; 1000]);
    assert_eq!((response.status, response.body.len()), (200, 1000));
    connection.send(format!("GET /pid HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(19)));
    assert_eq!(connection.read_response().status, 200);
}

#[test]
fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
    let forkhorn = limited();
    let chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (name, start) in [
        ("request line", "GET /".to_owned()),
        ("chunk extension", format!("{chunked}1;")),
        ("chunk size", format!("{chunked}000000")),
        ("trailer", format!("{chunked}0\r\nX-A: ")),
    ] {
        let mut connection = forkhorn.connect();
        connection.send(start);
        let filler = [b'0'; 4096];
        // It may close at any time from its limit on.
        let refused = (0..100).any(|_| !connection.send_anyway(filler));
        let status = connection.try_read("POST").map(|response| response.status);
        assert!(refused || matches!(status, Ok(400 | 413 | 414 | 431)), "{name}: {status:?}");
    }
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn slow_clients_are_answered_408_or_closed() {
    let forkhorn = limited();
    for (name, start, status) in [
        ("nothing", "", None),
        ("half a head", "GET / HTTP/1.1\r\nHost:", Some(408)),
        ("half a body", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", Some(408)),
        (
            "half a chunk",
            "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            Some(408),
        ),
    ] {
        let mut connection = forkhorn.connect();
        connection.send(start);
        if let Some(status) = status {
            assert_eq!(connection.read_response().status, status, "{name}");
        }
        assert!(connection.read_to_end().is_empty() || status.is_none(), "{name}");
    }
    // A kept connection that idles is closed without a word.
    let mut connection = forkhorn.connect();
    assert_eq!(connection.get("/pid").status, 200);
    assert!(connection.is_closed());
}

#[test]
fn a_head_that_drips_is_not_longer_in_coming_than_its_limit() {
    let forkhorn = limited();
    let mut connection = forkhorn.connect();
    connection.stream.set_read_timeout(std::time::Duration::from_millis(20));
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n");
    // Each byte comes soon after the one before it: only a limit for the whole head ends this.
    let answered =
        (0..2000).any(|_| !connection.send_anyway("x") || connection.peek().starts_with(b"HTTP/1.1 408"));
    assert!(answered, "a head of 2000 drips was awaited");
}

#[test]
fn a_refused_upload_gets_its_status_although_it_was_sent_whole() {
    let forkhorn = limited();
    // More than the buffers of both sockets hold: a close with unread bytes would reset the connection.
    let body = vec![b'x'; 8_000_000];
    for _ in 0..5 {
        let mut connection = forkhorn.connect();
        connection.send_anyway(request_bytes("POST", "/echo", &[], &body));
        assert_eq!(connection.read_response().status, 413);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_the_client_is_told_to_go_on() {
    let forkhorn = limited();
    let mut connection = forkhorn.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(connection.read_any().status, 413);
    assert!(connection.is_closed());
}

#[test]
fn connections_that_vanish_leave_no_descriptor() {
    let forkhorn = limited();
    let worker = forkhorn.get("/pid").json()["pid"].as_i64().expect("a pid") as i32;
    let before = descriptor_count(worker);
    for start in [
        "",
        "GET",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na",
    ] {
        for half_closed in [false, true] {
            for _ in 0..20 {
                let mut connection: Connection = forkhorn.connect();
                connection.send(start);
                if half_closed {
                    connection.stream.finish_sending();
                    connection.read_to_end();
                }
            }
        }
    }
    wait_for_descriptors(worker, before);
}
