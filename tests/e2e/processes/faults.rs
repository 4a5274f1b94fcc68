//! What fails when something dies under load, and what does not.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use super::load::{StopAtEnd, under_load};
use super::worker_pid;
use crate::support::fronts::free_port;
use crate::support::process::{descriptor_count, exists, send_signal, status_line};
use crate::support::{Connection, Forkhorn, Running, wait_until};

const CLIENTS: usize = 6;

/// What clients saw that keep their connections, and make a new one where the old one has ended.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    broken: AtomicUsize,
}

/// Each client asks all the time while `act` goes on. One whose connection ends counts what it had asked for as broken.
fn under_clumsy_load(forkhorn: &Running, act: impl FnOnce(&Seen)) -> Seen {
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = forkhorn.connect();
                while !stop.load(Ordering::Relaxed) {
                    let sent = connection.send_anyway("GET /pid HTTP/1.1\r\nHost: x\r\n\r\n");
                    match connection.try_read("GET") {
                        Ok(response) if sent && response.complete && response.status == 200 => {
                            seen.answered.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => {
                            seen.broken.fetch_add(1, Ordering::Relaxed);
                            connection = forkhorn.connect();
                        }
                    }
                }
            });
        }
        let ends = StopAtEnd(&stop);
        act(&seen);
        drop(ends);
    });
    seen
}

#[test]
fn a_worker_that_is_killed_takes_only_its_own_connections_with_it() {
    for signal in [Signal::SIGKILL, Signal::SIGSEGV] {
        let forkhorn = Forkhorn::new().wsgi("probe.py").workers(3).start();
        let seen = under_clumsy_load(&forkhorn, |seen| {
            for deaths in 1..=3 {
                let before = seen.answered.load(Ordering::Relaxed);
                wait_until("clients are served", || seen.answered.load(Ordering::Relaxed) > before + 50);
                send_signal(worker_pid(&forkhorn), signal);
                let name = signal.as_str();
                forkhorn.server.log.wait_for_nth(&format!("worker *({name})"), deaths);
                forkhorn.server.log.wait_for_nth("worker * ready", 3 + deaths);
            }
            let before = seen.answered.load(Ordering::Relaxed);
            wait_until("clients are served again", || seen.answered.load(Ordering::Relaxed) > before + 50);
        });
        // One request at most on each connection, and no connection dies twice in one death.
        let broken = seen.broken.load(Ordering::Relaxed);
        assert!(broken <= 3 * CLIENTS, "{broken} requests failed");
        wait_until("three workers and their template are there", || forkhorn.family().len() == 4);
    }
}

#[test]
fn sockets_and_pid_file_come_back_after_the_master_was_killed_under_load() {
    let folder = crate::support::Folder::new();
    let (socket, pid_file) = (folder.join("forkhorn.sock"), folder.join("forkhorn.pid"));
    let port = free_port();
    let start = || {
        let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2);
        let forkhorn = forkhorn.http(&format!("127.0.0.1:{port}")).fastcgi(&unix(&socket));
        forkhorn.args(["--pid-file", &pid_file.display().to_string()]).start()
    };
    let mut forkhorn = start();
    let family = forkhorn.family();
    under_clumsy_load(&forkhorn, |seen| {
        wait_until("clients are served", || seen.answered.load(Ordering::Relaxed) > 50);
    });
    // Kept connections are open while it dies.
    let mut kept: Vec<Connection> = (0..4).map(|_| forkhorn.connect()).collect();
    assert!(kept.iter_mut().all(|connection| connection.get("/pid").status == 200));
    forkhorn.signal(Signal::SIGKILL);
    forkhorn.wait_exit();
    wait_until("no orphan is left", || !family.iter().any(exists));
    assert!(kept.iter_mut().all(Connection::is_closed));
    assert!(socket.exists() && pid_file.exists(), "nobody was there to remove them");
    let again = start();
    assert_eq!(again.get("/pid").status, 200);
    assert_eq!(again.fcgi(&crate::support::fastcgi::Request::new("GET", "/pid")).response().status, 200);
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[test]
fn a_hundred_reloads_in_a_row_fail_no_request_and_leave_nothing_behind() {
    let forkhorn = Forkhorn::new().wsgi("hello.py").workers(2).both().start();
    let reload = |numbers: std::ops::RangeInclusive<u32>| {
        for generation in numbers {
            forkhorn.signal(Signal::SIGHUP);
            forkhorn.wait_for_log(&format!("worker 1 generation {generation} ready"));
        }
        wait_until("the old ones are gone", || forkhorn.family().len() == 3);
        (descriptor_count(forkhorn.pid()), resident_kib(forkhorn.pid()))
    };
    let answered = under_load(&forkhorn, 2, || {
        let (descriptors, kib) = reload(1..=10);
        let (descriptors_after, kib_after) = reload(11..=100);
        assert_eq!(descriptors_after, descriptors, "the master holds more descriptors");
        assert!(kib_after <= kib + 512, "the master has grown from {kib} to {kib_after} KiB");
    });
    assert!(answered > 100, "{answered}");
}

fn resident_kib(pid: i32) -> u64 {
    status_line(pid, "VmRSS")[0].parse().expect("a number of KiB")
}
