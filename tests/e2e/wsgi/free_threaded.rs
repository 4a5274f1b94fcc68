//! Free-threaded builds of CPython: those that are found, and have their bridge, serve as the others do, and several
//! requests at once; the others are refused by name.

use std::thread;

use crate::support::http::request_bytes;
use crate::support::python::{self, Interpreter, interpreters};
use crate::support::{Forkhorn, Running};

fn free_threaded() -> impl Iterator<Item = Interpreter> {
    interpreters().into_iter().filter(|interpreter| interpreter.own_bridge.is_some())
}

fn start<const N: usize>(interpreter: &Interpreter, args: [&str; N]) -> Running {
    Forkhorn::new().wsgi("free_threaded.py").python(&interpreter.path).args(args).start()
}

#[test]
fn a_free_threaded_build_without_its_bridge_is_refused_and_not_crashed() {
    let suffix = "from importlib import machinery; machinery.EXTENSION_SUFFIXES[0] = '.cpython-399t.so'";
    let cases = [
        ("(3, 14, 0)", ["_forkhorn.cpython-399t.so is neither in", "scripts/build --python"]),
        ("(3, 13, 9)", ["is a free-threaded build of Python 3.13", "3.14 or newer"]),
    ];
    for (version, told) in cases {
        let forkhorn = Forkhorn::new().wsgi("probe.py");
        // All that such a build says of itself where the bridge is looked for.
        let says = format!("import sys; sys.abiflags = 't'; sys.version_info = {version}; {suffix}");
        let code = format!("shift; code=$1; shift\nexec \"$PYTHON\" -c \"{says}; $code\" \"$@\"");
        let python = python::default_python().display();
        let wrapper = forkhorn.folder.script("python3t", format!("#!/bin/sh\nPYTHON='{python}'\n{code}\n"));
        let (status, log) = forkhorn.python(&wrapper).run_to_exit();
        assert_eq!(status, 3, "{log}");
        for told in told.into_iter().chain(["is a free-threaded build", "--python"]) {
            assert!(log.contains(told), "{told:?} is not in: {log}");
        }
    }
}

#[test]
fn two_requests_of_one_worker_compute_at_once_without_the_lock() {
    for interpreter in free_threaded() {
        let forkhorn = start(&interpreter, ["--threads", "4"]);
        assert_eq!(forkhorn.get("/lock").text(), "False", "{interpreter:?}");
        let mut clients = [forkhorn.connect(), forkhorn.connect()];
        for (place, client) in clients.iter_mut().enumerate() {
            client.send(request_bytes("GET", &format!("/meet?{place}"), &[], b""));
        }
        for mut client in clients {
            assert_eq!(client.read_response().text(), "met", "{interpreter:?}");
        }
    }
}

#[test]
fn the_log_tells_where_each_of_the_threads_computes() {
    for interpreter in free_threaded() {
        let forkhorn = start(&interpreter, ["--threads", "3", "--slow-request", "1"]);
        let mut clients = [forkhorn.connect(), forkhorn.connect()];
        for (client, place) in clients.iter_mut().zip(["here", "there"]) {
            client.send(request_bytes("GET", &format!("/spin_{place}"), &[], b""));
        }
        forkhorn.wait_for_log("*in spin_here");
        forkhorn.wait_for_log("*in spin_there");
        forkhorn.get("/release");
        for (client, place) in clients.iter_mut().zip(["here", "there"]) {
            assert_eq!(client.read_response().text(), place, "{interpreter:?}");
        }
    }
}

#[test]
fn what_another_thread_still_holds_never_serves_a_later_request() {
    for interpreter in free_threaded() {
        let forkhorn = start(&interpreter, ["--threads", "4"]);
        thread::scope(|scope| {
            for client in 0..4 {
                let forkhorn = &forkhorn;
                scope.spawn(move || {
                    let mut connection = forkhorn.connect();
                    for number in 0..300 {
                        let body = format!("{client}/{number}");
                        let target = format!("/keep?{body}");
                        connection.send(request_bytes("POST", &target, &[], body.as_bytes()));
                        assert_eq!(connection.read_response().text(), format!("{body} {body}"));
                    }
                });
            }
        });
    }
}

#[test]
fn threads_that_send_the_same_object_do_not_wait_for_each_other_for_ever() {
    for interpreter in free_threaded() {
        let forkhorn = start(&interpreter, ["--threads", "4"]);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut connection = forkhorn.connect();
                    for _ in 0..20 {
                        assert_eq!(connection.get("/shared").body.len(), 16 * 65536);
                    }
                });
            }
        });
    }
}
