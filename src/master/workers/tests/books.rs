//! Facts in any order.

use super::*;
use crate::channel::Role;

/// Whatever happens in whatever order: no slot has two workers, only living children are signalled, the loop never
/// spins, and a stop ends it.
#[test]
fn any_sequence_of_facts_keeps_the_books() {
    for seed in 1..400_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut world, queue) = {
            let (preload, workers) = (random.below(2) == 0, 1 + random.below(3) as u16);
            let pool = match random.below(2) {
                0 => PoolSize::fixed(workers),
                _ => PoolSize { min: workers - 1, max: workers + 2 },
            };
            World::new(Settings { pool, worker_idle_timeout: SECOND, ..settings(1, preload) })
        };
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
    settings: Settings,
}

impl World {
    fn new(settings: Settings) -> (World, Vec<Action>) {
        let settings = Settings { max_lifetime: Some(100 * SECOND), ..settings };
        let now = Instant::now();
        let mut workers = Workers::new(settings.clone());
        let first = workers.start(now);
        (World { workers, now, alive: vec![], dead: vec![], asked: vec![], ended: false, settings }, first)
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
                Action::Configure { .. } => {
                    queue.extend(self.workers.on_configured(self.settings.clone(), self.now));
                }
                Action::LookAtLoad => {
                    // Now much, now nothing.
                    let busy = if self.workers.last_id.is_multiple_of(3) { 0.0 } else { 1.5 };
                    let load = Load { busy, idle: 9, ..Load::default() };
                    queue.extend(self.workers.on_load(load, self.now));
                }
                Action::Tell(..)
                | Action::Forget(_)
                | Action::Measure { .. }
                | Action::ReloadEnded { .. } => {}
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
            9..=11 if !self.asked.is_empty() => {
                let (template, id, slot, generation) = self.asked.remove(0);
                let pid = pid_of(id);
                self.alive.push(pid);
                let report = ForkReport { slot, generation, pid, is_child: true };
                self.workers.on_forked(template, report, now)
            }
            8 if random.below(2) == 0 => {
                self.workers.on_message(id, ToMaster::WantsReplacement { requests: 1 }, now)
            }
            8 => self.workers.on_message(id, ToMaster::CannotPreload { reasons: vec![] }, now),
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
            15 if random.below(2) == 0 => self.workers.wake(now),
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
        let workers = &self.workers;
        let generations = [Some(&workers.current), workers.next.as_ref(), workers.outgoing.as_ref()];
        let slots = generations.into_iter().flatten().flat_map(|generation| &generation.slots);
        let mut placed: Vec<ProcessId> =
            slots.flat_map(|slot| [slot.worker, slot.successor]).flatten().collect();
        let count = placed.len();
        placed.sort();
        placed.dedup();
        assert_eq!(placed.len(), count, "two places of one worker");
        for (id, process) in &workers.processes {
            let is_worker = matches!(process.role, Role::Worker { .. });
            if is_worker && process.phase != Phase::Leaving {
                assert!(placed.contains(id), "{} has no place", process.name());
            }
        }
        let templates = workers.processes.values().filter(|process| {
            process.phase != Phase::Leaving && matches!(process.role, Role::Template { .. })
        });
        let mut templates: Vec<u32> = templates.map(Process::generation).collect();
        let count = templates.len();
        templates.dedup();
        assert_eq!(templates.len(), count, "two templates of one generation");
        // A deadline that has passed is due at once, and must then be gone.
        assert!(self.ended || workers.deadline().is_none_or(|at| at > self.now - 64 * SECOND));
    }
}
