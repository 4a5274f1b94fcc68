//! A pool that grows and shrinks.

use super::*;
use crate::scoreboard::Population;

const LOOK: Duration = Duration::from_millis(100);

const FULL: Load = Load { busy: 64.0, idle: 0, waits: true, queue_time: Duration::ZERO, is_used: true };
const QUIET: Load = Load { busy: 0.0, idle: 64, waits: false, queue_time: Duration::ZERO, is_used: false };

fn pool(min: u16, max: u16) -> Settings {
    Settings { pool: PoolSize { min, max }, ..settings(1, false) }
}

impl Stage {
    /// Time passes, and at each look this is found. What was done, with the time from the beginning.
    fn under(&mut self, load: Load, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(at) = self.workers.deadline().filter(|at| *at <= end) {
            self.now = at;
            for done in self.does(|workers, now| workers.on_deadline(now)) {
                match done == "look" {
                    true => all.extend(self.does(|workers, now| workers.on_load(load, now))),
                    false => all.push(done),
                }
            }
        }
        self.now = end;
        all
    }

    /// Those that were started become ready, and those that were told to leave end.
    fn follows(&mut self, done: &[String]) {
        for done in done {
            let (what, name) = done.split_once(' ').expect("two words");
            let next = match what {
                "start" => self.says(name, ToMaster::Ready),
                "Drain" => self.ends(name, 0),
                _ => panic!("{done}"),
            };
            assert_eq!(next, NOTHING);
        }
    }
}

#[test]
fn a_fixed_pool_is_never_looked_at() {
    let mut stage = Stage::serving(3, true);
    assert_eq!(stage.under(FULL, 100 * SECOND), NOTHING);
    assert_eq!(stage.workers.deadline(), None);
}

#[test]
fn a_pool_under_load_grows_faster_and_faster_to_its_limit() {
    let mut stage = Stage::serving_with(pool(1, 9));
    let mut sizes = Vec::new();
    for _ in 0..40 {
        let done = stage.under(FULL, LOOK);
        stage.follows(&done);
        let Population { serving: size, most } = stage.workers.population();
        assert_eq!(most, 9);
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
    }
    assert_eq!(sizes, [1, 2, 4, 8, 9]);
}

#[test]
fn one_look_may_be_chance() {
    let mut stage = Stage::serving_with(pool(1, 9));
    let one = Load { waits: true, ..QUIET };
    for _ in 0..40 {
        assert_eq!(stage.under(one, LOOK), NOTHING);
        assert_eq!(stage.under(QUIET, 2 * LOOK), NOTHING);
        stage.under(QUIET, 7 * LOOK);
    }
}

#[test]
fn workers_that_take_long_to_start_are_waited_for() {
    let mut stage = Stage::serving_with(pool(1, 30));
    assert_eq!(stage.under(FULL, 6 * LOOK), ["start w1.0"]);
    assert_eq!(stage.under(FULL, 5 * LOOK), NOTHING);
    assert_eq!(stage.under(FULL, SECOND), ["start w2.0", "start w3.0"], "but not for ever");
}

#[test]
fn a_pool_grows_by_queue_time_by_busy_share_or_by_spare_workers() {
    let calm = Load { is_used: true, ..QUIET };
    for (spare, load, grows) in [
        (0, calm, false),
        (0, Load { waits: true, ..calm }, true),
        (0, Load { queue_time: Duration::from_millis(24), ..calm }, false),
        (0, Load { queue_time: Duration::from_millis(25), ..calm }, true),
        (0, Load { busy: 3.3, ..calm }, false),
        (0, Load { busy: 3.5, ..calm }, true),
        (0, Load { busy: 2.0, idle: 0, ..calm }, false),
        (2, Load { busy: 2.0, idle: 2, ..calm }, false),
        (2, Load { busy: 2.0, idle: 1, ..calm }, true),
    ] {
        let mut stage = Stage::serving_with(Settings { spare_workers: spare, ..pool(4, 5) });
        let done = stage.under(load, 3 * SECOND);
        assert_eq!(!done.is_empty(), grows, "{spare} spare, {load:?}: {done:?}");
    }
}

#[test]
fn a_pool_shrinks_after_a_time_of_calm_to_its_least() {
    let mut stage = Stage::serving_with(pool(2, 8));
    while stage.workers.population().serving < 8 {
        let done = stage.under(FULL, LOOK);
        stage.follows(&done);
    }
    let some = Load { busy: 2.0, idle: 6, is_used: true, ..QUIET };
    assert_eq!(stage.under(some, 9 * SECOND), NOTHING, "the average has to fall first");
    let done = stage.under(some, 5 * SECOND);
    assert_eq!(done, ["Drain w7.0", "Drain w6.0", "Drain w5.0", "Drain w4.0"], "one each second");
    stage.follows(&done);
    assert_eq!(stage.under(some, 60 * SECOND), NOTHING, "three would be too busy");
    let done = stage.under(QUIET, 15 * SECOND);
    assert_eq!(done, ["Drain w3.0", "Drain w2.0"]);
    stage.follows(&done);
    assert_eq!(stage.under(QUIET, 60 * SECOND), NOTHING);
}

#[test]
fn a_pool_that_may_be_empty_sleeps_when_nobody_asks_and_wakes_when_somebody_does() {
    let (mut stage, first) = Stage::with(pool(0, 4));
    assert_eq!(first, ["start w0.0"], "one proves that the application loads");
    stage.says("w0.0", ToMaster::Ready);
    assert!(!stage.workers.is_asleep());
    // A kept connection keeps it.
    assert_eq!(stage.under(Load { is_used: true, ..QUIET }, 60 * SECOND), NOTHING);
    let last = stage.id("w0.0");
    let done = stage.under(QUIET, 11 * SECOND);
    assert_eq!(done, ["Drain w0.0"]);
    assert!(stage.workers.is_asleep());
    assert_eq!(stage.does(Workers::wake), ["start w0.0"], "although the last one has not ended");
    assert_eq!(stage.does(Workers::wake), NOTHING);
    stage.ends_as(last, 0);
    assert!(!stage.workers.is_asleep());
    stage.says("w0.0", ToMaster::Ready);
    let done = stage.under(QUIET, 11 * SECOND);
    stage.follows(&done);
    assert_eq!(stage.workers.deadline(), None, "nothing is looked at");
}

#[test]
fn a_worker_that_takes_long_to_load_is_not_taken_away_meanwhile() {
    let (mut stage, _) = Stage::with(pool(0, 4));
    assert_eq!(stage.under(QUIET, 29 * SECOND), NOTHING);
    stage.says("w0.0", ToMaster::Ready);
    assert_eq!(stage.under(QUIET, 9 * SECOND), NOTHING, "and has its time then");
    assert_eq!(stage.under(QUIET, 2 * SECOND), ["Drain w0.0"]);
}

#[test]
fn a_pool_that_sleeps_proves_new_code_at_a_reload() {
    let mut stage = Stage::serving_with(Settings { pool: PoolSize { min: 0, max: 4 }, ..settings(1, true) });
    let done = stage.under(QUIET, 11 * SECOND);
    assert_eq!(done, ["Drain w0.0"]);
    stage.ends("w0.0", 0);
    assert_eq!(stage.does(Workers::reload), ["fork w0.0", "start t1"]);
    stage.comes_up("w0.0", true);
    stage.says("t1", ToMaster::Loaded);
    assert_eq!(stage.comes_up("w0.1", true), ["Drain w0.0", "Stop t0"]);
}

#[test]
fn ttin_and_ttou_move_both_limits() {
    let mut stage = Stage::serving_with(pool(2, 3));
    let mut change = |more: bool| {
        stage.does(|workers, now| workers.change_count(more, now));
        let PoolSize { min, max } = stage.workers.pool();
        (min, max)
    };
    assert_eq!(change(true), (3, 4));
    assert_eq!(change(false), (2, 3));
    assert_eq!(change(false), (1, 2));
    assert_eq!(change(false), (1, 1));
    assert_eq!(change(false), (1, 1), "one stays");
    assert_eq!([change(true), change(true)], [(1, 2), (2, 3)]);
    let (mut stage, _) = Stage::with(pool(0, 1));
    for more in [false, false, true] {
        stage.does(|workers, now| workers.change_count(more, now));
    }
    assert_eq!(stage.workers.pool(), PoolSize { min: 1, max: 2 });
}
