//! Room for connections: when the table is full, or the process may open nothing more, those go first that have idled the
//! longest. Clients expect that of kept connections at any time (RFC 9112 §9.3.1, §9.5).

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::keyed::Key;
use super::state::{Phase, State};
use super::throttle::Throttle;
use crate::scoreboard::Counter;

/// Connections that are closed at once, at most: looking for them costs a walk over all.
const MOST_CLOSED: usize = 64;

/// Of the table, this part is made free.
const PART: usize = 32;

/// When nobody idles: how long until another look.
const RETRY: Duration = Duration::from_millis(100);

/// The log tells of a lack so often at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is lacking, and since when.
#[derive(Debug)]
pub(crate) struct Room {
    /// A descriptor, or memory for one: accept(2), recvmsg(2) or the start of a script has failed.
    lacking: Option<io::Error>,
    /// No look before then.
    looks_at: Option<Instant>,
    lacks: Throttle,
    full: Throttle,
}

impl Default for Room {
    fn default() -> Self {
        Room { lacking: None, looks_at: None, lacks: Throttle::new(INTERVAL), full: Throttle::new(INTERVAL) }
    }
}

impl Room {
    /// Notes it if `error` says that this process or the system has no descriptor or no memory left. False: it says
    /// something else.
    pub fn note(&mut self, error: &io::Error) -> bool {
        let known = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        match error.raw_os_error().filter(|number| known.contains(number)) {
            Some(number) => {
                self.lacking = Some(io::Error::from_raw_os_error(number));
                true
            }
            None => false,
        }
    }
}

impl State {
    /// Makes room if there is none. To be called once in a turn, before it is decided whether to accept.
    pub(super) fn make_room(&mut self) {
        let (now, most) = (self.core.now, self.core.config.limits.max_connections);
        let is_full = self.connections.len() >= most && self.phase == Phase::Serving;
        let lacking = self.core.room.lacking.take();
        if lacking.is_none() && (!is_full || self.core.room.looks_at.is_some_and(|at| now < at)) {
            return;
        }
        let closed = self.close_idle((most / PART).clamp(1, MOST_CLOSED));
        self.core.room.looks_at = (closed == 0).then(|| now + RETRY);
        // What the whole system lacks is not to be had at once by closing a little here.
        let is_ours = lacking.as_ref().is_none_or(|error| error.raw_os_error() == Some(libc::EMFILE));
        if closed > 0 && is_ours {
            self.listeners.retry_now();
        }
        if let Some(error) = lacking {
            if let Some(left_out) = self.core.room.lacks.admit(now) {
                log::error!(
                    "nothing more can be opened: {}; {closed} idle connections were closed, {} are open; this has \
                     happened {left_out} more times since the last such line",
                    named(&error),
                    self.connections.len()
                );
            }
        } else if let Some(left_out) = self.core.room.full.admit(now) {
            log::warn!(
                "{most} connections are open (--max-connections): {closed} that idled were closed, further ones wait; \
                 this has happened {left_out} more times since the last such line"
            );
        }
    }

    /// When a full table is looked at again.
    pub(super) fn room_deadline(&self) -> Option<Instant> {
        let is_full = self.connections.len() >= self.core.config.limits.max_connections;
        self.core.room.looks_at.filter(|_| is_full && self.phase == Phase::Serving)
    }

    /// Closes up to `most` connections, those first that have idled the longest. Says how many.
    fn close_idle(&mut self, most: usize) -> usize {
        let idle =
            self.connections.iter().filter_map(|(key, connection)| Some((connection.idles_until()?, key)));
        let mut idle: Vec<(Instant, Key)> = idle.collect();
        if idle.len() > most {
            idle.select_nth_unstable_by_key(most, |(until, _)| *until);
            idle.truncate(most);
        }
        for (_, key) in &idle {
            self.core.board.count(Counter::IdleClosed);
            self.connections.remove(*key);
        }
        idle.len()
    }
}

/// With the setting that is too low.
fn named(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "this process has as many files open as it may (ulimit -n; LimitNOFILE= of systemd)".to_owned()
        }
        Some(libc::ENFILE) => "the system has as many files open as it may (fs.file-max)".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether accept(2) has failed through no fault of this process: the next one may succeed at once.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted)
}
