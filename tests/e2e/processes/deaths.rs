//! Workers that die, or only seem to live: the log says why, with the request, and another one takes the place.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::worker_pid;
use crate::support::http::request_bytes;
use crate::support::process::process;
use crate::support::{Forkhorn, Running, wait_until};

/// `/pid` answers; any other path is the name of what the application does to its process.
const DIES: &str = "import os, signal, sys, ctypes, time\n\
     def application(environ, start_response):\n\
     \x20   how = environ['PATH_INFO'][1:]\n\
     \x20   if how == 'exit': os._exit(7)\n\
     \x20   if how == 'exit-0': os._exit(0)\n\
     \x20   if how == 'sys-exit': sys.exit(3)\n\
     \x20   if how == 'crash': ctypes.string_at(0)\n\
     \x20   if how == 'kill': os.kill(os.getpid(), signal.SIGKILL)\n\
     \x20   if how == 'xcpu': os.kill(os.getpid(), signal.SIGXCPU)\n\
     \x20   if how == 'hold': ctypes.PyDLL(None).sleep(600)\n\
     \x20   if how == 'long': time.sleep(2.5)\n\
     \x20   start_response('200 OK', [('Content-Type', 'application/json')])\n\
     \x20   return [b'{\"pid\": %d}' % os.getpid()]\n";

fn start(args: &[&str]) -> Running {
    let forkhorn = Forkhorn::new().code(DIES);
    args.iter().fold(forkhorn, |forkhorn, arg| forkhorn.arg(*arg)).start()
}

#[test]
fn each_death_is_explained_and_the_request_is_named() {
    let forkhorn = start(&[]);
    for (count, (how, status, why)) in (1..).zip([
        ("exit", "exited with status 7", "nobody had asked it to end: * os._exit(7)"),
        ("exit-0", "exited with status 0", "nobody had asked it to end: * os._exit(0)"),
        ("crash", "was killed by signal 11 (SIGSEGV", "native code has crashed"),
        ("kill", "was killed by signal 9 (SIGKILL", "it was killed from outside, not by forkhorn"),
        ("xcpu", "was killed by signal 24 (SIGXCPU", "it has used up its CPU time"),
    ]) {
        let pid = worker_pid(&forkhorn);
        let mut connection = forkhorn.connect();
        connection.send(request_bytes("GET", &format!("/{how}"), &[], b""));
        forkhorn.wait_for_log(&format!("process {pid} has ended in the middle of: *GET /{how}"));
        forkhorn.wait_for_log(&format!("process {pid} has ended: {why}"));
        forkhorn.wait_for_log(&format!("worker 0 generation 0 (pid {pid}) {status}"));
        forkhorn.server.log.wait_for_nth("worker 0 generation 0 ready", count + 1);
    }
}

#[test]
fn an_application_that_asks_for_the_end_gets_it_and_is_named() {
    let forkhorn = start(&[]);
    let pid = worker_pid(&forkhorn);
    assert_eq!(forkhorn.get("/sys-exit").status, 500);
    forkhorn
        .wait_for_log(&format!("worker 0 generation 0 (pid {pid}) leaves and is replaced: SystemExit: 3"));
    forkhorn.server.log.wait_for_nth("worker 0 generation 0 ready", 2);
    assert_eq!(forkhorn.server.log.count("has ended: "), 0, "there is nothing to explain");
}

#[test]
fn a_worker_that_was_stopped_is_ended_and_replaced() {
    let forkhorn = start(&["--heartbeat-timeout", "1"]);
    let pid = worker_pid(&forkhorn);
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("stopped");
    forkhorn.wait_for_log(&format!(
        "worker 0 generation 0 (pid {pid}) has given no sign of life for * s (--heartbeat-timeout), it was stopped by a signal"
    ));
    forkhorn.server.log.wait_for_nth("worker 0 generation 0 ready", 2);
    assert_ne!(worker_pid(&forkhorn), pid);
    // TERM does not reach a process that is stopped; KILL does.
    wait_until("the stopped one is gone", || process(pid).is_none());
}

#[test]
fn a_worker_without_python_is_watched_too() {
    let forkhorn = Forkhorn::new().cgi_fixtures().args(["--heartbeat-timeout", "1"]).start();
    let pid = forkhorn.family().first().expect("a worker").pid;
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("stopped");
    forkhorn.wait_for_log(&format!("worker 0 generation 0 (pid {pid}) has given no sign of life"));
    forkhorn.server.log.wait_for_nth("worker 0 generation 0 ready", 2);
    wait_until("the stopped one is gone", || process(pid).is_none());
}

#[test]
fn a_worker_whose_application_is_busy_is_left_alone() {
    let forkhorn = start(&["--heartbeat-timeout", "1"]);
    let pid = worker_pid(&forkhorn);
    assert_eq!(forkhorn.get("/long").status, 200);
    assert_eq!(worker_pid(&forkhorn), pid);
    assert_eq!(forkhorn.server.log.count("no sign of life"), 0);
}

#[test]
fn a_worker_stuck_in_native_code_answers_504_and_is_killed() {
    let forkhorn = start(&["--timeout", "0.3", "--graceful-timeout", "0.2", "--heartbeat-timeout", "1"]);
    let pid = worker_pid(&forkhorn);
    let response = forkhorn.get("/hold");
    assert_eq!(response.status, 504);
    forkhorn.wait_for_log(&format!("worker 0 generation 0 (pid {pid}) leaves and is replaced"));
    forkhorn.server.log.wait_for_nth("worker 0 generation 0 ready", 2);
    assert_ne!(worker_pid(&forkhorn), pid);
    forkhorn.wait_for_log(&format!("worker 0 generation 0 (pid {pid}) does not end by itself: killed"));
    wait_until("it is gone", || process(pid).is_none());
    assert_eq!(forkhorn.server.log.count("has ended: "), 0, "the master itself has killed it");
}
