//! Requests that are not worth running any more: those that have waited for longer than `--queue-timeout`, and those whose
//! client has left meanwhile. And what the log says when there is more to do than can be done.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::core::Core;
use super::flight::{Flight, Job, Step, describe};
use super::socket::Hangup;
use super::state::State;
use super::throttle::Throttle;
use crate::config::ListenerProtocol;
use crate::gateway::Request;
use crate::handler::HandlerError;
use crate::protocol::RequestId;
use crate::scoreboard::Counter;

/// Waits shorter than this cost no look at the client.
const LOOK_AFTER: Duration = Duration::from_millis(10);

/// An HTTP client that has closed its sending side may still read: an answer that comes within this time is sent.
/// After it the client counts as gone.
pub(super) const HALF_CLOSED_GRACE: Duration = Duration::from_secs(2);

/// A client that only half-closes does so with its request. One that closes so much later has given up.
const CLOSED_LATER: Duration = Duration::from_millis(500);

/// Each kind of line is logged so often at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// What the log says of an overload, each thing now and then.
#[derive(Debug)]
pub(crate) struct Overloads {
    queue_full: Throttle,
    queue_timeout: Throttle,
    no_script: Throttle,
    spool: Throttle,
}

impl Default for Overloads {
    fn default() -> Self {
        let throttle = || Throttle::new(INTERVAL);
        Overloads {
            queue_full: throttle(),
            queue_timeout: throttle(),
            no_script: throttle(),
            spool: throttle(),
        }
    }
}

/// Why a request that waited is not run.
enum Dropped {
    TooLate,
    ClientGone,
}

impl State {
    /// Requests that have waited for too long are answered 503.
    pub(super) fn refuse_late(&mut self) {
        let Some(limit) = self.core.config.limits.queue_timeout else { return };
        let now = self.core.now;
        while self
            .core
            .ready
            .front()
            .is_some_and(|job| now.saturating_duration_since(job.complete_at) >= limit)
        {
            let Some(job) = self.core.ready.pop_front() else { break };
            self.drop_job(job, Dropped::TooLate);
        }
        while let Some((connection, id)) = self.core.scripts.next_late(now, limit) {
            self.core.overloads.queue_timeout(limit, now);
            self.core.board.count(Counter::QueueTimeout);
            self.with_connection(connection, |connection, core| {
                connection.answer_error(id, 503, core);
                connection.advance(core)
            });
        }
    }

    /// When [`refuse_late`](Self::refuse_late) has something to do.
    pub(super) fn queue_deadline(&self) -> Option<Instant> {
        let limit = self.core.config.limits.queue_timeout?;
        let job = self.core.ready.front().map(|job| job.complete_at);
        let first = [job, self.core.scripts.waiting_since()].into_iter().flatten().min()?;
        first.checked_add(limit)
    }

    /// Gives the job back if it is still worth running.
    pub(super) fn worth_running(&mut self, job: Job) -> Option<Job> {
        if job.complete_at == self.core.now {
            // It has come in this turn, as most do.
            return Some(job);
        }
        let waited = self.core.now.saturating_duration_since(job.complete_at);
        if waited < LOOK_AFTER {
            return Some(job);
        }
        if self.core.config.limits.queue_timeout.is_some_and(|limit| waited >= limit) {
            self.drop_job(job, Dropped::TooLate);
            return None;
        }
        let now = self.core.now;
        let connection = self.connections.get_mut(job.connection)?;
        // A look for events that was just taken has told of every connection that is watched.
        let would_know = now < self.core.look_at && connection.is_watched();
        if (!would_know || connection.half_closed_since().is_some())
            && connection.client_has_left(job.id, now)
        {
            self.drop_job(job, Dropped::ClientGone);
            return None;
        }
        Some(job)
    }

    fn drop_job(&mut self, job: Job, why: Dropped) {
        let Job { connection, id, request, .. } = job;
        if let (Dropped::TooLate, Some(limit)) = (&why, self.core.config.limits.queue_timeout) {
            self.core.overloads.queue_timeout(limit, self.core.now);
            self.core.board.count(Counter::QueueTimeout);
        }
        self.with_connection(connection, |connection, core| {
            if let Some(flight) = connection.flight(id) {
                flight.request = Some(request);
                flight.step = Step::Answered;
            }
            match why {
                Dropped::TooLate => connection.answer_error(id, 503, core),
                Dropped::ClientGone => {
                    log::debug!("{}: the client has left before its request was run", connection.peer());
                    core.board.count(Counter::LeftInQueue);
                    connection.die(core);
                }
            }
            connection.advance(core)
        });
    }
}

impl Connection {
    /// Whether nobody waits for the answer any more, as far as can be known without a wait. A system call, if neither an
    /// event nor an answer has told before.
    pub(super) fn client_has_left(&mut self, id: RequestId, now: Instant) -> bool {
        let half_closed_since = self.half_closed_since();
        let is_fastcgi = self.protocol.kind() == ListenerProtocol::FastCgi;
        let Some(flight) = self.flight(id).filter(|flight| !flight.gone) else { return true };
        let complete_at = flight.complete_at;
        let hangup = match self.socket() {
            None => Hangup::Full,
            Some(_) if half_closed_since.is_some() => Hangup::Half,
            Some(socket) => socket.hangup(),
        };
        match hangup {
            Hangup::No => false,
            Hangup::Full => true,
            // No web server half-closes: what it has closed, it no longer reads.
            Hangup::Half if is_fastcgi => true,
            Hangup::Half => {
                let since = half_closed_since.unwrap_or(now);
                let later = complete_at.is_some_and(|at| since.saturating_duration_since(at) >= CLOSED_LATER);
                later || now.saturating_duration_since(since) >= HALF_CLOSED_GRACE
            }
        }
    }

    /// A script's turn has come after a wait: is there somebody to run it for? If not, the connection ends.
    pub(super) fn is_worth_starting(&mut self, id: RequestId, since: Instant, core: &mut Core) -> bool {
        let now = core.now;
        if now.saturating_duration_since(since) < LOOK_AFTER || !self.client_has_left(id, now) {
            return true;
        }
        log::debug!("{}: the client has left before its script was started", self.peer());
        self.die(core);
        false
    }
}

impl Overloads {
    /// The queue for the application is full.
    pub fn queue_full(&mut self, waiting: usize, now: Instant) {
        if let Some(left_out) = self.queue_full.admit(now) {
            log::warn!(
                "{waiting} requests wait for the application (--max-queue): answered 503; {left_out} more since the \
                 last such line"
            );
        }
    }

    /// A script could not be started: each time its own fault is told, now and then a lack.
    pub fn script_failed(&mut self, error: &HandlerError, request: &Request, now: Instant) {
        let (id, what) = (request.id_text(), describe(request));
        if error.lacks().is_none() {
            log::error!(request:% = id; "{what}: {error}");
        } else if let Some(left_out) = self.no_script.admit(now) {
            log::error!(
                request:% = id;
                "{what}: {error}: answered 503; {left_out} more since the last such line"
            );
        }
    }

    /// A body could not be kept: the disk is full, for one.
    pub fn spool_failed(&mut self, error: &io::Error, flight: &Flight, dir: &Path, now: Instant) {
        if let Some(left_out) = self.spool.admit(now) {
            log::error!(
                request:% = flight.id_text();
                "{}: the request body can't be kept in --spool-dir {}: {error}; answered 503; {left_out} more since the \
                 last such line",
                flight.description(),
                dir.display()
            );
        }
    }

    fn queue_timeout(&mut self, limit: Duration, now: Instant) {
        if let Some(left_out) = self.queue_timeout.admit(now) {
            log::warn!(
                "a request has waited for {} s (--queue-timeout): answered 503; {left_out} more since the last such line",
                limit.as_secs_f64()
            );
        }
    }
}
