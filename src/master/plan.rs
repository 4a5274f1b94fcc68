//! What the processes of a generation are started with. A reload reads the configuration anew and makes a plan of it;
//! until the new generation has taken over, and for whatever has to be replaced in the old one, both plans are there.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::sockets::{self, Available, Listener, Sockets};
use super::spawn::ProcessCommand;
use super::workers::Settings;
use super::{access_log, bridge, descriptor_limit, preflight, start_message};
use crate::channel::{self, Role};
use crate::cli::Preload;
use crate::config::{Config, StartupError};

/// All that a generation is started with.
#[derive(Debug)]
pub(crate) struct Plan {
    /// With real ports in the place of port 0.
    pub(crate) config: Config,
    pub(crate) command: ProcessCommand,
    pub(crate) sockets: Sockets,
    pub(crate) access_log: Option<OwnedFd>,
}

impl Plan {
    /// Checks what workers will need, and opens what is not available yet.
    ///
    /// # Errors
    /// What can't be had. What was opened is closed again.
    pub(crate) fn make(mut config: Config, available: Available) -> Result<Plan, StartupError> {
        let start = start_message(Role::Template { generation: 0 }, &config);
        channel::check(&start).map_err(|error| {
            StartupError::other(format!("cannot pass the options on to the workers: {error}"))
        })?;
        preflight::check(&config)?;
        descriptor_limit::raise(&config);
        let command = bridge::command(&config)?;
        let sockets = sockets::open(&mut config, available)?;
        let access_log = access_log::open(&config.access_log)?;
        Ok(Plan { config, command, sockets, access_log })
    }

    /// What is decided by.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            pool: self.config.processes.workers,
            worker_idle_timeout: self.config.processes.worker_idle_timeout,
            spare_workers: self.config.processes.spare_workers,
            preload: self.config.python.as_ref().is_some_and(|python| python.preload != Preload::Never),
            applications: self.config.python.is_some(),
            graceful_timeout: self.config.processes.graceful_timeout,
            max_surge: self.config.processes.max_surge,
            max_memory_bytes: self.config.processes.recycling.max_memory_bytes,
            max_lifetime: self.config.processes.recycling.max_lifetime,
            seed: seed(),
        }
    }

    pub(crate) fn access_log(&self) -> Option<BorrowedFd<'_>> {
        self.access_log.as_ref().map(AsFd::as_fd)
    }
}

/// The plans by their generations.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    all: BTreeMap<u32, Plan>,
}

impl Plans {
    pub(crate) fn insert(&mut self, generation: u32, plan: Plan) {
        self.all.insert(generation, plan);
    }

    pub(crate) fn of(&self, generation: u32) -> Option<&Plan> {
        self.all.get(&generation)
    }

    /// The configuration that a new one follows.
    pub(crate) fn latest(&self) -> Option<&Config> {
        self.all.values().next_back().map(|plan| &plan.config)
    }

    /// Every listener that is open.
    pub(crate) fn available(&self) -> Available {
        Available::of(self.all.values().rev().flat_map(|plan| &plan.sockets.listeners))
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = (u32, &mut Plan)> {
        self.all.iter_mut().map(|(number, plan)| (*number, plan))
    }

    pub(crate) fn latest_listeners(&self) -> &[Rc<Listener>] {
        self.all.values().next_back().map_or(&[], |plan| &plan.sockets.listeners)
    }

    /// The names of Unix sockets belong to another process from now on.
    pub(crate) fn release_names(&mut self) {
        for listener in self.all.values().flat_map(|plan| &plan.sockets.listeners) {
            if let Some(name) = listener.name.borrow_mut().take() {
                name.release();
            }
        }
    }

    /// For the end: see [`Sockets::close`].
    pub(crate) fn close_listeners(&mut self) {
        self.all.values_mut().for_each(|plan| plan.sockets.close());
    }

    /// The listeners of the generations that live.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.values().flat_map(|plan| plan.sockets.descriptors())
    }

    /// Closes the listeners that no living generation has, and forgets plans of which no process is left.
    pub(crate) fn tidy(&mut self, lives: impl Fn(u32) -> bool, has_process: impl Fn(u32) -> bool) {
        if self.all.len() < 2 {
            return;
        }
        self.all.retain(|&generation, plan| {
            if !lives(generation) {
                plan.sockets.close();
            }
            lives(generation) || has_process(generation)
        });
    }
}

/// Takes what can't change while the master runs from the configuration that it was started with, and says so.
pub(crate) fn keep_fixed(new: &mut Config, old: &Config) {
    let fixed = |option: &str, changed: bool| {
        if changed {
            log::warn!("reload: {option} can't change while forkhorn runs: restart it for the new value");
        }
    };
    let (processes, before) = (&mut new.processes, &old.processes);
    fixed("--user or --group, or the groups of that user,", processes.identity != before.identity);
    processes.identity.clone_from(&before.identity);
    fixed("--umask", processes.umask != before.umask);
    processes.umask = before.umask;
    fixed("--pid-file", processes.pid_file != before.pid_file);
    processes.pid_file.clone_from(&before.pid_file);
    fixed("--status", new.status != old.status);
    new.status.clone_from(&old.status);
    fixed("--control", new.control != old.control);
    new.control.clone_from(&old.control);
    fixed("--socket-mode of a socket that is open", new.socket_mode != old.socket_mode);
}

/// Differs from start to start; nothing depends on its being hard to guess.
fn seed() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32)
}
