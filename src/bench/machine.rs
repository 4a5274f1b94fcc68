//! What the figures were measured on.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::utsname::uname;

/// For the head of a report.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    /// That this process may use.
    pub(super) cores: usize,
    pub(super) memory_mib: u64,
    pub(super) kernel: String,
    pub(super) system: String,
    pub(super) python: String,
    pub(super) perl: String,
    pub(super) forkhorn: &'static str,
}

impl Machine {
    pub(super) fn of(interpreter: &std::path::Path) -> Self {
        let name = uname().ok();
        let kernel = name
            .map(|name| format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()));
        Machine {
            cpu: value_of("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: value_of("/proc/meminfo", "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            kernel: kernel.unwrap_or_default(),
            system: value_of("/etc/os-release", "PRETTY_NAME")
                .map(|name| name.trim_matches('"').to_owned())
                .unwrap_or_default(),
            python: first_line(interpreter.as_os_str(), &["-c", "import sys; print(sys.version.split()[0])"]),
            perl: first_line("perl".as_ref(), &["-e", "printf '%vd', $^V"]),
            forkhorn: env!("CARGO_PKG_VERSION"),
        }
    }

    pub(super) fn describe(&self) -> String {
        let mut parts = vec![
            self.cpu.clone(),
            format!("{} cores", self.cores),
            format!("{:.1} GiB", self.memory_mib as f64 / 1024.0),
            self.kernel.clone(),
            self.system.clone(),
        ];
        for (name, version) in
            [("Python", self.python.as_str()), ("Perl", &self.perl), ("forkhorn", self.forkhorn)]
        {
            parts.push(if version.is_empty() { String::new() } else { format!("{name} {version}") });
        }
        parts.retain(|part| !part.is_empty());
        parts.join(", ")
    }
}

/// The value in `name : value` or `name=value`.
fn value_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (found, value) = line.split_once([':', '='])?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

fn first_line(program: &std::ffi::OsStr, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Processor time of this process so far.
pub(super) fn own_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
