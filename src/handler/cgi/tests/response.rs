//! What a script answers, and when its answer ends.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::*;

#[test]
fn script_answers_with_head_and_body() {
    let outcome = run(&format!("{HEAD}echo hello"));
    assert_eq!(outcome.status(), 200);
    assert_eq!(
        outcome.head.as_ref().and_then(|head| head.field(b"content-type")),
        Some(b"text/plain".as_slice())
    );
    assert_eq!(outcome.text(), "hello\n");
}

#[test]
fn response_ends_with_the_script_though_a_child_holds_its_output() {
    let scripts = Scripts::new();
    let pid_file = scripts.path().join("pid");
    let script =
        scripts.script("script", &format!("{HEAD}sleep 300 & echo $! > {}; echo answer", pid_file.display()));
    let started = Instant::now();
    let outcome = Driver::start(&script, &config(), Vec::new()).until_over();
    assert_eq!(outcome.text(), "answer\n");
    assert!(started.elapsed() < Duration::from_secs(200));
    // It was started on purpose and lives on, until this test ends it.
    let child = read_pid(&pid_file);
    kill(child, None).expect("the background child lives");
    kill(child, Signal::SIGKILL).expect("it is ours");
}

#[test]
fn response_ends_when_the_output_is_closed_though_the_script_works_on() {
    let scripts = Scripts::new();
    let gate = fifo(&scripts);
    let text = format!("{HEAD}echo answer; exec >&-; read line < {}", gate.display());
    let driver = Driver::start(&scripts.script("script", &text), &config(), Vec::new()).until_response_ends();
    assert!(!driver.run.is_over(), "the process works on");
    assert_eq!(driver.outcome.text(), "answer\n");
    fs::write(&gate, "go\n").expect("the script reads");
    driver.until_over();
}

#[test]
fn exit_status_after_a_response_does_not_break_it() {
    assert_eq!(run(&format!("{HEAD}echo answer; exit 3")).text(), "answer\n");
}

#[test]
fn response_ends_with_the_exit_when_the_output_has_ended_before() {
    let scripts = Scripts::new();
    let mut driver =
        Driver::start(&scripts.script("script", &format!("{HEAD}echo answer")), &config(), Vec::new());
    driver.wait_for(Pipe::Exit);
    driver.run.on_ready(Pipe::Stdout, Instant::now());
    driver.events();
    assert!(driver.outcome.end.is_none(), "it could have been killed");
    assert!(driver.run.deadline().is_some());
    driver.run.on_ready(Pipe::Exit, Instant::now());
    driver.events();
    assert_eq!(driver.outcome.text(), "answer\n");
}

#[test]
fn local_redirect_ends_the_response() {
    let outcome = run("#!/bin/sh\nprintf 'Location: /other?a=b\\n\\nignored'");
    assert!(
        matches!(&outcome.end, Some(ScriptEvent::LocalRedirect(path)) if path == b"/other?a=b"),
        "{outcome:?}"
    );
}

#[test]
fn nph_script_is_told_by_its_name() {
    let scripts = Scripts::new();
    let script = scripts.script("nph-test", "#!/bin/sh\nprintf 'HTTP/1.0 299 Mine\\r\\n\\r\\nbody'");
    let outcome = Driver::start(&script, &config(), Vec::new()).until_over();
    assert_eq!(outcome.head.as_ref().map(ResponseHead::reason), Some(b"Mine".as_slice()));
    assert_eq!(outcome.text(), "body");
}
