//! Time-outs that tell, and more requests than can be answered.

use nix::sys::signal::Signal;

use crate::status::pages::status_address;
use crate::support::fastcgi::{self, Request};
use crate::support::http::{get, request_bytes};
use crate::support::{Forkhorn, Running, wait_until};

/// `/hold` computes in C for longer than any test lasts, and gives up the interpreter's lock never; `/wait` waits in Python
/// until the file `go` is there; `/gone` until its client has left.
const APPLICATION: &str = r#"
import os, threading, time

FOLDER = os.path.dirname(os.path.abspath(__file__))

def note(name, text=""):
    with open(os.path.join(FOLDER, name), "w") as file:
        file.write(text)

def hold_the_lock():
    return sum(range(10 ** 15))

def wait_for_go():
    while not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.002)

def helper_thread_of_the_application(ready):
    ready.set()
    threading.Event().wait()

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hold":
        ready = threading.Event()
        threading.Thread(target=helper_thread_of_the_application, args=(ready,), daemon=True).start()
        ready.wait()
        note("entered")
        hold_the_lock()
    if path == "/wait":
        note("entered")
        wait_for_go()
    if path == "/gone":
        gone = environ["forkhorn.client_gone"]
        note("entered", repr(gone()))
        while not gone():
            time.sleep(0.002)
        note("left")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/keep":
        KEPT.append(environ["forkhorn.client_gone"])
        return [b"kept"]
    if path == "/kept":
        try:
            return [repr([gone() for gone in KEPT]).encode()]
        except RuntimeError as error:
            return [str(error).encode()]
    return [str(os.getpid()).encode()]

KEPT = []
"#;

fn entered(forkhorn: &Running) {
    wait_until("the application runs", || forkhorn.folder.join("entered").exists());
}

#[test]
fn a_request_that_holds_the_lock_in_c_is_504_with_all_stacks_and_its_worker_is_killed_in_the_end() {
    let forkhorn = Forkhorn::new().both().args(["--timeout", "0.3", "--graceful-timeout", "0.5"]);
    let forkhorn = forkhorn.code(APPLICATION).start();
    let before = forkhorn.get("/").text();
    assert_eq!(forkhorn.get("/hold?secret").status, 504);
    forkhorn.wait_for_log("ERROR*GET /hold*over --timeout after 0.*");
    forkhorn.wait_for_log("*in hold_the_lock");
    forkhorn.wait_for_log("*in helper_thread_of_the_application");
    forkhorn.wait_for_log("ERROR*GET /hold*still in the application*--graceful-timeout is over*");
    forkhorn.wait_for_log("WARN*worker 0*killed");
    let after = forkhorn.get("/").text();
    assert_ne!(before, after);
}

#[test]
fn a_slow_request_is_told_of_once_with_all_stacks_and_goes_on() {
    let forkhorn = Forkhorn::new().args(["--slow-request", "0.2", "--threads", "3"]);
    let forkhorn = forkhorn.args(["--status", "127.0.0.1:0"]);
    let forkhorn = forkhorn.code(APPLICATION).start();
    let mut clients: Vec<_> = (0..2).map(|_| forkhorn.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request_bytes("GET", &format!("/wait?{number}"), &[], b""));
    }
    forkhorn.wait_for_log("WARN*GET /wait?*over --slow-request, still running after 0.*");
    forkhorn.wait_for_log("*in wait_for_go");
    // The second one may be left out of the log, having come so soon after, but is counted.
    let status = status_address(&forkhorn);
    let slow = || get(&status, "/status").json()["totals"]["slow_requests"].as_u64().expect("a number");
    wait_until("both are slow", || slow() >= 2);
    forkhorn.folder.write("go", "");
    for client in &mut clients {
        assert_eq!(client.read_response().status, 200);
    }
    assert_eq!(slow(), 2, "each is slow once");
    let log = forkhorn.server.log.text();
    for number in 0..2 {
        assert!(log.matches(&format!("GET /wait?{number}: over --slow-request")).count() <= 1, "{log}");
    }
    assert!(!log.contains("over --timeout"), "{log}");
}

#[test]
fn an_application_can_ask_whether_its_client_has_left() {
    let leave_by_http = |forkhorn: &Running| {
        let mut client = forkhorn.connect();
        client.send(request_bytes("GET", "/gone", &[], b""));
        entered(forkhorn);
    };
    let abort = |forkhorn: &Running| {
        let mut peer = forkhorn.peer();
        peer.send(Request::new("GET", "/gone").keep().bytes());
        entered(forkhorn);
        peer.send(fastcgi::record(fastcgi::ABORT_REQUEST, 1, b""));
        // An abort is answered, the connection stays.
        assert!(peer.answer(1).complete);
    };
    let close = |forkhorn: &Running| {
        let mut peer = forkhorn.peer();
        peer.send(Request::new("GET", "/gone").keep().bytes());
        entered(forkhorn);
    };
    let ways: [&dyn Fn(&Running); 3] = [&leave_by_http, &abort, &close];
    for leave in ways {
        let forkhorn = Forkhorn::new().both().code(APPLICATION).start();
        leave(&forkhorn);
        assert_eq!(forkhorn.folder.read("entered"), "False");
        wait_until("the application knows", || forkhorn.folder.join("left").exists());
        assert_eq!(forkhorn.get("/").status, 200);
    }
}

#[test]
fn the_question_for_the_client_is_no_use_after_its_request() {
    let forkhorn = Forkhorn::new().code(APPLICATION).start();
    for _ in 0..3 {
        assert_eq!(forkhorn.get("/keep").text(), "kept");
    }
    let said = forkhorn.get("/kept").text();
    assert!(said.contains("request"), "{said}");
    assert_eq!(forkhorn.get("/keep").text(), "kept");
}

#[test]
fn requests_whose_clients_left_while_they_waited_are_499_and_not_run() {
    let forkhorn = Forkhorn::new().both().args(["--access-log", "-"]).code(APPLICATION).start();
    let mut busy = forkhorn.connect();
    busy.send(request_bytes("GET", "/wait", &[], b""));
    entered(&forkhorn);
    let mut client = forkhorn.connect();
    client.send(request_bytes("GET", "/gone?http", &[], b""));
    let mut peer = forkhorn.peer();
    peer.send(Request::new("GET", "/gone?aborted").keep().bytes());
    peer.send(fastcgi::record(fastcgi::ABORT_REQUEST, 1, b""));
    assert!(peer.answer(1).complete);
    drop(client);
    forkhorn.wait_for_log("*GET /gone?aborted* 499 *");
    forkhorn.wait_for_log("*GET /gone?http* 499 *");
    forkhorn.folder.write("go", "");
    assert_eq!(busy.read_response().status, 200);
    assert_eq!(forkhorn.folder.read("entered"), "", "the application was called for a client that had left");
    forkhorn.signal(Signal::SIGTERM);
}
