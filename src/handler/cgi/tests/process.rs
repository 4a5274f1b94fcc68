//! The script as a process: what it is given, and how it is ended.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

#[test]
fn script_gets_one_argument_its_directory_and_nothing_but_three_descriptors() {
    let scripts = Scripts::new();
    // A descriptor that a careless library has left open for every child.
    let (leaked, _other) = nix::unistd::pipe().expect("a pipe");
    let text = format!("{HEAD}echo $#; pwd; ls /proc/self/fd; cat; ls -l /proc/self/fd/0 | sed 's/.*-> //'");
    let script = scripts.script("sub/script", &text);
    let outcome = Driver::start(&script, &config(), Vec::new()).until_over();
    // ls opens 3 itself to read the directory.
    let expected = format!("0\n{}\n0\n1\n2\n3\n/dev/null\n", scripts.path().join("sub").display());
    assert_eq!(outcome.text(), expected);
    drop(leaked);
}

#[test]
fn script_leads_a_process_group_with_default_signals_and_no_mask() {
    let show = "sed -n 's/^Sig\\(Blk\\|Ign\\|Cgt\\)://p' /proc/self/status; ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat; echo $$";
    let outcome = run(&format!("{HEAD}{show}"));
    let mut words = outcome.text().split_whitespace();
    // The C library keeps 32 and 33 for itself, and ignores them in what it spawns.
    let own = 0x1_8000_0000;
    for mask in ["blocked", "ignored", "caught"] {
        let signals = words.next().and_then(|word| u64::from_str_radix(word, 16).ok()).expect("a mask");
        assert_eq!(signals & !own, 0, "{mask}: {signals:x}");
    }
    assert_eq!(words.next(), words.next(), "group and process");
}

#[test]
fn environment_reaches_the_script_whole() {
    let scripts = Scripts::new();
    let mut wanted = meta(0);
    wanted.set(b"HTTP_X_BYTES", b"caf\xe9 = \n() { :;}");
    wanted.set(b"LD_PRELOAD", b"/evil.so");
    let script = scripts.script("python", "#!/usr/bin/python3\nimport os, sys\nsys.stdout.buffer.write(b'A: 1\\n\\n' + b'\\0'.join(k + b'=' + v for k, v in sorted(os.environb.items()) if k != b'LC_CTYPE'))\n");
    let run = ScriptRun::spawn(&script, &wanted, &config(), LIMITS, None, Instant::now()).expect("it starts");
    let outcome = Driver { run, body: Vec::new(), outcome: Outcome::default() }.until_over();
    let version = env!("CARGO_PKG_VERSION");
    let software = format!("SERVER_SOFTWARE=forkhorn/{version}");
    let expected: [&[u8]; 7] = [
        b"GATEWAY_INTERFACE=CGI/1.1",
        b"HTTP_X_BYTES=caf\xe9 = \n() { :;}",
        b"PATH=/usr/local/bin:/usr/bin:/bin",
        b"QUERY_STRING=",
        b"REQUEST_METHOD=GET",
        b"SCRIPT_NAME=/cgi-bin/script",
        software.as_bytes(),
    ];
    assert_eq!(outcome.body.split(|&byte| byte == 0).collect::<Vec<_>>(), expected);
}

#[test]
fn script_over_its_time_is_ended_with_its_whole_group() {
    let scripts = Scripts::new();
    let (child, grandchild) = (scripts.path().join("child"), scripts.path().join("grandchild"));
    // Neither follows TERM.
    let text = format!(
        "#!/bin/sh\ntrap '' TERM\nsh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 300; done' &\necho $$ > {}\nwhile :; do sleep 300; done",
        grandchild.display(),
        child.display()
    );
    let cgi = CgiConfig { timeout: Some(Duration::from_millis(500)), ..config() };
    let driver = Driver::start(&scripts.script("script", &text), &cgi, Vec::new()).until_response_ends();
    let failure = driver.outcome.failure();
    assert_eq!(failure.status(), 504);
    assert!(failure.to_string().contains("over its 0.5 seconds (--cgi-timeout)"), "{failure}");
    assert!(!driver.run.is_over());
    driver.until_over();
    for pid in [read_pid(&child), read_pid(&grandchild)] {
        wait_until_gone(pid);
    }
}

#[test]
fn time_limit_after_the_head_breaks_the_response() {
    let cgi = CgiConfig { timeout: Some(Duration::from_millis(300)), ..config() };
    let outcome = run_with(&format!("{HEAD}echo begin; exec sleep 300"), &cgi, b"");
    assert_eq!(outcome.status(), 200);
    assert_eq!(outcome.body, b"begin\n");
    assert_eq!(outcome.failure().status(), 504);
}

#[test]
fn time_in_which_the_script_waits_for_its_client_does_not_count() {
    let cgi = CgiConfig { timeout: Some(Duration::from_millis(100)), ..config() };
    let scripts = Scripts::new();
    // The client is slow to send: there is no deadline, however late it is.
    let script = scripts.script("script", &format!("{HEAD}head -c 1; cat >&2; exec sleep 300"));
    let started = Instant::now();
    let run = ScriptRun::spawn(&script, &meta(3), &cgi, LIMITS, None, started).expect("it starts");
    let mut driver = Driver { run, body: Vec::new(), outcome: Outcome::default() };
    assert_eq!(driver.run.deadline(), None);
    driver.run.feed(Bytes::from_static(b"x"));
    assert_eq!(driver.run.deadline(), None);
    driver.run.on_deadline(started + Duration::from_secs(3600));
    driver.run.feed(Bytes::from_static(b"y"));
    driver.wait_for(Pipe::Stdout);
    driver.run.on_ready(Pipe::Stdout, Instant::now());
    driver.events();
    assert!(driver.outcome.end.is_none());
    // The client is slow to read.
    driver.run.set_output_paused(true);
    driver.run.finish_input();
    assert_eq!(driver.run.deadline(), None);
    driver.run.set_output_paused(false);
    // Now it is the script that keeps its client waiting.
    let deadline = driver.run.deadline().expect("its time runs again");
    assert!(deadline > started + Duration::from_millis(100), "what it waited has been added");
    assert_eq!(driver.until_over().failure().status(), 504);
}

#[test]
fn what_is_left_of_the_group_is_killed_after_the_script_has_followed() {
    let scripts = Scripts::new();
    let pid_file = scripts.path().join("pid");
    let text = format!(
        "{HEAD}sh -c 'trap \"\" TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 300; done' & while ! [ -e {0} ]; do sleep 0.01; done; echo $$; wait",
        pid_file.display()
    );
    let mut driver = Driver::start(&scripts.script("script", &text), &config(), Vec::new());
    driver = driver.until(|driver| driver.outcome.body.ends_with(b"\n"));
    let pid = std::str::from_utf8(&driver.outcome.body).expect("ASCII").trim().parse().expect("a number");
    driver.run.cancel("the test wants it", Instant::now());
    driver.wait_for(Pipe::Exit);
    driver.run.on_ready(Pipe::Exit, Instant::now());
    assert!(driver.run.poll_event().is_none());
    // Not reaped yet: else its number, and the group's, could be somebody else's by the time of KILL.
    kill(Pid::from_raw(pid), None).expect("a zombie has its number still");
    let outcome = driver.until_over();
    assert!(outcome.end.is_none(), "{outcome:?}");
    wait_until_gone(read_pid(&pid_file));
}

#[test]
fn no_zombie_and_no_descriptor_stays() {
    let scripts = Scripts::new();
    let script = scripts.script("script", &format!("{HEAD}echo $$"));
    let mut pids = Vec::new();
    for _ in 0..20 {
        let run = ScriptRun::spawn(&script, &meta(100), &config(), LIMITS, None, Instant::now())
            .expect("it starts");
        assert_eq!(run.sources().map(|(pipe, _)| pipe).collect::<Vec<_>>(), Pipe::ALL);
        let driver = Driver { run, body: vec![b'x'; 100], outcome: Outcome::default() };
        let driver = driver.until(|driver| driver.run.is_over());
        assert_eq!(driver.run.sources().count(), 0, "all closed, or not watched any more");
        pids.push(driver.outcome.text().trim().parse::<i32>().expect("a process id"));
    }
    for pid in pids {
        // Not even a zombie has this number now, at least not ours.
        assert_eq!(nix::sys::wait::waitpid(Pid::from_raw(pid), None), Err(Errno::ECHILD));
    }
}

#[test]
fn dropped_run_leaves_no_process() {
    let scripts = Scripts::new();
    let script = scripts.script("script", &format!("{HEAD}echo $$; exec sleep 300"));
    let driver =
        Driver::start(&script, &config(), Vec::new()).until(|driver| !driver.outcome.body.is_empty());
    let pid = Pid::from_raw(
        std::str::from_utf8(&driver.outcome.body).expect("ASCII").trim().parse().expect("a number"),
    );
    drop(driver);
    wait_until_gone(pid);
}

#[test]
fn exit_that_somebody_else_has_taken_ends_the_run() {
    let scripts = Scripts::new();
    let gate = fifo(&scripts);
    let script = scripts.script("script", &format!("{HEAD}echo $$; read line < {}", gate.display()));
    let driver =
        Driver::start(&script, &config(), Vec::new()).until(|driver| !driver.outcome.body.is_empty());
    let pid = std::str::from_utf8(&driver.outcome.body).expect("ASCII").trim().parse().expect("a number");
    fs::write(&gate, "go\n").expect("the script reads");
    // As an application does that waits for any child.
    nix::sys::wait::waitpid(Pid::from_raw(pid), None).expect("it is our child");
    assert_eq!(driver.until_over().text(), format!("{pid}\n"));
}

#[test]
fn process_that_cannot_be_watched_is_asked_now_and_then() {
    let scripts = Scripts::new();
    for (text, config, status) in [
        ("echo answer; exit 1", config(), None),
        ("exec sleep 300", CgiConfig { timeout: Some(Duration::from_millis(100)), ..config() }, Some(504)),
    ] {
        let script = scripts.script("script", &format!("{HEAD}{text}"));
        let mut driver = Driver::start(&script, &config, Vec::new());
        driver.run.forget_exit_descriptor();
        assert!(driver.run.descriptor(Pipe::Exit).is_none());
        let outcome = driver.until_over();
        match status {
            None => assert_eq!(outcome.text(), "answer\n"),
            Some(status) => assert_eq!(outcome.failure().status(), status),
        }
    }
}
