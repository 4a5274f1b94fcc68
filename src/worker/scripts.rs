//! The CGI scripts of a worker: how many run, who waits, and which connection each one answers.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use crate::config::CgiConfig;
use crate::gateway::{Body, Request};
use crate::handler::HandlerError;
use crate::handler::cgi::warm::Notice;
use crate::handler::cgi::{HeaderLimits, Pipe, Script, ScriptEvent, ScriptRun, Warm, WarmSource};
use crate::protocol::RequestId;
use crate::sys::spawn::Exit;

use super::keyed::{Key, Keyed, Source};
use super::timers::{Timed, Timers};

/// A script that runs, or has been told to end and is not reaped yet.
#[derive(Debug)]
struct Entry {
    run: ScriptRun,
    /// `None` once its response has ended.
    owner: Option<(Key, RequestId)>,
    timer: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Scripts {
    config: CgiConfig,
    header_limits: HeaderLimits,
    running: Keyed<Entry>,
    waiting: VecDeque<(Key, RequestId, Instant)>,
    refused: u64,
    warm: Option<Warm>,
    /// The scripts of warm interpreters, by what their notices call them.
    warm_ids: HashMap<u32, Key>,
}

impl Scripts {
    pub fn new(config: CgiConfig, header_limits: HeaderLimits) -> Self {
        Scripts {
            warm: Warm::new(&config),
            config,
            header_limits,
            running: Keyed::default(),
            waiting: VecDeque::new(),
            refused: 0,
            warm_ids: HashMap::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Requests that wait for a script's turn.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Its timer is set to then.
    pub fn awaits(&self, key: Key, at: Instant) -> bool {
        self.running.get(key).is_some_and(|entry| entry.timer == Some(at))
    }

    /// Scripts whose clients have left, and which have ended themselves, hold up nobody while their children have time to
    /// follow; but no more of them at once than there may be scripts.
    pub fn may_start(&self) -> bool {
        let (all, most) = (self.running.len(), self.config.max_scripts);
        all < most
            || (all < most.saturating_mul(2)
                && self.running.values().filter(|entry| !entry.run.is_remnant()).count() < most)
    }

    pub fn may_wait(&self) -> bool {
        self.waiting.len() < self.config.max_waiting
    }

    pub fn wait(&mut self, connection: Key, id: RequestId, now: Instant) {
        self.waiting.push_back((connection, id, now));
    }

    /// Since when the first that waits does so.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.waiting.front().map(|(_, _, since)| *since)
    }

    /// Takes out one that has waited for `limit`, or longer.
    pub fn next_late(&mut self, now: Instant, limit: Duration) -> Option<(Key, RequestId)> {
        let since = self.waiting_since()?;
        if now.saturating_duration_since(since) < limit {
            return None;
        }
        self.waiting.pop_front().map(|(connection, id, _)| (connection, id))
    }

    /// Its client has left.
    pub fn forget_waiting(&mut self, connection: Key, id: RequestId) {
        self.waiting.retain(|waiting| (waiting.0, waiting.1) != (connection, id));
    }

    /// Who may start next, if there is room. The caller starts it, or asks again if it is gone.
    pub fn next_waiting(&mut self) -> Option<(Key, RequestId, Instant)> {
        if self.may_start() { self.waiting.pop_front() } else { None }
    }

    /// A request found the queue full. One line for the first and for each further hundred.
    pub fn count_refused(&mut self) {
        if self.refused.is_multiple_of(100) {
            log::warn!(
                "{} scripts run (--cgi-max-scripts) and {} requests wait (--cgi-queue): answered 503; {} so far",
                self.running.len(),
                self.waiting.len(),
                self.refused + 1
            );
        }
        self.refused += 1;
    }

    pub fn start(
        &mut self,
        connection: Key,
        id: RequestId,
        script: &Script,
        request: &Request,
        registry: &Registry,
        now: Instant,
    ) -> Result<Key, HandlerError> {
        let warm = self.warm.as_mut();
        let run = ScriptRun::spawn(script, &request.meta, &self.config, self.header_limits, warm, now)?;
        self.watch_warm(registry);
        let warm_id = run.warm_id();
        let owner = Some((connection, id));
        let key = self.running.insert_with(|_| Entry { run, owner, timer: None });
        if let Some(entry) = self.running.get_mut(key)
            && let Err(error) = register(&entry.run, key, registry)
        {
            log::error!(request:% = request.id_text(); "{}: its pipes can't be watched: {error}", script.path().display());
            // Dropping it ends its process group.
            self.running.remove(key);
            return Err(HandlerError::unavailable(error));
        }
        if let Some(id) = warm_id {
            self.warm_ids.insert(id, key);
        }
        Ok(key)
    }

    pub fn wants_input(&self, key: Key) -> bool {
        self.running.get(key).is_none_or(|entry| entry.run.wants_input())
    }

    /// The connection whose body a script takes more of.
    pub fn hungry_owner(&self, key: Key) -> Option<Key> {
        let entry = self.running.get(key)?;
        entry.owner.filter(|_| entry.run.wants_input()).map(|(connection, _)| connection)
    }

    pub fn feed_chunk(&mut self, key: Key, chunk: Bytes) {
        if let Some(entry) = self.running.get_mut(key) {
            entry.run.feed(chunk);
        }
    }

    /// What was collected before the script started.
    pub fn feed(&mut self, key: Key, body: Body) {
        let Some(entry) = self.running.get_mut(key) else { return };
        match body {
            Body::Empty => {}
            Body::Memory(bytes) => entry.run.feed(bytes),
            Body::File { file, length } => entry.run.feed_file(file, length),
        }
    }

    pub fn finish_input(&mut self, key: Key) {
        if let Some(entry) = self.running.get_mut(key) {
            entry.run.finish_input();
        }
    }

    /// How the script has ended, and how much time of a processor it has used, if it has ended.
    pub fn outcome(&self, key: Key) -> (Option<Exit>, Option<Duration>) {
        self.running.get(key).map(|entry| entry.run.outcome()).unwrap_or_default()
    }

    /// Nobody waits for its response: it is told to end.
    pub fn cancel(&mut self, key: Key, why: &str, now: Instant) {
        if let Some(entry) = self.running.get_mut(key) {
            entry.owner = None;
            entry.run.cancel(why, now);
        }
    }

    /// Its response is complete before it has ended.
    pub fn release(&mut self, key: Key, now: Instant) {
        if let Some(entry) = self.running.get_mut(key) {
            entry.owner = None;
            entry.run.release(now);
        }
    }

    /// The worker ends: so do the process groups of its scripts, at once.
    pub fn end_all(&mut self, now: Instant) {
        for entry in self.running.values_mut() {
            entry.run.cancel("the worker ends", now);
        }
        self.running = Keyed::default();
        self.waiting.clear();
    }

    pub fn set_output_paused(&mut self, key: Key, paused: bool) {
        if let Some(entry) = self.running.get_mut(key) {
            entry.run.set_output_paused(paused);
        }
    }

    pub fn on_event(&mut self, key: Key, which: u8, now: Instant) {
        if let Some(entry) = self.running.get_mut(key) {
            entry.run.on_ready(Pipe::ALL[usize::from(which & 3)], now);
        }
    }

    /// The next thing that a script says, and whom it is for.
    pub fn poll_event(&mut self, key: Key) -> Option<(Option<(Key, RequestId)>, ScriptEvent)> {
        let entry = self.running.get_mut(key)?;
        let event = entry.run.poll_event()?;
        let owner = entry.owner;
        if matches!(event, ScriptEvent::End | ScriptEvent::LocalRedirect(_) | ScriptEvent::Failed(_)) {
            entry.owner = None;
        }
        Some((owner, event))
    }

    /// Forgets a script that is reaped, else sees to its deadline.
    pub fn settle(&mut self, key: Key, timers: &mut Timers) {
        let Some(entry) = self.running.get_mut(key) else { return };
        if entry.run.is_over() {
            if let Some(id) = entry.run.warm_id() {
                self.warm_ids.remove(&id);
            }
            self.running.remove(key);
        } else {
            timers.arm(Timed::Script(key), entry.run.deadline(), &mut entry.timer);
        }
    }

    pub fn on_timer(&mut self, key: Key, now: Instant) {
        if let Some(entry) = self.running.get_mut(key) {
            entry.timer = None;
            if entry.run.deadline().is_some_and(|deadline| now >= deadline) {
                entry.run.on_deadline(now);
            }
        }
    }
}

impl Scripts {
    /// A warm interpreter has something to say. Gives the scripts that it concerns.
    pub fn on_warm(&mut self, source: WarmSource, registry: &Registry, now: Instant) -> Vec<Key> {
        let Some(warm) = &mut self.warm else { return Vec::new() };
        let notices = warm.on_ready(source, now);
        self.notify(notices, registry, now)
    }

    /// Warm interpreters are started and ended as it is time to. Gives the scripts that it concerns.
    pub fn on_warm_time(&mut self, registry: &Registry, now: Instant) -> Vec<Key> {
        let Some(warm) = &mut self.warm else { return Vec::new() };
        if warm.deadline().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let notices = warm.on_time(now);
        self.notify(notices, registry, now)
    }

    /// When [`on_warm_time`](Self::on_warm_time) has something to do.
    pub fn warm_deadline(&self) -> Option<Instant> {
        self.warm.as_ref().and_then(Warm::deadline)
    }

    fn notify(&mut self, notices: Vec<(u32, Notice)>, registry: &Registry, now: Instant) -> Vec<Key> {
        let mut touched = Vec::new();
        for (id, notice) in notices {
            let entry =
                self.warm_ids.get(&id).copied().and_then(|key| Some((key, self.running.get_mut(key)?)));
            let Some((key, entry)) = entry else {
                if let (Notice::Started(pid), Some(warm)) = (notice, &self.warm) {
                    warm.disown(id, pid);
                }
                continue;
            };
            if entry.run.on_notice(notice, now)
                && let Err(error) = register_pipe(&entry.run, Pipe::Exit, key, registry)
            {
                log::error!("the end of a script can't be watched: {error}");
                entry.run.cancel("it can't be watched", now);
            }
            touched.push(key);
        }
        self.watch_warm(registry);
        touched
    }

    fn watch_warm(&mut self, registry: &Registry) {
        let Some(warm) = &mut self.warm else { return };
        for (source, descriptor) in warm.sources() {
            let token = Source::Warm(source).token();
            let mut descriptor = SourceFd(&descriptor.as_raw_fd());
            if let Err(error) = registry.register(&mut descriptor, token, Interest::READABLE) {
                // Nothing is heard of it: its requests run the classic way once they have waited for it.
                log::error!("a warm interpreter can't be watched: {error}");
            }
        }
    }
}

fn register(run: &ScriptRun, key: Key, registry: &Registry) -> io::Result<()> {
    for pipe in Pipe::ALL {
        register_pipe(run, pipe, key, registry)?;
    }
    Ok(())
}

fn register_pipe(run: &ScriptRun, pipe: Pipe, key: Key, registry: &Registry) -> io::Result<()> {
    let Some(descriptor) = run.descriptor(pipe) else { return Ok(()) };
    let interest = if pipe == Pipe::Stdin { Interest::WRITABLE } else { Interest::READABLE };
    let which = Pipe::ALL.iter().position(|known| *known == pipe).unwrap_or_default() as u8;
    let token = Source::Script(key, which).token();
    registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, interest)
}
