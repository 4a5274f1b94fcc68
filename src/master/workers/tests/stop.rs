//! The end of all.

use super::*;

#[test]
fn a_graceful_stop_drains_and_then_exits() {
    let mut stage = Stage::serving(2, true);
    assert_eq!(stage.does(Workers::stop_gracefully), ["Stop t0", "Close w0.0", "Close w1.0"]);
    assert_eq!(stage.does(Workers::reload), NOTHING);
    assert_eq!(stage.ends("w0.0", 0), NOTHING);
    assert_eq!(stage.ends("t0", 0), NOTHING);
    assert_eq!(stage.passes(GRACE), NOTHING);
    assert_eq!(stage.passes(GRACE_MARGIN), ["KILL w1.0"]);
    assert_eq!(stage.ends("w1.0", KILLED), ["exit 0"]);
}

#[test]
fn a_worker_that_drains_for_a_reload_hears_that_nobody_remains() {
    let mut stage = Stage::serving(1, false);
    stage.does(Workers::reload);
    assert_eq!(stage.says("w0.1", ToMaster::Ready), ["Drain w0.0"]);
    assert_eq!(stage.does(Workers::stop_gracefully), ["Close w0.0", "Close w0.1"]);
}

#[test]
fn a_graceful_stop_does_not_wait_for_what_loads() {
    let (mut stage, _) = Stage::new(2, true);
    assert_eq!(stage.does(Workers::stop_gracefully), ["KILL t0"]);
    assert_eq!(stage.ends("t0", KILLED), ["exit 0"]);
}

#[test]
fn a_fast_stop_has_a_short_ladder() {
    let mut stage = Stage::serving(1, true);
    assert_eq!(stage.does(Workers::stop_fast), ["Stop t0", "Stop w0.0"]);
    assert_eq!(stage.ends("t0", 0), NOTHING);
    assert_eq!(stage.passes(SECOND), ["TERM w0.0"]);
    assert_eq!(stage.passes(SECOND), ["KILL w0.0"]);
    assert_eq!(stage.ends("w0.0", KILLED), ["exit 0"]);
}

#[test]
fn a_second_stop_is_faster() {
    let mut stage = Stage::serving(1, false);
    assert_eq!(stage.does(Workers::stop_gracefully), ["Close w0.0"]);
    assert_eq!(stage.does(Workers::stop_gracefully), ["Stop w0.0"]);
    assert_eq!(stage.does(Workers::stop_fast), ["KILL w0.0"]);
    assert_eq!(stage.ends("w0.0", KILLED), ["exit 0"]);
}
