//! The interpreters of one kind of first line: which one serves, and when the next one takes its place.

use std::ffi::CString;
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::interpreter::{Interpreter, Setup, Stage};
use super::learning::Learning;
use super::link::Said;
use super::shebang::Command;
use super::{Notice, WarmSource};
use crate::config::{ScriptLimits, WarmConfig};

/// How often an interpreter's file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After an interpreter that ended by itself, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is common to all kinds.
pub(super) struct World<'a> {
    pub config: &'a WarmConfig,
    pub environment: &'a [CString],
    pub limits: ScriptLimits,
    pub report: &'a [u8],
    pub index: usize,
    pub next_number: &'a mut u32,
}

#[derive(Debug)]
pub(super) struct Kind {
    pub command: Command,
    pub learning: Learning,
    /// At most one starts and one serves; the others retire.
    interpreters: Vec<Interpreter>,
    /// The file of the interpreter, as it was when the first one was started.
    file: Option<Identity>,
    looked_at: Option<Instant>,
    /// It can't serve at all.
    is_unusable: bool,
    not_before: Option<Instant>,
    pause: Duration,
    /// Another one is to be started in the place of the one that serves.
    wants_renewal: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    bytes: u64,
}

impl Kind {
    pub fn new(command: Command, learn: bool, modules: Vec<String>) -> Self {
        Kind {
            command,
            learning: Learning::new(learn, modules),
            interpreters: Vec::new(),
            file: None,
            looked_at: None,
            is_unusable: false,
            not_before: None,
            pause: FIRST_PAUSE,
            wants_renewal: false,
        }
    }

    pub fn has(&self, number: u32) -> bool {
        self.interpreters.iter().any(|interpreter| interpreter.number == number)
    }

    pub fn sources(&mut self) -> impl Iterator<Item = (WarmSource, BorrowedFd<'_>)> {
        self.interpreters.iter_mut().flat_map(Interpreter::sources)
    }

    /// The interpreter that serves. If there is none, one is started, for later requests.
    pub fn serving(&mut self, world: World<'_>, now: Instant) -> Option<(&mut Interpreter, &mut Learning)> {
        if self.is_unusable {
            return None;
        }
        self.look_at_file(now);
        let at = self.interpreters.iter().position(|interpreter| interpreter.stage == Stage::Serving);
        let is_worn = at.and_then(|at| self.interpreters.get(at)).is_some_and(|interpreter| {
            world.config.max_forks > 0 && interpreter.runs >= world.config.max_forks
        });
        if at.is_none() || is_worn || self.wants_renewal {
            self.start(world, now);
        }
        Some((self.interpreters.get_mut(at?)?, &mut self.learning))
    }

    fn start(&mut self, world: World<'_>, now: Instant) {
        let is_starting = self.interpreters.iter().any(|interpreter| interpreter.stage == Stage::Starting);
        if is_starting || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        *world.next_number = world.next_number.wrapping_add(1) % MAX_NUMBER;
        let setup = Setup {
            command: &self.command,
            environment: world.environment,
            limits: world.limits,
            modules: self.learning.names(),
            spares: world.config.spares,
            kind: world.index,
            report: world.report,
        };
        match Interpreter::start(*world.next_number, &setup, now) {
            Ok(interpreter) => {
                self.wants_renewal = false;
                self.learning.renewed(now);
                self.interpreters.push(interpreter);
            }
            Err(error) => {
                log::error!(
                    "warm {}: it can't be started: {error}; scripts run the classic way",
                    self.name()
                );
                self.wait_longer(now);
            }
        }
    }

    /// Reads what an interpreter or its children say.
    pub fn on_ready(
        &mut self,
        number: u32,
        is_output: bool,
        user: u32,
        spares: u16,
        now: Instant,
    ) -> Vec<(u32, Notice)> {
        let name = self.name();
        let mut notices = Vec::new();
        let Some(at) = self.interpreters.iter().position(|interpreter| interpreter.number == number) else {
            return notices;
        };
        if is_output {
            self.interpreters[at].log_output(&name);
            if !self.interpreters[at].has_ended() {
                return notices;
            }
        }
        loop {
            match self.interpreters[at].receive(user) {
                // All that it had to say is heard.
                Ok(None) if is_output => {
                    notices.extend(self.on_end(at, now));
                    return notices;
                }
                Ok(None) => break,
                Ok(Some((said, sender))) => notices.extend(self.on_said(at, said, sender, spares, now)),
                Err(_) => {
                    self.interpreters[at].log_output(&name);
                    notices.extend(self.on_end(at, now));
                    return notices;
                }
            }
        }
        self.forget_retired();
        notices
    }

    fn on_said(
        &mut self,
        at: usize,
        said: Said,
        sender: i32,
        spares: u16,
        now: Instant,
    ) -> Option<(u32, Notice)> {
        let name = self.name();
        let interpreter = self.interpreters.get_mut(at)?;
        match said {
            Said::Ready(modules) => {
                let seconds = interpreter.age(now).as_secs_f64();
                log::info!(
                    "warm {name}: ready after {seconds:.2} s, pid {}; {} modules loaded{}{}",
                    interpreter.pid(),
                    modules.len(),
                    if modules.is_empty() { "" } else { ": " },
                    modules.join(" ")
                );
                interpreter.stage = Stage::Serving;
                interpreter.fill_spares(spares, true);
                self.learning.begin();
                self.retire_others(at);
                None
            }
            Said::Refused { module, reason } => {
                log::info!("warm {name}: the module {module} is left to the scripts: it {reason}");
                self.learning.refuse(&module);
                self.wants_renewal = true;
                None
            }
            Said::Unusable(reason) => {
                log::warn!("warm {name}: {reason}; its scripts run the classic way");
                self.is_unusable = true;
                None
            }
            Said::Started { id } => {
                if !interpreter.unstarted.remove(&id) {
                    log::warn!("warm {name}: process {sender} has started what nobody asked for");
                    return None;
                }
                interpreter.running.insert(id);
                // Not yet, if enough are left: the fork would take its time from the script.
                if interpreter.stage == Stage::Serving && interpreter.spares_left() < spares.div_ceil(2) {
                    interpreter.fill_spares(spares, false);
                }
                self.pause = FIRST_PAUSE;
                Some((id, Notice::Started(sender)))
            }
            Said::Failed { id, errno } => {
                if sender != interpreter.pid() {
                    interpreter.reap(id, sender);
                }
                interpreter.unstarted.remove(&id).then_some((id, Notice::Failed(errno)))
            }
            Said::Spare => {
                interpreter.add_spare();
                None
            }
            Said::Exit { id, exit, cpu_time } => {
                interpreter.refill_soon(spares, now);
                interpreter.running.remove(&id).then_some((id, Notice::Exit(exit, cpu_time)))
            }
            Said::Running { id } => interpreter.running.contains(&id).then_some((id, Notice::Running)),
            Said::Stale(file) => {
                log::info!("warm {name}: {file} has changed: it is replaced");
                interpreter.stage = Stage::Retiring;
                self.wants_renewal = true;
                None
            }
        }
    }

    /// An interpreter's channel has closed.
    fn on_end(&mut self, at: usize, now: Instant) -> Vec<(u32, Notice)> {
        let mut interpreter = self.interpreters.swap_remove(at);
        let was = interpreter.stage;
        interpreter.end();
        if matches!(was, Stage::Starting | Stage::Serving) && !self.wants_renewal && !self.is_unusable {
            log::warn!(
                "warm {}: process {} has ended; scripts run the classic way",
                self.name(),
                interpreter.pid()
            );
            self.wait_longer(now);
        }
        let all = interpreter.unstarted.drain().chain(interpreter.running.drain()).collect::<Vec<_>>();
        all.into_iter().map(|id| (id, Notice::Lost)).collect()
    }

    pub fn on_time(&mut self, world: World<'_>, now: Instant) -> Vec<(u32, Notice)> {
        let mut notices = Vec::new();
        while let Some(at) = self.interpreters.iter().position(|interpreter| interpreter.is_late(now)) {
            log::warn!("warm {}: it is not ready after so long; it is ended", self.name());
            notices.extend(self.on_end(at, now));
        }
        for interpreter in &mut self.interpreters {
            if interpreter.refill_at().is_some_and(|at| now >= at) {
                interpreter.fill_spares(world.config.spares, true);
            }
        }
        if self.learning.renew_at().is_some_and(|at| now >= at) && self.serves() {
            self.wants_renewal = true;
        }
        if self.wants_renewal && !self.is_unusable {
            self.start(world, now);
        }
        notices
    }

    fn serves(&self) -> bool {
        self.interpreters.iter().any(|interpreter| interpreter.stage == Stage::Serving)
    }

    pub fn deadline(&self) -> Option<Instant> {
        let starting = self.interpreters.iter().filter_map(Interpreter::start_deadline).min();
        let is_starting = starting.is_some();
        let renewal = match self.wants_renewal && !is_starting && !self.is_unusable {
            true => self.not_before.or(self.looked_at),
            false => self.learning.renew_at().filter(|_| !is_starting && self.serves()),
        };
        let refill = self.interpreters.iter().filter_map(Interpreter::refill_at).min();
        [starting, renewal, refill].into_iter().flatten().min()
    }

    /// An interpreter whose file is another by now is not asked any more.
    fn look_at_file(&mut self, now: Instant) {
        if self.looked_at.is_some_and(|at| now < at + LOOK_INTERVAL) {
            return;
        }
        self.looked_at = Some(now);
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(self.command.path.as_bytes()));
        let file = fs::metadata(path).ok().map(|found| Identity {
            device: found.dev(),
            inode: found.ino(),
            changed: (found.mtime(), found.mtime_nsec()),
            bytes: found.len(),
        });
        if file == self.file {
            return;
        }
        if self.file.is_some() {
            log::info!("warm {}: the interpreter's file has changed: it is replaced", self.name());
        }
        self.file = file;
        self.is_unusable = false;
        self.not_before = None;
        for interpreter in &mut self.interpreters {
            interpreter.stage = Stage::Retiring;
        }
        self.forget_retired();
    }

    /// One serves from now on: the others take no more requests.
    fn retire_others(&mut self, at: usize) {
        for (index, interpreter) in self.interpreters.iter_mut().enumerate() {
            if index != at {
                interpreter.stage = Stage::Retiring;
            }
        }
    }

    fn forget_retired(&mut self) {
        self.interpreters.retain(|interpreter| {
            interpreter.stage != Stage::Retiring
                || !interpreter.unstarted.is_empty()
                || !interpreter.running.is_empty()
        });
    }

    /// Asks whichever interpreter runs this to reap it.
    pub fn reap(&self, id: u32, pid: i32) {
        self.interpreters
            .iter()
            .filter(|interpreter| interpreter.running.contains(&id))
            .for_each(|interpreter| interpreter.reap(id, pid));
    }

    fn wait_longer(&mut self, now: Instant) {
        self.not_before = now.checked_add(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn name(&self) -> String {
        let flag = self.command.flag.as_ref().map(|flag| format!(" {}", flag.to_string_lossy()));
        format!("{}{}", self.command.path.to_string_lossy(), flag.unwrap_or_default())
    }
}

/// A token has 29 bits for it.
const MAX_NUMBER: u32 = 1 << 28;
