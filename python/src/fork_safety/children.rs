//! Processes that the application has started. A copy is not their parent: it can't wait for them, and both would talk to
//! them through the same pipes.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process whose parent is this one, and which has not ended.
pub struct Child {
    pub pid: i32,
    command: String,
}

/// Looks at every process of the machine: not every kernel keeps a list of children, and this is asked but twice.
pub fn running() -> Vec<Child> {
    let parent = std::process::id() as i32;
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<Child> = pids
        .filter(|&pid| is_running_child(pid, parent).unwrap_or(false))
        .map(|pid| Child { pid, command: command(pid) })
        .collect();
    found.sort_unstable_by_key(|child| child.pid);
    found
}

impl Child {
    pub fn reason(&self) -> String {
        format!("the child process {} runs ({:?})", self.pid, self.command)
    }

    pub fn end(&self) {
        log::info!(
            "the child process {} ({:?}) is ended: each worker starts its own",
            self.pid,
            self.command
        );
        if let Err(error) = kill(Pid::from_raw(self.pid), Signal::SIGTERM) {
            log::debug!("it could not be: {error}");
        }
    }
}

fn is_running_child(pid: i32, parent: i32) -> Option<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let (state, found) = (fields.next()?, fields.next()?.parse::<i32>().ok()?);
    Some(found == parent && !matches!(state, "Z" | "X"))
}

/// The beginning of the command line, or the name of a process that has none.
fn command(pid: i32) -> String {
    const MOST_CHARACTERS: usize = 80;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    match line.trim() {
        "" => fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned(),
        line => line.chars().take(MOST_CHARACTERS).collect(),
    }
}
