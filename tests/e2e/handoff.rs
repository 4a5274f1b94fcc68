//! The hand-off queue: a request never waits behind a busy worker, and a connection outlives the worker that it came to.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use crate::support::fastcgi::{Peer, Request};
use crate::support::http::{Connection, request_bytes};
use crate::support::process::{descriptor_count, process, send_signal};
use crate::support::{Forkhorn, Running, wait_until};

/// Tells its process; with a query, once the file of that name is there.
const PID: &str = "\
import os, time
def application(environ, start_response):
    query = environ['QUERY_STRING']
    if query:
        open(query + '.at', 'w').close()
        while not os.path.exists(query): time.sleep(0.002)
    length = len(environ['wsgi.input'].read())
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'%d %d' % (os.getpid(), length)]
";

fn started(workers: u16) -> Running {
    Forkhorn::new().code(PID).workers(workers).both().start()
}

#[track_caller]
fn pid_of(text: &str) -> i32 {
    text.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("no pid: {text}"))
}

#[track_caller]
fn pid(connection: &mut Connection) -> i32 {
    let response = connection.get("/");
    assert_eq!((response.status, response.field("Connection")), (200, None), "{response:?}");
    pid_of(&response.text())
}

#[track_caller]
fn fcgi_pid(peer: &mut Peer) -> i32 {
    let answer = peer.request(&Request::new("GET", "/").keep());
    assert!(answer.complete, "{answer:?}");
    pid_of(&answer.response().text())
}

/// Begins a request that runs until the file `go` is there.
fn occupy(forkhorn: &Running, connection: &mut Connection, go: &str) {
    let file = forkhorn.folder.join(go);
    connection.send(request_bytes("GET", &format!("/?{}", file.display()), &[], b""));
    wait_until("the request runs", || forkhorn.folder.join(&format!("{go}.at")).exists());
}

#[test]
fn requests_on_kept_connections_of_a_busy_worker_are_answered_by_the_other() {
    let forkhorn = started(2);
    let mut busy = forkhorn.connect();
    let one = pid(&mut busy);
    let mut kept: Vec<Connection> = (0..6).map(|_| forkhorn.connect()).collect();
    let mut peers: Vec<Peer> = (0..6).map(|_| forkhorn.peer()).collect();
    let mut workers = BTreeSet::from([one]);
    workers.extend(kept.iter_mut().map(pid));
    workers.extend(peers.iter_mut().map(fcgi_pid));
    occupy(&forkhorn, &mut busy, "go");
    for _ in 0..3 {
        for connection in &mut kept {
            assert_ne!(pid(connection), one, "the busy worker can't have answered");
        }
        for peer in &mut peers {
            assert_ne!(fcgi_pid(peer), one, "the busy worker can't have answered");
        }
    }
    for (connection, length) in kept.iter_mut().zip([1, 1_000, 100_000, 1_000_000]) {
        let response = connection.request("POST", "/", &[], &vec![b'x'; length]);
        assert_eq!(response.text().split(' ').nth(1), Some(length.to_string().as_str()));
    }
    forkhorn.folder.write("go", "");
    assert_eq!(pid_of(&busy.read_response().text()), one);
    assert!(workers.len() <= 2, "{workers:?}");
}

#[test]
fn a_stopped_worker_keeps_what_it_has_and_gets_nothing_new() {
    let forkhorn = started(3);
    // While two are busy, the third one gets all that comes.
    let mut others: Vec<Connection> = (0..2).map(|_| forkhorn.connect()).collect();
    for (number, connection) in others.iter_mut().enumerate() {
        occupy(&forkhorn, connection, &format!("other{number}"));
    }
    let mut busy = forkhorn.connect();
    let one = pid(&mut busy);
    let mut kept: Vec<Connection> = (0..8).map(|_| forkhorn.connect()).collect();
    for connection in &mut kept {
        assert_eq!(pid(connection), one);
    }
    for (number, connection) in others.iter_mut().enumerate() {
        forkhorn.folder.write(&format!("other{number}"), "");
        assert_ne!(pid_of(&connection.read_response().text()), one);
    }
    occupy(&forkhorn, &mut busy, "go");
    let mut fresh = forkhorn.connect();
    let other = pid(&mut fresh);
    assert_ne!(other, one);
    // Idle, and so first in line for whatever comes.
    send_signal(other, Signal::SIGSTOP);
    kept.extend((0..4).map(|_| forkhorn.connect()));
    for _ in 0..3 {
        for connection in &mut kept {
            let third = pid(connection);
            assert!(third != one && third != other, "{third}");
        }
    }
    send_signal(other, Signal::SIGCONT);
    assert_ne!(pid(&mut fresh), one);
    forkhorn.folder.write("go", "");
    assert_eq!(pid_of(&busy.read_response().text()), one);
}

/// Clients of both protocols ask all the time, each on one connection from beginning to end: one that is closed fails the
/// test, as does any answer that is not whole.
fn under_strict_load(forkhorn: &Running, act: impl FnOnce()) -> usize {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let stop = &stop;
                scope.spawn(move || {
                    let (mut http, mut peer) = (forkhorn.connect(), forkhorn.peer());
                    let mut answered = 0;
                    while !stop.load(Ordering::Relaxed) {
                        if number % 2 == 0 {
                            pid(&mut http)
                        } else {
                            fcgi_pid(&mut peer)
                        };
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        act();
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no request fails")).sum()
    })
}

#[test]
fn twenty_reloads_under_load_close_no_connection() {
    for (workers, reloads) in [(2, 12), (1, 8)] {
        let forkhorn = started(workers);
        let answered = under_strict_load(&forkhorn, || {
            for generation in 1..=reloads {
                forkhorn.signal(Signal::SIGHUP);
                forkhorn.wait_for_log(&format!("generation {generation} serves"));
                wait_until("the old workers are gone", || {
                    forkhorn.family().len() <= usize::from(workers) + 1
                });
            }
        });
        assert!(answered > 100, "{answered}");
    }
}

#[test]
fn idle_connections_outlive_a_reload() {
    let forkhorn = started(2);
    let (mut http, mut peer) = (forkhorn.connect(), forkhorn.peer());
    let before = [pid(&mut http), fcgi_pid(&mut peer)];
    forkhorn.signal(Signal::SIGHUP);
    wait_until("the old workers are gone", || before.iter().all(|pid| process(*pid).is_none()));
    assert!(!before.contains(&pid(&mut http)));
    assert!(!before.contains(&fcgi_pid(&mut peer)));
}

#[test]
fn a_daemon_of_scripts_hands_its_connections_over_too() {
    let forkhorn = Forkhorn::new()
        .script("x.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\nran'\n")
        .cgi_folder()
        .workers(2)
        .start();
    let before: Vec<i32> = forkhorn.family().iter().map(|process| process.pid).collect();
    let mut kept = forkhorn.connect();
    assert_eq!(kept.get("/cgi-bin/x.sh").text(), "ran");
    forkhorn.signal(Signal::SIGHUP);
    wait_until("the old workers are gone", || before.iter().all(|pid| process(*pid).is_none()));
    assert_eq!(kept.get("/cgi-bin/x.sh").text(), "ran");
}

#[test]
fn a_worker_less_closes_no_connection() {
    let forkhorn = started(2);
    let mut busy = forkhorn.connect();
    let mut kept: Vec<Connection> = (0..4).map(|_| forkhorn.connect()).collect();
    pid(&mut busy);
    // Some at each worker: a busy one takes no new connection.
    pid(&mut kept[0]);
    pid(&mut kept[1]);
    occupy(&forkhorn, &mut busy, "go");
    for connection in &mut kept {
        pid(connection);
    }
    forkhorn.folder.write("go", "");
    busy.read_response();
    forkhorn.signal(Signal::SIGTTOU);
    wait_until("one worker is left", || forkhorn.family().len() <= 2);
    for connection in kept.iter_mut().chain([&mut busy]) {
        pid(connection);
    }
}

#[test]
fn connections_of_a_worker_that_is_replaced_wait_for_the_next_one() {
    let forkhorn = Forkhorn::new().code(PID).workers(1).both().args(["--timeout", "0.3"]).start();
    let (mut stuck, mut waits, mut idle) = (forkhorn.connect(), forkhorn.connect(), forkhorn.peer());
    let old = pid(&mut stuck);
    assert_eq!((pid(&mut waits), fcgi_pid(&mut idle)), (old, old));
    occupy(&forkhorn, &mut stuck, "go");
    waits.send(request_bytes("GET", "/", &[], b""));
    assert_eq!(stuck.read_response().status, 504);
    let new = pid_of(&waits.read_response().text());
    assert_ne!(new, old);
    assert_eq!(fcgi_pid(&mut idle), new);
    assert_eq!(pid(&mut stuck), new);
    forkhorn.folder.write("go", "");
    wait_until("the old worker is gone", || process(old).is_none());
}

#[test]
fn a_stop_closes_what_idles_and_answers_what_was_handed_over() {
    let mut forkhorn = started(2);
    let mut kept: Vec<Connection> = (0..3).map(|_| forkhorn.connect()).collect();
    let workers: BTreeSet<i32> = kept.iter_mut().map(pid).collect();
    let mut busy: Vec<Connection> = (0..2).map(|_| forkhorn.connect()).collect();
    let mut pids = BTreeSet::new();
    for (number, connection) in busy.iter_mut().enumerate() {
        pids.insert(pid(connection));
        occupy(&forkhorn, connection, &format!("go{number}"));
    }
    // Both workers are busy by now; a connection that a worker has handed over, and none has taken, is with neither.
    let all = || forkhorn.family().iter().map(|process| descriptor_count(process.pid)).sum::<usize>();
    let before = all();
    let waits = &mut kept[0];
    waits.send(request_bytes("GET", "/", &[], b""));
    wait_until("it lies in the queue", || all() < before);
    forkhorn.signal(Signal::SIGTERM);
    forkhorn.wait_for_log("graceful stop");
    assert!(kept[1].is_closed() && kept[2].is_closed(), "{workers:?}");
    for go in ["go0", "go1"] {
        forkhorn.folder.write(go, "");
    }
    for connection in busy.iter_mut().chain([&mut kept[0]]) {
        assert_eq!(connection.read_response().status, 200, "{pids:?}");
        assert!(connection.is_closed());
    }
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
}
