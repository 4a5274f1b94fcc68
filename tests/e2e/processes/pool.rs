//! Pools that grow and shrink, and what workers know of each other.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::load::under_load;
use super::{pid_of, wait_target, worker_pid};
use crate::support::process::process;
use crate::support::{Forkhorn, Running, wait_until};

/// Each request takes a hundredth of a second without using the processor, unless it has a query.
const SLEEPING: &str = "import os, time\n\
    def application(environ, start_response):\n\
    \x20   if not environ['QUERY_STRING']: time.sleep(0.01)\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [b'%d' % os.getpid()]\n";

/// Processes of forkhorn's own below the master: the template and the workers.
fn processes(forkhorn: &Running) -> usize {
    forkhorn.family().len()
}

#[test]
fn a_pool_grows_under_load_and_shrinks_afterwards_and_no_request_fails() {
    for preload in ["auto", "never"] {
        let template = usize::from(preload == "auto");
        let forkhorn = Forkhorn::new().code(SLEEPING).pool("1..3").both();
        let forkhorn = forkhorn.args(["--preload", preload, "--worker-idle-timeout", "0.5"]).start();
        let mut kept = Vec::new();
        let answered = under_load(&forkhorn, 6, || {
            wait_until("the pool is at its limit", || processes(&forkhorn) >= template + 3);
            kept.extend((0..8).map(|_| forkhorn.connect()));
            assert!(kept.iter_mut().all(|client| client.get("/").status == 200));
        });
        assert!(answered > 6, "{answered}");
        // Clients that keep their connections, and ask from time to time, follow it to the last worker.
        wait_until("the pool is small again", || {
            for client in &mut kept {
                let response = client.get("/?quick");
                assert_eq!((response.status, response.field("Connection")), (200, None));
            }
            processes(&forkhorn) <= template + 1
        });
        assert!(kept.iter_mut().all(|client| client.get("/").status == 200));
    }
}

#[test]
fn a_request_that_waits_behind_a_busy_worker_has_another_one_started() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").pool("1..2").start();
    let mut busy = forkhorn.connect();
    busy.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", wait_target(&forkhorn)));
    wait_until("the request runs", || forkhorn.folder.join("at").exists());
    assert_eq!(forkhorn.get("/pid").status, 200);
    forkhorn.wait_for_log("2 workers are wanted: ");
    forkhorn.folder.write("go", "");
    assert_eq!(busy.read_response().status, 200);
}

#[test]
fn a_pool_that_may_be_empty_has_no_worker_until_somebody_comes() {
    for (preload, rest) in [("auto", 1), ("never", 0)] {
        let forkhorn = Forkhorn::new().wsgi("probe.py").pool("0..2").both();
        let forkhorn = forkhorn.args(["--preload", preload, "--worker-idle-timeout", "0.2"]).start();
        let mut pids = BTreeSet::new();
        for _ in 0..3 {
            {
                let mut kept = forkhorn.connect();
                pids.insert(pid_of(&kept.get("/pid")));
                // As long as somebody is connected there is a worker.
                let mut peer = forkhorn.peer();
                let request = crate::support::fastcgi::Request::new("GET", "/pid").keep();
                assert_eq!(peer.request(&request).response().status, 200);
            }
            wait_until("nobody is left", || processes(&forkhorn) == rest);
        }
        assert_eq!(pids.len(), 3, "each time another one");
    }
}

#[test]
fn a_pool_that_sleeps_reloads_and_stops() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").pool("0..2");
    let mut forkhorn = forkhorn.args(["--worker-idle-timeout", "0.2"]).start();
    wait_until("only the template is left", || processes(&forkhorn) == 1);
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log("generation 1 serves");
    wait_until("only the new template is left", || processes(&forkhorn) == 1);
    assert_eq!(forkhorn.get("/pid").status, 200);
    wait_until("only the new template is left", || processes(&forkhorn) == 1);
    forkhorn.signal(Signal::SIGTERM);
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
}

#[test]
fn a_pool_of_scripts_grows_with_them() {
    let forkhorn = Forkhorn::new()
        .script("x.sh", "#!/bin/sh\nsleep 0.05\nprintf 'Content-Type: a/b\\n\\nran'\n")
        .cgi_folder()
        .pool("0..3")
        .args(["--cgi-max-scripts", "1", "--worker-idle-timeout", "0.2"])
        .start();
    let mut clients: Vec<_> = (0..4).map(|_| forkhorn.connect()).collect();
    wait_until("three workers run scripts", || {
        for client in &mut clients {
            client.send("GET /cgi-bin/x.sh HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        assert!(clients.iter_mut().all(|client| client.read_response().status == 200));
        forkhorn.server.log.contains("3 workers are wanted")
    });
    drop(clients);
    wait_until("nobody is left", || processes(&forkhorn) == 0);
    assert_eq!(forkhorn.get("/cgi-bin/x.sh").text(), "ran");
}

/// What `wsgi.multiprocess` says.
fn multiprocess(forkhorn: &Running) -> String {
    forkhorn.get("/environ").json()["wsgi.multiprocess"].as_str().expect("a word").to_owned()
}

#[test]
fn applications_know_whether_there_may_be_other_processes() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    assert_eq!(multiprocess(&forkhorn), "False");
    forkhorn.signal(Signal::SIGTTIN);
    wait_until("there may be two", || multiprocess(&forkhorn) == "True");
    forkhorn.signal(Signal::SIGTTOU);
    wait_until("there is one again", || multiprocess(&forkhorn) == "False");
    let forkhorn = Forkhorn::new().wsgi("probe.py").pool("1..2").start();
    assert_eq!(multiprocess(&forkhorn), "True");
}

#[test]
fn a_worker_that_was_started_alone_leaves_connections_to_the_second_one() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let first = worker_pid(&forkhorn);
    let mut kept = forkhorn.connect();
    assert_eq!(pid_of(&kept.get("/pid")), first);
    let mut busy = forkhorn.connect();
    busy.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", wait_target(&forkhorn)));
    wait_until("the request runs", || forkhorn.folder.join("at").exists());
    forkhorn.signal(Signal::SIGTTIN);
    forkhorn.wait_for_log("worker 1 generation 0 ready");
    // What is already with the busy one goes over, and new ones are the other's.
    assert_ne!(pid_of(&kept.get("/pid")), first);
    assert!((0..8).all(|_| worker_pid(&forkhorn) != first));
    forkhorn.folder.write("go", "");
    assert_eq!(busy.read_response().status, 200);
}

#[test]
fn the_last_worker_accepts_connections_while_it_is_busy() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).args(["--static", "/files=."]);
    let forkhorn = forkhorn.start();
    let pids: BTreeSet<i32> = [0, 1].map(|slot| pid_in_log(&forkhorn, slot)).into();
    forkhorn.signal(Signal::SIGTTOU);
    wait_until("one is left", || pids.iter().filter(|pid| process(**pid).is_some()).count() == 1);
    let mut busy = forkhorn.connect();
    busy.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", wait_target(&forkhorn)));
    wait_until("the request runs", || forkhorn.folder.join("at").exists());
    // There is nobody else who could take it; files need no application thread.
    assert_eq!(forkhorn.get("/files/missing").status, 404);
    forkhorn.folder.write("go", "");
    assert_eq!(busy.read_response().status, 200);
}

fn pid_in_log(forkhorn: &Running, slot: u16) -> i32 {
    let line = forkhorn.wait_for_log(&format!("worker {slot} generation 0 ready, pid *"));
    line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid")
}
