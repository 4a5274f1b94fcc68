//! The configurations below `examples/`, started as their heads say: every page that they promise answers.

use crate::support::fronts::Example;
use crate::support::{Connection, Response};

const FORM: [(&str, &str); 1] = [("Content-Type", "application/x-www-form-urlencoded")];
const QUERY: &str = "name=Zo%C3%AB+%3Cb%3E&colour=red&message=a%2Fb";

/// Which of the pages an example serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serves {
    Everything,
    Scripts,
    FormApplication,
}

#[track_caller]
fn says(response: &Response, page: &str, expected: &[&str]) {
    assert_eq!(response.status, 200, "{page}: {}", response.text());
    let text = response.text();
    for expected in expected {
        assert!(text.contains(expected), "{page}: no '{expected}' in {text}");
    }
}

#[track_caller]
fn pages_answer(configuration: &str, serves: Serves) {
    let example = Example::start(configuration);
    let mut connection = example.front.connect();
    let forms: &[(&str, &str)] = match serves {
        Serves::Everything => &[
            ("/cgi-bin/form_handler.pl", "CGI, Perl"),
            ("/cgi-bin/form_handler.py", "CGI, Python"),
            ("/wsgi/", "WSGI application"),
            ("/django/answer/", "Django"),
        ],
        Serves::Scripts => {
            &[("/cgi-bin/form_handler.pl", "CGI, Perl"), ("/cgi-bin/form_handler.py", "CGI, Python")]
        }
        Serves::FormApplication => &[("/", "WSGI application")],
    };
    for (path, program) in forms {
        let expected = ["Hello, Zo\u{eb} &lt;b&gt;!", program, "microseconds", "a/b"];
        says(&connection.get(&format!("{path}?{QUERY}")), path, &expected);
        says(&connection.request("POST", path, &FORM, QUERY.as_bytes()), path, &expected);
        let head = connection.request("HEAD", &format!("{path}?{QUERY}"), &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    if serves == Serves::FormApplication {
        return;
    }
    says(
        &connection.get("/cgi-bin/env.pl/some/path?a=1"),
        "env.pl",
        &["<td>/some/path</td>", "<td>a=1</td>", "/cgi-bin/env.pl"],
    );
    says(&connection.get("/cgi-bin/hello.sh"), "hello.sh", &["Hello from a shell script"]);
    assert_eq!(connection.get("/cgi-bin/missing.pl").status, 404);
    if serves == Serves::Scripts {
        assert_eq!(connection.get("/").status, 404);
        return;
    }
    says(&connection.get("/cgi-bin/redirect.sh"), "redirect.sh", &["Hello, local redirect!"]);
    says(&connection.get("/cgi-bin/nph-hello.sh"), "nph-hello.sh", &["non-parsed header"]);
    says(&connection.get("/"), "/", &["action=\"/cgi-bin/form_handler.pl\""]);
    says(&connection.get("/style.css"), "/style.css", &["color"]);
    django_form(&mut connection);
}

/// A form with a CSRF token: its cookie has to come back.
#[track_caller]
fn django_form(connection: &mut Connection) {
    let page = connection.get("/django/");
    let cookie =
        page.field("Set-Cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie").to_owned();
    let text = page.text();
    let token = text.split("csrfmiddlewaretoken\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let form = format!("csrfmiddlewaretoken={}&{QUERY}", token.expect("a token").to_owned());
    assert!(text.contains("action=\"/django/\""), "Django does not know where it is mounted: {text}");
    let fields = [FORM[0], ("Cookie", cookie.as_str())];
    let answer = connection.request("POST", "/django/", &fields, form.as_bytes());
    says(&answer, "/django/", &["Hello, Zo\u{eb} &lt;b&gt;!"]);
    assert_eq!(connection.request("POST", "/django/", &FORM, QUERY.as_bytes()).status, 403);
}

#[test]
fn nginx_with_kept_connections() {
    pages_answer("examples/nginx/nginx.conf", Serves::Everything);
}

#[test]
fn nginx_with_its_stock_parameters() {
    pages_answer("examples/nginx/minimal.conf", Serves::FormApplication);
}

#[test]
fn nginx_that_splits_the_path_itself() {
    pages_answer("examples/nginx/split_path_info.conf", Serves::Scripts);
}

#[test]
fn apache_with_proxy_pass() {
    pages_answer("examples/apache/proxy_pass.conf", Serves::Everything);
}

#[test]
fn apache_with_proxy_pass_match() {
    pages_answer("examples/apache/proxy_pass_match.conf", Serves::Everything);
}

#[test]
fn apache_with_set_handler() {
    pages_answer("examples/apache/set_handler.conf", Serves::Everything);
}

#[test]
fn apache_whose_mod_fcgid_starts_forkhorn() {
    pages_answer("examples/apache/mod_fcgid.conf", Serves::Everything);
}

#[test]
fn lighttpd() {
    pages_answer("examples/lighttpd/lighttpd.conf", Serves::Everything);
}

#[test]
fn lighttpd_that_starts_forkhorn() {
    pages_answer("examples/lighttpd/spawn.conf", Serves::Everything);
}

#[test]
fn haproxy() {
    pages_answer("examples/haproxy/haproxy.cfg", Serves::Everything);
}

#[test]
fn every_example_is_tested() {
    let source = include_str!("examples.rs");
    for server in ["nginx", "apache", "lighttpd", "haproxy"] {
        let folder = crate::support::project().join("examples").join(server);
        for entry in std::fs::read_dir(&folder).expect("examples").flatten() {
            let name = format!("examples/{server}/{}", entry.file_name().to_string_lossy());
            assert!(source.contains(&format!("\"{name}\"")), "{name} has no test");
        }
    }
}
