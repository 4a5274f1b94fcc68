//! The table of errors of the design, row by row: what the peer sees, and what the log says.

use crate::support::fastcgi::Request;
use crate::support::http::request_bytes;
use crate::support::{Connection, Forkhorn, Running, wait_until};

fn probe() -> Running {
    Forkhorn::new().wsgi("probe.py").both().start()
}

#[test]
fn malformed_requests_are_400_or_closed_and_logged_for_who_debugs() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    connection.send("GET / HTTP/1.1\r\nHost x\r\n\r\n");
    assert_eq!(connection.read_response().status, 400);
    assert!(connection.is_closed());
    forkhorn.wait_for_log("DEBUG*byte");
    let mut peer = forkhorn.peer();
    peer.send([9; 24]);
    assert!(peer.is_closed());
    forkhorn.wait_for_log("DEBUG*FastCGI");
    // What strangers send fills no log in earnest operation.
    let log = forkhorn.server.log.lines();
    // That it runs as root is said at the start, and has nothing to do with anybody's request.
    let loud = |line: &&String| {
        (line.contains(" ERROR ") || line.contains(" WARN ")) && !line.contains("run as root")
    };
    assert_eq!(log.iter().find(loud), None);
}

#[test]
fn limits_are_logged_for_who_debugs() {
    let forkhorn = Forkhorn::new()
        .wsgi("probe.py")
        .args(["--max-body", "10", "--max-uri", "100", "--max-head", "1000"])
        .start();
    for (request, status) in [
        (request_bytes("POST", "/echo", &[], b"more than ten bytes"), 413),
        (request_bytes("GET", &format!("/{}", "a".repeat(101)), &[], b""), 414),
        (request_bytes("GET", "/", &[("X-A", &"a".repeat(1001))], b""), 431),
    ] {
        let mut connection = forkhorn.connect();
        connection.send_anyway(request);
        assert_eq!(connection.read_response().status, status);
        forkhorn.wait_for_log(&format!("DEBUG*{status}"));
    }
}

#[test]
fn an_application_that_raises_is_500_without_detail_and_a_traceback_in_the_log() {
    let forkhorn = probe();
    for response in [forkhorn.get("/fail"), forkhorn.fcgi(&Request::new("GET", "/fail")).response()] {
        assert_eq!(response.status, 500);
        assert!(!response.text().contains("secret") && !response.text().contains("probe.py"));
    }
    forkhorn.wait_for_log("ValueError: the secret of this failure");
    forkhorn.wait_for_log("GET /fail");
    assert!(forkhorn.server.log.text().contains("Traceback (most recent call last)"));
}

#[test]
fn an_application_that_raises_after_bytes_were_sent_breaks_the_connection() {
    let forkhorn = probe();
    let mut connection = forkhorn.connect();
    connection.send(request_bytes("GET", "/fail_late", &[], b""));
    let response = connection.try_read("GET").expect("a head");
    assert!(!response.complete, "{response:?}");
    let answer = forkhorn.fcgi(&Request::new("GET", "/fail_late").keep());
    assert!(!answer.complete || answer.app_status != 0, "{answer:?}");
    forkhorn.wait_for_log("ERROR*GET /fail_late*");
    forkhorn.wait_for_log("the secret of this late failure");
}

#[test]
fn a_request_over_its_time_is_504_with_the_stack_in_the_log() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().args(["--timeout", "0.3"]).start();
    let never = forkhorn.folder.join("never");
    let target = format!("/wait?at={}&until={}", forkhorn.folder.join("at").display(), never.display());
    assert_eq!(forkhorn.get(&target).status, 504);
    forkhorn.wait_for_log("touch_and_wait");
    forkhorn.wait_for_log("ERROR*GET /wait*over --timeout after 0.*");
    let answer = forkhorn.fcgi(&Request::new("GET", &target));
    assert_eq!(answer.response().status, 504);
    assert_eq!(forkhorn.get("/pid").status, 200);
    // The workers that were replaced need not be waited for.
    forkhorn.folder.write("never", "");
}

#[test]
fn a_full_queue_is_503_with_retry_after() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--max-queue", "2"]).start();
    let (at, go) = (forkhorn.folder.join("at"), forkhorn.folder.join("go"));
    let target = format!("/wait?at={}&until={}", at.display(), go.display());
    let mut waiting: Vec<Connection> = Vec::new();
    let mut running = forkhorn.connect();
    running.send(request_bytes("GET", &target, &[], b""));
    waiting.push(running);
    wait_until("the application is busy", || !forkhorn.folder.read("at").is_empty());
    let mut refused = None;
    wait_until("a request is refused", || {
        let mut connection = forkhorn.connect();
        connection.send(request_bytes("GET", &target, &[], b""));
        connection.stream.set_read_timeout(std::time::Duration::from_millis(200));
        match connection.try_read("GET") {
            Ok(response) => refused = Some(response),
            Err(_) => {
                connection.stream.set_read_timeout(crate::support::wait::DEADLINE);
                waiting.push(connection);
            }
        }
        refused.is_some()
    });
    let refused = refused.expect("a response");
    assert_eq!(refused.status, 503);
    assert!(refused.field("Retry-After").is_some());
    forkhorn.wait_for_log("WARN*requests wait for the application (--max-queue): answered 503");
    forkhorn.folder.write("go", "");
    for mut connection in waiting {
        assert_eq!(connection.read_response().text(), "waited\n");
    }
}

#[test]
fn error_pages_tell_nothing_about_the_machine() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").cgi_fixtures().both().start();
    for target in ["/fail", "/cgi-bin/missing.pl", "/cgi-bin/", "/%00", "/%zz", "/.."] {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let response = connection.read_response();
        assert!(response.status >= 400, "{target}: {}", response.status);
        let text = response.text();
        // Neither a path, nor a program, nor what was asked for.
        let told = text.replace("</", "<").replace("<!DOCTYPE html>", "");
        for word in ["/", "fixtures", "python", "Traceback", ".py", ".rs", "cgi-bin", "missing", "fail", "%"]
        {
            assert!(!told.contains(word), "{target}, {word}: {text}");
        }
    }
}
