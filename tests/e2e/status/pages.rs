//! `--status`: what the master says over HTTP, whatever its workers do.

use nix::sys::signal::Signal;

use crate::support::http::{Connection, get, request};
use crate::support::process::send_signal;
use crate::support::{Address, Forkhorn, Running, wait_until};

/// Where it says that it listens for those who ask.
#[track_caller]
pub fn status_address(forkhorn: &Running) -> Address {
    let line = forkhorn.wait_for_log("status on ");
    let place = line.rsplit(' ').next().expect("an address");
    match place.strip_prefix("unix:") {
        Some(path) => Address::Unix(path.into()),
        None => Address::Tcp(place.parse().unwrap_or_else(|error| panic!("{line}: {error}"))),
    }
}

fn wait_target(forkhorn: &Running) -> String {
    let path = |name: &str| forkhorn.folder.join(name).display().to_string();
    format!("/wait?at={}&until={}", path("at"), path("go"))
}

#[test]
fn it_is_healthy_while_a_worker_is_ready_and_ready_until_it_stops() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--status", "127.0.0.1:0"]).start();
    let status = status_address(&forkhorn);
    for page in ["/health", "/ready"] {
        assert_eq!(get(&status, page).status, 200, "{page}");
    }
    let mut held = forkhorn.connect();
    held.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", wait_target(&forkhorn)));
    wait_until("the request runs", || !forkhorn.folder.read("at").is_empty());
    forkhorn.signal(Signal::SIGTERM);
    wait_until("it is not ready any more", || get(&status, "/ready").status == 503);
    assert_eq!(get(&status, "/ready").text(), "stopping\n");
    assert_eq!(get(&status, "/status").json()["state"], "stopping");
    forkhorn.folder.write("go", "");
    assert_eq!(held.read_response().status, 200);
}

#[test]
fn it_is_not_ready_before_the_application_is_loaded() {
    let forkhorn = Forkhorn::new();
    let go = forkhorn.folder.join("go").display().to_string();
    let code = format!(
        "import os, time\nwhile not os.path.exists({go:?}): time.sleep(0.01)\n\
         def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"
    );
    let forkhorn = forkhorn.code(&code).args(["--status", "127.0.0.1:0"]).launch();
    let status = status_address(&forkhorn);
    for page in ["/health", "/ready"] {
        assert_eq!(get(&status, page).status, 503, "{page}");
    }
    assert_eq!(get(&status, "/status").json()["state"], "starting");
    forkhorn.folder.write("go", "");
    wait_until("it is ready", || get(&status, "/ready").status == 200);
    assert_eq!(get(&status, "/health").status, 200);
}

#[test]
fn a_pool_that_sleeps_is_healthy_all_the_same() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").pool("0..2");
    let forkhorn = forkhorn.args(["--status", "127.0.0.1:0", "--worker-idle-timeout", "0.2"]).start();
    let status = status_address(&forkhorn);
    let workers = || -> usize {
        let report = get(&status, "/status").json();
        let all = report["processes"].as_array().expect("processes").clone();
        all.iter().filter(|process| !process["slot"].is_null()).count()
    };
    wait_until("no worker is left", || workers() == 0);
    for page in ["/health", "/ready"] {
        assert_eq!(get(&status, page).status, 200, "{page}");
    }
    assert_eq!(forkhorn.get("/pid").status, 200);
    assert!(workers() > 0);
}

#[test]
fn the_status_names_workers_and_the_requests_that_they_answer() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).args(["--status", "127.0.0.1:0"]).start();
    let status = status_address(&forkhorn);
    assert_eq!(forkhorn.get("/pid").status, 200);
    let target = wait_target(&forkhorn);
    let mut held = forkhorn.connect();
    held.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_until("the request runs", || !forkhorn.folder.read("at").is_empty());
    let report = get(&status, "/status").json();
    assert_eq!(report["pid"], forkhorn.pid());
    assert_eq!((&report["state"], &report["generation"]), (&"serving".into(), &0.into()));
    let processes = report["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), 3, "a template and two workers: {report:#}");
    let workers: Vec<_> = processes.iter().filter(|process| !process["slot"].is_null()).collect();
    let busy: Vec<_> = workers.iter().filter(|worker| worker["state"] == "busy").collect();
    assert_eq!((workers.len(), busy.len()), (2, 1), "{report:#}");
    let running = &busy[0]["requests"][0];
    assert_eq!(running["request"], format!("GET {target}"));
    assert!(running["id"].as_str().is_some_and(|id| !id.is_empty()) && running["age_seconds"].is_number());
    let seen: i32 = forkhorn.folder.read("at").trim().parse().expect("a pid");
    assert_eq!(busy[0]["pid"], seen);
    assert!(workers.iter().all(|worker| worker["resident_bytes"].as_u64() > Some(1 << 20)), "{report:#}");
    assert!(workers.iter().all(|worker| worker.get("memory").is_none()), "only when asked for");
    let with_memory = get(&status, "/status?memory").json();
    let memory = &with_memory["processes"][1]["memory"];
    assert!(memory["proportional_bytes"].as_u64() > Some(1 << 18), "{with_memory:#}");
    forkhorn.folder.write("go", "");
    assert_eq!(held.read_response().status, 200);
    wait_until("both idle, and are counted", || {
        let report = get(&status, "/status").json();
        let idle = |process: &serde_json::Value| process["slot"].is_null() || process["state"] == "idle";
        report["processes"].as_array().expect("processes").iter().all(idle)
            && report["totals"]["requests"]["http"]["wsgi"] == 2
            && report["totals"]["responses"]["2xx"] == 2
    });
}

#[test]
fn scripts_are_shown_while_they_run() {
    let script = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo $$ > at; while [ ! -e go ]; do sleep 0.02; done\n";
    let forkhorn =
        Forkhorn::new().script("slow.sh", script).cgi_folder().args(["--status", "127.0.0.1:0"]).start();
    let status = status_address(&forkhorn);
    let mut held = forkhorn.connect();
    held.send("GET /cgi-bin/slow.sh?x HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the script runs", || forkhorn.folder.join("cgi-bin/at").exists());
    let worker = get(&status, "/status").json()["processes"][0].clone();
    assert_eq!((&worker["state"], &worker["now"]["running_scripts"]), (&"busy".into(), &1.into()));
    assert_eq!(worker["requests"][0]["request"], "GET /cgi-bin/slow.sh?x");
    assert_eq!(worker["requests"][0]["by"], "script");
    forkhorn.folder.write("cgi-bin/go", "");
    assert_eq!(held.read_response().status, 200);
    wait_until("it is idle", || get(&status, "/status").json()["processes"][0]["state"] == "idle");
    let counters = get(&status, "/status").json()["processes"][0]["counters"].clone();
    assert_eq!(
        (&counters["requests"]["http"]["cgi"], &counters["scripts"]["started"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn it_answers_while_every_worker_is_stopped_or_busy() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).args(["--status", "127.0.0.1:0"]).start();
    let status = status_address(&forkhorn);
    let pids = |status: &Address| -> Vec<i32> {
        let report = get(status, "/status").json();
        let all = report["processes"].as_array().expect("processes").clone();
        all.iter().filter_map(|process| Some(process["pid"].as_i64()? as i32)).collect()
    };
    let stopped = pids(&status);
    for pid in &stopped {
        send_signal(*pid, Signal::SIGSTOP);
    }
    assert_eq!(get(&status, "/health").status, 200);
    assert_eq!(pids(&status), stopped);
    for pid in &stopped {
        send_signal(*pid, Signal::SIGCONT);
    }
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn a_unix_socket_does_as_well_and_is_removed_at_the_end() {
    for prefix in ["", "unix:"] {
        let forkhorn = Forkhorn::new();
        let path = forkhorn.folder.join("status.sock");
        let mut forkhorn =
            forkhorn.wsgi("probe.py").args(["--status", &format!("{prefix}{}", path.display())]).start();
        let status = status_address(&forkhorn);
        assert!(matches!(status, Address::Unix(_)));
        assert_eq!(get(&status, "/health").text(), "ok\n");
        forkhorn.signal(Signal::SIGTERM);
        assert_eq!(forkhorn.wait_exit().code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn clients_that_hold_connections_keep_nobody_out_and_the_listener_takes_no_orders() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--status", "127.0.0.1:0"]).start();
    let status = status_address(&forkhorn);
    let held: Vec<_> = (0..200)
        .map(|_| {
            let mut connection = Connection::open(&status);
            connection.send_anyway("GET /he");
            connection
        })
        .collect();
    assert_eq!(get(&status, "/health").status, 200);
    assert_eq!(forkhorn.get("/pid").status, 200);
    for target in ["/stop", "/reload", "/stop?fast"] {
        assert_eq!(request(&status, "POST", target, &[], b"").status, 404);
    }
    drop(held);
    assert!(!forkhorn.server.log.contains("stop") && !forkhorn.server.log.contains("reload"));
}

#[test]
fn an_address_that_is_none_is_refused() {
    for address in ["nonsense", "fd:3", "unix:", "127.0.0.1:x"] {
        let (code, log) = Forkhorn::new().wsgi("probe.py").args(["--status", address]).run_to_exit();
        assert!(code == 2 && log.contains(&format!("--status {address}")), "{address}: {code} {log}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, log) = Forkhorn::new().wsgi("probe.py").args(["--status", &address]).run_to_exit();
    assert!(code == 1 && log.contains("another process listens there"), "{code} {log}");
}
