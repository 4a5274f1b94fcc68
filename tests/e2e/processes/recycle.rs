//! Workers that have served enough are replaced, and nobody notices.

use std::collections::BTreeSet;

use super::load::under_load;
use super::pid_of;
use crate::support::{Forkhorn, Running, wait_until};

/// Each request keeps a mebibyte more.
const LEAKING: &str = "import os\n\
    kept = []\n\
    def application(environ, start_response):\n\
    \x20   kept.append(os.urandom(1 << 20))\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [b'%d' % os.getpid()]\n";

const REPLACED: &str = "worker * is replaced: ";

/// Until so many workers were replaced while clients ask.
fn serves_through(forkhorn: &Running, reason: &str, count: usize) {
    let pattern = format!("{REPLACED}{reason}");
    let answered = under_load(forkhorn, 4, || {
        wait_until("workers are replaced", || forkhorn.server.log.count(&pattern) >= count);
    });
    assert!(answered > 4, "{answered}");
    wait_until("old processes are gone", || forkhorn.family().len() <= 3);
}

#[test]
fn workers_are_replaced_after_their_requests_and_no_request_fails() {
    for preload in ["auto", "never"] {
        let forkhorn = Forkhorn::new().wsgi("hello.py").workers(2).both();
        let forkhorn = forkhorn.args(["--preload", preload, "--max-requests", "20"]).start();
        serves_through(&forkhorn, "it has had 2* requests (--max-requests)", 6);
    }
}

#[test]
fn workers_are_replaced_after_their_time_and_no_request_fails() {
    let forkhorn = Forkhorn::new().wsgi("hello.py").workers(2).both();
    let forkhorn = forkhorn.args(["--max-lifetime", "0.3"]).start();
    serves_through(&forkhorn, "it has served for 0 s (--max-lifetime)", 4);
}

#[test]
fn workers_that_leak_are_replaced_and_no_request_fails() {
    let forkhorn = Forkhorn::new().code(LEAKING).workers(2).both();
    let forkhorn = forkhorn.args(["--max-memory", "80"]).start();
    serves_through(&forkhorn, "it uses * MiB of memory (--max-memory)", 2);
}

#[test]
fn a_worker_without_python_is_replaced_too() {
    let forkhorn = Forkhorn::new().script("x.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\n%d' $PPID\n");
    let forkhorn = forkhorn.cgi_folder().args(["--max-requests", "3", "--max-requests-jitter", "0"]).start();
    let mut connection = forkhorn.connect();
    let mut pids = BTreeSet::new();
    wait_until("the third worker answers", || {
        let response = connection.get("/cgi-bin/x.sh");
        assert_eq!(response.status, 200);
        pids.insert(response.text());
        pids.len() == 3
    });
}

#[test]
fn a_worker_serves_until_its_successor_is_ready_and_then_finishes_what_runs() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let forkhorn = forkhorn.args(["--max-requests", "1", "--max-requests-jitter", "0"]).start();
    let mut kept = forkhorn.connect();
    let first = pid_of(&kept.get("/pid"));
    wait_until("another worker answers on the same connection", || pid_of(&kept.get("/pid")) != first);
    // One that is busy finishes.
    let mut busy = forkhorn.connect();
    busy.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", super::wait_target(&forkhorn)));
    wait_until("the request runs", || forkhorn.folder.join("at").exists());
    let pids: BTreeSet<i32> = (0..4).map(|_| pid_of(&forkhorn.get("/pid"))).collect();
    assert!(!pids.contains(&first), "it came back");
    forkhorn.folder.write("go", "");
    assert_eq!(busy.read_response().status, 200);
}
