//! One environ from every dialect: paths, and fields that could deceive.

use super::{Way, fronted};
use crate::support::Response;

/// The whole decoded path, as the application sees it.
fn path_of(response: &Response) -> String {
    let environ = response.json();
    let part = |name: &str| environ[name].as_str().unwrap_or_default().to_owned();
    part("SCRIPT_NAME") + &part("PATH_INFO")
}

#[test]
fn script_name_and_path_info_are_the_decoded_path_behind_every_server() {
    for way in Way::ALL {
        let fronted = fronted(way, &[]);
        for (target, path) in [
            ("/", "/"),
            ("/x", "/x"),
            ("/x/", "/x/"),
            ("/m", "/m"),
            ("/m/", "/m/"),
            ("/m/x.php/y", "/m/x.php/y"),
            ("/mm", "/mm"),
            ("/m/a%20b+c", "/m/a b+c"),
            ("/m/%C3%BC/%E2%82%AC", "/m/\u{c3}\u{bc}/\u{e2}\u{82}\u{ac}"),
            ("/m/%2520", "/m/%20"),
            ("/m/a%3Fb%23c", "/m/a?b#c"),
            ("/m/a;b=c:d@e!f$g&h'i(j)*k,l~m", "/m/a;b=c:d@e!f$g&h'i(j)*k,l~m"),
            ("/m/%22%3C%3E%5B%5D%5E%60%7B%7C%7D", "/m/\"<>[]^`{|}"),
            ("/%6D/x", "/m/x"),
        ] {
            for query in ["", "?a=%2F&b=%20+c&%C3%BC"] {
                let target = format!("{target}{query}");
                let response = fronted.front.get(&target);
                assert_eq!(response.status, 200, "{way:?} {target}: {}", response.text());
                assert_eq!(path_of(&response), path, "{way:?} {target}: {}", response.text());
                let environ = response.json();
                assert_eq!(environ["QUERY_STRING"], query.trim_start_matches('?'), "{way:?} {target}");
                assert_eq!(environ["REQUEST_URI"], target.as_str(), "{way:?}");
                let mounted = path == "/m" || path.starts_with("/m/");
                assert_eq!(environ["SCRIPT_NAME"], if mounted { "/m" } else { "" }, "{way:?} {target}");
            }
        }
    }
}

#[test]
fn paths_on_which_servers_differ_are_never_split_wrongly() {
    for way in Way::ALL {
        let fronted = fronted(way, &[]);
        for (target, paths) in [
            ("/m/a%2Fb", &["/m/a/b", "/m/a%2Fb"][..]),
            ("/m%2Fb", &["/m/b", "/m%2Fb"]),
            ("/m//b", &["/m//b", "/m/b"]),
            ("//m/b", &["//m/b", "/m/b"]),
            ("/m/../x", &["/x"]),
            ("/x/../m/y", &["/m/y"]),
            ("/m/./y", &["/m/y"]),
            ("/m/%2e%2e/x", &["/x"]),
            ("/m/..%2fx", &["/x", "/m/..%2fx"]),
            ("/m/a%0Ab", &["/m/a\nb"]),
            // `$` in the expression that splits for nginx stands before a last newline, too.
            ("/m/%0A", &["/m/\n", "/m/"]),
            ("/m%0A/b", &["/m\n/b"]),
            ("/m/a%5Cb", &["/m/a\\b"]),
            ("/m/%FF%FE", &["/m/\u{ff}\u{fe}"]),
            ("/m/a%00b", &[]),
            ("/../../m/x", &["/m/x"]),
            ("/m/%", &["/m/%"]),
            ("/m/%zz", &["/m/%zz"]),
        ] {
            let mut connection = fronted.front.connect();
            connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let response = connection.read_response();
            if response.status == 200 {
                let path = path_of(&response);
                assert!(paths.contains(&path.as_str()), "{way:?} {target}: {path:?} in {}", response.text());
                let mounted = path == "/m" || path.starts_with("/m/");
                let environ = response.json();
                assert!(
                    environ["SCRIPT_NAME"] == if mounted { "/m" } else { "" } || path.starts_with("//"),
                    "{environ}"
                );
            } else {
                // Refused by the web server, or by forkhorn: an answer all the same.
                assert!(
                    // 500 is HAProxy's own word for a % without digits.
                    [301, 400, 403, 404].contains(&response.status)
                        || (way == Way::HaProxy && response.status == 500),
                    "{way:?} {target}: {}",
                    response.status
                );
            }
        }
    }
}

#[test]
fn scripts_are_found_behind_every_server() {
    for way in Way::ALL {
        let fronted = fronted(way, &[]);
        for (target, path_info) in [
            ("/cgi-bin/dump.pl", ""),
            ("/cgi-bin/dump.pl/a/b", "/a/b"),
            ("/cgi-bin/dump.pl/%C3%BC%20x", "/\u{c3}\u{bc} x"),
        ] {
            let dump = crate::cgi::Dump::of(&fronted.front.get(&format!("{target}?q=%20")));
            assert_eq!(dump.var("SCRIPT_NAME"), "/cgi-bin/dump.pl", "{way:?} {target}");
            assert_eq!(dump.env.get("PATH_INFO").map_or("", String::as_str), path_info, "{way:?} {target}");
            assert_eq!(dump.var("QUERY_STRING"), "q=%20", "{way:?}");
            for name in ["HTTP_PROXY", "REMOTE_USER", "LD_LIBRARY_PATH"] {
                assert_eq!(dump.env.get(name), None, "{way:?}");
            }
        }
        for target in [
            "/cgi-bin/missing.pl",
            "/cgi-bin/../Cargo.toml",
            "/cgi-bin/..%2fwsgi/probe.py",
            "/cgi-bin/%2e%2e/wsgi/probe.py",
        ] {
            let mut connection = fronted.front.connect();
            connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let response = connection.read_response();
            assert!(!response.text().contains("def application"), "{way:?} {target}: the source is shown");
            assert!(
                target.contains("..") || target.contains("2e") || response.status == 404,
                "{way:?} {target}: {}",
                response.status
            );
        }
    }
}

#[test]
fn fields_that_could_deceive_do_not() {
    for way in Way::ALL {
        let fronted = fronted(way, &[]);
        let fields = [
            ("Authorization", "Basic eDp5"),
            ("Proxy", "http://evil.example/"),
            ("X-Foo", "1"),
            ("X_Foo", "2"),
            ("Content_Length", "7"),
            ("X-Script-Name", "/forged"),
            ("Remote-User", "root"),
            ("Https", "on"),
            ("Redirect-Status", "1"),
        ];
        let host = format!("localhost:{}", fronted.site.port);
        let fields = [&fields[..], &[("Host", host.as_str())]].concat();
        let response = fronted.front.request("GET", "/m/environ", &fields, b"");
        let environ = response.json();
        for name in [
            "HTTP_PROXY",
            "REMOTE_USER",
            "HTTP_TRANSFER_ENCODING",
            "HTTP_CONTENT_LENGTH",
            "PATH",
            "LD_LIBRARY_PATH",
        ] {
            assert!(environ.get(name).is_none(), "{way:?}: {name} in {environ}");
        }
        let foo = environ["HTTP_X_FOO"].as_str().unwrap_or_default();
        // lighttpd lets the name with an underscore win before forkhorn sees either.
        assert!(foo == "1" || way == Way::Lighttpd, "{way:?}: {foo}");
        assert_eq!(environ["wsgi.url_scheme"], "http", "{way:?}");
        assert!(["", "0"].contains(&environ["CONTENT_LENGTH"].as_str().unwrap_or_default()), "{way:?}");
        assert_eq!(environ["REMOTE_ADDR"], "127.0.0.1", "{way:?}");
        assert_ne!(environ["SERVER_NAME"], "", "{way:?}");
        assert_eq!(environ["SERVER_PORT"], fronted.site.port.to_string().as_str(), "{way:?}");
        // Apache and HAProxy keep it to themselves unless they are told otherwise.
        let kept = way.is_apache() || way == Way::HaProxy;
        assert_eq!(environ.get("HTTP_AUTHORIZATION").is_none(), kept, "{way:?}: {environ}");
    }
}

#[test]
fn a_user_that_the_web_server_has_verified_is_believed_if_it_says_how() {
    use crate::support::Forkhorn;
    use crate::support::fastcgi::Request;
    let base = Request::new("GET", "/environ")
        .param("REMOTE_USER", "admin")
        .param("HTTP_AUTHORIZATION", "Basic eDp5");
    for (options, request, user) in [
        (&[][..], base.clone(), None),
        (&[], base.clone().param("AUTH_TYPE", ""), None),
        (&[], base.clone().param("AUTH_TYPE", "Basic"), Some("admin")),
        // HAProxy says both of any Authorization field, and has verified nothing.
        (&[], base.clone().param("AUTH_TYPE", "Basic").param("SERVER_SOFTWARE", "HAProxy 2.6.12"), None),
        (&["--trust-remote-user"], base.clone(), Some("admin")),
        (&[], base.clone().param("HTTP_AUTH_TYPE", "Basic").param("HTTP_REMOTE_USER", "root"), None),
    ] {
        let forkhorn = options
            .iter()
            .fold(Forkhorn::new().wsgi("probe.py").both(), |forkhorn, option| forkhorn.arg(*option));
        let environ = forkhorn.start().fcgi(&request).response().json();
        assert_eq!(environ["REMOTE_USER"].as_str(), user, "{options:?} {:?}", request.params);
    }
}
