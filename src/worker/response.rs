//! What an application says back: checked, framed and written while it runs.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Shared;
use super::answer::Block;
use super::connection::Fate;
use super::flight::Job;
use super::keyed::Key;
use super::state::State;
use crate::protocol::{RequestId, ResponseHead};

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Taken, but the peer reads slowly: call [`Response::wait`] before the next write.
    Full,
    /// The client is gone, the answer has been sent for the application (time-out), or its Content-Length is
    /// reached: stop, and close the iterable.
    Stop,
}

/// One response of an application.
///
/// The head is filled first (`head().start(…)`, `head().push(…)`) and goes out with the first block of the body, or
/// with `finish`. Content-Length, HEAD, 204 and 304 are seen to here: blocks past the announced length are dropped and
/// logged, a body that ends short breaks the connection.
pub struct Response<'a> {
    shared: &'a Shared,
    connection: Key,
    id: RequestId,
    head: ResponseHead,
    head_sent: bool,
}

impl<'a> Response<'a> {
    pub(super) fn new(shared: &'a Shared, job: &Job, mut head: ResponseHead) -> Self {
        head.clear();
        Response { shared, connection: job.connection, id: job.id, head, head_sent: false }
    }

    pub(super) fn into_head(self) -> ResponseHead {
        self.head
    }

    /// The head, until it is sent; its buffers are reused from request to request.
    pub fn head(&mut self) -> &mut ResponseHead {
        &mut self.head
    }

    /// The head has gone out: it can't be changed any more.
    pub fn is_head_sent(&self) -> bool {
        self.head_sent
    }

    /// Sends a block of the body, and the head before the first one. Copied. An empty block sends only the head.
    pub fn write(&mut self, block: &[u8]) -> Flow {
        self.send(Some(Block::Copied(block)), false)
    }

    /// The same for a block that can be kept until it is written.
    pub fn write_shared(&mut self, block: Bytes) -> Flow {
        self.send(Some(Block::Shared(block)), false)
    }

    /// Sends `length` bytes of a regular file from `offset`, without a copy where the protocol allows it.
    pub fn write_file(&mut self, file: Arc<File>, offset: u64, length: u64) -> Flow {
        self.send(Some(Block::File { file, offset, length }), false)
    }

    /// Blocks until the peer has read enough, or is gone. Call it detached from the interpreter. `Flow::Full`: a signal has
    /// come; let the interpreter handle it, then go on waiting.
    pub fn wait(&self) -> Flow {
        let enough = self.shared.config.limits.max_output_bytes / 2;
        // Whoever drives may have computed its wait before this connection had a reader to be waited for.
        let _ = self.shared.waker.wake();
        let mut state = self.shared.lock();
        self.set_waits(&mut state, true);
        let flow = loop {
            let Some(connection) = state.connections.get_mut(self.connection) else { break Flow::Stop };
            if connection.is_gone(self.id) {
                break Flow::Stop;
            }
            if connection.backlog() <= enough {
                break Flow::Continue;
            }
            if state.signals.take() {
                break Flow::Full;
            }
            // The relief thread, or another application thread, drives meanwhile and tells of each turn.
            state.waiting_for_room += 1;
            state = self.shared.room.wait(state).unwrap_or_else(|_| std::process::abort());
            state.waiting_for_room -= 1;
        };
        self.set_waits(&mut state, false);
        drop(state);
        // --timeout goes on: whoever drives has to know.
        let _ = self.shared.waker.wake();
        flow
    }

    /// The time in which the application waits for a slow reader does not count in `--timeout`.
    fn set_waits(&self, state: &mut State, waits: bool) {
        let (id, now) = (self.id, Instant::now());
        state.with_connection(self.connection, |connection, core| {
            if let Some(flight) = connection.flight(id) {
                flight.set_waits(waits, now);
            }
            connection.arm(core);
            Fate::Keep
        });
    }

    /// Head, the whole body and the end at once, in one write. Sets Content-Length if the application did not.
    pub fn finish_with(&mut self, body: &[u8]) {
        self.announce(body.len());
        self.send(Some(Block::Copied(body)), true);
    }

    /// The same for a body that can be kept until it is written.
    pub fn finish_with_shared(&mut self, body: Bytes) {
        self.announce(body.len());
        self.send(Some(Block::Shared(body)), true);
    }

    /// The body is complete.
    pub fn finish(&mut self) {
        if !self.head_sent {
            self.announce(0);
        }
        self.send(None, true);
    }

    /// The application is at fault: 500 if nothing has been sent, else a broken connection. The caller has logged why.
    pub fn fail(&mut self) {
        let id = self.id;
        self.head_sent = true;
        self.shared.lock().with_connection(self.connection, |connection, core| {
            if !connection.is_gone(id) {
                connection.answer_error(id, 500, core);
            }
            connection.settle(core)
        });
    }

    /// The client has closed its connection, aborted, or was answered by a time-out. An HTTP client that has only closed
    /// its sending side counts as gone two seconds later.
    pub fn is_client_gone(&self) -> bool {
        let mut state = self.shared.lock();
        let connection = state.connections.get_mut(self.connection);
        connection.is_none_or(|connection| connection.client_has_left(self.id, Instant::now()))
    }

    /// The process must not take another request after this one: `reason` is for the log.
    pub fn retire_worker(&self, reason: &str) {
        self.shared.retire(reason);
    }

    /// 204 and 304 have no length of their own to announce.
    fn announce(&mut self, length: usize) {
        if self.head.content_length.is_none() && !self.head_sent && !matches!(self.head.status, 204 | 304) {
            self.head.content_length = Some(length as u64);
        }
    }

    fn send(&mut self, block: Option<Block<'_>>, end: bool) -> Flow {
        let (id, head, most) = (self.id, &mut self.head, self.shared.config.limits.max_output_bytes);
        let first = !std::mem::replace(&mut self.head_sent, true);
        let shared = self.shared;
        let mut flow = Flow::Stop;
        shared.lock().with_connection(self.connection, |connection, core| {
            let may_wait = first && shared.holds_back();
            if !connection.is_gone(id) {
                if first {
                    connection.send_head(id, head, core);
                }
                let open = block.is_none_or(|block| connection.send_block(id, block, core));
                if end {
                    connection.send_end(id, core);
                }
                flow = if open { Flow::Continue } else { Flow::Stop };
            }
            if end {
                // The application returns next, and the connection is settled then.
                if !(core.is_held_back(connection.key) || may_wait && connection.hold_back(core)) {
                    connection.write(core);
                }
                return Fate::Keep;
            }
            if may_wait && connection.is_complete(id) && connection.hold_back(core) {
                return Fate::Keep;
            }
            let fate = connection.settle(core);
            if flow == Flow::Continue && connection.backlog() >= most {
                flow = Flow::Full;
            }
            fate
        });
        flow
    }
}
