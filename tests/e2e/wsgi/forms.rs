//! The forms in which an application is named, and what is said where it can't be loaded.

use crate::support::forkhorn::BINARY;
use crate::support::{Forkhorn, python, wait_until};

const MODULE: &str = "\
import os, sys
class Site:
    def __init__(self, text):
        self.text = text
    def __call__(self, environ, start_response):
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [self.text.encode()]
application = Site('application')
app = Site('app')
class holder:
    inner = Site('inner')
def create_app():
    return Site('made by a factory in ' + __name__)
def returns_nothing():
    return None
def raises():
    raise RuntimeError('no database')
def needs(argument):
    return app
number = 5
";

fn module() -> Forkhorn {
    let forkhorn = Forkhorn::new();
    forkhorn.folder.write("modules/shop/__init__.py", "");
    forkhorn.folder.write("modules/shop/wsgi.py", MODULE);
    forkhorn.folder.write("modules/plain.py", MODULE);
    forkhorn.folder.write("modules/other.wsgi.py", MODULE);
    forkhorn
}

#[test]
fn applications_are_found_in_all_their_forms() {
    for (app, expected) in [
        ("plain", "application"),
        ("plain:app", "app"),
        ("shop.wsgi", "application"),
        ("shop.wsgi:app", "app"),
        ("shop.wsgi:holder.inner", "inner"),
        ("shop.wsgi:create_app()", "made by a factory in shop.wsgi"),
        ("plain:create_app()", "made by a factory in plain"),
    ] {
        let forkhorn = module().app(app);
        let path = forkhorn.folder.join("modules");
        let forkhorn = forkhorn.arg("--pythonpath").arg(path).start();
        assert_eq!(forkhorn.get("/").text(), expected, "{app}");
    }
    for (file, expected) in [
        ("modules/plain.py", "application"),
        ("modules/plain.py:app", "app"),
        ("./modules/plain.py:holder.inner", "inner"),
        ("modules/other.wsgi.py:app", "app"),
    ] {
        let forkhorn = module().app(file);
        let directory = forkhorn.folder.path().to_owned();
        assert_eq!(forkhorn.directory(&directory).start().get("/").text(), expected, "{file}");
    }
}

#[test]
fn modules_are_searched_in_the_working_directory_too() {
    let forkhorn = module().app("plain:app");
    let path = forkhorn.folder.join("modules");
    assert_eq!(forkhorn.directory(&path).start().get("/").text(), "app");
    let forkhorn = module().app("plain:app");
    let path = forkhorn.folder.join("modules");
    assert_eq!(forkhorn.arg("--chdir").arg(&path).start().get("/").text(), "app");
}

#[test]
fn working_directory_and_environment_are_those_that_the_operator_names() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--env", "A=1", "--env", "B=two=2"]).env("C", "3");
    let work = forkhorn.folder.folder("work").canonicalize().expect("a path");
    let forkhorn = forkhorn.arg("--chdir").arg(&work).start();
    let facts = forkhorn.get("/facts").json();
    assert_eq!(facts["cwd"], work.display().to_string());
    assert_eq!(
        (&facts["environ"]["A"], &facts["environ"]["B"], &facts["environ"]["C"]),
        (&"1".into(), &"two=2".into(), &"3".into())
    );
}

#[test]
fn an_application_that_can_not_be_loaded_ends_the_start_with_3_and_says_why() {
    for (app, message) in [
        ("missing", "No module named 'missing'"),
        ("shop.missing", "No module named 'shop.missing'"),
        ("plain:missing", "has no attribute 'missing'"),
        ("plain:number", "not callable"),
        ("plain:returns_nothing()", "not callable"),
        ("plain:raises()", "RuntimeError: no database"),
        ("plain:needs()", "TypeError"),
        ("broken_syntax", "SyntaxError"),
        ("broken_import", "No module named 'not_installed'"),
        ("exits", "SystemExit"),
        ("nowhere", "it was looked for in /"),
        ("plain:ap", "is it app?"),
        ("project", "is it project.wsgi?"),
    ] {
        for preload in ["auto", "never"] {
            let forkhorn = module().app(app).args(["--preload", preload]).workers(2).log_level("info");
            forkhorn.folder.write("modules/broken_syntax.py", "def application(:\n");
            forkhorn.folder.write("modules/broken_import.py", "import not_installed\n");
            forkhorn.folder.write("modules/exits.py", "import sys\nsys.exit(0)\n");
            forkhorn.folder.write("modules/project/__init__.py", "");
            forkhorn
                .folder
                .write("modules/project/wsgi.py", "def application(environ, start_response):\n    pass\n");
            let path = forkhorn.folder.join("modules");
            let (code, log) = forkhorn.arg("--pythonpath").arg(path).run_to_exit();
            assert_eq!(code, 3, "{app}, --preload {preload}: {log}");
            assert!(log.contains(message), "{app}: {log}");
            assert!(
                log.contains("forkhorn: ") && log.contains(app),
                "{app}: no line for the operator in {log}"
            );
            // One template, or each worker once: no storm of attempts.
            assert!(log.matches("Traceback").count() <= 4, "{app}: {log}");
        }
    }
}

#[test]
fn a_binary_that_was_copied_without_its_bridge_says_what_is_missing() {
    let folder = crate::support::Folder::new();
    let alone = folder.folder("bin").join("forkhorn");
    if std::fs::hard_link(BINARY, &alone).is_err() {
        std::fs::copy(BINARY, &alone).expect("copied");
    }
    let python = python::default_python();
    let output = std::process::Command::new(&alone)
        .args(["serve", "shop.wsgi", "--http", "127.0.0.1:0", "--python"])
        .arg(python)
        .env_remove("VIRTUAL_ENV")
        .output()
        .expect("forkhorn");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    let place = folder.path().canonicalize().expect("a path");
    for words in ["_forkhorn.abi3.so, which Python needs", "copy it to one of the two"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(told.contains(&place.join("lib/forkhorn").display().to_string()), "{told}");
}

#[test]
fn what_an_application_prints_is_seen_at_once() {
    let forkhorn = module().app("printing");
    forkhorn.folder.write(
        "modules/printing.py",
        "def application(environ, start_response):\n    print('seen at', environ['PATH_INFO'])\n    \
         start_response('200 OK', [])\n    return [b'']\n",
    );
    let path = forkhorn.folder.join("modules");
    let forkhorn = forkhorn.arg("--pythonpath").arg(path).start();
    assert_eq!(forkhorn.get("/here").status, 200);
    forkhorn.wait_for_log("seen at /here");
}

#[test]
fn an_interpreter_that_can_not_be_used_ends_the_start() {
    for (path, content) in
        [("/nowhere/python3", None), ("old", Some("#!/bin/sh\necho 'no Python'; exit 1\n"))]
    {
        let mut forkhorn = Forkhorn::new().wsgi("probe.py");
        let path = content.map_or_else(|| path.into(), |content| forkhorn.folder.script(path, content));
        forkhorn = forkhorn.python(&path);
        let (code, log) = forkhorn.run_to_exit();
        assert!([1, 2, 3].contains(&code), "{code}: {log}");
        assert!(
            log.contains("forkhorn: cannot load the application") || log.contains("/nowhere/python3"),
            "{log}"
        );
    }
}

#[test]
fn django_answers_from_a_virtual_environment() {
    let project = crate::support::project().join("examples/django_project");
    let forkhorn = Forkhorn::new().app("mysite.wsgi").python_by_itself().both().workers(2);
    let forkhorn = forkhorn.arg("--pythonpath").arg(project).arg("--virtualenv").arg(python::venv()).start();
    let page = forkhorn.get("/answer/?name=Zo%C3%AB&colour=red");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Zo\u{eb}"), "{}", page.text());
    // A form with a CSRF token: the page, its cookie, the answer.
    let mut connection = forkhorn.connect();
    let page = connection.get("/");
    let cookie =
        page.field("Set-Cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie").to_owned();
    let text = page.text();
    let token = text
        .split("csrfmiddlewaretoken\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a token");
    let form = format!("csrfmiddlewaretoken={token}&name=You&message=hello");
    let fields = [("Cookie", cookie.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = connection.request("POST", "/", &fields, form.as_bytes());
    assert!(answer.status == 200 && answer.text().contains("You"), "{} {}", answer.status, answer.text());
    assert_eq!(connection.request("POST", "/", &fields[1..], form.as_bytes()).status, 403);
    // Debug is off: no detail.
    assert_eq!(connection.get("/missing").status, 404);
}

#[test]
fn flask_answers_from_a_virtual_environment() {
    let code = "from flask import Flask, request\napp = Flask(__name__)\n\
        @app.route('/hello/<name>', methods=['GET', 'POST'])\n\
        def hello(name):\n    return name + ':' + request.form.get('a', '') + ':' + request.script_root\n";
    let forkhorn = Forkhorn::new();
    let file = forkhorn.folder.write("site.py", code).display().to_string();
    let mount = format!("/mounted={file}:app");
    let forkhorn = forkhorn.app(format!("{file}:app")).args(["--mount", &mount]).python_by_itself().both();
    let forkhorn = forkhorn.env("VIRTUAL_ENV", python::venv()).start();
    assert_eq!(forkhorn.get("/hello/w%C3%B6rld").text(), "w\u{f6}rld::");
    assert_eq!(forkhorn.get("/mounted/hello/a%20b").text(), "a b::/mounted");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(forkhorn.request("POST", "/hello/x", &form, b"a=1").text(), "x:1:");
    // Werkzeug reads nothing from a body of unknown length unless it knows that the input ends.
    let mut connection = forkhorn.connect();
    connection.send(
        "POST /hello/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\na=2\r\n0\r\n\r\n",
    );
    assert_eq!(connection.read_response().text(), "x:2:");
}

#[test]
fn an_application_that_never_ends_loading_can_be_stopped() {
    let forkhorn = Forkhorn::new();
    let note = forkhorn.folder.join("loading");
    let code = format!(
        "import time\nopen({:?}, 'w').close()\nwhile True: time.sleep(1)\n",
        note.display().to_string()
    );
    let mut forkhorn = forkhorn.code(&code).launch();
    wait_until("loading has begun", || note.exists());
    forkhorn.signal(nix::sys::signal::Signal::SIGTERM);
    forkhorn.wait_exit();
}
