//! Too little of something: descriptors, processes, room on the disk, or speed of the peer. Service goes on for the rest.

use std::io::Read;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::fastcgi::Request;
use crate::support::http::{Connection, request_bytes};
use crate::support::process::status_line;
use crate::support::{Forkhorn, Running, wait_until};

/// Starts forkhorn with a limit of its shell, for example `-n 50`.
fn limited(limit: &str) -> Forkhorn {
    Forkhorn::new().wrapper(["sh", "-c", &format!("ulimit {limit} && exec \"$@\""), "sh"])
}

/// How many descriptors the process may have open.
fn open_files(pid: i32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process of ours");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    line.split_whitespace().nth(3).and_then(|word| word.parse().ok()).expect("a number")
}

fn worker_pid(forkhorn: &Running) -> i32 {
    forkhorn.get("/pid").json()["pid"].as_i64().expect("a pid") as i32
}

#[test]
fn a_worker_has_a_large_table_of_descriptors_from_the_start() {
    for (forkhorn, least) in [(Forkhorn::new(), 8192), (limited("-n 300"), 300)] {
        let forkhorn = forkhorn.wsgi("probe.py").start();
        let worker = worker_pid(&forkhorn);
        let size: u64 = status_line(worker, "FDSize")[0].parse().expect("a number");
        assert!(size >= open_files(worker).min(least), "{size}");
        assert!(size < 2 * 8192, "it takes memory: {size}");
    }
}

#[test]
fn idle_connections_make_room_when_no_descriptor_is_left() {
    let forkhorn = limited("-n 60").wsgi("probe.py").start();
    forkhorn.wait_for_log("WARN*--max-connections 10000 can\'t be reached*60 files*");
    let mut kept = Vec::new();
    for _ in 0..100 {
        let mut connection = forkhorn.connect();
        assert_eq!(connection.get("/pid").status, 200);
        kept.push(connection);
    }
    forkhorn.wait_for_log("ERROR*nothing more can be opened*(ulimit -n*idle connections were closed*");
    // The latest are kept.
    assert_eq!(kept.last_mut().expect("a hundred").get("/pid").status, 200);
}

#[test]
fn idle_connections_make_room_when_the_table_is_full() {
    let forkhorn = Forkhorn::new().both().wsgi("probe.py").args(["--max-connections", "20"]).start();
    let mut kept = Vec::new();
    for number in 0..60 {
        if number % 2 == 0 {
            let mut connection = forkhorn.connect();
            assert_eq!(connection.get("/pid").status, 200);
            kept.push((Some(connection), None));
        } else {
            let mut peer = forkhorn.peer();
            assert_eq!(peer.request(&Request::new("GET", "/pid").keep()).response().status, 200);
            kept.push((None, Some(peer)));
        }
    }
    forkhorn.wait_for_log("WARN*20 connections are open (--max-connections)*idled were closed*");
}

#[test]
fn without_descriptors_and_idle_connections_new_ones_wait_and_busy_ones_go_on() {
    let forkhorn = limited("-n 60").wsgi("probe.py").start();
    // Clients that have sent nothing yet are not idle.
    let mut silent: Vec<Connection> = (0..80).map(|_| forkhorn.connect()).collect();
    forkhorn.wait_for_log("ERROR*nothing more can be opened*0 idle connections were closed*");
    assert_eq!(silent[0].get("/pid").status, 200);
    let mut waiting = silent.split_off(79);
    drop(silent);
    assert_eq!(waiting[0].get("/pid").status, 200);
}

#[test]
fn a_script_for_which_no_descriptor_is_left_is_503_and_the_next_one_runs() {
    let forkhorn = limited("-n 40").cgi_fixtures().script("hello", "#!/bin/sh\nprintf 'A: b\\n\\nok'\n");
    let directory = forkhorn.folder.folder("cgi-bin");
    let forkhorn = forkhorn.mount_path("--cgi", "/own", &directory).start();
    let mut kept: Vec<Connection> = Vec::new();
    let mut refused = None;
    for _ in 0..40 {
        let mut connection = forkhorn.connect();
        let response = connection.get("/own/hello");
        if response.status != 200 {
            refused.get_or_insert(response);
        }
        kept.push(connection);
    }
    let refused = refused.expect("the limit is reached");
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
    forkhorn.wait_for_log("ERROR*GET /own/hello*(ulimit -n*answered 503*");
    // What idled has made room.
    wait_until("a script runs again", || forkhorn.get("/own/hello").text() == "ok");
}

/// A limit of a file's size stands for a disk that is full, which not every machine lets a test make.
#[test]
fn a_body_that_the_disk_has_no_room_for_is_503_and_others_are_served() {
    let script = "#!/bin/sh\nprintf 'A: b\\n\\n'\nwc -c\n";
    for is_wsgi in [true, false] {
        let forkhorn = limited("-f 100").both().args(["--spool-threshold", "1000"]).script("length", script);
        let forkhorn = forkhorn.cgi_folder();
        let forkhorn = if is_wsgi { forkhorn.wsgi("probe.py") } else { forkhorn };
        let forkhorn = forkhorn.start();
        let target = if is_wsgi { "/length" } else { "/cgi-bin/length" };
        // Of unknown length: it is collected before the script is started.
        let mut large =
            format!("POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n")
                .into_bytes();
        large.extend(vec![b'x'; 1_000_000]);
        large.extend(b"\r\n0\r\n\r\n");
        let mut connection = forkhorn.connect();
        let response = connection.exchange(large, "POST");
        assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")));
        forkhorn.wait_for_log(&format!("ERROR*POST {target}*can\'t be kept in --spool-dir*answered 503*"));
        let small = forkhorn.request("POST", target, &[], &[b'x'; 5000]);
        assert!(small.text().contains("5000"), "{}", small.text());
    }
}

#[test]
fn a_full_file_system_costs_one_request() {
    let private = ["unshare", "--user", "--map-root-user", "--mount", "true"];
    if !std::process::Command::new(private[0])
        .args(&private[1..])
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("this machine lets nobody mount: the test above stands for this one");
        return;
    }
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--spool-threshold", "1000"]);
    let spool = forkhorn.folder.folder("spool");
    let mount = format!("mount -t tmpfs -o size=64k tmpfs '{}' && exec \"$@\"", spool.display());
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let forkhorn = forkhorn.wrapper(wrapper).arg("--spool-dir").arg(&spool).start();
    let mut connection = forkhorn.connect();
    let response = connection.exchange(request_bytes("POST", "/length", &[], &vec![b'x'; 500_000]), "POST");
    assert_eq!(response.status, 503);
    forkhorn.wait_for_log("ERROR*can\'t be kept in --spool-dir*No space left on device*");
    assert_eq!(forkhorn.request("POST", "/length", &[], &[b'x'; 5000]).json()["length"], 5000);
}

/// As many as this process may have open; ten thousand where it may.
#[test]
fn thousands_of_idle_connections_leave_service_for_the_others() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    let count = usize::try_from(hard.saturating_sub(2_000)).unwrap_or(usize::MAX).clamp(500, 10_000);
    let forkhorn = limited("-S -n 256").wsgi("probe.py").args(["--max-connections", "11000"]).start();
    let worker = worker_pid(&forkhorn);
    assert!(open_files(worker) >= (count as u64 + 100).min(hard), "{} files", open_files(worker));
    let mut idle: Vec<Connection> = Vec::with_capacity(count);
    while idle.len() < count {
        // Fewer at once than may wait for the application.
        let mut some: Vec<Connection> = (0..500).map(|_| forkhorn.connect()).collect();
        for connection in &mut some {
            connection.send(request_bytes("GET", "/pid", &[], b""));
        }
        for connection in &mut some {
            assert_eq!(connection.read_response().status, 200);
        }
        idle.append(&mut some);
    }
    for _ in 0..200 {
        assert_eq!(forkhorn.get("/pid").status, 200);
    }
    assert_eq!(idle[0].get("/pid").status, 200);
    let middle = idle.len() / 2;
    assert_eq!(idle[middle].get("/pid").status, 200);
    let log = forkhorn.server.log.text();
    assert!(!log.contains("nothing more can be opened"), "{log}");
}

#[test]
fn a_body_that_drips_is_408_although_it_never_stops() {
    let forkhorn =
        Forkhorn::new().both().wsgi("probe.py").args(["--body-timeout", "0.4", "--min-rate", "1000"]).start();
    let mut connection = forkhorn.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    // A byte each time that nothing has come back for a tenth of the longest pause.
    connection.stream.set_read_timeout(std::time::Duration::from_millis(40));
    wait_until("it is refused", || {
        connection.send_anyway("x");
        !connection.peek().is_empty()
    });
    assert_eq!(connection.read_response().status, 408);
    forkhorn.wait_for_log("DEBUG*408*--min-rate*");
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_is_cut_off() {
    let forkhorn = Forkhorn::new();
    let site = forkhorn.folder.folder("site");
    std::fs::write(site.join("large"), vec![b'x'; 40_000_000]).expect("room");
    let forkhorn = forkhorn.args(["--send-timeout", "0.5", "--min-rate", "1000000"]);
    let forkhorn = forkhorn.http("unix:socket").mount_path("--static", "/", &site);
    let directory = forkhorn.folder.path().to_path_buf();
    let forkhorn = forkhorn.directory(&directory).start();
    let mut slow = forkhorn.connect();
    slow.send(request_bytes("GET", "/large", &[], b""));
    let ended = read_slowly(&mut slow);
    assert!(ended < 40_000_000, "all of it was read");
    forkhorn.wait_for_log("DEBUG*--min-rate*");
    // Who reads as fast as it can gets all of it.
    assert_eq!(forkhorn.get("/large").body.len(), 40_000_000);
}

/// A kilobyte each hundredth of a second: a tenth of what is asked for. Says how much came before the end.
fn read_slowly(slow: &mut Connection) -> usize {
    let mut all = 0;
    let mut buffer = [0; 1000];
    wait_until("the connection ends", || {
        std::thread::sleep(std::time::Duration::from_millis(7));
        let count = slow.stream.read(&mut buffer).unwrap_or(0);
        all += count;
        count == 0
    });
    all
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_needed() {
    let forkhorn = limited("-S -n 200").wsgi("probe.py").args(["--max-connections", "300"]).start();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let raised = open_files(worker_pid(&forkhorn));
    assert!(raised > 300 || raised == hard, "{raised}");
    assert!(raised < 2_000, "{raised}: more than is needed");
    assert!(Path::new("/proc/self/limits").exists());
}
