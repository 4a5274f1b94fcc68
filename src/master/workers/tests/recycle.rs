//! Workers that have served enough.

use super::*;

const MIB: u64 = 1 << 20;

fn had_enough() -> ToMaster {
    ToMaster::WantsReplacement { requests: 1000 }
}

#[test]
fn the_successor_is_ready_before_a_worker_that_has_served_enough_drains() {
    for preload in [true, false] {
        let mut stage = Stage::serving(2, preload);
        let start = if preload { "fork w0.0" } else { "start w0.0" };
        let old = stage.id("w0.0");
        assert_eq!(stage.says("w0.0", had_enough()), [start]);
        assert!(stage.workers.is_ready(old), "it serves");
        assert_eq!(stage.comes_up("w0.0", preload), [format!("Drain #{}", old.0)]);
        assert_eq!(stage.ends_as(old, 0), NOTHING);
        // The new one is a worker like any other.
        stage.now += SECOND;
        assert_eq!(stage.ends("w0.0", KILLED), [start]);
    }
}

#[test]
fn one_worker_at_a_time_is_replaced_and_the_others_serve_until_it_is_their_turn() {
    let mut stage = Stage::serving(3, true);
    let old = ["w0.0", "w1.0", "w2.0"].map(|name| stage.id(name));
    assert_eq!(stage.says("w1.0", had_enough()), ["fork w1.0"]);
    stage.now += SECOND;
    assert_eq!(stage.says("w2.0", had_enough()), NOTHING);
    stage.now += SECOND;
    assert_eq!(stage.says("w0.0", had_enough()), NOTHING);
    assert_eq!(stage.comes_up("w1.0", true), [format!("Drain #{}", old[1].0)]);
    // Until the first one has ended, and then in the order in which they have asked.
    assert_eq!(stage.ends_as(old[1], 0), ["fork w2.0"]);
    assert_eq!(stage.comes_up("w2.0", true), [format!("Drain #{}", old[2].0)]);
    assert_eq!(stage.ends_as(old[2], 0), ["fork w0.0"]);
    assert_eq!(stage.comes_up("w0.0", true), [format!("Drain #{}", old[0].0)]);
    assert_eq!(stage.ends_as(old[0], 0), NOTHING);
    assert_eq!(stage.workers.recycling.counts.for_requests, 3);
}

#[test]
fn a_worker_goes_on_serving_if_its_successor_does_not_come_up() {
    let mut stage = Stage::serving(1, false);
    let old = stage.id("w0.0");
    assert_eq!(stage.says("w0.0", had_enough()), ["start w0.0"]);
    assert_eq!(stage.ends("w0.0", FAILED), ["start w0.0"]);
    assert_eq!(stage.ends("w0.0", FAILED), NOTHING);
    assert_eq!(stage.passes(SECOND), ["start w0.0"]);
    assert!(stage.workers.is_ready(old));
    assert_eq!(stage.says("w0.0", load_failed()), NOTHING);
    assert_eq!(stage.ends("w0.0", FAILED), NOTHING);
    assert_eq!(stage.passes(2 * SECOND), ["start w0.0"]);
    assert_eq!(stage.says("w0.0", ToMaster::Ready), [format!("Drain #{}", old.0)]);
}

#[test]
fn the_successor_of_a_worker_that_dies_meanwhile_takes_its_place() {
    let mut stage = Stage::serving(1, true);
    stage.now += SECOND;
    let old = stage.id("w0.0");
    stage.says("w0.0", had_enough());
    assert_eq!(stage.ends_as(old, KILLED), NOTHING);
    assert_eq!(stage.comes_up("w0.0", true), NOTHING);
    // And its own turn comes, too.
    assert_eq!(stage.says("w0.0", had_enough()), ["fork w0.0"]);
}

#[test]
fn a_worker_that_has_served_enough_while_a_reload_is_under_way_is_replaced_by_that() {
    let mut stage = Stage::serving(2, false);
    stage.does(Workers::reload);
    assert_eq!(stage.says("w0.0", had_enough()), NOTHING);
    assert_eq!(stage.says("w0.1", ToMaster::Ready), ["Drain w1.0"]);
    assert_eq!(stage.ends("w1.0", 0), ["start w1.1"]);
    // One of the new generation waits until it is complete.
    assert_eq!(stage.says("w0.1", had_enough()), NOTHING);
    assert_eq!(stage.says("w1.1", ToMaster::Ready), ["Drain w0.0", "start w0.1"]);
}

#[test]
fn a_reload_takes_a_successor_along() {
    let mut stage = Stage::serving(1, false);
    let old = stage.id("w0.0");
    stage.says("w0.0", had_enough());
    assert_eq!(stage.does(Workers::reload), ["start w0.1"]);
    assert_eq!(stage.says("w0.1", ToMaster::Ready), ["KILL w0.0".to_owned(), format!("Drain #{}", old.0)]);
}

#[test]
fn a_worker_less_takes_its_successor_along() {
    let mut stage = Stage::serving(2, false);
    let old = stage.id("w1.0");
    stage.says("w1.0", had_enough());
    let done = stage.does(|workers, now| workers.change_count(false, now));
    assert_eq!(done, ["KILL w1.0".to_owned(), format!("Drain #{}", old.0)]);
    stage.ends("w1.0", KILLED);
    assert_eq!(stage.says("w0.0", had_enough()), NOTHING, "one at a time");
    assert_eq!(stage.ends_as(old, 0), ["start w0.0"]);
}

#[test]
fn workers_are_replaced_when_they_have_served_for_their_time_but_not_together() {
    let lifetime = 100 * SECOND;
    let mut stage = Stage::serving_with(Settings { max_lifetime: Some(lifetime), ..settings(4, false) });
    let begin = stage.now;
    assert!(stage.workers.deadline().is_some_and(|at| at >= begin + lifetime));
    let mut at = Vec::new();
    for _ in 0..4 {
        let deadline = stage.workers.deadline().expect("a deadline");
        let done = stage.passes(deadline - stage.now);
        let [done] = &done[..] else { panic!("{done:?}") };
        let name = done.strip_prefix("start ").expect("a start").to_owned();
        let older = stage.names.iter().find(|(_, other)| **other == name).map(|(&id, _)| id).expect("it");
        at.push(stage.now - begin);
        assert_eq!(stage.says(&name, ToMaster::Ready), [format!("Drain #{}", older.0)]);
        stage.ends_as(older, 0);
    }
    assert!(at.iter().all(|at| *at >= lifetime && *at <= lifetime + lifetime / 10), "{at:?}");
    assert!(at.windows(2).all(|two| two[0] < two[1]), "{at:?}");
}

#[test]
fn memory_is_looked_at_each_second_and_counts_against_its_limit() {
    let limit = Settings { max_memory_bytes: Some(100 * MIB), ..settings(2, true) };
    let mut stage = Stage::serving_with(limit);
    for _ in 0..20 {
        assert_eq!(stage.passes(SECOND), ["measure w0.0", "measure w1.0"]);
        assert_eq!(stage.uses("w0.0", 100 * MIB), NOTHING);
    }
    let old = stage.id("w0.0");
    assert_eq!(stage.uses("w0.0", 100 * MIB + 1), ["fork w0.0"]);
    assert_eq!(stage.passes(SECOND), ["measure w1.0"]);
    assert_eq!(stage.comes_up("w0.0", true), [format!("Drain #{}", old.0)]);
    assert_eq!(stage.workers.recycling.counts.for_memory, 1);
}

#[test]
fn a_limit_of_memory_that_every_worker_exceeds_replaces_them_more_and_more_slowly() {
    let mut stage = Stage::serving_with(Settings { max_memory_bytes: Some(MIB), ..settings(1, false) });
    let mut starts = Vec::new();
    let begin = stage.now;
    while starts.len() < 6 {
        stage.now += SECOND;
        let mut done = stage.does(|workers, now| workers.on_deadline(now));
        if done.iter().any(|done| done == "measure w0.0") {
            done.extend(stage.uses("w0.0", 2 * MIB));
        }
        if done.iter().any(|done| done == "start w0.0") {
            starts.push((stage.now - begin).as_secs());
            let older = stage.names.keys().rev().nth(1).copied().expect("an old one");
            stage.says("w0.0", ToMaster::Ready);
            stage.ends_as(older, 0);
        }
    }
    let gaps: Vec<u64> = starts.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(gaps, [1, 1, 2, 4, 8]);
}
