//! The relief thread: drives the loop while every application thread is with the application.
//!
//! It looks about once a millisecond whether the driver's seat has been empty since its last look, and sleeps for good
//! while the worker idles. A fast application is always back in the seat before it looks.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use super::Shared;
use super::hand_off::Drain;
use super::state::{Phase, State};

/// A request that has kept the application's threads for this long, and less than twice as long, is relieved.
const TICK: Duration = Duration::from_millis(1);

/// After so many looks at a worker that waits for requests, the thread sleeps until a request comes.
const QUIET_TICKS: u32 = 32;

pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    if shared.config.applications.is_empty() {
        return Ok(());
    }
    let shared = shared.clone();
    std::thread::Builder::new().name("forkhorn-relief".into()).spawn(move || run(&shared)).map(drop)
}

fn run(shared: &Shared) {
    leave_signals_to_the_interpreter();
    let mut seen = shared.seat.changes.load(Ordering::Relaxed);
    let mut quiet = 0;
    while !shared.seat.ended.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
        let changes = shared.seat.changes.load(Ordering::Relaxed);
        if changes != seen {
            (seen, quiet) = (changes, 0);
        } else if shared.seat.taken.load(Ordering::Acquire) {
            quiet += 1;
            if quiet >= QUIET_TICKS {
                shared.seat.sleep_until_left();
                quiet = 0;
            }
        } else if let Err(error) = relieve(shared) {
            log::error!("the relief thread can't wait for events: {error}");
            return;
        }
    }
}

/// Python runs its signal handlers on the main thread, and a signal is to interrupt that thread's wait. Real-time
/// signals stay open: one of them asks for the stacks.
fn leave_signals_to_the_interpreter() {
    let mut all = SigSet::empty();
    for signal in Signal::iterator() {
        let synchronous = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT];
        if !synchronous.contains(&signal) {
            all.add(signal);
        }
    }
    if let Err(error) = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&all), None) {
        log::debug!("signals can't be blocked in the relief thread: {error}");
    }
}

/// Drives until an application thread is back in the seat.
fn relieve(shared: &Shared) -> io::Result<()> {
    {
        let mut state = shared.lock();
        if shared.seat.taken.load(Ordering::Acquire) {
            // Just now. It has looked whether listeners were held back, and would not look again before its next turn.
            return Ok(());
        }
        state.core.begin_turn();
        // A connection that is accepted now would wait for this worker's application; another worker may be free.
        state.listeners.held_back = shared.config.processes.workers > 1;
        hand_over(shared, &mut state);
        state.watch_busy_connections();
        state.finish_turn();
    }
    let mut limit = Some(Duration::ZERO);
    while !shared.seat.taken.load(Ordering::Acquire) {
        wait(shared, limit)?;
        let Ok(mut driver) = shared.driver.try_lock() else { return Ok(()) };
        if shared.seat.taken.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = match shared.turn(&mut driver, Some(Duration::ZERO)) {
            Ok(state) => state,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => shared.lock(),
            Err(error) => return Err(error),
        };
        if state.phase == Phase::Ended {
            return Ok(());
        }
        hand_over(shared, &mut state);
        limit = state.wait_limit();
    }
    Ok(())
}

/// Requests that this worker can't begin now are for others. An application thread that waits for the seat can begin one.
fn hand_over(shared: &Shared, state: &mut State) {
    let others = shared.config.processes.workers > 1 || state.core.drain == Drain::HandOver;
    if others && state.running >= shared.config.processes.threads.into() {
        state.hand_over_ready();
    }
}

/// Waits without the seat, so that an application thread that comes back finds it free.
fn wait(shared: &Shared, limit: Option<Duration>) -> io::Result<()> {
    let timeout = match limit {
        None => PollTimeout::NONE,
        // A wait that ends early is followed by another, so rounding up is right.
        Some(limit) => {
            PollTimeout::try_from(limit.as_millis().min(60_000) as u16 as i32 + i32::from(!limit.is_zero()))
                .unwrap_or(PollTimeout::ZERO)
        }
    };
    match poll(&mut [PollFd::new(shared.poll_fd().as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
