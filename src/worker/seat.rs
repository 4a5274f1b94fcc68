//! The driver's seat: whether an application thread sits in it, and how the relief thread (`relief.rs`) learns that nobody
//! has for a while.
//!
//! Taking and leaving it is part of every request, so both are a few atomic operations. A system call is added only where
//! the relief thread drives or sleeps.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// What the relief thread goes by.
pub(super) struct Seat {
    /// An application thread drives.
    taken: AtomicBool,
    /// Counts how often the seat was taken or left. A request that follows another without that counts like both.
    changes: AtomicU64,
    /// The worker ends, and with it the relief thread.
    ended: AtomicBool,
    /// The relief thread drives, and waits for events or for `back`.
    relieved: AtomicBool,
    /// Tells it that an application thread is back: that one may take all events, and leave again, before it looks.
    pub back: EventFd,
    /// The relief thread sleeps, until whoever leaves the seat sets the timer.
    relief_sleeps: AtomicBool,
    /// It wakes the relief thread from that sleep.
    timer: TimerFd,
    /// For so many nanoseconds the seat may be empty.
    patience: AtomicU64,
    /// What `changes` was when the timer was set.
    timed: AtomicU64,
}

impl Seat {
    pub fn new(patience: Duration) -> io::Result<Self> {
        let seat = Seat {
            taken: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            relieved: AtomicBool::new(false),
            back: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            relief_sleeps: AtomicBool::new(false),
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?,
            patience: AtomicU64::new(0),
            timed: AtomicU64::new(0),
        };
        seat.set_patience(patience);
        Ok(seat)
    }

    /// An application thread begins to drive.
    pub fn take(&self) {
        self.taken.store(true, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.relieved.load(Ordering::SeqCst) {
            // Failing means that it has been told already.
            let _ = self.back.write(1);
        }
    }

    /// It goes to the application.
    pub fn leave(&self) {
        // First: who sees the seat empty is to see this count too.
        let count = self.changes.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.taken.store(false, Ordering::SeqCst);
        if self.relief_sleeps.load(Ordering::SeqCst) && self.relief_sleeps.swap(false, Ordering::SeqCst) {
            self.set_timer(count);
        }
    }

    /// It goes from one request to the next, as if it had taken the seat and left it: it is not stuck.
    pub fn pass(&self) {
        self.changes.fetch_add(2, Ordering::Relaxed);
    }

    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// How often the seat had been taken and left when it was left last; `None` if somebody sits there.
    pub fn is_empty_since(&self) -> Option<u64> {
        let empty = !self.taken.load(Ordering::SeqCst);
        empty.then(|| self.changes.load(Ordering::SeqCst))
    }

    /// How often it has been taken and left.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether the relief thread drives. Who takes the seat after this tells it; who took it before is seen.
    pub fn set_relieved(&self, relieved: bool) {
        self.relieved.store(relieved, Ordering::SeqCst);
    }

    /// The relief thread drives.
    pub fn is_relieved(&self) -> bool {
        self.relieved.load(Ordering::SeqCst)
    }

    /// For how long the seat may be empty before the relief thread looks: from now on, and not 0.
    pub fn set_patience(&self, patience: Duration) {
        let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.patience.store(nanos, Ordering::Relaxed);
    }

    /// For the relief thread: sleeps while somebody sits there, and for the patience after that. Gives what
    /// [`Seat::changes`] was at the beginning of that time: if it is the same now, the seat has been empty throughout.
    pub fn sleep_until_left(&self) -> io::Result<u64> {
        self.relief_sleeps.store(true, Ordering::SeqCst);
        // Left between the last look and the line above: its owner may not have seen that somebody sleeps.
        if !self.taken.load(Ordering::SeqCst) && self.relief_sleeps.swap(false, Ordering::SeqCst) {
            self.set_timer(self.changes());
        }
        self.timer.wait()?;
        Ok(self.timed.load(Ordering::SeqCst))
    }

    /// For the relief thread: waits for the patience, and gives what [`Seat::changes`] was before.
    pub fn wait(&self) -> u64 {
        let before = self.changes();
        std::thread::sleep(self.patience());
        before
    }

    pub fn patience(&self) -> Duration {
        Duration::from_nanos(self.patience.load(Ordering::Relaxed))
    }

    fn set_timer(&self, count: u64) {
        self.timed.store(count, Ordering::SeqCst);
        // It fails only for what is no timer or no time.
        let _ = self.timer.set(Expiration::OneShot(self.patience().into()), TimerSetTimeFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SHORT: Duration = Duration::from_millis(2);

    fn taken() -> Seat {
        let seat = Seat::new(SHORT).expect("descriptors");
        seat.take();
        seat
    }

    #[test]
    fn who_sleeps_is_woken_the_patience_after_the_seat_was_left() {
        let seat = taken();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| seat.sleep_until_left().map(|before| (before, Instant::now())));
            while !seat.relief_sleeps.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let left = Instant::now();
            seat.leave();
            let (before, woken) = sleeper.join().expect("no panic").expect("a timer");
            assert_eq!(seat.is_empty_since(), Some(before));
            assert!(woken - left >= SHORT);
        });
        assert!(!seat.relief_sleeps.load(Ordering::SeqCst), "who leaves next need not set the timer");
    }

    #[test]
    fn who_left_just_before_the_sleep_is_waited_for_too() {
        let seat = taken();
        seat.leave();
        let before = seat.sleep_until_left().expect("a timer");
        assert_eq!(seat.is_empty_since(), Some(before));
    }

    #[test]
    fn a_seat_that_was_taken_for_a_moment_was_not_empty_throughout() {
        let seat = taken();
        seat.leave();
        let before = seat.wait();
        assert_eq!(seat.is_empty_since(), Some(before));
        seat.take();
        seat.leave();
        assert_ne!(seat.is_empty_since(), Some(before));
        seat.take();
        let before = seat.wait();
        assert_eq!((seat.changes(), seat.is_empty_since()), (before, None));
    }
}
