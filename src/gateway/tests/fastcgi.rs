//! Requests of FastCGI web servers.

use super::*;

fn named(pairs: &[(&str, &str)]) -> (String, MetaVariables) {
    let mut all = vec![("REQUEST_METHOD", "GET")];
    all.extend_from_slice(pairs);
    let mut meta = MetaVariables::default();
    let route = routed(&gateway(), &fastcgi_head(&all), &mut meta);
    (route, meta)
}

/// What a web server sends of the path: REQUEST_URI, SCRIPT_NAME, PATH_INFO, DOCUMENT_URI; `-` for not sent.
fn path_pairs(values: [&str; 4]) -> Vec<(&str, &str)> {
    ["REQUEST_URI", "SCRIPT_NAME", "PATH_INFO", "DOCUMENT_URI"]
        .into_iter()
        .zip(values)
        .filter(|(_, value)| *value != "-")
        .collect()
}

#[test]
fn the_path_is_derived_from_what_each_web_server_sends() {
    for (front, pairs, route, script_name, path_info) in [
        ("nginx", ["/app/x?q=1", "/app/x", "-", "/app/x"], "app 1", "/app", "/x"),
        ("nginx, root", ["/", "/", "-", "/"], "app 0", "", "/"),
        ("nginx, space", ["/app/b%20c", "/app/b c", "-", "/app/b c"], "app 1", "/app", "/b c"),
        ("nginx, encoded slash", ["/app/a%2Fb", "/app/a/b", "-", "/app/a/b"], "app 1", "/app", "/a/b"),
        ("nginx, UTF-8", ["/caf%C3%A9", "/caf\u{e9}", "-", "/caf\u{e9}"], "app 0", "", r"/caf\xc3\xa9"),
        ("nginx, merged slashes", ["/app//x", "/app/x", "-", "/app/x"], "app 1", "/app", "/x"),
        ("nginx, slashes kept", ["/app//x", "/app//x", "-", "/app//x"], "app 1", "/app", "//x"),
        ("nginx, dots", ["/a/../app/x", "/app/x", "-", "/app/x"], "app 1", "/app", "/x"),
        ("nginx, %3f", ["/app/a%3fb?c", "/app/a?b", "-", "/app/a?b"], "app 1", "/app", "/a?b"),
        ("nginx, newline", ["/app/a%0ab", "/app/a\nb", "", "/app/a\nb"], "app 1", "/app", r"/a\nb"),
        ("nginx, encoded twice", ["/app/%252e", "/app/%2e", "-", "/app/%2e"], "app 1", "/app", "/%2e"),
        ("nginx split", ["/app/x", "/app", "/x", "/app/x"], "app 1", "/app", "/x"),
        ("nginx split, empty", ["/app", "/app", "", "/app"], "app 1", "/app", ""),
        ("nginx split deeper", ["/app/x/y", "/app/x", "/y", "/app/x/y"], "app 1", "/app", "/x/y"),
        ("nginx split, above", ["/app/x", "", "/app/x", "/app/x"], "app 1", "/app", "/x"),
        ("nginx, rewritten", ["/old/x", "/app/x", "-", "/app/x"], "app 1", "/app", "/x"),
        ("nginx, rewritten and split", ["/old/x", "/app", "/x", "/app/x"], "app 1", "/app", "/x"),
        ("nginx, rewritten upwards", ["/app/x", "/app", "-", "/app"], "app 1", "/app", ""),
        ("nginx, error page", ["/app/missing", "/error", "-", "/error"], "app 0", "", "/error"),
        ("nginx, PATH_INFO whole", ["/app/x", "/app/x", "/app/x", "/app/x"], "app 1", "/app", "/x"),
        ("nginx, PATH_INFO the end", ["/app/x/y", "/app/x/y", "/y", "/app/x/y"], "app 1", "/app", "/x/y"),
        ("the same, rewritten", ["/old", "/app/x", "/app/x", "/app/x"], "app 1", "/app", "/x"),
        ("a path that repeats", ["/app/app", "/app", "/app", "/app"], "app 1", "/app", "/app"),
        ("nginx, SCRIPT_NAME alone", ["/app/x", "/app", "-", "/app/x"], "app 1", "/app", "/x"),
        ("Apache ProxyPass", ["/app/b%20c?q=1", "/app/b c", "-", "-"], "app 1", "/app", "/b c"),
        ("Apache SetHandler", ["/app/a.fc/x", "/app/a.fc", "/x", "-"], "app 1", "/app", "/a.fc/x"),
        ("Apache pathinfo", ["/app/b%20c", "/app/b ", "/b%20c", "-"], "app 1", "/app", "/b c"),
        ("Apache, NoDecode", ["/app/a%2Fb", "/app/a%2Fb", "-", "-"], "app 1", "/app", "/a%2Fb"),
        ("lighttpd", ["/app/b%20c?q", "/app", "/b c", "-"], "app 1", "/app", "/b c"),
        ("lighttpd, root", ["/x", "", "/x", "-"], "app 0", "", "/x"),
        ("HAProxy", ["/app/../app/x", "/app/../app/x", "-", "-"], "app 1", "/app", "/x"),
        ("Caddy", ["/app/x", "/app", "/x", "/app"], "app 1", "/app", "/x"),
        ("REQUEST_URI alone", ["/app/b%20c?q", "-", "-", "-"], "app 1", "/app", "/b c"),
        ("REQUEST_URI as a URL", ["http://h/app/x?q", "-", "-", "-"], "app 1", "/app", "/x"),
        ("SCRIPT_NAME alone", ["-", "/app/x", "-", "-"], "app 1", "/app", "/x"),
        ("PATH_INFO alone", ["-", "-", "/app/x", "-"], "app 1", "/app", "/x"),
        ("DOCUMENT_URI alone", ["-", "-", "-", "/app/x"], "app 1", "/app", "/x"),
        ("nothing", ["-", "-", "-", "-"], "app 0", "", "/"),
        ("bad REQUEST_URI", ["/app/%zz", "/app/y", "-", "-"], "app 1", "/app", "/y"),
        ("SCRIPT_NAME longer than the URI", ["/a", "/app/long/x", "", "-"], "app 1", "/app", "/long/x"),
        ("PATH_INFO longer than the URI", ["/a", "", "/app/long/x", "-"], "app 1", "/app", "/long/x"),
        ("climbs inside", ["/x", "/app/x", "/../y", "-"], "app 1", "/app", "/y"),
        (
            "a script",
            ["/cgi-bin/x.pl/y", "/cgi-bin/x.pl/y", "-", "-"],
            "cgi /srv/cgi /x.pl/y",
            "/cgi-bin",
            "/x.pl/y",
        ),
        ("climbs", ["/", "/../etc/passwd", "-", "-"], "400", "none", "none"),
        ("climbs by PATH_INFO", ["/", "/app", "/../../etc", "-"], "400", "none", "none"),
        ("no slash", ["/", "app", "/x", "-"], "400", "none", "none"),
        ("a star", ["*", "*", "-", "-"], "400", "none", "none"),
    ] {
        let (found, meta) = named(&path_pairs(pairs));
        assert_eq!(found, route, "{front}");
        let expected = (script_name.to_owned(), path_info.to_owned());
        assert_eq!(script_name_and_path_info(&meta), expected, "{front}");
        let uri = (pairs[0] != "-").then_some(pairs[0]);
        assert_eq!(value(&meta, "REQUEST_URI"), uri, "{front}: REQUEST_URI stays raw");
    }
}

#[test]
fn a_script_filename_below_a_script_directory_selects_the_script() {
    let by_url = "cgi /srv/cgi /u.pl/i";
    for (filename, route) in [
        ("/srv/cgi/x.pl", "cgi file /srv/cgi /srv/cgi/x.pl"),
        ("/srv/cgi/d/x.pl", "cgi file /srv/cgi /srv/cgi/d/x.pl"),
        ("//srv/cgi/x.pl", "cgi file /srv/cgi /srv/cgi/x.pl"),
        ("proxy:fcgi://localhost//srv/cgi/x.pl", "cgi file /srv/cgi /srv/cgi/x.pl"),
        ("proxy:fcgi://127.0.0.1:9000/srv/cgi/x%20y.pl", "cgi file /srv/cgi /srv/cgi/x y.pl"),
        ("proxy:fcgi://[::1]:9000/srv/cgi/x.pl", "cgi file /srv/cgi /srv/cgi/x.pl"),
        ("proxy:unix:/run/f.sock|fcgi://localhost/srv/cgi/x.pl", "cgi file /srv/cgi /srv/cgi/x.pl"),
        ("proxy:balancer://workers/srv/cgi/x.pl", "cgi file /srv/cgi /srv/cgi/x.pl"),
        ("", by_url),
        ("/srv/cgi", by_url),
        ("/srv/cgi/", by_url),
        ("/srv/cgi-old/x.pl", by_url),
        ("/srv/cgi/../../etc/passwd", by_url),
        ("/srv/./cgi/x.pl", by_url),
        ("/etc/passwd", by_url),
        ("srv/cgi/x.pl", by_url),
        ("proxy:fcgi://localhost/srv/cgi/%2e%2e/x", by_url),
        ("proxy:fcgi://localhost/srv/cgi/x%00.pl", by_url),
        ("proxy:fcgi://localhost", by_url),
        ("proxy:", by_url),
        ("proxy:fcgi", by_url),
    ] {
        let pairs = [("SCRIPT_FILENAME", filename), ("SCRIPT_NAME", "/cgi-bin/u.pl"), ("PATH_INFO", "/i")];
        assert_eq!(named(&pairs).0, route, "{filename}");
    }
}

#[test]
fn a_script_that_the_web_server_names_keeps_the_web_servers_split() {
    for (script_name, path_info, url_path, split) in [
        ("/s/x.pl", "/i", "/s/x.pl/i", ("/s/x.pl", "/i")),
        ("/s/x.pl/i", "", "/s/x.pl/i", ("/s/x.pl/i", "")),
        ("/s/./x.pl", "/i", "/s/x.pl/i", ("/s/x.pl/i", "")),
        ("", "", "/", ("/", "")),
    ] {
        let head = fastcgi_head(&[
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_FILENAME", "/srv/cgi/x.pl"),
            ("SCRIPT_NAME", script_name),
            ("PATH_INFO", path_info),
        ]);
        let mut meta = MetaVariables::default();
        let Ok(Route::Cgi(target)) = gateway().route(&head, &endpoint(), &mut meta) else {
            panic!("{script_name} is no script")
        };
        assert_eq!(target.url_path, url_path.as_bytes());
        assert_eq!(script_name_and_path_info(&meta), (split.0.to_owned(), split.1.to_owned()));
    }
}

#[test]
fn stock_nginx_parameters_become_a_whole_request() {
    let (route, meta) = named(&[
        ("QUERY_STRING", ""),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("SCRIPT_NAME", "/app/x"),
        ("REQUEST_URI", "/app/x"),
        ("DOCUMENT_URI", "/app/x"),
        ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
        ("SERVER_PROTOCOL", "HTTP/2.0"),
        ("REQUEST_SCHEME", "http"),
        ("GATEWAY_INTERFACE", "CGI/1.0"),
        ("SERVER_SOFTWARE", "nginx/1.22.1"),
        ("REMOTE_ADDR", "198.51.100.7"),
        ("REMOTE_PORT", "5000"),
        ("REMOTE_USER", "root"),
        ("SERVER_ADDR", "203.0.113.1"),
        ("SERVER_PORT", "8080"),
        ("SERVER_NAME", ""),
        ("REDIRECT_STATUS", "200"),
        ("HTTP_HOST", "example.org:8080"),
        ("HTTP_PROXY", "http://evil/"),
        ("HTTP_AUTHORIZATION", "Basic cm9vdDp4"),
        ("HTTP_TRANSFER_ENCODING", "chunked"),
        ("HTTP_CONTENT_LENGTH", "4"),
        ("HTTP_CONTENT_TYPE", "a/b"),
    ]);
    assert_eq!(route, "app 1");
    let mut all: Vec<_> = meta
        .iter()
        .map(|(name, value)| format!("{}={}", name.as_bytes().escape_ascii(), value.escape_ascii()))
        .collect();
    all.sort();
    assert_eq!(
        all,
        [
            "DOCUMENT_ROOT=/usr/share/nginx/html",
            "DOCUMENT_URI=/app/x",
            "GATEWAY_INTERFACE=CGI/1.1",
            "HTTP_AUTHORIZATION=Basic cm9vdDp4",
            "HTTP_HOST=example.org:8080",
            "PATH_INFO=/x",
            "QUERY_STRING=",
            "REDIRECT_STATUS=200",
            "REMOTE_ADDR=198.51.100.7",
            "REMOTE_PORT=5000",
            "REQUEST_METHOD=GET",
            "REQUEST_SCHEME=http",
            "REQUEST_URI=/app/x",
            "SCRIPT_NAME=/app",
            "SERVER_ADDR=203.0.113.1",
            "SERVER_NAME=example.org",
            "SERVER_PORT=8080",
            "SERVER_PROTOCOL=HTTP/2.0",
            "SERVER_SOFTWARE=nginx/1.22.1",
        ]
    );
}

#[test]
fn a_web_server_that_says_little_gets_the_missing_variables_filled_in() {
    let (_, meta) = named(&[("REQUEST_URI", "/x?a=b")]);
    for (name, expected) in [
        ("QUERY_STRING", "a=b"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "127.0.0.1"),
        ("SERVER_PORT", "8000"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("REQUEST_SCHEME", "http"),
    ] {
        assert_eq!(value(&meta, name), Some(expected), "{name}");
    }
    for (pairs, expected) in [
        (vec![("SERVER_ADDR", "2001:db8::1")], ["[2001:db8::1]", "80"]),
        (vec![("SERVER_ADDR", "192.0.2.3"), ("SERVER_PORT", "81")], ["192.0.2.3", "81"]),
        (vec![("HTTP_HOST", "h:82")], ["h", "82"]),
        (vec![("HTTP_HOST", "h"), ("HTTPS", "on")], ["h", "443"]),
        (vec![("SERVER_NAME", "s"), ("HTTP_HOST", "h:82"), ("SERVER_PORT", "83")], ["s", "83"]),
        (vec![("SERVER_NAME", "h:84"), ("HTTP_HOST", "h:84"), ("SERVER_PORT", "85")], ["h", "85"]),
        (vec![("SERVER_NAME", "[2001:db8::1]:84")], ["[2001:db8::1]", "80"]),
        (vec![("SERVER_NAME", "2001:db8::1")], ["2001:db8::1", "80"]),
        (vec![("HTTP_HOST", "not a host")], ["127.0.0.1", "8000"]),
    ] {
        let (_, meta) = named(&pairs);
        let found = ["SERVER_NAME", "SERVER_PORT"].map(|name| value(&meta, name));
        assert_eq!(found, expected.map(Some), "{pairs:?}");
    }
}

#[test]
fn https_and_the_scheme_agree() {
    for (https, scheme, expected) in [
        ("-", "-", ("http", None)),
        ("on", "-", ("https", Some("on"))),
        ("1", "http", ("https", Some("on"))),
        ("ON", "http", ("https", Some("on"))),
        ("off", "-", ("http", None)),
        ("off", "https", ("http", None)),
        ("", "https", ("https", Some("on"))),
        ("-", "https", ("https", Some("on"))),
        ("-", "http", ("http", None)),
    ] {
        let pairs: Vec<_> = [("HTTPS", https), ("REQUEST_SCHEME", scheme)]
            .into_iter()
            .filter(|(_, value)| *value != "-")
            .collect();
        let (_, meta) = named(&pairs);
        assert_eq!((value(&meta, "REQUEST_SCHEME"), value(&meta, "HTTPS")), (Some(expected.0), expected.1));
    }
}

#[test]
fn remote_user_is_believed_only_with_a_type_of_authentication_or_if_trusted() {
    let user = [("REMOTE_USER", "root"), ("REDIRECT_REMOTE_USER", "root")];
    let read = |meta: &MetaVariables| {
        ["REMOTE_USER", "REDIRECT_REMOTE_USER"].map(|name| value(meta, name).is_some())
    };
    let (_, meta) = named(&user);
    assert_eq!(read(&meta), [false, false]);
    let (_, meta) = named(&[user[0], user[1], ("AUTH_TYPE", "")]);
    assert_eq!(read(&meta), [false, false], "an empty AUTH_TYPE says nothing");
    let (_, meta) = named(&[user[0], user[1], ("HTTP_AUTH_TYPE", "Basic")]);
    assert_eq!(read(&meta), [false, false], "a field of the client's says nothing");
    let (_, meta) = named(&[user[0], user[1], ("AUTH_TYPE", "Basic")]);
    assert_eq!(read(&meta), [true, true]);
    let (_, meta) = named(&[user[0], user[1], ("REDIRECT_AUTH_TYPE", "Basic")]);
    assert_eq!(read(&meta), [false, true]);
    let haproxy = [user[0], user[1], ("AUTH_TYPE", "Basic"), ("SERVER_SOFTWARE", "HAProxy 2.6.12")];
    let (_, meta) = named(&haproxy);
    assert_eq!(read(&meta), [false, false], "HAProxy has not checked anything");
    assert_eq!(value(&meta, "AUTH_TYPE"), None);
    let gateway = Gateway { trusts_remote_user: true, ..gateway() };
    for (more, auth_type) in [(&user[..], None), (&haproxy, Some("Basic"))] {
        let mut meta = MetaVariables::default();
        let head = fastcgi_head(&[&[("REQUEST_METHOD", "GET")], more].concat());
        routed(&gateway, &head, &mut meta);
        assert_eq!(read(&meta), [true, true]);
        assert_eq!(value(&meta, "AUTH_TYPE"), auth_type);
    }
}

#[test]
fn pairs_of_the_operator_pass_and_pairs_that_mean_something_else_do_not() {
    for (name, passes) in [
        ("APP_ENV", true),
        ("SSL_CLIENT_S_DN", true),
        ("REDIRECT_URL", true),
        ("CONTEXT_PREFIX", true),
        ("UNIQUE_ID", true),
        ("UWSGI_FILE", true),
        ("_x1", true),
        ("HTTP_X_FOO", true),
        ("HTTP_PROXY", false),
        ("http_proxy", false),
        ("Http_Proxy", false),
        ("HTTP_TRANSFER_ENCODING", false),
        ("HTTP_CONTENT_LENGTH", false),
        ("HTTP_CONTENT_TYPE", false),
        ("HTTP_", false),
        ("PATH", false),
        ("LD_PRELOAD", false),
        ("LD_LIBRARY_PATH", false),
        ("wsgi.input", false),
        ("wsgi.url_scheme", false),
        ("", false),
        ("1X", false),
        ("X Y", false),
        ("X=Y", false),
        ("X\nY", false),
        ("X\0Y", false),
        ("X-Y", false),
        ("CAF\u{c9}", false),
    ] {
        let (route, meta) = named(&[(name, "v")]);
        assert_eq!((route.as_str(), meta.get(name.as_bytes()).is_some()), ("app 0", passes), "{name:?}");
    }
}

#[test]
fn the_gateways_own_variables_win_over_pairs() {
    let (_, meta) = named(&[
        ("SCRIPT_NAME", "/app/x"),
        ("GATEWAY_INTERFACE", "evil"),
        ("PATH_TRANSLATED", "/etc/passwd"),
        ("HTTPS", "off"),
        ("CONTENT_LENGTH", "99"),
    ]);
    assert_eq!(value(&meta, "GATEWAY_INTERFACE"), Some("CGI/1.1"));
    for absent in ["PATH_TRANSLATED", "HTTPS", "CONTENT_LENGTH"] {
        assert_eq!(value(&meta, absent), None, "{absent}");
    }
}

#[test]
fn pairs_that_come_twice_are_joined_refused_or_the_last() {
    let (_, meta) = named(&[
        ("HTTP_X_A", "1"),
        ("HTTP_COOKIE", "a=1"),
        ("HTTP_ACCEPT", "a"),
        ("HTTP_X_A", "2"),
        ("HTTP_COOKIE", "b=2"),
        ("HTTP_ACCEPT", "b"),
        ("HTTP_X_A", "3"),
        ("APP_ENV", "1"),
        ("APP_ENV", "2"),
        ("APP_ENV", "3"),
        ("SERVER_NAME", "a"),
        ("SERVER_NAME", "b"),
    ]);
    let found = ["HTTP_X_A", "HTTP_COOKIE", "HTTP_ACCEPT", "APP_ENV", "SERVER_NAME"];
    let found = found.map(|name| value(&meta, name));
    assert_eq!(found, ["1, 2, 3", "a=1; b=2", "a, b", "3", "b"].map(Some));
    for name in ["HTTP_HOST", "HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION"] {
        assert_eq!(named(&[(name, "a"), (name, "b")]).0, "400", "{name}");
    }
}

#[test]
fn requests_without_a_method_or_with_a_nul_are_refused() {
    let mut meta = MetaVariables::default();
    for pairs in [
        vec![],
        vec![("REQUEST_METHOD", "")],
        vec![("REQUEST_METHOD", "G T")],
        vec![("REQUEST_METHOD", "GET\r\n")],
        vec![("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/a\0b")],
        vec![("REQUEST_METHOD", "GET"), ("APP_ENV", "a\0b")],
    ] {
        assert_eq!(routed(&gateway(), &fastcgi_head(&pairs), &mut meta), "400", "{pairs:?}");
        assert!(meta.iter().all(|(_, value)| !value.contains(&0)));
    }
}

#[test]
fn the_length_of_a_body_is_what_the_protocol_has_understood() {
    for (method, pair, body, expected) in [
        ("POST", "7", BodyLength::Known(7), Some("7")),
        ("POST", "0", BodyLength::None, Some("0")),
        ("GET", "0", BodyLength::None, None),
        ("HEAD", "0", BodyLength::None, None),
        ("POST", "", BodyLength::Unknown, None),
    ] {
        let mut head = fastcgi_head(&[("REQUEST_METHOD", method), ("CONTENT_LENGTH", pair)]);
        head.body = body;
        let mut meta = MetaVariables::default();
        routed(&gateway(), &head, &mut meta);
        assert_eq!(value(&meta, "CONTENT_LENGTH"), expected, "{method} {pair}");
    }
}
