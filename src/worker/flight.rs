//! One request on its way through a worker: what it waits for, and how far its response is.

use std::time::{Duration, Instant};

use crate::gateway::{BodyGuard, IdText, KnownName, Origin, Request, UniqueId};
use crate::handler::cgi::Script;
use crate::printable::printable;
use crate::protocol::{RequestHead, RequestId};
use crate::scoreboard::{Answerer, Place};
use crate::sys::spawn::Exit;

use super::body::BodyBuffer;
use super::keyed::Key;

/// What will answer once the body is complete.
#[derive(Debug)]
pub(crate) enum Awaiting {
    /// Index of the application.
    Application(usize),
    /// A script whose body comes without a length: CONTENT_LENGTH must be true before it starts.
    Script(Box<Script>),
}

#[derive(Debug)]
pub(crate) enum Step {
    /// The body is being collected.
    Collecting(Awaiting, BodyBuffer),
    /// In the queue for an application thread, or on one.
    Application,
    /// All scripts that may run at once run; what has come of the body waits too.
    ScriptQueued(Box<Script>, BodyBuffer, Input),
    /// A script runs.
    Script(Key),
    /// The response has ended. An application may still hold the request.
    Answered,
}

/// Whether the body of a queued script has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Open,
    Ended,
}

/// How far a response is.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Set with the head.
    pub guard: Option<BodyGuard>,
    pub status: u16,
    pub body_bytes: u64,
}

impl Outgoing {
    /// As much of the body as was announced has come, or there is none.
    pub fn is_full(&self) -> bool {
        self.guard.as_ref().is_some_and(BodyGuard::is_full)
    }
}

/// What only the access log wants to know.
#[derive(Debug)]
pub(crate) struct Told {
    /// When its head was complete.
    pub began: Instant,
    /// It began to wait for an application thread, or for its turn among the scripts.
    pub queued: Option<Instant>,
    /// It had waited.
    pub started: Option<Instant>,
    /// Of the body, as far as it has come.
    pub bytes_in: u64,
    /// How much of the path is the mount of the script; `None` if the web server has named the script by its file.
    pub prefix_length: Option<usize>,
    /// How the script ended.
    pub exit: Option<Exit>,
    /// Time of a processor that the script has used, or the application's thread if somebody measures it.
    pub cpu: Option<Duration>,
    /// What the client has asked for, before a script's local redirect changed it.
    pub asked: Option<Box<Asked>>,
}

impl Told {
    fn new(began: Instant) -> Self {
        Told {
            began,
            queued: None,
            started: None,
            bytes_in: 0,
            prefix_length: None,
            exit: None,
            cpu: None,
            asked: None,
        }
    }

    /// How long it waited; `None` if nothing was started for it.
    pub fn waited(&self) -> Option<Duration> {
        Some(self.started?.saturating_duration_since(self.queued?))
    }
}

#[derive(Debug)]
pub(crate) struct Asked {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Flight {
    pub id: RequestId,
    pub step: Step,
    /// `None` while an application thread has it.
    pub request: Option<Box<Request>>,
    pub is_head: bool,
    pub outgoing: Outgoing,
    /// When the last byte of its body had come, or of its head if it has none.
    pub complete_at: Option<Instant>,
    /// On an application thread now; since when.
    pub running_since: Option<Instant>,
    /// The application waits for a slow reader since then. That is not its fault, and does not count.
    pub waits_since: Option<Instant>,
    /// How long it has waited so before.
    pub waited: Duration,
    /// The log has named it as slow, or as ended.
    pub is_told_slow: bool,
    /// Method and target, while an application thread has the request.
    pub what: What,
    /// That of the request.
    pub unique_id: UniqueId,
    /// The front's id, if one was taken, while an application thread has the request.
    taken_id: Vec<u8>,
    /// Nobody waits for the response any more, or it has been given by a time-out.
    pub gone: bool,
    /// Local redirects of scripts so far.
    pub redirects: u8,
    /// As it came, for an application's request: it may have to be told to another worker.
    pub head: Option<RequestHead>,
    /// How often the request has been handed over.
    pub hops: u8,
    /// What answers it.
    pub by: Answerer,
    /// Where the scoreboard shows it while it is being answered.
    pub place: Place,
    pub told: Told,
}

impl Flight {
    pub fn new(id: RequestId, step: Step, request: Box<Request>, is_head: bool, now: Instant) -> Self {
        Flight {
            id,
            step,
            unique_id: request.id,
            taken_id: Vec::new(),
            request: Some(request),
            is_head,
            outgoing: Outgoing::default(),
            complete_at: None,
            running_since: None,
            waits_since: None,
            waited: Duration::ZERO,
            is_told_slow: false,
            what: What::default(),
            gone: false,
            redirects: 0,
            head: None,
            hops: 0,
            by: Answerer::Nobody,
            place: Place::default(),
            told: Told::new(now),
        }
    }

    /// What the log calls it.
    pub fn description(&self) -> String {
        match &self.request {
            Some(request) => describe(request),
            None => printable(&self.what.text, usize::MAX),
        }
    }

    /// The request's id, for the log.
    pub fn id_text(&self) -> IdText<'_> {
        match &self.request {
            Some(request) => request.id_text(),
            None if self.taken_id.is_empty() => IdText::Made(self.unique_id),
            None => IdText::Taken(&self.taken_id),
        }
    }

    /// The request goes to an application thread; `what` is that of an earlier one, to use again.
    pub fn hand_out(&mut self, request: &Request, what: What, now: Instant) {
        self.what = what;
        self.what.tell(request);
        if let IdText::Taken(taken) = request.id_text() {
            self.taken_id = taken.to_vec();
        }
        self.running_since = Some(now);
        self.told.started = Some(now);
    }

    /// The application begins to wait for a slow reader, or goes on.
    pub fn set_waits(&mut self, waits: bool, now: Instant) {
        match (waits, self.waits_since) {
            (true, None) => self.waits_since = Some(now),
            (false, Some(since)) => {
                self.waits_since = None;
                self.waited += now.saturating_duration_since(since);
            }
            _ => {}
        }
    }

    /// How long the application has run it.
    pub fn ran_for(&self, now: Instant) -> Duration {
        let ran = self.running_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let waits = self.waits_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        ran.saturating_sub(self.waited + waits)
    }

    /// When it will have run for `timeout`, if it goes on running.
    pub fn overdue_at(&self, timeout: Option<Duration>) -> Option<Instant> {
        let counts = !self.gone && self.waits_since.is_none();
        let since = self.running_since.filter(|_| counts)?;
        let at = since.checked_add(timeout?)?;
        if self.waited.is_zero() { Some(at) } else { at.checked_add(self.waited) }
    }

    /// The same for a time after which the log tells of it, once.
    pub fn slow_at(&self, limit: Option<Duration>) -> Option<Instant> {
        if self.is_told_slow { None } else { self.overdue_at(limit) }
    }

    pub fn head_sent(&self) -> bool {
        self.outgoing.guard.is_some()
    }

    /// Nothing more will come from it or for it.
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Answered) && self.running_since.is_none() && self.request.is_some()
    }
}

/// Method and target of a request.
#[derive(Debug, Default)]
pub(crate) struct What {
    pub text: Vec<u8>,
    /// Those of all requests of this origin.
    pub of: Option<Origin>,
}

impl What {
    pub fn tell(&mut self, request: &Request) {
        let of = request.meta.origin();
        if of.is_none() || of != self.of {
            self.text.clear();
            write_name(request, &mut self.text);
            self.of = of;
        }
    }
}

/// A complete request for an application thread.
#[derive(Debug)]
pub(crate) struct Job {
    pub connection: Key,
    pub id: RequestId,
    pub application: usize,
    pub request: Box<Request>,
    /// When the last of it had come: since then it waits for an application thread.
    pub complete_at: Instant,
    /// What the application's thread has used for it, if somebody wants to know.
    pub cpu: Option<Duration>,
    /// Other processes may run the application at the same time.
    pub multiprocess: bool,
}

/// What the log calls a request: its method and target, printable and short.
pub(crate) fn describe(request: &Request) -> String {
    let mut what = Vec::new();
    write_name(request, &mut what);
    printable(&what, usize::MAX)
}

/// Method and target, as they came.
fn write_name(request: &Request, what: &mut Vec<u8>) {
    const MOST_BYTES: usize = 256;
    what.extend_from_slice(request.meta.known(KnownName::RequestMethod).unwrap_or_default());
    what.push(b' ');
    let target = request.meta.known(KnownName::RequestUri).unwrap_or_default();
    what.extend_from_slice(&target[..target.len().min(MOST_BYTES)]);
}
