//! What a script gets: meta-variables, environment, arguments, working directory, descriptors, body.

use super::{Dump, scripts};
use crate::support::fastcgi::Request;
use crate::support::http::request_bytes;
use crate::support::{Forkhorn, fixture};

#[test]
fn the_environment_holds_the_meta_variables_and_nothing_of_the_daemon() {
    let forkhorn = scripts()
        .env("SECRET_OF_THE_DAEMON", "x")
        .env("LD_LIBRARY_PATH", "/nowhere")
        .args(["--document-root", "/tmp"]);
    let forkhorn = forkhorn
        .args(["--cgi-env", "OF_THE_OPERATOR=1", "--cgi-env", "HANDED_ON"])
        .env("HANDED_ON", "2")
        .start();
    let fields = [
        ("User-Agent", "test"),
        ("X-A", "1"),
        ("x-a", "2"),
        ("Content-Type", "text/x"),
        ("Authorization", "Basic eDp5"),
    ];
    let mut dump = Dump::of(&forkhorn.request("POST", "/cgi-bin/dump.pl/a%20b?c=%64&e", &fields, b"body"));
    let script = fixture("cgi-bin/dump.pl").display().to_string();
    for (name, value) in [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("REQUEST_METHOD", "POST"),
        ("SCRIPT_NAME", "/cgi-bin/dump.pl"),
        ("PATH_INFO", "/a b"),
        ("PATH_TRANSLATED", "/tmp/a b"),
        ("QUERY_STRING", "c=%64&e"),
        ("REQUEST_URI", "/cgi-bin/dump.pl/a%20b?c=%64&e"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("CONTENT_LENGTH", "4"),
        ("CONTENT_TYPE", "text/x"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("SCRIPT_FILENAME", &script),
        ("DOCUMENT_ROOT", "/tmp"),
        ("HTTP_USER_AGENT", "test"),
        ("HTTP_X_A", "1, 2"),
        ("HTTP_HOST", "localhost"),
        ("OF_THE_OPERATOR", "1"),
        ("HANDED_ON", "2"),
    ] {
        assert_eq!(dump.env.remove(name).as_deref(), Some(value), "{name}");
    }
    for (name, is_right) in [
        ("SERVER_SOFTWARE", (|value| value.starts_with("forkhorn")) as fn(&str) -> bool),
        ("SERVER_PORT", |value| value.parse::<u16>().is_ok()),
        ("REMOTE_PORT", |value| value.parse::<u16>().is_ok()),
        ("PATH", |value| value.contains("/bin")),
    ] {
        assert!(dump.env.remove(name).is_some_and(|value| is_right(&value)), "{name}");
    }
    for name in [
        "SERVER_ADDR",
        "REQUEST_SCHEME",
        "REDIRECT_STATUS",
        "LANG",
        "LC_ALL",
        "TZ",
        "UNIQUE_ID",
        "REQUEST_ID",
    ] {
        dump.env.remove(name);
    }
    assert!(dump.env.is_empty(), "more variables than announced: {:?}", dump.env);
    assert_eq!(dump.body, b"body");
}

#[test]
fn the_same_meta_variables_come_over_fastcgi() {
    let forkhorn = scripts().start();
    let request =
        Request::new("POST", "/cgi-bin/dump.pl/a%20b?c").param("SCRIPT_NAME", "/cgi-bin/dump.pl/a b");
    let request = request
        .param("LD_PRELOAD", "/evil.so")
        .param("PERL5LIB", "/evil")
        .param("BASH_FUNC_x%%", "() { :; }");
    let dump = Dump::of(&forkhorn.fcgi(&request.body("a body")).response());
    assert_eq!(dump.var("SCRIPT_NAME"), "/cgi-bin/dump.pl");
    assert_eq!(dump.var("PATH_INFO"), "/a b");
    assert_eq!(dump.var("REMOTE_ADDR"), "192.0.2.7");
    assert_eq!(dump.var("SERVER_PORT"), "80");
    assert_eq!(dump.var("CONTENT_LENGTH"), "6");
    assert_eq!(dump.body, b"a body");
    for name in ["LD_PRELOAD", "PERL5LIB", "BASH_FUNC_x%%"] {
        assert_eq!(dump.env.get(name), None);
    }
    // nginx sends these empty.
    let dump = Dump::of(&forkhorn.fcgi(&Request::new("GET", "/cgi-bin/dump.pl")).response());
    assert_eq!(dump.env.get("CONTENT_TYPE").map_or("", String::as_str), "");
    assert!(["", "0"].contains(&dump.env.get("CONTENT_LENGTH").map_or("", String::as_str)));
    assert_ne!(dump.var("SERVER_NAME"), "");
    assert!(dump.body.is_empty());
}

#[test]
fn arguments_directory_and_descriptors_are_those_of_a_script() {
    let forkhorn = scripts().start();
    let script = fixture("cgi-bin/dump.pl");
    // CVE-2012-1823 and its kin: words of the query string are not arguments.
    for query in ["", "?-d+x", "?-s", "?%AD", "?a+b", "?--version"] {
        let dump = Dump::of(&forkhorn.get(&format!("/cgi-bin/dump.pl{query}")));
        assert_eq!(dump.arguments.len(), 1, "{query}: {:?}", dump.arguments);
        assert_eq!(dump.directory, script.parent().expect("a folder").display().to_string());
        assert_eq!(dump.descriptors, ["0", "1", "2"]);
        let (pid, group) = dump.process.split_once(' ').expect("two numbers");
        assert_eq!(pid, group, "a script leads its process group");
    }
}

#[test]
fn the_path_is_split_where_the_script_ends() {
    let dump = std::fs::read(fixture("cgi-bin/dump.pl")).expect("the fixture");
    let forkhorn = Forkhorn::new();
    forkhorn.folder.script("cgi-bin/sub/deep.pl", &dump);
    forkhorn.folder.script("cgi-bin/with space.pl", &dump);
    forkhorn.folder.script("cgi-bin/\u{fc}.pl", &dump);
    let forkhorn = forkhorn.script("x.pl", &dump).cgi_folder().args(["--document-root", "/tmp"]).start();
    for (target, script_name, path_info) in [
        ("/cgi-bin/x.pl", "/cgi-bin/x.pl", ""),
        ("/cgi-bin/x.pl/", "/cgi-bin/x.pl", "/"),
        ("/cgi-bin/x.pl/a/b.pl", "/cgi-bin/x.pl", "/a/b.pl"),
        ("/cgi-bin/x.pl/a%2Fb", "/cgi-bin/x.pl", "/a/b"),
        ("/cgi-bin/x.pl/%C3%BC", "/cgi-bin/x.pl", "/\u{c3}\u{bc}"),
        ("/cgi-bin/x.pl/%FF", "/cgi-bin/x.pl", "/\u{ff}"),
        ("/cgi-bin/x.pl/a%0Ab", "/cgi-bin/x.pl", "/a\nb"),
        ("/cgi-bin/x.pl/%2541", "/cgi-bin/x.pl", "/%41"),
        ("/cgi-bin/sub/deep.pl/x", "/cgi-bin/sub/deep.pl", "/x"),
        ("/cgi-bin/with%20space.pl/x", "/cgi-bin/with space.pl", "/x"),
        ("/cgi-bin/%C3%BC.pl", "/cgi-bin/\u{c3}\u{bc}.pl", ""),
    ] {
        let dump = Dump::of(&forkhorn.get(target));
        assert_eq!(dump.var("SCRIPT_NAME"), script_name, "{target}");
        assert_eq!(dump.env.get("PATH_INFO").map_or("", String::as_str), path_info, "{target}");
        assert_eq!(dump.var("REQUEST_URI"), target);
        let translated = dump.env.get("PATH_TRANSLATED").map_or("", String::as_str);
        let expected = if path_info.is_empty() { String::new() } else { format!("/tmp{path_info}") };
        assert_eq!(translated, expected, "{target}");
    }
}

#[test]
fn a_script_file_of_the_web_server_is_run_if_it_lies_in_a_folder_of_scripts() {
    let forkhorn = scripts().start();
    let script = fixture("cgi-bin/dump.pl").display().to_string();
    for (name, path_info) in [("/anything/dump.pl", ""), ("/anything/dump.pl", "/a/b")] {
        let request = Request::new("GET", &format!("{name}{path_info}")).param("SCRIPT_FILENAME", &script);
        let request = request.param("SCRIPT_NAME", name).param("PATH_INFO", path_info);
        let dump = Dump::of(&forkhorn.fcgi(&request).response());
        assert_eq!(dump.var("SCRIPT_NAME"), name);
        assert_eq!(dump.env.get("PATH_INFO").map_or("", String::as_str), path_info);
        assert_eq!(dump.var("SCRIPT_FILENAME"), script);
    }
}

#[test]
fn the_length_of_a_body_is_always_true() {
    let forkhorn = scripts().start();
    let mut connection = forkhorn.connect();
    connection.send("POST /cgi-bin/dump.pl HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    let dump = Dump::of(&connection.read_response());
    assert_eq!((dump.var("CONTENT_LENGTH"), dump.body.as_slice()), ("5", b"abcde".as_slice()));
    assert_eq!(dump.env.get("HTTP_TRANSFER_ENCODING"), None);

    let mut request = Request::new("POST", "/cgi-bin/dump.pl").without("CONTENT_LENGTH");
    request.body = vec![b'x'; 300_000];
    let dump = Dump::of(&forkhorn.fcgi(&request).response());
    assert_eq!((dump.var("CONTENT_LENGTH"), dump.body.len()), ("300000", 300_000));
}

#[test]
fn large_bodies_go_through_a_script_both_ways() {
    let echo = "echo 'Content-Type: application/octet-stream'; echo; exec cat";
    let forkhorn = super::script(echo).both().start();
    let body: Vec<u8> = (0..20_000_000_u32).map(|number| (number % 251) as u8).collect();
    let response = forkhorn.request("POST", "/cgi-bin/x.sh", &[], &body);
    assert!(response.complete && response.body == body, "{} bytes came back", response.body.len());
    let answer = forkhorn.fcgi(&Request::new("POST", "/cgi-bin/x.sh").body(body[..3_000_000].to_vec()));
    assert!(answer.response().body == body[..3_000_000], "the echo differs");
}

#[test]
fn authorization_is_given_to_scripts_only_if_the_operator_says_so() {
    for (option, expected) in [(None, None), (Some("--cgi-pass-authorization"), Some("Basic eDp5"))] {
        let forkhorn = option.into_iter().fold(scripts(), Forkhorn::arg).start();
        let fields = [("Authorization", "Basic eDp5"), ("Proxy-Authorization", "Basic eDp5")];
        let dump = Dump::of(&forkhorn.request("GET", "/cgi-bin/dump.pl", &fields, b""));
        assert_eq!(dump.env.get("HTTP_AUTHORIZATION").map(String::as_str), expected);
        assert!(expected.is_some() || !dump.env.contains_key("HTTP_PROXY_AUTHORIZATION"));
        assert_eq!(dump.env.get("REMOTE_USER"), None);
        let request = Request::new("GET", "/cgi-bin/dump.pl").param("HTTP_AUTHORIZATION", "Basic eDp5");
        let dump = Dump::of(&forkhorn.fcgi(&request).response());
        assert_eq!(dump.env.get("HTTP_AUTHORIZATION").map(String::as_str), expected);
    }
}

#[test]
fn what_describes_the_request_is_not_for_the_operator_to_set() {
    for variable in ["SCRIPT_NAME=/configured", "GATEWAY_INTERFACE=x", "HTTP_COOKIE=a", "REMOTE_USER=admin"] {
        let (code, log) = scripts().args(["--cgi-env", variable]).run_to_exit();
        assert!(code == 2 && log.contains("--cgi-env"), "{variable}: {code} {log}");
    }
}

#[test]
fn parameters_of_the_web_server_reach_scripts_only_if_the_operator_names_them() {
    let forkhorn = scripts();
    let forkhorn =
        forkhorn.args(["--cgi-pass", "APP_ENV", "--cgi-pass", "GEO_*", "--cgi-env", "APP_MODE=mine"]).start();
    let request = Request::new("GET", "/cgi-bin/dump.pl")
        .param("APP_ENV", "prod")
        .param("GEO_COUNTRY", "de")
        .param("GEO_PATH", "/evil")
        .param("APP_MODE", "theirs")
        .param("DATABASE_URL", "sqlite:evil")
        .param("UWSGI_FILE", "evil.py")
        .param("LD_PRELOAD", "evil.so")
        .param("SERVER_ADMIN", "me");
    let dump = Dump::of(&forkhorn.fcgi(&request).response());
    for (name, value) in
        [("APP_ENV", "prod"), ("GEO_COUNTRY", "de"), ("APP_MODE", "mine"), ("SERVER_ADMIN", "me")]
    {
        assert_eq!(dump.var(name), value);
    }
    for name in ["GEO_PATH", "DATABASE_URL", "UWSGI_FILE", "LD_PRELOAD"] {
        assert_eq!(dump.env.get(name), None, "{name}");
    }
    forkhorn.wait_for_log("INFO*DATABASE_URL*--cgi-pass");
    for name in ["LD_PRELOAD", "PERL5LIB", "PYTHON*", "*", "HOME"] {
        let (code, log) = scripts().args(["--cgi-pass", name]).run_to_exit();
        assert!(code == 2 && log.contains("--cgi-pass"), "{name}: {code} {log}");
    }
}

#[test]
fn a_value_that_a_shell_could_take_for_a_function_is_data() {
    // CVE-2014-6271.
    let forkhorn = scripts().start();
    let attack = "() { :;}; echo; echo vulnerable";
    let mut connection = forkhorn.connect();
    connection.send(request_bytes(
        "GET",
        "/cgi-bin/dump.pl",
        &[("User-Agent", attack), ("X-A", attack)],
        b"",
    ));
    let dump = Dump::of(&connection.read_response());
    for name in ["HTTP_USER_AGENT", "HTTP_X_A"] {
        assert!(dump.env.get(name).is_none_or(|value| value == attack));
    }
}
