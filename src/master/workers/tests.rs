//! Stories: what happens, and what the master does about it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use super::*;
use crate::channel::ToMaster;
use crate::process::WorkerExit;

const GRACE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// Executes actions on paper. Processes are called `t0` (template, generation 0) and `w1.0` (worker 1, generation 0); a
/// pid is the process's number and 1000.
struct Stage {
    workers: Workers,
    now: Instant,
    names: BTreeMap<ProcessId, String>,
}

impl Stage {
    fn new(workers: u16, preload: bool) -> (Stage, Vec<String>) {
        let settings = Settings { workers, preload, applications: true, graceful_timeout: GRACE };
        let now = Instant::now();
        let mut stage = Stage { workers: Workers::new(settings), now, names: BTreeMap::new() };
        let first = stage.does(|workers, now| workers.start(now));
        (stage, first)
    }

    /// All workers are ready.
    fn serving(workers: u16, preload: bool) -> Stage {
        let (mut stage, _) = Stage::new(workers, preload);
        if preload {
            stage.says("t0", ToMaster::Loaded);
        }
        stage.all_come_up(workers, 0, preload);
        stage
    }

    fn all_come_up(&mut self, workers: u16, generation: u32, preload: bool) -> Vec<String> {
        let mut last = Vec::new();
        for slot in 0..workers {
            if preload {
                self.forked(slot, generation);
            }
            last = self.says(&format!("w{slot}.{generation}"), ToMaster::Ready);
        }
        last
    }

    fn does(&mut self, fact: impl FnOnce(&mut Workers, Instant) -> Vec<Action>) -> Vec<String> {
        let actions = fact(&mut self.workers, self.now);
        let done = actions.into_iter().filter_map(|action| self.execute(action)).collect();
        let deadline = self.workers.deadline();
        assert!(deadline.is_none_or(|at| at > self.now), "the loop would spin");
        done
    }

    fn execute(&mut self, action: Action) -> Option<String> {
        Some(match action {
            Action::StartTemplate { id, generation } => self.start(id, format!("t{generation}")),
            Action::StartWorker { id, slot, generation } => self.start(id, format!("w{slot}.{generation}")),
            Action::Fork { id, slot, generation, .. } => {
                let name = format!("w{slot}.{generation}");
                self.names.insert(id, name.clone());
                format!("fork {name}")
            }
            Action::Tell(id, order) => {
                let order = match order {
                    Order::Drain { hand_over: true } => "Drain",
                    Order::Drain { hand_over: false } => "Close",
                    Order::Stop => "Stop",
                };
                format!("{order} {}", self.names[&id])
            }
            Action::Kill { pid, signal: libc::SIGTERM } => format!("TERM {}", self.name_of(pid)),
            Action::Kill { pid, signal: libc::SIGKILL } => format!("KILL {}", self.name_of(pid)),
            Action::Kill { pid, signal } => panic!("signal {signal} for {pid}"),
            Action::Forget(_) => return None,
            Action::Exit(Ok(())) => "exit 0".into(),
            Action::Exit(Err(error)) => format!("exit {}: {error}", error.exit_code()),
        })
    }

    fn start(&mut self, id: ProcessId, name: String) -> String {
        self.names.insert(id, name.clone());
        let actions = self.workers.on_started(id, pid_of(id));
        assert!(actions.is_empty(), "{actions:?}");
        format!("start {name}")
    }

    fn name_of(&self, pid: i32) -> String {
        self.names.get(&ProcessId(pid as u32 - 1000)).cloned().unwrap_or_else(|| pid.to_string())
    }

    /// The latest of this name.
    fn id(&self, name: &str) -> ProcessId {
        *self.names.iter().rev().find(|(_, other)| *other == name).expect(name).0
    }

    fn says(&mut self, name: &str, message: ToMaster) -> Vec<String> {
        let id = self.id(name);
        self.does(|workers, now| workers.on_message(id, message, now))
    }

    fn forked(&mut self, slot: u16, generation: u32) -> Vec<String> {
        let pid = pid_of(self.id(&format!("w{slot}.{generation}")));
        self.forked_as(slot, generation, pid, true)
    }

    fn forked_as(&mut self, slot: u16, generation: u32, pid: i32, is_child: bool) -> Vec<String> {
        let template = self.id(&format!("t{generation}"));
        let report = ForkReport { slot, generation, pid, is_child };
        self.does(|workers, now| workers.on_forked(template, report, now))
    }

    /// The process ends with a wait status: an exit code times 256, or the number of a signal.
    fn ends(&mut self, name: &str, status: i32) -> Vec<String> {
        let pid = pid_of(self.id(name));
        self.does(|workers, now| workers.on_exit(pid, ExitStatus::from_raw(status), now))
    }

    fn passes(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.does(|workers, now| workers.on_deadline(now))
    }
}

fn pid_of(id: ProcessId) -> i32 {
    id.0 as i32 + 1000
}

fn load_failed() -> ToMaster {
    ToMaster::LoadFailed {
        application: "shop:app".into(),
        report: "Traceback\nModuleNotFoundError: No module named 'shop'\n".into(),
        advice: "install it".into(),
    }
}

const NOTHING: [&str; 0] = [];
const FAILED: i32 = 1 << 8;
const KILLED: i32 = libc::SIGKILL;

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
    assert_eq!(stage.forked(0, 1), ["Stop t0", "Drain w0.0"]);
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

#[test]
fn a_worker_that_leaves_can_not_keep_the_master_busy() {
    let mut stage = Stage::serving(1, false);
    stage.does(Workers::stop_gracefully);
    let said: Vec<String> = (0..9).flat_map(|_| stage.says("w0.0", ToMaster::Ready)).collect();
    assert_eq!(said, ["KILL w0.0"]);
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

/// Whatever happens in whatever order: no slot has two workers, only living children are signalled, the loop never
/// spins, and a stop ends it.
#[test]
fn any_sequence_of_facts_keeps_the_books() {
    for seed in 1..400_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut world, queue) = World::new(random.below(2) == 0, 1 + random.below(3) as u16);
        world.run(queue);
        for _ in 0..120 {
            if world.ended {
                break;
            }
            world.something_happens(&mut random);
            world.check();
        }
        let now = world.now;
        let stop = world.workers.stop_fast(now);
        world.run(stop);
        for _ in 0..100 {
            if world.ended {
                break;
            }
            world.now += SECOND;
            let actions = world.workers.on_deadline(world.now);
            world.run(actions);
            while let Some(pid) = world.dead.pop() {
                let actions = world.workers.on_exit(pid, ExitStatus::from_raw(KILLED), world.now);
                world.run(actions);
            }
        }
        assert!(world.ended, "seed {seed}: {:?}", world.workers.processes);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}

/// Processes that do anything.
struct World {
    workers: Workers,
    now: Instant,
    alive: Vec<i32>,
    /// Not reaped yet.
    dead: Vec<i32>,
    asked: Vec<(ProcessId, ProcessId, u16, u32)>,
    ended: bool,
}

impl World {
    fn new(preload: bool, workers: u16) -> (World, Vec<Action>) {
        let settings = Settings { workers, preload, applications: true, graceful_timeout: GRACE };
        let now = Instant::now();
        let mut workers = Workers::new(settings);
        let first = workers.start(now);
        (World { workers, now, alive: vec![], dead: vec![], asked: vec![], ended: false }, first)
    }

    fn run(&mut self, actions: Vec<Action>) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                _ if self.ended => return,
                Action::StartTemplate { id, .. } | Action::StartWorker { id, .. } => {
                    self.alive.push(pid_of(id));
                    queue.extend(self.workers.on_started(id, pid_of(id)));
                }
                Action::Fork { template, id, slot, generation } => {
                    self.asked.push((template, id, slot, generation));
                }
                Action::Kill { pid, signal } => {
                    assert!(self.alive.contains(&pid) || self.dead.contains(&pid), "{pid} is not ours");
                    if signal == libc::SIGKILL {
                        self.die(pid);
                    }
                }
                Action::Tell(..) | Action::Forget(_) => {}
                Action::Exit(_) => self.ended = true,
            }
        }
    }

    fn die(&mut self, pid: i32) {
        if let Some(at) = self.alive.iter().position(|other| *other == pid) {
            self.alive.remove(at);
            self.dead.push(pid);
        }
    }

    fn something_happens(&mut self, random: &mut Random) {
        let ids: Vec<ProcessId> = self.workers.processes.keys().copied().collect();
        let id = ids.get(random.below(ids.len().max(1))).copied().unwrap_or(ProcessId(1));
        let now = self.now;
        let actions = match random.below(18) {
            0..=2 => self.workers.on_message(id, ToMaster::Loaded, now),
            3..=6 => self.workers.on_message(id, ToMaster::Ready, now),
            7 => self.workers.on_message(id, ToMaster::Retiring { reason: "any".into() }, now),
            8 => self.workers.on_message(id, ToMaster::CannotPreload { reasons: vec![] }, now),
            9..=11 if !self.asked.is_empty() => {
                let (template, id, slot, generation) = self.asked.remove(0);
                let pid = pid_of(id);
                self.alive.push(pid);
                let report = ForkReport { slot, generation, pid, is_child: true };
                self.workers.on_forked(template, report, now)
            }
            12 => {
                let pid = self.workers.pids().nth(random.below(4));
                if let Some(pid) = pid {
                    self.die(pid);
                }
                vec![]
            }
            13 => match self.dead.pop() {
                Some(pid) => self.workers.on_exit(pid, ExitStatus::from_raw(FAILED), now),
                None => vec![],
            },
            14 => self.workers.reload(now),
            15 => self.workers.change_count(random.below(2) == 0, now),
            16 => self.workers.on_closed(id, now),
            _ => {
                self.now += Duration::from_millis(1 << random.below(15));
                self.workers.on_deadline(self.now)
            }
        };
        self.run(actions);
    }

    fn check(&self) {
        let mut roles: Vec<String> = Vec::new();
        for process in self.workers.processes.values().filter(|process| process.phase != Phase::Leaving) {
            let role = format!("{:?}", process.role);
            assert!(!roles.contains(&role), "two of {role}");
            roles.push(role);
        }
        // A deadline that has passed is due at once, and must then be gone.
        assert!(self.ended || self.workers.deadline().is_none_or(|at| at > self.now - 64 * SECOND));
    }
}
