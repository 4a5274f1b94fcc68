//! What a script may answer (RFC 3875 §6), and what the client sees of it.

use super::script;
use nix::sys::signal::Signal;

use crate::support::fastcgi::Request;
use crate::support::http::{find, request_bytes};
use crate::support::process::{process, send_signal};
use crate::support::{Forkhorn, wait_until};

#[test]
fn the_header_of_a_script_becomes_the_head_of_the_response() {
    for (lines, status, reason, field, value, body) in [
        (r"printf 'Content-Type: text/plain\r\n\r\nbody'", 200, "OK", "Content-Type", "text/plain", "body"),
        (r"printf 'Content-Type: text/plain\n\nbody'", 200, "OK", "Content-Type", "text/plain", "body"),
        (r"printf 'Content-Type: text/plain\r\n\nbody'", 200, "OK", "Content-Type", "text/plain", "body"),
        (r"printf 'content-type:text/plain\nX-A:  b \n\nbody'", 200, "OK", "X-A", "b", "body"),
        (
            r"printf 'Status: 404 Nothing Here\nContent-Type: a/b\n\nno'",
            404,
            "Nothing Here",
            "Content-Type",
            "a/b",
            "no",
        ),
        (r"printf 'Status: 299\nContent-Type: a/b\n\nx'", 299, "", "Content-Type", "a/b", "x"),
        (r"printf 'STATUS: 201 Made\nContent-Type: a/b\n\nx'", 201, "Made", "Content-Type", "a/b", "x"),
        (
            r"printf 'Content-Type: a/b\nStatus: 503 Later\nRetry-After: 5\n\nx'",
            503,
            "Later",
            "Retry-After",
            "5",
            "x",
        ),
        (
            r"printf 'Location: http://other.example/x\n\n'",
            302,
            "Found",
            "Location",
            "http://other.example/x",
            "",
        ),
        (
            r"printf 'Location: https://o.example/\nContent-Type: a/b\n\nx'",
            302,
            "Found",
            "Location",
            "https://o.example/",
            "x",
        ),
        (
            r"printf 'Status: 301 Moved\nLocation: http://other.example/x\nContent-Type: a/b\n\nx'",
            301,
            "Moved",
            "Location",
            "http://other.example/x",
            "x",
        ),
        (
            r"printf 'Status: 303 See Other\nLocation: /see/other\n\n'",
            303,
            "See Other",
            "Location",
            "/see/other",
            "",
        ),
        (r"printf 'Content-Type: a/b\nSet-Cookie: a=1\nX-A: \351\n\nx'", 200, "OK", "X-A", "\u{e9}", "x"),
        (r"printf 'Content-Type: a/b\nContent-Length: 4\n\nbody'", 200, "OK", "Content-Length", "4", "body"),
        // cgitb of Python begins so, to be seen whatever came before it.
        (
            r"printf '<!--: spam\nContent-Type: text/html\n\n<p>x'",
            200,
            "OK",
            "Content-Type",
            "text/html",
            "<p>x",
        ),
        (r"printf 'Status: 204 None\n\n'", 204, "None", "X-None", "", ""),
        (r"printf 'Status: 304 Not Modified\nETag: \042x\042\n\n'", 304, "Not Modified", "ETag", "\"x\"", ""),
    ] {
        let forkhorn = script(lines).both().start();
        let mut connection = forkhorn.connect();
        for response in
            [connection.get("/cgi-bin/x.sh"), forkhorn.fcgi(&Request::new("GET", "/cgi-bin/x.sh")).response()]
        {
            assert_eq!((response.status, response.reason.as_str()), (status, reason), "{lines}");
            assert_eq!(response.field(field).unwrap_or_default(), value, "{lines}");
            assert_eq!((response.text().as_str(), response.complete), (body, true), "{lines}");
            assert_eq!(response.field("<!--"), None);
        }
        assert_eq!(connection.request("HEAD", "/cgi-bin/x.sh", &[], b"").status, status, "{lines}");
        assert_eq!(connection.get("/cgi-bin/x.sh").text(), body, "{lines}");
    }
}

#[test]
fn several_fields_of_one_name_stay_several() {
    let forkhorn =
        script(r"printf 'Content-Type: a/b\nSet-Cookie: a=1\nSet-Cookie: b=2\nset-cookie: c=3\n\n'").start();
    assert_eq!(forkhorn.get("/cgi-bin/x.sh").all("Set-Cookie"), ["a=1", "b=2", "c=3"]);
}

#[test]
fn a_header_that_is_none_is_502_and_never_sent() {
    for lines in [
        "true",
        "printf 'no header at all\n\nbody'",
        "printf 'Content-Type text/plain\n\nbody'",
        "printf 'Content-Type: text/plain\n'",
        "printf 'Content-Type: text/plain'",
        "printf '\n\nbody'",
        "printf ': x\n\nbody'",
        "printf 'X Y: z\nContent-Type: a/b\n\nbody'",
        r"printf 'X-A: y\rSet-Cookie: z\nContent-Type: a/b\n\nbody'",
        r"printf 'X-A: y\001z\nContent-Type: a/b\n\nbody'",
        r"printf 'X-A: y\000z\nContent-Type: a/b\n\nbody'",
        r"printf 'X-A: y\n z\nContent-Type: a/b\n\nbody'",
        "printf 'Status: abc\nContent-Type: a/b\n\nbody'",
        "printf 'Status: 99\nContent-Type: a/b\n\nbody'",
        "printf 'Status: 1000 x\nContent-Type: a/b\n\nbody'",
        "printf 'Status: 100 Continue\nContent-Type: a/b\n\nbody'",
        "printf 'Status: 200 a\nStatus: 404 b\nContent-Type: a/b\n\nbody'",
        "printf 'Content-Length: 5\nContent-Length: 4\nContent-Type: a/b\n\nbody'",
        "printf 'Content-Length: +4\nContent-Type: a/b\n\nbody'",
        "head -c 1000000 /dev/zero | tr '\\0' 'x'",
        "yes 'X-A: b' | head -n 100000",
    ] {
        let forkhorn = script(lines).both().start();
        for response in
            [forkhorn.get("/cgi-bin/x.sh"), forkhorn.fcgi(&Request::new("GET", "/cgi-bin/x.sh")).response()]
        {
            assert_eq!(response.status, 502, "{lines}");
            assert!(response.all("Set-Cookie").is_empty() && response.all("X-A").is_empty(), "{lines}");
        }
        forkhorn.wait_for_log("ERROR*x.sh");
    }
}

#[test]
fn framing_fields_of_a_script_are_not_believed() {
    let forkhorn = Forkhorn::new()
        .script("te.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\nTransfer-Encoding: chunked\\nConnection: close\\nKeep-Alive: 9\\n\\nbody'\n")
        .script("short.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\nContent-Length: 9\\n\\nbody'\n")
        .script("long.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\nContent-Length: 2\\n\\nbody'\n")
        .cgi_folder()
        .start();
    let mut connection = forkhorn.connect();
    let response = connection.get("/cgi-bin/te.sh");
    assert_eq!(
        (response.status, response.field("Keep-Alive"), response.field("Connection")),
        (200, None, None)
    );
    assert_eq!(response.text(), "body");
    let response = connection.get("/cgi-bin/long.sh");
    assert_eq!(response.text(), "bo");
    // What never came can't be made up: the client sees that the answer is broken.
    let mut connection = forkhorn.connect();
    let response = connection.get("/cgi-bin/short.sh");
    assert!(!response.complete || response.status == 502, "{response:?}");
}

#[test]
fn a_local_redirect_is_answered_by_what_it_names() {
    let target = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s %s %s %s %s' \
        \"$REQUEST_METHOD\" \"$SCRIPT_NAME\" \"$PATH_INFO\" \"$QUERY_STRING\" \"$(cat)\"\n";
    let forkhorn = Forkhorn::new()
        .wsgi("probe.py")
        .both()
        .script("target.sh", target)
        .script("local.sh", "#!/bin/sh\nprintf 'Location: /cgi-bin/target.sh/a/b?c=d\\n\\n'\n")
        .script("twice.sh", "#!/bin/sh\nprintf 'Location: /cgi-bin/local.sh\\r\\n\\r\\n'\n")
        .script("app.sh", "#!/bin/sh\nprintf 'Location: /environ?from=script\\n\\n'\n")
        .script("loop.sh", "#!/bin/sh\nprintf 'Location: /cgi-bin/loop.sh\\n\\n'\n")
        .script("nowhere.sh", "#!/bin/sh\nprintf 'Location: /cgi-bin/missing.sh\\n\\n'\n")
        .script("out.sh", "#!/bin/sh\nprintf 'Location: /cgi-bin/../../../../bin/sh\\n\\n'\n")
        .cgi_folder()
        .start();
    // A POST becomes a GET without a body (RFC 3875 §6.2.2 speaks of a new request).
    for method in ["GET", "POST"] {
        let response =
            forkhorn.request(method, "/cgi-bin/local.sh", &[], if method == "POST" { b"body" } else { b"" });
        assert_eq!(response.status, 200);
        assert_eq!(response.field("Location"), None);
        assert_eq!(response.text(), "GET /cgi-bin/target.sh /a/b c=d ");
    }
    assert_eq!(forkhorn.get("/cgi-bin/twice.sh").text(), "GET /cgi-bin/target.sh /a/b c=d ");
    let answer = forkhorn.fcgi(&Request::new("GET", "/cgi-bin/twice.sh"));
    assert_eq!(answer.response().text(), "GET /cgi-bin/target.sh /a/b c=d ");
    assert_eq!(forkhorn.get("/cgi-bin/app.sh").json()["QUERY_STRING"], "from=script");
    assert_eq!(forkhorn.get("/cgi-bin/nowhere.sh").status, 404);
    assert_ne!(forkhorn.get("/cgi-bin/out.sh").status, 200);
    let response = forkhorn.get("/cgi-bin/loop.sh");
    assert!([500, 502, 508].contains(&response.status), "{}", response.status);
    forkhorn.wait_for_log("ERROR*loop.sh");
}

#[test]
fn a_script_named_nph_writes_its_own_status_line() {
    let nph = "#!/bin/sh\nprintf 'HTTP/1.0 299 Fine, thanks\\r\\nContent-Type: text/plain\\r\\nX-A: b\\r\\n\\r\\nbody'\n";
    let forkhorn = Forkhorn::new()
        .script("nph-x.sh", nph)
        .script("nph-bad.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nbody'\n")
        .cgi_folder()
        .both()
        .start();
    let mut connection = forkhorn.connect();
    for _ in 0..2 {
        let response = connection.get("/cgi-bin/nph-x.sh");
        assert_eq!(
            (response.status, response.reason.as_str(), response.field("X-A")),
            (299, "Fine, thanks", Some("b"))
        );
        assert_eq!((response.text().as_str(), response.complete), ("body", true));
        if response.field("Connection") == Some("close") {
            connection = forkhorn.connect();
        }
    }
    let answer = forkhorn.fcgi(&Request::new("GET", "/cgi-bin/nph-x.sh"));
    assert_eq!(answer.response().field("Status"), Some("299 Fine, thanks"));
    assert!(find(&answer.stdout, b"HTTP/1.0").is_none());
    assert_eq!(forkhorn.get("/cgi-bin/nph-bad.sh").status, 502);
}

#[test]
fn output_is_sent_as_it_comes() {
    let forkhorn = script("echo 'Content-Type: text/plain'; echo; echo first; until [ -e go ]; do sleep 0.01; done; echo second").start();
    let mut connection = forkhorn.connect();
    connection.send("GET /cgi-bin/x.sh HTTP/1.1\r\nHost: x\r\n\r\n");
    while find(connection.peek(), b"first\n").is_none() {}
    forkhorn.folder.write("cgi-bin/go", "");
    assert_eq!(connection.read_response().text(), "first\nsecond\n");
}

#[test]
fn scripts_of_old_libraries_run_unchanged() {
    let python = crate::support::python::venv().join("bin/python3");
    let legacy = "import cgi\nform = cgi.FieldStorage()\n\
        print('Content-Type: text/plain')\nprint()\nprint('Hello', form.getvalue('name'), end='')\n";
    let cgitb = "import cgitb; cgitb.enable()\nraise ValueError('shown by cgitb')\n";
    let perl =
        "use CGI;\nmy $q = CGI->new;\nprint $q->header('text/plain'), 'Hello ', scalar $q->param('name');\n";
    let forkhorn = Forkhorn::new()
        .script("legacy.py", format!("#!{}\n{legacy}", python.display()))
        .script("fails.py", format!("#!{}\n{cgitb}", python.display()))
        .script("module.pl", format!("#!/usr/bin/perl\n{perl}"))
        .cgi_folder()
        .both()
        .start();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for name in ["legacy.py", "module.pl"] {
        let target = format!("/cgi-bin/{name}");
        assert_eq!(forkhorn.get(&format!("{target}?name=GET")).text(), "Hello GET", "{name}");
        assert_eq!(forkhorn.request("POST", &target, &form, b"name=POST").text(), "Hello POST", "{name}");
        let request = Request::new("POST", &target).param("CONTENT_TYPE", form[0].1).body("name=FastCGI");
        assert_eq!(forkhorn.fcgi(&request).response().text(), "Hello FastCGI", "{name}");
    }
    let response = forkhorn.get("/cgi-bin/fails.py");
    assert!(response.text().contains("shown by cgitb"), "{}", response.text());
}

#[test]
fn a_script_that_has_ended_tells_the_length_of_its_response() {
    for (method, lines, expected) in [
        ("GET", "printf 'Content-Type: a/b\\n\\nbody'", Some("4")),
        ("GET", "printf 'Content-Type: a/b\\n\\n'", Some("0")),
        ("GET", "printf 'Content-Type: a/b\\nContent-Length: 2\\n\\nok'", Some("2")),
        // What a GET would get is not known.
        ("HEAD", "printf 'Content-Type: a/b\\n\\n'", None),
        ("GET", "printf 'Status: 304 Not Modified\\n\\n'", None),
    ] {
        let forkhorn =
            script(&format!("echo $$ > pid; until test -e go; do sleep 0.01; done; {lines}")).start();
        let folder = forkhorn.folder.join("cgi-bin");
        let mut connection = forkhorn.connect();
        connection.send(request_bytes(method, "/cgi-bin/x.sh", &[], b""));
        let read = || std::fs::read_to_string(folder.join("pid")).unwrap_or_default();
        wait_until("the script runs", || read().ends_with('\n'));
        // The worker is to find the output and the end of the script at once.
        let worker = forkhorn.family().iter().map(|process| process.pid).find(|pid| *pid != forkhorn.pid());
        let worker = worker.expect("a worker");
        send_signal(worker, Signal::SIGSTOP);
        std::fs::write(folder.join("go"), "").expect("room");
        let pid = read().trim().parse().expect("a number");
        wait_until("the script has ended", || process(pid).is_some_and(|process| process.state == 'Z'));
        send_signal(worker, Signal::SIGCONT);
        let response = connection.read_response_to(method);
        assert_eq!(response.field("Content-Length"), expected, "{method} {lines}: {response:?}");
    }
}

#[test]
fn the_scripts_of_the_demonstration_answer() {
    let scripts = crate::support::project().join("cgi-bin");
    let forkhorn = Forkhorn::new().mount_path("--cgi", "/cgi-bin", &scripts).both().start();
    for (target, expected) in [
        ("/cgi-bin/form_handler.pl?name=Zo%C3%AB", "Hello, Zo\u{eb}!"),
        ("/cgi-bin/form_handler.py?name=Zo%C3%AB", "Hello, Zo\u{eb}!"),
        ("/cgi-bin/env.pl/a/b?c=d", "<td>/a/b</td>"),
        ("/cgi-bin/env.py/a/b?c=d", "<td>/a/b</td>"),
        ("/cgi-bin/hello.sh?x", "Query string: x"),
        ("/cgi-bin/nph-hello.sh", "non-parsed header"),
        ("/cgi-bin/redirect.sh", "Hello, local redirect!"),
    ] {
        for response in [forkhorn.get(target), forkhorn.fcgi(&Request::new("GET", target)).response()] {
            assert_eq!(response.status, 200, "{target}");
            assert!(response.text().contains(expected), "{target}: {}", response.text());
        }
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = "name=%3Cb%3E&message=a+b%0D%0Ac".as_bytes();
    for name in ["form_handler.pl", "form_handler.py"] {
        let page = forkhorn.request("POST", &format!("/cgi-bin/{name}"), &form, body).text();
        assert!(page.contains("Hello, &lt;b&gt;!") && page.contains("a b\nc"), "{name}: {page}");
    }
}
