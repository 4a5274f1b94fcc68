//! Processes that end by themselves, or do not, and what takes their place.

use super::*;

#[test]
fn a_killed_worker_is_replaced_at_once() {
    let mut stage = Stage::serving(2, true);
    stage.now += SECOND;
    for _ in 0..10 {
        assert_eq!(stage.ends("w1.0", KILLED), ["fork w1.0"]);
        stage.forked(1, 0);
        stage.says("w1.0", ToMaster::Ready);
        stage.now += SECOND;
    }
}

#[test]
fn workers_that_end_at_their_start_are_replaced_more_and_more_slowly() {
    let mut stage = Stage::serving(1, false);
    assert_eq!(stage.ends("w0.0", FAILED), ["start w0.0"], "young, but the first");
    for seconds in [1, 2, 4, 8, 16, 32, 32, 32] {
        assert_eq!(stage.ends("w0.0", FAILED), NOTHING);
        assert_eq!(stage.workers.deadline(), Some(stage.now + seconds * SECOND));
        assert_eq!(stage.passes(seconds * SECOND - SECOND / 2), NOTHING);
        assert_eq!(stage.passes(SECOND / 2), ["start w0.0"]);
    }
    // One that has lived makes it good.
    stage.says("w0.0", ToMaster::Ready);
    stage.now += SECOND;
    assert_eq!(stage.ends("w0.0", FAILED), ["start w0.0"]);
}

#[test]
fn a_template_that_died_is_replaced_when_a_worker_is_missing() {
    let mut stage = Stage::serving(2, true);
    stage.now += SECOND;
    assert_eq!(stage.ends("t0", KILLED), NOTHING);
    assert_eq!(stage.ends("w0.0", KILLED), ["start t0"]);
    assert_eq!(stage.says("t0", ToMaster::Loaded), ["fork w0.0"]);
    // It dies before it has forked: its successor, one second later, does.
    assert_eq!(stage.ends("t0", KILLED), NOTHING);
    assert_eq!(stage.passes(SECOND), ["start t0"]);
    assert_eq!(stage.says("t0", ToMaster::Loaded), ["fork w0.0"]);
}

#[test]
fn a_worker_that_retires_is_replaced_while_it_drains() {
    let mut stage = Stage::serving(2, true);
    let old = stage.id("w0.0");
    let reason = "a request took too long".to_owned();
    assert_eq!(stage.says("w0.0", ToMaster::Retiring { reason }), ["fork w0.0"]);
    stage.forked(0, 0);
    stage.says("w0.0", ToMaster::Ready);
    assert_eq!(stage.passes(GRACE + GRACE_MARGIN), ["KILL w0.0"]);
    let status = ExitStatus::from_raw(KILLED);
    assert_eq!(stage.does(|workers, now| workers.on_exit(pid_of(old), status, now)), NOTHING);
}

#[test]
fn a_worker_may_be_ready_before_its_template_says_that_it_exists() {
    let mut stage = Stage::serving(1, true);
    stage.does(Workers::reload);
    stage.says("t1", ToMaster::Loaded);
    assert_eq!(stage.says("w0.1", ToMaster::Ready), NOTHING);
    assert_eq!(stage.forked(0, 1), ["Drain w0.0", "Stop t0"]);
}

#[test]
fn a_worker_may_end_before_its_template_says_that_it_exists() {
    let mut stage = Stage::serving(1, true);
    stage.now += SECOND;
    stage.ends("w0.0", KILLED);
    let pid = pid_of(stage.id("w0.0"));
    assert_eq!(stage.ends("w0.0", FAILED), NOTHING, "nobody known");
    assert_eq!(stage.forked_as(0, 0, pid, false), ["fork w0.0"]);
}

#[test]
fn a_template_that_can_not_fork_is_asked_again_later() {
    let mut stage = Stage::serving(1, true);
    stage.now += SECOND;
    stage.ends("w0.0", KILLED);
    let failed = || ToMaster::ForkFailed { slot: 0, generation: 0, reason: "no memory".into() };
    assert_eq!(stage.says("t0", failed()), ["fork w0.0"]);
    assert_eq!(stage.says("t0", failed()), NOTHING);
    assert_eq!(stage.passes(SECOND), ["fork w0.0"]);
}

#[test]
fn a_template_that_does_not_answer_is_killed() {
    let mut stage = Stage::serving(1, true);
    stage.now += SECOND;
    stage.ends("w0.0", KILLED);
    assert_eq!(stage.passes(LONGEST_FORK), ["KILL t0", "fork w0.0"]);
    assert_eq!(stage.ends("t0", KILLED), ["start t0"]);
}

#[test]
fn a_process_that_closes_its_channel_must_end_soon() {
    let mut stage = Stage::serving(1, false);
    let id = stage.id("w0.0");
    assert_eq!(stage.does(|workers, now| workers.on_closed(id, now)), NOTHING);
    assert_eq!(stage.passes(SHORT), ["KILL w0.0"]);
    // One that leaves has the time that it was given.
    let mut stage = Stage::serving(1, false);
    stage.does(Workers::stop_gracefully);
    let id = stage.id("w0.0");
    assert_eq!(stage.does(|workers, now| workers.on_closed(id, now)), NOTHING);
    assert_eq!(stage.passes(SHORT), NOTHING);
}
