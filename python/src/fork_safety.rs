//! Whether a process that has loaded its applications can be copied (`--preload auto`).
//!
//! A copy has one thread, whatever its original had; locks that the others held stay locked for ever. A socket in two
//! processes is one connection to the peer: answers go to whoever reads first.

use std::collections::HashSet;
use std::fs;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};
use pyo3::prelude::*;

/// The sockets that the process had before it loaded anything, by the names that the kernel gives them.
pub struct Before {
    sockets: HashSet<String>,
}

impl Before {
    pub fn now() -> Self {
        Before { sockets: sockets().into_iter().map(|(_, name)| name).collect() }
    }
}

/// What speaks against a copy, each in a few words.
pub fn reasons(py: Python<'_>, before: &Before) -> PyResult<Vec<String>> {
    let mut reasons = Vec::new();
    let mut known = HashSet::from([std::process::id().to_string()]);
    for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        let id = thread.getattr("native_id")?.to_string();
        if known.insert(id) {
            reasons.push(format!("the thread {:?} runs", thread.getattr("name")?.to_string()));
        }
    }
    for name in unknown_threads(py, &known) {
        reasons.push(format!("a thread of native code runs ({name:?})"));
    }
    for (descriptor, name) in sockets() {
        if !before.sockets.contains(&name)
            && let Some(socket) = describe(descriptor)
        {
            reasons.push(format!("{socket} is open (descriptor {descriptor})"));
        }
    }
    Ok(reasons)
}

/// Names of the threads that Python does not know, as the kernel has them.
fn unknown_threads(py: Python<'_>, known: &HashSet<String>) -> Vec<String> {
    /// A thread that has been joined is still listed until the kernel has done away with it.
    const LAST_BREATH: Duration = Duration::from_millis(1);
    let mut names = Vec::new();
    for _ in 0..20 {
        names = thread_ids()
            .into_iter()
            .filter(|id| !known.contains(id))
            .map(|id| {
                fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or(id).trim().to_owned()
            })
            .collect();
        if names.is_empty() {
            break;
        }
        py.detach(|| std::thread::sleep(LAST_BREATH));
    }
    names
}

fn thread_ids() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Descriptors that are sockets, and the kernel's names for them (`socket:[4711]`).
fn sockets() -> Vec<(RawFd, String)> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let mut found: Vec<(RawFd, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let descriptor = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            name.starts_with("socket:").then_some((descriptor, name))
        })
        .collect();
    found.sort_unstable();
    found
}

/// `None` for a socket that may be shared: messages to the system's log stand alone, and nothing comes back.
fn describe(descriptor: RawFd) -> Option<String> {
    const LOGS: [&str; 2] = ["/dev/log", "/run/systemd/journal/"];
    if let Ok(peer) = getpeername::<SockaddrStorage>(descriptor) {
        let path = peer.as_unix_addr().and_then(|address| address.path()).map(|path| path.to_string_lossy());
        return match path {
            Some(path) if LOGS.iter().any(|log| path.starts_with(log)) => None,
            Some(path) => Some(format!("a socket to {path}")),
            None if peer.as_unix_addr().is_some() => Some("one of a pair of sockets".to_owned()),
            None => Some(format!("a socket to {peer}")),
        };
    }
    match getsockname::<SockaddrStorage>(descriptor) {
        Ok(address) => Some(format!("a socket at {address}")),
        Err(_) => Some("a socket".to_owned()),
    }
}
