//! HUP: new code is up before old code goes, broken code never gets in, and no request notices.

use nix::sys::signal::Signal;

use super::load::under_load;
use super::worker_pid;
use crate::support::fastcgi::Request;
use crate::support::http::request_bytes;
use crate::support::process::process;
use crate::support::{Forkhorn, Running, wait_until};

fn version(number: u32) -> String {
    format!(
        "import os, time\n\
         def application(environ, start_response):\n\
         \x20   query = environ['QUERY_STRING']\n\
         \x20   if query:\n\
         \x20       open(query + '.at', 'w').close()\n\
         \x20       while not os.path.exists(query): time.sleep(0.002)\n\
         \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
         \x20   return [b'version {number}']\n"
    )
}

fn versioned(preload: &str, workers: u16) -> Running {
    Forkhorn::new().code(&version(1)).args(["--preload", preload]).workers(workers).both().start()
}

#[test]
fn new_code_is_served_after_a_reload() {
    for preload in ["auto", "never"] {
        let forkhorn = versioned(preload, 2);
        for number in 2..5_u32 {
            forkhorn.folder.write("app.py", version(number));
            forkhorn.signal(Signal::SIGHUP);
            let generation = number - 1;
            for slot in 0..2 {
                forkhorn.wait_for_log(&format!("worker {slot} generation {generation} ready"));
            }
            let expected = format!("version {number}");
            wait_until("only the new code answers", || (0..6).all(|_| forkhorn.get("/").text() == expected));
        }
        wait_until("old processes are gone", || forkhorn.family().len() <= 3);
    }
}

#[test]
fn a_running_request_is_finished_by_the_old_code() {
    let forkhorn = versioned("auto", 2);
    let old = worker_pid_by_family(&forkhorn);
    let go = forkhorn.folder.join("go");
    let mut running = forkhorn.connect();
    running.send(request_bytes("GET", &format!("/?{}", go.display()), &[], b""));
    wait_until("the request runs", || forkhorn.folder.join("go.at").exists());
    forkhorn.folder.write("app.py", version(2));
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log("worker 0 generation 1 ready");
    wait_until("the new code answers", || forkhorn.get("/").text() == "version 2");
    forkhorn.folder.write("go", "");
    assert_eq!(running.read_response().text(), "version 1");
    wait_until("the old worker is gone", || old.iter().all(|pid| process(*pid).is_none()));
}

fn worker_pid_by_family(forkhorn: &Running) -> Vec<i32> {
    forkhorn.family().iter().map(|process| process.pid).collect()
}

#[test]
fn reloads_under_load_fail_no_request() {
    let forkhorn = versioned("auto", 2);
    let answered = under_load(&forkhorn, 4, || {
        for number in 2..8_u32 {
            forkhorn.folder.write("app.py", version(number));
            forkhorn.signal(Signal::SIGHUP);
            forkhorn.wait_for_log(&format!("worker 1 generation {} ready", number - 1));
            wait_until("the new code answers", || forkhorn.get("/").text() == format!("version {number}"));
        }
    });
    assert!(answered > 20, "{answered}");
    wait_until("old processes are gone", || forkhorn.family().len() <= 3);
}

#[test]
fn broken_code_keeps_the_old_workers_and_says_why() {
    for preload in ["auto", "never"] {
        let forkhorn = versioned(preload, 2);
        let mut connection = forkhorn.connect();
        assert_eq!(connection.get("/").text(), "version 1");
        for (broken, cause) in [
            ("def application(:\n", "SyntaxError"),
            ("import not_there\n", "not_there"),
            ("application = 5\n", "callable"),
        ] {
            forkhorn.folder.write("app.py", broken);
            forkhorn.signal(Signal::SIGHUP);
            forkhorn.wait_for_log(&format!("*{cause}"));
            for _ in 0..4 {
                assert_eq!(forkhorn.get("/").text(), "version 1", "{cause}, --preload {preload}");
            }
        }
        // And the next good code gets in.
        forkhorn.folder.write("app.py", version(2));
        forkhorn.signal(Signal::SIGHUP);
        wait_until("the good code answers", || forkhorn.get("/").text() == "version 2");
        wait_until("no process of a failed reload is left", || forkhorn.family().len() <= 3);
    }
}

#[test]
fn a_worker_that_dies_after_a_failed_reload_is_replaced_by_good_code() {
    let forkhorn = versioned("auto", 1);
    forkhorn.folder.write("app.py", "def application(:\n");
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log("SyntaxError");
    let before = forkhorn.server.log.count("worker 0 generation 0 ready");
    // The application has no /pid here: whoever has a Python interpreter and is no template is killed, both are.
    for process in forkhorn.family() {
        // One that the failed reload had started may have ended by itself.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    // With the template gone too, there is nobody left who knows the good code: the master must say so, not spin.
    forkhorn.folder.write("app.py", version(3));
    wait_until("it answers again", || {
        let mut connection = forkhorn.connect();
        connection.stream.set_read_timeout(std::time::Duration::from_millis(500));
        connection.send_anyway(request_bytes("GET", "/", &[], b""));
        connection.try_read("GET").is_ok_and(|response| response.status == 200)
    });
    assert!(forkhorn.server.log.count("worker 0 generation") > before);
}

#[test]
fn many_reloads_at_once_end_in_the_last_code() {
    let forkhorn = versioned("auto", 2);
    for number in 2..12_u32 {
        forkhorn.folder.write("app.py", version(number));
        forkhorn.signal(Signal::SIGHUP);
    }
    wait_until("the last code answers", || (0..4).all(|_| forkhorn.get("/").text() == "version 11"));
    wait_until("old processes are gone", || forkhorn.family().len() <= 3);
}

#[test]
fn a_daemon_of_scripts_reloads_too() {
    let forkhorn = Forkhorn::new()
        .script("x.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\nran'\n")
        .cgi_folder()
        .workers(2)
        .start();
    let before = worker_pid_by_family(&forkhorn);
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log("worker 1 generation 1 ready");
    wait_until("the old workers are gone", || before.iter().all(|pid| process(*pid).is_none()));
    assert_eq!(forkhorn.get("/cgi-bin/x.sh").text(), "ran");
}

#[test]
fn usr1_opens_the_access_log_again() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2);
    let log = forkhorn.folder.join("access.log");
    let forkhorn = forkhorn.arg("--access-log").arg(&log).both().start();
    assert_eq!(forkhorn.get("/pid?first").status, 200);
    wait_until("the request is logged", || forkhorn.folder.read("access.log").contains("/pid?first"));
    std::fs::rename(&log, forkhorn.folder.join("access.log.1")).expect("a rotated log");
    forkhorn.signal(Signal::SIGUSR1);
    wait_until("the log is there again", || log.exists());
    wait_until("new requests are logged there", || {
        assert_eq!(forkhorn.fcgi(&Request::new("GET", "/pid?second")).response().status, 200);
        forkhorn.folder.read("access.log").contains("/pid?second")
    });
    let line = forkhorn.folder.read("access.log");
    let line = line.lines().next().expect("a line");
    for part in ["192.0.2.7", "GET", "200"] {
        assert!(line.contains(part), "{line}");
    }
    // A client can't forge lines.
    assert_eq!(forkhorn.request("GET", "/pid?%0a", &[("User-Agent", "a\" \\x\tb")], b"").status, 200);
    wait_until("it is logged", || forkhorn.folder.read("access.log").contains("/pid?%0a"));
    assert!(!forkhorn.folder.read("access.log").contains("a\" \\x"), "a quote of the client ends a field");
    assert_eq!(worker_pid(&forkhorn).signum(), 1);
}
