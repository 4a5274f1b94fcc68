//! How many workers there are.

use super::*;

#[test]
fn workers_are_added_and_taken_away_but_for_the_last() {
    let mut stage = Stage::serving(1, true);
    assert_eq!(stage.does(|workers, now| workers.change_count(true, now)), ["fork w1.0"]);
    stage.forked(1, 0);
    stage.says("w1.0", ToMaster::Ready);
    assert_eq!(stage.does(|workers, now| workers.change_count(false, now)), ["Drain w1.0"]);
    assert_eq!(stage.ends("w1.0", 0), NOTHING);
    assert_eq!(stage.does(|workers, now| workers.change_count(false, now)), NOTHING);
}
