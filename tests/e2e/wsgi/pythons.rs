//! The user's own Python: every interpreter of this machine, virtual environments, and the standard library in them.

use crate::support::python::{self, interpreters};
use crate::support::{Forkhorn, wait_until};

#[test]
fn every_interpreter_of_this_machine_serves_the_same_application_by_one_build() {
    for interpreter in interpreters() {
        let forkhorn = Forkhorn::new().wsgi("probe.py").python(&interpreter.path).both().workers(2).start();
        let facts = forkhorn.get("/facts").json();
        assert_eq!(facts["version"], interpreter.version.as_str());
        assert_eq!(facts["prefix"], interpreter.prefix.as_str());
        let executable = facts["executable"].as_str().map(std::fs::canonicalize);
        let executable = executable.expect("a path").expect("an executable").display().to_string();
        assert_eq!(executable, interpreter.executable);
        assert_eq!(forkhorn.request("POST", "/echo", &[], b"body").text(), "body", "{interpreter:?}");
    }
}

#[test]
fn every_interpreter_keeps_the_rules() {
    for interpreter in interpreters() {
        let forkhorn = Forkhorn::new().wsgi("rules.py").python(&interpreter.path).start();
        for (name, status) in [
            ("generator", 200),
            ("write", 200),
            ("wrapped_file", 200),
            ("raises", 500),
            ("bad_value_crlf", 500),
        ] {
            assert_eq!(forkhorn.get(&format!("/{name}")).status, status, "{name} with {interpreter:?}");
        }
        assert_eq!(
            forkhorn.request("POST", "/reads?readline(2),iter", &[], b"abc\nd").json(),
            serde_json::json!(["ab", "c\n", "d"])
        );
    }
}

#[test]
fn a_virtual_environment_is_the_one_that_is_named() {
    let venv = python::venv();
    let expected = venv.canonicalize().expect("a path").display().to_string();
    let by_option = |forkhorn: Forkhorn| forkhorn.arg("--virtualenv").arg(&venv);
    let by_variable = |forkhorn: Forkhorn| forkhorn.env("VIRTUAL_ENV", &venv);
    let by_interpreter = |forkhorn: Forkhorn| forkhorn.python(venv.join("bin/python3"));
    let ways: [&dyn Fn(Forkhorn) -> Forkhorn; 3] = [&by_option, &by_variable, &by_interpreter];
    for way in ways {
        let forkhorn = way(Forkhorn::new().wsgi("probe.py").python_by_itself()).start();
        let facts = forkhorn.get("/facts").json();
        let prefix = std::fs::canonicalize(facts["prefix"].as_str().expect("a path")).expect("a folder");
        assert_eq!(prefix.display().to_string(), expected);
        assert_ne!(facts["prefix"], facts["base_prefix"]);
    }
}

#[test]
fn without_an_option_python3_of_the_path_is_taken() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").python_by_itself().start();
    let expected = python::ask(python::default_python()).expect("it has been asked before");
    assert_eq!(forkhorn.get("/facts").json()["version"], expected.version.as_str());
}

#[test]
fn the_standard_library_behaves_as_in_plain_python() {
    for interpreter in interpreters() {
        for preload in ["auto", "never"] {
            let forkhorn = Forkhorn::new()
                .wsgi("standard_library.py")
                .python(&interpreter.path)
                .args(["--preload", preload])
                .start();
            let mut connection = forkhorn.connect();
            for name in [
                "subprocess",
                "fork",
                "multiprocessing",
                "pool",
                "threads",
                "signals",
                "children",
                "asyncio",
                "sqlite",
                "ctypes",
            ] {
                let response = connection.get(&format!("/{name}"));
                assert_eq!(response.text(), "ok", "{name}, --preload {preload}, {interpreter:?}");
            }
            assert_eq!(connection.get("/alarm").text(), "rang");
            assert_eq!(connection.get("/context").text(), "unset");
            // No thread of ours counts as a thread of the application.
            connection.get("/start_ticking");
            let ticks = |text: String| text.parse::<u64>().expect("a number");
            let first = ticks(connection.get("/ticks").text());
            wait_until("a thread goes on between requests", || {
                ticks(forkhorn.get("/ticks").text()) > first + 3
            });
            connection.get("/signal_later");
            wait_until("a signal is seen between requests", || forkhorn.get("/seen").text() == "1");
        }
    }
}

#[test]
fn a_thread_of_the_application_goes_on_while_no_request_comes() {
    let forkhorn = Forkhorn::new();
    let file = forkhorn.folder.join("ticks");
    let code = format!(
        "import threading, time\n\
         def tick():\n    while True:\n        open({:?}, 'a').write('x')\n        time.sleep(0.005)\n\
         def application(environ, start_response):\n    threading.Thread(target=tick, daemon=True).start()\n\
         \x20   start_response('200 OK', [])\n    return [b'started']\n",
        file.display().to_string()
    );
    let forkhorn = forkhorn.code(&code).start();
    assert_eq!(forkhorn.get("/").text(), "started");
    let length = || std::fs::metadata(&file).map_or(0, |file| file.len());
    wait_until("the thread ticks", || length() > 0);
    let before = length();
    wait_until("the thread goes on", || length() > before + 20);
}

#[test]
fn the_hooks_of_fork_run_once_in_each_worker() {
    let forkhorn = Forkhorn::new().wsgi("standard_library.py").workers(2).start();
    for _ in 0..10 {
        let text = forkhorn.get("/forked").text();
        assert!(text.starts_with("1 "), "{text}: the hook did not run once in this worker");
    }
}

#[test]
fn atexit_runs_when_a_worker_ends_in_peace() {
    let mut forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let note = forkhorn.folder.join("note");
    assert_eq!(forkhorn.get(&format!("/at_exit?file={}", note.display())).status, 200);
    forkhorn.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
    assert!(forkhorn.folder.read("note").starts_with("atexit "));
}

#[test]
fn as_many_requests_as_there_are_threads_are_in_python_at_once() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--threads", "4"]).start();
    let (at, until) = (forkhorn.folder.join("at"), forkhorn.folder.join("until"));
    let target = format!("/wait?at={}&until={}", at.display(), until.display());
    let mut connections: Vec<_> = (0..4).map(|_| forkhorn.connect()).collect();
    for connection in &mut connections {
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    wait_until("all four are in the application", || forkhorn.folder.read("at").lines().count() == 4);
    forkhorn.folder.write("until", "");
    for mut connection in connections {
        assert_eq!(connection.read_response().text(), "waited\n");
    }
}

#[test]
fn descriptors_of_the_daemon_are_not_inherited_by_what_applications_start() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().cgi_fixtures().start();
    let facts = forkhorn.get("/facts").json();
    let count = facts["descriptors"].as_array().map_or(0, Vec::len);
    assert!(count < 30, "{}", facts["descriptors"]);
    let response = forkhorn.get("/cgi-bin/dump.pl");
    assert_eq!(crate::cgi::Dump::of(&response).descriptors, ["0", "1", "2"]);
}
