//! A reload with another configuration.

use super::*;

#[test]
fn a_wrong_configuration_changes_nothing() {
    let mut stage = Stage::serving(2, true);
    stage.configuration = None;
    assert_eq!(stage.does(Workers::reload), NOTHING);
    assert!(stage.workers.is_current(0) && !stage.workers.is_current(1));
    assert_eq!(stage.ends("w1.0", KILLED), ["fork w1.0"]);
    stage.configuration = Some(settings(2, true));
    assert_eq!(stage.does(Workers::reload), ["start t1"]);
    assert!(stage.workers.is_current(0) && stage.workers.is_current(1));
}

#[test]
fn what_the_configuration_changes_holds_once_the_new_generation_serves() {
    let mut stage = Stage::serving(1, true);
    stage.configuration = Some(settings(1, false));
    assert_eq!(stage.does(Workers::reload), ["start w0.1"], "the new one needs no template");
    assert_eq!(stage.ends("w0.0", KILLED), ["fork w0.0"], "the old one does");
    stage.forked(0, 0);
    stage.says("w0.0", ToMaster::Ready);
    stage.says("w0.1", ToMaster::Ready);
    stage.now += SECOND;
    assert_eq!(stage.ends("w0.1", KILLED), ["start w0.1"]);
}

#[test]
fn another_number_of_workers_replaces_the_one_of_ttin() {
    let mut stage = Stage::serving(1, false);
    stage.does(|workers, now| workers.change_count(true, now));
    stage.says("w1.0", ToMaster::Ready);
    stage.does(Workers::reload);
    stage.says("w0.1", ToMaster::Ready);
    assert_eq!(stage.workers.wanted, 2, "the same configuration");
    stage.ends("w1.0", 0);
    stage.says("w1.1", ToMaster::Ready);
    stage.ends("w0.0", 0);
    stage.configuration = Some(settings(3, false));
    assert_eq!(stage.does(Workers::reload), ["start w0.2"]);
    assert_eq!(stage.workers.wanted, 2, "not yet");
    stage.says("w0.2", ToMaster::Ready);
    assert_eq!(stage.workers.wanted, 3);
}

#[test]
fn a_generation_that_takes_over_again_has_its_old_configuration() {
    let mut stage = Stage::serving(2, true);
    stage.configuration = Some(settings(3, true));
    stage.does(Workers::reload);
    stage.says("t1", ToMaster::Loaded);
    stage.forked(0, 1);
    stage.says("w0.1", ToMaster::Ready);
    assert_eq!(stage.workers.wanted, 3);
    stage.forked(1, 1);
    stage.ends("w1.1", KILLED);
    assert_eq!((stage.workers.current.number, stage.workers.wanted), (0, 2));
}

#[test]
fn a_reload_that_fails_leaves_the_old_configuration_in_force() {
    let mut stage = Stage::serving(1, true);
    stage.configuration = Some(settings(4, false));
    stage.does(Workers::reload);
    stage.ends("w0.1", KILLED);
    assert_eq!(stage.ends("w0.0", KILLED), ["fork w0.0"]);
}
