//! Another binary takes over without a failed request (USR2).
//!
//! The old master starts the file that it was started from itself, with the same arguments, and gives it the listeners
//! and the hand-off queue over a channel. When the workers of the new master are ready, it says so; the old one leaves it
//! the names (pid file, Unix sockets, systemd's main process), and lets its own workers hand their connections over.
//! Until that moment the old master serves, and if the new one fails, nothing has happened.
//!
//! [`successor`] is the new process as the old one sees it, [`inheritance`] the other side.

mod inheritance;
mod successor;

use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use serde::{Deserialize, Serialize};

use super::Master;
use super::pid_file::PidFile;
use crate::channel::Message;
use crate::config::Address;
use crate::sys;

pub(super) use inheritance::Inheritance;
pub(super) use successor::{Program, Successor};

/// Process ids as tokens are 32 bits long.
pub(super) const UPGRADE: Token = Token(usize::MAX - 2);

/// A listener as one master describes it to the other; its descriptor goes with the message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Inherited {
    given: Address,
    bound: Address,
    /// Device and inode of a Unix socket's name, if it is the master's to remove.
    name: Option<(u64, u64)>,
}

/// From the old master to the new one.
#[derive(Debug, Serialize, Deserialize)]
enum ToSuccessor {
    /// First message. Descriptors: the listeners, then both ends of the hand-off queue.
    Inherit { version: String, hand_off_version: u8, listeners: Vec<Inherited> },
    /// The new master is the one from now on.
    TakeOver,
}

/// From the new master to the old one.
#[derive(Debug, Serialize, Deserialize)]
enum FromSuccessor {
    /// Its workers accept requests. `hand_over`: they take connections from the queue.
    Ready { hand_over: bool },
}

impl Message for ToSuccessor {
    const MAX_DESCRIPTORS: usize = sys::MAX_DESCRIPTORS;

    fn shortened(&self) -> Option<Self> {
        None
    }
}

impl Message for FromSuccessor {
    const MAX_DESCRIPTORS: usize = 0;

    fn shortened(&self) -> Option<Self> {
        None
    }
}

impl Master {
    /// USR2.
    pub(super) fn begin_upgrade(&mut self) {
        let summary = self.workers.summary();
        let refusal = match () {
            () if summary.stopping => Some("forkhorn is ending"),
            () if self.successor.is_some() => Some("one is under way"),
            () if self.inheritance.is_some() => Some("this master has not taken over yet itself"),
            () if summary.reloading => Some("a reload is under way; try again when it has ended"),
            () if std::process::id() == 1 => {
                Some("process 1 can't be replaced without the end of its container: start a new container")
            }
            () => None,
        };
        if let Some(why) = refusal {
            return log::warn!("USR2: no upgrade: {why}");
        }
        let limit = self.plans.latest().map_or(Duration::ZERO, |config| config.processes.upgrade_timeout);
        let listeners = self.plans.latest_listeners();
        match Successor::start(&self.program, listeners, &self.hand_off, Instant::now() + limit) {
            Ok(successor) => {
                log::info!("USR2: {} was started as process {}", self.program.shown(), successor.pid);
                let watched = self.poll.registry().register(
                    &mut SourceFd(&successor.raw_fd()),
                    UPGRADE,
                    Interest::READABLE,
                );
                if let Err(error) = watched {
                    log::debug!("the new master is looked at now and then only: {error}");
                }
                self.successor = Some(successor);
            }
            Err(error) => {
                log::error!("USR2: upgrade failed, {} can't be started: {error}", self.program.shown());
            }
        }
    }

    /// After each turn of the loop, on both sides.
    pub(super) fn advance_upgrade(&mut self) {
        self.advance_inheritance();
        let Some(successor) = &mut self.successor else { return };
        match successor.advance(Instant::now()) {
            Ok(None) => {}
            Ok(Some(hand_over)) => self.leave(hand_over),
            Err(why) => log::error!("upgrade failed, this master goes on: {why}"),
        }
    }

    /// A child has ended: true if it was the new master.
    pub(super) fn successor_ended(&mut self, pid: i32, how: &str) -> bool {
        let Some(successor) = self.successor.take_if(|successor| successor.pid == pid) else { return false };
        if !successor.was_given_up() {
            log::error!("upgrade failed, this master goes on: the new master {how}");
        }
        true
    }

    /// The whole is to end: the new master, which serves nobody but through this one, too.
    pub(super) fn cancel_upgrade(&mut self) {
        if let Some(successor) = &mut self.successor {
            successor.give_up("forkhorn is ending");
        }
    }

    /// The new master is ready: this one gives everything away that only one can have, and drains.
    fn leave(&mut self, hand_over: bool) {
        let Some(successor) = self.successor.take() else { return };
        log::info!("upgrade: process {} takes over, this master drains", successor.pid);
        self.notifier.main_process(successor.pid);
        self.plans.release_names();
        self.status.close();
        if let Some(file) = self.pid_file.take() {
            self.pid_file = file.rename_for_leaving();
        }
        if let Err(error) = successor.take_over() {
            log::error!("the new master can't be told that it has taken over: {error}");
        }
        self.plans.close_listeners();
        let actions = self.workers.make_way(hand_over, Instant::now());
        self.followed.extend(actions);
    }

    fn advance_inheritance(&mut self) {
        let Some(inheritance) = &mut self.inheritance else { return };
        let summary = self.workers.summary();
        if summary.stopping {
            return;
        }
        inheritance.tell_ready(summary.ever_ready && summary.serving >= usize::from(summary.wanted));
        if !inheritance.is_ours() {
            return;
        }
        if let Some(inheritance) = self.inheritance.take() {
            inheritance.adopt_names();
        }
        let config = self.plans.latest();
        if let Some(path) = config.and_then(|config| config.processes.pid_file.as_deref()) {
            match PidFile::take_over(path) {
                Ok(file) => self.pid_file = Some(file),
                Err(error) => log::error!("{error}"),
            }
        }
        // The old master has just closed them.
        if let Some(Err(error)) = self.plans.latest().map(|config| self.status.listen(config)) {
            log::error!("{error}: nobody can ask how forkhorn is");
        }
        self.notifier = super::Notifier::from_environment();
        log::info!("upgrade: this master, process {}, has taken over", std::process::id());
    }
}
