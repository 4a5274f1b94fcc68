//! HUP: new code is up before old code goes, broken code never gets in, and no request notices.

use nix::sys::signal::Signal;

use super::load::under_load;
use super::worker_pid;
use crate::support::fastcgi::Request;
use crate::support::http::request_bytes;
use crate::support::process::{descriptor_count, process, status_line, wait_for_descriptors};
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

/// What the log tells of a generation's workers.
fn ready(slot: u16, generation: u32) -> String {
    format!("worker {slot} generation {generation} ready")
}

#[test]
fn a_reload_has_no_more_workers_at_once_than_its_surge_allows() {
    for (surge, most) in [("25%", 5), ("2", 6)] {
        let forkhorn =
            Forkhorn::new().code(&version(1)).workers(4).both().args(["--max-surge", surge]).start();
        under_load(&forkhorn, 4, || {
            forkhorn.signal(Signal::SIGHUP);
            forkhorn.wait_for_log("generation 1 serves, generation 0 drains");
        });
        let (mut workers, mut highest) = (0, 0);
        wait_until("old processes are gone", || forkhorn.server.log.count("generation 0 * has left") == 5);
        for line in forkhorn.server.log.text().lines().filter(|line| line.contains(" worker ")) {
            workers += i32::from(line.contains(" ready, pid ")) - i32::from(line.ends_with(" has left"));
            highest = highest.max(workers);
        }
        assert!((5..=most).contains(&highest), "--max-surge {surge}: {highest}");
        assert_eq!(workers, 4);
    }
}

#[test]
fn a_reload_whose_second_worker_does_not_start_goes_back_to_the_old_code() {
    let forkhorn = versioned("auto", 3);
    let marks = forkhorn.folder.folder("marks");
    let dies = format!(
        "import os\n\
         def after():\n\
         \x20   mark = '{}/%d'\n\
         \x20   number = len(os.listdir('{}'))\n\
         \x20   open(mark % number, 'w').close()\n\
         \x20   if number: os._exit(1)\n\
         os.register_at_fork(after_in_child=after)\n{}",
        marks.display(),
        marks.display(),
        version(2)
    );
    under_load(&forkhorn, 4, || {
        forkhorn.folder.write("app.py", dies);
        forkhorn.signal(Signal::SIGHUP);
        forkhorn.wait_for_log("reload failed, generation 0 takes over again: ");
        wait_until("the new code is gone", || forkhorn.family().len() <= 4);
    });
    assert!((0..6).all(|_| forkhorn.get("/").text() == "version 1"));
    // The next code gets in, as another generation.
    forkhorn.folder.write("app.py", version(3));
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log(&ready(2, 2));
    wait_until("the good code answers", || forkhorn.get("/").text() == "version 3");
}

#[test]
fn reloads_leave_nothing_behind() {
    let forkhorn = versioned("auto", 2);
    let memory = |pid: i32| status_line(pid, "VmRSS")[0].parse::<u64>().expect("kilobytes");
    let mut before = None;
    under_load(&forkhorn, 2, || {
        for generation in 1..=12 {
            forkhorn.signal(Signal::SIGHUP);
            forkhorn.wait_for_log(&format!("generation {generation} serves"));
            wait_until("old processes are gone", || forkhorn.family().len() <= 3);
            if generation == 4 {
                before = Some((descriptor_count(forkhorn.pid()), memory(forkhorn.pid())));
            }
        }
    });
    let (open, kilobytes) = before.expect("a fourth generation");
    wait_for_descriptors(forkhorn.pid(), open);
    let grown = memory(forkhorn.pid()).saturating_sub(kilobytes);
    assert!(grown <= 512, "the master has grown by {grown} kB in 8 reloads");
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
