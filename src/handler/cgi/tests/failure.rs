//! Scripts that do not start, or do not answer: the status, the cause and the cure.

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

#[test]
fn script_killed_in_its_response_breaks_it() {
    let outcome = run(&format!("{HEAD}echo begin; kill -SEGV $$"));
    assert_eq!(outcome.body, b"begin\n");
    assert!(outcome.failure().to_string().contains("was killed by SIGSEGV in the middle of its response"));
    // A signal that nix has no name for.
    let outcome =
        run("#!/usr/bin/python3\nimport os\nprint('A: 1\\n', flush=True)\nos.kill(os.getpid(), 40)\n");
    assert!(outcome.failure().to_string().contains("was killed by signal 40"), "{:?}", outcome.failure());
}

#[test]
fn exit_alone_is_enough_to_know_everything() {
    let scripts = Scripts::new();
    // A child that holds both pipes, so that neither comes to its end.
    let script = scripts.script("script", "#!/bin/sh\nsleep 300 & echo $!; printf 'oh dear' >&2; exit 3");
    let mut driver = Driver::start(&script, &config(), Vec::new());
    driver.wait_for(Pipe::Exit);
    driver.run.on_ready(Pipe::Exit, Instant::now());
    driver.events();
    let failure = driver.outcome.failure().to_string();
    assert!(failure.contains("exited with status 3") && failure.contains("oh dear"), "{failure}");
    assert!(driver.run.is_over() && driver.run.sources().count() == 0);
    let child =
        failure.split_once("the line '").and_then(|(_, rest)| rest.split_once('\'')).expect("its number").0;
    kill(Pid::from_raw(child.parse().expect("a process id")), Signal::SIGKILL).expect("it lives");
}

#[test]
fn script_that_fails_before_its_head_is_answered_502_with_its_reasons() {
    for (text, reasons) in [
        ("#!/bin/sh\necho oh dear >&2; exit 3", ["wrote nothing", "exited with status 3", "\n    oh dear"]),
        ("#!/bin/sh\nkill -KILL $$", ["wrote nothing", "was killed by SIGKILL", ""]),
        ("#!/bin/sh\necho 'Content-Type: text/plain'", ["before the empty line", "exited with status 0", ""]),
        ("#!/bin/sh\nprintf 'one\\033[1m\\ntwo\\n' >&2", ["\n    one\\u{1b}[1m", "\n    two", ""]),
        (
            "#!/usr/bin/python3\nimport no_such_module",
            ["wrote nothing", "status 1", "No module named 'no_such_module'"],
        ),
        (
            "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'cgi'\" >&2; exit 1",
            ["pip install legacy-cgi", "", ""],
        ),
        ("#!/usr/bin/env no-such-interpreter\n", ["exited with status 127", "no-such-interpreter", ""]),
        ("#!/usr/bin/env sh\r\necho\r\n", ["exited with status 127", "ends in CR LF", "sed -i 's/\\r$//' "]),
    ] {
        let outcome = run(text);
        assert!(outcome.head.is_none());
        let failure = outcome.failure();
        assert_eq!(failure.status(), 502);
        for reason in reasons {
            assert!(failure.to_string().contains(reason), "{failure}");
        }
    }
}

#[test]
fn output_that_is_no_header_fails_at_once() {
    let outcome = run("#!/bin/sh\necho '<html>'; exec sleep 0.2");
    assert!(outcome.failure().to_string().contains("the line '<html>'"), "{:?}", outcome.failure());
}

#[test]
fn script_that_cannot_be_started_names_the_cause_and_the_cure() {
    let scripts = Scripts::new();
    let file = scripts.path().join("script").display().to_string();
    for (text, status, reason) in [
        (
            b"#!/nonexistent/perl -w\nprint".as_slice(),
            502,
            "the interpreter /nonexistent/perl, which does not exist",
        ),
        (b"#!/bin/sh\r\necho\r\n", 502, &format!("interpreter '/bin/sh\\r'; run: sed -i 's/\\r$//' {file}")),
        (b"#! /bin/sh -e\r\necho\r\n", 200, ""),
        (b"", 502, "it is empty"),
        (b"echo hello", 502, "such as #!/usr/bin/env python3"),
        (b"\xef\xbb\xbf#!/bin/sh\n", 502, "byte order mark"),
        (b"#!\n", 502, "names no interpreter behind #!"),
        (b"\x7fELF nonsense", 502, "built for another kind of machine"),
        (b"#!/etc\n", 502, "the interpreter /etc, which may not be executed"),
        (b"#!/etc/passwd\n", 502, "the interpreter /etc/passwd, which may not be executed"),
    ] {
        scripts.write("script", text, 0o755);
        let script = scripts.locate("script").expect("it is there");
        match ScriptRun::spawn(&script, &meta(0), &config(), LIMITS, None, Instant::now()) {
            Ok(_) => assert_eq!(status, 200, "{}", text.escape_ascii()),
            Err(error) => {
                assert_eq!(error.status(), status, "{error}");
                assert!(error.to_string().contains(reason), "{error}, not {reason}");
                assert!(error.to_string().contains(&file));
            }
        }
    }
    let script = scripts.locate("script").expect("it is there");
    fs::remove_file(&file).expect("ours");
    let error = ScriptRun::spawn(&script, &meta(0), &config(), LIMITS, None, Instant::now())
        .map(|_| ())
        .expect_err("gone");
    assert_eq!(error.status(), 404);
}

#[test]
fn variables_beyond_the_kernels_limit_are_an_error_not_a_crash() {
    let scripts = Scripts::new();
    let script = scripts.script("script", HEAD);
    let mut meta = meta(0);
    meta.set(b"HTTP_X_LONG", &[b'x'; 200_000]);
    let error = ScriptRun::spawn(&script, &meta, &config(), LIMITS, None, Instant::now())
        .map(|_| ())
        .expect_err("too long");
    assert!(error.status() == 502 && error.to_string().contains("longer than the kernel takes"), "{error}");
}
