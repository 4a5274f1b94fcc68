//! What all connections of a worker share: configuration, queues, timers, buffers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::Registry;

use crate::config::Config;
use crate::gateway::{Gateway, Repeats, Request, UniqueIds};
use crate::hand_off::HandOffQueue;
use crate::handler::cgi::HeaderLimits;
use crate::protocol::http1::DateCache;
use crate::protocol::{Limits, RequestId, ResponseHead, http1};
use crate::scoreboard::Scoreboard;

use super::access_log::AccessLog;
use super::body::Keeping;
use super::flight::Job;
use super::hand_off::{Drain, HandOff};
use super::keyed::Key;
use super::overdue::{Overdue, SLOW_INTERVAL};
use super::overload::Overloads;
use super::room::Room;
use super::scripts::Scripts;
use super::throttle::Throttle;
use super::timers::Timers;
use super::wear::Wear;

/// Bytes of one read(2). Large enough that a large body costs few of them; one buffer serves all connections.
const READ_BYTES: usize = 128 * 1024;

/// Requests whose buffers are kept for the next ones.
const SPARE_REQUESTS: usize = 64;

/// The second of the Date field is looked at so often at most.
const DATE_LASTS: Duration = Duration::from_millis(250);

pub(crate) struct Core {
    pub config: Arc<Config>,
    pub limits: Arc<Limits>,
    pub gateway: Arc<Gateway>,
    pub repeats: Repeats,
    pub unique_ids: UniqueIds,
    pub registry: Registry,
    pub scripts: Scripts,
    pub keeping: Keeping,
    pub timers: Timers,
    pub access_log: AccessLog,
    /// Complete requests for the application threads: who has waited longest is first.
    pub ready: VecDeque<Job>,
    /// Connections that can go on without an event.
    pub revisit: VecDeque<Key>,
    /// Scripts that may have something to say.
    pub pump: VecDeque<Key>,
    /// Requests that were just found to run for too long.
    pub overdue: Vec<Overdue>,
    pub slow_reports: Throttle,
    pub overloads: Overloads,
    pub room: Room,
    pub read_buffer: Box<[u8]>,
    /// When this turn of the loop began.
    pub now: Instant,
    /// When somebody should look for events again, however much there is to do.
    pub look_at: Instant,
    pub drain: Drain,
    pub hand_off: HandOff,
    pub wear: Wear,
    /// What the master reads along.
    pub board: Scoreboard,
    /// How long the application took for the last request.
    pub last_ran: Duration,
    /// Connections whose responses are complete, and will be written together.
    pub held_back: Vec<Key>,
    date: DateCache,
    /// Then the clock is asked again.
    date_until: Instant,
    // Boxes travel from here to flights and jobs and back: moving one moves a pointer.
    #[expect(clippy::vec_box, reason = "see above")]
    spare_requests: Vec<Box<Request>>,
    spare_head: Option<ResponseHead>,
}

impl Core {
    pub fn new(
        config: Arc<Config>,
        registry: Registry,
        access_log: AccessLog,
        queue: HandOffQueue,
        board: Scoreboard,
    ) -> Self {
        let now = Instant::now();
        let wear = Wear::new(&config.processes.recycling);
        let header_limits =
            HeaderLimits { max_bytes: config.limits.max_head_bytes, max_fields: config.limits.max_fields };
        Core {
            limits: Arc::new(config.connection_limits()),
            gateway: Arc::new(Gateway::new(&config)),
            repeats: Repeats::default(),
            unique_ids: UniqueIds::new(random_start()),
            scripts: Scripts::new(config.cgi.clone(), header_limits),
            keeping: Keeping::new(&config.limits),
            config,
            registry,
            timers: Timers::default(),
            access_log,
            ready: VecDeque::new(),
            revisit: VecDeque::new(),
            pump: VecDeque::new(),
            overdue: Vec::new(),
            slow_reports: Throttle::new(SLOW_INTERVAL),
            overloads: Overloads::default(),
            room: Room::default(),
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            now,
            look_at: now,
            drain: Drain::No,
            hand_off: HandOff::new(queue),
            wear,
            board,
            last_ran: Duration::ZERO,
            held_back: Vec::new(),
            date: DateCache::new(SystemTime::now()),
            date_until: now,
            spare_requests: Vec::new(),
            spare_head: None,
        }
    }

    /// A turn begins.
    pub fn begin_turn(&mut self) {
        self.now = Instant::now();
        self.board.beat(self.now);
    }

    /// The Date field's value, at most a second old.
    pub fn date(&mut self) -> &[u8; http1::DATE_BYTES] {
        if self.now >= self.date_until {
            self.date_until = self.now + DATE_LASTS;
            return self.date.at(SystemTime::now());
        }
        self.date.last()
    }

    pub fn spare_request(&mut self) -> Box<Request> {
        self.spare_requests.pop().unwrap_or_default()
    }

    pub fn recycle_request(&mut self, mut request: Box<Request>) {
        if self.spare_requests.len() < SPARE_REQUESTS {
            request.meta.clear();
            request.body = Default::default();
            self.spare_requests.push(request);
        }
    }

    /// Only those that another worker has handed over are not the latest.
    pub fn push_ready(&mut self, job: Job) {
        let later =
            self.ready.iter().rev().take_while(|waiting| waiting.complete_at > job.complete_at).count();
        match later {
            0 => self.ready.push_back(job),
            later => self.ready.insert(self.ready.len() - later, job),
        }
    }

    /// Its response waits to be written with others.
    pub fn is_held_back(&self, connection: Key) -> bool {
        self.held_back.contains(&connection)
    }

    /// Takes a request back that no application thread has taken yet.
    pub fn take_ready(&mut self, connection: Key, id: RequestId) -> Option<Box<Request>> {
        let at = self.ready.iter().position(|job| job.connection == connection && job.id == id)?;
        self.ready.remove(at).map(|job| job.request)
    }

    /// Nobody waits for the script's response. It is looked at once more, for its new deadline.
    pub fn cancel_script(&mut self, key: Key, why: &str) {
        self.scripts.cancel(key, why, self.now);
        self.pump.push_back(key);
    }

    /// Its client has the whole response, and is gone: what it still does is its own affair, within its time.
    pub fn release_script(&mut self, key: Key) {
        self.scripts.release(key, self.now);
        self.pump.push_back(key);
    }

    /// A response head with buffers from an earlier one.
    pub fn take_head(&mut self) -> ResponseHead {
        self.spare_head.take().unwrap_or_default()
    }

    pub fn give_head(&mut self, mut head: ResponseHead) {
        head.clear();
        self.spare_head = Some(head);
    }
}

/// Where the ids of this worker's requests begin. Without random numbers, process and time have to do.
fn random_start() -> u64 {
    getrandom::u64().unwrap_or_else(|error| {
        log::warn!("no random numbers ({error}): the ids of requests are made from the time");
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::from(std::process::id()) << 40 ^ time.as_nanos() as u64
    })
}
