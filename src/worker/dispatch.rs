//! From a protocol's events to a handler: routes a request, collects or streams its body, starts what answers.

use std::time::Instant;

use bytes::Bytes;

use crate::config::ListenerProtocol;
use crate::gateway::{CgiTarget, KnownName, Place, Route};
use crate::handler::cgi::{self, Script};
use crate::handler::static_files;
use crate::protocol::{BodyLength, ProtocolError, RequestHead, RequestId};
use crate::scoreboard::{Answerer, Counter, Runner};

use super::body::BodyBuffer;
use super::connection::Connection;
use super::core::Core;
use super::flight::{Asked, Awaiting, Flight, Input, Job, Step, describe};

/// Local redirects of one request (RFC 3875 §6.2.2 leaves the number to us): Apache's limit.
const MOST_REDIRECTS: u8 = 10;

impl Connection {
    pub(super) fn dispatch(&mut self, id: RequestId, head: RequestHead, core: &mut Core) {
        let mut request = core.spare_request();
        let route = core.gateway.route_repeated(&head, &self.endpoint, &mut request.meta, &mut core.repeats);
        request.id = core.unique_ids.make();
        if let Some(name) = &core.config.request_id_variable {
            request.take_id_from(name.as_bytes());
        }
        let length = head.body;
        let is_head = request.meta.known(KnownName::RequestMethod) == Some(b"HEAD");
        let mut flight = Flight::new(id, Step::Answered, request, is_head, core.now);
        match &route {
            Ok(Route::Application(_)) => flight.head = Some(head),
            _ => self.protocol.recycle(head),
        }
        self.flights.push(flight);
        match route {
            Ok(route) => self.take_route(id, route, length, core),
            Err(refusal) => {
                let peer = self.peer();
                if let Some(flight) = self.flight(id) {
                    log::debug!(request:% = flight.id_text(); "{peer}: answered {}: {}", refusal.status, refusal.reason);
                }
                self.answer_error(id, refusal.status, core);
            }
        }
    }

    fn take_route(&mut self, id: RequestId, route: Route, length: BodyLength, core: &mut Core) {
        if let Some(flight) = self.flight(id) {
            flight.by = match &route {
                Route::Application(_) => Answerer::Application,
                Route::Static(_) => Answerer::File,
                Route::Cgi(_) => Answerer::Script,
            };
        }
        match route {
            Route::Application(index) => {
                let collecting =
                    Step::Collecting(Awaiting::Application(index), BodyBuffer::expecting(length));
                self.set_step(id, collecting);
            }
            Route::Static(target) => {
                let Some(flight) = self.flight(id) else { return };
                let Some(request) = &flight.request else { return };
                let mut head = core.take_head();
                let body = static_files::answer(&target, &request.meta, &mut head);
                self.answer_static(id, head, body, core);
            }
            Route::Cgi(target) => self.find_script(id, &target, length, core),
        }
    }

    fn find_script(&mut self, id: RequestId, target: &CgiTarget, length: BodyLength, core: &mut Core) {
        let Some(flight) = self.flight(id) else { return };
        flight.told.prefix_length = match &target.place {
            Place::UrlPath { prefix_length } => Some(*prefix_length),
            Place::Filename(_) => None,
        };
        let Some(request) = &mut flight.request else { return };
        match cgi::locate(target, &mut request.meta, core.config.document_root.as_deref()) {
            Err(error) => {
                log::warn!(request:% = request.id_text(); "{}: {error}", describe(request));
                self.answer_error(id, error.status(), core);
            }
            Ok(script) if length == BodyLength::Unknown => {
                request.tell_id();
                let awaiting = Awaiting::Script(Box::new(script));
                self.set_step(id, Step::Collecting(awaiting, BodyBuffer::default()));
            }
            Ok(script) => {
                request.tell_id();
                self.queue_script(id, Box::new(script), BodyBuffer::default(), Input::Open, core);
            }
        }
    }

    /// Starts the script, or lets it wait for one of the others to end.
    fn queue_script(
        &mut self,
        id: RequestId,
        script: Box<Script>,
        body: BodyBuffer,
        input: Input,
        core: &mut Core,
    ) {
        if let Some(flight) = self.flight(id) {
            flight.told.queued = Some(core.now);
        }
        if core.scripts.may_start() {
            self.start_script(id, &script, body, input, core);
        } else if core.scripts.may_wait() {
            self.set_step(id, Step::ScriptQueued(script, body, input));
            core.scripts.wait(self.key, id, core.now);
        } else {
            core.scripts.count_refused();
            core.board.count(Counter::ScriptQueueFull);
            self.answer_error(id, 503, core);
        }
    }

    /// A script that waited has its turn now. False: it is gone.
    pub(super) fn start_queued_script(&mut self, id: RequestId, since: Instant, core: &mut Core) -> bool {
        if !self.is_worth_starting(id, since, core) {
            return false;
        }
        let Some(flight) = self.flight(id) else { return false };
        match std::mem::replace(&mut flight.step, Step::Answered) {
            Step::ScriptQueued(script, body, input) => {
                self.start_script(id, &script, body, input, core);
                true
            }
            other => {
                flight.step = other;
                false
            }
        }
    }

    fn start_script(
        &mut self,
        id: RequestId,
        script: &Script,
        body: BodyBuffer,
        input: Input,
        core: &mut Core,
    ) {
        let connection = self.key;
        let Some(flight) = self.flight(id) else { return };
        let Some(request) = &flight.request else { return };
        match core.scripts.start(connection, id, script, request, &core.registry, core.now) {
            Ok(key) => {
                flight.step = Step::Script(key);
                flight.told.started = Some(core.now);
                flight.what.tell(request);
                core.board.count(Counter::ScriptsStarted);
                core.board.end(&mut flight.place);
                flight.place =
                    core.board.begin(Runner::Script, core.now, &flight.what.text, request.id_text());
                core.scripts.feed(key, body.finish());
                if input == Input::Ended {
                    core.scripts.finish_input(key);
                }
                core.pump.push_back(key);
            }
            Err(error) => {
                core.overloads.script_failed(&error, request, core.now);
                if let Some(errno) = error.lacks() {
                    core.room.note(&std::io::Error::from_raw_os_error(errno));
                }
                core.board.count(Counter::ScriptsFailed);
                self.answer_error(id, error.status(), core);
            }
        }
    }

    pub(super) fn body(&mut self, id: RequestId, chunk: Bytes, core: &mut Core) {
        let limits = &core.config.limits;
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) else { return };
        flight.told.bytes_in += chunk.len() as u64;
        let kept = match &mut flight.step {
            Step::Collecting(_, body) | Step::ScriptQueued(_, body, _) => body.push(chunk, &core.keeping),
            Step::Script(key) => {
                core.scripts.feed_chunk(*key, chunk);
                core.pump.push_back(*key);
                Ok(())
            }
            // Nobody wants it: the protocol frames it, we forget it.
            Step::Application | Step::Answered => Ok(()),
        };
        if let Err(error) = kept {
            core.overloads.spool_failed(&error, flight, &limits.spool_dir, core.now);
            core.board.count(Counter::SpoolFailed);
            self.answer_error(id, 503, core);
        }
    }

    pub(super) fn body_end(&mut self, id: RequestId, core: &mut Core) {
        let Some(flight) = self.flight(id) else { return };
        // A request that another worker has handed over brings its own time.
        flight.complete_at.get_or_insert(core.now);
        match std::mem::replace(&mut flight.step, Step::Answered) {
            Step::Collecting(awaiting, body) => self.collected(id, awaiting, body, core),
            Step::ScriptQueued(script, body, _) => {
                flight.step = Step::ScriptQueued(script, body, Input::Ended);
            }
            Step::Script(key) => {
                flight.step = Step::Script(key);
                core.scripts.finish_input(key);
                core.pump.push_back(key);
            }
            other => flight.step = other,
        }
    }

    fn collected(&mut self, id: RequestId, awaiting: Awaiting, body: BodyBuffer, core: &mut Core) {
        match awaiting {
            Awaiting::Script(script) => {
                let length = body.len();
                if let Some(request) = self.flight(id).and_then(|flight| flight.request.as_mut()) {
                    set_content_length(request, length);
                }
                self.queue_script(id, script, body, Input::Ended, core);
            }
            Awaiting::Application(application) => {
                if core.ready.len() >= core.config.limits.max_queue {
                    core.overloads.queue_full(core.ready.len(), core.now);
                    core.board.count(Counter::QueueFull);
                    return self.answer_error(id, 503, core);
                }
                let connection = self.key;
                let Some(flight) = self.flight(id) else { return };
                let Some(mut request) = flight.request.take() else { return };
                flight.step = Step::Application;
                request.body = body.finish();
                let length = request.body.len();
                if length > 0 {
                    set_content_length(&mut request, length);
                }
                let complete_at = flight.complete_at.unwrap_or(core.now);
                flight.told.queued = Some(complete_at);
                let multiprocess = core.board.population().most > 1;
                core.push_ready(Job {
                    connection,
                    id,
                    application,
                    request,
                    complete_at,
                    cpu: None,
                    multiprocess,
                });
            }
        }
    }

    /// Nobody waits for this answer any more.
    pub(super) fn abort(&mut self, id: RequestId, core: &mut Core) {
        let connection = self.key;
        let Some(flight) = self.flight(id) else { return };
        flight.gone = true;
        match std::mem::replace(&mut flight.step, Step::Answered) {
            // It has its whole answer, and web servers leave then. The script may still have something to do.
            Step::Script(key) if !flight.is_head && flight.outgoing.is_full() => core.release_script(key),
            Step::Script(key) => core.cancel_script(key, "the client is gone"),
            Step::ScriptQueued(..) => {
                core.board.count(Counter::LeftInQueue);
                core.scripts.forget_waiting(connection, id);
            }
            Step::Application => match core.take_ready(connection, id) {
                Some(request) => {
                    core.board.count(Counter::LeftInQueue);
                    flight.request = Some(request);
                }
                // The thread that has it sees `gone`.
                None => flight.step = Step::Application,
            },
            Step::Collecting(..) | Step::Answered => {}
        }
        self.forget_if_over(id, core);
    }

    /// The peer broke a rule or a limit.
    pub(super) fn reject(&mut self, id: RequestId, error: ProtocolError, core: &mut Core) {
        log::debug!("{}: answered {}: {error}", self.peer(), error.status());
        core.board.count(Counter::rejection(error.status()));
        match self.flight(id) {
            None => {
                let mut request = core.spare_request();
                request.id = core.unique_ids.make();
                // Over FastCGI the peer is the web server, and who asked it is not known.
                if self.protocol.kind() == ListenerProtocol::Http {
                    core.gateway.name_client(&self.endpoint, &mut request.meta);
                }
                self.flights.push(Flight::new(id, Step::Answered, request, false, core.now));
            }
            Some(flight) => {
                if let Step::Script(key) = flight.step {
                    core.cancel_script(key, "its request was rejected");
                }
            }
        }
        self.answer_error(id, error.status(), core);
    }

    /// RFC 3875 §6.2.2: the script names another path of this server, which answers in its place.
    pub(super) fn redirect(&mut self, id: RequestId, location: &[u8], core: &mut Core) {
        let Some(flight) = self.flight(id) else { return };
        flight.redirects += 1;
        core.board.end(&mut flight.place);
        let too_many = flight.redirects > MOST_REDIRECTS;
        flight.step = Step::Answered;
        let Some(request) = flight.request.as_mut() else { return };
        if too_many {
            log::error!(
                request:% = request.id_text();
                "{}: more than {MOST_REDIRECTS} local redirects, the last to {}",
                describe(request),
                location.escape_ascii()
            );
            return self.answer_error(id, 502, core);
        }
        request.body = Default::default();
        let asked = |name| request.meta.known(name).unwrap_or_default().to_vec();
        flight.told.asked.get_or_insert_with(|| {
            let (method, target) = (asked(KnownName::RequestMethod), asked(KnownName::RequestUri));
            Box::new(Asked { method, target })
        });
        match core.gateway.redirect(location, &mut request.meta) {
            Ok(route) => {
                self.take_route(id, route, BodyLength::None, core);
                self.body_end(id, core);
            }
            Err(refusal) => {
                log::warn!(
                    request:% = request.id_text();
                    "{}: local redirect to {}: {}",
                    describe(request),
                    location.escape_ascii(),
                    refusal.reason
                );
                self.answer_error(id, refusal.status, core);
            }
        }
    }

    fn set_step(&mut self, id: RequestId, step: Step) {
        if let Some(flight) = self.flight(id) {
            flight.step = step;
        }
    }
}

fn set_content_length(request: &mut crate::gateway::Request, length: u64) {
    request.meta.set(b"CONTENT_LENGTH", length.to_string().as_bytes());
}
