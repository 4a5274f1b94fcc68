//! Lines as they are written, from requests that never were.

use std::io::{Read, Seek};
use std::time::Instant;

use super::*;
use crate::gateway::{Request, UniqueId};
use crate::protocol::RequestId;
use crate::scoreboard::Answerer;
use crate::sys::spawn::Exit;
use crate::worker::flight::{Asked, Flight, Step};
use crate::worker::tests::config;

/// The line about a response of 5 bytes.
fn line(format: &str, variables: &[(&str, &[u8])], change: impl FnOnce(&mut Flight)) -> String {
    let mut request = Request { id: UniqueId::from_bits(0xabc), ..Request::default() };
    for (name, value) in variables {
        request.meta.set(name.as_bytes(), value);
    }
    let meta = request.meta.clone();
    let mut flight = Flight::new(RequestId(1), Step::Answered, Box::new(request), false, Instant::now());
    flight.outgoing.body_bytes = 5;
    change(&mut flight);
    let mut file = tempfile::tempfile().expect("a file");
    let copy = file.try_clone().expect("a second descriptor");
    let whereabouts = Whereabouts { slot: 3, generation: 2, pid: 4711 };
    let mut log = AccessLog::new(Some(copy.into()), config(&["--access-log-format", format]), whereabouts);
    let id = UniqueId::from_bits(0xabc);
    log.record(&Answer { flight: &flight, meta: &meta, id, status: 200, is_kept: true });
    log.flush();
    let mut text = String::new();
    file.rewind().expect("a regular file");
    file.read_to_string(&mut text).expect("UTF-8");
    let line = text.strip_suffix('\n').expect("a line").to_owned();
    assert!(!line.contains('\n'), "{line}");
    line
}

const REQUEST: [(&str, &[u8]); 8] = [
    ("REMOTE_ADDR", b"192.0.2.7"),
    ("REMOTE_USER", b"a b"),
    ("REQUEST_METHOD", b"GET"),
    ("REQUEST_URI", b"/a\"b?c"),
    ("SERVER_PROTOCOL", b"HTTP/1.1"),
    ("SCRIPT_NAME", b"/shop/x"),
    ("PATH_INFO", b"/y"),
    ("HTTP_USER_AGENT", b"x\" 200\n\x1b[2Jy\\\xff"),
];

#[test]
fn the_common_formats_are_those_of_apache_and_nginx_and_can_not_be_forged() {
    let combined = line("combined", &REQUEST, |_| {});
    assert!(combined.starts_with("192.0.2.7 - a\\x20b ["), "{combined}");
    let request = r#" +0000] "GET /a\"b?c HTTP/1.1" 200 5"#;
    let end = r#" "-" "x\" 200\x0a\x1b[2Jy\\\xff""#;
    assert!(combined.ends_with(&format!("{request}{end}")), "{combined}");
    assert!(line("common", &REQUEST, |_| {}).ends_with(request));
}

#[test]
fn each_field_has_its_place() {
    for (format, expected) in [
        ("{remote_addr} {remote_port} {host}", "192.0.2.7 - -"),
        ("{method} {target} {path} {protocol}", r#"GET /a\"b?c /shop/x/y HTTP/1.1"#),
        (
            "\"{remote_user}\" {var:REMOTE_USER} {header:user-agent}",
            r#""a b" a\x20b x\"\x20200\x0a\x1b[2Jy\\\xff"#,
        ),
        ("{status} {bytes_in} {bytes_out} {kept}", "200 7 5 true"),
        ("{request_id} {worker} {generation} {pid}", "0000000000000abc 3 2 4711"),
        ("{handler} {mount} {script_exit}", "cgi /shop signal:9"),
        ("{cpu_us} {cpu_ms} {cpu_s}", "1002003 1002 1.002003"),
        ("{queue_us}", "-"),
        ("{{{status}}}", "{200}"),
    ] {
        let text = line(format, &REQUEST, |flight| {
            flight.told.bytes_in = 7;
            flight.by = Answerer::Script;
            flight.told.prefix_length = Some(5);
            flight.told.exit = Some(Exit::Signal(9));
            flight.told.cpu = Some(std::time::Duration::from_micros(1_002_003));
        });
        assert_eq!(text, expected, "{format}");
    }
    let taken = [("UNIQUE_ID", b"from-front".as_slice())];
    assert_eq!(line("{request_id}", &taken, |_| {}), "from-front");
    assert_eq!(line("{target} {path} {mount} {handler}", &[], |_| {}), "- - - -");
    assert_eq!(line("{target}", &REQUEST[5..7], |_| {}), "/shop/x/y");
    assert_eq!(line("{mount}", &[], |flight| flight.by = Answerer::Application), "/");
    let asked = line("{method} {target}", &REQUEST, |flight| {
        flight.told.asked = Some(Box::new(Asked { method: b"POST".to_vec(), target: b"/first".to_vec() }));
    });
    assert_eq!(asked, "POST /first");
}

#[test]
fn times_are_told_in_several_forms() {
    let text = line("{time}|{time_clf}|{time_unix}", &[], |_| {});
    let [iso, clf, unix] = text.split('|').collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(iso.len() == "2026-11-23T08:00:01.123Z".len() && iso.ends_with('Z'), "{iso}");
    assert!(clf.len() == "23/Nov/2026:08:00:01 +0000".len() && clf.ends_with(" +0000"), "{clf}");
    assert!(unix.parse::<f64>().expect("a number") > 1.7e9, "{unix}");
}

#[test]
fn json_has_numbers_texts_and_nothing() {
    let text = line("json", &REQUEST, |flight| flight.by = Answerer::Application);
    let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (name, expected) in [
        ("remote_user", "\"a b\""),
        ("user_agent", r#""x\" 200\n\u001b[2Jy\\\\xff""#),
        ("target", r#""/a\"b?c""#),
        ("status", "200"),
        ("kept", "true"),
        ("worker", "3"),
        ("mount", "\"/shop/x\""),
        ("handler", "\"wsgi\""),
        ("request_id", "\"0000000000000abc\""),
        ("referer", "null"),
        ("script_exit", "null"),
        ("queue_us", "null"),
    ] {
        assert_eq!(read[name], serde_json::from_str::<serde_json::Value>(expected).expect("JSON"), "{name}");
    }
    assert!(read["duration_us"].is_u64() && read["time"].is_string());
    let chosen = line("json:duration_s,header:X-A,script_exit,time_unix", &[], |flight| {
        flight.told.exit = Some(Exit::Status(3));
    });
    let read: serde_json::Value = serde_json::from_str(&chosen).expect("JSON");
    assert!(read["duration_s"].is_f64() && read["time_unix"].is_f64(), "{chosen}");
    assert_eq!((&read["header:X-A"], &read["script_exit"]), (&serde_json::Value::Null, &3.into()));
}
