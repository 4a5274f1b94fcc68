//! Stories: what happens, and what the master does about it.

mod books;
mod configure;
mod count;
mod ends;
mod mistrust;
mod recycle;
mod reload;
mod scaling;
mod start;
mod stop;

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
    /// What the configuration says at the next reload; `None`: it is wrong.
    configuration: Option<Settings>,
    /// How reloads have ended.
    outcomes: Vec<(u32, Result<u32, String>)>,
}

impl Stage {
    fn new(workers: u16, preload: bool) -> (Stage, Vec<String>) {
        Stage::with(settings(workers, preload))
    }

    fn with(settings: Settings) -> (Stage, Vec<String>) {
        let now = Instant::now();
        let configuration = Some(settings.clone());
        let (workers, outcomes) = (Workers::new(settings), Vec::new());
        let mut stage = Stage { workers, now, names: BTreeMap::new(), configuration, outcomes };
        let first = stage.does(|workers, now| workers.start(now));
        (stage, first)
    }

    /// All workers are ready.
    fn serving(workers: u16, preload: bool) -> Stage {
        Stage::serving_with(settings(workers, preload))
    }

    fn serving_with(settings: Settings) -> Stage {
        let Settings { pool, preload, .. } = settings;
        let workers = pool.min.max(1);
        let (mut stage, _) = Stage::with(settings);
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
        let mut actions = VecDeque::from(fact(&mut self.workers, self.now));
        let mut done = Vec::new();
        while let Some(action) = actions.pop_front() {
            if let Action::Configure { .. } = action {
                actions.extend(match self.configuration.clone() {
                    Some(settings) => self.workers.on_configured(settings, self.now),
                    None => self.workers.on_not_configured("it is wrong", self.now),
                });
                continue;
            }
            done.extend(self.execute(action));
        }
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
                format!("{order} {}", self.shown(id))
            }
            Action::LookAtLoad => "look".into(),
            Action::Measure { id, .. } => format!("measure {}", self.names[&id]),
            Action::Kill { pid, signal: libc::SIGTERM } => format!("TERM {}", self.name_of(pid)),
            Action::Kill { pid, signal: libc::SIGKILL } => format!("KILL {}", self.name_of(pid)),
            Action::Kill { pid, signal } => panic!("signal {signal} for {pid}"),
            Action::Forget(_) | Action::Configure { .. } => return None,
            Action::ReloadEnded { number, result } => {
                self.outcomes.push((number, result));
                return None;
            }
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

    /// The name of the latest of this name, the number of an older one.
    fn shown(&self, id: ProcessId) -> String {
        let name = &self.names[&id];
        if self.id(name) == id { name.clone() } else { format!("#{}", id.0) }
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

    /// The same for one that others have the name of, too.
    fn ends_as(&mut self, id: ProcessId, status: i32) -> Vec<String> {
        self.does(|workers, now| workers.on_exit(pid_of(id), ExitStatus::from_raw(status), now))
    }

    /// The worker is forked, if it has to be, and ready.
    fn comes_up(&mut self, name: &str, preload: bool) -> Vec<String> {
        if preload {
            let (slot, generation) = name[1..].split_once('.').expect("a worker's name");
            let done = self.forked(slot.parse().expect("a slot"), generation.parse().expect("a generation"));
            assert_eq!(done, NOTHING);
        }
        self.says(name, ToMaster::Ready)
    }

    fn uses(&mut self, name: &str, bytes: u64) -> Vec<String> {
        let id = self.id(name);
        self.does(|workers, now| workers.on_memory(id, bytes, now))
    }

    fn passes(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.does(|workers, now| workers.on_deadline(now))
    }
}

fn settings(workers: u16, preload: bool) -> Settings {
    Settings {
        pool: PoolSize::fixed(workers),
        worker_idle_timeout: 10 * SECOND,
        spare_workers: 0,
        preload,
        applications: true,
        graceful_timeout: GRACE,
        max_surge: Surge::Percent(25),
        max_memory_bytes: None,
        max_lifetime: None,
        seed: 1,
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
