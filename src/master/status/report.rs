//! Gathers what there is to tell, from the books, the scoreboard and the kernel; its JSON is the answer to `/status`.

use std::time::{Instant, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::channel::Role;
use crate::master::boards::Boards;
use crate::master::workers::{PoolView, ProcessView, Stage, Tally, Workers};
use crate::process::{ProcessMemory, process_memory, resident_bytes};
use crate::scoreboard::{BoardState, Counter, Counters, Gauge, RequestView, Runner, Type};

/// Where the master stands.
pub(crate) struct Surroundings {
    pub(crate) threads: u16,
    pub(crate) started: Instant,
    pub(crate) started_at: SystemTime,
    pub(crate) now: Instant,
}

/// Everything at one moment.
pub(crate) struct Gathered {
    pub(super) version: &'static str,
    pub(super) pid: u32,
    pub(super) uptime_seconds: f64,
    pub(super) start_time_seconds: f64,
    pub(super) threads: u16,
    pub(super) pool: PoolView,
    pub(super) tally: Tally,
    pub(super) last_reload_age_seconds: Option<f64>,
    pub(super) processes: Vec<ProcessReport>,
    pub(super) totals: Counters,
}

/// A template or a worker.
#[derive(Serialize)]
pub(super) struct ProcessReport {
    /// `None` for a template.
    pub(super) slot: Option<u16>,
    pub(super) generation: u32,
    pub(super) pid: Option<i32>,
    pub(super) state: &'static str,
    age_seconds: f64,
    /// Since its loop last had something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_turn_age_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Vec<RequestReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_request: Option<RequestReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<Value>,
    /// In the order of [`Gauge::ALL`].
    #[serde(skip)]
    pub(super) gauges: Option<Vec<u64>>,
}

#[derive(Serialize)]
struct RequestReport {
    request: String,
    id: String,
    by: &'static str,
    age_seconds: f64,
}

#[derive(Serialize)]
struct MemoryReport {
    proportional_bytes: u64,
    private_bytes: u64,
    shared_bytes: u64,
    swapped_bytes: u64,
}

impl Gathered {
    /// Costs a few system calls for each process; `with_memory`, the kernel walks through their pages besides.
    pub(crate) fn now(
        workers: &Workers,
        boards: &mut Boards,
        place: &Surroundings,
        with_memory: bool,
    ) -> Self {
        let age = |since: Instant| place.now.saturating_duration_since(since).as_secs_f64();
        let mut processes: Vec<ProcessReport> =
            workers.views().map(|view| report(&view, boards, age(view.since), with_memory)).collect();
        processes.sort_by_key(|process| (process.slot, process.generation));
        let started_at = place.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let tally = workers.tally().clone();
        Gathered {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: age(place.started),
            start_time_seconds: started_at.as_secs_f64(),
            threads: place.threads,
            pool: workers.pool_view(),
            last_reload_age_seconds: tally.last_reload.as_ref().map(|(at, _)| age(*at)),
            tally,
            processes,
            totals: boards.totals(),
        }
    }

    /// One word for the whole.
    pub(super) fn state(&self) -> &'static str {
        match self.pool {
            PoolView { is_ending: true, .. } => "stopping",
            PoolView { is_serving: false, .. } => "starting",
            PoolView { is_reloading: true, .. } => "reloading",
            PoolView { .. } => "serving",
        }
    }

    pub(crate) fn json(&self) -> Value {
        let last_reload = self.tally.last_reload.as_ref().map(|(_, result)| {
            serde_json::json!({
                "age_seconds": self.last_reload_age_seconds,
                "generation": result.as_ref().ok(),
                "error": result.as_ref().err(),
            })
        });
        let recycled = self.pool.recycled;
        serde_json::json!({
            "version": self.version,
            "pid": self.pid,
            "state": self.state(),
            "uptime_seconds": self.uptime_seconds,
            "generation": self.pool.generation,
            "last_reload": last_reload,
            "workers": {
                "wanted": self.pool.wanted,
                "least": self.pool.limits.min,
                "most": self.pool.limits.max,
                "threads_each": self.threads,
                "started": self.tally.worker_starts,
                "left": self.tally.left,
                "exited": self.tally.exited,
                "killed": self.tally.killed,
                "not_started": self.tally.not_started,
                "recycled_for_requests": recycled.for_requests,
                "recycled_for_memory": recycled.for_memory,
                "recycled_for_lifetime": recycled.for_lifetime,
                "reloads": self.tally.reloads,
                "failed_reloads": self.tally.failed_reloads,
            },
            "totals": counters(&self.totals),
            "processes": self.processes,
        })
    }
}

fn report(view: &ProcessView, boards: &mut Boards, age_seconds: f64, with_memory: bool) -> ProcessReport {
    let (slot, generation) = match view.role {
        Role::Template { generation } => (None, generation),
        Role::Worker { slot, generation } => (Some(slot), generation),
    };
    let board = boards.of(view.id);
    // The master knows better than the worker whether it still counts.
    let state = match (view.stage, &board) {
        (Stage::Loading, _) => "starting",
        (Stage::Leaving, _) => "draining",
        (Stage::Ready, None) => "ready",
        (Stage::Ready, Some(board)) => match board.state() {
            BoardState::Starting => BoardState::Idle.name(),
            state => state.name(),
        },
    };
    let requests = board.as_ref().map(|board| board.running());
    let last = board.as_ref().filter(|_| requests.as_ref().is_none_or(Vec::is_empty));
    ProcessReport {
        slot,
        generation,
        pid: view.pid,
        state,
        age_seconds,
        last_turn_age_seconds: board
            .as_ref()
            .and_then(|board| board.heartbeat_age())
            .map(|age| age.as_secs_f64()),
        resident_bytes: view.pid.and_then(|pid| resident_bytes(pid).ok()),
        memory: view
            .pid
            .filter(|_| with_memory)
            .and_then(|pid| process_memory(pid).ok())
            .map(MemoryReport::from),
        last_request: last.and_then(|board| board.last().into_iter().next()).map(RequestReport::from),
        requests: requests.map(|all| all.into_iter().map(RequestReport::from).collect()),
        now: board.as_ref().map(|board| {
            Gauge::ALL
                .iter()
                .map(|gauge| (gauge.name().to_owned(), gauge.shown(board.gauge(*gauge))))
                .collect()
        }),
        gauges: board.as_ref().map(|board| Gauge::ALL.iter().map(|gauge| board.gauge(*gauge)).collect()),
        counters: board.map(|board| counters(board.counters())),
    }
}

impl Gauge {
    /// In the unit that its name says.
    pub(super) fn shown(self, value: u64) -> Value {
        match self {
            Gauge::LongestQueue => seconds(value).into(),
            _ => value.into(),
        }
    }
}

impl From<RequestView> for RequestReport {
    fn from(request: RequestView) -> Self {
        RequestReport {
            request: request.text,
            id: request.id,
            by: match request.runner {
                Runner::Thread => "application",
                Runner::Script => "script",
            },
            age_seconds: request.age.as_secs_f64(),
        }
    }
}

impl From<ProcessMemory> for MemoryReport {
    fn from(memory: ProcessMemory) -> Self {
        MemoryReport {
            proportional_bytes: memory.proportional,
            private_bytes: memory.private,
            shared_bytes: memory.shared,
            swapped_bytes: memory.swapped,
        }
    }
}

/// Microseconds as the seconds that people and Prometheus read.
pub(super) fn seconds(micros: u64) -> f64 {
    // Exact below 2^53: a hundred years.
    micros as f64 / 1e6
}

/// Nested by family, then by the values of the labels: `{"responses": {"2xx": 5}}`.
fn counters(all: &Counters) -> Value {
    let mut families = Map::new();
    for &counter in Counter::ALL {
        let family = counter.family();
        let mut at = &mut families;
        let mut names = vec![family.name];
        names.extend(counter.labels().iter().map(|(_, value)| *value));
        if family.kind == Type::Histogram && counter.labels().is_empty() {
            names.push("sum_seconds");
        }
        let Some((last, above)) = names.split_last() else { continue };
        for name in above {
            let inner = at.entry((*name).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            let Some(inner) = inner.as_object_mut() else { return Value::Null };
            at = inner;
        }
        let value = match *last {
            "sum_seconds" => seconds(all.of(counter)).into(),
            _ => all.of(counter).into(),
        };
        at.insert((*last).to_owned(), value);
    }
    families.into()
}
