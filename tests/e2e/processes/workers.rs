//! Workers: forked from the template, replaced when they die, gone with their master.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{pid_of, wait_target, worker_pid};
use crate::support::http::Connection;
use crate::support::process::{exists, process, send_signal, status_line};
use crate::support::wait::poll;
use crate::support::{Forkhorn, Running, wait_until};

#[test]
fn killed_worker_is_replaced_and_the_next_request_succeeds() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let mut pid = worker_pid(&forkhorn);
    for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGABRT] {
        send_signal(pid, signal);
        wait_until("another worker answers", || {
            let Some(response) = try_pid(&forkhorn) else { return false };
            let replaced = response != pid;
            if replaced {
                pid = response;
            }
            replaced
        });
    }
    forkhorn.server.log.wait_for_nth("worker 0 generation 0 ready", 4);
}

/// The worker's pid, unless the connection ends without an answer: it may have been the dying worker's.
fn try_pid(forkhorn: &Running) -> Option<i32> {
    let mut connection = forkhorn.connect();
    connection.send_anyway("GET /pid HTTP/1.1\r\nHost: x\r\n\r\n");
    connection.try_read("GET").ok().filter(|response| response.complete).map(|response| pid_of(&response))
}

#[test]
fn a_worker_that_ends_itself_breaks_one_request_and_no_other() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).both().start();
    for target in ["/die", "/crash"] {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(connection.is_closed(), "{target} was answered");
        for _ in 0..5 {
            assert_eq!(forkhorn.get("/pid").status, 200);
        }
    }
    forkhorn.wait_for_log("worker*7");
    forkhorn.wait_for_log("worker*SIGSEGV");
    wait_until("both are replaced", || forkhorn.server.log.count("worker * generation 0 ready") >= 4);
}

#[test]
fn workers_that_die_at_their_start_are_started_ever_more_slowly() {
    let forkhorn = Forkhorn::new();
    let note = forkhorn.folder.join("starts");
    // The first worker lives; later ones die while they load.
    let code = format!(
        "import os\nwith open({:?}, 'a') as file: file.write('x')\n\
         if os.path.getsize({:?}) > 1: os._exit(9)\n\
         def application(environ, start_response):\n    start_response('200 OK', [])\n    os._exit(1)\n",
        note.display().to_string(),
        note.display().to_string()
    );
    let mut forkhorn = forkhorn.code(&code).args(["--preload", "never"]).start();
    let mut connection = forkhorn.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(connection.is_closed());
    let starts = || std::fs::metadata(&note).map_or(0, |file| file.len());
    wait_until("a second start fails", || starts() >= 3);
    // Without a back-off there would be dozens in this time.
    let before = starts();
    let began = Instant::now();
    let many = poll(Duration::from_secs(2), || (starts() > before + 12).then_some(()));
    assert!(many.is_none(), "{} starts in {:?}", starts() - before, began.elapsed());
    assert!(forkhorn.server.try_exit().is_none(), "the master has given up");
    forkhorn.may_end();
}

#[test]
fn the_log_names_the_requests_that_a_killed_worker_has_taken_with_it() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let pid = worker_pid(&forkhorn);
    let mut connection = forkhorn.connect();
    let target = wait_target(&forkhorn);
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_until("the request runs", || !forkhorn.folder.read("at").is_empty());
    send_signal(pid, Signal::SIGKILL);
    forkhorn.wait_for_log(&format!("process {pid} has ended in the middle of: GET {target} ("));
}

#[test]
fn workers_die_with_their_master() {
    for (name, forkhorn) in [
        ("python", Forkhorn::new().wsgi("probe.py").workers(3)),
        ("cgi", Forkhorn::new().cgi_fixtures().workers(3)),
        ("each loads", Forkhorn::new().wsgi("probe.py").workers(3).args(["--preload", "never"])),
    ] {
        let mut forkhorn = forkhorn.start();
        let family = forkhorn.family();
        assert!(family.len() >= 3, "{name}: {family:?}");
        forkhorn.signal(Signal::SIGKILL);
        forkhorn.wait_exit();
        wait_until(&format!("{name}: no process is left"), || !family.iter().any(exists));
    }
}

#[test]
fn a_busy_worker_dies_with_its_master_too() {
    let mut forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let mut connection = forkhorn.connect();
    connection.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", wait_target(&forkhorn)));
    wait_until("the request runs", || !forkhorn.folder.read("at").is_empty());
    let family = forkhorn.family();
    forkhorn.signal(Signal::SIGKILL);
    forkhorn.wait_exit();
    wait_until("no process is left", || !family.iter().any(exists));
}

#[test]
fn the_application_is_loaded_once_or_in_each_worker_as_the_operator_says() {
    for (preload, shared) in [("auto", true), ("always", true), ("never", false)] {
        let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).args(["--preload", preload]).start();
        let answers = of_both_workers(&forkhorn);
        let all = |name: &str| answers.iter().map(|answer| answer[name].as_i64()).collect::<BTreeSet<_>>();
        let (loaded_in, pids) = (all("loaded_in"), all("pid"));
        assert_eq!(
            all("ppid"),
            BTreeSet::from([Some(forkhorn.pid().into())]),
            "the master watches them itself"
        );
        if shared {
            assert_eq!(loaded_in.len(), 1, "--preload {preload}");
            assert!(loaded_in.is_disjoint(&pids), "the template serves");
        } else {
            assert_eq!(loaded_in, pids, "--preload {preload}");
        }
    }
}

/// What each of two workers answers to `/pid`. Which of them takes a connection is the kernel's choice, but a busy one
/// leaves it to the other.
fn of_both_workers(forkhorn: &Running) -> [serde_json::Value; 2] {
    let mut first = occupy(forkhorn, "first");
    let one = forkhorn.get("/pid").json();
    let mut second = occupy(forkhorn, "second");
    forkhorn.folder.write("first.go", "");
    assert_eq!(first.read_response().status, 200);
    let other = forkhorn.get("/pid").json();
    forkhorn.folder.write("second.go", "");
    assert_eq!(second.read_response().status, 200);
    assert_ne!(one["pid"], other["pid"], "both workers have answered");
    [one, other]
}

/// Keeps a worker busy until the file `NAME.go` is there.
fn occupy(forkhorn: &Running, name: &str) -> Connection {
    let file = |end: &str| forkhorn.folder.join(&format!("{name}.{end}")).display().to_string();
    let mut connection = forkhorn.connect();
    let target = format!("/wait?at={}&until={}", file("at"), file("go"));
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_until("the request runs", || !forkhorn.folder.read(&format!("{name}.at")).is_empty());
    connection
}

#[test]
fn an_application_that_can_not_be_copied_is_loaded_by_each_worker() {
    for (name, code) in [
        (
            "thread",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()\n",
        ),
        ("socket", "import socket\nlistener = socket.create_server(('127.0.0.1', 0))\n"),
    ] {
        let code = format!(
            "import os\nloaded_in = os.getpid()\n{code}\ndef application(environ, start_response):\n\
             \x20   start_response('200 OK', [])\n    return [b'%d %d' % (loaded_in, os.getpid())]\n"
        );
        for (preload, shared) in [("auto", false), ("always", true)] {
            let forkhorn = Forkhorn::new().code(&code).workers(2).args(["--preload", preload]).start();
            let text = forkhorn.get("/").text();
            let (loaded_in, pid) = text.split_once(' ').expect("two pids");
            assert_eq!(loaded_in != pid, shared, "{name}, --preload {preload}");
            if !shared {
                forkhorn.wait_for_log("each worker loads");
                forkhorn.wait_for_log(&format!("  | *{name}"));
            }
        }
    }
}

#[test]
fn the_template_is_no_listener_and_holds_no_thread() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).start();
    let worker = worker_pid(&forkhorn);
    for process in forkhorn.family() {
        let threads: usize = status_line(process.pid, "Threads")[0].parse().expect("a number");
        assert!(threads <= 2, "{process:?} has {threads} threads");
    }
    assert_eq!(status_line(forkhorn.pid(), "Threads"), ["1"], "the master has one thread");
    assert!(process(worker).is_some_and(|worker| worker.parent == forkhorn.pid()));
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", forkhorn.pid())).expect("the master's maps");
    assert!(!maps.contains("libpython") && !maps.contains("_forkhorn"), "the master runs Python");
}

#[test]
fn ttin_and_ttou_start_and_stop_a_worker() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(1).start();
    forkhorn.signal(Signal::SIGTTIN);
    let pids = [0, 1].map(|slot| {
        let line = forkhorn.wait_for_log(&format!("worker {slot} generation 0 ready, pid *"));
        let pid = line.rsplit(' ').next().expect("the last word");
        pid.parse::<i32>().unwrap_or_else(|error| panic!("{line}: {error}"))
    });
    forkhorn.signal(Signal::SIGTTOU);
    wait_until("one worker is left", || pids.iter().filter(|pid| process(**pid).is_some()).count() == 1);
    // One stays, however often it is said.
    forkhorn.signal(Signal::SIGTTOU);
    forkhorn.signal(Signal::SIGTTOU);
    // Signals that wait at the same time have no order: the master has to have seen these.
    wait_until("the master idles", || {
        process(forkhorn.pid()).is_some_and(|master| master.state == 'S' && no_signal_waits(master.pid))
    });
    forkhorn.signal(Signal::SIGTTIN);
    wait_until("a second worker starts", || forkhorn.server.log.count("worker * generation 0 ready") >= 3);
    assert_eq!(forkhorn.get("/pid").status, 200);
}

fn no_signal_waits(pid: i32) -> bool {
    ["SigPnd", "ShdPnd"].iter().all(|set| status_line(pid, set) == ["0000000000000000"])
}

#[test]
fn a_request_over_its_time_is_504_and_its_worker_is_replaced() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--timeout", "0.3"]).both().start();
    let before = worker_pid(&forkhorn);
    let mut idle = forkhorn.connect();
    assert_eq!(idle.get("/pid").status, 200);
    let response = forkhorn.get(&wait_target(&forkhorn));
    assert_eq!(response.status, 504);
    forkhorn.wait_for_log("touch_and_wait");
    wait_until("another worker answers", || try_pid(&forkhorn).is_some_and(|pid| pid != before));
    wait_until("the stuck worker is gone", || process(before).is_none());
}

#[test]
fn a_worker_idles_without_using_the_processor() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    let worker = worker_pid(&forkhorn);
    // Half-open, half-sent, idle: none of it keeps a worker busy.
    let mut held = Vec::new();
    for start in ["", "GET", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"] {
        let mut connection = forkhorn.connect();
        connection.send(start);
        held.push(connection);
    }
    let mut half = forkhorn.connect();
    half.send("GET /pid HT");
    half.stream.finish_sending();
    let mut peer = forkhorn.peer();
    peer.send([1, 1, 0]);
    peer.stream.finish_sending();
    let ticks =
        || [worker, forkhorn.pid()].iter().filter_map(|pid| process(*pid)).map(|p| p.cpu_ticks).sum::<u64>();
    assert_eq!(forkhorn.get("/pid").status, 200);
    let before = ticks();
    // The time that passes is what is measured here: a busy loop would use all of it (100 ticks a second).
    poll(Duration::from_millis(700), || (ticks() > before + 30).then_some(()));
    assert!(ticks() <= before + 20, "{} ticks while idle", ticks() - before);
}
