//! The access log: its forms, its fields, and that no client can forge a line of it.

use std::time::Instant;

use serde_json::Value;

use crate::support::fastcgi::Request;
use crate::support::http::request_bytes;
use crate::support::{Forkhorn, Running, wait_until};

const SCRIPT: &str = "#!/bin/sh\ncat >/dev/null\nprintf 'Content-Type: text/plain\\n\\nran'\nexit 3\n";

const BUSY: &str =
    "#!/usr/bin/perl\nwhile ((times)[0] + (times)[1] < 0.05) {}\nprint \"Content-Type: text/plain\\n\\n\";\n";

const BUSY_APPLICATION: &str = "import time

def application(environ, start_response):
    start_response('200 OK', [])
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    return []
";

/// Scripts, an application and files, each with a line of this form in `access.log`.
fn logging(format: &str) -> Forkhorn {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both();
    let log = forkhorn.folder.join("access.log");
    forkhorn.folder.write("files/page.txt", "a page");
    let files = forkhorn.folder.join("files");
    let forkhorn = forkhorn.script("three.sh", SCRIPT).script("busy.pl", BUSY).cgi_folder();
    let forkhorn = forkhorn.mount_path("--static", "/files", &files);
    forkhorn.arg("--access-log").arg(log).args(["--access-log-format", format])
}

fn lines(forkhorn: &Running, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    wait_until("the requests are logged", || {
        lines = forkhorn.folder.read("access.log").lines().map(str::to_owned).collect();
        lines.len() >= count
    });
    lines
}

#[test]
fn a_line_of_json_says_who_answered_and_how() {
    let forkhorn = logging("json").args(["--request-id-header", "X-Request-Id"]).start();
    let worker = forkhorn.get("/pid").json()["pid"].clone();
    assert_eq!(
        forkhorn.request("POST", "/cgi-bin/three.sh/x?y", &[("X-Request-Id", "me")], b"12345").text(),
        "ran"
    );
    assert_eq!(forkhorn.get("/files/page.txt").text(), "a page");
    assert_eq!(forkhorn.get("/cgi-bin/missing").status, 404);
    let echo = Request::new("POST", "/echo").param("HTTP_REFERER", "http://x/").body("seven..");
    assert_eq!(forkhorn.fcgi(&echo).response().status, 200);
    let lines: Vec<Value> = lines(&forkhorn, 5)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let said = |index: usize, names: [&str; 6]| names.map(|name: &str| lines[index][name].to_string());
    let names = ["handler", "mount", "status", "bytes_in", "bytes_out", "script_exit"];
    assert_eq!(said(1, names), ["\"cgi\"", "\"/cgi-bin\"", "200", "5", "3", "3"]);
    assert_eq!(said(2, names), ["\"static\"", "\"/files\"", "200", "0", "6", "null"]);
    assert_eq!(said(3, names)[..3], ["\"cgi\"", "\"/cgi-bin\"", "404"]);
    assert_eq!(said(4, names)[..4], ["\"wsgi\"", "\"/\"", "200", "7"]);
    assert_eq!(lines[0]["pid"], worker);
    assert_eq!((&lines[0]["worker"], &lines[0]["generation"]), (&0.into(), &0.into()));
    assert_eq!(
        (&lines[1]["request_id"], &lines[1]["target"]),
        (&"me".into(), &"/cgi-bin/three.sh/x?y".into())
    );
    assert_eq!(lines[4]["referer"], "http://x/");
    for line in &lines[..2] {
        assert!(
            line["duration_us"].as_u64() >= line["queue_us"].as_u64() && line["queue_us"].is_u64(),
            "{line}"
        );
    }
}

#[test]
fn all_bytes_of_a_long_body_are_counted() {
    let forkhorn = logging("{bytes_in} {bytes_out}").start();
    let body = vec![b'x'; 100_000];
    assert_eq!(forkhorn.request("POST", "/echo", &[], &body).body, body);
    assert!(forkhorn.fcgi(&Request::new("POST", "/echo").body(body.clone())).response().body == body);
    assert_eq!(lines(&forkhorn, 2), ["100000 100000"; 2]);
}

#[test]
fn a_line_says_whether_the_connection_was_kept() {
    let forkhorn = logging("{target} {kept}").start();
    let mut connection = forkhorn.connect();
    connection.send(request_bytes("GET", "/pid?kept", &[], b""));
    assert_eq!(connection.read_response().status, 200);
    connection.send(request_bytes("GET", "/pid?closed", &[("Connection", "close")], b""));
    assert_eq!(connection.read_response().status, 200);
    let lines = lines(&forkhorn, 2);
    assert_eq!(lines, ["/pid?kept true", "/pid?closed false"]);
}

#[test]
fn processor_time_of_scripts_and_applications_is_told() {
    let forkhorn = logging("{cpu_us}").start();
    assert_eq!(forkhorn.get("/cgi-bin/busy.pl").status, 200);
    let of_script: u64 = lines(&forkhorn, 1)[0].parse().expect("a number");
    assert!(of_script >= 40_000, "{of_script}");
    let forkhorn = Forkhorn::new().code(BUSY_APPLICATION);
    let log = forkhorn.folder.join("access.log");
    let forkhorn = forkhorn.arg("--access-log").arg(log).args(["--access-log-format", "{cpu_us}"]).start();
    assert_eq!(forkhorn.get("/").status, 200);
    let of_application: u64 = lines(&forkhorn, 1)[0].parse().expect("a number");
    assert!(of_application >= 50_000, "{of_application}");
}

#[test]
fn the_time_in_the_queue_is_told() {
    let forkhorn = logging("{query} {queue_us}").args(["--cgi-max-scripts", "1"]);
    let forkhorn = forkhorn.script(
        "wait.sh",
        "#!/bin/sh\n: > started\nwhile [ ! -e go ]; do :; done\nprintf 'Content-Type: text/plain\\n\\n'\n",
    );
    let forkhorn = forkhorn.start();
    let (mut one, mut other) = (forkhorn.connect(), forkhorn.connect());
    one.send(request_bytes("GET", "/cgi-bin/wait.sh?first", &[], b""));
    wait_until("the first script runs", || forkhorn.folder.join("cgi-bin/started").exists());
    other.send(request_bytes("GET", "/cgi-bin/wait.sh?second", &[], b""));
    // Answered by the same loop, after it has read the request above.
    assert_eq!(forkhorn.get("/files/page.txt?third").status, 200);
    let since = Instant::now();
    forkhorn.folder.write("cgi-bin/go", "");
    let waited = since.elapsed();
    assert_eq!((one.read_response().status, other.read_response().status), (200, 200));
    let lines = lines(&forkhorn, 3);
    let second = lines.iter().find_map(|line| line.strip_prefix("second ")).expect("its line");
    assert!(second.parse::<u128>().expect("a number") >= waited.as_micros(), "{lines:?} {waited:?}");
    assert!(lines.contains(&"third -".to_owned()), "{lines:?}");
}

#[test]
fn a_request_that_was_never_understood_has_a_line_with_its_client() {
    let forkhorn = logging("{remote_addr} {method} {target} {status} {handler} {request_id}").start();
    for (bytes, status) in [
        ("GET\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), 505),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20)), 414),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            400,
        ),
    ] {
        let mut connection = forkhorn.connect();
        // It may refuse before it has read all.
        connection.send_anyway(&bytes);
        assert_eq!(connection.read_response().status, status, "{}", &bytes[..10]);
    }
    let lines = lines(&forkhorn, 4);
    let statuses: Vec<&str> = lines
        .iter()
        .map(|line| {
            let line = line.strip_prefix("127.0.0.1 - - ").unwrap_or_else(|| panic!("{line}"));
            let (status, rest) = line.split_once(' ').expect("more");
            let id = rest.strip_prefix("- ").unwrap_or_else(|| panic!("{line}"));
            assert!(id.len() >= 16, "{line}");
            status
        })
        .collect();
    assert_eq!(statuses, ["400", "505", "414", "400"]);
}

#[test]
fn no_client_can_forge_a_line_in_any_form() {
    for format in
        ["combined", "json", "{user_agent} {query} {header:X-A} {var:HTTP_X_B} {host} {remote_user}"]
    {
        let forkhorn = logging(format).args(["--trust-remote-user"]).start();
        let nasty = "x\n127.0.0.1 - - FORGED\r\n\u{1b}[2J\" \u{202e}\u{2028}{}\\";
        // A parameter's characters are its bytes.
        let sent: String = nasty.bytes().map(char::from).collect();
        let mut request = Request::new("GET", "/environ?first").param("QUERY_STRING", &sent);
        for name in ["HTTP_USER_AGENT", "HTTP_X_A", "HTTP_X_B", "HTTP_HOST", "REMOTE_USER", "HTTP_REFERER"] {
            request = request.param(name, &sent);
        }
        assert_eq!(forkhorn.fcgi(&request).response().status, 200);
        assert_eq!(forkhorn.get("/pid").status, 200);
        let lines = lines(&forkhorn, 2);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in &lines {
            assert!(!line.contains(|c: char| c.is_control() || "\u{202e}\u{2028}".contains(c)), "{line:?}");
        }
        if format == "json" {
            let line: Value = serde_json::from_str(&lines[0]).expect("JSON");
            assert_eq!(line["user_agent"], nasty);
        }
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_still_json() {
    let forkhorn = logging("json").start();
    let mut connection = forkhorn.connect();
    connection.send(b"GET /pid HTTP/1.1\r\nHost: x\r\nUser-Agent: a\xff\xfe\r\n\r\n");
    assert_eq!(connection.read_response().status, 200);
    let line: Value = serde_json::from_str(&lines(&forkhorn, 1)[0]).expect("JSON");
    assert_eq!(line["user_agent"], "a\\xff\\xfe");
}

#[test]
fn a_local_redirect_is_logged_as_what_the_client_asked_for() {
    let forkhorn = logging("{method} {target} {status} {handler}");
    let forkhorn = forkhorn.script("moved.sh", "#!/bin/sh\nprintf 'Location: /pid\\n\\n'\n").start();
    assert_eq!(forkhorn.request("POST", "/cgi-bin/moved.sh?x", &[], b"abc").status, 200);
    assert_eq!(lines(&forkhorn, 1), ["POST /cgi-bin/moved.sh?x 200 wsgi"]);
}

#[test]
fn a_mistake_in_the_format_is_a_usage_error_that_names_what_comes_closest() {
    for (format, said) in [
        ("{remote_adress}", "did you mean {remote_addr}?"),
        ("json:durations", "did you mean {duration_s}?"),
        ("combind", "neither combined"),
    ] {
        let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--access-log-format", format]);
        let (code, log) = forkhorn.run_to_exit();
        assert!(code == 2 && log.contains(said), "{format}: {code} {log}");
    }
}
