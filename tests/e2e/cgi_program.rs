//! `forkhorn cgi`: an application as a CGI program, and CGI programs that end in wsgiref's CGIHandler in the pool.

use crate::support::{Folder, Forkhorn};

const FORKHORN: &str = env!("CARGO_BIN_EXE_forkhorn");

/// What an application sees and says, by whatever way it is reached.
const APPLICATION: &str = r#"
import sys
print("printed at import")

def application(environ, start_response):
    print("printed in a request")
    environ["wsgi.errors"].write("told\n")
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError("boom")
    if path == "/forever":
        while True:
            pass
    body = environ["wsgi.input"].read()
    start_response("201 Made", [("Content-Type", "text/plain"), ("X-Once", str(environ["wsgi.run_once"]))])
    if path == "/break":
        yield b"some"
        raise ValueError("after some")
    yield "|".join([environ["REQUEST_METHOD"], environ["SCRIPT_NAME"], path, environ["QUERY_STRING"]]).encode("latin-1")
    yield b"|" + body
"#;

/// A web server with one CGI program, of this text after its first line.
fn program(arguments: &str, text: &str) -> Forkhorn {
    let first = format!("#!/usr/bin/env -S {FORKHORN} cgi{arguments}\n");
    Forkhorn::new().script("app", first + text).cgi_folder()
}

#[test]
fn an_application_answers_as_a_cgi_program() {
    let server = program("", APPLICATION).start();
    let answer = server.request("POST", "/cgi-bin/app/a%20b/%C3%A9?q=1", &[], b"the body");
    assert_eq!((answer.status, answer.reason.as_str()), (201, "Made"));
    assert_eq!(answer.field("X-Once"), Some("True"));
    assert_eq!(answer.body, "POST|/cgi-bin/app|/a b/é|q=1|the body".as_bytes());
    for line in ["printed at import", "printed in a request", "told"] {
        server.wait_for_log(line);
    }
    let head = server.request("HEAD", "/cgi-bin/app", &[], b"");
    assert_eq!((head.status, head.body.len()), (201, 0));
}

#[test]
fn a_body_of_several_megabytes_reaches_a_cgi_program() {
    let server = program("", APPLICATION).start();
    let body = vec![b'x'; 3 << 20];
    let answer = server.request("POST", "/cgi-bin/app", &[], &body);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body.len(), "POST|/cgi-bin/app|||".len() + body.len());
}

#[test]
fn a_body_over_its_limit_is_refused_before_the_application_runs() {
    let server = program(" --max-body 10", APPLICATION).start();
    assert_eq!(server.request("POST", "/cgi-bin/app", &[], &[b'x'; 300_000]).status, 413);
    assert_eq!(server.request("POST", "/cgi-bin/app", &[], b"short").status, 201);
}

#[test]
fn an_exception_is_answered_500_and_its_traceback_logged() {
    let server = program("", APPLICATION).start();
    let answer = server.get("/cgi-bin/app/raise");
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains("boom"), "{}", answer.text());
    server.wait_for_log("ValueError: boom");
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let server = program("", APPLICATION).start();
    let mut connection = server.connect();
    connection.send(b"GET /cgi-bin/app/break HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = connection.try_read("GET");
    assert!(!answer.is_ok_and(|answer| answer.complete));
    server.wait_for_log("ValueError: after some");
    server.wait_for_log("was killed by SIGKILL");
}

#[test]
fn an_application_over_its_time_is_answered_504_with_its_stack_in_the_log() {
    let server = program(" --timeout 0.5", APPLICATION).start();
    assert_eq!(server.get("/cgi-bin/app/forever").status, 504);
    server.wait_for_log("over --timeout");
    server.wait_for_log("line * in application");
    server.wait_for_log("was killed by SIGKILL");
}

#[test]
fn what_keeps_an_application_from_loading_is_logged_and_answered_500() {
    let server = program("", "import no_such_module\n").start();
    assert_eq!(server.get("/cgi-bin/app").status, 500);
    server.wait_for_log("No module named 'no_such_module'");
    let server = program(" --virtualenv /nonexistent", APPLICATION).start();
    assert_eq!(server.get("/cgi-bin/app").status, 500);
    server.wait_for_log("--virtualenv /nonexistent: there is no such directory");
}

#[test]
fn without_a_request_it_says_what_it_is_for() {
    let output = std::process::Command::new(FORKHORN)
        .args(["cgi", "examples/hello.py"])
        .env_remove("REQUEST_METHOD")
        .output()
        .expect("forkhorn");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no request in the environment"));
}

#[test]
fn a_script_that_ends_in_wsgirefs_cgi_handler_moves_to_the_pool_by_one_option() {
    let text = "#!/usr/bin/env python3\n\
                import os\n\
                def application(environ, start_response):\n    \
                    start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
                    return [('%s %s' % (environ['SCRIPT_NAME'], environ['PATH_INFO'])).encode()]\n\
                if __name__ == '__main__':\n    \
                    from wsgiref.handlers import CGIHandler\n    \
                    CGIHandler().run(application)\n";
    let as_script = Forkhorn::new().script("app.py", text).cgi_folder().start();
    let expected = as_script.get("/cgi-bin/app.py/x/y");
    assert_eq!(expected.text(), "/cgi-bin/app.py /x/y");

    let folder = Folder::new();
    let file = folder.write("app.py", text);
    let in_pool = Forkhorn::new().mount_path("--mount", "/cgi-bin/app.py", &file).start();
    let answer = in_pool.get("/cgi-bin/app.py/x/y");
    assert_eq!((answer.status, answer.text()), (200, expected.text()));
}
