//! Body, output and standard error together: nobody waits for anybody, and nothing grows without bound.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use super::*;

#[test]
fn script_reads_its_body_to_the_end() {
    let body = vec![b'x'; 1_000_000];
    let outcome = run_with(&format!("{HEAD}cat"), &config(), &body);
    assert_eq!(outcome.text().len(), body.len());
}

#[test]
fn empty_body_is_the_end_of_input_at_once() {
    assert_eq!(run(&format!("{HEAD}cat; echo read")).text(), "read\n");
}

#[test]
fn spooled_body_is_read_from_its_begin() {
    let scripts = Scripts::new();
    let script = scripts.script("script", &format!("{HEAD}cksum"));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&bytes).expect("it takes them");
    let mut run = ScriptRun::spawn(&script, &meta(bytes.len()), &config(), LIMITS, None, Instant::now())
        .expect("it starts");
    run.feed_file(Arc::new(file), bytes.len() as u64);
    run.finish_input();
    let outcome = Driver { run, body: Vec::new(), outcome: Outcome::default() }.until_over();
    let expected = run_with(&format!("{HEAD}cksum"), &config(), &bytes);
    assert_eq!(outcome.text(), expected.text());
    assert!(outcome.text().ends_with(" 3000000\n"), "{}", outcome.text());
}

#[test]
fn body_that_nobody_reads_blocks_nobody() {
    let body = vec![b'x'; 10_000_000];
    for text in ["exit 0", "exec 0<&-; echo closed", "echo first; exit 0", "sleep 0.1; echo late"] {
        let outcome = run_with(&format!("{HEAD}{text}"), &config(), &body);
        assert_eq!(outcome.status(), 200, "{text}");
        outcome.text();
    }
}

#[test]
fn script_that_writes_much_before_it_reads_does_not_hang() {
    let body = vec![b'x'; 10_000_000];
    let outcome = run_with(&format!("{HEAD}head -c 10000000 /dev/zero; wc -c"), &config(), &body);
    assert!(matches!(outcome.end, Some(ScriptEvent::End)));
    assert_eq!(outcome.body.len(), 10_000_000 + "10000000\n".len());
}

#[test]
fn script_that_fills_its_standard_error_does_not_hang() {
    let outcome = run(&format!("{HEAD}head -c 3000000 /dev/zero >&2; echo done"));
    assert_eq!(outcome.text(), "done\n");
}

#[test]
fn body_waits_for_the_script_within_bounds() {
    let scripts = Scripts::new();
    let gate = fifo(&scripts);
    let text = format!("{HEAD}read line < {}; wc -c", gate.display());
    let mut driver = Driver::start(&scripts.script("script", &text), &config(), vec![b'x'; 10_000_000]);
    // The script has not read: what is kept for it, and the pipe, are full.
    assert!(!driver.run.wants_input());
    assert!(driver.body.len() > 9_000_000, "{} bytes were not taken", driver.body.len());
    driver = driver.until(|driver| driver.outcome.head.is_some());
    assert!(driver.body.len() > 9_000_000, "{} bytes were not taken", driver.body.len());
    fs::write(&gate, "go\n").expect("the script reads");
    assert_eq!(driver.until_over().text(), "10000000\n");
}

#[test]
fn paused_output_stays_in_the_pipe_even_when_the_script_has_ended() {
    let scripts = Scripts::new();
    let gate = fifo(&scripts);
    let text = format!("{HEAD}read line < {}; head -c 50000 /dev/zero", gate.display());
    let driver = Driver::start(&scripts.script("script", &text), &config(), Vec::new());
    let mut driver = driver.until(|driver| driver.outcome.head.is_some());
    driver.run.set_output_paused(true);
    fs::write(&gate, "go\n").expect("the script reads");
    for pipe in [Pipe::Stdout, Pipe::Exit] {
        driver.wait_for(pipe);
        driver.run.on_ready(pipe, Instant::now());
        assert!(driver.run.poll_event().is_none());
    }
    assert!(!driver.run.is_over());
    // No new readiness: an edge-triggered poll would not report one.
    driver.run.set_output_paused(false);
    driver.events();
    assert_eq!(driver.outcome.text().len(), 50_000);
    assert!(driver.run.is_over());
}

#[test]
fn standard_error_is_given_to_the_web_server_if_it_wants_it() {
    let cgi = CgiConfig { stderr: ScriptStderr::Fastcgi, ..config() };
    for text in ["echo one >&2; echo answer; echo two >&2", "echo one >&2; exec 2>&-; echo answer; echo two"]
    {
        let outcome = run_with(&format!("{HEAD}{text}"), &cgi, b"");
        assert!(outcome.text().starts_with("answer\n"));
        assert!(outcome.stderr.starts_with(b"one\n"), "{outcome:?}");
    }
    assert!(run(&format!("{HEAD}echo one >&2")).stderr.is_empty());
}
