//! Real scripts in temporary directories, driven by a poll(2) loop in the worker's place.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::*;
use crate::cli::ScriptStderr;
use crate::config::CgiConfig;
use crate::gateway::MetaVariables;
use crate::protocol::ResponseHead;

/// Long enough for a loaded machine; a test that comes so far has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const LIMITS: HeaderLimits = HeaderLimits { max_bytes: 64 * 1024, max_fields: 256 };

/// A script directory.
struct Scripts {
    dir: TempDir,
}

impl Scripts {
    fn new() -> Self {
        Scripts { dir: TempDir::new().expect("a temporary directory") }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("it exists")
    }

    /// Written by another process: a descriptor open for writing here could be inherited by a script that another test
    /// starts at this moment, and execve(2) would answer ETXTBSY.
    fn write(&self, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("can be made");
        let mut cat = Command::new("sh")
            .args(["-c", "cat > \"$0\"", path.to_str().expect("UTF-8")])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        cat.stdin.take().expect("piped").write_all(text).expect("cat reads");
        assert!(cat.wait().expect("cat ends").success());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        path
    }

    fn script(&self, name: &str, text: &str) -> Script {
        self.write(name, text.as_bytes(), 0o755);
        self.locate(name).expect("it is there")
    }

    fn locate(&self, name: &str) -> Result<Script, HandlerError> {
        let target = CgiTarget {
            directory: self.path(),
            url_path: format!("/cgi-bin/{name}").into_bytes(),
            place: Place::UrlPath { prefix_length: "/cgi-bin".len() },
        };
        locate(&target, &mut MetaVariables::default(), None)
    }
}

fn config() -> CgiConfig {
    CgiConfig {
        timeout: Some(PATIENCE),
        max_scripts: 8,
        max_waiting: 8,
        env: Vec::new(),
        pass_authorization: false,
        stderr: ScriptStderr::Log,
    }
}

fn meta(body_length: usize) -> MetaVariables {
    let mut meta = MetaVariables::default();
    meta.set(b"REQUEST_METHOD", if body_length > 0 { b"POST" } else { b"GET" });
    meta.set(b"SCRIPT_NAME", b"/cgi-bin/script");
    if body_length > 0 {
        meta.set(b"CONTENT_LENGTH", body_length.to_string().as_bytes());
    }
    meta
}

/// Everything that came of a run.
#[derive(Debug, Default)]
struct Outcome {
    head: Option<ResponseHead>,
    body: Vec<u8>,
    stderr: Vec<u8>,
    end: Option<ScriptEvent>,
}

impl Outcome {
    fn status(&self) -> u16 {
        self.head.as_ref().unwrap_or_else(|| panic!("no head: {self:?}")).status
    }

    fn text(&self) -> &str {
        assert!(matches!(self.end, Some(ScriptEvent::End)), "{self:?}");
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    fn failure(&self) -> &HandlerError {
        match &self.end {
            Some(ScriptEvent::Failed(error)) => error,
            _ => panic!("it did not fail: {self:?}"),
        }
    }

    /// True once nothing more can come.
    fn take(&mut self, event: ScriptEvent) -> bool {
        assert!(self.end.is_none(), "{event:?} after {:?}", self.end);
        match event {
            ScriptEvent::Head(head) => {
                assert!(self.head.replace(head).is_none(), "a second head");
                return false;
            }
            ScriptEvent::Body(bytes) => {
                assert!(self.head.is_some() && !bytes.is_empty());
                self.body.extend_from_slice(&bytes);
                return false;
            }
            ScriptEvent::Stderr(bytes) => {
                self.stderr.extend_from_slice(&bytes);
                return false;
            }
            end => self.end = Some(end),
        }
        true
    }
}

/// A run and the poll(2) loop around it.
struct Driver {
    run: ScriptRun,
    body: Vec<u8>,
    outcome: Outcome,
}

impl Driver {
    fn start(script: &Script, config: &CgiConfig, body: Vec<u8>) -> Driver {
        let run = ScriptRun::spawn(script, &meta(body.len()), config, LIMITS, Instant::now())
            .unwrap_or_else(|error| panic!("{error}"));
        let mut driver = Driver { run, body, outcome: Outcome::default() };
        driver.feed();
        driver
    }

    /// Hands over as much of the body as is wanted, in pieces.
    fn feed(&mut self) {
        while !self.body.is_empty() && self.run.wants_input() {
            let rest = self.body.split_off(self.body.len().min(10_000));
            self.run.feed(Bytes::from(std::mem::replace(&mut self.body, rest)));
        }
        if self.body.is_empty() {
            self.run.finish_input();
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.run.poll_event() {
            self.outcome.take(event);
        }
    }

    /// One turn of the loop: what is ready, or the deadline.
    fn turn(&mut self) {
        let now = Instant::now();
        let wait = self.run.deadline().map_or(PATIENCE, |at| at.saturating_duration_since(now)).min(PATIENCE);
        let ready = {
            let sources: Vec<_> = self.run.sources().collect();
            let watched = |pipe| if pipe == Pipe::Stdin { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            let mut polled: Vec<_> =
                sources.iter().map(|(pipe, fd)| PollFd::new(*fd, watched(*pipe))).collect();
            let millis = u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX);
            // Level-triggered: what is left unread must not make a busy loop of it, so that only what is paused waits.
            poll(&mut polled, PollTimeout::from(millis)).expect("poll");
            let ready = polled.iter().map(|fd| fd.any().unwrap_or(false));
            sources
                .iter()
                .map(|(pipe, _)| *pipe)
                .zip(ready)
                .filter(|(_, ready)| *ready)
                .map(|(pipe, _)| pipe)
                .collect::<Vec<_>>()
        };
        let now = Instant::now();
        for pipe in ready {
            self.run.on_ready(pipe, now);
        }
        if self.run.deadline().is_some_and(|at| now >= at) {
            self.run.on_deadline(now);
        }
        self.feed();
        self.events();
    }

    /// Until one of them is ready, whatever the others are.
    fn wait_for(&self, pipe: Pipe) {
        let fd = self.run.descriptor(pipe).expect("it is open");
        let ready = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(60_000u16));
        assert_eq!(ready, Ok(1), "{pipe:?}");
    }

    fn until(mut self, done: impl Fn(&Driver) -> bool) -> Driver {
        let give_up = Instant::now() + PATIENCE;
        while !done(&self) {
            assert!(Instant::now() < give_up, "nothing happened: {:?} {:?}", self.outcome, self.run);
            self.turn();
        }
        self
    }

    fn until_response_ends(self) -> Driver {
        self.until(|driver| driver.outcome.end.is_some())
    }

    fn until_over(self) -> Outcome {
        self.until(|driver| driver.run.is_over()).outcome
    }
}

fn run_with(text: &str, config: &CgiConfig, body: &[u8]) -> Outcome {
    let scripts = Scripts::new();
    let script = scripts.script("script", text);
    Driver::start(&script, config, body.to_vec()).until_over()
}

fn run(text: &str) -> Outcome {
    run_with(text, &config(), b"")
}

const HEAD: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n";

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
fn script_reads_its_body_to_the_end() {
    let body = vec![b'x'; 1_000_000];
    let outcome = run_with(&format!("{HEAD}cat"), &config(), &body);
    assert_eq!(outcome.text().len(), body.len());
}

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
    let run = ScriptRun::spawn(&script, &wanted, &config(), LIMITS, Instant::now()).expect("it starts");
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
    let mut run =
        ScriptRun::spawn(&script, &meta(bytes.len()), &config(), LIMITS, Instant::now()).expect("it starts");
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
        let run =
            ScriptRun::spawn(&script, &meta(100), &config(), LIMITS, Instant::now()).expect("it starts");
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
fn exit_status_after_a_response_does_not_break_it() {
    assert_eq!(run(&format!("{HEAD}echo answer; exit 3")).text(), "answer\n");
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

/// What a script waits at until the test lets it go on.
fn fifo(scripts: &Scripts) -> PathBuf {
    let path = scripts.path().join("gate");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    path
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
        match ScriptRun::spawn(&script, &meta(0), &config(), LIMITS, Instant::now()) {
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
    let error =
        ScriptRun::spawn(&script, &meta(0), &config(), LIMITS, Instant::now()).map(|_| ()).expect_err("gone");
    assert_eq!(error.status(), 404);
}

#[test]
fn variables_beyond_the_kernels_limit_are_an_error_not_a_crash() {
    let scripts = Scripts::new();
    let script = scripts.script("script", HEAD);
    let mut meta = meta(0);
    meta.set(b"HTTP_X_LONG", &[b'x'; 200_000]);
    let error = ScriptRun::spawn(&script, &meta, &config(), LIMITS, Instant::now())
        .map(|_| ())
        .expect_err("too long");
    assert!(error.status() == 502 && error.to_string().contains("longer than the kernel takes"), "{error}");
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

fn read_pid(file: &Path) -> Pid {
    let text = fs::read_to_string(file).expect("the script has written it");
    Pid::from_raw(text.trim().parse().expect("a process id"))
}

/// A process that is nobody's child any more is reaped by whoever adopts it, at its leisure: a zombie counts as gone.
fn wait_until_gone(pid: Pid) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
        if matches!(state, None | Some('Z' | 'X')) {
            return;
        }
        assert!(Instant::now() < give_up, "process {pid} lives on: {stat}");
        std::thread::yield_now();
    }
}
