//! The relief thread: drives the loop while every application thread is with the application.
//!
//! It looks some thousand times a second whether the driver's seat (`seat.rs`) has been empty since its last look, and
//! sleeps while the worker idles. A fast application is always back in the seat before it looks, or has told that it goes
//! from one request to the next.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use super::Shared;
use super::hand_off::Drain;
use super::state::{Phase, State};

/// A request that has kept the application's threads for this long, and less than twice as long, is relieved. Pages of
/// common frameworks take less: each change of drivers costs them some ten microseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// The same in a worker that has just had a slow request: what has come behind such a one gets away sooner.
const SHORT_PATIENCE: Duration = Duration::from_micros(200);

/// A request is slow that goes on for this long after it was relieved.
const SLOW: Duration = Duration::from_millis(10);

/// After so many looks at a worker in which no request was slow, the patience is the usual one.
const LOOKS_REMEMBERED: u32 = 50_000;

/// The same in a worker that is always busy and hardly ever relieved. Each look costs its processor a timer and two changes
/// of threads, up to 25 microseconds in a virtual machine; a worker that idles now and then has the time.
const LONGEST_PATIENCE: Duration = Duration::from_millis(8);

/// How often a worker that stays busy asks how many others there are.
const RECOUNT: Duration = Duration::from_millis(250);

pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    if shared.config.applications.is_empty() {
        return Ok(());
    }
    let shared = shared.clone();
    std::thread::Builder::new().name("forkhorn-relief".into()).spawn(move || run(&shared)).map(drop)
}

fn run(shared: &Shared) {
    leave_signals_to_the_interpreter();
    if let Err(error) = watch(shared) {
        log::error!("the relief thread can't wait for events: {error}");
    }
}

fn watch(shared: &Shared) -> io::Result<()> {
    let seat = &shared.seat;
    let mut patience = Patience::default();
    let mut before = seat.sleep_until_left()?;
    while !seat.has_ended() {
        before = if seat.is_empty_since() == Some(before) {
            let began = Instant::now();
            relieve(shared, before)?;
            let others = shared.lock().core.board.population().serving > 1;
            seat.set_patience(patience.after_relief(began.elapsed(), others));
            seat.wait()
        } else if seat.changes().wrapping_sub(before) > 1 {
            seat.set_patience(patience.after_look());
            seat.wait()
        } else {
            // One request at most: it idles in between, and is timed by who leaves.
            seat.set_patience(patience.after_idling());
            seat.sleep_until_left()?
        };
    }
    Ok(())
}

/// How long the seat may be empty. It follows the application: short while slow requests are mixed with others, and longer
/// again as soon as requests turn out to end right after they were relieved. While there are only small ones, and always
/// another, it grows.
#[derive(Debug)]
struct Patience {
    now: Duration,
    looks_left: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { now: PATIENCE, looks_left: 0 }
    }
}

impl Patience {
    /// `others`: there are workers that can take what waits here.
    fn after_relief(&mut self, lasted: Duration, others: bool) -> Duration {
        if lasted >= SLOW && others {
            *self = Patience { now: SHORT_PATIENCE, looks_left: LOOKS_REMEMBERED };
        } else if self.now > PATIENCE {
            // Now and then there is a long one in any worker: a full garbage collection takes long enough.
            self.now = (self.now / 4).max(PATIENCE);
        } else if lasted < PATIENCE {
            self.now = (self.now * 2).min(PATIENCE);
        }
        self.now
    }

    /// The seat was empty for a moment only.
    fn after_look(&mut self) -> Duration {
        match self.looks_left {
            0 => self.now = (self.now + self.now / 32).clamp(PATIENCE, LONGEST_PATIENCE),
            1 => *self = Patience::default(),
            _ => self.looks_left -= 1,
        }
        self.now
    }

    /// Somebody sits there and waits: what comes next is looked at in time.
    fn after_idling(&mut self) -> Duration {
        self.now = self.now.min(PATIENCE);
        self.now
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
    shared.seat.set_relieved(true);
    let result = drive(shared, left);
    shared.seat.set_relieved(false);
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
        state.write_held_back();
        hand_over(shared, &mut state);
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::hand_off::HandOffQueue;
    use crate::worker::tests::{Running, read_answer, until};

    #[test]
    fn patience_follows_what_the_application_does() {
        let (fast, long) = (Duration::from_micros(300), SLOW);
        let middling = Duration::from_millis(5);
        let mut patience = Patience::default();
        for (lasted, others, expected) in [
            (middling, true, PATIENCE),
            (long, false, PATIENCE),
            (long, true, SHORT_PATIENCE),
            (middling, true, SHORT_PATIENCE),
            // Pages that take hardly longer than the patience: each relief of them was in vain.
            (fast, true, SHORT_PATIENCE * 2),
            (fast, true, SHORT_PATIENCE * 4),
            (fast, true, PATIENCE),
            (fast, true, PATIENCE),
            (long, true, SHORT_PATIENCE),
        ] {
            assert_eq!(patience.after_relief(lasted, others), expected, "{lasted:?}, others: {others}");
        }
        for _ in 1..LOOKS_REMEMBERED {
            assert_eq!(patience.after_look(), SHORT_PATIENCE);
        }
        assert_eq!(patience.after_look(), PATIENCE, "the slow request was long ago");
    }

    #[test]
    fn patience_grows_while_small_requests_follow_each_other() {
        let mut patience = Patience::default();
        let looks = (0..).take_while(|_| patience.after_look() < LONGEST_PATIENCE).count();
        assert!((32..100).contains(&looks), "{looks}");
        assert_eq!(patience.after_look(), LONGEST_PATIENCE);
        assert_eq!(patience.after_relief(PATIENCE, true), LONGEST_PATIENCE / 4);
        assert_eq!(patience.after_relief(SLOW, true), SHORT_PATIENCE);
        assert_eq!(patience.after_idling(), SHORT_PATIENCE);
        let mut patience = Patience::default();
        assert!(patience.after_look() > PATIENCE);
        assert_eq!(patience.after_idling(), PATIENCE);
    }

    #[test]
    fn a_slow_request_makes_the_next_relief_come_sooner_where_others_can_help() {
        for (workers, expected) in [("1", PATIENCE), ("2", SHORT_PATIENCE)] {
            let queue = HandOffQueue::open().expect("a queue");
            let worker = Running::start_as(0, &["--workers", workers], queue);
            let seat = &worker.shared.seat;
            assert_eq!(seat.patience(), PATIENCE);
            let mut slow = worker.connect();
            slow.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
            until(|| seat.is_relieved().then_some(()));
            // From here on it lasts at least so long.
            std::thread::sleep(SLOW);
            worker.gate.send(()).expect("it waits");
            assert!(read_answer(&mut slow).ends_with("waited"));
            until(|| (!seat.is_relieved() && seat.patience() == expected).then_some(()));
        }
    }
}
