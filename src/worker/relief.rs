//! The relief thread: drives the loop while every application thread is with the application.
//!
//! It looks a thousand times a second whether the driver's seat has been empty since its last look, and sleeps for good
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

/// A request that has kept the application's threads for this long, and less than twice as long, is relieved. Pages of
/// common frameworks take less: each change of drivers costs them some ten microseconds.
const TICK: Duration = Duration::from_millis(1);

/// How often a worker that stays busy asks how many others there are.
const RECOUNT: Duration = Duration::from_millis(250);

/// After so many looks at a worker that waits for requests, the thread sleeps until a request comes.
const QUIET_TICKS: u32 = 2;

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
        let empty_since = shared.seat.is_empty_since();
        let changes = shared.seat.changes.load(Ordering::Relaxed);
        if changes != seen {
            (seen, quiet) = (changes, 0);
        } else if empty_since == Some(seen) {
            if let Err(error) = relieve(shared, seen) {
                log::error!("the relief thread can't wait for events: {error}");
                return;
            }
        } else {
            quiet += 1;
            if quiet >= QUIET_TICKS {
                shared.seat.sleep_until_left();
                seen = shared.seat.changes.load(Ordering::Relaxed);
                quiet = 0;
            }
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

/// Drives until an application thread is back. `left` counts the changes of the seat up to now.
fn relieve(shared: &Shared, left: u64) -> io::Result<()> {
    // Who takes the seat from now on tells this thread; who took it before is seen.
    shared.seat.relieved.store(true, Ordering::SeqCst);
    let result = drive(shared, left);
    shared.seat.relieved.store(false, Ordering::SeqCst);
    result
}

/// The application thread need not be there any more when this thread comes to look: it may have left with the next
/// request. Nobody has then held back what comes for that time, and this thread must not go on as if it had: it would take
/// from the hand-off queue what this worker can't answer.
fn drive(shared: &Shared, left: u64) -> io::Result<()> {
    {
        let mut state = shared.lock();
        if shared.seat.is_empty_since() != Some(left) {
            // Just now. It has looked whether listeners were held back, and would not look again before its next turn.
            return Ok(());
        }
        state.core.begin_turn();
        hand_over(shared, &mut state);
        state.watch_busy_connections();
        state.finish_turn();
    }
    let mut limit = Some(Duration::ZERO);
    loop {
        wait(shared, limit)?;
        let Ok(mut driver) = shared.driver.try_lock() else { return Ok(()) };
        // With the driver's lock the seat can't change.
        if shared.seat.is_empty_since() != Some(left) {
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
        state.core.access_log.flush();
        // The number of workers changes without an event.
        limit = Some(state.wait_limit().unwrap_or(RECOUNT).min(RECOUNT));
    }
}

/// Requests that this worker can't begin now are for others. An application thread that waits for the seat can begin one.
/// A connection that is accepted now would wait for this worker's application, too.
fn hand_over(shared: &Shared, state: &mut State) {
    let others = state.core.board.population().serving > 1;
    state.listeners.held_back = others;
    let others = others || state.core.drain == Drain::HandOver;
    if others && state.running >= shared.config.processes.threads.into() {
        state.hand_over_ready();
    }
}

/// Waits without the seat, so that an application thread that comes back finds it free.
fn wait(shared: &Shared, limit: Option<Duration>) -> io::Result<()> {
    // A wait that ends early is followed by another, so rounding up is right.
    let timeout = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit.as_micros().div_ceil(1000).min(60_000)).unwrap_or(PollTimeout::ZERO)
    });
    let (poll_fd, back) = (shared.poll_fd(), &shared.seat.back);
    let mut waited_for =
        [PollFd::new(poll_fd.as_fd(), PollFlags::POLLIN), PollFd::new(back.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waited_for, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    if waited_for[1].any() == Some(true) {
        // Also one that was told to the last time when this thread drove, and came too late: once is enough.
        let _ = back.read();
    }
    Ok(())
}
