//! What the workers have to do, read from the scoreboard, and from what waits for them in the kernel.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::boards::Boards;
use super::workers::{Load, ProcessId};
use crate::config::Config;
use crate::scoreboard::{BoardView, Counter, Gauge, Runner};

/// Looks at the load again and again, and keeps what was counted before.
#[derive(Debug, Default)]
pub(crate) struct LoadMeter {
    seen: BTreeMap<ProcessId, Counted>,
    looked_at: Option<Instant>,
}

/// What a worker had counted at the last look.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    run_micros: u64,
    queue_micros: u64,
    queued: u64,
    /// Connections that have come to it, one way or the other.
    connections: u64,
}

/// What a worker may do at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    threads: f64,
    scripts: f64,
}

impl Capacity {
    pub(crate) fn of(config: &Config) -> Self {
        Capacity {
            threads: config.processes.threads.max(1).into(),
            scripts: config.cgi.max_scripts.max(1) as f64,
        }
    }
}

impl LoadMeter {
    /// `serving` are the workers that accept requests.
    pub(crate) fn look(
        &mut self,
        boards: &mut Boards,
        serving: impl Iterator<Item = ProcessId>,
        capacity: Capacity,
        now: Instant,
    ) -> Load {
        let elapsed = self.looked_at.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        self.looked_at = Some(now);
        let mut before = std::mem::take(&mut self.seen);
        let (mut load, mut queued, mut queue_micros) = (Load::default(), 0, 0);
        for id in serving {
            let Some(board) = boards.of(id) else { continue };
            let counted = Counted::of(board);
            let last = before.remove(&id).unwrap_or(counted);
            load.busy +=
                busy_share(board, counted.run_micros.saturating_sub(last.run_micros), capacity, elapsed);
            let (threads, scripts) = (board.gauge(Gauge::BusyThreads), board.gauge(Gauge::Scripts));
            load.idle = load.idle.saturating_add(u16::from(threads == 0 && scripts == 0));
            load.waits |= board.gauge(Gauge::ScriptQueue) > 0
                || (board.gauge(Gauge::Queue) > 0 && threads as f64 >= capacity.threads);
            load.is_used |=
                board.gauge(Gauge::Connections) > 0 || scripts > 0 || counted.connections > last.connections;
            queued += counted.queued.saturating_sub(last.queued);
            queue_micros += counted.queue_micros.saturating_sub(last.queue_micros);
            self.seen.insert(id, counted);
        }
        load.queue_time = Duration::from_micros(queue_micros.checked_div(queued).unwrap_or_default());
        load
    }
}

impl Counted {
    fn of(board: &mut BoardView) -> Self {
        use Counter::*;
        let counters = board.counters();
        let sum = |all: &[Counter]| all.iter().map(|counter| counters.of(*counter)).sum();
        Counted {
            run_micros: counters.of(RunMicros),
            queue_micros: counters.of(QueueMicros),
            queued: sum(&[
                QueueUpTo1ms,
                QueueUpTo5ms,
                QueueUpTo25ms,
                QueueUpTo100ms,
                QueueUpTo500ms,
                QueueUpTo2500ms,
                QueueUpTo10s,
                QueueLonger,
            ]),
            connections: sum(&[HttpConnections, FastCgiConnections, HandedIn]),
        }
    }
}

/// Which part of its time a worker was busy: 1 if all its threads were with the application, or as many scripts ran as it
/// may start.
fn busy_share(board: &BoardView, run_micros: u64, capacity: Capacity, elapsed: Duration) -> f64 {
    let scripts = board.gauge(Gauge::Scripts) as f64 / capacity.scripts;
    // A request counts when it has ended; those that have run all the time have not.
    let whole = board
        .running()
        .into_iter()
        .filter(|request| request.runner == Runner::Thread && request.age >= elapsed);
    let ended = Duration::from_micros(run_micros).as_secs_f64() / elapsed.as_secs_f64().max(1e-3);
    let threads = (ended + whole.count() as f64) / capacity.threads;
    threads.max(scripts).clamp(0.0, 1.0)
}

/// Something waits in one of these sockets.
pub(crate) fn is_any_readable<'a>(sockets: impl Iterator<Item = BorrowedFd<'a>>) -> bool {
    let mut all: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
    matches!(poll(&mut all, PollTimeout::ZERO), Ok(count) if count > 0)
}
