//! The state of the event loop: everything that happens between two waits. It lies behind one lock, so that the
//! application's thread and the relief thread can take turns.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::event::Event;

use crate::channel::{Channel, ChannelError, ToMaster, ToProcess};
use crate::handler::cgi::ScriptEvent;
use crate::process::title;
use crate::protocol::{RequestId, ResponseHead};
use crate::scoreboard::{Counter, Gauge, Runner};

use super::answer::Block;
use super::connection::{Connection, Fate};
use super::core::Core;
use super::flight::Job;
use super::hand_off::Drain;
use super::keyed::{Key, Keyed, Source};
use super::listener::Listeners;
use super::signals::Signals;
use super::timers::Timed;

/// So many bytes of a script's response are looked at before any of them is sent: what a pipe holds.
const MOST_HELD: usize = 64 * 1024;

/// How far the worker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; what runs is finished.
    Draining,
    /// The threads return.
    Ended,
}

pub(crate) struct State {
    pub core: Core,
    pub connections: Keyed<Connection>,
    pub listeners: Listeners,
    pub channel: Arc<Channel>,
    pub phase: Phase,
    /// When a drain ends whatever still runs.
    pub drain_deadline: Option<Instant>,
    /// Application threads that wait for a slow reader.
    pub waiting_for_room: usize,
    pub signals: Signals,
    /// Requests that are on application threads.
    pub running: usize,
    /// Until when whoever waits for events does so at most.
    pub waits_until: Option<Instant>,
}

/// The begin of a script's response, while it is looked whether the rest is here too: its length can be told then.
#[derive(Default)]
struct Held {
    owner: Option<(Key, RequestId)>,
    head: Option<ResponseHead>,
    body: Vec<Bytes>,
    bytes: usize,
}

impl Held {
    /// Gives back what is not held.
    fn hold(&mut self, connection: Key, id: RequestId, event: ScriptEvent) -> Option<ScriptEvent> {
        match event {
            ScriptEvent::Head(head) if head.content_length.is_none() => {
                self.owner = Some((connection, id));
                self.head = Some(head);
                None
            }
            ScriptEvent::Body(bytes) if self.head.is_some() && self.bytes + bytes.len() <= MOST_HELD => {
                self.bytes += bytes.len();
                self.body.push(bytes);
                None
            }
            event => Some(event),
        }
    }
}

impl State {
    pub fn on_event(&mut self, event: &Event) {
        match Source::of(event.token()) {
            Source::Channel => self.on_channel(),
            Source::Waker => {}
            Source::Signals => self.signals.on_readable(),
            Source::HandOff => self.receive_connections(),
            Source::Listener(index) => self.accept(index as usize),
            Source::Connection(key) => {
                self.with_connection(key, |connection, core| connection.on_event(event, core))
            }
            Source::Script(key, which) => {
                self.core.scripts.on_event(key, which, self.core.now);
                // Its output and its exit mostly come in one turn, and go out in one write.
                self.core.pump.push_back(key);
            }
            Source::Warm(source) => {
                let touched = self.core.scripts.on_warm(source, &self.core.registry, self.core.now);
                touched.into_iter().for_each(|key| self.pump(key));
            }
        }
    }

    /// After the events of a turn: deadlines, connections and scripts that can go on at once.
    pub fn finish_turn(&mut self) {
        while let Some(timed) = self.core.timers.due(self.core.now) {
            match timed {
                Timed::Connection(key) => self.with_connection(key, |connection, core| {
                    connection.timer = None;
                    connection.on_timer(core)
                }),
                Timed::Script(key) => {
                    self.core.scripts.on_timer(key, self.core.now);
                    self.pump(key);
                }
            }
        }
        let touched = self.core.scripts.on_warm_time(&self.core.registry, self.core.now);
        touched.into_iter().for_each(|key| self.pump(key));
        let (connections, scripts) = (&self.connections, &self.core.scripts);
        self.core.timers.tidy(connections.len() + scripts.len(), |timed, at| match timed {
            Timed::Connection(key) => {
                connections.get(key).is_some_and(|connection| connection.timer == Some(at))
            }
            Timed::Script(key) => scripts.awaits(key, at),
        });
        // Only those of this turn: a connection that yields comes again after the next look at the others.
        for _ in 0..self.core.revisit.len() {
            let Some(key) = self.core.revisit.pop_front() else { break };
            self.with_connection(key, |connection, core| connection.advance(core));
        }
        self.pump_scripts();
        self.refuse_late();
        if self.core.hand_off.on_time(self.core.now) {
            self.advance_all();
        }
        if std::mem::take(&mut self.core.hand_off.is_waited_for) {
            self.refuse_late_arrival();
        }
        self.make_room();
        self.listeners.update(&mut self.core, self.connections.len(), self.phase);
        if self.core.wear.is_due() {
            self.ask_for_replacement();
        }
        if self.drain_deadline.is_some_and(|deadline| self.core.now >= deadline)
            && self.phase == Phase::Draining
        {
            log::warn!(
                "--graceful-timeout is over: {} connections and their requests are cut",
                self.connections.len()
            );
            self.name_stuck();
            self.end();
        }
        self.show_load();
        self.ends_now();
    }

    /// What was to be written together is written.
    pub fn write_held_back(&mut self) {
        for index in 0..self.core.held_back.len() {
            let key = self.core.held_back[index];
            self.with_connection(key, |connection, core| connection.after_response(core));
        }
        self.core.held_back.clear();
    }

    /// How much there is to do, for the scoreboard.
    pub fn show_load(&mut self) {
        let Core { board, ready, scripts, .. } = &mut self.core;
        board.set(Gauge::BusyThreads, self.running);
        board.set(Gauge::Queue, ready.len());
        board.set(Gauge::Connections, self.connections.len());
        board.set(Gauge::Scripts, scripts.len());
        board.set(Gauge::ScriptQueue, scripts.waiting());
    }

    /// How long the next wait may be; `None`: until something happens.
    pub fn wait_limit(&mut self) -> Option<Duration> {
        if !self.core.revisit.is_empty() || !self.core.pump.is_empty() {
            return Some(Duration::ZERO);
        }
        self.waits_until = self.deadline();
        Some(self.waits_until?.saturating_duration_since(Instant::now()))
    }

    /// Another thread waits for events, and what has changed since it began can't wait for as long.
    pub fn has_more_than_is_waited_for(&self) -> bool {
        let is_earlier = || match (self.deadline(), self.waits_until) {
            (Some(deadline), Some(until)) => deadline < until,
            (deadline, None) => deadline.is_some(),
            (None, Some(_)) => false,
        };
        !self.core.revisit.is_empty() || !self.core.pump.is_empty() || is_earlier()
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.core.timers.next(),
            self.listeners.retry_at(),
            self.core.hand_off.deadline(),
            self.core.scripts.warm_deadline(),
            self.drain_deadline,
            self.queue_deadline(),
            self.room_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Does something with a connection, if it is still there, and removes it if that was its end.
    pub fn with_connection(&mut self, key: Key, act: impl FnOnce(&mut Connection, &mut Core) -> Fate) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if act(connection, &mut self.core) == Fate::Close {
            self.connections.remove(key);
        }
    }

    fn accept(&mut self, index: usize) {
        let Some(accepted) = self.listeners.accept(index, &mut self.core) else { return };
        let key = self.connections.insert_with(|key| accepted.into_connection(key));
        // The request has mostly come with the connection: no wait in between.
        self.with_connection(key, |connection, core| connection.advance(core));
    }

    fn pump_scripts(&mut self) {
        for _ in 0..self.core.pump.len() {
            let Some(key) = self.core.pump.pop_front() else { break };
            self.pump(key);
        }
        while let Some((connection, id, since)) = self.core.scripts.next_waiting() {
            self.with_connection(connection, |connection, core| {
                connection.start_queued_script(id, since, core);
                connection.advance(core)
            });
        }
    }

    /// Takes what a script has said to the connection that it answers.
    fn pump(&mut self, key: Key) {
        let mut touched = None;
        let mut held = Held::default();
        while let Some((owner, event)) = self.core.scripts.poll_event(key) {
            let Some((connection, id)) = owner else { continue };
            touched = Some(connection);
            let Some(event) = held.hold(connection, id, event) else { continue };
            if matches!(event, ScriptEvent::End) {
                self.tell_length(&mut held);
            }
            self.let_go(&mut held);
            self.say(connection, id, event);
        }
        self.let_go(&mut held);
        // It says nothing while it reads: its connection goes on all the same, once there is room for more of the body.
        let touched = touched.or_else(|| self.core.scripts.hungry_owner(key));
        self.core.scripts.settle(key, &mut self.core.timers);
        if let Some(connection) = touched {
            self.with_connection(connection, |connection, core| connection.advance(core));
        }
    }

    /// The whole response is here. The length of a body that was not sent (RFC 9110 §9.3.2, §15.4.5) is not known by that.
    fn tell_length(&mut self, held: &mut Held) {
        let Some((connection, id)) = held.owner else { return };
        let flight = self.connections.get_mut(connection).and_then(|connection| connection.flight(id));
        let is_head = flight.is_none_or(|flight| flight.is_head);
        if let Some(head) = held.head.as_mut().filter(|head| !is_head && head.status != 304) {
            head.content_length = Some(held.bytes as u64);
        }
    }

    fn let_go(&mut self, held: &mut Held) {
        let Held { owner, head, body, .. } = std::mem::take(held);
        let Some((connection, id)) = owner else { return };
        if let Some(head) = head {
            self.say(connection, id, ScriptEvent::Head(head));
        }
        for bytes in body {
            self.say(connection, id, ScriptEvent::Body(bytes));
        }
    }

    fn say(&mut self, connection: Key, id: RequestId, event: ScriptEvent) {
        self.with_connection(connection, |connection, core| {
            match event {
                ScriptEvent::Head(mut head) => connection.send_head(id, &mut head, core),
                ScriptEvent::Body(bytes) => {
                    connection.send_block(id, Block::Shared(bytes), core);
                    connection.resume_scripts(core);
                }
                ScriptEvent::Stderr(bytes) => connection.protocol.send_stderr(id, &bytes),
                ScriptEvent::End => connection.send_end(id, core),
                ScriptEvent::LocalRedirect(location) => connection.redirect(id, &location, core),
                ScriptEvent::Failed(error) => {
                    connection.log_failure(id, &error);
                    core.board.count(Counter::ScriptsFailed);
                    if error.status() == 504 {
                        core.board.count(Counter::ScriptTimeout);
                    }
                    connection.answer_error(id, error.status(), core);
                }
            }
            Fate::Keep
        });
    }

    fn on_channel(&mut self) {
        loop {
            match self.channel.try_receive::<ToProcess>() {
                Ok(None) => return,
                Ok(Some((ToProcess::Drain { hand_over: true }, _))) => self.drain(Drain::HandOver),
                Ok(Some((ToProcess::Drain { hand_over: false }, _))) => self.drain(Drain::Close),
                Ok(Some((ToProcess::Stop, _))) => return self.end(),
                Ok(Some((ToProcess::AccessLog, mut files))) => {
                    if let Some(file) = files.pop() {
                        self.core.access_log.reopen(file);
                    }
                }
                Ok(Some((ToProcess::Ping, _))) => {
                    if let Err(error) = self.channel.send(&ToMaster::Alive, &[]) {
                        log::debug!("the master can't be answered: {error}");
                    }
                }
                Ok(Some((other, _))) => {
                    log::warn!("the master sent a message that is not for a worker: {other:?}")
                }
                Err(ChannelError::Closed) => {
                    log::warn!("the master is gone: this worker ends");
                    return self.end();
                }
                Err(error) => {
                    log::error!("the master can't be understood: {error}; this worker ends");
                    return self.end();
                }
            }
        }
    }

    /// Takes no new connection. `how` says what becomes of those that are here; `Close` may follow `HandOver`, when
    /// those that were to take them end too.
    pub fn drain(&mut self, how: Drain) {
        match self.phase {
            Phase::Serving => {
                self.phase = Phase::Draining;
                self.drain_deadline = Instant::now().checked_add(self.core.config.processes.graceful_timeout);
            }
            Phase::Draining if self.core.drain == Drain::HandOver && how == Drain::Close => {}
            Phase::Draining | Phase::Ended => return,
        }
        self.core.drain = how;
        self.core.board.drains();
        title::show_draining();
        if how == Drain::HandOver {
            self.hand_over_ready();
            self.advance_all();
        } else {
            for key in self.connections.keys() {
                self.with_connection(key, |connection, core| connection.drain(core));
            }
        }
        // Now, not at the end of a turn: a connection that came in between would never be answered if the application
        // hangs.
        self.listeners.update(&mut self.core, self.connections.len(), self.phase);
    }

    /// This worker has had its requests: it goes on until its successor is ready, and the master says so.
    fn ask_for_replacement(&mut self) {
        let requests = self.core.wear.requests();
        if self.phase == Phase::Serving
            && let Err(error) = self.channel.send(&ToMaster::WantsReplacement { requests }, &[])
        {
            log::error!("the master can't be told that this worker is to be replaced: {error}");
        }
    }

    fn advance_all(&mut self) {
        for key in self.connections.keys() {
            self.with_connection(key, |connection, core| connection.advance(core));
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.core.scripts.end_all(self.core.now);
    }

    fn is_drained(&mut self) -> bool {
        self.connections.is_empty()
            && self.core.ready.is_empty()
            && self.core.scripts.is_empty()
            // With nobody left, what has been handed over is for this worker too.
            && (self.core.drain == Drain::HandOver || self.core.hand_off.may_end(self.core.now))
    }

    /// The next request for an application thread whose client still waits.
    pub fn take_job(&mut self) -> Option<Job> {
        while let Some(job) = self.core.ready.pop_front() {
            let Some(job) = self.worth_running(job) else { continue };
            let now = self.core.now;
            let Some(connection) = self.connections.get_mut(job.connection) else { continue };
            let what = std::mem::take(&mut connection.spare_what);
            let Some(flight) = connection.flight(job.id) else { continue };
            flight.hand_out(&job.request, what, now);
            let what = (&flight.what.text[..], flight.what.of);
            flight.place = self.core.board.begin_again(Runner::Thread, now, what, job.request.id_text());
            self.core.board.waited(now.saturating_duration_since(job.complete_at));
            connection.arm(&mut self.core);
            self.running += 1;
            self.show_load();
            return Some(job);
        }
        None
    }

    /// Requests wait that came together, and the others have not been looked at for a while: whoever is between two of
    /// them looks. Small requests are never relieved, however many of them wait.
    pub fn look_is_due(&self) -> bool {
        !self.core.ready.is_empty() && self.core.now >= self.core.look_at
    }

    /// The last request has gone while the worker drains: nobody has to wait any longer.
    pub fn ends_now(&mut self) -> bool {
        if self.phase == Phase::Draining && self.is_drained() {
            self.phase = Phase::Ended;
        }
        self.phase == Phase::Ended
    }

    pub fn watch_channel(&mut self) -> io::Result<()> {
        let raw = self.channel.as_fd().as_raw_fd();
        let mut source = mio::unix::SourceFd(&raw);
        self.core.registry.register(&mut source, Source::Channel.token(), mio::Interest::READABLE)
    }
}
