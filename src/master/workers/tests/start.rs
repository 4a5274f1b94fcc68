//! The first start: what comes up, and what ends forkhorn.

use super::*;

#[test]
fn workers_are_forked_once_the_template_has_loaded() {
    let (mut stage, first) = Stage::new(2, true);
    assert_eq!(first, ["start t0"]);
    assert_eq!(stage.says("t0", ToMaster::Loaded), ["fork w0.0", "fork w1.0"]);
    assert_eq!(stage.all_come_up(2, 0, true), NOTHING);
}

#[test]
fn without_preload_each_worker_is_started_by_itself() {
    let (mut stage, first) = Stage::new(2, false);
    assert_eq!(first, ["start w0.0", "start w1.0"]);
    stage.all_come_up(2, 0, false);
    assert_eq!(stage.ends("w1.0", KILLED), ["start w1.0"]);
}

#[test]
fn an_application_that_can_not_be_copied_is_loaded_by_each_worker() {
    let (mut stage, _) = Stage::new(2, true);
    let reasons = vec!["loading started a thread".to_owned()];
    assert_eq!(stage.says("t0", ToMaster::CannotPreload { reasons }), ["start w0.0", "start w1.0"]);
    assert_eq!(stage.ends("t0", WorkerExit::CannotPreload.code() << 8), NOTHING);
    stage.all_come_up(2, 0, false);
    assert_eq!(stage.ends("w0.0", KILLED), ["start w0.0"], "and so are those that replace them");
    // New code may be different.
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
}

#[test]
fn an_application_that_can_not_be_loaded_at_the_first_start_ends_forkhorn() {
    for (preload, name) in [(true, "t0"), (false, "w1.0")] {
        let (mut stage, _) = Stage::new(2, preload);
        let done = stage.says(name, load_failed());
        assert_eq!(
            done[0],
            "exit 3: cannot load application 'shop:app': ModuleNotFoundError: No module named 'shop'\ninstall it"
        );
    }
}

#[test]
fn a_first_template_that_ends_while_it_loads_ends_forkhorn() {
    for (status, expected) in [
        (
            libc::SIGSEGV,
            "exit 3: cannot load the application: template generation 0 (pid 1001) was killed by signal 11 (SIGSEGV) \
             while it loaded",
        ),
        (
            7 << 8,
            "exit 3: cannot load the application: template generation 0 (pid 1001) exited with status 7 while it \
             loaded: the application has ended the process (os._exit), or what --python names is no Python",
        ),
        (
            WorkerExit::NotStarted.code() << 8,
            "exit 1: cannot serve: template generation 0 (pid 1001) exited with status 82 (not started)",
        ),
    ] {
        let (mut stage, _) = Stage::new(2, true);
        assert_eq!(stage.ends("t0", status)[0], expected);
    }
    let (mut stage, _) = Stage::new(2, true);
    let id = stage.id("t0");
    let done = stage.does(|workers, now| workers.on_not_started(id, "no such file".into(), now));
    assert!(done[0].ends_with("could not be started: no such file"), "{done:?}");
}

#[test]
fn forkhorn_gives_up_when_no_worker_ever_comes_up() {
    let (mut stage, _) = Stage::new(1, false);
    for _ in 1..MAX_FIRST_FAILURES {
        let done = stage.ends("w0.0", FAILED);
        assert!(done.is_empty() || done == ["start w0.0"], "{done:?}");
        if done.is_empty() {
            assert_eq!(stage.passes(32 * SECOND), ["start w0.0"]);
        }
    }
    assert!(stage.ends("w0.0", FAILED)[0].starts_with("exit 3: "));
}
