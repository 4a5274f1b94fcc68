//! Requests of HTTP listeners.

use super::*;

fn named(method: &str, target: &str, fields: &[(&str, &str)]) -> (String, MetaVariables) {
    let mut meta = MetaVariables::default();
    let route = routed(&gateway(), &http_head(method, target, fields), &mut meta);
    (route, meta)
}

#[test]
fn a_request_has_exactly_the_variables_of_rfc_3875_and_its_fields() {
    let mut head = http_head(
        "POST",
        "/app/b%20c?q=%20",
        &[
            ("Host", "example.org:8000"),
            ("Content-Type", "text/plain"),
            ("content-length", "5"),
            ("X-Foo", "1"),
            ("accept", "*/*"),
        ],
    );
    head.body = BodyLength::Known(5);
    let mut meta = MetaVariables::default();
    assert_eq!(routed(&gateway(), &head, &mut meta), "app 1");
    let mut all: Vec<_> = meta
        .iter()
        .map(|(name, value)| format!("{}={}", name.as_bytes().escape_ascii(), value.escape_ascii()))
        .collect();
    all.sort();
    let software = format!("SERVER_SOFTWARE=forkhorn/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        all,
        [
            "CONTENT_LENGTH=5",
            "CONTENT_TYPE=text/plain",
            "GATEWAY_INTERFACE=CGI/1.1",
            "HTTP_ACCEPT=*/*",
            "HTTP_HOST=example.org:8000",
            "HTTP_X_FOO=1",
            "PATH_INFO=/b c",
            "QUERY_STRING=q=%20",
            "REMOTE_ADDR=192.0.2.1",
            "REMOTE_PORT=4711",
            "REQUEST_METHOD=POST",
            "REQUEST_SCHEME=http",
            "REQUEST_URI=/app/b%20c?q=%20",
            "SCRIPT_NAME=/app",
            "SERVER_ADDR=127.0.0.1",
            "SERVER_NAME=example.org",
            "SERVER_PORT=8000",
            "SERVER_PROTOCOL=HTTP/1.1",
            software.as_str(),
        ]
    );
}

#[test]
fn the_same_buffers_serve_the_next_request_and_keep_nothing_of_the_former() {
    let mut meta = MetaVariables::default();
    let first = http_head("GET", "/app/1", &[("Host", "a"), ("X-Secret", "1"), ("Cookie", "c")]);
    routed(&gateway(), &first, &mut meta);
    routed(&gateway(), &http_head("GET", "/2", &[("Host", "b")]), &mut meta);
    assert_eq!((value(&meta, "HTTP_X_SECRET"), value(&meta, "HTTP_COOKIE")), (None, None));
    assert_eq!((value(&meta, "HTTP_HOST"), value(&meta, "PATH_INFO")), (Some("b"), Some("/2")));
    assert_eq!(value(&meta, "QUERY_STRING"), Some(""));
}

#[test]
fn paths_are_decoded_split_at_the_mount_and_never_climb() {
    for (target, route, script_name, path_info) in [
        ("/", "app 0", "", "/"),
        ("/x", "app 0", "", "/x"),
        ("/app", "app 1", "/app", ""),
        ("/app/", "app 1", "/app", "/"),
        ("/app?x", "app 1", "/app", ""),
        ("/apple", "app 0", "", "/apple"),
        ("/%61pp/x", "app 1", "/app", "/x"),
        ("/app%2Fx%2fy", "app 1", "/app", "/x/y"),
        ("/app/%252e%252e/x", "app 1", "/app", "/%2e%2e/x"),
        ("/app/../cgi-bin/x.pl", "cgi /srv/cgi /x.pl", "/cgi-bin", "/x.pl"),
        ("/static/%2e%2e/cgi-bin/x.pl", "cgi /srv/cgi /x.pl", "/cgi-bin", "/x.pl"),
        ("/static/..%2fcgi-bin%2fx.pl", "cgi /srv/cgi /x.pl", "/cgi-bin", "/x.pl"),
        ("/app/caf%C3%A9", "app 1", "/app", r"/caf\xc3\xa9"),
        ("/app/a%0ab", "app 1", "/app", r"/a\nb"),
        ("/app/a%3fb", "app 1", "/app", "/a?b"),
        ("/a//b/", "app 0", "", "/a//b/"),
        ("//x", "app 0", "", "//x"),
        ("/app//x", "app 1", "/app", "//x"),
        ("//app/x", "app 1", "/app", "/x"),
        ("///cgi-bin//x.pl", "cgi /srv/cgi //x.pl", "/cgi-bin", "//x.pl"),
        ("/cgi-bin%2fx.pl/a//b", "cgi /srv/cgi /x.pl/a//b", "/cgi-bin", "/x.pl/a//b"),
        ("/CGI-BIN/x.pl", "app 0", "", "/CGI-BIN/x.pl"),
        ("/static/a.css", "static /srv/static", "/static", "/a.css"),
        ("http://example.org/app/x?y", "app 1", "/app", "/x"),
        ("http://example.org", "app 0", "", "/"),
    ] {
        let (found, meta) = named("GET", target, &[("Host", "x")]);
        assert_eq!(found, route, "{target}");
        assert_eq!(
            script_name_and_path_info(&meta),
            (script_name.to_owned(), path_info.to_owned()),
            "{target}"
        );
    }
    for target in [
        "/..",
        "/../etc/passwd",
        "/app/../../x",
        "/%2e%2e/x",
        "/cgi-bin/..%2f..%2fx",
        "/a%00.pl",
        "/a%",
        "/a%4",
        "/a%zz",
        "/%%32%65",
        "/a#b",
        "x",
        "",
        "example.org:443",
        "*",
    ] {
        let (found, meta) = named("GET", target, &[("Host", "x")]);
        assert_eq!(found, "400", "{target}");
        assert_eq!(value(&meta, "REMOTE_ADDR"), Some("192.0.2.1"), "for the access log");
    }
}

#[test]
fn request_uri_stays_raw_and_is_no_url() {
    for (target, uri, query) in [
        ("/a%2Fb?c=%3f?d", "/a%2Fb?c=%3f?d", "c=%3f?d"),
        ("/a?", "/a?", ""),
        ("http://h/a?b", "/a?b", "b"),
        ("http://h", "/", ""),
        ("http://h?b", "/?b", "b"),
    ] {
        let (_, meta) = named("GET", target, &[]);
        assert_eq!((value(&meta, "REQUEST_URI"), value(&meta, "QUERY_STRING")), (Some(uri), Some(query)));
    }
    let (route, meta) = named("OPTIONS", "*", &[("Host", "x")]);
    assert_eq!((route.as_str(), value(&meta, "REQUEST_URI")), ("app 0", Some("*")));
    assert_eq!(value(&meta, "PATH_INFO"), Some("/"));
}

#[test]
fn server_name_and_port_come_from_the_host_that_the_client_named() {
    for (target, host, name, port, http_host) in [
        ("/", Some("example.org"), "example.org", "80", Some("example.org")),
        ("/", Some("example.org:81"), "example.org", "81", Some("example.org:81")),
        ("/", Some("[::1]:82"), "[::1]", "82", Some("[::1]:82")),
        ("/", Some(""), "127.0.0.1", "8000", Some("")),
        ("/", None, "127.0.0.1", "8000", None),
        ("http://a.org:83/", Some("b.org"), "a.org", "83", Some("a.org:83")),
        ("http://a.org/", None, "a.org", "80", Some("a.org")),
    ] {
        let fields: Vec<_> = host.iter().map(|host| ("Host", *host)).collect();
        let (_, meta) = named("GET", target, &fields);
        let found = ["SERVER_NAME", "SERVER_PORT", "HTTP_HOST"].map(|name| value(&meta, name));
        assert_eq!(found, [Some(name), Some(port), http_host], "{target} {host:?}");
    }
    for host in ["a b", "user@a", "a:x", "a:70000", "a, b", "[::1", "a\\b", "<script>"] {
        assert_eq!(named("GET", "/", &[("Host", host)]).0, "400", "{host}");
        assert_eq!(named("GET", &format!("http://{host}/"), &[]).0, "400", "{host}");
    }
    assert_eq!(named("GET", "/", &[("Host", "a/b")]).0, "400");
}

#[test]
fn addresses_of_all_kinds_of_sockets_are_told() {
    let gateway = gateway();
    let head = http_head("GET", "/", &[]);
    let told = |peer: Option<&str>, local: Option<&str>| {
        let parse = |text: &str| text.parse().expect("an address");
        let endpoint = Endpoint::new(peer.map_or(Peer::Unix, |peer| Peer::Ip(parse(peer))), local.map(parse));
        let mut meta = MetaVariables::default();
        gateway.route(&head, &endpoint, &mut meta).expect("routed");
        ["REMOTE_ADDR", "REMOTE_PORT", "SERVER_ADDR", "SERVER_NAME", "SERVER_PORT"]
            .map(|name| value(&meta, name).unwrap_or("-").to_owned())
    };
    let mapped = told(Some("[::ffff:192.0.2.1]:5"), Some("[::ffff:192.0.2.9]:80"));
    assert_eq!(mapped, ["192.0.2.1", "5", "192.0.2.9", "192.0.2.9", "80"]);
    let v6 = told(Some("[2001:db8::1]:5"), Some("[2001:db8::9]:80"));
    assert_eq!(v6, ["2001:db8::1", "5", "2001:db8::9", "[2001:db8::9]", "80"]);
    assert_eq!(told(None, None), ["127.0.0.1", "-", "-", "localhost", "80"]);
}

#[test]
fn https_is_told_behind_a_proxy_that_ends_tls() {
    let gateway = Gateway { is_https: true, document_root: Some(b"/srv/www".to_vec()), ..super::gateway() };
    let mut meta = MetaVariables::default();
    routed(&gateway, &http_head("GET", "/", &[("Host", "a")]), &mut meta);
    let found = ["REQUEST_SCHEME", "HTTPS", "SERVER_PORT", "DOCUMENT_ROOT"].map(|name| value(&meta, name));
    assert_eq!(found, [Some("https"), Some("on"), Some("443"), Some("/srv/www")]);
}

#[test]
fn fields_that_could_pass_for_something_else_do_not_become_variables() {
    let fields = [
        ("Proxy", "http://evil/"),
        ("proxy", "http://evil/"),
        ("PROXY", "http://evil/"),
        ("X_Foo", "2"),
        ("X-Foo", "1"),
        ("X_Forwarded_For", "evil"),
        ("Content_Length", "9"),
        ("Transfer-Encoding", "chunked"),
        ("X.Dot", "1"),
        ("X'Quote", "1"),
        ("wsgi.input", "1"),
        ("Redirect-Status", "200"),
        ("Remote-User", "root"),
        ("Session", "s"),
        ("Script-Filename", "/etc/passwd"),
        ("LD-PRELOAD", "evil.so"),
        ("Https", "on"),
    ];
    let (_, meta) = named("GET", "/", &fields);
    let mut names: Vec<_> = meta.iter().map(|(name, _)| name.as_bytes().escape_ascii().to_string()).collect();
    names.retain(|name| name.starts_with("HTTP_"));
    let expected = [
        "HTTP_X_FOO",
        "HTTP_REDIRECT_STATUS",
        "HTTP_REMOTE_USER",
        "HTTP_SESSION",
        "HTTP_SCRIPT_FILENAME",
        "HTTP_LD_PRELOAD",
        "HTTP_HTTPS",
    ];
    assert_eq!(names, expected);
    for absent in
        ["REMOTE_USER", "AUTH_TYPE", "REDIRECT_STATUS", "HTTPS", "SCRIPT_FILENAME", "CONTENT_LENGTH"]
    {
        assert_eq!(value(&meta, absent), None, "{absent}");
    }
    assert_eq!(value(&meta, "HTTP_X_FOO"), Some("1"));
}

#[test]
fn remote_user_is_not_made_from_an_authorization_that_nobody_has_verified() {
    let (_, meta) = named("GET", "/", &[("Authorization", "Basic cm9vdDp4")]);
    assert_eq!(value(&meta, "HTTP_AUTHORIZATION"), Some("Basic cm9vdDp4"));
    assert_eq!((value(&meta, "REMOTE_USER"), value(&meta, "AUTH_TYPE")), (None, None));
}

#[test]
fn repeated_fields_are_joined_or_refused() {
    let (_, meta) = named(
        "GET",
        "/",
        &[
            ("X-A", "1"),
            ("Cookie", "a=1"),
            ("x-a", "2"),
            ("X-B", ""),
            ("X-A", "3"),
            ("cookie", "b=2"),
            ("X-B", ""),
        ],
    );
    let found = ["HTTP_X_A", "HTTP_COOKIE", "HTTP_X_B"].map(|name| value(&meta, name));
    assert_eq!(found, [Some("1, 2, 3"), Some("a=1; b=2"), Some(", ")]);
    for name in ["Host", "Content-Type", "Authorization", "Proxy-Authorization"] {
        let (route, _) = named("GET", "/", &[(name, "a"), (&name.to_uppercase(), "a")]);
        assert_eq!(route, "400", "{name}");
    }
}

#[test]
fn many_repeated_fields_cost_no_more_than_their_bytes() {
    let long = "x".repeat(200);
    let fields: Vec<_> = (0..250).map(|index| (["X-A", "X-B"][index % 2], long.as_str())).collect();
    let (_, meta) = named("GET", "/", &fields);
    let joined = value(&meta, "HTTP_X_A").expect("there");
    assert_eq!(joined.len(), 125 * 200 + 124 * 2);
    assert_eq!(value(&meta, "HTTP_X_B").map(str::len), Some(joined.len()));
    assert!(meta.arena_bytes() < 3 * 250 * 200, "{}", meta.arena_bytes());
}

#[test]
fn values_are_bytes() {
    let mut head = http_head("GET", "/", &[]);
    let value: Vec<u8> = (0x80..=0xff).chain(b"() { :;}; echo".iter().copied()).collect();
    let field = Field { name: head.store(b"X-Bytes"), value: head.store(&value) };
    head.fields.push(field);
    let mut meta = MetaVariables::default();
    routed(&gateway(), &head, &mut meta);
    assert_eq!(meta.get(b"HTTP_X_BYTES"), Some(value.as_slice()));
}

#[test]
fn the_bodys_length_is_told_if_the_head_tells_it() {
    for (body, field, expected) in [
        (BodyLength::Known(7), Some("7"), Some("7")),
        (BodyLength::None, Some("0"), Some("0")),
        (BodyLength::None, None, None),
        (BodyLength::Unknown, None, None),
    ] {
        let fields: Vec<_> = field.iter().map(|length| ("Content-Length", *length)).collect();
        let mut head = http_head("POST", "/", &fields);
        head.body = body;
        let mut meta = MetaVariables::default();
        routed(&gateway(), &head, &mut meta);
        assert_eq!(value(&meta, "CONTENT_LENGTH"), expected);
        assert_eq!(value(&meta, "HTTP_CONTENT_LENGTH"), None);
    }
}
