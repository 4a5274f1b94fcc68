//! One worker process: an event loop, and the threads on which an application answers.
//!
//! Whoever sits in the driver's seat (the lock of [`Driver`]) waits for events and handles them; the state that they
//! change lies behind a second lock, which nobody holds while waiting. An application thread drives until a request is
//! complete, leaves the seat, answers, and comes back. When all of them have been away for a moment, the
//! relief thread (`relief.rs`) drives in their place, so that the other connections go on.

mod access_log;
mod answer;
mod application;
mod body;
mod connection;
mod core;
mod dispatch;
mod flight;
mod hand_off;
mod intake;
mod keyed;
mod listener;
mod overdue;
mod overload;
#[cfg(test)]
mod overload_tests;
mod protocol;
mod reader;
mod relief;
mod response;
mod room;
mod scripts;
mod seat;
mod signals;
mod socket;
mod state;
#[cfg(test)]
mod tests;
mod throttle;
mod timers;
mod wear;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once};
use std::time::Duration;

use mio::{Events, Poll, Waker};
use nix::time::{ClockId, clock_gettime};

use crate::channel::ToMaster;
use crate::config::{Config, ListenerProtocol};
use crate::gateway::{Endpoint, Peer};
use crate::logger;
use crate::process::{WorkerExit, WorkerStart};
use crate::scoreboard::Scoreboard;
use crate::sys::{self, epoll};

pub use application::{Application, Call};
pub use response::{Flow, Response};

use self::core::Core;
use access_log::{AccessLog, Whereabouts};
use connection::{Connection, Fate};
use flight::Job;
use hand_off::Drain;
use keyed::{Keyed, Source};
use listener::Listeners;
use overdue::Report;
use protocol::Protocol;
use seat::Seat;
use signals::Signals;
use socket::Socket;
use state::{Phase, State};

/// Events of one wait.
const EVENTS: usize = 256;

/// The table of descriptors is made this large at the start: 8 bytes for each. One with more enlarges it when it has to.
const MOST_DESCRIPTORS: u64 = 8192;

/// Time for which an application thread goes from request to request without a look for events.
const LOOK_AFTER: Duration = Duration::from_millis(1);

/// Who holds it waits for events and handles them.
struct Driver {
    poll: Poll,
    events: Events,
}

struct Shared {
    config: Arc<Config>,
    driver: Mutex<Driver>,
    state: Mutex<State>,
    /// Wakes the thread that waits.
    waker: Waker,
    /// The poll's descriptor, which the relief thread watches without the seat.
    poll_fd: OwnedFd,
    seat: Seat,
    /// Application threads that wait for a slow reader are told of progress.
    room: Condvar,
    stacks: Stacks,
    /// The access log tells the CPU time of applications.
    times_application: bool,
    started: Once,
    exit: AtomicI32,
}

/// Gives the Python stack of every thread, as far as it can be had without the interpreter's lock: called on a thread
/// that the interpreter does not know, when a request has run for too long.
pub type Stacks = Box<dyn Fn() -> String + Send + Sync>;

/// A running worker: share it with every application thread.
pub struct Worker {
    shared: Arc<Shared>,
}

/// Why an application thread stopped driving.
enum Driven {
    Job(Job),
    /// A signal has come, or has interrupted the wait.
    Signal,
    Ended,
}

impl Worker {
    /// Takes the listeners over. Call it after the last fork.
    pub fn new(start: WorkerStart, stacks: Stacks) -> io::Result<Worker> {
        if let Err(error) = sys::enlarge_table(MOST_DESCRIPTORS) {
            log::debug!("the table of descriptors can't be enlarged: {error}");
        }
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Source::Waker.token())?;
        let poll_fd = epoll::descriptor(&poll)?;
        let config = start.config.clone();
        let registry = poll.registry().try_clone()?;
        let no_board = || io::Error::new(ErrorKind::InvalidInput, "it came without a page of the scoreboard");
        let board = Scoreboard::open(start.board.as_ref().ok_or_else(no_board)?)?;
        let whereabouts =
            Whereabouts { slot: start.slot, generation: start.generation, pid: std::process::id() };
        let access_log = AccessLog::new(start.access_log, config.clone(), whereabouts);
        let times_application = access_log.wants_cpu_time();
        let core = Core::new(config.clone(), registry, access_log, start.hand_off, board);
        let allowed = match config.trust.web_server_addrs.as_deref().map(str::parse) {
            Some(Err(error)) => return Err(io::Error::new(ErrorKind::InvalidInput, format!("{error}"))),
            Some(Ok(allowed)) => Some(allowed),
            None => None,
        };
        let protocols = config.listeners.iter().map(|listener| listener.protocol);
        let listeners = Listeners::new(start.listeners, protocols, allowed, poll_fd.try_clone()?)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let channel = Arc::new(start.channel);
        let mut state = State {
            core,
            connections: Keyed::default(),
            listeners,
            channel,
            phase: Phase::Serving,
            drain_deadline: None,
            waiting_for_room: 0,
            signals: Signals::default(),
            running: 0,
            waits_until: None,
        };
        state.watch_channel()?;
        let shared = Arc::new(Shared {
            config,
            driver: Mutex::new(Driver { poll, events: Events::with_capacity(EVENTS) }),
            state: Mutex::new(state),
            waker,
            poll_fd,
            seat: Seat::new(relief::PATIENCE)?,
            room: Condvar::new(),
            stacks,
            times_application,
            started: Once::new(),
            exit: AtomicI32::new(WorkerExit::Done.code()),
        });
        Ok(Worker { shared })
    }

    /// Serves a FastCGI connection that nobody had to accept.
    pub fn adopt(&self, connection: UnixStream) -> io::Result<()> {
        connection.set_nonblocking(true)?;
        let socket = Socket::Unix(mio::net::UnixStream::from_std(connection));
        let mut state = self.shared.lock();
        let protocol = Protocol::new(ListenerProtocol::FastCgi, &state.core);
        let endpoint = Endpoint::new(Peer::Unix, None);
        let key = state.connections.insert_with(|key| Connection::new(key, socket, protocol, endpoint));
        state.core.revisit.push_back(key);
        Ok(())
    }

    /// From now on [`Application::on_signal`] is called soon after `pipe` has become readable, on the one thread that
    /// serves. It is the reading end of a pipe, and does not block.
    pub fn watch_signals(&self, pipe: OwnedFd) -> io::Result<()> {
        let mut state = self.shared.lock();
        let State { signals, core, .. } = &mut *state;
        signals.watch(pipe, &core.registry)
    }

    /// Answers requests on the calling thread until the worker ends: drained, told to stop, or its master gone. The
    /// first call tells the master that requests can come, and begins to accept.
    pub fn serve<A: Application>(&self, application: &A) {
        let shared = &*self.shared;
        self.start();
        let mut head = crate::protocol::ResponseHead::default();
        let mut next = None;
        loop {
            let driven = match next.take() {
                Some(job) => Driven::Job(job),
                None => application.detached(|| shared.drive()),
            };
            match driven {
                Driven::Job(mut job) => {
                    let mut response = Response::new(shared, &job, std::mem::take(&mut head));
                    let Job { request, application: index, multiprocess, .. } = &job;
                    let call = Call { request, application: *index, multiprocess: *multiprocess };
                    logger::enter_request(&job.request);
                    let before = shared.times_application.then(thread_cpu_time);
                    application.respond(call, &mut response);
                    logger::leave_request();
                    head = response.into_head();
                    job.cpu = before.map(|before| thread_cpu_time().saturating_sub(before));
                    next = shared.exchange(job);
                }
                Driven::Signal if application.on_signal() => {}
                Driven::Signal => shared.end(WorkerExit::Done),
                Driven::Ended => return,
            }
        }
    }

    /// Serves scripts and files on the calling thread until the worker ends.
    pub fn serve_without_application(&self) {
        if let Err(error) = crate::sys::survive_file_size_limit() {
            log::debug!("SIGXFSZ can't be ignored: {error}");
        }
        self.start();
        while !matches!(self.shared.drive(), Driven::Ended) {}
    }

    fn start(&self) {
        self.shared.started.call_once(|| {
            let started = relief::start(&self.shared).and_then(|()| {
                let mut state = self.shared.lock();
                state.core.begin_turn();
                state.core.board.serves();
                state.finish_turn();
                state.channel.send(&ToMaster::Ready, &[])
            });
            if let Err(error) = started {
                log::error!("the worker can't start: {error}");
                self.shared.end(WorkerExit::Failed);
            }
        });
    }

    /// The process must not take another request after the current ones: `reason` is for the log.
    pub fn retire(&self, reason: &str) {
        self.shared.retire(reason);
    }

    /// Ends the worker: `serve` returns on all threads, after the requests that the application has.
    pub fn end(&self, exit: WorkerExit) {
        self.shared.end(exit);
    }

    /// Every call of `serve` returns or has returned.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().phase == Phase::Ended
    }

    /// How the process should exit, once `serve` has returned on all threads.
    pub fn exit_code(&self) -> i32 {
        self.shared.seat.end();
        self.shared.lock().core.access_log.flush();
        self.shared.exit.load(Ordering::Relaxed)
    }
}

/// What the calling thread has used of a processor.
fn thread_cpu_time() -> Duration {
    // An error would mean a kernel without this clock.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the state was being changed is a bug of ours, and the state can't be trusted after it: the
        // master replaces the process.
        self.state.lock().unwrap_or_else(|_| std::process::abort())
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.poll_fd.as_fd()
    }

    /// Drives the loop until there is something for the application.
    fn drive(&self) -> Driven {
        let mut driver = self.driver.lock().unwrap_or_else(|_| std::process::abort());
        self.seat.take();
        let mut state = self.lock();
        state.write_held_back();
        if std::mem::take(&mut state.listeners.held_back) {
            // What the relief thread has left is watched again before the wait, not after it.
            state.finish_turn();
        }
        let driven = loop {
            if state.phase == Phase::Ended {
                break Driven::Ended;
            }
            if state.signals.take() {
                break Driven::Signal;
            }
            let looks = state.look_is_due();
            let limit = if looks {
                Some(Duration::ZERO)
            } else if let Some(job) = state.take_job() {
                break Driven::Job(job);
            } else {
                state.wait_limit()
            };
            state.core.access_log.flush();
            drop(state);
            state = match self.turn(&mut driver, limit) {
                Ok(state) => state,
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.seat.leave();
                    return Driven::Signal;
                }
                Err(error) => {
                    log::error!("waiting for events failed: {error}; this worker ends");
                    self.end(WorkerExit::Failed);
                    self.lock()
                }
            };
            if looks {
                state.share_ready();
            }
        };
        drop(state);
        self.seat.leave();
        driven
    }

    /// Waits once and handles what has come.
    fn turn(&self, driver: &mut Driver, limit: Option<Duration>) -> io::Result<MutexGuard<'_, State>> {
        driver.poll.poll(&mut driver.events, limit)?;
        let mut state = self.lock();
        state.core.begin_turn();
        state.core.look_at = state.core.now + LOOK_AFTER;
        for event in &driver.events {
            state.on_event(event);
        }
        state.finish_turn();
        if state.waiting_for_room > 0 {
            // Waking costs a system call even where nobody waits.
            self.room.notify_all();
        }
        let Some(report) = state.take_report() else { return Ok(state) };
        drop(state);
        self.log_overdue(&report);
        Ok(self.lock())
    }

    /// Requests that the application has run for too long: the log gets where it is. If one was ended, the application
    /// still holds it, and the process is replaced.
    fn log_overdue(&self, report: &Report) {
        report.log(&(self.stacks)());
        if report.has_ended() {
            self.retire("a request ran for longer than --timeout");
        }
    }

    /// A request comes back from the application: its buffers are kept, and its connection goes on. The next one is
    /// handed out, if one waits.
    fn exchange(&self, job: Job) -> Option<Job> {
        let mut state = self.lock();
        state.core.begin_turn();
        let Job { connection, id, request, cpu, .. } = job;
        state.with_connection(connection, |connection, core| {
            connection.returned(id, request, cpu, core);
            match core.is_held_back(connection.key) {
                true => Fate::Keep,
                false => connection.after_response(core),
            }
        });
        state.running = state.running.saturating_sub(1);
        state.show_load();
        let others_drive = self.seat.is_taken();
        if !others_drive && state.look_is_due() {
            return None;
        }
        let next = state.take_job();
        if next.is_some() {
            self.seat.pass();
        }
        if state.ends_now() || (others_drive && state.has_more_than_is_waited_for()) {
            let _ = self.waker.wake();
        }
        next
    }

    /// Small requests follow each other without a pause, as they have for a while: their responses may be written together.
    /// Whoever takes the seat writes them, so also the relief thread if one of the requests is not small. To be asked with
    /// the state locked: the relief thread says that it drives, and then locks the state to write what waits.
    fn holds_back(&self) -> bool {
        self.seat.patience() > relief::PATIENCE
            && !self.seat.is_relieved()
            && self.config.processes.threads == 1
    }

    fn end(&self, exit: WorkerExit) {
        self.exit.store(exit.code(), Ordering::Relaxed);
        self.lock().phase = Phase::Ended;
        // Failing means that nobody waits, or that waking has been asked for already.
        let _ = self.waker.wake();
    }

    fn retire(&self, reason: &str) {
        let mut state = self.lock();
        if state.phase == Phase::Serving {
            if let Err(error) = state.channel.send(&ToMaster::Retiring { reason: reason.to_owned() }, &[]) {
                log::error!("the master can't be told that this worker retires: {error}");
            }
            state.drain(Drain::HandOver);
        }
    }
}
