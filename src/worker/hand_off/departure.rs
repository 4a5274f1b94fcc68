//! The sending side: which connections leave, and how.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Instant;

use super::message::{self, Outgoing};
use super::{Drain, FIRST_LOOK, HandOff, Look, MOST_HOPS, RETRY};
use crate::gateway::Body;
use crate::scoreboard::Counter;
use crate::worker::connection::Connection;
use crate::worker::core::Core;
use crate::worker::flight::Job;
use crate::worker::state::State;

/// What came of an attempt to hand a connection over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Departure {
    /// Another process has it now; this one has closed its descriptor.
    Gone,
    /// The queue is full.
    QueueFull,
    /// It can't be handed over as it is now.
    Stays,
}

impl State {
    /// Complete requests that would wait for this worker's application go to workers that may be free.
    pub fn hand_over_ready(&mut self) {
        self.hand_over_first(usize::MAX);
    }

    /// Between two small requests of many: one goes to a worker that may be free, with its connection, so connections
    /// come to lie where there is time for them. Where no worker has any, one lies in the queue already.
    pub fn share_ready(&mut self) {
        if self.core.drain == Drain::HandOver {
            self.hand_over_ready();
        } else if self.core.board.population().serving > 1
            && self.core.ready.len() > 1
            && self.core.hand_off.queue.is_empty()
        {
            self.hand_over_first(1);
        }
    }

    /// At most so many of them, those that have waited longest.
    fn hand_over_first(&mut self, most: usize) {
        let mut is_full = self.core.hand_off.is_broken;
        let mut gone = 0;
        for _ in 0..self.core.ready.len() {
            let Some(job) = self.core.ready.pop_front() else { break };
            let may_go = !is_full && gone < most;
            let departure = match self.connections.get_mut(job.connection).filter(|_| may_go) {
                Some(connection) => connection.hand_over(Some(&job), &mut self.core),
                None => Departure::Stays,
            };
            is_full |= departure == Departure::QueueFull;
            if departure == Departure::Gone {
                gone += 1;
                self.connections.remove(job.connection);
                self.core.recycle_request(job.request);
            } else {
                // Once around: the order stays.
                self.core.ready.push_back(job);
            }
        }
    }
}

impl Connection {
    /// A worker that ends: hands the connection over if no request is under way on it. True: it is gone, or will be as
    /// soon as there is room; nothing more is to be read from it here.
    pub fn leaves(&mut self, core: &mut Core) -> bool {
        match self.flights.iter().filter(|flight| !flight.gone).count() {
            _ if core.drain != Drain::HandOver => return false,
            0 if core.hand_off.is_broken => {
                self.protocol.drain();
                return false;
            }
            0 => {}
            1 => return false,
            _ => {
                // They overlap: there might always be one. It ends after these.
                self.protocol.drain();
                return false;
            }
        }
        match self.hand_over(None, core) {
            Departure::Gone => true,
            Departure::QueueFull => {
                core.hand_off.retry_at.get_or_insert(core.now + RETRY);
                true
            }
            Departure::Stays => false,
        }
    }

    /// Hands the connection over, with `job`, the only request under way on it, or with none. When it is gone the caller
    /// forgets the entry.
    pub fn hand_over(&mut self, job: Option<&Job>, core: &mut Core) -> Departure {
        if core.hand_off.is_broken || !self.is_movable() {
            return Departure::Stays;
        }
        let (request, hops, since, body) = match (job, self.flights.as_slice()) {
            (None, _) => (None, 0, None, &Body::Empty),
            (Some(job), [flight]) if flight.id == job.id && flight.hops < MOST_HOPS => {
                let Some(head) = &flight.head else { return Departure::Stays };
                (Some((job.id, head)), flight.hops + 1, Some(job.complete_at), &job.request.body)
            }
            _ => return Departure::Stays,
        };
        let outgoing = &mut core.hand_off.outgoing;
        outgoing.begin(self.protocol.kind(), hops, since);
        let is_told = self.protocol.suspend(request, &mut outgoing.bytes)
            && outgoing.finish(body, self.protocol.unread());
        let Some(socket) = self.socket().filter(|_| is_told) else { return Departure::Stays };
        match core.hand_off.send(socket, core.now) {
            Departure::Gone => {
                core.board.count(Counter::HandedOut);
                self.forget_socket(core);
                Departure::Gone
            }
            departure => departure,
        }
    }
}

impl HandOff {
    /// Sends the message that has been put together.
    fn send(&mut self, socket: &impl AsFd, now: Instant) -> Departure {
        let Outgoing { bytes, body_file } = &self.outgoing;
        let sent = self.queue.send(bytes, &message::descriptors(socket, body_file));
        self.outgoing.body_file = None;
        match sent {
            Ok(()) => {
                self.look.get_or_insert(Look { at: now + FIRST_LOOK, after: FIRST_LOOK });
                Departure::Gone
            }
            Err(error) => self.not_sent(&error),
        }
    }

    fn not_sent(&mut self, error: &io::Error) -> Departure {
        match (error.kind(), error.raw_os_error()) {
            // Room for the message, or for one more descriptor on its way (unix(7)).
            (ErrorKind::WouldBlock, _) | (_, Some(libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM)) => {
                Departure::QueueFull
            }
            (_, Some(libc::EMSGSIZE)) => Departure::Stays,
            _ => {
                self.break_down(&error.to_string());
                Departure::Stays
            }
        }
    }
}
