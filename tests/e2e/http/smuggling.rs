//! Requests whose end is not beyond doubt: each is refused, the connection ends, and what follows it never runs.

use crate::support::{Forkhorn, Running};

fn probe() -> Running {
    Forkhorn::new().wsgi("probe.py").start()
}

/// Sends `request` with a second request behind it. In `request`, `{run}` is a target that leaves a note if it runs.
#[track_caller]
fn refused(forkhorn: &Running, name: &str, request: &[u8], statuses: &[u16]) {
    let note = forkhorn.folder.join("ran");
    let target = format!("/count?file={}", note.display());
    let second = format!("GET {target} HTTP/1.1\r\nHost: x\r\nX-Mark: second\r\n\r\n");
    let mut bytes = Vec::new();
    for piece in split_keeping(request, b"{run}") {
        bytes.extend_from_slice(if piece == b"{run}" { target.as_bytes() } else { piece });
    }
    bytes.extend_from_slice(second.as_bytes());
    let mut connection = forkhorn.connect();
    connection.send_anyway(&bytes);
    let response = connection.try_read("GET").unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(statuses.contains(&response.status), "{name}: {} {}", response.status, response.text());
    assert!(connection.read_to_end().is_empty(), "{name}: the connection went on");
    // A worker that had seen a second request would have run it before this one.
    assert_eq!(forkhorn.get("/pid").status, 200, "{name}");
    assert!(!note.exists(), "{name}: ran {}", forkhorn.folder.read("ran"));
}

fn split_keeping<'a>(bytes: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    match crate::support::http::find(bytes, mark) {
        Some(at) => vec![&bytes[..at], &bytes[at..at + mark.len()], &bytes[at + mark.len()..]],
        None => vec![bytes],
    }
}

#[test]
fn a_body_whose_length_is_doubtful_is_refused() {
    let forkhorn = probe();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5.0",
        "Content-Length: 5;",
        "Content-Length: \u{665}",
        "Content-Length:",
        "Content-Length: ,",
        "Content-Length: 18446744073709551621",
        "Content-Length: 99999999999999999999999999",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding:",
        "Transfer-Encoding: ,",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Content-Length : 5",
        "Content-Length: 5\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
    ] {
        let request = format!("POST {{run}} HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n0\r\n\r\n");
        let statuses: &[u16] = match fields {
            // RFC 9112 §6.1: a coding that is not understood.
            _ if fields.contains("Transfer-Encoding") => &[400, 501],
            // A number, and no small one.
            _ if fields.contains("999999") || fields.contains("184467") => &[400, 413],
            _ => &[400],
        };
        refused(&forkhorn, fields, request.as_bytes(), statuses);
    }
    // RFC 9112 §6.1: HTTP/1.0 has no transfer codings.
    for version in ["HTTP/1.0\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n"] {
        let request = format!("POST {{run}} {version}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        refused(&forkhorn, version, request.as_bytes(), &[400]);
    }
}

#[test]
fn a_chunk_whose_end_is_doubtful_is_refused() {
    let forkhorn = probe();
    for body in [
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\n: no name\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : space\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n folded\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\nZ: a\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
    ] {
        let request = format!("POST {{run}} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        refused(&forkhorn, body, request.as_bytes(), &[400, 413]);
    }
}

#[test]
fn a_head_whose_lines_are_doubtful_is_refused() {
    let forkhorn = probe();
    for head in [
        "GET {run} HTTP/1.1\nHost: x\n\n",
        "GET {run} HTTP/1.1\r\nHost: x\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n",
        "GET {run} HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET {run} HTTP/1.1\r\n\r\n Host: x\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\n: no name\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA\u{e9}: c\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\u{1}c\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nA: b\u{7f}c\r\n\r\n",
        "GET {run} HTTP/1.1\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x y\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x/y\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: user@x\r\n\r\n",
        "GET {run} HTTP/1.1\r\nHost: x\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n",
    ] {
        refused(&forkhorn, head, head.as_bytes(), &[400]);
    }
}

#[test]
fn a_request_line_that_is_none_is_refused() {
    let forkhorn = probe();
    for line in [
        "GET  {run} HTTP/1.1",
        "GET {run}  HTTP/1.1",
        "GET {run} HTTP/1.1 ",
        " GET {run} HTTP/1.1",
        "GET\t{run} HTTP/1.1",
        "GET {run}\tHTTP/1.1",
        "GET {run} x HTTP/1.1",
        "GET  HTTP/1.1",
        "GET {run}",
        "{run}",
        "GET {run} HTTP/2.0",
        "GET {run} HTTP/0.9",
        "GET {run} HTTP/1.2.3",
        "GET {run} HTTP/1.",
        "GET {run} HTTP/11",
        "GET {run} HTTP/1.1x",
        "GET {run} http/1.1",
        "GET {run} HTTPS/1.1",
        "G(T {run} HTTP/1.1",
        "GET\0 {run} HTTP/1.1",
        "GET no/slash HTTP/1.1",
        "GET {run}#fragment HTTP/1.1",
        "GET {run}\u{1} HTTP/1.1",
        "GET {run}\u{7f} HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://user@x/ HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT x:80 HTTP/1.1",
        "PRI * HTTP/2.0",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
    ] {
        let request = format!("{line}\r\nHost: x\r\n\r\n");
        refused(&forkhorn, line, request.as_bytes(), &[400, 405, 501, 505]);
    }
}

#[test]
fn a_good_request_before_a_bad_one_is_answered_first() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    connection.send("GET /pid HTTP/1.1\r\nHost: x\r\n\r\nGET /pid HTTP/1.1\r\nHost: x\r\nBad\r\n\r\nGET /pid HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(connection.read_response().status, 200);
    assert_eq!(connection.read_response().status, 400);
    assert!(connection.is_closed());
}

#[test]
fn the_body_that_an_application_ignores_is_never_the_next_request() {
    let forkhorn = probe();
    let note = forkhorn.folder.join("ran");
    let forged = format!("GET /count?file={} HTTP/1.1\r\nHost: x\r\n\r\n", note.display());
    let mut connection = forkhorn.connect();
    for body in [forged.clone(), forged.repeat(10_000)] {
        assert_eq!(connection.request("POST", "/ignore", &[], body.as_bytes()).text(), "ignored\n");
        let chunked = format!(
            "POST /ignore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        connection.send(chunked);
        assert_eq!(connection.read_response().text(), "ignored\n");
    }
    assert_eq!(connection.get("/pid").status, 200);
    assert!(!note.exists());
}
