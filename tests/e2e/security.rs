//! Inputs that broke other servers, each named by its class, with an incident of its kind. What concerns one protocol
//! alone stands with that protocol (`http/smuggling.rs`, `fastcgi/malformed.rs`, `cgi/errors.rs`, `wsgi/rules.rs`).

use std::os::unix::fs::PermissionsExt;

use crate::support::fastcgi::{
    ABORT_REQUEST, KEEP_CONN, PARAMS, RESPONDER, Request, begin, pair, record, stream,
};
use crate::support::http::request_bytes;
use crate::support::process::{descriptor_count, process, wait_for_descriptors};
use crate::support::{Forkhorn, Response, Running, wait_until};

fn worker_pid(forkhorn: &Running) -> i32 {
    forkhorn.get("/pid").json()["pid"].as_i64().expect("a pid") as i32
}

/// The environ over HTTP with these field lines.
fn environ(forkhorn: &Running, lines: &str) -> serde_json::Value {
    let mut connection = forkhorn.connect();
    connection.send(format!("GET /environ HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
    connection.read_response().json()
}

#[test]
fn httpoxy_no_field_becomes_the_proxy_of_the_program() {
    // CVE-2016-5387, CVE-2016-1000104, CVE-2016-1000110.
    let forkhorn = Forkhorn::new().wsgi("probe.py").cgi_fixtures().both().start();
    for name in ["Proxy", "proxy", "PROXY", "pRoXy"] {
        assert_eq!(environ(&forkhorn, &format!("{name}: http://evil.example/\r\n")).get("HTTP_PROXY"), None);
        let response = forkhorn.request("GET", "/cgi-bin/dump.pl", &[(name, "http://evil.example/")], b"");
        assert_eq!(crate::cgi::Dump::of(&response).env.get("HTTP_PROXY"), None);
    }
    for target in ["/environ", "/cgi-bin/dump.pl"] {
        let answer = forkhorn.fcgi(&Request::new("GET", target).param("HTTP_PROXY", "http://evil.example/"));
        assert!(!answer.response().text().contains("evil.example"), "{target}");
    }
}

#[test]
fn aliases_by_underscore_are_dropped() {
    // lighttpd 170db8fe, CVE-2024-45614, CVE-2015-0219.
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    for (lines, expected) in [
        ("X-Forwarded-For: 1\r\nX_Forwarded_For: 2\r\n", Some("1")),
        ("X_Forwarded_For: 2\r\nX-Forwarded-For: 1\r\n", Some("1")),
        ("X_Forwarded_For: 2\r\n", None),
        ("X_Forwarded-For: 2\r\n", None),
        ("X.Forwarded.For: 2\r\n", None),
        ("X!Forwarded~For: 2\r\n", None),
    ] {
        assert_eq!(
            environ(&forkhorn, lines).get("HTTP_X_FORWARDED_FOR").and_then(|value| value.as_str()),
            expected,
            "{lines}"
        );
    }
}

#[test]
fn fields_never_become_variables_of_the_server() {
    // CVE-2024-8927, CVE-2018-1283, CVE-2025-65082.
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let lines = "Redirect-Status: 1\r\nSession: forged\r\nRemote-User: root\r\nScript-Name: /x\r\nPath-Info: /y\r\n\
        Content-Length: 0\r\nServer-Name: z\r\nWsgi.input: 1\r\nWsgi-Input: 1\r\nHttps: on\r\nAuth-Type: Basic\r\n";
    let environ = environ(&forkhorn, lines);
    for name in ["REDIRECT_STATUS", "REMOTE_USER", "AUTH_TYPE", "SESSION", "HTTPS"] {
        assert_eq!(environ.get(name), None, "{name}");
    }
    assert_eq!((&environ["SCRIPT_NAME"], &environ["PATH_INFO"]), (&"".into(), &"/environ".into()));
    assert_eq!(environ["HTTP_REMOTE_USER"], "root");
    assert_eq!(environ["wsgi.url_scheme"], "http");
}

#[test]
fn parameters_choose_neither_code_nor_user_nor_configuration() {
    // uWSGI's magic variables, PHP_VALUE, CVE-2025-66200.
    let forkhorn = Forkhorn::new().wsgi("probe.py").cgi_fixtures().both().start();
    let outside = forkhorn
        .folder
        .script("evil.py", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\nevil'\n")
        .display()
        .to_string();
    let base = Request::new("GET", "/environ");
    let expected = forkhorn.fcgi(&base).response().json();
    for (name, value) in [
        ("UWSGI_FILE", "exec://touch /tmp/x"),
        ("UWSGI_SCRIPT", outside.as_str()),
        ("UWSGI_MODULE", "os"),
        ("UWSGI_CALLABLE", "system"),
        ("UWSGI_CHDIR", "/"),
        ("PHP_VALUE", "auto_prepend_file=/etc/passwd"),
        ("PHP_ADMIN_VALUE", "extension=/evil.so"),
        ("SCRIPT_FILENAME", outside.as_str()),
        ("PATH_TRANSLATED", outside.as_str()),
        ("FCGI_CHDIR", "/"),
        ("FCGI_ROLE", "AUTHORIZER"),
        ("LD_PRELOAD", "/evil.so"),
        ("PYTHONPATH", "/evil"),
        ("PYTHONSTARTUP", "/evil"),
        ("BASH_ENV", "/evil"),
        ("PATH", "/evil"),
        ("HOME", "/evil"),
        ("SUEXEC_UID", "0"),
        ("wsgi.input", "evil"),
        ("wsgi.url_scheme", "evil"),
        ("wsgi.file_wrapper", "evil"),
        ("GATEWAY_INTERFACE", "evil"),
        ("DOCUMENT_ROOT", "/evil"),
    ] {
        let environ = forkhorn.fcgi(&base.clone().param(name, value)).response().json();
        for (key, value) in expected.as_object().expect("a dict") {
            // Addresses in a repr differ; what the web server is asked for may.
            let free =
                ["wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "DOCUMENT_ROOT"].contains(&key.as_str());
            assert!(free || environ[key] == *value, "{name} has changed {key}: {}", environ[key]);
        }
        assert!(!environ["wsgi.input"].as_str().is_some_and(|input| input.contains("evil")), "{name}");
        assert!(!["LD_PRELOAD", "PATH"].contains(&name) || environ.get(name).is_none(), "{name}");
        let script = Request::new("GET", "/cgi-bin/dump.pl").param(name, value);
        let dump = crate::cgi::Dump::of(&forkhorn.fcgi(&script).response());
        // Some of these mean something to the programs that run scripts; the others are words like any other.
        let dangerous = [
            "LD_PRELOAD",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "BASH_ENV",
            "PATH",
            "HOME",
            "PHP_VALUE",
            "GATEWAY_INTERFACE",
        ];
        assert!(
            !dangerous.contains(&name) || dump.env.get(name).is_none_or(|found| found != value),
            "{name} reaches a script"
        );
    }
}

#[test]
fn a_path_with_a_newline_or_nothing_after_the_script_is_split_like_any_other() {
    // CVE-2019-11043.
    let forkhorn = Forkhorn::new().wsgi("probe.py").cgi_fixtures().both().start();
    let script = crate::support::fixture("cgi-bin/dump.pl").display().to_string();
    for (script_name, path_info, uri) in [
        ("/cgi-bin/dump.pl", "", "/cgi-bin/dump.pl"),
        ("/cgi-bin/dump.pl\n", "", "/cgi-bin/dump.pl%0a"),
        ("/cgi-bin/dump.pl", "/\n", "/cgi-bin/dump.pl/%0a"),
        ("/cgi-bin/dump.pl", "\n", "/cgi-bin/dump.pl%0a"),
        ("/cgi-bin/dump.pl/longer/than/the/uri", "", "/"),
        ("", "", "/"),
        ("/", "", ""),
        ("", "/cgi-bin/dump.pl", "/cgi-bin/dump.pl"),
        ("/x", "/y", "/completely/different"),
        ("no/slash", "none", "none"),
    ] {
        for filename in ["", script.as_str()] {
            let request =
                Request::new("GET", uri).param("SCRIPT_NAME", script_name).param("PATH_INFO", path_info);
            let answer =
                forkhorn.fcgi(&request.param("SCRIPT_FILENAME", filename).param("DOCUMENT_URI", script_name));
            assert!(answer.complete, "{script_name:?} {path_info:?}");
            let long = Request::new("GET", uri)
                .param("SCRIPT_NAME", &"/a".repeat(8000))
                .param("PATH_INFO", &"/b".repeat(8000));
            assert!(forkhorn.fcgi(&long).complete);
        }
    }
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn a_worker_that_ran_out_of_memory_or_time_is_not_used_again() {
    // CVE-2026-109618, CVE-2026-109619: the state of an aborted request was used by the next one.
    let code = "import os\ndef application(environ, start_response):\n\
        \x20   if environ['PATH_INFO'] == '/memory': raise MemoryError\n\
        \x20   start_response('200 OK', [])\n    return [b'%d' % os.getpid()]\n";
    let forkhorn = Forkhorn::new().code(code).start();
    let before = forkhorn.get("/").text();
    assert_eq!(forkhorn.get("/memory").status, 500);
    wait_until("another worker answers", || {
        let response: Response = forkhorn.get("/");
        response.status == 200 && response.text() != before
    });
}

#[test]
fn a_worker_that_lies_to_its_master_harms_nobody_but_itself() {
    // CVE-2021-21703: the parent, with more rights, believed what its children had written.
    let forkhorn = Forkhorn::new().wsgi("hostile.py").workers(2).start();
    let master = process(forkhorn.pid()).expect("the master");
    for number in 0..20 {
        // The worker may be ended for it, and its connection with it.
        let mut connection = forkhorn.connect();
        connection.send_anyway(request_bytes("GET", &format!("/{number}"), &[], b""));
        let _ = connection.try_read("GET");
    }
    wait_until("a worker answers", || {
        let mut connection = forkhorn.connect();
        connection.send_anyway(request_bytes("GET", "/fine", &[], b""));
        connection.try_read("GET").is_ok_and(|response| response.text() == "fine")
    });
    assert_eq!(
        process(forkhorn.pid()).map(|now| now.started),
        Some(master.started),
        "the master was replaced"
    );
}

#[test]
fn the_default_mode_of_a_socket_lets_strangers_out() {
    // CVE-2014-0185.
    let forkhorn = Forkhorn::new().wsgi("probe.py").wrapper(["sh", "-c", "umask 0; exec \"$@\"", "sh"]);
    let socket = forkhorn.folder.join("x.sock");
    let forkhorn = forkhorn.fastcgi(&format!("unix:{}", socket.display())).start();
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    drop(forkhorn);
}

#[test]
fn connections_and_requests_that_end_in_disorder_leave_nothing() {
    // CVE-2022-41556, CVE-2026-129291: slots and descriptors leaked or were used after their end.
    let forkhorn = Forkhorn::new().wsgi("probe.py").cgi_fixtures().both().start();
    let worker = worker_pid(&forkhorn);
    // What the first script needs and later ones share is there from here on.
    assert_eq!(forkhorn.get("/cgi-bin/dump.pl").status, 200);
    let before = descriptor_count(worker);
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let script = Request::new("POST", "/cgi-bin/dump.pl").keep().body(vec![b'x'; 100_000]).bytes();
    for round in 0..30 {
        for part in ["", "5\r\n", "5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n"] {
            let mut connection = forkhorn.connect();
            connection.send(format!("{head}{part}"));
            if round % 2 == 0 {
                connection.stream.finish_sending();
            }
        }
        let mut peer = forkhorn.peer();
        peer.send_anyway(&script[..script.len() * round / 30]);
        if round % 3 == 0 {
            peer.send_anyway(record(ABORT_REQUEST, 1, b""));
        }
        let mut gone = forkhorn.connect();
        gone.send(request_bytes("POST", "/cgi-bin/dump.pl", &[], b"x"));
        drop(gone);
        let mut big = forkhorn.connect();
        big.send(request_bytes("GET", "/big?bytes=50000000", &[], b""));
        if round % 2 == 1 {
            big.peek();
        }
    }
    wait_for_descriptors(worker, before);
    assert_eq!(worker_pid(&forkhorn), worker, "the worker was replaced");
    wait_until("no script is left", || forkhorn.family().iter().all(|process| process.name != "dump.pl"));
}

#[test]
fn one_client_with_many_requests_does_not_starve_the_others() {
    // CVE-2019-16770, CVE-2021-29509.
    let counts = "COUNT = 0\ndef application(environ, start_response):\n\
        \x20   global COUNT\n    COUNT += 1\n    start_response('200 OK', [])\n    return [b'%d' % COUNT]\n";
    let forkhorn = Forkhorn::new().code(counts).start();
    let mut others: Vec<_> = (0..4).map(|_| forkhorn.connect()).collect();
    let mut greedy = forkhorn.connect();
    greedy.send(request_bytes("GET", "/", &[], b"").repeat(2000));
    // Sent at once, and answered before most of the greedy one's are.
    for other in &mut others {
        other.send(request_bytes("GET", "/", &[], b""));
    }
    for other in &mut others {
        let count: usize = other.read_response().text().parse().expect("a number");
        assert!(count < 1500, "{count} requests went before");
    }
    for _ in 0..2000 {
        assert_eq!(greedy.read_response().status, 200);
    }
}

#[test]
fn a_client_that_reads_no_answers_is_read_no_further_and_the_others_are() {
    let counts = "COUNT = 0\ndef application(environ, start_response):\n\
        \x20   global COUNT\n    COUNT += 1\n    start_response('200 OK', [])\n\
        \x20   return [b'%d %s' % (COUNT, b'x' * 2000)]\n";
    let forkhorn = Forkhorn::new().code(counts).args(["--max-output", "10000"]);
    let socket = forkhorn.folder.join("x.sock");
    // What lies in its buffers is no more than some hundred answers.
    let forkhorn = forkhorn.http(&format!("unix:{}", socket.display())).start();
    let (mut greedy, mut other) = (forkhorn.connect(), forkhorn.connect());
    let sender = greedy.stream.send_meanwhile(request_bytes("GET", "/", &[], b"").repeat(3000));
    let mut count = || -> usize {
        let text = other.get("/").text();
        text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
    };
    wait_until("only the other one is answered", || {
        let first = count();
        (1..=50).all(|further| count() == first + further)
    });
    assert!(count() < 1500, "{} requests were answered", count());
    for _ in 0..3000 {
        assert_eq!(greedy.read_response().status, 200);
    }
    assert!(sender.join().expect("the sender does not panic").is_ok());
}

#[test]
fn floods_of_half_made_requests_cost_their_connection_alone() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().args(["--max-head", "10000"]).start();
    let worker = worker_pid(&forkhorn);
    let resident =
        || -> u64 { crate::support::process::status_line(worker, "VmRSS")[0].parse().expect("kB") };
    let before = resident();
    let params = pair(b"HTTP_X", &[b'x'; 9000]);
    let mut peers = Vec::new();
    for _ in 0..50 {
        let mut peer = forkhorn.peer();
        // Ids without end, parameters without end.
        for id in 1..200 {
            peer.send_anyway([begin(id, RESPONDER, KEEP_CONN), record(PARAMS, id, &params)].concat());
        }
        // FCGI_OVERLOADED (§5.5): all that came before is read.
        assert_eq!(peer.answer(199).protocol_status, 2);
        peers.push(peer);
    }
    assert!(resident() < before + 60_000, "{} kB", resident() - before);
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn strings_of_every_kind_reach_the_application_as_they_are() {
    // CVE-2026-42544 and its kin: a panic on a field that is no ASCII.
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    for byte in 0..=255_u8 {
        let value = [b'a', byte, b'b'];
        let mut connection = forkhorn.connect();
        connection.send(
            [b"GET /environ HTTP/1.1\r\nHost: x\r\nX-A: ".as_slice(), &value, b"\r\nX-B: 1\r\n\r\n"].concat(),
        );
        let response = connection.read_response();
        let legal = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        assert_eq!(response.status, if legal { 200 } else { 400 }, "byte {byte}");
        if legal {
            assert_eq!(
                response.json()["HTTP_X_A"],
                value.map(char::from).iter().collect::<String>(),
                "byte {byte}"
            );
        }
        let params = [Request::new("GET", "/environ").params_content(), pair(b"HTTP_X_A", &value)].concat();
        let mut peer = forkhorn.peer();
        peer.send([begin(1, RESPONDER, 0), stream(PARAMS, 1, &params, 65_535), record(5, 1, b"")].concat());
        let answer = peer.answer(1);
        assert!(answer.complete, "byte {byte}");
        if byte != 0 && answer.response().status == 200 {
            assert_eq!(
                answer.response().json()["HTTP_X_A"],
                value.map(char::from).iter().collect::<String>()
            );
        }
    }
    assert!(process(worker_pid(&forkhorn)).is_some());
}

#[test]
fn query_words_and_values_are_never_code_or_arguments() {
    // CVE-2025-58098, CVE-2012-1823, CVE-2024-4577, CVE-2014-6271.
    let forkhorn = Forkhorn::new().cgi_fixtures().start();
    for query in
        ["-d+allow_url_include%3d1", "-s", "%ADd+x", "--help", "a+b+c", "$(touch%20x)", "`id`", ";id", "|id"]
    {
        let mut connection = forkhorn.connect();
        connection
            .send(format!("GET /cgi-bin/dump.pl?{query} HTTP/1.1\r\nHost: x\r\nX-A: () {{ :;}}; id\r\n\r\n"));
        let dump = crate::cgi::Dump::of(&connection.read_response());
        assert_eq!(dump.arguments.len(), 1, "{query}");
        assert_eq!(dump.var("QUERY_STRING"), query);
    }
}

#[test]
fn a_source_is_run_and_never_shown() {
    // CVE-2014-4650, CVE-2011-1015.
    let forkhorn = Forkhorn::new().cgi_fixtures().start();
    for target in [
        "/cgi-bin/dump.pl",
        "/cgi-bin%2fdump.pl",
        "//cgi-bin/dump.pl",
        "/cgi-bin//dump.pl",
        "/cgi-bin/./dump.pl",
        "/x/../cgi-bin/dump.pl",
        "/cgi-bin/dump.pl%20",
        "/cgi-bin/dump.pl.",
        "/cgi-bin/dump.pl%3f",
        "/cgi-bin/dump.pl::$DATA",
        "/cgi-bin/DUMP.PL",
        "/cgi-bin/dump.pl~",
    ] {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let response = connection.read_response();
        assert!(!response.text().contains("use strict"), "{target} shows the source");
        assert!([200, 400, 403, 404].contains(&response.status), "{target}: {}", response.status);
    }
}
