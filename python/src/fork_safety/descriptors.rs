//! Descriptors that must not be in several processes at once.
//!
//! Files may be: appended lines of several processes stand one after the other, and whoever reads at positions of his own
//! disturbs nobody. What two processes would take from each other's hands, may not: sockets, pipes, sets of events,
//! timers, devices; nor may an open SQLite database, whose authors say so.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt;

use forkhorn::sys::peek;
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};

use super::origins::Origins;

/// A descriptor, and the kernel's name for what it stands for (`socket:[4711]`, `/var/log/shop.log`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Descriptor {
    number: RawFd,
    name: String,
}

/// All that are open, in their order.
pub fn open() -> Vec<Descriptor> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let mut found: Vec<Descriptor> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            Some(Descriptor { number, name })
        })
        .collect();
    found.sort_unstable();
    found
}

/// What speaks against a copy, each in a few words. Both ends of a pipe are one reason.
pub fn reasons(opened: Vec<Descriptor>, origins: &Origins) -> Vec<String> {
    let mut by_name: BTreeMap<(String, String), Vec<&Descriptor>> = BTreeMap::new();
    for descriptor in &opened {
        if let Some(what) = objection(descriptor) {
            // Sets of events all have one name.
            let apart =
                if descriptor.name.starts_with("pipe:") { "" } else { &descriptor.number.to_string() };
            by_name.entry((descriptor.name.clone() + apart, what)).or_default().push(descriptor);
        }
    }
    let mut all: Vec<_> = by_name.into_iter().collect();
    all.sort_by_key(|(_, descriptors)| descriptors.first().map(|descriptor| descriptor.number));
    all.into_iter().map(|((_, what), descriptors)| describe(&what, &descriptors, origins)).collect()
}

/// `a socket to 10.0.0.7:5432 is open (descriptor 7, opened while shop.cache was imported)`
fn describe(what: &str, descriptors: &[&Descriptor], origins: &Origins) -> String {
    let numbers: Vec<String> = descriptors.iter().map(|descriptor| descriptor.number.to_string()).collect();
    let plural = if numbers.len() > 1 { "s" } else { "" };
    let origin = descriptors.first().and_then(|first| origins.of_descriptor(first));
    let origin = origin.map(|origin| format!(", opened {origin}")).unwrap_or_default();
    format!("{what} is open (descriptor{plural} {}{origin})", numbers.join(" and "))
}

/// `None` if it may be shared.
fn objection(Descriptor { number, name }: &Descriptor) -> Option<String> {
    if name.starts_with("socket:") {
        return socket(*number);
    }
    if name.starts_with("pipe:") {
        return Some("a pipe".to_owned());
    }
    if let Some(kind) = name.strip_prefix("anon_inode:") {
        return anonymous(kind.trim_matches(['[', ']']));
    }
    file(*number, name)
}

fn anonymous(kind: &str) -> Option<String> {
    Some(match kind {
        // Reads what was sent to whoever reads.
        "signalfd" => return None,
        "eventpoll" => "a set of events (epoll)".to_owned(),
        "inotify" | "fanotify" => format!("a watch of files ({kind})"),
        "timerfd" => "a timer (timerfd)".to_owned(),
        "eventfd" => "an event counter (eventfd)".to_owned(),
        kind => format!("an object of the kernel ({kind})"),
    })
}

/// `None` for a socket that may be shared: messages to the system's log stand alone, and nothing comes back.
fn socket(number: RawFd) -> Option<String> {
    const LOGS: [&str; 2] = ["/dev/log", "/run/systemd/journal/"];
    if let Ok(peer) = getpeername::<SockaddrStorage>(number) {
        let Some(unix) = peer.as_unix_addr() else {
            let from = getsockname::<SockaddrStorage>(number).map(|own| format!(", from {own},"));
            return Some(format!("a socket to {peer}{}", from.unwrap_or_default()));
        };
        if let Some(path) = unix.path() {
            let path = path.to_string_lossy();
            return (!LOGS.iter().any(|log| path.starts_with(log))).then(|| format!("a socket to {path}"));
        }
        return Some(match unix.as_abstract() {
            Some(name) => format!("a socket to @{}", name.escape_ascii()),
            None => "one of a pair of sockets".to_owned(),
        });
    }
    let Ok(own) = getsockname::<SockaddrStorage>(number) else { return Some("a socket".to_owned()) };
    match own.as_unix_addr() {
        Some(unix) => match unix.path() {
            Some(path) => Some(format!("a socket at {}", path.display())),
            None => Some("a Unix socket".to_owned()),
        },
        None => Some(format!("a socket at {own}")),
    }
}

fn file(number: RawFd, name: &str) -> Option<String> {
    /// What a database of SQLite 3 begins with.
    const SQLITE: &[u8] = b"SQLite format 3\0";
    const HARMLESS: [&str; 7] =
        ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts/"];
    let kind = fs::metadata(format!("/proc/self/fd/{number}")).ok()?.file_type();
    if kind.is_fifo() {
        return Some(format!("the pipe {name}"));
    }
    if kind.is_char_device() || kind.is_block_device() {
        return (!HARMLESS.iter().any(|device| name.starts_with(device)))
            .then(|| format!("the device {name}"));
    }
    let mut beginning = [0; SQLITE.len()];
    // Not by opening it once more: to close that would release the locks that this process has on the file.
    let is_database =
        kind.is_file() && peek(number, &mut beginning).is_ok_and(|length| length == SQLITE.len());
    (is_database && beginning == SQLITE).then(|| format!("the SQLite database {name}"))
}
