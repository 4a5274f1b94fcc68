//! From one generation to the next.

use super::*;

#[test]
fn a_reload_replaces_one_worker_after_the_other() {
    for preload in [true, false] {
        let mut stage = Stage::serving(3, preload);
        let start = if preload { "fork" } else { "start" };
        if preload {
            assert_eq!(stage.does(Workers::reload), ["start t1"]);
            assert_eq!(stage.says("t1", ToMaster::Loaded), ["fork w0.1"], "the first has to prove itself");
        } else {
            assert_eq!(stage.does(Workers::reload), ["start w0.1"]);
        }
        // A worker of the old generation that dies meanwhile is replaced as ever.
        stage.now += SECOND;
        assert_eq!(stage.ends("w1.0", KILLED), [format!("{start} w1.0")]);
        stage.comes_up("w1.0", preload);
        assert_eq!(stage.comes_up("w0.1", preload), ["Drain w2.0"]);
        // Not before it has ended: its memory counts.
        assert_eq!(stage.ends("w2.0", 0), [format!("{start} w1.1")]);
        assert_eq!(stage.comes_up("w1.1", preload), ["Drain w1.0"]);
        assert_eq!(stage.ends("w1.0", 0), [format!("{start} w2.1")]);
        let done = stage.comes_up("w2.1", preload);
        match preload {
            true => assert_eq!(done, ["Drain w0.0", "Stop t0"]),
            false => assert_eq!(done, ["Drain w0.0"]),
        }
        assert_eq!(stage.ends("w0.0", 0), NOTHING, "the old ones are not replaced");
        assert_eq!(stage.ends("w0.1", KILLED), [format!("{start} w0.1")]);
    }
}

#[test]
fn a_reload_never_has_more_workers_than_its_surge_allows() {
    for (surge, workers, most) in [
        (Surge::Percent(25), 8, 10),
        (Surge::Percent(25), 9, 12),
        (Surge::Percent(1), 2, 3),
        (Surge::Count(3), 4, 7),
        // The first one has an old one leave before the others are started.
        (Surge::Percent(100), 5, 9),
    ] {
        let mut stage = Stage::serving_with(Settings { max_surge: surge, ..settings(workers, false) });
        let mut alive = usize::from(workers);
        let mut highest = alive;
        let mut to_do: VecDeque<String> = stage.does(Workers::reload).into();
        while let Some(done) = to_do.pop_front() {
            let (what, name) = done.split_once(' ').expect("two words");
            to_do.extend(match what {
                "start" => {
                    alive += 1;
                    highest = highest.max(alive);
                    stage.says(name, ToMaster::Ready)
                }
                "Drain" => {
                    alive -= 1;
                    stage.ends(name, 0)
                }
                _ => panic!("{done}"),
            });
        }
        assert_eq!((alive, highest), (workers.into(), most), "{surge:?} of {workers}");
        assert!(stage.workers.outgoing.is_none());
    }
}

#[test]
fn a_worker_that_finishes_a_long_request_holds_its_place_in_a_reload_but_not_for_ever() {
    let mut stage = Stage::serving(2, false);
    stage.does(Workers::reload);
    assert_eq!(stage.says("w0.1", ToMaster::Ready), ["Drain w1.0"]);
    assert_eq!(stage.passes(GRACE + GRACE_MARGIN), ["KILL w1.0"]);
    assert_eq!(stage.ends("w1.0", KILLED), ["start w1.1"]);
    assert_eq!(stage.says("w1.1", ToMaster::Ready), ["Drain w0.0"]);
}

#[test]
fn broken_new_code_keeps_the_old_generation() {
    let mut stage = Stage::serving(2, true);
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
    assert_eq!(stage.says("t1", load_failed()), ["KILL t1"]);
    assert_eq!(stage.ends("t1", KILLED), NOTHING);
    assert_eq!(stage.ends("w0.0", KILLED), ["fork w0.0"]);
    stage.comes_up("w0.0", true);
    // The same number is taken again: no generation 1 has ever served.
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
    assert_eq!(stage.ends("t1", libc::SIGSEGV), NOTHING);
    // It loads, but the first copy of it does not live.
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
    assert_eq!(stage.says("t1", ToMaster::Loaded), ["fork w0.1"]);
    stage.forked(0, 1);
    assert_eq!(stage.ends("w0.1", libc::SIGSEGV), ["Stop t1"]);
    for name in ["w0.0", "w1.0"] {
        let id = stage.id(name);
        assert!(stage.workers.is_ready(id), "{name}");
    }
}

#[test]
fn a_reload_that_fails_half_way_goes_back_where_the_old_code_is_still_there() {
    let mut stage = Stage::serving(3, true);
    stage.does(Workers::reload);
    stage.says("t1", ToMaster::Loaded);
    assert_eq!(stage.comes_up("w0.1", true), ["Drain w2.0"]);
    assert_eq!(stage.ends("w2.0", 0), ["fork w1.1"]);
    stage.forked(1, 1);
    assert_eq!(stage.ends("w1.1", libc::SIGSEGV), ["fork w2.0"], "from the old template");
    // The worker of the new generation serves until there are enough old ones again.
    assert_eq!(stage.comes_up("w2.0", true), ["Drain w0.1", "Stop t1"]);
    // Its number has served, and is not taken again.
    assert_eq!(stage.does(Workers::reload), ["start t2"]);
}

#[test]
fn a_reload_that_fails_half_way_goes_on_trying_where_only_the_new_code_is_left() {
    let mut stage = Stage::serving(2, false);
    stage.does(Workers::reload);
    assert_eq!(stage.says("w0.1", ToMaster::Ready), ["Drain w1.0"]);
    assert_eq!(stage.ends("w1.0", 0), ["start w1.1"]);
    assert_eq!(stage.ends("w1.1", FAILED), ["start w1.1"]);
    assert_eq!(stage.ends("w1.1", FAILED), NOTHING);
    assert_eq!(stage.passes(SECOND), ["start w1.1"]);
    // The last one of the old generation serves as long as that takes.
    assert_eq!(stage.says("w1.1", ToMaster::Ready), ["Drain w0.0"]);
}

#[test]
fn an_old_worker_that_dies_during_a_reload_leaves_its_place_to_a_new_one() {
    let mut stage = Stage::serving(3, true);
    stage.does(Workers::reload);
    stage.says("t1", ToMaster::Loaded);
    assert_eq!(stage.comes_up("w0.1", true), ["Drain w2.0"]);
    assert_eq!(stage.ends("w0.0", KILLED), ["fork w1.1"]);
    assert_eq!(stage.ends("w2.0", 0), ["fork w2.1"]);
}

#[test]
fn a_reload_during_a_reload_follows_it_once() {
    let mut stage = Stage::serving(1, false);
    assert_eq!(stage.does(Workers::reload), ["start w0.1"]);
    assert_eq!(stage.does(Workers::reload), NOTHING);
    assert_eq!(stage.does(Workers::reload), NOTHING);
    assert_eq!(stage.says("w0.1", ToMaster::Ready), ["Drain w0.0", "start w0.2"]);
    assert_eq!(stage.says("w0.2", ToMaster::Ready), ["Drain w0.1"]);
}

#[test]
fn a_worker_started_for_a_reload_that_has_just_failed_is_killed() {
    let mut stage = Stage::serving(2, false);
    assert!(matches!(stage.workers.reload(stage.now)[..], [Action::Configure { generation: 1 }]));
    let settings = stage.configuration.clone().expect("a configuration");
    let Some(Action::StartWorker { id, .. }) = stage.workers.on_configured(settings, stage.now).pop() else {
        panic!("a first worker")
    };
    stage.does(|workers, now| workers.on_misbehaviour(id, "it says nonsense", now));
    stage.does(|workers, now| workers.on_not_started(id, "no memory".into(), now));
    let late = stage.workers.on_started(id, pid_of(id));
    assert!(matches!(late[..], [Action::Forget(_), Action::Kill { signal: libc::SIGKILL, .. }]), "{late:?}");
}

#[test]
fn the_end_of_each_reload_is_told_once() {
    let mut stage = Stage::serving(1, true);
    assert_eq!(stage.workers.next_reload(), Some(1));
    stage.does(Workers::reload);
    // Asked for while one is under way: it waits for the one after that.
    assert_eq!(stage.workers.next_reload(), Some(2));
    stage.does(Workers::reload);
    stage.says("t1", ToMaster::Loaded);
    assert_eq!(stage.outcomes, []);
    stage.comes_up("w0.1", true);
    assert_eq!(stage.outcomes, [(1, Ok(1))]);
    stage.says("t2", load_failed());
    let (number, result) = stage.outcomes.pop().expect("the second one");
    let why = result.expect_err("it has failed");
    assert!(number == 2 && why.starts_with("Traceback") && why.contains("cannot load application"), "{why}");
    let tally = stage.workers.tally();
    assert_eq!((tally.reloads, tally.failed_reloads), (1, 1));
    stage.does(Workers::stop_gracefully);
    assert_eq!(stage.workers.next_reload(), None);
}

#[test]
fn a_reload_that_goes_back_has_failed_and_the_way_back_is_no_success() {
    let mut stage = Stage::serving(2, true);
    stage.does(Workers::reload);
    stage.says("t1", ToMaster::Loaded);
    stage.comes_up("w0.1", true);
    stage.ends("w1.0", 0);
    stage.forked(1, 1);
    stage.ends("w1.1", libc::SIGSEGV);
    stage.comes_up("w1.0", true);
    assert!(matches!(stage.outcomes.as_slice(), [(1, Err(_))]), "{:?}", stage.outcomes);
    assert!(!stage.workers.is_reloading());
}
