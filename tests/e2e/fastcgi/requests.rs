//! What a web server may do: keep connections, split records anywhere, mix requests, ask, change its mind.

use std::net::SocketAddr;

use super::probe;
use crate::support::fastcgi::{
    self, ABORT_REQUEST, AUTHORIZER, CANT_MPX_CONN, END_REQUEST, FILTER, GET_VALUES, GET_VALUES_RESULT,
    KEEP_CONN, PARAMS, Peer, REQUEST_COMPLETE, RESPONDER, Request, STDIN, UNKNOWN_ROLE, UNKNOWN_TYPE, begin,
    pair, parse_pairs, record,
};
use crate::support::http::Address;
use crate::support::{Forkhorn, wait_until};

#[test]
fn a_request_is_answered_with_its_status_and_the_end_of_the_request() {
    let forkhorn = probe();
    let answer = forkhorn.fcgi(&Request::new("GET", "/pid"));
    assert_eq!((answer.app_status, answer.protocol_status, answer.complete), (0, REQUEST_COMPLETE, true));
    let response = answer.response();
    assert_eq!(response.field("Status"), Some("200 OK"));
    assert!(response.json()["pid"].is_number());
    assert!(answer.stderr.is_empty());
}

#[test]
fn the_flag_decides_whether_the_connection_is_kept() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    for number in 0..20_u16 {
        let request = Request::new("POST", "/echo").id(number % 3 + 1).keep().body(number.to_string());
        assert_eq!(peer.request(&request).response().text(), number.to_string());
    }
    assert_eq!(peer.request(&Request::new("GET", "/pid")).response().status, 200);
    assert!(peer.is_closed());
}

#[test]
fn records_may_be_split_anywhere() {
    let forkhorn = probe();
    let long = "v".repeat(300);
    let request =
        Request::new("POST", "/environ?x=1").keep().param("HTTP_X_LONG", &long).param("HTTP_X_EMPTY", "");
    let request = request.body("a body of some length");
    for (record_step, packet_step) in [(1, 1), (1, 4096), (7, 5), (65_535, 1), (65_535, 4096), (13, 4096)] {
        let mut peer = forkhorn.peer();
        for _ in 0..2 {
            peer.send_in_steps(&request.bytes_in_steps(record_step), packet_step);
            let environ = peer.answer(1).response().json();
            assert_eq!(environ["HTTP_X_LONG"], long.as_str());
            assert_eq!(environ["HTTP_X_EMPTY"], "");
            assert_eq!(environ["CONTENT_LENGTH"], "21");
        }
    }
}

#[test]
fn any_padding_is_skipped() {
    let forkhorn = probe();
    let request = Request::new("POST", "/echo").keep().body("padded");
    let mut peer = forkhorn.peer();
    for padding in [0, 1, 7, 255] {
        let padded = |kind, content: &[u8]| fastcgi::padded_record(kind, 1, content, padding);
        peer.send(padded(1, &[0, 1, KEEP_CONN, 0, 0, 0, 0, 0]));
        peer.send([padded(PARAMS, &request.params_content()), padded(PARAMS, b"")].concat());
        peer.send([padded(STDIN, b"pad"), padded(STDIN, b"ded"), padded(STDIN, b"")].concat());
        assert_eq!(peer.answer(1).response().text(), "padded");
    }
}

#[test]
fn parameters_may_be_longer_than_a_record() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().args(["--max-head", "400000"]).start();
    let long = "x".repeat(200_000);
    let request = Request::new("GET", "/environ")
        .param("HTTP_X_LONG", &long)
        .param(&format!("HTTP_{}", "N".repeat(70_000)), "1");
    let environ = forkhorn.fcgi(&request).response().json();
    assert_eq!(environ["HTTP_X_LONG"], long.as_str());
    assert_eq!(environ[format!("HTTP_{}", "N".repeat(70_000))], "1");
}

#[test]
fn large_bodies_go_both_ways() {
    let forkhorn = probe();
    let body: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let answer = forkhorn.fcgi(&Request::new("POST", "/echo").body(body.clone()));
    assert!(answer.response().body == body, "the echo differs");
    let answer = forkhorn.fcgi(&Request::new("GET", "/big?bytes=10000000"));
    assert_eq!(answer.response().body.len(), 10_000_000);
}

#[test]
fn a_body_without_a_length_is_read_to_its_end() {
    let forkhorn = probe();
    for length in [None, Some("")] {
        let mut request = Request::new("POST", "/length").body("streamed body").without("CONTENT_LENGTH");
        if let Some(length) = length {
            request = request.param("CONTENT_LENGTH", length);
        }
        assert_eq!(forkhorn.fcgi(&request).response().json()["length"], 13);
    }
}

#[test]
fn requests_may_be_interleaved_on_one_connection() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    let requests: Vec<Request> = (1..=5_u16)
        .map(|id| {
            Request::new("POST", "/echo")
                .id(id * 1000)
                .keep()
                .body(format!("body of {id}").repeat(usize::from(id) * 50))
        })
        .collect();
    // One record of each request in turn.
    let mut streams: Vec<Vec<Vec<u8>>> =
        requests.iter().map(|request| split_records(&request.bytes_in_steps(100))).collect();
    while streams.iter().any(|records| !records.is_empty()) {
        for records in &mut streams {
            if !records.is_empty() {
                peer.send(records.remove(0));
            }
        }
    }
    for request in &requests {
        let answer = peer.answer(request.id);
        // A server that can't mix requests may say so, and must say so in GET_VALUES too.
        assert_ne!(answer.protocol_status, CANT_MPX_CONN);
        assert!(answer.response().body == request.body, "request {}", request.id);
    }
}

#[test]
fn a_slow_request_does_not_hold_up_the_others_of_its_connection() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    let slow = Request::new("POST", "/echo").id(1).keep().body("slow");
    let bytes = slow.bytes();
    peer.send(&bytes[..bytes.len() - 8]);
    let fast = Request::new("POST", "/echo").id(2).keep().body("fast");
    assert_eq!(peer.request(&fast).response().text(), "fast");
    peer.send(&bytes[bytes.len() - 8..]);
    assert_eq!(peer.answer(1).response().text(), "slow");
}

fn split_records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = 8 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]])) + usize::from(bytes[6]);
        records.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    records
}

#[test]
fn a_web_server_that_asks_is_told_the_true_values() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    let names = ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS", "FCGI_OTHER"];
    let question: Vec<u8> = names.iter().flat_map(|name| pair(name.as_bytes(), b"")).collect();
    // In the middle of a request, too: management records have an id of their own.
    let request = Request::new("GET", "/pid").keep().bytes();
    peer.send(&request[..16]);
    peer.send(record(GET_VALUES, 0, &question));
    let answer = peer.read_record().expect("a record");
    assert_eq!((answer.kind, answer.id), (GET_VALUES_RESULT, 0));
    let values = parse_pairs(&answer.content);
    assert_eq!(values.len(), 3, "{values:?}");
    assert_eq!(values["FCGI_MPXS_CONNS"], "1");
    for name in ["FCGI_MAX_CONNS", "FCGI_MAX_REQS"] {
        assert!(values[name].parse::<u32>().is_ok_and(|value| value > 0), "{values:?}");
    }
    peer.send(&request[16..]);
    assert_eq!(peer.answer(1).response().status, 200);
}

#[test]
fn an_unknown_management_record_is_answered_so() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    for kind in [12, 99, 255] {
        peer.send(record(kind, 0, b"whatever"));
        let answer = peer.read_record().expect("a record");
        assert_eq!(
            (answer.kind, answer.id, answer.content),
            (UNKNOWN_TYPE, 0, vec![kind, 0, 0, 0, 0, 0, 0, 0])
        );
    }
    assert_eq!(peer.request(&Request::new("GET", "/pid")).response().status, 200);
}

#[test]
fn other_roles_are_refused_by_name() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    for role in [AUTHORIZER, FILTER, 0, 4, 9, 65_535] {
        peer.send(begin(7, role, KEEP_CONN));
        let answer = peer.answer(7);
        assert_eq!(
            (answer.protocol_status, answer.complete, answer.stdout.len()),
            (UNKNOWN_ROLE, true, 0),
            "role {role}"
        );
        // What was on its way already belongs to nobody.
        peer.send([fastcgi::stream(PARAMS, 7, b"", 1), record(STDIN, 7, b"")].concat());
    }
    assert_eq!(peer.request(&Request::new("GET", "/pid")).response().status, 200);
}

#[test]
fn an_aborted_request_ends_wherever_it_is() {
    let forkhorn = probe();
    let mut peer = forkhorn.peer();
    let request = Request::new("POST", "/echo").keep().body("never complete");
    let params =
        [begin(1, RESPONDER, KEEP_CONN), fastcgi::stream(PARAMS, 1, &request.params_content(), 60)].concat();
    let with_body = [params.clone(), record(STDIN, 1, b"never")].concat();
    for start in [begin(1, RESPONDER, KEEP_CONN), params[..16 + 72].to_vec(), params, with_body] {
        peer.send(&start);
        peer.send(record(ABORT_REQUEST, 1, b""));
        let end = peer.read_record().expect("a record");
        assert_eq!((end.kind, end.id), (END_REQUEST, 1), "{start:?}");
        assert_eq!(peer.request(&Request::new("GET", "/pid").keep()).response().status, 200);
    }
    // Nobody waits for this one.
    peer.send(record(ABORT_REQUEST, 5, b""));
    assert_eq!(peer.request(&Request::new("GET", "/pid").keep()).response().status, 200);
}

#[test]
fn an_aborted_answer_is_made_no_further() {
    let forkhorn = probe();
    let note = forkhorn.folder.join("note");
    let mut peer = forkhorn.peer();
    peer.send(Request::new("GET", &format!("/big?bytes=4000000000&note={}", note.display())).keep().bytes());
    peer.read_record().expect("the answer begins");
    peer.send(record(ABORT_REQUEST, 1, b""));
    wait_until("the iterable is closed", || forkhorn.folder.read("note") == "closed");
    let answer = peer.answer(1);
    assert!(answer.stdout.len() < 1_000_000_000);
    assert_eq!(peer.request(&Request::new("GET", "/pid").id(2)).response().status, 200);
}

#[test]
fn the_standard_error_of_scripts_goes_to_the_web_server_if_asked_for() {
    let script = "#!/bin/sh\necho 'Content-Type: text/plain'; echo; echo out; echo 'said on stderr' >&2\n";
    for (option, expected) in [("log", ""), ("fastcgi", "said on stderr\n")] {
        let forkhorn =
            Forkhorn::new().script("both.sh", script).cgi_folder().both().args(["--stderr", option]).start();
        let answer = forkhorn.fcgi(&Request::new("GET", "/cgi-bin/both.sh"));
        assert_eq!(answer.response().text(), "out\n");
        assert_eq!(String::from_utf8_lossy(&answer.stderr), expected);
        forkhorn.wait_for_log("said on stderr");
    }
}

#[test]
fn only_the_web_servers_that_are_named_may_connect() {
    for (by_option, addresses, listen) in [
        (true, "127.0.0.2,192.0.2.1", "127.0.0.1:0"),
        (false, "127.0.0.2", "127.0.0.1:0"),
        (true, "127.0.0.2", "[::]:0"),
    ] {
        let mut forkhorn = Forkhorn::new().wsgi("probe.py").fastcgi(listen);
        let http = forkhorn.folder.join("http.sock");
        forkhorn = forkhorn.http(&format!("unix:{}", http.display()));
        forkhorn = match by_option {
            true => forkhorn.args(["--web-server-addrs", addresses]),
            false => forkhorn.env("FCGI_WEB_SERVER_ADDRS", addresses),
        };
        let forkhorn = forkhorn.start();
        let Address::Tcp(listening) = forkhorn.fastcgi().clone() else { unreachable!() };
        let address = Address::Tcp(([127, 0, 0, 1], listening.port()).into());
        let mut stranger = Peer::open(&address);
        stranger.send_anyway(Request::new("GET", "/pid").bytes());
        assert!(stranger.is_closed(), "{addresses} on {listen}");
        let mut friend = Peer::open_from(&address, SocketAddr::from(([127, 0, 0, 2], 0)));
        assert_eq!(
            friend.request(&Request::new("GET", "/pid")).response().status,
            200,
            "{addresses} on {listen}"
        );
        assert_eq!(forkhorn.get("/pid").status, 200, "HTTP is open to everybody");
    }
}

/// Every byte says where it belongs.
fn long_body(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|place| (place * 7 + place / 251).to_le_bytes()).take(length).collect()
}

/// The records of a body, each so long as its number says, with so much padding.
fn body_records(body: &[u8], lengths: &[(usize, u8)]) -> Vec<u8> {
    let (mut rest, mut bytes) = (body, Vec::new());
    for &(length, padding) in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (content, after) = rest.split_at(length.min(rest.len()));
        bytes.extend(fastcgi::padded_record(STDIN, 1, content, padding));
        rest = after;
    }
    bytes.extend(record(STDIN, 1, b""));
    bytes
}

#[test]
fn long_bodies_come_whole_in_records_of_any_length() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").fastcgi("127.0.0.1:0");
    let socket = format!("unix:{}", forkhorn.folder.join("fastcgi.socket").display());
    let forkhorn = forkhorn.fastcgi(&socket).start();
    let body = long_body(300_000);
    let head = Request::new("POST", "/echo").keep().body(body.clone());
    let head =
        [begin(1, RESPONDER, KEEP_CONN), record(PARAMS, 1, &head.params_content()), record(PARAMS, 1, b"")];
    for (what, lengths) in [
        ("as nginx sends them", &[(32_768, 0)][..]),
        ("as Apache does", &[(8192, 0)]),
        ("as long as can be", &[(65_535, 1)]),
        ("padded", &[(32_761, 7)]),
        ("padded more than anybody does", &[(32_768, 255)]),
        ("short", &[(100, 4)]),
        ("a long one after short ones", &[(4096, 0), (4096, 0), (4096, 0), (60_000, 0)]),
        ("a short one after long ones", &[(30_000, 0), (30_000, 0), (1, 7)]),
        ("of changing padding", &[(20_000, 0), (20_000, 8), (20_000, 3)]),
    ] {
        let bytes = [head.concat(), body_records(&body, lengths)].concat();
        for step in [bytes.len(), 65_536, 32_776, 10_007] {
            for address in forkhorn.all_fastcgi() {
                let mut peer = Peer::open(address);
                for _ in 0..2 {
                    peer.send_in_steps(&bytes, step);
                    let answer = peer.answer(1).response();
                    assert!(answer.body == body, "{what}, {step} bytes at a time");
                }
            }
        }
    }
}

#[test]
fn a_body_that_ends_otherwise_than_it_went_on_is_no_body() {
    let forkhorn = probe();
    let body = long_body(200_000);
    let request = Request::new("POST", "/echo").keep().body(body.clone());
    let head = [
        begin(1, RESPONDER, KEEP_CONN),
        record(PARAMS, 1, &request.params_content()),
        record(PARAMS, 1, b""),
    ]
    .concat();
    let records: Vec<Vec<u8>> = body.chunks(16_384).map(|content| record(STDIN, 1, content)).collect();
    let mut peer = forkhorn.peer();
    // In the place where a record of the body was to come stands another: an abort, and a request behind it.
    let next = Request::new("POST", "/echo").keep().body("next");
    peer.send([head.clone(), records[..6].concat(), record(ABORT_REQUEST, 1, b""), next.bytes()].concat());
    assert_eq!(peer.answer(1).stdout, b"");
    assert_eq!(peer.answer(1).response().text(), "next");
    // A question about the gateway between two records of the body is answered, and the body goes on.
    let question = record(GET_VALUES, 0, &pair(b"FCGI_MPXS_CONNS", b""));
    peer.send(
        [head.clone(), records[..3].concat(), question, records[3..].concat(), record(STDIN, 1, b"")]
            .concat(),
    );
    assert_eq!(peer.read_record().map(|record| record.kind), Some(GET_VALUES_RESULT));
    assert!(peer.answer(1).response().body == body);
    // STDIN ends before the body does.
    peer.send([head.clone(), records[..6].concat(), record(STDIN, 1, b"")].concat());
    assert_eq!(peer.answer(1).response().status, 400);
    // More than was announced is not the application's, nor is it a record.
    let surplus = [begin(2, RESPONDER, KEEP_CONN), vec![0; 100]].concat();
    let last = [records.last().expect("some").split_at(8).1[..200_000 % 16_384].to_vec(), surplus].concat();
    let whole = [head, records[..records.len() - 1].concat(), record(STDIN, 1, &last), record(STDIN, 1, b"")];
    peer.send(whole.concat());
    assert!(peer.answer(1).response().body == body);
    assert_eq!(peer.request(&next).response().text(), "next");
}
