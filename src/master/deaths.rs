//! Why has a worker died? What the exit status alone does not say, in one line for the log: out of memory, a crash in
//! native code, somebody's `os._exit`, a limit.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::signal::Signal;

use crate::process::WorkerExit;

/// Where cgroups are mounted, version 2 or 1 (cgroups(7)).
const CGROUPS: &str = "/sys/fs/cgroup";

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Deaths {
    /// Counters of processes that the kernel has killed for want of memory, the closest first, and what they last said.
    counters: Vec<Counter>,
    /// Whom this process has killed, and whose end needs no explanation.
    killed: BTreeSet<i32>,
}

#[derive(Debug)]
struct Counter {
    path: PathBuf,
    last: u64,
}

impl Deaths {
    /// Finds the counters of this process's cgroup, and the one of the whole machine.
    pub(crate) fn new() -> Deaths {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut paths = oom_files(&own, Path::new(CGROUPS));
        paths.push("/proc/vmstat".into());
        Deaths::watching(paths)
    }

    fn watching(paths: Vec<PathBuf>) -> Deaths {
        let counter = |path: PathBuf| Some(Counter { last: oom_kills(&path)?, path });
        Deaths { counters: paths.into_iter().filter_map(counter).collect(), killed: BTreeSet::new() }
    }

    /// `pid`, a child, is sent a signal by this process.
    pub(crate) fn note_kill(&mut self, pid: i32) {
        self.killed.insert(pid);
    }

    /// What an operator should know about the end of a worker that nobody had asked to end. `None`: the status says it
    /// all.
    pub(crate) fn explain(&mut self, pid: i32, status: ExitStatus, was_asked: bool) -> Option<String> {
        let out_of_memory = self.out_of_memory();
        if self.killed.remove(&pid) || was_asked {
            return None;
        }
        if let Some(code) = status.code() {
            return exit(code);
        }
        let signal = Signal::try_from(status.signal()?).ok()?;
        match (signal, out_of_memory) {
            (Signal::SIGKILL, Some(path)) => Some(format!(
                "the kernel has killed it, because memory ran out ({} counts one more): give the service more, start \
                 fewer workers, or have them replaced in time by --max-memory",
                path.display()
            )),
            (signal, _) => by_signal(signal, status.core_dumped()),
        }
    }

    /// The counter that has risen since the last look.
    fn out_of_memory(&mut self) -> Option<PathBuf> {
        let mut risen = None;
        for counter in &mut self.counters {
            let Some(now) = oom_kills(&counter.path) else { continue };
            if now > counter.last && risen.is_none() {
                risen = Some(counter.path.clone());
            }
            counter.last = now;
        }
        risen
    }
}

fn exit(code: i32) -> Option<String> {
    match WorkerExit::from_code(code) {
        // The log has the reason.
        Some(
            WorkerExit::Failed | WorkerExit::LoadFailed | WorkerExit::CannotPreload | WorkerExit::NotStarted,
        ) => None,
        Some(WorkerExit::Done | WorkerExit::Retired) | None => Some(format!(
            "nobody had asked it to end: the application, or a library, has called os._exit({code}) or C's exit; \
             sys.exit and exceptions end a request only"
        )),
    }
}

fn by_signal(signal: Signal, core_dumped: bool) -> Option<String> {
    Some(match signal {
        Signal::SIGKILL => {
            "it was killed from outside, not by forkhorn and not for want of memory: by an operator, another program, \
             or a limit (ulimit -t)"
                .to_owned()
        }
        Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGILL | Signal::SIGFPE | Signal::SIGABRT => {
            let next = match core_dumped {
                true => "the core file has the stack",
                false => "--env PYTHONFAULTHANDLER=1 has the Python stack logged next time",
            };
            format!("native code has crashed: an extension module, a library, or the interpreter; {next}")
        }
        Signal::SIGXCPU => "it has used up its CPU time (ulimit -t, RLIMIT_CPU)".to_owned(),
        Signal::SIGXFSZ => "it has written past the longest file allowed (ulimit -f, RLIMIT_FSIZE)".to_owned(),
        Signal::SIGSYS => {
            "it made a system call that a filter forbids (seccomp: SystemCallFilter of its unit, or the container)"
                .to_owned()
        }
        Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP => {
            "somebody has sent this to the worker: signals for forkhorn go to the master".to_owned()
        }
        _ => return None,
    })
}

/// Where the kernel counts for the cgroup of this process. `own` is /proc/self/cgroup.
fn oom_files(own: &str, root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        let (root, name) = match controllers {
            "" => (root.to_owned(), "memory.events"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.oom_control")
            }
            _ => continue,
        };
        // In a container the path may be that of the host, and the root the container's own.
        found.extend([root.join(path).join(name), root.join(name)]);
    }
    found
}

/// The count of a file with lines of a name and a number.
fn oom_kills(path: &Path) -> Option<u64> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed_by(signal: i32) -> ExitStatus {
        ExitStatus::from_raw(signal)
    }

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn each_death_has_its_line() {
        for (status, word) in [
            (killed_by(libc::SIGKILL), "killed from outside"),
            (killed_by(libc::SIGSEGV), "PYTHONFAULTHANDLER"),
            (killed_by(libc::SIGSEGV | 0x80), "core file"),
            (killed_by(libc::SIGABRT), "native code has crashed"),
            (killed_by(libc::SIGXCPU), "CPU time"),
            (killed_by(libc::SIGXFSZ), "longest file"),
            (killed_by(libc::SIGSYS), "seccomp"),
            (killed_by(libc::SIGTERM), "go to the master"),
            (exited(0), "os._exit(0)"),
            (exited(7), "os._exit(7)"),
        ] {
            let told = Deaths::default().explain(9, status, false).expect(word);
            assert!(told.contains(word), "{told}");
            assert_eq!(Deaths::default().explain(9, status, true), None, "it was told to end");
        }
        for status in [exited(1), exited(3), exited(80), exited(82), killed_by(libc::SIGUSR1), killed_by(40)]
        {
            assert_eq!(Deaths::default().explain(9, status, false), None, "{status:?}");
        }
    }

    #[test]
    fn whom_this_process_has_killed_needs_no_explanation() {
        let mut deaths = Deaths::default();
        deaths.note_kill(9);
        assert_eq!(deaths.explain(9, killed_by(libc::SIGKILL), false), None);
        assert!(deaths.explain(9, killed_by(libc::SIGKILL), false).is_some(), "another one with its number");
    }

    #[test]
    fn memory_that_ran_out_is_told_by_the_counter_that_has_risen() {
        let dir = tempfile::tempdir().expect("a directory");
        let events = dir.path().join("memory.events");
        let write = |count: u32| {
            std::fs::write(&events, format!("low 0\noom 5\noom_kill {count}\noom_group_kill 0\n"))
                .expect("written");
        };
        write(3);
        let mut deaths = Deaths::watching(vec![dir.path().join("missing"), events.clone()]);
        let kill = killed_by(libc::SIGKILL);
        assert!(deaths.explain(9, kill, false).expect("a line").contains("killed from outside"));
        write(4);
        let told = deaths.explain(9, kill, false).expect("a line");
        assert!(told.contains("memory ran out") && told.contains("memory.events"), "{told}");
        assert!(deaths.explain(9, kill, false).expect("a line").contains("killed from outside"), "told once");
        write(5);
        assert!(deaths.explain(9, killed_by(libc::SIGSEGV), false).expect("a line").contains("native code"));
    }

    #[test]
    fn the_files_of_both_versions_of_cgroups_are_found() {
        let root = Path::new("/root");
        let files = |own: &str| -> Vec<String> {
            oom_files(own, root).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            files("0::/system.slice/x.service\n"),
            ["/root/system.slice/x.service/memory.events", "/root/memory.events"]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/a\n4:memory:/a:b\n"),
            ["/root/memory/a:b/memory.oom_control", "/root/memory/memory.oom_control"]
        );
        assert_eq!(files("nonsense\n::\n1:cpu:/\n"), ["/root/memory.events", "/root/memory.events"]);
    }
}
