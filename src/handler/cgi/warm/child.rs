//! One run in a copy of a warm interpreter: what `process.rs` needs to know of a script that is not our own child.
//!
//! The interpreter is its parent and reaps it, but only when asked to: until then the number of its process group can't
//! be anybody else's, and signals are sent from here.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::link::Link;
use crate::sys::adopted::Adopted;
use crate::sys::spawn::Exit;

#[derive(Debug)]
pub(crate) struct WarmChild {
    id: u32,
    link: Arc<Link>,
    /// `None` until it says that the script runs.
    process: Option<Adopted>,
    exit: Option<Exit>,
    cpu_time: Option<Duration>,
    /// The interpreter was asked how it ended, and has not answered.
    is_asked: bool,
}

impl WarmChild {
    pub fn new(id: u32, link: Arc<Link>) -> Self {
        WarmChild { id, link, process: None, exit: None, cpu_time: None, is_asked: false }
    }

    /// Of the request, among all of this worker.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|process| process.pid().as_raw())
    }

    pub fn exit_fd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().and_then(Adopted::exit_fd)
    }

    pub fn on_started(&mut self, pid: i32) {
        self.process = Some(Adopted::new(Pid::from_raw(pid)));
    }

    pub fn on_exit(&mut self, exit: Exit, cpu_time: Option<Duration>) {
        self.is_asked = false;
        self.cpu_time = cpu_time;
        self.exit = Some(exit);
    }

    /// It says that its script has ended. False: this is not the process.
    pub fn on_ends(&mut self, pid: i32, cpu_time: Duration) -> bool {
        let is_it = self.pid() == Some(pid) && self.exit.is_none();
        if is_it {
            self.cpu_time = Some(cpu_time);
        }
        is_it
    }

    /// User and system time of the script, once it is known.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.cpu_time
    }

    /// It has not ended when it was asked for.
    pub fn on_running(&mut self) {
        self.is_asked = false;
    }

    /// The interpreter does not answer: whoever waits for it must not wait any longer.
    pub fn give_up_interpreter(&self) {
        self.link.give_up();
    }

    /// Whether its interpreter is gone: then the master has got its children, and reaps them.
    pub fn is_orphan(&self) -> bool {
        self.link.is_lost()
    }

    /// How it ended, if it has. Without `reap` it stays a zombie, and how it ended is not known.
    pub fn wait(&mut self, reap: bool) -> Option<Exit> {
        if self.exit.is_some() {
            return self.exit;
        }
        let process = self.process.as_ref()?;
        match process.has_ended() {
            Some(false) => return None,
            Some(true) if !reap => return Some(Exit::Unknown),
            _ if self.is_orphan() => return Some(Exit::Unknown),
            Some(true) | None => {}
        }
        if !self.is_asked {
            self.is_asked = self.link.ask(self.id, process.pid().as_raw());
        }
        None
    }

    pub fn signal_group(&self, signal: Signal) {
        match &self.process {
            Some(_) if self.exit.is_some() => {}
            Some(process) if self.is_orphan() => process.signal_group_if_it_is_there(signal),
            Some(process) => process.signal_group(signal),
            None => {}
        }
    }
}
