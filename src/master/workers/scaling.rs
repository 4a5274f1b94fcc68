//! How many workers there should be, where the operator leaves that open (`--workers 2..16`): more when requests wait or
//! most workers are busy, fewer after a time of calm. A pool whose least number is 0 has none while nobody asks; the
//! loop then watches the listeners itself.

use std::time::{Duration, Instant};

use super::actions::Action;
use super::{MAX_WORKERS, Workers};
use crate::cli::PoolSize;
use crate::scoreboard::Population;

/// How often the load is looked at, and how often while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Requests that wait so long on average are reason enough for another worker.
const LONG_WAIT: Duration = Duration::from_millis(25);

/// Shares of a worker's time: past the first one it is busy; below the second one the others can do its work.
const BUSY: f64 = 0.85;
const CALM: f64 = 0.6;

/// Weight of one look in the average.
const WEIGHT: f64 = 0.3;

/// So many looks in a row have to find the load too high: one alone may be chance.
const LOOKS: u32 = 2;

/// Between two times that workers are added, if the first ones are not ready yet; and that one is taken away.
const PAUSE: Duration = Duration::from_secs(1);

/// Most workers that are added at once.
const MOST_AT_ONCE: u16 = 32;

/// What the workers have to do, as they show it on the scoreboard.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// Busy workers: each counts between 0 and 1.
    pub(crate) busy: f64,
    /// Workers that have nothing to do at all.
    pub(crate) idle: u16,
    /// A connection waits to be accepted, or to be taken from the hand-off queue.
    pub(crate) waits: bool,
    /// How long the requests since the last look have waited for an application thread, on average.
    pub(crate) queue_time: Duration,
    /// A connection is open, or there has been one since the last look.
    pub(crate) is_used: bool,
}

#[derive(Debug)]
pub(super) struct Scaling {
    /// TTIN and TTOU, added up.
    pub(super) shift: i32,
    look_at: Option<Instant>,
    /// Average of [`Load::busy`].
    busy: f64,
    /// Looks in a row that have found the load too high.
    pressed: u32,
    /// How many workers are added the next time: twice as many each time, as long as it is not enough.
    step: u16,
    may_grow_at: Option<Instant>,
    /// Since when the pool could do with a worker less.
    calm_since: Option<Instant>,
}

impl Scaling {
    pub(super) fn new() -> Self {
        Scaling {
            shift: 0,
            look_at: None,
            busy: 0.0,
            pressed: 0,
            step: 1,
            may_grow_at: None,
            calm_since: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Workers {
    /// The limits of the number of workers, as TTIN and TTOU have moved them.
    pub(super) fn pool(&self) -> PoolSize {
        let PoolSize { min, max } = self.settings.pool;
        let moved = |limit: u16, least: u16| {
            let moved = i32::from(limit).saturating_add(self.scaling.shift);
            moved.clamp(least.into(), MAX_WORKERS.into()) as u16
        };
        PoolSize { min: moved(min, min.min(1)), max: moved(max, 1) }
    }

    pub(crate) fn population(&self) -> Population {
        let serving = self.serving().count().try_into().unwrap_or(u16::MAX);
        Population { serving, most: self.pool().max }
    }

    /// There is no worker, and none is wanted before somebody asks.
    pub(crate) fn is_asleep(&self) -> bool {
        self.end.is_none() && self.wanted == 0 && !self.is_reloading()
    }

    /// Somebody asks, and nobody is there to answer.
    pub(crate) fn wake(&mut self, now: Instant) -> Vec<Action> {
        if self.is_asleep() {
            log::info!("1 worker is wanted: a connection has come");
            self.want(1);
        }
        self.settle(now, Vec::new())
    }

    /// One worker more or less; where their number is left open, both limits move.
    pub(crate) fn change_count(&mut self, more: bool, now: Instant) -> Vec<Action> {
        let before = self.pool();
        let shift = self.scaling.shift;
        self.scaling.shift = if more { shift.saturating_add(1) } else { shift.saturating_sub(1) };
        let after = self.pool();
        if after == before {
            self.scaling.shift = shift;
        }
        self.want(self.wanted);
        match after.is_fixed() {
            true => log::info!("{} workers are wanted", after.max),
            false => log::info!("between {} and {} workers are wanted", after.min, after.max),
        }
        self.settle(now, Vec::new())
    }

    /// Sets the number, within the limits.
    pub(super) fn want(&mut self, count: u16) {
        let PoolSize { min, max } = self.pool();
        self.wanted = count.clamp(min, max);
        self.scaling.calm_since = None;
        if self.wanted == 0 {
            self.scaling.look_at = None;
            self.scaling.busy = 0.0;
        }
    }

    /// The load is due to be looked at.
    pub(super) fn look_at_load(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.pool().is_fixed() || self.wanted == 0 {
            self.scaling.look_at = None;
        } else if self.scaling.look_at.is_none_or(|at| now >= at) {
            if self.scaling.look_at.is_some() {
                actions.push(Action::LookAtLoad);
            }
            self.scaling.look_at = Some(now + LOOK_EVERY);
        }
    }

    /// What the workers have to do. Follows [`Action::LookAtLoad`].
    pub(crate) fn on_load(&mut self, load: Load, now: Instant) -> Vec<Action> {
        let serving = self.population().serving;
        let average = &mut self.scaling.busy;
        *average += (load.busy - *average) * WEIGHT;
        let why = self.pressure(load, serving);
        self.scaling.pressed = if why.is_some() { self.scaling.pressed.saturating_add(1) } else { 0 };
        match why {
            Some(why) => {
                self.scaling.calm_since = None;
                if self.scaling.pressed >= LOOKS {
                    self.grow(why, serving, now);
                }
            }
            None => {
                self.scaling.step = 1;
                self.shrink(load, serving, now);
                if self.scaling.busy < 0.01 && self.wanted == self.pool().min && self.wanted > 0 {
                    self.scaling.look_at = Some(now + IDLE_LOOK_EVERY);
                }
            }
        }
        self.settle(now, Vec::new())
    }

    /// Why there should be more workers.
    fn pressure(&self, load: Load, serving: u16) -> Option<&'static str> {
        if load.waits {
            Some("connections wait")
        } else if load.queue_time >= LONG_WAIT {
            Some("requests wait")
        } else if self.scaling.busy > BUSY * f64::from(serving) && serving > 0 {
            Some("the others are busy")
        } else if load.idle < self.settings.spare_workers {
            Some("too few are idle")
        } else {
            None
        }
    }

    fn grow(&mut self, why: &str, serving: u16, now: Instant) {
        let pause = self.scaling.may_grow_at.is_some_and(|at| now < at);
        let all_ready = serving >= self.wanted;
        if self.wanted >= self.pool().max || (pause && !all_ready) || self.is_reloading() {
            return;
        }
        self.want(self.wanted.saturating_add(self.scaling.step));
        log::info!("{} workers are wanted: {why}", self.wanted);
        self.scaling.step = (self.scaling.step * 2).min(MOST_AT_ONCE);
        self.scaling.may_grow_at = Some(now + PAUSE);
    }

    fn shrink(&mut self, load: Load, serving: u16, now: Instant) {
        let fewer = self.wanted.saturating_sub(1);
        let is_calm = match fewer {
            0 => !load.is_used && load.busy == 0.0,
            _ => self.scaling.busy <= CALM * f64::from(fewer) && load.idle > self.settings.spare_workers,
        };
        // Those that are not ready yet may be needed once they are: calm means nothing before.
        let is_calm = is_calm && serving >= self.wanted;
        if !is_calm || self.wanted <= self.pool().min || self.is_reloading() {
            self.scaling.calm_since = None;
            return;
        }
        let since = *self.scaling.calm_since.get_or_insert(now);
        let idle_timeout = self.settings.worker_idle_timeout;
        if now.saturating_duration_since(since) < idle_timeout {
            return;
        }
        self.want(fewer);
        log::info!("{fewer} workers are wanted: the others have too little to do");
        // The next one follows soon, if it stays calm; the last one has its full time.
        if fewer > 1 {
            self.scaling.calm_since = Some((now + PAUSE).checked_sub(idle_timeout).unwrap_or(now).min(now));
        }
    }
}
