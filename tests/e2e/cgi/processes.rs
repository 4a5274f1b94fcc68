//! How scripts run and end: together with their pipes, within their time, without a trace.

use std::time::Instant;

use super::script;
use crate::support::fastcgi::{ABORT_REQUEST, KEEP_CONN, Request, record};
use crate::support::http::{Connection, find, request_bytes};
use crate::support::process::{ProcessEntry, descriptor_count, process, wait_for_descriptors};
use crate::support::{Forkhorn, Running, wait_until};

const OK: &str = "printf 'Content-Type: text/plain\\n\\n'";

/// The processes of scripts: everything below the master but its workers.
fn running_scripts(forkhorn: &Running) -> Vec<ProcessEntry> {
    forkhorn.family().into_iter().filter(|process| !process.name.starts_with("forkhorn")).collect()
}

#[track_caller]
fn wait_for_no_scripts(forkhorn: &Running) {
    wait_until("no process of a script is left", || running_scripts(forkhorn).is_empty());
}

#[test]
fn a_script_need_not_read_its_body() {
    let body = vec![b'x'; 10_000_000];
    for lines in [
        format!("{OK}; echo answered"),
        format!("exec <&-; {OK}; echo answered"),
        format!("head -c 10 >/dev/null; {OK}; echo answered"),
        format!("sleep 0.1; {OK}; echo answered"),
    ] {
        let forkhorn = script(&lines).both().start();
        for _ in 0..2 {
            assert_eq!(forkhorn.request("POST", "/cgi-bin/x.sh", &[], &body).text(), "answered\n", "{lines}");
        }
        let request = Request::new("POST", "/cgi-bin/x.sh").body(body.clone());
        assert_eq!(forkhorn.fcgi(&request).response().text(), "answered\n", "{lines}");
    }
}

#[test]
fn a_script_may_answer_before_it_reads_its_body() {
    // More than any pipe holds, both ways: whoever writes one side first hangs for ever.
    let lines = format!("{OK}; head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; wc -c");
    let forkhorn = script(&lines).both().start();
    let body = vec![b'x'; 5_000_000];
    let response = forkhorn.request("POST", "/cgi-bin/x.sh", &[], &body);
    assert!(response.complete);
    assert_eq!(&response.body[3_000_000..], b"5000000\n");
    let answer = forkhorn.fcgi(&Request::new("POST", "/cgi-bin/x.sh").body(body));
    assert_eq!(&answer.response().body[3_000_000..], b"5000000\n");
}

#[test]
fn a_request_ends_with_its_script_even_if_a_child_keeps_the_pipe() {
    let forkhorn = script(&format!("{OK}; echo done; sleep 1000 & echo $! > child")).start();
    let response = forkhorn.get("/cgi-bin/x.sh");
    assert_eq!((response.text().as_str(), response.complete), ("done\n", true));
    // The child was told to go with its group, or goes on by the script's wish; here it must not outlive the test.
    let child: i32 = forkhorn.folder.read("cgi-bin/child").trim().parse().expect("a pid");
    if process(child).is_some() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn a_script_over_its_time_is_ended_with_its_whole_group() {
    for (name, lines) in [
        ("plain", "sleep 1000"),
        ("with children", "sleep 1000 & sleep 1001 & wait"),
        ("deaf to TERM", "trap '' TERM; while :; do sleep 0.01; done"),
        ("after its header", "printf 'Content-Type: text/plain\\n\\nhalf'; sleep 1000"),
    ] {
        let forkhorn = script(lines).both().args(["--cgi-timeout", "0.4"]).start();
        let started = Instant::now();
        let mut connection = forkhorn.connect();
        connection.send(request_bytes("GET", "/cgi-bin/x.sh", &[], b""));
        let response = connection.read_response();
        match name {
            "after its header" => assert!(!response.complete, "a broken answer looks complete"),
            _ => assert_eq!(response.status, 504, "{name}"),
        }
        let answer = forkhorn.fcgi(&Request::new("GET", "/cgi-bin/x.sh"));
        match name {
            "after its header" => assert!(!answer.complete || answer.app_status != 0),
            _ => assert_eq!(answer.response().status, 504, "{name}"),
        }
        wait_for_no_scripts(&forkhorn);
        assert!(started.elapsed().as_secs() < 25, "{name}: {:?}", started.elapsed());
        forkhorn.wait_for_log("ERROR*x.sh");
    }
}

#[test]
fn a_script_ends_when_its_client_has_gone() {
    let lines = format!("{OK}; echo started; sleep 1000 & while :; do sleep 1000; done");
    let forkhorn = script(&lines).both().start();
    let mut client: Connection = forkhorn.connect();
    client.send(request_bytes("GET", "/cgi-bin/x.sh", &[], b""));
    while find(client.peek(), b"started\n").is_none() {}
    drop(client);
    wait_for_no_scripts(&forkhorn);

    let mut peer = forkhorn.peer();
    peer.send(Request::new("GET", "/cgi-bin/x.sh").keep().bytes());
    while !peer.read_record().is_some_and(|record| record.content.ends_with(b"started\n")) {}
    peer.send(record(ABORT_REQUEST, 1, b""));
    wait_for_no_scripts(&forkhorn);
    assert!(peer.answer(1).complete);
    let mut again = Request::new("GET", "/cgi-bin/missing.sh");
    again.flags = KEEP_CONN;
    assert_eq!(peer.request(&again).response().status, 404);

    let mut peer = forkhorn.peer();
    peer.send(Request::new("GET", "/cgi-bin/x.sh").bytes());
    peer.read_record().expect("the answer begins");
    drop(peer);
    wait_for_no_scripts(&forkhorn);
}

#[test]
fn a_script_whose_client_has_left_with_the_whole_answer_may_finish() {
    let head = "Content-Type: text/plain\\nContent-Length: 3";
    let lines =
        format!("printf '{head}\\n\\nok\\n'; until [ -e go ]; do sleep 0.01; done; echo finished >done");
    let forkhorn = script(&lines).both().start();
    let folder = forkhorn.folder.join("cgi-bin");
    for by_fastcgi in [false, true] {
        if by_fastcgi {
            // As web servers do that keep no connections: what was announced has come, and nothing else is waited for.
            let mut peer = forkhorn.peer();
            peer.send(Request::new("GET", "/cgi-bin/x.sh").bytes());
            while !peer.read_record().is_some_and(|record| record.content.ends_with(b"ok\n")) {}
        } else {
            let mut client: Connection = forkhorn.connect();
            client.send(request_bytes("GET", "/cgi-bin/x.sh", &[], b""));
            assert_eq!(client.read_response().text(), "ok\n");
        }
        // The worker has seen the end of that connection before it serves another one's request.
        for _ in 0..3 {
            assert_eq!(forkhorn.get("/cgi-bin/missing.sh").status, 404);
        }
        std::fs::write(folder.join("go"), "").expect("written");
        wait_until("the script has finished", || folder.join("done").exists());
        wait_for_no_scripts(&forkhorn);
        std::fs::remove_file(folder.join("go")).expect("removed");
        std::fs::remove_file(folder.join("done")).expect("removed");
    }
    assert!(!forkhorn.log().iter().any(|line| line.contains("told to end")), "{:?}", forkhorn.log());
}

#[test]
fn a_script_that_has_followed_its_client_makes_room_before_its_children_have() {
    // Its child lives until its group is killed, a quarter of a second later, and looks for the next script meanwhile.
    let child = "trap '' TERM; touch \\$1.waits; until [ -e next ]; do sleep 0.01; done; touch met";
    let first = format!("#!/bin/sh\n{OK}; echo started\nsh -c \"{child}\" x $QUERY_STRING &\nwait\n");
    let next = format!("#!/bin/sh\ntouch next; {OK}; echo next\n");
    let forkhorn = Forkhorn::new().script("first.sh", first).script("next.sh", next).cgi_folder();
    let forkhorn = forkhorn.args(["--cgi-max-scripts", "1"]).start();
    let scripts = forkhorn.folder.join("cgi-bin");
    let mut attempt = 0;
    // More than once: on a slow machine the quarter of a second may be over.
    wait_until("a script begins while the child of one that was told to end lives", || {
        attempt += 1;
        let mut client = forkhorn.connect();
        client.send(request_bytes("GET", &format!("/cgi-bin/first.sh?{attempt}"), &[], b""));
        wait_until("the child runs", || scripts.join(format!("{attempt}.waits")).exists());
        drop(client);
        assert_eq!(forkhorn.get("/cgi-bin/next.sh").text(), "next\n");
        wait_for_no_scripts(&forkhorn);
        std::fs::remove_file(scripts.join("next")).expect("the next script has run");
        scripts.join("met").exists()
    });
}

#[test]
fn a_slow_reader_holds_back_its_script_and_nobody_else() {
    let lines = format!("{OK}; head -c 200000000 /dev/zero");
    let forkhorn = script(&lines)
        .args(["--max-output", "100000"])
        .script("other.sh", format!("#!/bin/sh\n{OK}; echo other\n"))
        .start();
    let mut slow = forkhorn.connect();
    slow.send(request_bytes("GET", "/cgi-bin/x.sh", &[], b""));
    assert!(!slow.peek().is_empty());
    let written = || -> Option<u64> {
        let head = forkhorn.family().into_iter().find(|process| process.name == "head")?;
        let io = std::fs::read_to_string(format!("/proc/{}/io", head.pid)).ok()?;
        io.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
    };
    wait_until("the script waits while others run", || {
        let before = written();
        for _ in 0..5 {
            assert_eq!(forkhorn.get("/cgi-bin/other.sh").text(), "other\n");
        }
        written() == before
    });
    assert!(written().is_some_and(|bytes| bytes < 50_000_000), "{:?} were taken from the script", written());
    let worker =
        forkhorn.family().into_iter().find(|process| process.name == "forkhorn-w0").expect("a worker");
    let resident: u64 = crate::support::process::status_line(worker.pid, "VmRSS")[0].parse().expect("kB");
    assert!(resident < 100_000, "the worker holds {resident} kB");
    let response = slow.read_response();
    assert_eq!(response.body.len(), 200_000_000);
}

#[test]
fn scripts_over_the_limit_wait_and_the_queue_has_an_end() {
    let lines = format!("{OK}; echo $$ >> started; until [ -e go ]; do sleep 0.01; done; echo done");
    let forkhorn = script(&lines).args(["--cgi-max-scripts", "1", "--cgi-queue", "2"]).start();
    let mut waiting: Vec<Connection> = Vec::new();
    let request = request_bytes("GET", "/cgi-bin/x.sh", &[], b"");
    for _ in 0..3 {
        let mut connection = forkhorn.connect();
        connection.send(&request);
        waiting.push(connection);
    }
    wait_until("the first script runs", || !forkhorn.folder.read("cgi-bin/started").is_empty());
    // The order in which a worker sees three connections is its own: ask until the queue is full.
    let refused = crate::support::wait::wait_for("a request is refused", || {
        let mut connection = forkhorn.connect();
        connection.send(&request);
        connection.stream.set_read_timeout(std::time::Duration::from_millis(300));
        let answer = connection.try_read("GET").ok();
        if answer.is_none() {
            connection.stream.set_read_timeout(crate::support::wait::DEADLINE);
            waiting.push(connection);
        }
        answer
    });
    assert_eq!(refused.status, 503);
    assert!(refused.field("Retry-After").is_some());
    assert_eq!(forkhorn.folder.read("cgi-bin/started").lines().count(), 1);
    forkhorn.folder.write("cgi-bin/go", "");
    for mut connection in waiting {
        assert_eq!(connection.read_response().text(), "done\n");
    }
    forkhorn.wait_for_log("WARN*503");
}

#[test]
fn a_request_that_waits_for_a_script_is_dropped_when_its_client_goes() {
    let lines = format!("echo x >> started; {OK}; until [ -e go ]; do sleep 0.01; done");
    let forkhorn = script(&lines).args(["--cgi-max-scripts", "1", "--cgi-queue", "5"]).start();
    let worker =
        forkhorn.family().into_iter().find(|process| process.name == "forkhorn-w0").expect("a worker");
    let mut first = forkhorn.connect();
    first.send(request_bytes("GET", "/cgi-bin/x.sh", &[], b""));
    // Its header is here: the worker has closed the script's ends of the pipes, and its descriptors stay as they are.
    assert!(!first.peek().is_empty());
    let before = descriptor_count(worker.pid);
    let gone: Vec<Connection> = (0..5)
        .map(|_| {
            let mut connection = forkhorn.connect();
            connection.send(request_bytes("GET", "/cgi-bin/x.sh", &[], b""));
            connection
        })
        .collect();
    wait_until("all five are accepted", || descriptor_count(worker.pid) >= before + 5);
    drop(gone);
    wait_until("all five are given up", || descriptor_count(worker.pid) <= before);
    // Their places in the queue are free again.
    let mut waits = forkhorn.connect();
    waits.send(request_bytes("GET", "/cgi-bin/x.sh", &[], b""));
    wait_until("it is accepted", || descriptor_count(worker.pid) > before);
    forkhorn.folder.write("cgi-bin/go", "");
    assert_eq!(first.read_response().status, 200);
    assert_eq!(waits.read_response().status, 200);
    assert_eq!(forkhorn.folder.read("cgi-bin/started").lines().count(), 2);
}

#[test]
fn hundreds_of_scripts_leave_neither_zombie_nor_descriptor() {
    let forkhorn = script(&format!("{OK}; echo body; cat >/dev/null"))
        .script("fails.sh", "#!/bin/sh\nexit 3\n")
        .script("dies.sh", "#!/bin/sh\nkill -9 $$\n")
        .start();
    let worker =
        forkhorn.family().into_iter().find(|process| process.name == "forkhorn-w0").expect("a worker");
    let mut connection = forkhorn.connect();
    connection.get("/cgi-bin/x.sh");
    let before = descriptor_count(worker.pid);
    for number in 0..100 {
        let body = vec![b'x'; if number % 7 == 0 { 400_000 } else { number }];
        let response = connection.request("POST", "/cgi-bin/x.sh", &[], &body);
        assert_eq!(response.status, 200);
        // An answer that comes long before the end of its request costs the connection.
        if response.field("Connection") == Some("close") {
            connection = forkhorn.connect();
        }
        assert_eq!(connection.get("/cgi-bin/fails.sh").status, 502);
        assert_eq!(connection.get("/cgi-bin/dies.sh").status, 502);
    }
    wait_for_no_scripts(&forkhorn);
    wait_for_descriptors(worker.pid, before);
    assert_eq!(process(worker.pid).map(|now| now.started), Some(worker.started), "the worker was replaced");
}

#[test]
fn what_a_script_says_on_stderr_is_logged_line_by_line() {
    let lines = r"printf 'Content-Type: text/plain\n\nbody'; printf 'first line\nsecond line\npartial' >&2";
    let forkhorn = script(lines)
        .script("odd.sh", "#!/bin/sh\nprintf 'a\\000b\\033[31mred\\rforged\\n' >&2; head -c 300000 /dev/zero | tr '\\0' y >&2\nexit 4\n")
        .start();
    assert_eq!(forkhorn.get("/cgi-bin/x.sh").text(), "body");
    for line in ["first line", "second line", "partial"] {
        let logged = forkhorn.wait_for_log(line);
        assert!(logged.contains("x.sh"), "{logged}");
    }
    // As in CVE-2024-9026: a script can't forge lines, hide them, or steer a terminal.
    assert_eq!(forkhorn.get("/cgi-bin/odd.sh").status, 502);
    forkhorn.wait_for_log("ERROR*odd.sh");
    let log = forkhorn.server.log.text();
    assert!(!log.contains(['\0', '\u{1b}', '\r']), "control characters came into the log");
    assert!(log.lines().all(|line| line.len() < 100_000), "a line of the log has no end");
}

#[test]
fn an_end_that_is_no_success_is_logged_with_its_cause() {
    let forkhorn = script(&format!("{OK}; echo body; exit 7"))
        .script("killed.sh", format!("#!/bin/sh\n{OK}; echo body; kill -SEGV $$\n"))
        .start();
    let response = forkhorn.get("/cgi-bin/x.sh");
    assert_eq!((response.status, response.text().as_str()), (200, "body\n"));
    forkhorn.wait_for_log("x.sh*7");
    // Killed by a signal after its header: what came may be half of what it wanted to say.
    let response = forkhorn.get("/cgi-bin/killed.sh");
    assert!(!response.complete || response.text() == "body\n");
    forkhorn.wait_for_log("killed.sh*SEGV");
}

#[test]
fn scripts_run_beside_each_other_and_beside_an_application() {
    let lines = format!(
        "touch here-$1$QUERY_STRING; until [ -e here-1 ] && [ -e here-2 ]; do sleep 0.01; done; {OK}; echo met"
    );
    let forkhorn =
        Forkhorn::new().wsgi("probe.py").script("x.sh", format!("#!/bin/sh\n{lines}\n")).cgi_folder().start();
    let mut connections = [forkhorn.connect(), forkhorn.connect()];
    for (connection, number) in connections.iter_mut().zip(1..) {
        connection.send(request_bytes("GET", &format!("/cgi-bin/x.sh?{number}"), &[], b""));
    }
    assert_eq!(forkhorn.get("/pid").status, 200);
    for mut connection in connections {
        assert_eq!(connection.read_response().text(), "met\n");
    }
}
