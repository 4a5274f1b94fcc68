//! The command line: what it refuses, with which words and which exit code.

use crate::support::forkhorn::run;
use crate::support::{Forkhorn, fixture};

#[test]
fn wrong_options_end_with_2_and_name_what_is_wrong() {
    let probe = fixture("wsgi/probe.py").display().to_string();
    for (arguments, word) in [
        (&["serve", "--no-such-option"][..], "--no-such-option"),
        (&["no-such-command"], "no-such-command"),
        (&["serve", "--http", "nonsense", &probe], "nonsense"),
        (&["serve", "--http", "127.0.0.1:70000", &probe], "70000"),
        (&["serve", "--http", "unix:", &probe], "unix:"),
        (&["serve", "--fastcgi", "fd:x", &probe], "fd:x"),
        (&["serve", "--workers", "0", &probe], "--workers"),
        (&["serve", "--threads", "x", &probe], "--threads"),
        (&["serve", "--timeout=-1", &probe], "--timeout"),
        (&["serve", "--timeout=nan", &probe], "--timeout"),
        (&["serve", "--preload", "sometimes", &probe], "sometimes"),
        (&["serve", "--socket-mode", "999", &probe], "--socket-mode"),
        (&["serve", "--umask", "9", &probe], "--umask"),
        (&["serve", "--env", "novalue", &probe], "--env"),
        (&["serve", "--mount", "noslash=x", &probe], "--mount"),
        (&["serve", "--mount", "/x", &probe], "--mount"),
        (&["serve", "--cgi", "/x", &probe], "--cgi"),
        (&["serve", "--cgi", "/x=/no/such/folder"], "/no/such/folder"),
        (&["serve", "--static", "/x=/no/such/folder"], "/no/such/folder"),
        (&["serve", "no/such/file.py"], "no/such/file.py"),
        (&["serve", "a-b:app"], "a-b"),
        (&["serve", &probe, "--mount", &format!("/={probe}")], "/"),
        (&["serve"], "forkhorn"),
        (&["serve", "--log-level", "loud", &probe], "loud"),
        (&["serve", "--max-body=-5", &probe], "--max-body"),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(err.contains(word), "{arguments:?}: {err}");
        assert!(out.is_empty(), "{arguments:?}: {out}");
    }
}

#[test]
fn help_and_version_are_told() {
    let (code, out, _) = run(&["--version"]);
    assert!(code == 0 && out.starts_with("forkhorn "), "{out}");
    let (code, out, _) = run(&["serve", "--help"]);
    assert_eq!(code, 0);
    for option in [
        "--http",
        "--fastcgi",
        "--cgi",
        "--mount",
        "--static",
        "--workers",
        "--timeout",
        "--max-body",
        "--user",
    ] {
        assert!(out.contains(option), "{option}");
    }
}

#[test]
fn the_log_says_in_few_lines_what_was_started() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(2).both().log_level("info").start();
    let log = forkhorn.server.log.lines();
    assert!(log.len() < 20, "{log:#?}");
    assert_eq!(forkhorn.get("/pid").status, 200);
    // Requests are for the access log.
    assert!(!forkhorn.server.log.contains("/pid"));
}

#[test]
fn a_file_that_can_not_be_written_is_an_error_at_the_start() {
    for option in ["--pid-file", "--access-log"] {
        let (code, log) =
            Forkhorn::new().wsgi("probe.py").args([option, "/no/such/folder/file"]).run_to_exit();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("/no/such/folder/file"), "{log}");
    }
}

#[test]
fn a_pid_file_of_a_daemon_that_lives_is_an_error() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let path = forkhorn.folder.join("pid");
    let forkhorn = forkhorn.arg("--pid-file").arg(&path).start();
    let (code, log) = Forkhorn::new().wsgi("probe.py").arg("--pid-file").arg(&path).run_to_exit();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains(&forkhorn.pid().to_string()), "{log}");
    assert_eq!(forkhorn.folder.read("pid").trim(), forkhorn.pid().to_string());
    // A stale one is no obstacle.
    let stale = Forkhorn::new().wsgi("probe.py");
    let path = stale.folder.write("pid", "999999999\n");
    assert_eq!(stale.arg("--pid-file").arg(path).start().get("/pid").status, 200);
}

#[test]
fn the_access_log_on_standard_output_has_a_line_per_request() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--access-log", "-"]).cgi_fixtures().start();
    assert_eq!(forkhorn.get("/pid?marked").status, 200);
    assert_eq!(forkhorn.get("/fail?marked").status, 500);
    assert_eq!(forkhorn.get("/cgi-bin/missing?marked").status, 404);
    for pattern in ["GET /pid?marked*200", "GET /fail?marked*500", "GET /cgi-bin/missing?marked*404"] {
        forkhorn.wait_for_log(pattern);
    }
}

#[test]
fn without_python_it_is_a_daemon_of_scripts() {
    // No interpreter anywhere: neither for an application that is not there, nor for scripts that are none of its.
    let forkhorn =
        Forkhorn::new().script("x.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\nran'\n").cgi_folder();
    let forkhorn = forkhorn.wrapper(["env", "PATH=/nowhere"]).start();
    assert_eq!(forkhorn.get("/cgi-bin/x.sh").text(), "ran");
    let (code, log) =
        Forkhorn::new().wsgi("probe.py").python_by_itself().wrapper(["env", "PATH=/nowhere"]).run_to_exit();
    assert!([1, 2, 3].contains(&code) && log.to_lowercase().contains("python"), "{code}: {log}");
}
