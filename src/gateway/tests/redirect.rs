//! Local redirects of scripts: what the second request is told.

use super::*;

/// A POST to a script, as the handler leaves it.
fn asked(method: &str) -> MetaVariables {
    let mut head = http_head(
        method,
        "/cgi-bin/a.pl/x%20y?q=1",
        &[("Host", "h"), ("Content-Type", "a/b"), ("Content-Length", "3"), ("Expect", "100-continue")],
    );
    head.body = BodyLength::Known(3);
    let mut meta = MetaVariables::default();
    gateway().route(&head, &endpoint(), &mut meta).expect("routed");
    for (name, value) in [
        ("SCRIPT_NAME", "/cgi-bin/a.pl"),
        ("PATH_INFO", "/x y"),
        ("SCRIPT_FILENAME", "/srv/cgi/a.pl"),
        ("PATH_TRANSLATED", "/srv/www/x y"),
    ] {
        meta.set(name.as_bytes(), value.as_bytes());
    }
    meta
}

#[test]
fn a_local_redirect_is_a_get_of_the_new_location() {
    let mut meta = asked("POST");
    assert_eq!(shown(gateway().redirect(b"/app/b%2Fc?r=2", &mut meta)), "app 1");
    for (name, expected) in [
        ("REQUEST_METHOD", Some("GET")),
        ("REQUEST_URI", Some("/app/b%2Fc?r=2")),
        ("SCRIPT_NAME", Some("/app")),
        ("PATH_INFO", Some("/b/c")),
        ("QUERY_STRING", Some("r=2")),
        ("CONTENT_LENGTH", None),
        ("CONTENT_TYPE", None),
        ("HTTP_EXPECT", None),
        ("SCRIPT_FILENAME", None),
        ("PATH_TRANSLATED", None),
        ("HTTP_HOST", Some("h")),
        ("REMOTE_ADDR", Some("192.0.2.1")),
        ("REDIRECT_STATUS", Some("200")),
        ("REDIRECT_URL", Some("/cgi-bin/a.pl/x y")),
        ("REDIRECT_QUERY_STRING", Some("q=1")),
        ("REDIRECT_REQUEST_METHOD", Some("POST")),
    ] {
        assert_eq!(value(&meta, name), expected, "{name}");
    }
}

#[test]
fn head_stays_head_and_a_second_redirect_works_like_the_first() {
    let mut meta = asked("HEAD");
    assert_eq!(shown(gateway().redirect(b"/cgi-bin/b.pl", &mut meta)), "cgi /srv/cgi /b.pl");
    assert_eq!(shown(gateway().redirect(b"/static/x", &mut meta)), "static /srv/static");
    let found = ["REQUEST_METHOD", "QUERY_STRING", "REDIRECT_URL", "SCRIPT_NAME", "PATH_INFO"];
    let found = found.map(|name| value(&meta, name));
    assert_eq!(found, [Some("HEAD"), Some(""), Some("/cgi-bin/b.pl"), Some("/static"), Some("/x")]);
}

#[test]
fn locations_that_are_no_path_are_the_scripts_fault() {
    for location in ["", "x", "http://h/", "/a#b", "/../x", "/a%", "/a%00", "/a\0", "/app/../../x", "*"] {
        let mut meta = asked("GET");
        assert_eq!(shown(gateway().redirect(location.as_bytes(), &mut meta)), "502", "{location:?}");
    }
    let gateway = with_mounts(&[("/app", MountTarget::Application(0))]);
    assert_eq!(shown(gateway.redirect(b"/nowhere", &mut asked("GET"))), "404");
}
