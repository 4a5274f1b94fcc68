//! Warm CGI: an interpreter that has started is copied for each request, and the copy runs the script as if it had just
//! been started for it.
//!
//! Each worker has its own warm interpreters, one for each first line that its scripts begin with (`shebang`), started
//! when the first such script is asked for. Until one serves, and whenever none does, scripts run the classic way.
//!
//! | file | job |
//! | --- | --- |
//! | `shebang` | a script's first line: which interpreter, and whether a warm one can do the same |
//! | `kind` | the interpreters of one first line: which one serves, when it is replaced |
//! | `interpreter` | one of them: a process |
//! | `link` | the channel to it, and its messages |
//! | `child` | one run |
//! | `learning` | the modules that the next interpreter loads before it serves |
//! | `reports` | what runs say by themselves: what they have loaded, that they end |
//! | `python/`; `driver.pl`, `heap.pl`, `ending.pl` | what the interpreters run |

mod child;
mod interpreter;
mod kind;
mod learning;
mod link;
mod reports;
mod shebang;

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};

use super::{Script, environment};
use crate::config::{CgiConfig, ScriptLimits, WarmConfig};
use crate::gateway::MetaVariables;
use crate::sys::adopted::Adopted;
use crate::sys::spawn::Exit;

pub(crate) use child::WarmChild;
use interpreter::Run;
use kind::Kind;
use reports::{Report, Reports};

/// First lines that get interpreters; scripts with others run the classic way.
const MAX_KINDS: usize = 8;
/// Reports of one turn. Nothing depends on those that are left for the next one.
const MAX_REPORTS: usize = 64;

const PYTHON_BOOT: &str = include_str!("python/boot.py");
/// One program, in parts.
const PYTHON_DRIVER: &str = concat!(
    include_str!("python/channel.py"),
    "\n\n",
    include_str!("python/store.py"),
    "\n\n",
    include_str!("python/preload.py"),
    "\n\n",
    include_str!("python/compiling.py"),
    "\n\n",
    include_str!("python/scripts.py"),
    "\n\n",
    include_str!("python/request.py"),
    "\n\n",
    include_str!("python/interpreter.py"),
    "\n\n",
    include_str!("python/ending.py"),
    "\n\n",
    include_str!("python/memory.py"),
    "\n\n",
    include_str!("python/serve.py"),
);
const PYTHON_2_DRIVER: &str =
    concat!(include_str!("python/compiling.py"), "\n\n", include_str!("python/python2.py"));
const _: () = assert!(PYTHON_DRIVER.len() + PYTHON_2_DRIVER.len() < 65_000, "read in one piece");
const _: () = assert!(PERL_DRIVER.len() < 65_000, "read in one piece");
const PERL_DRIVER: &str =
    concat!(include_str!("driver.pl"), include_str!("heap.pl"), include_str!("ending.pl"));

/// By which program text is moved to other memory: tried on this architecture only.
#[cfg(target_arch = "x86_64")]
const MOVING_TEXT: [(&str, libc::c_long); 2] =
    [("{{mmap}}", libc::SYS_mmap), ("{{mremap}}", libc::SYS_mremap)];
#[cfg(not(target_arch = "x86_64"))]
const MOVING_TEXT: [(&str, libc::c_long); 2] = [("{{mmap}}", -1), ("{{mremap}}", -1)];

/// Perl has no functions for these system calls, but one for system calls.
fn perl_driver() -> String {
    [
        ("{{chdir}}", libc::SYS_chdir),
        // Where its order of arguments is known.
        (
            "{{clone}}",
            if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { libc::SYS_clone } else { -1 },
        ),
        ("{{close}}", libc::SYS_close),
        ("{{close_range}}", libc::SYS_close_range),
        ("{{dup3}}", libc::SYS_dup3),
        ("{{exit_group}}", libc::SYS_exit_group),
        ("{{fcntl}}", libc::SYS_fcntl),
        ("{{get_robust_list}}", libc::SYS_get_robust_list),
        ("{{getpid}}", libc::SYS_getpid),
        ("{{madvise}}", libc::SYS_madvise),
        ("{{mprotect}}", libc::SYS_mprotect),
        ("{{munmap}}", libc::SYS_munmap),
        ("{{openat}}", libc::SYS_openat),
        ("{{prctl}}", libc::SYS_prctl),
        ("{{pread64}}", libc::SYS_pread64),
        ("{{recvmsg}}", libc::SYS_recvmsg),
        ("{{sendto}}", libc::SYS_sendto),
        ("{{set_robust_list}}", libc::SYS_set_robust_list),
        ("{{setpgid}}", libc::SYS_setpgid),
        ("{{wait4}}", libc::SYS_wait4),
        ("{{waitid}}", libc::SYS_waitid),
        ("{{write}}", libc::SYS_write),
    ]
    .into_iter()
    .chain(MOVING_TEXT)
    .fold(PERL_DRIVER.to_owned(), |text, (name, number)| text.replace(name, &number.to_string()))
}

/// What the worker watches for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmSource {
    Channel(u32),
    Output(u32),
    Report,
}

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Started(i32),
    /// The script does not run: errno says why.
    Failed(i32),
    /// This process says that its script has ended so, but for what the kernel has to do yet.
    Ends {
        pid: i32,
        exit: Exit,
        cpu_time: Duration,
    },
    /// With the processor time that the script has taken.
    Exit(Exit, Option<Duration>),
    Running,
    /// The interpreter is gone.
    Lost,
}

/// The warm interpreters of a worker.
#[derive(Debug)]
pub struct Warm {
    shared: Shared,
    kinds: Vec<Kind>,
    next_id: u32,
    user: u32,
}

/// What interpreters of all kinds are started with.
#[derive(Debug)]
struct Shared {
    config: WarmConfig,
    environment: Vec<CString>,
    limits: ScriptLimits,
    next_number: u32,
    reports: Option<Reports>,
}

impl Shared {
    fn world(&mut self, index: usize) -> kind::World<'_> {
        kind::World {
            config: &self.config,
            environment: &self.environment,
            limits: self.limits,
            report: self.reports.as_ref().map(Reports::address).unwrap_or_default(),
            index,
            next_number: &mut self.next_number,
        }
    }
}

impl Warm {
    pub fn new(cgi: &CgiConfig) -> Option<Warm> {
        let config = cgi.warm.clone()?;
        let reports = match config.learn || config.spares > 0 {
            true => {
                Reports::open().inspect_err(|error| log::warn!("warm scripts can't be learned from: {error}"))
            }
            false => Err(io::ErrorKind::Unsupported.into()),
        };
        let shared = Shared {
            config,
            environment: environment(&MetaVariables::default(), cgi),
            // An interpreter works for many requests: each of them is given its own time when it has started.
            limits: ScriptLimits { cpu_seconds: None, ..cgi.limits },
            next_number: 0,
            reports: reports.ok(),
        };
        Some(Warm { shared, kinds: Vec::new(), next_id: 0, user: geteuid().as_raw() })
    }

    /// Hands a script to a warm interpreter. `None`: run it the classic way.
    pub(crate) fn run(
        &mut self,
        script: &Script,
        environment: &[CString],
        standard: [BorrowedFd<'_>; 3],
        now: Instant,
    ) -> Option<WarmChild> {
        let search = variable(&self.shared.environment, b"PATH=").unwrap_or_default();
        let command = shebang::read(script.path(), search)?;
        // The interpreter has read it at its start.
        if variable(environment, b"LANG=") != variable(&self.shared.environment, b"LANG=")
            || !shebang::may_execute(script.path())
        {
            return None;
        }
        let index = self.kind(&command)?;
        let kind = self.kinds.get_mut(index)?;
        let serving = kind.serving(self.shared.world(index), now)?;
        let wants_report = serving.1.wants_report();
        let id = self.next_id;
        let run = Run {
            path: script.exec_path(),
            version: script.version(),
            directory: script.directory(),
            environment,
            standard,
            wants_report: wants_report && self.shared.reports.is_some(),
        };
        let child = serving.0.run(id, &run)?;
        self.next_id = self.next_id.wrapping_add(1);
        Some(child)
    }

    fn kind(&mut self, command: &shebang::Command) -> Option<usize> {
        if let Some(at) = self.kinds.iter().position(|kind| kind.command == *command) {
            return Some(at);
        }
        let entry = self.shared.config.interpreters.iter().find(|entry| {
            entry.language == command.language
                && entry
                    .path
                    .as_ref()
                    .is_none_or(|path| path.as_os_str().as_encoded_bytes() == command.path.as_bytes())
        })?;
        if self.kinds.len() >= MAX_KINDS {
            log::debug!(
                "too many kinds of first lines for warm interpreters: {}",
                command.path.to_string_lossy()
            );
            return None;
        }
        self.kinds.push(Kind::new(command.clone(), self.shared.config.learn, entry.modules.clone()));
        Some(self.kinds.len() - 1)
    }

    /// What to register that has not been; edge-triggered will do. Closing it removes it from an epoll.
    pub fn sources(&mut self) -> Vec<(WarmSource, BorrowedFd<'_>)> {
        let mut all = Vec::new();
        let reports = self.shared.reports.as_mut().and_then(Reports::source);
        all.extend(reports.map(|socket| (WarmSource::Report, socket)));
        all.extend(self.kinds.iter_mut().flat_map(Kind::sources));
        all
    }

    /// Something has become readable: what has become of which requests.
    pub(crate) fn on_ready(&mut self, source: WarmSource, now: Instant) -> Vec<(u32, Notice)> {
        match source {
            WarmSource::Report => self.on_reports(now),
            WarmSource::Channel(number) | WarmSource::Output(number) => {
                let Some(kind) = self.kinds.iter_mut().find(|kind| kind.has(number)) else {
                    return Vec::new();
                };
                let is_output = matches!(source, WarmSource::Output(_));
                kind.on_ready(number, is_output, self.user, self.shared.config.spares, now)
            }
        }
    }

    /// Starts and ends interpreters as it is time to. What requests they had are told.
    pub(crate) fn on_time(&mut self, now: Instant) -> Vec<(u32, Notice)> {
        let mut notices = Vec::new();
        for (index, kind) in self.kinds.iter_mut().enumerate() {
            notices.extend(kind.on_time(self.shared.world(index), now));
        }
        notices
    }

    /// A script was started that nobody waits for any more: ends it.
    pub(crate) fn disown(&self, id: u32, pid: i32) {
        Adopted::new(Pid::from_raw(pid)).signal_group(Signal::SIGKILL);
        self.kinds.iter().for_each(|kind| kind.reap(id, pid));
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.kinds.iter().filter_map(Kind::deadline).min()
    }

    fn on_reports(&mut self, now: Instant) -> Vec<(u32, Notice)> {
        let mut notices = Vec::new();
        let Some(reports) = &mut self.shared.reports else { return notices };
        for _ in 0..MAX_REPORTS {
            match reports.next(self.user) {
                Some(Some(Report::Learned { index, modules })) => {
                    if let Some(kind) = self.kinds.get_mut(index) {
                        kind.learning.on_report(modules.into_iter(), now);
                    }
                }
                Some(Some(Report::Ends { id, pid, exit, cpu_time })) => {
                    notices.push((id, Notice::Ends { pid, exit, cpu_time }));
                }
                Some(None) => {}
                None => break,
            }
        }
        notices
    }
}

/// The value of a variable, given its name and the equals sign.
fn variable<'a>(environment: &'a [CString], name: &[u8]) -> Option<&'a [u8]> {
    environment.iter().find_map(|variable| variable.as_bytes().strip_prefix(name))
}
