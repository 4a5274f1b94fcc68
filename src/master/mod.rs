//! The process manager: owns the listeners, starts the workers, watches and replaces them. One thread, no Python.
//!
//! The loop here only moves facts and actions: [`workers`] decides what they mean. Signals are events
//! ([`signals`]); [`sockets`], [`pid_file`] and [`access_log`] open what needs the rights of the first user;
//! [`load`] reads from the scoreboard what the workers have to do, and [`sentry`] stands in for them while there is none;
//! [`preflight`] checks what the last one will need; [`bridge`] and [`spawn`] know how a process is started; a [`plan`] is
//! all that one generation is started with.

#![deny(unsafe_code)]

mod access_log;
mod boards;
pub(crate) mod bridge;
mod check;
mod control;
mod deaths;
mod descriptor_limit;
mod heartbeat;
mod load;
mod notify;
mod pid_file;
mod plan;
mod preflight;
mod sentry;
mod signals;
mod sockets;
mod spawn;
mod status;
mod upgrade;
mod vitals;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, Uid};

use crate::channel::{Channel, ChannelError, Role, ToMaster, ToProcess};
use crate::config::{Config, Source, StartupError};
use crate::hand_off::HandOffQueue;
use crate::process::{process_memory, resident_bytes, title};
use crate::scoreboard::Layout;
use crate::{logger, sys};
use boards::Boards;
use deaths::Deaths;
use heartbeat::Heartbeats;
use load::{Capacity, LoadMeter};
use notify::Notifier;
use pid_file::PidFile;
use plan::{Plan, Plans};
use sentry::Sentry;
use signals::{Signals, Wish};
use sockets::Available;
use status::StatusServer;
use upgrade::{Inheritance, Program, Successor, UPGRADE};
use workers::{Action, ForkReport, Order, ProcessId, Workers};

pub use check::check;

/// Process ids start at 1.
const SIGNALS: Token = Token(0);

/// Messages of one process that are read before the others have their turn.
const MAX_MESSAGES_AT_ONCE: usize = 16;

/// Serves until a signal ends it. `source` is where `config` came from, and comes from again at each reload.
///
/// # Errors
/// What kept it from serving; nothing that was started is left.
pub fn run(config: Config, source: Source) -> Result<(), StartupError> {
    let mut master = Master::open(config, source)?;
    log::info!("master ready, pid {}", std::process::id());
    let result = master.serve();
    master.end_all();
    if result.is_ok() {
        log::info!("master ends");
    }
    result
}

struct Master {
    source: Source,
    plans: Plans,
    workers: Workers,
    channels: BTreeMap<ProcessId, Channel>,
    /// Channels that may hold more messages.
    unread: BTreeSet<ProcessId>,
    poll: Poll,
    signals: Signals,
    notifier: Notifier,
    hand_off: HandOffQueue,
    boards: Boards,
    hearts: Heartbeats,
    deaths: Deaths,
    load: LoadMeter,
    sentry: Sentry,
    status: StatusServer,
    waiting: control::Waiting,
    started: Instant,
    started_at: SystemTime,
    pid_file: Option<PidFile>,
    program: Program,
    /// The master that is to replace this one.
    successor: Option<Successor>,
    /// This master is to replace another one.
    inheritance: Option<Inheritance>,
    /// Actions that follow from what was found between two events.
    followed: Vec<Action>,
}

/// Why the loop ends.
type End = Result<(), StartupError>;

impl Master {
    /// Opens everything that must be open before the first process is started.
    fn open(config: Config, source: Source) -> Result<Self, StartupError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| StartupError::other(format!("cannot {what}: {error}"))
        };
        let inheritance = Inheritance::take()?;
        let kept = inheritance.as_ref().map(Inheritance::listeners).unwrap_or_default();
        let available = Available::inherit(&config, kept)?;
        let signals = Signals::new().map_err(failed("block the signals"))?;
        sys::hide_inherited();
        if let Some(mask) = config.processes.umask {
            umask(Mode::from_bits_truncate(mask));
        }
        warn_of_root(&config);
        // Workers that a template forks become our children when the process in between is gone (prctl(2)).
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|error| failed("become the workers' parent")(error.into()))?;
        let plan = Plan::make(config, available)?;
        let hand_off = inheritance.as_ref().and_then(Inheritance::hand_off);
        let hand_off =
            hand_off.unwrap_or_else(HandOffQueue::open).map_err(failed("make the hand-off queue"))?;
        let pid_file = plan.config.processes.pid_file.as_deref().filter(|_| inheritance.is_none());
        let pid_file = pid_file.map(PidFile::create).transpose()?;
        let poll = Poll::new().map_err(failed("make the event loop"))?;
        poll.registry()
            .register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)
            .map_err(failed("make the event loop"))?;
        if let Some(inheritance) = &inheritance {
            poll.registry()
                .register(&mut SourceFd(&inheritance.raw_fd()), UPGRADE, Interest::READABLE)
                .map_err(failed("watch the old master"))?;
        }
        let notifier = match inheritance {
            None => Notifier::from_environment(),
            Some(_) => Notifier::silent(),
        };
        let registry = poll.registry().try_clone().map_err(failed("make the event loop"))?;
        let mut status = StatusServer::new(registry);
        if inheritance.is_none() {
            status.listen(&plan.config)?;
        }
        let workers = Workers::new(plan.settings());
        let mut plans = Plans::default();
        plans.insert(0, plan);
        let program = Program::at_start();
        title::show_master(std::env::args_os().skip(1));
        Ok(Master {
            source,
            plans,
            workers,
            channels: BTreeMap::new(),
            unread: BTreeSet::new(),
            poll,
            signals,
            notifier,
            hand_off,
            boards: Boards::default(),
            hearts: Heartbeats::default(),
            deaths: Deaths::new(),
            load: LoadMeter::default(),
            sentry: Sentry::default(),
            status,
            waiting: control::Waiting::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            pid_file,
            program,
            successor: None,
            inheritance,
            followed: Vec::new(),
        })
    }

    fn serve(&mut self) -> End {
        let mut end = None;
        let first = self.workers.start(Instant::now());
        self.act(first, &mut end);
        let mut events = Events::with_capacity(64);
        while end.is_none() {
            let timeout = match self.unread.is_empty() {
                false => Some(Duration::ZERO),
                true => self.deadline().map(|at| at.saturating_duration_since(Instant::now())),
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StartupError::other(format!("the event loop failed: {error}"))),
                Ok(()) => {}
            }
            let mut somebody_came = false;
            for event in &events {
                match event.token() {
                    // Looked at in each turn.
                    SIGNALS | UPGRADE => {}
                    sentry::SOMEBODY => somebody_came = true,
                    token if StatusServer::owns(token) => self.status.on_event(token, Instant::now()),
                    token => self.unread.extend(u32::try_from(token.0).map(ProcessId)),
                }
            }
            self.receive(&mut end);
            while let Some(wish) = self.signals.next() {
                self.obey(wish, &mut end);
            }
            if self.workers.deadline().is_some_and(|at| Instant::now() >= at) {
                let actions = self.workers.on_deadline(Instant::now());
                self.act(actions, &mut end);
            }
            if somebody_came {
                let actions = self.workers.wake(Instant::now());
                self.act(actions, &mut end);
            }
            self.listen_to_hearts(&mut end);
            self.advance_upgrade();
            let followed = std::mem::take(&mut self.followed);
            self.act(followed, &mut end);
            self.status.on_deadline(Instant::now());
            self.answer_questions(&mut end);
            self.tidy();
            self.watch_for_somebody()?;
        }
        end.unwrap_or(Ok(()))
    }

    fn deadline(&self) -> Option<Instant> {
        let successor = self.successor.as_ref().and_then(Successor::deadline);
        let own = [self.workers.deadline(), self.notifier.deadline(), self.status.deadline()];
        own.into_iter().chain([self.hearts.deadline(), successor]).flatten().min()
    }

    /// After each turn: forgets what belongs to nobody any more, and says how things are.
    fn tidy(&mut self) {
        let workers = &self.workers;
        self.boards.tidy(|id| workers.knows(id));
        self.plans.tidy(|number| workers.is_current(number), |number| workers.has_process_of(number));
        self.notifier.observe(&workers.summary(), Instant::now());
        self.boards.tell_population(workers.population());
    }

    /// Without workers, this process sees who comes.
    fn watch_for_somebody(&mut self) -> End {
        let sockets = self.plans.listeners().chain([self.hand_off.receiving_end()]);
        self.sentry
            .stand(self.workers.is_asleep(), self.poll.registry(), sockets)
            .map_err(|error| StartupError::other(format!("cannot watch the listeners: {error}")))
    }

    fn look_at_load(&mut self) -> Vec<Action> {
        let now = Instant::now();
        let Some(config) = self.plans.latest() else { return Vec::new() };
        let capacity = Capacity::of(config);
        let mut load = self.load.look(&mut self.boards, self.workers.serving(), capacity, now);
        let waiting = self.plans.listeners().chain([self.hand_off.receiving_end()]);
        load.waits |= load::is_any_readable(waiting);
        self.workers.on_load(load, now)
    }

    fn obey(&mut self, wish: Wish, end: &mut Option<End>) {
        let now = Instant::now();
        let actions = match wish {
            Wish::Reload => {
                self.notifier.begin_reload();
                if self.successor.is_some() {
                    return log::warn!("no reload: another master is about to take over (USR2)");
                }
                self.workers.reload(now)
            }
            Wish::StopGracefully => {
                self.plans.close_listeners();
                self.cancel_upgrade();
                self.notifier.begin_stop(self.workers.longest_stop());
                self.workers.stop_gracefully(now)
            }
            Wish::StopFast => {
                self.plans.close_listeners();
                self.cancel_upgrade();
                self.notifier.begin_stop(Duration::ZERO);
                self.workers.stop_fast(now)
            }
            Wish::OneMore => self.workers.change_count(true, now),
            Wish::OneLess => self.workers.change_count(false, now),
            Wish::ReopenLogs => return self.reopen_logs(end),
            Wish::Upgrade => return self.begin_upgrade(),
            Wish::Reap => return self.reap(end),
        };
        self.act(actions, end);
    }

    /// Tells of every child that has ended, ours or one that was left to us, after all that it had to say.
    fn reap(&mut self, end: &mut Option<End>) {
        while let Some(pid) = sys::ended_child() {
            self.unread.extend(self.channels.keys());
            self.receive(end);
            let Some(status) = sys::reap(pid) else { return };
            // It may have been woken for a connection that it never took.
            self.hand_off.nudge();
            if self.successor_ended(pid, &workers::describe(status)) {
                continue;
            }
            self.log_death(pid, status);
            let actions = self.workers.on_exit(pid, status, Instant::now());
            self.act(actions, end);
        }
    }

    /// Reads what templates and workers have sent.
    fn receive(&mut self, end: &mut Option<End>) {
        for id in std::mem::take(&mut self.unread) {
            for turn in 0.. {
                if turn == MAX_MESSAGES_AT_ONCE {
                    self.unread.insert(id);
                    break;
                }
                // It may have been forgotten by what the last message led to.
                let Some(channel) = self.channels.get(&id) else { break };
                let received = channel.try_receive::<ToMaster>();
                let now = Instant::now();
                let actions = match received {
                    Ok(None) => break,
                    Ok(Some((ToMaster::Forked { slot, generation, pid }, _))) => {
                        let is_child = sys::is_child(pid);
                        self.workers.on_forked(id, ForkReport { slot, generation, pid, is_child }, now)
                    }
                    Ok(Some((ToMaster::Alive, _))) => self.on_alive(id, now),
                    Ok(Some((message, _))) => self.workers.on_message(id, message, now),
                    Err(ChannelError::Closed) => self.workers.on_closed(id, now),
                    Err(error) => self.workers.on_misbehaviour(id, &error.to_string(), now),
                };
                self.act(actions, end);
            }
        }
    }

    /// Executes actions, and those that follow from them, until there is none or the last one.
    fn act(&mut self, actions: Vec<Action>, end: &mut Option<End>) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            if end.is_some() {
                return;
            }
            match action {
                Action::StartTemplate { id, generation } => {
                    queue.extend(self.start(id, Role::Template { generation }));
                }
                Action::StartWorker { id, slot, generation } => {
                    queue.extend(self.start(id, Role::Worker { slot, generation }));
                }
                Action::Fork { template, id, slot, generation } => {
                    if let Err(error) = self.fork(template, id, slot, generation) {
                        queue.extend(self.workers.on_not_started(id, error.to_string(), Instant::now()));
                    }
                }
                Action::Tell(id, Order::Drain { hand_over }) => {
                    queue.extend(self.tell(id, &ToProcess::Drain { hand_over }, &[]));
                }
                Action::Tell(id, Order::Stop) => queue.extend(self.tell(id, &ToProcess::Stop, &[])),
                Action::LookAtLoad => queue.extend(self.look_at_load()),
                Action::Measure { id, pid } => {
                    if let Some(bytes) = self.memory_of(pid) {
                        queue.extend(self.workers.on_memory(id, bytes, Instant::now()));
                    }
                }
                Action::Kill { pid, signal } => {
                    self.deaths.note_kill(pid);
                    kill(pid, signal);
                }
                Action::Forget(id) => self.forget(id),
                Action::Configure { generation } => queue.extend(self.configure(generation)),
                Action::ReloadEnded { number, result } => self.tell_reload_ended(number, &result),
                Action::Exit(result) => *end = Some(result),
            }
        }
    }

    /// Reads the configuration anew for a generation that is to be started.
    fn configure(&mut self, generation: u32) -> Vec<Action> {
        match self.next_plan() {
            Ok(plan) => {
                let settings = plan.settings();
                self.plans.insert(generation, plan);
                self.workers.on_configured(settings, Instant::now())
            }
            Err(error) => self.workers.on_not_configured(&error.to_string(), Instant::now()),
        }
    }

    fn next_plan(&self) -> Result<Plan, StartupError> {
        let mut config = self.source.resolve()?;
        if let Some(before) = self.plans.latest() {
            plan::keep_fixed(&mut config, before);
        }
        let plan = Plan::make(config, self.plans.available())?;
        logger::configure(&plan.config);
        Ok(plan)
    }

    fn start(&mut self, id: ProcessId, role: Role) -> Vec<Action> {
        let Some(plan) = self.plans.of(role.generation()) else {
            return self.workers.on_not_started(id, "its generation is gone".into(), Instant::now());
        };
        let (pid, channel) = match plan.command.spawn() {
            Ok(started) => started,
            Err(error) => {
                let why = format!("{}: {error}", plan.command.program.display());
                return self.workers.on_not_started(id, why, Instant::now());
            }
        };
        let mut actions = self.workers.on_started(id, pid);
        actions.extend(match self.watch(id, channel) {
            Ok(()) => self.send_start(id, role),
            Err(error) => self.workers.on_misbehaviour(id, &error.to_string(), Instant::now()),
        });
        actions
    }

    fn send_start(&mut self, id: ProcessId, role: Role) -> Vec<Action> {
        let Some(plan) = self.plans.of(role.generation()) else { return Vec::new() };
        let message = start_message(role, &plan.config);
        let board = match role {
            Role::Template { .. } => None,
            Role::Worker { .. } => match self.boards.make(id, Layout::of(&plan.config)) {
                Ok(board) => Some(board),
                Err(error) => {
                    let why = format!("it can't have a page of the scoreboard ({error})");
                    return self.workers.on_misbehaviour(id, &why, Instant::now());
                }
            },
        };
        let Some(channel) = self.channels.get(&id) else { return Vec::new() };
        let mut descriptors: Vec<BorrowedFd<'_>> = plan.sockets.descriptors().collect();
        descriptors.extend(self.hand_off.ends());
        descriptors.extend(board.as_ref().map(AsFd::as_fd));
        descriptors.extend(plan.access_log());
        let result = channel.send(&message, &descriptors);
        self.sent(id, result)
    }

    /// Sends a message. Whoever does not read is of no use any more.
    fn tell(&mut self, id: ProcessId, message: &ToProcess, descriptors: &[BorrowedFd<'_>]) -> Vec<Action> {
        let Some(channel) = self.channels.get(&id) else { return Vec::new() };
        let result = channel.send(message, descriptors);
        self.sent(id, result)
    }

    fn sent(&mut self, id: ProcessId, result: io::Result<()>) -> Vec<Action> {
        match result {
            Ok(()) => Vec::new(),
            // It has ended: its exit status will say why.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Vec::new()
            }
            Err(error) => {
                let why = format!("it does not read what it is told ({error})");
                self.workers.on_misbehaviour(id, &why, Instant::now())
            }
        }
    }

    /// Gives a worker that is to be forked its channel and its page of the scoreboard.
    fn fork(&mut self, template: ProcessId, id: ProcessId, slot: u16, generation: u32) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let gone = || io::Error::other("its template is gone");
        let channel = self.channels.get(&template).ok_or_else(gone)?;
        let plan = self.plans.of(generation).ok_or_else(gone)?;
        let board = self.boards.make(id, Layout::of(&plan.config))?;
        channel.send(&ToProcess::Fork { slot, generation }, &[theirs.as_fd(), board.as_fd()])?;
        self.watch(id, ours)
    }

    fn watch(&mut self, id: ProcessId, channel: Channel) -> io::Result<()> {
        let token = Token(usize::try_from(id.0).map_err(io::Error::other)?);
        let descriptor = channel.as_fd().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        self.channels.insert(id, channel);
        Ok(())
    }

    fn forget(&mut self, id: ProcessId) {
        if let Some(channel) = self.channels.remove(&id) {
            let descriptor = channel.as_fd().as_raw_fd();
            // Closing it would do the same.
            let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        }
        self.unread.remove(&id);
    }

    /// Looks at the cheap figure first: the exact one is never above it. That one is withheld from a master who may not
    /// trace its workers, for one.
    fn memory_of(&self, pid: i32) -> Option<u64> {
        let limit = self.plans.latest()?.processes.recycling.max_memory_bytes?;
        let resident = resident_bytes(pid).ok()?;
        if resident <= limit {
            return Some(resident);
        }
        Some(process_memory(pid).map_or(resident, |memory| memory.proportional))
    }

    fn reopen_logs(&mut self, end: &mut Option<End>) {
        let mut reopened = BTreeMap::new();
        for (generation, plan) in self.plans.all_mut() {
            match access_log::open(&plan.config.access_log) {
                Err(error) => log::error!("{error}: the old one stays in use"),
                Ok(None) => log::info!("USR1: there is no access log to reopen"),
                Ok(Some(file)) => {
                    log::info!("the access log was reopened");
                    if let Ok(copy) = file.try_clone() {
                        reopened.insert(generation, copy);
                    }
                    plan.access_log = Some(file);
                }
            }
        }
        for id in self.channels.keys().copied().collect::<Vec<_>>() {
            let file = self.workers.generation_of(id).and_then(|number| reopened.get(&number));
            if let Some(file) = file {
                let actions = self.tell(id, &ToProcess::AccessLog, &[file.as_fd()]);
                self.act(actions, end);
            }
        }
    }

    /// Leaves nothing behind.
    fn end_all(&mut self) {
        for pid in self.workers.pids().collect::<Vec<_>>() {
            kill(pid, libc::SIGKILL);
            sys::reap(pid);
        }
    }
}

fn start_message(role: Role, config: &Config) -> ToProcess {
    // No process id is above 2^22 (proc(5), pid_max).
    let master_pid = nix::unistd::getpid().as_raw();
    ToProcess::Start { role, master_pid, config: Box::new(config.clone()) }
}

/// `pid` is a child that has not been reaped, so that it can't have become another's number.
fn kill(pid: i32, signal: i32) {
    let Ok(signal) = nix::sys::signal::Signal::try_from(signal) else { return };
    if let Err(error) = nix::sys::signal::kill(Pid::from_raw(pid), signal) {
        log::error!("cannot send {} to process {pid}: {error}", signal.as_str());
    }
}

fn warn_of_root(config: &Config) {
    let uid = config.processes.identity.as_ref().map_or_else(|| Uid::effective().as_raw(), |user| user.uid);
    if uid == 0 {
        log::warn!(
            "scripts and applications run as root: whoever finds a fault in one of them owns this machine; name another \
             user with --user"
        );
    }
}
