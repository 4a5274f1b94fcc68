//! From a handler to the protocol: head, body and end of a response, checked on the way.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::gateway::{BodyEnd, BodyGuard, error_page};
use crate::handler::static_files::StaticBody;
use crate::protocol::{RequestId, ResponseHead, ResponsePart};
use crate::scoreboard::Counter;

use crate::gateway::Request;
use crate::handler::HandlerError;

use super::access_log::Answer;
use super::connection::Connection;
use super::core::Core;
use super::flight::{Step, describe};
use super::hand_off::Drain;

/// What the access log says where no response was begun because its client had gone: nginx's number.
const CLIENT_GONE: u16 = 499;

/// Where requests take less, the clients have no time to fall asleep between two responses.
const WORTH_HOLDING: Duration = Duration::from_micros(100);

/// A longer response is written at once.
const MOST_HELD_BYTES: u64 = 64 * 1024;

/// A piece of a response's body.
pub(crate) enum Block<'a> {
    Copied(&'a [u8]),
    Shared(Bytes),
    File { file: Arc<File>, offset: u64, length: u64 },
}

impl Block<'_> {
    fn len(&self) -> u64 {
        match self {
            Block::Copied(bytes) => bytes.len() as u64,
            Block::Shared(bytes) => bytes.len() as u64,
            Block::File { length, .. } => *length,
        }
    }

    fn truncate(&mut self, to: u64) {
        match self {
            Block::Copied(bytes) => *bytes = &bytes[..to as usize],
            Block::Shared(bytes) => bytes.truncate(to as usize),
            Block::File { length, .. } => *length = to,
        }
    }
}

impl Connection {
    /// Sends the head. Nothing happens if one was sent.
    pub(super) fn send_head(&mut self, id: RequestId, head: &mut ResponseHead, core: &mut Core) {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) else { return };
        if flight.head_sent() {
            return;
        }
        head.close |= core.drain == Drain::Close;
        flight.outgoing.guard = Some(BodyGuard::new(flight.is_head, head));
        flight.outgoing.status = head.status;
        if let super::protocol::Protocol::Http(connection) = &mut self.protocol {
            connection.set_date(core.date());
        }
        self.protocol.send(id, ResponsePart::Head(head), core.now);
    }

    /// Sends a block, as much of it as the head allows. False: no further block is wanted.
    pub(super) fn send_block(&mut self, id: RequestId, mut block: Block<'_>, core: &mut Core) -> bool {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) else { return false };
        let Some(guard) = &mut flight.outgoing.guard else { return false };
        let length = block.len();
        let admitted = guard.admit(length);
        if admitted.exceeds {
            log::error!(
                request:% = flight.id_text();
                "{}: the body is longer than its Content-Length; the rest is dropped",
                flight.description()
            );
        }
        let allowed = admitted.bytes;
        if allowed < length {
            block.truncate(allowed);
        }
        flight.outgoing.body_bytes += allowed;
        if allowed > 0 {
            let part = match block {
                Block::Copied(bytes) => ResponsePart::Body(bytes),
                Block::Shared(bytes) => ResponsePart::SharedBody(bytes),
                Block::File { file, offset, length } => ResponsePart::FileBody { file, offset, length },
            };
            self.protocol.send(id, part, core.now);
        }
        allowed == length
    }

    /// The handler has said everything. A body shorter than announced breaks the connection.
    pub(super) fn send_end(&mut self, id: RequestId, core: &mut Core) {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) else { return };
        let part = match flight.outgoing.guard.as_ref().map(BodyGuard::end) {
            Some(BodyEnd::Complete) => ResponsePart::End,
            Some(BodyEnd::Short(missing)) => {
                log::error!(
                    request:% = flight.id_text();
                    "{}: the body ended {missing} bytes before its Content-Length; connection broken",
                    flight.description()
                );
                ResponsePart::Broken
            }
            None => ResponsePart::Broken,
        };
        self.protocol.send(id, part, core.now);
        self.answered(id, core);
    }

    /// Can't be completed: `status` if nothing has been sent, else the peer sees that it is broken.
    pub(super) fn answer_error(&mut self, id: RequestId, status: u16, core: &mut Core) {
        let Some(flight) = self.flight(id) else { return };
        if let Some(guard) = &flight.outgoing.guard {
            // What the head announced has gone out: the peer lacks nothing, whatever happened after that.
            let part = if guard.is_full() { ResponsePart::End } else { ResponsePart::Broken };
            self.protocol.send(id, part, core.now);
            return self.answered(id, core);
        }
        let mut head = core.take_head();
        let body = error_page(status, &mut head);
        if status == 503 {
            // "Soon": an overload passes in seconds or not at all.
            let _ = head.push(b"Retry-After", b"1");
        }
        self.send_head(id, &mut head, core);
        self.send_block(id, Block::Copied(&body), core);
        core.give_head(head);
        self.protocol.send(id, ResponsePart::End, core.now);
        self.answered(id, core);
    }

    pub(super) fn answer_static(
        &mut self,
        id: RequestId,
        mut head: ResponseHead,
        body: StaticBody,
        core: &mut Core,
    ) {
        self.send_head(id, &mut head, core);
        core.give_head(head);
        match body {
            StaticBody::None => {}
            StaticBody::Bytes(bytes) => {
                self.send_block(id, Block::Shared(bytes), core);
            }
            StaticBody::File { file, offset, length } => {
                self.send_block(id, Block::File { file, offset, length }, core);
            }
        }
        self.send_end(id, core);
    }

    /// The response is with the protocol. The request is forgotten, unless an application still holds it.
    fn answered(&mut self, id: RequestId, core: &mut Core) {
        if let Some(flight) = self.flight(id) {
            if let Step::Script(key) = flight.step {
                (flight.told.exit, flight.told.cpu) = core.scripts.outcome(key);
            }
            if flight.running_since.is_none() && flight.request.is_some() {
                flight.step = Step::Answered;
            }
            flight.gone = true;
        }
        self.forget_if_over(id, core);
    }

    pub(super) fn forget_if_over(&mut self, id: RequestId, core: &mut Core) {
        if let Some(index) = self.flights.iter().position(|flight| flight.id == id && flight.is_over()) {
            let is_kept = self.is_kept();
            let Some(flight) = self.flights.get_mut(index) else { return };
            core.board.end(&mut flight.place);
            core.board.count(Counter::request(self.protocol.kind(), flight.by));
            core.board.count(Counter::response(flight.outgoing.status));
            if let Some(request) = &flight.request
                && core.access_log.is_on()
                && !request.meta.is_empty()
            {
                let status = if flight.outgoing.status == 0 { CLIENT_GONE } else { flight.outgoing.status };
                let meta = &request.meta;
                core.access_log.record(&Answer { flight, meta, id: request.id, status, is_kept });
            }
            self.spare_what = std::mem::take(&mut flight.what);
            if let Some(head) = flight.head.take() {
                self.protocol.recycle(head);
            }
            core.wear.count();
            if let Some(request) = flight.request.take() {
                core.recycle_request(request);
            }
            // Mostly the only one: it is dropped where it lies.
            match index + 1 == self.flights.len() {
                true => self.flights.truncate(index),
                false => drop(self.flights.swap_remove(index)),
            }
        }
    }

    /// The application has returned from a request. One that it neither finished nor failed has failed.
    pub(super) fn returned(
        &mut self,
        id: RequestId,
        request: Box<Request>,
        cpu: Option<Duration>,
        core: &mut Core,
    ) {
        let Some(flight) = self.flight(id) else { return };
        flight.told.cpu = cpu;
        flight.request = Some(request);
        if let Some(since) = flight.running_since.take() {
            core.last_ran = core.now.saturating_duration_since(since);
            core.board.ran(core.last_ran);
        }
        core.board.end(&mut flight.place);
        flight.step = Step::Answered;
        if !flight.gone {
            self.answer_error(id, 500, core);
        }
        self.forget_if_over(id, core);
    }

    /// A complete response may wait for those that come right behind it, up to the next look for events: waking a client
    /// that sleeps costs more than writing to one that is awake. False: it is to be written now.
    pub(super) fn hold_back(&mut self, core: &mut Core) -> bool {
        let holds = !core.ready.is_empty()
            && core.now < core.look_at
            && core.last_ran >= WORTH_HOLDING
            && core.drain == Drain::No
            && self.backlog() <= MOST_HELD_BYTES;
        if holds {
            core.held_back.push(self.key);
        }
        holds
    }

    /// The whole body has been given, as far as the head announces it.
    pub(super) fn is_complete(&mut self, id: RequestId) -> bool {
        self.flight(id).is_some_and(|flight| flight.outgoing.is_full())
    }

    /// Nobody waits for what the application may still say.
    pub(super) fn is_gone(&mut self, id: RequestId) -> bool {
        self.flight(id).is_none_or(|flight| flight.gone)
    }

    /// A script failed: the log gets all that is known.
    pub(super) fn log_failure(&mut self, id: RequestId, error: &HandlerError) {
        match self.flight(id).and_then(|flight| flight.request.as_deref()) {
            Some(request) => log::error!(request:% = request.id_text(); "{}: {error}", describe(request)),
            None => log::error!("{error}"),
        }
    }

    /// Output that the peer has still to read.
    pub(super) fn backlog(&mut self) -> u64 {
        self.protocol.output().len()
    }

    /// The peer has read: scripts that had to wait for it go on.
    pub(super) fn resume_scripts(&mut self, core: &mut Core) {
        let room = self.backlog() < core.config.limits.max_output_bytes;
        for flight in &self.flights {
            if let Step::Script(key) = flight.step {
                core.scripts.set_output_paused(key, !room);
                if room {
                    core.pump.push_back(key);
                }
            }
        }
    }
}
