//! Real scripts in temporary directories, driven by a poll(2) loop in the worker's place.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::*;
use crate::cli::ScriptStderr;
use crate::config::{CgiConfig, ScriptLimits};
use crate::gateway::MetaVariables;
use crate::protocol::ResponseHead;

mod body;
mod failure;
mod process;
mod response;

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
        pass: Vec::new(),
        stderr: ScriptStderr::Log,
        warm: None,
        limits: ScriptLimits::default(),
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
        let run = ScriptRun::spawn(script, &meta(body.len()), config, LIMITS, None, Instant::now())
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

/// What a script waits at until the test lets it go on.
fn fifo(scripts: &Scripts) -> PathBuf {
    let path = scripts.path().join("gate");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    path
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
