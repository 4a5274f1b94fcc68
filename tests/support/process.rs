//! A child process in a session of its own: it and everything it starts can be found, and ended, by that session.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::log::CapturedLog;
use super::wait::{DEADLINE, poll, wait_for};

/// One process as /proc shows it (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEntry {
    pub pid: i32,
    pub name: String,
    /// `R`, `S`, `Z` and so on.
    pub state: char,
    pub parent: i32,
    pub session: i32,
    /// In clock ticks since the boot: tells a process from a later one with its pid.
    pub started: u64,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
}

pub fn process(pid: i32) -> Option<ProcessEntry> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character.
    let (before, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(ProcessEntry {
        pid,
        name: before.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: number(1)? as i32,
        session: fields.get(3)?.parse().ok()?,
        started: number(19)?,
        cpu_ticks: number(11)? + number(12)?,
    })
}

pub fn processes() -> Vec<ProcessEntry> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| process(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// Everything that descends from `root` or belongs to its session, without `root` itself.
pub fn family(root: i32) -> Vec<ProcessEntry> {
    let all = processes();
    let parents: BTreeMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    let descends = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == root {
                return true;
            }
            pid = *parent;
        }
        false
    };
    all.into_iter().filter(|p| p.pid != root && (p.session == root || descends(p.pid))).collect()
}

/// Whether this very process still exists; a zombie whose parent has not looked yet counts.
pub fn exists(entry: &ProcessEntry) -> bool {
    process(entry.pid).is_some_and(|now| now.started == entry.started)
}

pub fn send_signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
}

/// A line such as `Uid:` of /proc/PID/status, its values split.
pub fn status_line(pid: i32, name: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').split_whitespace().map(str::to_owned).collect()
}

/// What the descriptors of a process lead to.
pub fn descriptors(pid: i32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string())).collect()
}

/// Waits until a process has no more descriptors open than `before`.
#[track_caller]
pub fn wait_for_descriptors(pid: i32, before: usize) {
    if poll(DEADLINE, || (descriptor_count(pid) <= before).then_some(())).is_none() {
        panic!("more than {before} descriptors: {:?}", descriptors(pid));
    }
}

/// How many descriptors a process has open.
pub fn descriptor_count(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0)
}

#[derive(Debug)]
pub struct Supervised {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    pub log: Arc<CapturedLog>,
}

impl Supervised {
    /// Starts `command` as the leader of a new session. Standard output and error go to the log.
    pub fn start(name: &str, command: &Command, stdin: Stdio) -> Supervised {
        // setsid(1) execs the program in place, so that the child's pid is the program's pid and the session's.
        let mut in_session = Command::new("setsid");
        in_session.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => in_session.env(key, value),
                None => in_session.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            in_session.current_dir(directory);
        }
        in_session.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = in_session.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let log = Arc::new(CapturedLog::default());
        log.follow(child.stdout.take().expect("piped"));
        log.follow(child.stderr.take().expect("piped"));
        Supervised { name: name.to_owned(), child, ended: None, log }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child of ours");
        }
        self.ended
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let name = self.name.clone();
        wait_for(&format!("the end of {name}"), || self.try_exit())
    }

    /// Ends the process with `signal`, or by force at the deadline. Says what went wrong, if anything did: an end
    /// that needed force, or processes that outlived it. Those are ended too.
    pub fn stop(&mut self, signal: Signal) -> Vec<String> {
        self.stop_within(signal, Duration::from_secs(10))
    }

    /// The same; what it started gets `grace` to end after it.
    pub fn stop_within(&mut self, signal: Signal, grace: Duration) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut left = family(self.pid());
        if self.try_exit().is_none() {
            self.signal(signal);
            if poll(DEADLINE, || self.try_exit()).is_none() {
                complaints.push(format!("{} did not end on {signal}", self.name));
                self.signal(Signal::SIGKILL);
                self.wait_exit();
            }
        }
        left.extend(family(self.pid()));
        left.sort_by_key(|process| (process.pid, process.started));
        left.dedup_by_key(|process| (process.pid, process.started));
        if poll(grace, || (!left.iter().any(exists)).then_some(())).is_none() {
            for process in left.iter().filter(|process| exists(process)) {
                complaints.push(format!("{} left a process behind: {process:?}", self.name));
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
        }
        complaints
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.ended
    }
}
