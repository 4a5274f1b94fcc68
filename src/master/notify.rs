//! Tells the service manager how things are (sd_notify(3)): ready, reloading, stopping, and that the master lives.
//!
//! Thirty lines of protocol, so no crate: a datagram of `NAME=value` lines to the socket that $NOTIFY_SOCKET names.
//! Processes that the master starts don't get the variable (`spawn.rs`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::workers::Summary;

/// What is added to the time that a stop may take: for the ends of processes, and the way.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// The line to the service manager. Without one, all of this does nothing.
#[derive(Debug)]
pub(crate) struct Notifier {
    line: Option<Line>,
    watchdog: Option<Watchdog>,
    /// READY=1 was sent.
    ready: bool,
    /// RELOADING=1 was sent, and READY=1 has not followed.
    reloading: bool,
    stopping: bool,
    status: String,
}

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// WATCHDOG=1 is due at half of the time that the service manager waits for it.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    next: Instant,
}

impl Notifier {
    /// By the environment that this process was started with.
    pub(crate) fn from_environment() -> Notifier {
        let variable = |name: &str| std::env::var(name).ok();
        let line = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()).and_then(|path| {
            let opened = Line::open(&path);
            opened.inspect_err(|error| log::warn!("the service manager can't be told: {path}: {error}")).ok()
        });
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = variable("WATCHDOG_USEC")
            .and_then(|limit| limit.parse().ok())
            .filter(|&limit: &u64| ours && limit > 1)
            .map(|limit| Watchdog { every: Duration::from_micros(limit / 2), next: Instant::now() });
        Notifier::new(line, watchdog)
    }

    /// For a master that has not taken over yet.
    pub(crate) fn silent() -> Notifier {
        Notifier::new(None, None)
    }

    fn new(line: Option<Line>, watchdog: Option<Watchdog>) -> Notifier {
        let status = String::new();
        Notifier { line, watchdog, ready: false, reloading: false, stopping: false, status }
    }

    /// When [`Notifier::observe`] wants to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().filter(|_| self.line.is_some()).map(|watchdog| watchdog.next)
    }

    /// A reload was asked for. To be called before it begins: the time of the message tells that it is not an answer to
    /// an earlier one.
    pub(crate) fn begin_reload(&mut self) {
        if !self.ready || self.stopping {
            return;
        }
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.reloading = true;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.as_micros()));
    }

    /// A stop begins, which may take as long as running requests may.
    pub(crate) fn begin_stop(&mut self, longest: Duration) {
        if !std::mem::replace(&mut self.stopping, true) {
            let limit = longest.saturating_add(STOP_MARGIN).as_micros();
            self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}\n"));
        }
    }

    /// From now on another process is the one to watch.
    pub(crate) fn main_process(&mut self, pid: i32) {
        self.send(&format!("MAINPID={pid}\n"));
        self.line = None;
    }

    /// After each turn of the loop: says what has changed.
    pub(crate) fn observe(&mut self, summary: &Summary, now: Instant) {
        if self.line.is_none() {
            return;
        }
        let mut message = String::new();
        let up = summary.ever_ready && !self.stopping;
        if up && (!self.ready || (self.reloading && !summary.reloading)) {
            (self.ready, self.reloading) = (true, false);
            message.push_str("READY=1\n");
        }
        let status = summary.to_string();
        if status != self.status {
            message.push_str(&format!("STATUS={status}\n"));
            self.status = status;
        }
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| now >= watchdog.next) {
            watchdog.next = now + watchdog.every;
            // Without a worker nothing is served: silence has the service started anew, unless none is wanted. Before it
            // was ready, and while it stops, other limits hold.
            if summary.serving > 0 || summary.wanted == 0 || !self.ready || self.stopping {
                message.push_str("WATCHDOG=1\n");
            }
        }
        if !message.is_empty() {
            self.send(&message);
        }
    }

    fn send(&self, message: &str) {
        let Some(line) = &self.line else { return };
        match line.socket.send_to_addr(message.as_bytes(), &line.address) {
            Ok(_) => log::debug!("told the service manager: {}", message.trim_end().replace('\n', ", ")),
            Err(error) => log::warn!("the service manager can't be told ({error}): {}", message.trim_end()),
        }
    }
}

impl Line {
    /// `path` is absolute, or begins with @ for a name that lies in no file system.
    fn open(path: &str) -> io::Result<Line> {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if path.starts_with('/') => SocketAddr::from_pathname(path)?,
            None => return Err(io::Error::other("neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        // A service manager that does not read must not stop the service.
        socket.set_nonblocking(true)?;
        Ok(Line { socket, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Manager {
        socket: UnixDatagram,
        _dir: tempfile::TempDir,
    }

    impl Manager {
        fn new() -> (Manager, Line) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("notify");
            let socket = UnixDatagram::bind(&path).expect("bound");
            socket.set_nonblocking(true).expect("set");
            let line = Line::open(path.to_str().expect("text")).expect("a line");
            (Manager { socket, _dir: dir }, line)
        }

        /// All that was told since the last call.
        fn heard(&self) -> String {
            let mut all = String::new();
            let mut buffer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                all.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            all
        }
    }

    fn summary(serving: usize) -> Summary {
        Summary {
            generation: 0,
            serving,
            wanted: 2,
            ever_ready: serving > 0,
            reloading: false,
            reload_failure: None,
            stopping: false,
        }
    }

    #[test]
    fn ready_is_said_once_and_again_after_a_reload() {
        let (manager, line) = Manager::new();
        let mut notifier = Notifier::new(Some(line), None);
        let now = Instant::now();
        notifier.begin_reload();
        notifier.observe(&summary(0), now);
        assert_eq!(manager.heard(), "STATUS=starting: 0 of 2 workers ready\n");
        notifier.observe(&summary(1), now);
        assert_eq!(manager.heard(), "READY=1\nSTATUS=generation 0 serves, 1 of 2 workers ready\n");
        notifier.observe(&summary(1), now);
        assert_eq!(manager.heard(), "");
        notifier.begin_reload();
        let told = manager.heard();
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&told).trim_end();
        assert!(time.parse::<u64>().expect("a time") > 0);
        notifier.observe(&Summary { reloading: true, ..summary(1) }, now);
        assert_eq!(manager.heard(), "STATUS=generation 0 serves, 1 of 2 workers ready; reloading\n");
        notifier.observe(&summary(1), now);
        assert!(manager.heard().starts_with("READY=1\n"));
        // What the application says can't pass for a message of ours.
        let failed = Some("boom\nREADY=1".to_owned());
        notifier.observe(&Summary { reload_failure: failed, ..summary(1) }, now);
        let expected = "STATUS=generation 0 serves, 1 of 2 workers ready; the last reload failed: boom\n";
        assert_eq!(manager.heard(), expected);
        notifier.begin_stop(Duration::from_secs(20));
        notifier.begin_stop(Duration::from_secs(20));
        assert_eq!(manager.heard(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\n");
        notifier.observe(&Summary { stopping: true, ..summary(1) }, now);
        assert_eq!(manager.heard(), "STATUS=stopping: 1 worker finishes its requests\n");
    }

    #[test]
    fn the_watchdog_is_fed_at_half_of_its_time_and_only_while_a_worker_serves() {
        let (manager, line) = Manager::new();
        let start = Instant::now();
        let every = Duration::from_secs(5);
        let mut notifier = Notifier::new(Some(line), Some(Watchdog { every, next: start }));
        let fed = |manager: &Manager| manager.heard().contains("WATCHDOG=1");
        notifier.observe(&summary(1), start);
        assert!(fed(&manager));
        assert_eq!(notifier.deadline(), Some(start + every));
        notifier.observe(&summary(1), start + every / 2);
        assert!(!fed(&manager));
        notifier.observe(&summary(1), start + every);
        assert!(fed(&manager));
        let none = Summary { ever_ready: true, ..summary(0) };
        notifier.observe(&none, start + 2 * every);
        assert!(!fed(&manager), "nobody serves");
        notifier.begin_stop(every);
        notifier.observe(&none, start + 3 * every);
        assert!(fed(&manager), "the stop has a limit of its own");
    }

    #[test]
    fn after_another_process_was_named_nothing_is_said() {
        let (manager, line) = Manager::new();
        let mut notifier = Notifier::new(Some(line), None);
        notifier.main_process(4711);
        notifier.observe(&summary(1), Instant::now());
        notifier.begin_stop(Duration::ZERO);
        assert_eq!(manager.heard(), "MAINPID=4711\n");
    }

    #[test]
    fn only_paths_and_abstract_names_are_sockets() {
        for path in ["relative", "vsock:2:1", "/not/there\0"] {
            Line::open(path).expect_err(path);
        }
        Line::open("@abstract").expect("a line");
    }
}
