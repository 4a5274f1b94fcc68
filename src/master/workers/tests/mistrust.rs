//! Messages that make no sense.

use super::*;

#[test]
fn whoever_says_what_it_can_not_have_to_say_is_killed() {
    let says = |name: &'static str, message: ToMaster| (name, message);
    for (name, message) in [
        says("w0.0", ToMaster::Ready),
        says("w0.0", ToMaster::Loaded),
        says("w0.0", load_failed()),
        says("w0.0", ToMaster::CannotPreload { reasons: Vec::new() }),
        says("w0.0", ToMaster::ForkFailed { slot: 0, generation: 0, reason: String::new() }),
        says("t0", ToMaster::Ready),
        says("t0", ToMaster::Loaded),
        says("t0", load_failed()),
        says("t0", ToMaster::WantsReplacement { requests: 1 }),
        says("t0", ToMaster::Retiring { reason: String::new() }),
        says("t0", ToMaster::ForkFailed { slot: 0, generation: 0, reason: String::new() }),
    ] {
        let mut stage = Stage::serving(1, true);
        assert_eq!(stage.says(name, message.clone()), [format!("KILL {name}")], "{message:?}");
        let done = stage.ends(name, KILLED);
        assert_eq!(done, if name == "w0.0" { vec!["fork w0.0"] } else { vec![] });
    }
}

#[test]
fn a_worker_that_misbehaves_before_its_template_speaks_of_it_is_killed_and_replaced() {
    let mut stage = Stage::serving(1, true);
    stage.now += SECOND;
    stage.ends("w0.0", KILLED);
    let id = stage.id("w0.0");
    assert_eq!(stage.does(|workers, now| workers.on_misbehaviour(id, "nonsense", now)), NOTHING);
    assert_eq!(stage.forked(0, 0), ["KILL w0.0"]);
    assert_eq!(stage.ends("w0.0", KILLED), ["fork w0.0"]);
}

#[test]
fn a_template_can_not_have_the_master_kill_strangers() {
    for (pid, is_child) in [(1, false), (1002, true), (1001, true), (-1, false), (0, false)] {
        let mut stage = Stage::serving(1, true);
        stage.now += SECOND;
        stage.does(|workers, now| workers.change_count(true, now));
        let done = stage.forked_as(1, 0, pid, is_child);
        assert_eq!(done, ["KILL t0"], "{pid}");
    }
    // Nobody asked for this one.
    let mut stage = Stage::serving(1, true);
    assert_eq!(stage.forked_as(7, 0, 4711, true), ["KILL t0"]);
    assert_eq!(stage.forked_as(0, 0, 4711, true), ["KILL t0"]);
}

#[test]
fn a_worker_that_leaves_can_not_keep_the_master_busy() {
    let mut stage = Stage::serving(1, false);
    stage.does(Workers::stop_gracefully);
    let said: Vec<String> = (0..9).flat_map(|_| stage.says("w0.0", ToMaster::Ready)).collect();
    assert_eq!(said, ["KILL w0.0"]);
}
