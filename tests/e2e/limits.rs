//! One client's slowness is its own: it costs memory up to a limit, and nobody else's time.

use crate::status::pages::status_address;
use crate::support::fastcgi::{Peer, Request};
use crate::support::http::{Connection, get, request_bytes};
use crate::support::process::{descriptor_count, status_line};
use crate::support::{Forkhorn, Running, wait_until};

fn worker_pid(forkhorn: &Running) -> i32 {
    forkhorn.get("/pid").json()["pid"].as_i64().expect("a pid") as i32
}

fn resident_kilobytes(pid: i32) -> u64 {
    status_line(pid, "VmRSS")[0].parse().expect("a number")
}

/// Bytes that the workers have read from connections; wants `--status`.
fn bytes_read(forkhorn: &Running) -> u64 {
    let page = get(&status_address(forkhorn), "/metrics").text();
    let value = page.lines().find_map(|line| line.strip_prefix("forkhorn_bytes_total{direction=\"in\"} "));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("it is not counted: {page}"))
}

#[test]
fn slow_senders_do_not_hold_up_others() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    let body = vec![b'x'; 1000];
    let http = request_bytes("POST", "/echo", &[], &body);
    let fastcgi = Request::new("POST", "/echo").body(body.clone()).bytes();
    let mut slow: Vec<(Connection, Peer)> = Vec::new();
    for number in 0..50 {
        let (mut connection, mut peer) = (forkhorn.connect(), forkhorn.peer());
        connection.send(&http[..http.len() - 1 - number * 20]);
        peer.send(&fastcgi[..fastcgi.len() - 1 - number * 25]);
        slow.push((connection, peer));
        assert_eq!(forkhorn.get("/pid").status, 200);
    }
    for (number, (connection, peer)) in slow.iter_mut().enumerate() {
        connection.send(&http[http.len() - 1 - number * 20..]);
        peer.send(&fastcgi[fastcgi.len() - 1 - number * 25..]);
    }
    for (mut connection, mut peer) in slow {
        assert_eq!(connection.read_response().body, body);
        assert_eq!(peer.answer(1).response().body, body);
    }
}

#[test]
fn an_application_never_waits_for_the_body_of_a_slow_client() {
    // The only worker has one thread: it would be deaf while it waits.
    let forkhorn = Forkhorn::new().wsgi("probe.py").start();
    let note = forkhorn.folder.join("ran");
    let mut slow = forkhorn.connect();
    slow.send(format!(
        "POST /count?file={} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
        note.display()
    ));
    assert_eq!(forkhorn.get("/pid").status, 200);
    assert!(!note.exists(), "the application was called before its body was there");
    slow.send("cde");
    assert_eq!(slow.read_response().status, 200);
}

#[test]
fn a_slow_reader_costs_no_more_memory_than_allowed() {
    let forkhorn =
        Forkhorn::new().wsgi("probe.py").args(["--max-output", "200000", "--threads", "2"]).start();
    let note = forkhorn.folder.join("note");
    let worker = worker_pid(&forkhorn);
    let before = resident_kilobytes(worker);
    let mut slow = forkhorn.connect();
    slow.send(request_bytes("GET", &format!("/big?bytes=300000000&note={}", note.display()), &[], b""));
    assert!(!slow.peek().is_empty());
    for _ in 0..20 {
        assert_eq!(forkhorn.get("/pid").status, 200);
    }
    let made: u64 = forkhorn.folder.read("note").parse().unwrap_or(0);
    assert!(made < 100_000_000, "{made} bytes were taken from the application");
    assert!(resident_kilobytes(worker) < before + 50_000, "{} kB", resident_kilobytes(worker) - before);
    let response = slow.read_response();
    assert_eq!((response.body.len(), response.complete), (300_000_000, true));
}

#[test]
fn a_reader_that_has_stopped_is_cut_off() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().args(["--send-timeout", "0.5"]).start();
    let worker = worker_pid(&forkhorn);
    let before = descriptor_count(worker);
    let note = forkhorn.folder.join("note");
    let target = format!("/big?bytes=300000000&note={}", note.display());
    let mut stopped = forkhorn.connect();
    stopped.send(request_bytes("GET", &target, &[], b""));
    wait_until("the iterable is closed", || forkhorn.folder.read("note") == "closed");
    let mut peer = forkhorn.peer();
    peer.send(Request::new("GET", &target).bytes());
    wait_until("both connections are gone", || descriptor_count(worker) <= before);
    let response = stopped.try_read("GET").expect("a head");
    assert!(!response.complete && response.body.len() < 300_000_000);
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn large_bodies_lie_in_a_file_without_a_name() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both();
    let spool = forkhorn.folder.folder("spool");
    let forkhorn = forkhorn.arg("--spool-dir").arg(&spool).args(["--spool-threshold", "100000"]).start();
    let worker = worker_pid(&forkhorn);
    let body = vec![b'x'; 60_000_000];
    let before = resident_kilobytes(worker);
    let bytes = request_bytes("POST", "/length", &[], &body);
    let (most, last) = bytes.split_at(bytes.len() - 1);
    let mut connection = forkhorn.connect();
    connection.send(most);
    let spooled = |pid: i32| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process of ours").flatten();
        descriptors
            .filter_map(|entry| std::fs::metadata(entry.path()).ok())
            .any(|file| file.is_file() && file.len() > 50_000_000)
    };
    wait_until("the body lies in a file", || spooled(worker));
    assert!(resident_kilobytes(worker) < before + 30_000, "the body is in memory");
    assert_eq!(
        std::fs::read_dir(&spool).expect("the folder").count(),
        0,
        "a file has a name: it would outlive a crash"
    );
    connection.send(last);
    assert_eq!(connection.read_response().json()["length"], body.len());
    wait_until("the file is gone", || !spooled(worker));
    let answer = forkhorn.fcgi(&Request::new("POST", "/length").body(body[..5_000_000].to_vec()));
    assert_eq!(answer.response().json()["length"], 5_000_000);
}

#[test]
fn a_spool_folder_that_can_not_be_written_costs_one_request() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--spool-threshold", "1000"]);
    let spool = forkhorn.folder.folder("spool");
    let forkhorn = forkhorn.arg("--spool-dir").arg(&spool).start();
    std::fs::remove_dir(&spool).expect("an empty folder");
    let mut connection = forkhorn.connect();
    connection.send_anyway(request_bytes("POST", "/length", &[], &[b'x'; 5000]));
    let response = connection.read_response();
    assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")));
    forkhorn.wait_for_log("ERROR*POST /length*can\'t be kept in --spool-dir*answered 503");
    assert_eq!(forkhorn.request("POST", "/length", &[], &[b'x'; 500]).json()["length"], 500);
}

#[test]
fn bodies_go_to_a_file_when_all_of_them_fill_the_memory() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().args(["--body-memory", "500000"]);
    let forkhorn = forkhorn.args(["--status", "127.0.0.1:0"]);
    let spool = forkhorn.folder.folder("spool");
    let forkhorn = forkhorn.arg("--spool-dir").arg(&spool).start();
    let body = vec![b'x'; 400_000];
    let length = |sent: usize| forkhorn.request("POST", "/length", &[], &body[..sent]);
    assert_eq!(length(400_000).json()["length"], 400_000);
    // There is no place for a file any more: what still is answered lies in memory.
    std::fs::remove_dir(&spool).expect("an empty folder");
    let bytes = request_bytes("POST", "/length", &[], &body);
    let (most, last) = bytes.split_at(bytes.len() - 1);
    let read_before = bytes_read(&forkhorn);
    let mut first = forkhorn.connect();
    first.send(most);
    // Another one that came too soon would take its room.
    wait_until("the first is there", || bytes_read(&forkhorn) >= read_before + most.len() as u64);
    assert_eq!(length(200_000).status, 503);
    let answer = forkhorn.fcgi(&Request::new("POST", "/length").body(body[..200_000].to_vec()));
    assert_eq!(answer.response().status, 503);
    assert_eq!(length(16_000).json()["length"], 16_000);
    first.send(last);
    assert_eq!(first.read_response().json()["length"], 400_000);
    wait_until("it has room again", || length(400_000).status == 200);
}

#[test]
fn connections_over_the_limit_wait_for_their_turn() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--max-connections", "5"]).start();
    // Requests are under way on all of them: idle connections would be closed to make room.
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut held: Vec<Connection> = (0..5).map(|_| forkhorn.connect()).collect();
    for connection in &mut held[1..] {
        connection.send(head);
        assert_eq!(connection.read_any().status, 100);
    }
    held[0].send("GET / HTTP/1.1\r\n");
    let mut waiting = forkhorn.connect();
    waiting.send(request_bytes("GET", "/pid", &[], b""));
    // This answer comes after the worker has looked for whatever was there before it was asked for.
    held[0].send("Host: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(held[0].read_any().status, 100);
    waiting.stream.set_read_timeout(std::time::Duration::from_millis(20));
    assert!(waiting.peek().is_empty(), "a sixth connection was accepted");
    waiting.stream.set_read_timeout(crate::support::wait::DEADLINE);
    held[1].send("body");
    assert_eq!(held[1].read_response().text(), "body");
    assert_eq!(waiting.read_response().status, 200);
    for connection in [0, 2, 3, 4].map(|number| &held[number].stream) {
        connection.finish_sending();
    }
}

#[test]
fn thousands_of_idle_connections_cost_nothing_but_descriptors() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    let worker = worker_pid(&forkhorn);
    let before = resident_kilobytes(worker);
    let mut idle = Vec::new();
    for _ in 0..400 {
        let mut connection = forkhorn.connect();
        assert_eq!(connection.get("/pid").status, 200);
        idle.push(connection);
    }
    assert!(
        resident_kilobytes(worker) < before + 20_000,
        "{} kB for 400",
        resident_kilobytes(worker) - before
    );
    for connection in &mut idle {
        assert_eq!(connection.get("/pid").status, 200);
    }
}

#[test]
fn thousands_of_requests_leave_memory_and_descriptors_flat() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").both().start();
    let worker = worker_pid(&forkhorn);
    let (mut connection, mut peer) = (forkhorn.connect(), forkhorn.peer());
    let mut round = |count: usize| {
        for number in 0..count {
            let body = vec![b'x'; number % 3000];
            assert_eq!(connection.request("POST", "/echo", &[], &body).body.len(), body.len());
            let request = Request::new("POST", "/environ").keep().body(body);
            assert!(peer.request(&request).complete);
        }
    };
    round(1500);
    let (memory, descriptors) = (resident_kilobytes(worker), descriptor_count(worker));
    round(3000);
    assert!(resident_kilobytes(worker) <= memory + 1500, "{} kB more", resident_kilobytes(worker) - memory);
    assert!(descriptor_count(worker) <= descriptors);
}
