//! The end: TERM lets requests finish, INT and QUIT do not, and either way nothing is left.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::wait_target;
use crate::support::fastcgi::Request;
use crate::support::http::{Stream, request_bytes};
use crate::support::{Address, Forkhorn, Running, wait_until};

fn busy(forkhorn: &Running) -> crate::support::Connection {
    let mut connection = forkhorn.connect();
    connection.send(request_bytes("GET", &wait_target(forkhorn), &[], b""));
    wait_until("the request runs", || !forkhorn.folder.read("at").is_empty());
    connection
}

#[test]
fn term_finishes_running_requests_and_takes_no_new_ones() {
    let mut forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    let mut running = busy(&forkhorn);
    let mut idle = forkhorn.connect();
    forkhorn.signal(Signal::SIGTERM);
    assert!(idle.is_closed(), "an idle connection is closed at once");
    wait_until("no new connection is taken", || Stream::try_open(forkhorn.http()).is_err());
    forkhorn.folder.write("go", "");
    let response = running.read_response();
    assert_eq!((response.text().as_str(), response.complete), ("waited\n", true));
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
}

#[test]
fn term_finishes_running_scripts_and_fastcgi_requests() {
    let lines =
        "#!/bin/sh\ntouch at; until [ -e go ]; do sleep 0.01; done; printf 'Content-Type: a/b\\n\\ndone'\n";
    let mut forkhorn = Forkhorn::new().script("x.sh", lines).cgi_folder().both().start();
    let mut peer = forkhorn.peer();
    peer.send(Request::new("GET", "/cgi-bin/x.sh").keep().bytes());
    wait_until("the script runs", || forkhorn.folder.join("cgi-bin/at").exists());
    forkhorn.signal(Signal::SIGTERM);
    wait_until("no new connection is taken", || Stream::try_open(forkhorn.http()).is_err());
    forkhorn.folder.write("cgi-bin/go", "");
    assert_eq!(peer.answer(1).response().text(), "done");
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
}

#[test]
fn the_graceful_stop_has_an_end() {
    let mut forkhorn = Forkhorn::new().wsgi("probe.py").args(["--graceful-timeout", "0.5"]).start();
    let mut running = busy(&forkhorn);
    let began = Instant::now();
    forkhorn.signal(Signal::SIGTERM);
    forkhorn.wait_exit();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(running.try_read("GET").map_or(true, |response| response.status >= 500 || !response.complete));
}

#[test]
fn int_and_quit_stop_at_once() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let mut forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).start();
        let _running = busy(&forkhorn);
        let began = Instant::now();
        forkhorn.signal(signal);
        forkhorn.wait_exit();
        assert!(began.elapsed() < Duration::from_secs(15), "{signal}: {:?}", began.elapsed());
    }
}

#[test]
fn a_second_signal_hurries_a_graceful_stop() {
    let mut forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let _running = busy(&forkhorn);
    forkhorn.signal(Signal::SIGTERM);
    wait_until("no new connection is taken", || Stream::try_open(forkhorn.http()).is_err());
    forkhorn.signal(Signal::SIGINT);
    forkhorn.wait_exit();
}

#[test]
fn sockets_and_pid_file_are_removed_at_the_end() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let (socket, pid_file) = (forkhorn.folder.join("http.sock"), forkhorn.folder.join("pid"));
    let forkhorn = forkhorn.http(&format!("unix:{}", socket.display())).arg("--pid-file").arg(&pid_file);
    let mut forkhorn = forkhorn.start();
    assert_eq!(forkhorn.folder.read("pid").trim(), forkhorn.pid().to_string());
    assert!(matches!(forkhorn.http(), Address::Unix(path) if path.exists()));
    forkhorn.signal(Signal::SIGTERM);
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
    assert!(!socket.exists() && !pid_file.exists());
}

#[test]
fn a_daemon_under_load_stops_without_breaking_an_answer() {
    let mut forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).start();
    let address = forkhorn.http().clone();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || {
                // Until nobody listens any more. An answer that has begun must be whole.
                while let Ok(stream) = Stream::try_open(&address) {
                    let mut connection = crate::support::Connection::over(stream);
                    connection.send_anyway(request_bytes("GET", "/big?bytes=300000", &[], b""));
                    if let Ok(response) = connection.try_read("GET") {
                        assert!(response.complete, "an answer was cut off");
                    }
                }
            })
        })
        .collect();
    assert_eq!(forkhorn.get("/pid").status, 200);
    forkhorn.signal(Signal::SIGTERM);
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
    for client in clients {
        client.join().expect("no answer was cut off");
    }
}
