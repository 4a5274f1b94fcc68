//! From one generation to the next.

use super::*;

#[test]
fn a_reload_brings_the_new_generation_up_before_the_old_one_drains() {
    for preload in [true, false] {
        let mut stage = Stage::serving(2, preload);
        if preload {
            assert_eq!(stage.does(Workers::reload), ["start t1"]);
            assert_eq!(stage.says("t1", ToMaster::Loaded), ["fork w0.1", "fork w1.1"]);
            stage.forked(0, 1);
            stage.forked(1, 1);
        } else {
            assert_eq!(stage.does(Workers::reload), ["start w0.1", "start w1.1"]);
        }
        assert_eq!(stage.says("w1.1", ToMaster::Ready), NOTHING);
        // A worker of the old generation that dies meanwhile is replaced as ever.
        stage.now += SECOND;
        let replaced = stage.ends("w1.0", KILLED);
        assert_eq!(replaced, [if preload { "fork w1.0" } else { "start w1.0" }]);
        if preload {
            stage.forked(1, 0);
        }
        stage.says("w1.0", ToMaster::Ready);
        let done = stage.says("w0.1", ToMaster::Ready);
        match preload {
            true => assert_eq!(done, ["Stop t0", "Drain w0.0", "Drain w1.0"]),
            false => assert_eq!(done, ["Drain w0.0", "Drain w1.0"]),
        }
        for name in ["w0.0", "w1.0"] {
            assert_eq!(stage.ends(name, 0), NOTHING, "the old ones are not replaced");
        }
        let replaced = stage.ends("w0.1", KILLED);
        assert_eq!(replaced, [if preload { "fork w0.1" } else { "start w0.1" }]);
    }
}

#[test]
fn broken_new_code_keeps_the_old_generation() {
    let mut stage = Stage::serving(2, true);
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
    assert_eq!(stage.says("t1", load_failed()), ["KILL t1"]);
    assert_eq!(stage.ends("t1", KILLED), NOTHING);
    assert_eq!(stage.ends("w0.0", KILLED), ["fork w0.0"]);
    // The same number is taken again: no generation 1 has ever served.
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
    assert_eq!(stage.ends("t1", libc::SIGSEGV), NOTHING);
    // A worker of the new generation that serves already finishes what it has begun.
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
    stage.says("t1", ToMaster::Loaded);
    stage.all_come_up(1, 1, true);
    stage.forked(1, 1);
    assert_eq!(stage.ends("w1.1", libc::SIGSEGV), ["Stop t1", "Drain w0.1"]);
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
    let mut actions = stage.workers.reload(stage.now).into_iter();
    let (Some(Action::StartWorker { id: first, .. }), Some(Action::StartWorker { id: second, .. })) =
        (actions.next(), actions.next())
    else {
        panic!("two workers")
    };
    assert_eq!(stage.does(|workers, now| workers.on_not_started(first, "no memory".into(), now)), NOTHING);
    let pid = pid_of(second);
    let late = stage.workers.on_started(second, pid);
    assert!(matches!(late[..], [Action::Forget(_), Action::Kill { signal: libc::SIGKILL, .. }]), "{late:?}");
}
