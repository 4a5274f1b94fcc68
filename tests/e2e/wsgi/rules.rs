//! Rule by rule: `rules.py` does everything that an application may do, and much that it must not.

use crate::support::fastcgi::Request;
use crate::support::{Forkhorn, Response, Running};

fn rules() -> Running {
    Forkhorn::new().wsgi("rules.py").both().start()
}

/// The answer by both protocols.
fn both(forkhorn: &Running, name: &str) -> [Response; 2] {
    let target = format!("/{name}");
    [forkhorn.get(&target), forkhorn.fcgi(&Request::new("GET", &target)).response()]
}

#[test]
fn what_is_legal_is_answered() {
    let forkhorn = rules();
    for (name, status, body) in [
        ("one_block", 200, "one block"),
        ("tuple_of_one", 200, "one block"),
        ("two_blocks", 200, "one two"),
        ("no_block", 200, ""),
        ("empty_blocks", 200, "ab"),
        ("generator", 200, "made lazily"),
        ("late_start", 202, "late"),
        ("late_start_after_empty", 202, "late"),
        ("getitem", 200, "by index"),
        ("write", 200, "written and returned"),
        ("write_only", 200, "written"),
        ("length_true", 200, "one block"),
        ("length_short", 200, "abc"),
        ("no_content", 204, ""),
        ("not_modified", 304, ""),
        ("exc_info_before", 503, "instead"),
        ("raises_in_close", 200, "body"),
        ("wrapped_from_offset", 200, "56789"),
        ("wrapped_with_length", 200, "5678901234"),
        ("wrapped_pipe", 200, "through a pipe"),
        ("wrapper_iterated", 200, "walked through"),
        ("good_reason_absent", 299, "body"),
        ("good_reason_empty", 299, "body"),
        ("good_latin", 200, "body"),
        ("good_subclass", 200, "body"),
        ("good_empty_value", 200, "body"),
        ("good_tab", 200, "body"),
        ("good_many", 200, "body"),
        ("good_own_date", 200, "body"),
    ] {
        for response in both(&forkhorn, name) {
            assert_eq!(
                (response.status, response.text().as_str(), response.complete),
                (status, body, true),
                "{name}"
            );
            assert_eq!(response.field("X-Old"), None, "{name}");
        }
    }
    for (name, field, value) in
        [("good_latin", "X-A", "\u{e9}\u{ff}"), ("good_tab", "X-A", "a\tb"), ("good_empty_value", "X-A", "")]
    {
        for response in both(&forkhorn, name) {
            assert_eq!(response.field(field), Some(value), "{name}");
        }
    }
    let many = forkhorn.get("/good_many");
    assert_eq!(many.all("Set-Cookie").len(), 50);
    assert_eq!(forkhorn.get("/good_own_date").field("Date"), Some("Tue, 15 Nov 1994 08:12:31 GMT"));
    assert_eq!(forkhorn.get("/wrapped_file").body, b"0123456789".repeat(100_000));
    assert_eq!(forkhorn.get("/wrapped_memory").body, b"x".repeat(100_000));
}

#[test]
fn the_length_is_announced_where_it_is_known() {
    let forkhorn = rules();
    for (name, length) in [
        ("one_block", Some("9")),
        ("tuple_of_one", Some("9")),
        ("no_block", Some("0")),
        ("length_true", Some("9")),
        ("two_blocks", None),
        ("generator", None),
        ("write", None),
        ("no_content", None),
        ("not_modified", None),
    ] {
        let mut connection = forkhorn.connect();
        for method in ["GET", "HEAD"] {
            let response = connection.request(method, &format!("/{name}"), &[], b"");
            // A length that could be known, but is not said to be, is no error.
            if length.is_some() || name.starts_with('n') {
                assert_eq!(response.field("Content-Length"), length, "{method} {name}");
            }
            let chunked = response.field("Transfer-Encoding").is_some();
            assert!(!chunked || response.field("Content-Length").is_none(), "{method} {name}");
            assert!(!(chunked && [204, 304].contains(&response.status)), "{method} {name}");
        }
        assert_eq!(connection.get("/one_block").text(), "one block", "after {name}");
    }
}

#[test]
fn an_error_before_the_first_block_is_500_without_detail() {
    let forkhorn = rules();
    for name in [
        "start_twice",
        "never_started",
        "never_started_empty",
        "raises",
        "raises_after_start",
        "raises_before_block",
        "returns_none",
        "returns_text",
        "returns_bytes",
        "returns_number",
        "bytearray_block",
        "write_text",
        "memory_error",
        "recursion",
        "system_exit",
        "base_exception",
    ] {
        for response in both(&forkhorn, name) {
            assert_eq!((response.status, response.complete), (500, true), "{name}: {}", response.text());
            let text = response.text();
            assert!(
                !text.contains("purpose") && !text.contains("Traceback") && !text.contains(".py"),
                "{name}: {text}"
            );
        }
        for response in both(&forkhorn, "one_block") {
            assert_eq!(response.text(), "one block", "after {name}");
        }
    }
    let log = forkhorn.server.log.text();
    assert!(log.contains("ValueError: failed on purpose"), "no cause in the log");
    assert!(
        log.contains("Traceback (most recent call last)") && log.contains("rules.py"),
        "no traceback in the log"
    );
    for told in [
        "the application returned None instead of an iterable of bytestrings: is a return missing?",
        "the application returned bytes instead of an iterable of bytestrings: return [body]",
        "the application returned an object of int instead of an iterable of bytestrings",
        "the application's iterable must yield bytestrings, not str",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
}

#[test]
fn an_answer_that_can_not_be_completed_is_seen_to_be_broken() {
    let forkhorn = rules();
    for name in ["raises_after_block", "exc_info_after", "length_long", "length_long_one_block"] {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let response = connection.try_read("GET").expect("a head");
        assert!(!response.complete || response.status == 500, "{name}: {response:?}");
        assert!(!response.text().contains("never"), "{name}");

        let request = Request::new("GET", &format!("/{name}")).keep();
        let answer = forkhorn.fcgi(&request);
        assert!(
            !answer.complete || answer.app_status != 0 || answer.response().status == 500,
            "{name}: {answer:?}"
        );

        // HTTP/1.0 without a length ends with the connection: only a reset can say that it is not whole.
        assert_eq!(forkhorn.get("/one_block").text(), "one block", "after {name}");
    }
    forkhorn.wait_for_log("too late");
}

#[test]
fn a_head_that_could_split_the_response_is_never_sent() {
    let forkhorn = rules();
    let names = forkhorn.get("/bad_heads").text();
    assert!(names.lines().count() > 30, "{names}");
    for name in names.lines() {
        for response in both(&forkhorn, &format!("bad_{name}")) {
            assert_eq!(response.status, 500, "{name}: {response:?}");
            assert_eq!(response.field("X-Forged"), None, "{name}");
            assert_ne!(response.text(), "body", "{name}");
        }
    }
    assert_eq!(forkhorn.get("/one_block").status, 200);
    forkhorn.wait_for_log("ERROR*GET /bad_value_crlf*");
}

#[test]
fn every_iterable_is_closed_once() {
    let forkhorn = rules();
    let names = [
        "write_only",
        "length_true",
        "length_short",
        "length_long",
        "no_content",
        "not_modified",
        "exc_info_after",
        "never_started",
        "raises_before_block",
        "raises_after_block",
        "raises_after_length",
        "raises_in_close",
        "wrapped_memory",
    ];
    for name in names {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let _ = connection.try_read("GET");
        let mut connection = forkhorn.connect();
        connection.send(format!("HEAD /{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let _ = connection.try_read("HEAD");
    }
    let closed = forkhorn.get("/closed").json();
    let closed: Vec<&str> =
        closed.as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    for name in names {
        let name = if name == "wrapped_memory" { "source" } else { name };
        assert_eq!(closed.iter().filter(|found| **found == name).count(), 2, "{name} in {closed:?}");
    }
}

#[test]
fn the_body_is_read_in_every_way_and_never_past_its_end() {
    let forkhorn = rules();
    let body = b"one\ntwo\n\nlast".as_slice();
    for (calls, expected) in [
        ("read()", vec!["one\ntwo\n\nlast"]),
        ("read(-1),read()", vec!["one\ntwo\n\nlast", ""]),
        ("read(4),read(0),read(2),read()", vec!["one\n", "", "tw", "o\n\nlast"]),
        ("read(1000),read(1000)", vec!["one\ntwo\n\nlast", ""]),
        ("readline(),readline(),readline(),readline(),readline()", vec!["one\n", "two\n", "\n", "last", ""]),
        ("readline(2),readline(2),readline(2)", vec!["on", "e\n", "tw"]),
        ("readline(0),readline(-1)", vec!["", "one\n"]),
        ("readlines(),readlines()", vec!["one\n", "two\n", "\n", "last"]),
        ("readlines(1),read()", vec!["one\n", "two\n\nlast"]),
        ("iter", vec!["one\n", "two\n", "\n", "last"]),
        ("read(5),iter,read()", vec!["one\nt", "wo\n", "\n", "last", ""]),
        ("readline(),read(3),readlines()", vec!["one\n", "two", "\n", "\n", "last"]),
    ] {
        let target = format!("/reads?{calls}");
        let mut connection = forkhorn.connect();
        for _ in 0..2 {
            let response = connection.request("POST", &target, &[], body);
            assert_eq!(response.json(), serde_json::json!(expected), "{calls}");
        }
        let answer = forkhorn.fcgi(&Request::new("POST", &target).body(body));
        assert_eq!(answer.response().json(), serde_json::json!(expected), "{calls}");
    }
    // Spooled to a file, it reads the same.
    let long = [b"x".repeat(1_000_000).as_slice(), b"\n", body].concat();
    let response = forkhorn.request("POST", "/reads?readline(),readline(2),iter", &[], &long);
    let lines = response.json();
    assert_eq!(lines[0].as_str().map(str::len), Some(1_000_001));
    assert_eq!(
        lines.as_array().map(|all| all[1..].to_vec()),
        serde_json::json!(["on", "e\n", "two\n", "\n", "last"]).as_array().cloned()
    );
    assert_eq!(
        forkhorn.get("/reads?read(),readline(),readlines(),read(5),iter").json(),
        serde_json::json!(["", "", ""])
    );
}

#[test]
fn the_checker_of_the_standard_library_is_silent() {
    let forkhorn = Forkhorn::new().wsgi("strict.py").both().start();
    let body = "one\ntwo\nthree".as_bytes();
    for (kind, expected) in [
        ("read", "one\ntwo\nthree"),
        ("readline", "one\ntwo\n"),
        ("readlines", "one\ntwo\nthree"),
        ("iter", "one\ntwo\nthree"),
        ("plain", "plain"),
        ("write", "written write"),
        ("blocks", "ab"),
        ("none", ""),
    ] {
        let target = format!("/{kind}?a=b");
        for method in ["GET", "POST", "HEAD", "PUT", "OPTIONS"] {
            let sent = if ["POST", "PUT"].contains(&method) { body } else { b"" };
            let with_body = !sent.is_empty() || !kind.contains("read") && kind != "iter";
            let response = forkhorn.request(method, &target, &[("Content-Type", "text/plain")], sent);
            assert!([200, 204].contains(&response.status), "{method} {kind}: {}", response.status);
            if method != "HEAD" && with_body {
                assert_eq!(response.text(), expected, "{method} {kind}");
            }
        }
        let answer = forkhorn.fcgi(&Request::new("POST", &target).body(body));
        assert_eq!(answer.response().text(), expected, "{kind}");
    }
    let log = forkhorn.server.log.text();
    assert!(!log.contains("AssertionError") && !log.contains("Warning"), "the checker complained");
    for line in ["checked", "one", "two"] {
        forkhorn.wait_for_log(line);
    }
}
