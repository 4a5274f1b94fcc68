//! The environ: the keys that PEP 3333 demands, true to the facts, and the same over every protocol.

use serde_json::Value;

use crate::support::fastcgi::Request;
use crate::support::{Address, Forkhorn};

fn environ_over_both(target: &str) -> [Value; 2] {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    [forkhorn.get(target).json(), forkhorn.fcgi(&Request::new("GET", target)).response().json()]
}

#[test]
fn the_required_keys_are_there_and_true() {
    for environ in environ_over_both("/environ?a=%20b") {
        for (key, value) in [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", "/environ"),
            ("QUERY_STRING", "a=%20b"),
            ("REQUEST_URI", "/environ?a=%20b"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("wsgi.version", "(1, 0)"),
            ("wsgi.url_scheme", "http"),
            ("wsgi.multithread", "False"),
            ("wsgi.multiprocess", "False"),
            ("wsgi.run_once", "False"),
            ("wsgi.input_terminated", "True"),
        ] {
            assert_eq!(environ[key], value, "{key} in {environ}");
        }
        for key in ["SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "HTTP_HOST"] {
            assert!(environ[key].as_str().is_some_and(|value| !value.is_empty()), "{key} in {environ}");
        }
        for key in ["wsgi.input", "wsgi.errors", "wsgi.file_wrapper"] {
            assert!(environ[key].is_string(), "{key}");
        }
        for absent in
            ["HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_PROXY", "PATH", "HOME", "GATEWAY_INTERFACE_"]
        {
            assert!(environ.get(absent).is_none(), "{absent}");
        }
    }
}

#[test]
fn the_flags_say_how_many_processes_and_threads_there_are() {
    for (workers, threads, multiprocess, multithread) in [
        (1, "1", "False", "False"),
        (2, "1", "True", "False"),
        (1, "3", "False", "True"),
        (2, "2", "True", "True"),
    ] {
        let forkhorn = Forkhorn::new().wsgi("probe.py").workers(workers).args(["--threads", threads]).start();
        let environ = forkhorn.get("/environ").json();
        assert_eq!(environ["wsgi.multiprocess"], multiprocess, "{workers} workers");
        assert_eq!(environ["wsgi.multithread"], multithread, "{threads} threads");
    }
}

#[test]
fn the_scheme_comes_from_the_web_server_or_the_operator() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().args(["--url-scheme", "https"]).start();
    let environ = forkhorn.get("/environ").json();
    assert_eq!((&environ["wsgi.url_scheme"], &environ["HTTPS"]), (&"https".into(), &"on".into()));
    for (name, value, scheme) in [
        ("HTTPS", "on", "https"),
        ("HTTPS", "ON", "https"),
        ("HTTPS", "1", "https"),
        ("HTTPS", "off", "http"),
        ("HTTPS", "", "http"),
        ("REQUEST_SCHEME", "https", "https"),
        ("REQUEST_SCHEME", "http", "http"),
        ("HTTP_HTTPS", "on", "http"),
        ("HTTP_X_FORWARDED_PROTO", "https", "http"),
    ] {
        let environ = forkhorn.fcgi(&Request::new("GET", "/environ").param(name, value)).response().json();
        assert_eq!(environ["wsgi.url_scheme"], scheme, "{name}={value}");
    }
}

#[test]
fn strings_are_native_strings_in_latin_1() {
    for environ in environ_over_both("/environ/%C3%BC%FF%E2%82%AC/environ?q=%C3%BC") {
        assert_eq!(environ["PATH_INFO"], "/environ/\u{c3}\u{bc}\u{ff}\u{e2}\u{82}\u{ac}/environ");
        assert_eq!(environ["REQUEST_URI"], "/environ/%C3%BC%FF%E2%82%AC/environ?q=%C3%BC");
    }
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    let mut connection = forkhorn.connect();
    connection.send(b"GET /environ HTTP/1.1\r\nHost: x\r\nX-A: \xc3\xbc\xff\r\nCookie: \xe9\r\n\r\n");
    let environ = connection.read_response().json();
    assert_eq!(
        (&environ["HTTP_X_A"], &environ["HTTP_COOKIE"]),
        (&"\u{c3}\u{bc}\u{ff}".into(), &"\u{e9}".into())
    );
}

#[test]
fn nothing_of_one_request_is_seen_by_the_next() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    let mut connection = forkhorn.connect();
    let plain = connection.get("/environ").json();
    let fields =
        [("X-Secret", "1"), ("Cookie", "a=b"), ("Content-Type", "text/x"), ("Authorization", "Basic eDp5")];
    for _ in 0..3 {
        assert_eq!(connection.request("POST", "/environ?secret", &fields, b"body").status, 200);
        assert_eq!(
            connection.get("/environ").json().as_object().map(|all| all.len()),
            plain.as_object().map(|all| all.len())
        );
    }
    let mut peer = forkhorn.peer();
    let plain = peer.request(&Request::new("GET", "/environ").keep()).response().json();
    let secret =
        Request::new("POST", "/environ?x").keep().param("HTTP_X_SECRET", "1").param("OTHER", "2").body("b");
    peer.request(&secret);
    assert_eq!(peer.request(&Request::new("GET", "/environ").keep()).response().json(), plain);
}

#[test]
fn an_application_may_change_its_environ_without_harm() {
    let code = "def application(environ, start_response):\n\
        \x20   seen = environ.get('left.behind', 'nothing')\n\
        \x20   environ['left.behind'] = 'something'\n\
        \x20   environ['REQUEST_METHOD'] = 'CHANGED'\n\
        \x20   environ.pop('PATH_INFO')\n\
        \x20   start_response('200 OK', [])\n\
        \x20   return [seen.encode()]\n";
    let forkhorn = Forkhorn::new().code(code).start();
    let mut connection = forkhorn.connect();
    for _ in 0..3 {
        assert_eq!(connection.get("/x").text(), "nothing");
    }
}

#[test]
fn mounts_split_the_path_between_script_name_and_path_info() {
    let probe = crate::support::fixture("wsgi/probe.py").display().to_string();
    let rules = crate::support::fixture("wsgi/rules.py").display().to_string();
    let forkhorn = Forkhorn::new()
        .wsgi("probe.py")
        .arg("--mount")
        .arg(format!("/shop={probe}"))
        .arg("--mount")
        .arg(format!("/shop/deep/er={rules}"))
        .both()
        .start();
    for (target, script_name, path_info) in [
        ("/", "", "/"),
        ("/environ", "", "/environ"),
        ("/shop", "/shop", ""),
        ("/shop/", "/shop", "/"),
        ("/shop/environ", "/shop", "/environ"),
        ("/shop/a%2Fb", "/shop", "/a/b"),
        ("/sh%6Fp/x", "/shop", "/x"),
        ("/shopping", "", "/shopping"),
        ("/shop/deep", "/shop", "/deep"),
        ("/shop/deep/erx", "/shop", "/deep/erx"),
    ] {
        let over_http = forkhorn.get(target).json();
        let over_fastcgi = forkhorn.fcgi(&Request::new("GET", target)).response().json();
        for environ in [&over_http, &over_fastcgi] {
            assert_eq!(environ["SCRIPT_NAME"], script_name, "{target}");
            assert_eq!(environ["PATH_INFO"], path_info, "{target}");
            assert_eq!(environ["REQUEST_URI"], target);
        }
    }
    assert_eq!(forkhorn.get("/shop/deep/er/one_block").text(), "one block");
}

#[test]
fn without_an_application_at_the_root_the_rest_is_404() {
    let probe = crate::support::fixture("wsgi/probe.py").display().to_string();
    let forkhorn = Forkhorn::new().arg("--mount").arg(format!("/shop={probe}")).both().start();
    assert_eq!(forkhorn.get("/shop/pid").status, 200);
    for target in ["/", "/other", "/shopping"] {
        assert_eq!(forkhorn.get(target).status, 404, "{target}");
        assert_eq!(forkhorn.fcgi(&Request::new("GET", target)).response().status, 404, "{target}");
    }
}

#[test]
fn a_unix_socket_has_no_address_but_the_keys_are_there() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let path = forkhorn.folder.join("http.sock");
    let forkhorn = forkhorn.http(&format!("unix:{}", path.display())).start();
    assert_eq!(forkhorn.http(), &Address::Unix(path));
    let environ = forkhorn.get("/environ").json();
    for key in ["SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR"] {
        assert!(environ[key].is_string(), "{key} in {environ}");
    }
    assert_ne!(environ["SERVER_NAME"], "");
    assert_ne!(environ["SERVER_PORT"], "");
}

#[test]
fn what_an_application_says_goes_to_the_log_line_by_line() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    assert_eq!(forkhorn.get("/log").text(), "logged\n");
    for line in ["one line", "another line", "printed to stderr"] {
        forkhorn.wait_for_log(line);
    }
}

#[test]
fn a_client_that_has_gone_ends_the_iteration() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    for (name, fastcgi) in [("over-http", false), ("over-fastcgi", true)] {
        let note = forkhorn.folder.join(name);
        let target = format!("/big?bytes=4000000000&note={}", note.display());
        if fastcgi {
            let mut peer = forkhorn.peer();
            peer.send(Request::new("GET", &target).bytes());
            peer.read_record().expect("the answer begins");
        } else {
            let mut client = forkhorn.connect();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(!client.peek().is_empty());
        }
        crate::support::wait_until("the iterable is closed", || forkhorn.folder.read(name) == "closed");
        assert_eq!(forkhorn.get("/pid").status, 200);
    }
}

#[test]
fn plain_files_are_served_and_nothing_else_of_their_folder() {
    let forkhorn = Forkhorn::new();
    forkhorn.folder.write("site/index.html", "<p>start");
    forkhorn.folder.write("site/sub/style.css", "p {}");
    forkhorn.folder.write("site/large.bin", vec![b'z'; 3_000_000]);
    forkhorn.folder.write("secret.txt", "secret");
    std::os::unix::fs::symlink(forkhorn.folder.join("secret.txt"), forkhorn.folder.join("site/link.txt"))
        .expect("a link");
    let site = forkhorn.folder.join("site");
    let forkhorn = forkhorn.mount_path("--static", "/", &site).both().start();
    let mut connection = forkhorn.connect();
    for (target, kind, body) in [
        ("/index.html", "text/html", "<p>start"),
        ("/", "text/html", "<p>start"),
        ("/sub/style.css", "text/css", "p {}"),
    ] {
        let response = connection.get(target);
        assert_eq!((response.status, response.text().as_str()), (200, body), "{target}");
        assert!(response.field("Content-Type").is_some_and(|value| value.starts_with(kind)), "{target}");
        assert_eq!(forkhorn.fcgi(&Request::new("GET", target)).response().text(), body, "{target}");
    }
    assert!(connection.get("/large.bin").body == vec![b'z'; 3_000_000]);
    let head = connection.request("HEAD", "/large.bin", &[], b"");
    assert_eq!((head.field("Content-Length"), head.body.len()), (Some("3000000"), 0));
    let modified = connection.get("/index.html").field("Last-Modified").map(str::to_owned);
    if let Some(modified) = modified {
        let response = connection.request("GET", "/index.html", &[("If-Modified-Since", &modified)], b"");
        assert_eq!((response.status, response.body.len()), (304, 0));
    }
    assert_eq!(connection.request("POST", "/index.html", &[], b"x").status, 405);
    for target in [
        "/missing",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/sub/..%2f..%2fsecret.txt",
        "/link.txt",
        "/index.html/x",
        "/index.html%00",
        "/sub",
    ] {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let response = connection.read_response();
        assert!(
            response.status >= 300 && !response.text().contains("secret"),
            "{target}: {}",
            response.status
        );
    }
}
