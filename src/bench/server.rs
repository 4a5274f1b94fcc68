//! A forkhorn for one case: started on a private socket, watched through /proc, ended.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::plan::{Plan, ServerPlan};
use crate::config::StartupError;
use crate::process::process_memory;

/// Between two looks at the memory: a look costs the kernel a walk through all pages.
const MEMORY_PAUSE: Duration = Duration::from_millis(250);

/// How much of its log is shown when it does not answer.
const LOG_LINES: usize = 20;

/// How long it may take to end.
const END: Duration = Duration::from_secs(5);

pub(super) struct Server {
    child: Child,
    socket: PathBuf,
    started: Instant,
    log: Option<JoinHandle<String>>,
    _folder: tempfile::TempDir,
}

/// What a server used while it was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Of all its processes, those that have ended included.
    pub(crate) cpu: Duration,
    /// The most memory that all its processes had at one time, shared pages counted once.
    pub(crate) memory_bytes: u64,
}

impl Server {
    pub(super) fn start(server: &ServerPlan, plan: &Plan) -> Result<Server, StartupError> {
        let failed = |error: std::io::Error| StartupError::other(format!("cannot start forkhorn: {error}"));
        let folder = tempfile::Builder::new().prefix("forkhorn-bench").tempdir().map_err(failed)?;
        let socket = folder.path().join("socket");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("serve").args(&server.arguments).args(&plan.common);
        command.arg("--fastcgi").arg(format!("unix:{}", socket.display()));
        command.args(["--log-level", "warn"]).stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let started = Instant::now();
        let mut child = command.spawn().map_err(failed)?;
        let log = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                // What could be read counts.
                let _ = stderr.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        Ok(Server { child, socket, started, log, _folder: folder })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Begins to look at what it uses.
    pub(super) fn watch(&self) -> Watch {
        let pid = i32::try_from(self.child.id()).unwrap_or(0);
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, most) = (stop.clone(), most.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(memory(pid), Ordering::Relaxed);
                    std::thread::park_timeout(MEMORY_PAUSE);
                }
            })
        };
        Watch { pid, before: cpu(pid), stop, most, thread }
    }

    /// It has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Ends it, and gives the last lines of its log.
    pub(super) fn end(&mut self) -> String {
        let _ = signal(&self.child, nix::sys::signal::Signal::SIGTERM);
        let begin = Instant::now();
        while !self.has_ended() {
            if begin.elapsed() > END {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn signal(child: &Child, signal: nix::sys::signal::Signal) -> nix::Result<()> {
    let pid = i32::try_from(child.id()).map_err(|_| nix::errno::Errno::ESRCH)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)
}

pub(super) struct Watch {
    pid: i32,
    before: Duration,
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(super) fn end(self) -> Usage {
        let cpu = cpu(self.pid).saturating_sub(self.before);
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // It has no way to fail.
        let _ = self.thread.join();
        Usage { cpu, memory_bytes: self.most.load(Ordering::Relaxed) }
    }
}

/// A process and all below it.
fn tree(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        next += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    all
}

fn memory(pid: i32) -> u64 {
    tree(pid).into_iter().filter_map(|pid| process_memory(pid).ok()).map(|memory| memory.proportional).sum()
}

/// Of the living, and of what they have waited for: a script's time is its worker's once it has ended.
fn cpu(pid: i32) -> Duration {
    let ticks: u64 = tree(pid).into_iter().filter_map(ticks).sum();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let per_second = per_second.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0);
    Duration::from_secs_f64(ticks as f64 / per_second.unwrap_or(100) as f64)
}

/// utime, stime, cutime and cstime of proc(5).
fn ticks(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_itself_in_its_tree_and_has_used_memory() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(tree(own).contains(&own));
        assert!(memory(own) > 0);
        assert!(ticks(own).is_some());
    }

    #[test]
    fn the_time_of_a_child_counts_when_it_has_ended() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let before = cpu(own);
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", work]).status().expect("a shell").success());
        assert!(cpu(own) > before);
    }
}
